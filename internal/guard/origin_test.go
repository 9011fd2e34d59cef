package guard

import (
	"errors"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	good := map[string]string{
		"https://shop.example":            "https://shop.example",
		"HTTPS://Shop.Example":            "https://shop.example",
		"https://shop.example:443":        "https://shop.example",
		"http://shop.example:80":          "http://shop.example",
		"https://shop.example.":           "https://shop.example",
		"http://shop.example:443":         "http://shop.example:443",
		"https://shop.example:8443":       "https://shop.example:8443",
		"https://[2001:DB8::1]":           "https://[2001:db8::1]",
		"https://[2001:db8:0:0::1]:8443":  "https://[2001:db8::1]:8443",
		"http://127.0.0.1:5000":           "http://127.0.0.1:5000",
		"https://xn--bcher-kva.example":   "https://xn--bcher-kva.example",
		"https://build_server.intra:8080": "https://build_server.intra:8080",
	}
	for in, want := range good {
		o, err := ParseOrigin(in)
		if err != nil || o.String() != want {
			t.Errorf("ParseOrigin(%q) = %v, %v; want %s", in, o, err, want)
		}
	}
	bad := []string{
		"", "null ", "NULL", "shop.example", "//shop.example", "https:shop.example", "https://",
		"https://evil@shop.example", "https://shop.example@evil.example", "https://shop.example/",
		"https://shop.example/path", "https://shop.example?x", "https://shop.example#x",
		"https://shop.example https://evil.example", "https://shop.example,https://evil.example",
		" https://shop.example", "https://shop.example ", "https://shop.example\t", "https://shop.example\x00",
		"https://shop.example:", "https://shop.example:0", "https://shop.example:+443", "https://shop.example:99999",
		"https://shop.example:443:443", "https://shop..example", "https://.shop.example", "https://shop.example..",
		"https://[::1", "https://::1", "https://[::1%25eth0]", "https://[::1]x", "https://[127.0.0.1]",
		"https://shop%2eexample", "https://bücher.example", "https://sh\u2024op", "file:///etc/passwd",
		"chrome-extension://abcdef", "wss://shop.example", "https://" + strings.Repeat("a", 64) + ".example",
		"https://" + strings.Repeat("a.", 200) + "example", "https://shop.example\\@evil.example",
	}
	for _, in := range bad {
		if o, err := ParseOrigin(in); err == nil {
			t.Errorf("ParseOrigin(%q) = %v, want an error", in, o)
		}
	}
	if _, err := ParseOrigin("null"); !errors.Is(err, ErrOpaqueOrigin) {
		t.Errorf(`ParseOrigin("null"): %v, want ErrOpaqueOrigin`, err)
	}
}

func TestClientOrigin(t *testing.T) {
	for _, tt := range []struct {
		c    Client
		want string
	}{
		{Client{Scheme: "https", Host: "shop.example"}, "https://shop.example"},
		{Client{Scheme: "https", Host: "shop.example:443"}, "https://shop.example"},
		{Client{Scheme: "http", Host: "[::1]:8080"}, "http://[::1]:8080"},
	} {
		if o, ok := tt.c.Origin(); !ok || o.String() != tt.want {
			t.Errorf("%+v: %v, %v; want %s", tt.c, o, ok, tt.want)
		}
	}
	for _, c := range []Client{{}, {Scheme: "https"}, {Scheme: "ftp", Host: "a"}, {Scheme: "https", Host: "a b"}} {
		if o, ok := c.Origin(); ok {
			t.Errorf("%+v has origin %v", c, o)
		}
	}
}

// Whatever parses must print to something that parses to the same, and must
// hold nothing that a header or a log could trip over.
func FuzzParseOrigin(f *testing.F) {
	for _, s := range []string{"https://shop.example:8443", "null", "https://[::1]:1", "https://a@b", "http://A.b."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOrigin(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(o.Host, "@/\\%?# \t\r\n,\x00[]") {
			t.Fatalf("%q: host %q", s, o.Host)
		}
		again, err := ParseOrigin(o.String())
		if err != nil || again != o {
			t.Fatalf("%q → %v → %v, %v", s, o, again, err)
		}
	})
}
