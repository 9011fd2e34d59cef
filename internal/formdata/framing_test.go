package formdata

import (
	"bytes"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
)

// What browsers and HTTP libraries send is read to its end, however it is cut
// into pieces on the way.
func TestNewReader(t *testing.T) {
	const part = "Content-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
	for _, c := range []struct{ name, content string }{
		{"empty", ""},
		{"lines of every kind", "a\nb\rc\r\nd\n\r\n\r"},
		{"nearly the boundary", "\r\n--X\r\n--\r\n-\r\n--Y"},
		{"large", strings.Repeat("0123456789abcde\n", 10_000)},
	} {
		for _, start := range []string{"", "\r\n"} {
			for _, end := range []string{"", "\r\n", "\r\nbehind\n--XX\n"} {
				body := start + "--XX\r\n" + part + c.content + "\r\n--XX\r\n" + part + "\r\n--XX--" + end
				for _, r := range []io.Reader{strings.NewReader(body), iotest.DataErrReader(strings.NewReader(body)), iotest.OneByteReader(strings.NewReader(body))} {
					mr := NewReader(r, "XX")
					for _, want := range []string{c.content, ""} {
						p, err := mr.NextRawPart()
						if err != nil {
							t.Fatalf("%s: %v", c.name, err)
						}
						if got, err := io.ReadAll(p); err != nil || string(got) != want {
							t.Fatalf("%s: %q, %v", c.name, got, err)
						}
					}
					if _, err := mr.NextRawPart(); err != io.EOF {
						t.Fatalf("%s: %v", c.name, err)
					}
				}
			}
		}
	}
	mr := NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("--XX\r\n"))), "XX")
	if _, err := mr.NextRawPart(); err == nil || err == io.EOF {
		t.Errorf("an error of the body is lost: %v", err)
	}
}

func TestBoundary(t *testing.T) {
	for s, want := range map[string]string{
		"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW":            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
		"multipart/form-data; boundary=---------------------------735323031399963166993": "---------------------------735323031399963166993",
		"multipart/form-data;boundary=\"a=b:c\";":                                        "a=b:c",
		"multipart/form-data; charset=utf-8; Boundary=XX":                                "XX",
		"multipart/form-data":                                      "",
		"multipart/form-data; boundary=":                           "",
		"multipart/form-data; boundary=\"a b\"":                    "",
		"multipart/form-data; boundary=a:b":                        "",
		"multipart/form-data; boundary =XX":                        "",
		"multipart/form-data; boundary=X; boundary=Y":              "",
		"multipart/form-data; boundary*=utf-8''X":                  "",
		"multipart/form-data; boundary=X; boundary*0=Y":            "",
		"multipart/form-data; x=\"; boundary=X; y=\"":              "",
		"multipart/form-data; boundary=\"\\X\"":                    "",
		"multipart/form-data; boundary=" + strings.Repeat("x", 71): "",
	} {
		if got, ok := Boundary(s); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", s, got, ok)
		}
	}
}

// werkzeugBoundary is werkzeug.sansio.multipart's boundary_re for XX.
var (
	werkzeugPreamble = regexp.MustCompile(`(?:\r\n|\n|\r)?--XX(--[\t\f\v \x1c-\x1f\x85\xa0]*(?:\r\n|\n|\r)?|[\t\f\v \x1c-\x1f\x85\xa0]*(?:\r\n|\n|\r))`)
	werkzeugBoundary = regexp.MustCompile(`(?:\r\n|\n|\r)--XX(--[\t\f\v \x1c-\x1f\x85\xa0]*(?:\r\n|\n|\r)?|[\t\f\v \x1c-\x1f\x85\xa0]*(?:\r\n|\n|\r))`)
	werkzeugHeader   = regexp.MustCompile(`(?i)(?:^|[\r\n])[ \t]*content-disposition[ \t]*:`)
	werkzeugBlank    = regexp.MustCompile(`\r\n\r\n|\r\r|\n\n`)
)

// werkzeugParts cuts a body as Werkzeug 3.1 does; ok is false when it fails.
func werkzeugParts(b []byte) (out []string, ok bool) {
	at := werkzeugPreamble.FindSubmatchIndex(b)
	for at != nil {
		if bytes.HasPrefix(b[at[2]:], []byte("--")) {
			return out, true
		}
		b = b[at[1]:]
		blank := werkzeugBlank.FindIndex(b)
		if blank == nil {
			return nil, false
		}
		if !werkzeugHeader.Match(b[:blank[0]]) {
			return nil, false
		}
		b = b[(blank[0]+blank[1])/2:]
		if at = werkzeugBoundary.FindSubmatchIndex(b); at == nil {
			return nil, false
		}
		start := 1
		if bytes.HasPrefix(b, []byte("\r\n")) {
			start = 2
		}
		out = append(out, string(b[min(start, at[0]):at[0]]))
		if at[0] == 0 {
			out[len(out)-1] = ""
		}
	}
	return nil, false
}

// What passes, Go and Werkzeug cut into the same parts.
func FuzzNewReader(f *testing.F) {
	f.Add([]byte("--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX\r\nContent-Disposition: form-data; name=b\r\n\r\n\r\n--XX--\r\n"))
	f.Add([]byte("\r\n--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--"))
	for _, d := range []string{"\n--XX\r\n", "\r--XX\r\n", "\r\n--XX\n", "\r\n--XX\x0b\r\n", "\r\n--XX--\n"} {
		f.Add([]byte(hidden(d)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got []string
		mr := NewReader(bytes.NewReader(body), "XX")
		for {
			p, err := mr.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if _, why := PartDisposition(p.Header); why != "" {
				return
			}
			content, err := io.ReadAll(p)
			if err != nil {
				return
			}
			got = append(got, string(content))
		}
		want, ok := werkzeugParts(body)
		if !ok {
			return // nothing reaches the app
		}
		if strings.Join(got, "\x00|") != strings.Join(want, "\x00|") {
			t.Fatalf("Go reads %q, Werkzeug %q", got, want)
		}
	})
}

func BenchmarkNewReader(b *testing.B) {
	body := []byte("--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n" + string(random(10<<20)) + "\r\n--XX--\r\n")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		mr := NewReader(bytes.NewReader(body), "XX")
		p, err := mr.NextRawPart()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, p); err != nil {
			b.Fatal(err)
		}
	}
}

// hidden is a file with a script behind delimiter in its contents.
func hidden(delimiter string) string {
	return "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\r\nx" + delimiter +
		"Content-Disposition: form-data; name=\"q\"\r\n\r\n<script>alert(1)</script>\r\n--XX--\r\n"
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
