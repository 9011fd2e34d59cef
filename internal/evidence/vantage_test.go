package evidence

import (
	"strings"
	"testing"
	"time"
)

func TestProbeSignature(t *testing.T) {
	key, now := []byte("0123456789abcdef"), time.Unix(1_800_000_000, 0)
	h, want := SignProbe(key, now, "Shop.example:8443", "/a%2fb")
	got, ok := VerifyProbe(key, now.Add(time.Minute), h, "shop.example:8443", "/a%2fb")
	if !ok || got != want || got == "" {
		t.Fatalf("VerifyProbe = %q, %v; want %q", got, ok, want)
	}
	h2, want2 := SignProbe(key, now, "shop.example:8443", "/a%2fb")
	if h2 == h || want2 == want {
		t.Error("two signatures are equal: the nonce is not fresh")
	}
	for name, try := range map[string]func() (string, bool){
		"other key": func() (string, bool) {
			return VerifyProbe([]byte("fedcba9876543210"), now, h, "shop.example:8443", "/a%2fb")
		},
		"no key":     func() (string, bool) { return VerifyProbe(nil, now, h, "shop.example:8443", "/a%2fb") },
		"other host": func() (string, bool) { return VerifyProbe(key, now, h, "shop.example", "/a%2fb") },
		"other path": func() (string, bool) { return VerifyProbe(key, now, h, "shop.example:8443", "/a/b") },
		"too old": func() (string, bool) {
			return VerifyProbe(key, now.Add(3*time.Minute), h, "shop.example:8443", "/a%2fb")
		},
		"too new": func() (string, bool) {
			return VerifyProbe(key, now.Add(-3*time.Minute), h, "shop.example:8443", "/a%2fb")
		},
		"other version": func() (string, bool) {
			return VerifyProbe(key, now, "v2"+h[2:], "shop.example:8443", "/a%2fb")
		},
		"its own answer": func() (string, bool) { return VerifyProbe(key, now, want, "shop.example:8443", "/a%2fb") },
		"no time":        func() (string, bool) { return VerifyProbe(key, now, "v1.x.y.z", "shop.example:8443", "/a%2fb") },
		"long": func() (string, bool) {
			return VerifyProbe(key, now, h+strings.Repeat("A", 999), "shop.example:8443", "/")
		},
	} {
		if a, ok := try(); ok || a != "" {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzVerifyProbe(f *testing.F) {
	key, now := []byte("0123456789abcdef"), time.Unix(1_800_000_000, 0)
	good, _ := SignProbe(key, now, "h", "/")
	f.Add(good)
	f.Add("v1.1800000000.AAAAAAAAAAAAAAAAAAAAAA.x")
	f.Add("v1.-9223372036854775808...")
	f.Fuzz(func(t *testing.T, s string) {
		if _, ok := VerifyProbe(key, now, s, "h", "/"); ok && !strings.HasPrefix(s, "v1.") {
			t.Errorf("accepted %q", s)
		}
	})
}
