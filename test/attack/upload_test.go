package attack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/clamd/clamdtest"
)

// inspectors are the layers that look at files.
var inspectors = []string{"files", "body", "waf"}

// part is one file of a multipart body, its head as it is sent.
type part struct{ head, content string }

func multipart(boundary string, parts ...part) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n" + p.head + "\r\n\r\n" + p.content + "\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.String()
}

// picture sends a multipart body to the form for pictures, as a visitor who
// has logged in.
func picture(t *testing.T, x *target, body string) (*browser, answer) {
	t.Helper()
	b := x.browser()
	b.login(user, "password")
	return b, b.do("POST", "/account/picture", body, "Content-Type", "multipart/form-data; boundary=b")
}

func file(name, kind string) string {
	return `Content-Disposition: form-data; name="picture"; filename="` + name + "\"\r\nContent-Type: " + kind
}

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"

func TestUploads(t *testing.T) {
	// served reports whether the site serves a page with a script of the
	// attacker's under a name.
	served := func(b *browser, name string) bool {
		a := b.get("/static/uploads/" + name)
		kind := a.Header.Get("Content-Type")
		return a.StatusCode == 200 && strings.Contains(a.text, "alert(1)") && (strings.Contains(kind, "html") || strings.Contains(kind, "svg") || strings.Contains(kind, "xml"))
	}
	page := func(way, name, kind, content string) attack {
		return attack{"CWE-434 a page uploaded as a picture", way, inspectors, func(t *testing.T, x *target) bool {
			b, _ := picture(t, x, multipart("b", part{file(name, kind), content}))
			return served(b, name)
		}}
	}
	archive := func(compress bool, entries ...tar.Header) string {
		var out bytes.Buffer
		var w interface {
			Write([]byte) (int, error)
			Close() error
		} = nopCloser{&out}
		if compress {
			w = gzip.NewWriter(&out)
		}
		tw := tar.NewWriter(w)
		for _, h := range entries {
			if h.Mode == 0 {
				h.Mode = 0o644
			}
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			zero := make([]byte, 1<<20)
			for n := h.Size; n > 0; n -= min(n, int64(len(zero))) {
				tw.Write(zero[:min(n, int64(len(zero)))])
			}
		}
		tw.Close()
		w.Close()
		return out.String()
	}
	theme := func(x *target, content string) answer {
		return x.browser().do("POST", "/desk/theme/upload", multipart("b", part{`Content-Disposition: form-data; name="theme"; filename="theme.tar"` + "\r\nContent-Type: application/x-tar", content}), "Content-Type", "multipart/form-data; boundary=b")
	}
	suite(t, quiet, []string{"SECRET_KEY=dev"}, []attack{
		page("double extension", "cat.png.html", "image/png", "<script>alert(1)</script>"),
		page("SVG with a script", "cat.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`),
		page("SVG with a handler", "dog.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`),
		page("polyglot", "poly.png.html", "image/png", png+"<script>alert(1)</script>"),
		page("GIF in front", "gif.png.html", "image/png", "GIF89a=1;/*<script>alert(1)</script>*/"),
		page("upper case", "UP.png.HTML", "image/png", "<SCRIPT>alert(1)</SCRIPT>"),
		page("behind a long comment", "far.svg", "application/octet-stream", strings.Repeat("<!-- far -->", 8000)+`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`),
		page("another root than svg", "root.svg", "image/svg+xml", `<g xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></g>`),
		page("elements of XHTML in XML", "feed.pngs.xml", "text/xml", `<?xml version="1.0"?><a xmlns:h="http://www.w3.org/1999/xhtml"><h:script>alert(1)</h:script></a>`),
		page("a picture that is served as a page", "shot.pngs.html", "image/png", png+"<img src=x onerror=alert(1)>"),
		page("a comment in a picture that is served as a page", "photo.pngs.htm", "image/jpeg", "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xfe\x00\x30<img src=x onerror=alert(1)>"+strings.Repeat("a", 30)),
		page("words first", "words.png.html", "text/plain", strings.Repeat("just words ", 7000)+"<script>alert(1)</script>"),
		page("UTF-16", "wide.png.html", "text/html; charset=utf-16", "<script>alert(1)</script>"),
		{"CWE-22 the client chooses the path", "dots", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "dots.png")
			picture(t, x, multipart("b", part{file("../../../../../../../../../.."+mark, "image/png"), png}))
			return exists(mark)
		}},
		{"CWE-22 the client chooses the path", "absolute", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "absolute.png")
			picture(t, x, multipart("b", part{file(mark, "image/png"), png}))
			return exists(mark)
		}},
		{"CWE-22 the client chooses the path", "the extended parameter", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "extended.png")
			picture(t, x, multipart("b", part{`Content-Disposition: form-data; name="picture"; filename*=UTF-8''` + strings.ReplaceAll(mark, "/", "%2F") + "\r\nContent-Type: image/png", png}))
			return exists(mark)
		}},
		{"CWE-22 the client chooses the path", "two names", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "two.png")
			picture(t, x, multipart("b", part{`Content-Disposition: form-data; name="picture"; filename="cat.png"; filename*=UTF-8''` + strings.ReplaceAll(mark, "/", "%2F") + "\r\nContent-Type: image/png", png}))
			return exists(mark)
		}},
		{"CWE-444 a file that only the app sees", "line feed alone ends a boundary", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "hidden.png")
			body := "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\n--b\n" + strings.ReplaceAll(file(mark, "image/png"), "\r\n", "\n") + "\n\n" + png + "\n--b--\n"
			picture(t, x, body)
			return exists(mark)
		}},
		{"CWE-22 archive that leaves its folder", "dots", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "slip")
			theme(x, archive(false, tar.Header{Name: "../../../../../../../../../.." + mark, Size: 3}))
			return exists(mark)
		}},
		{"CWE-22 archive that leaves its folder", "absolute", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "slip-absolute")
			theme(x, archive(false, tar.Header{Name: mark, Size: 3}))
			return exists(mark) || exists(filepath.Join(x.dir, "leaky", "static", mark))
		}},
		{"CWE-59 archive that leaves its folder", "link, then a file behind it", inspectors, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "linked")
			theme(x, archive(true, tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: x.work}, tar.Header{Name: "out/linked", Size: 3}))
			return exists(mark)
		}},
		{"CWE-409 archive that grows", "300 MB of nothing", inspectors, func(t *testing.T, x *target) bool {
			theme(x, archive(true, tar.Header{Name: "big", Size: 300 << 20}))
			name := filepath.Join(x.dir, "leaky", "static", "big")
			info, err := os.Stat(name)
			_ = os.Remove(name)
			return err == nil && info.Size() > 200<<20
		}},
		{"CWE-770 a body of any size", "30 MB", inspectors, func(t *testing.T, x *target) bool {
			_, a := picture(t, x, multipart("b", part{file("big.png", "image/png"), png + strings.Repeat("x", 30<<20)}))
			return a.StatusCode == http.StatusFound
		}},
	})
}

// sevenZip is an archive of one file that is stored as it is (7zFormat.txt).
func sevenZip(name, text string) string {
	number := func(n int) string {
		return "\xff" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	names := ""
	for _, c := range name {
		names += string(binary.LittleEndian.AppendUint16(nil, uint16(c)))
	}
	names += "\x00\x00"
	h := "\x01\x04\x06\x00\x01\x09" + number(len(text)) + "\x00\x07\x0b\x01\x00\x01\x01\x00\x0c" + number(len(text)) + "\x00\x08\x0d\x01\x00\x00\x05\x01\x11" + number(len(names)+1) + "\x00" + names + "\x00\x00"
	start := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	start = binary.LittleEndian.AppendUint64(start, uint64(len(h)))
	start = binary.LittleEndian.AppendUint32(start, crc32.ChecksumIEEE([]byte(h)))
	return "7z\xbc\xaf\x27\x1c\x00\x04" + string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(start))) + string(start) + text + h
}

// TestMalware sends the test file that every scanner knows, bare and in
// archives within one another, past a guard with a real ClamAV.
func TestMalware(t *testing.T) {
	scanner := clamdtest.Start(t)
	zipped := func(name, text string) string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		z.Close()
		return b.String()
	}
	tarred := func(name, text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		w.Close()
		z.Close()
		return b.String()
	}
	eicar := clamdtest.Eicar()
	deep := eicar
	for range 3 {
		deep = zipped("a.zip", deep)
	}
	malware := func(way, name, kind, content string) attack {
		return attack{"CWE-434 malware that is handed on", way, inspectors, func(t *testing.T, x *target) bool {
			_, from := x.events(0)
			b, _ := picture(t, x, multipart("b", part{file(name, kind), content}))
			if a := b.get("/static/uploads/" + name); a.StatusCode == http.StatusOK && a.text == content {
				return true
			}
			if !x.guarded {
				return false
			}
			// It has to be known for what it is: anything else refuses honest
			// archives, too.
			for range 1000 {
				all, _ := x.events(from)
				if slices.ContainsFunc(all, func(e entry) bool { return e.Reason == "file-malware" }) {
					return false
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Error("it was refused for another reason")
			return false
		}}
	}
	suite(t, quiet+"\n[uploads]\nclamav = \""+scanner+"\"\n", []string{"SECRET_KEY=dev"}, []attack{
		malware("as it is", "a.png.txt", "text/plain", eicar),
		malware("in ZIP", "a.png.zip", "application/zip", zipped("a.com", eicar)),
		malware("in ZIP in ZIP in ZIP", "b.png.zip", "application/zip", deep),
		malware("in 7z", "a.png.7z", "application/x-7z-compressed", sevenZip("a.com", eicar)),
		malware("in ZIP in 7z", "b.png.7z", "application/x-7z-compressed", sevenZip("a.zip", zipped("a.com", eicar))),
		malware("in 7z in ZIP", "c.png.zip", "application/zip", zipped("a.7z", sevenZip("a.com", eicar))),
		malware("in tar.gz in 7z", "c.png.7z", "application/x-7z-compressed", sevenZip("a.tgz", tarred("a.com", eicar))),
		malware("in ZIP in tar.gz", "e.png.dat", "application/gzip", tarred("a.zip", zipped("a.com", eicar))),
		malware("as a picture's type", "d.png.zip", "application/octet-stream", zipped("cat.png", eicar)),
	})
}

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }
