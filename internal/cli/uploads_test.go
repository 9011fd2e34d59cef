package cli

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"mime/multipart"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/ulikunitz/xz"
	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/dewar-security/dewar/internal/clamd/clamdtest"
	"github.com/dewar-security/dewar/internal/event"
)

type sent struct{ name, kind, text string }

func encoded(write func(io.Writer) error) string {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		panic(err)
	}
	return b.String()
}

func zipOf(members ...string) string {
	return encoded(func(w io.Writer) error {
		z := zip.NewWriter(w)
		for i := 0; i+1 < len(members); i += 2 {
			f, err := z.Create(members[i])
			if err != nil {
				return err
			}
			if _, err := io.WriteString(f, members[i+1]); err != nil {
				return err
			}
		}
		return z.Close()
	})
}

func tarOf(name, text string) string {
	return encoded(func(w io.Writer) error {
		t := tar.NewWriter(w)
		if err := t.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
			return err
		}
		if _, err := io.WriteString(t, text); err != nil {
			return err
		}
		return t.Close()
	})
}

func gzipOf(text string) string {
	return encoded(func(w io.Writer) error {
		z := gzip.NewWriter(w)
		_, err := io.WriteString(z, text)
		z.Close()
		return err
	})
}

// honestUploads are files of the kinds that people send.
func honestUploads() []sent {
	m := image.NewNRGBA(image.Rect(0, 0, 64, 48))
	for i := range 64 * 48 {
		m.Set(i%64, i/64, color.NRGBA{uint8(i), uint8(i / 3), uint8(i / 7), 255})
	}
	ole := make([]byte, 2048)
	copy(ole, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	copy(ole[24:], "\x3e\x00\x03\x00\xfe\xff\x09\x00\x06")
	for i, name := range []string{"Root Entry", "WordDocument"} {
		for j, c := range utf16.Encode([]rune(name)) {
			ole[512+128*i+2*j] = byte(c)
		}
		ole[512+128*i+64], ole[512+128*i+66] = byte(2*len(name)+2), 2
	}
	const types = `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>`
	bz2 := "BZh91AY&SY\x19\x31\x65\x3d\x00\x00\x00\x81\x00\x02\x44\xa0\x00\x21\x9a\x68\x33\x4d\x07\x33\x8b\xb9\x22\x9c\x28\x48\x0c\x98\xb2\x9e\x80"
	if b, err := io.ReadAll(bzip2.NewReader(strings.NewReader(bz2))); err != nil || len(b) == 0 {
		panic("the bzip2 sample is none")
	}
	return []sent{
		{"cat.png", "image/png", encoded(func(w io.Writer) error { return png.Encode(w, m) })},
		{"Foto vom Strand (1).JPG", "image/jpeg", encoded(func(w io.Writer) error { return jpeg.Encode(w, m, nil) })},
		{"anim.gif", "image/gif", encoded(func(w io.Writer) error { return gif.Encode(w, m, nil) })},
		{"scan.bmp", "image/bmp", encoded(func(w io.Writer) error { return bmp.Encode(w, m) })},
		{"scan.tiff", "image/tiff", encoded(func(w io.Writer) error { return tiff.Encode(w, m, nil) })},
		{"logo.svg", "image/svg+xml", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9" style="fill:red"/></svg>`},
		{"photo.heic", "image/heic", "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + strings.Repeat("\x00", 300)},
		{"report.pdf", "application/pdf", "%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [] /Count 0 >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"},
		{"letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", zipOf("[Content_Types].xml", types, "_rels/.rels", `<Relationships/>`, "word/document.xml", `<w:document/>`)},
		{"table.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", zipOf("[Content_Types].xml", types, "_rels/.rels", `<Relationships/>`, "xl/workbook.xml", `<workbook/>`)},
		{"slides.odp", "application/vnd.oasis.opendocument.presentation", zipOf("mimetype", "application/vnd.oasis.opendocument.presentation", "content.xml", "<x/>", "META-INF/manifest.xml", "<x/>")},
		{"old.doc", "application/msword", string(ole)},
		{"Überweisungen 2026.csv", "text/csv", "Datum;Betrag\n2026-11-28;-12,50\n=SUM(A1:A2);x\n"},
		{"notes.txt", "text/plain", "A < B, and <b>this</b> is <script> in a note.\r\n--\r\n--X\n"},
		{"README.md", "text/markdown", "# Title\n\n```html\n<script>alert(1)</script>\n```\n"},
		{"data.json", "application/json", `{"q": "' OR 1=1 --", "x": "<script>"}`},
		{"feed.xml", "application/xml", `<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"/>`},
		{"app.py", "text/x-python", "import os\nos.system('ls')\n"},
		{"jquery.min.js", "text/javascript", "(function(){window.$=1})()\n"},
		{"all.zip", "application/zip", zipOf("a/b.txt", "hello", "a/c.csv", strings.Repeat("1,2\n", 1000))},
		{"src.tar.gz", "application/gzip", gzipOf(tarOf("src/a.py", "print(1)"))},
		{"src.tar", "application/x-tar", tarOf("src/a.py", "print(1)")},
		{"log.bz2", "application/x-bzip2", bz2},
		{"log.xz", "application/x-xz", encoded(func(w io.Writer) error {
			z, err := xz.NewWriter(w)
			if err == nil {
				_, err = io.WriteString(z, strings.Repeat("line\n", 1000))
				z.Close()
			}
			return err
		})},
		{"song.mp3", "audio/mpeg", "ID3\x03\x00\x00\x00\x00\x00\x0aTIT2" + strings.Repeat("\x00", 100) + "\xff\xfb\x90\x00"},
		{"film.mp4", "video/mp4", "\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + strings.Repeat("\x00\x01", 500)},
		{"font.woff2", "font/woff2", "wOF2\x00\x01\x00\x00" + strings.Repeat("\x00", 100)},
		{"blob", "application/octet-stream", string(bytes.Repeat([]byte{0, 1, 2, 3, 0xff, '\r', '\n', '-', '-'}, 20_000))},
		{"empty.txt", "text/plain", ""},
	}
}

// multi writes files as a browser does.
func multi(fields []string, files ...sent) (body, kind string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	for _, f := range files {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", `form-data; name="f"; filename="`+strings.ReplaceAll(f.name, `"`, "%22")+`"`)
		h.Set("Content-Type", f.kind)
		p, _ := w.CreatePart(h)
		_, _ = io.WriteString(p, f.text)
	}
	w.Close()
	return b.String(), w.FormDataContentType()
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// attackPage is what an attacker wants the site to serve.
const attackPage = "<!doctype html><script>alert(document.domain)</script>"

type hostileUpload struct {
	sent
	status int
	reason string
}

// hostileUploads are files that do harm, and what becomes of them.
func hostileUploads() []hostileUpload {
	jpg := honestUploads()[1].text
	return []hostileUpload{
		{sent{"cat.png", "image/png", attackPage}, 415, "file-disguised"},
		{sent{"cat.png", "image/png", `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`}, 415, "file-disguised"},
		{sent{"cat.gif", "image/gif", "GIF89a;<?php system($_GET['c']); ?>"}, 422, "file-hidden-script"},
		{sent{"cat.jpg", "image/jpeg", jpg + zipOf("Evil.class", "x")}, 422, "file-polyglot"},
		{sent{"logo.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`}, 422, "file-svg-script"},
		{sent{"a.xml", "text/xml", `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`}, 422, "file-xml-entities"},
		{sent{"a.zip", "application/zip", zipOf("../../app.py", "x")}, 422, "file-archive-path"},
		{sent{"a.zip", "application/zip", zipOf("a", strings.Repeat("\x00", 30<<20))}, 413, "file-bomb"},
		{sent{"a.gz", "application/gzip", gzipOf(strings.Repeat("\x00", 30<<20))}, 413, "file-bomb"},
		{sent{"eicar.txt", "text/plain", clamdtest.Eicar()}, 422, "file-malware"},
		{sent{"eicar.zip", "application/zip", zipOf("a.com", clamdtest.Eicar())}, 422, "file-malware"},
		{sent{"eicar2.zip", "application/zip", zipOf("b.zip", zipOf("a.com", clamdtest.Eicar()))}, 422, "file-malware"},
		{sent{"../../app.py", "text/plain", "x"}, 400, "upload-path"},
		{sent{"shell.php.jpg", "image/jpeg", jpg}, 400, "upload-double-extension"},
		{sent{"CON.txt", "text/plain", "x"}, 400, "upload-name"},
	}
}

// TestUploads drives a real Flask app behind the guard, with a real clamd:
// honest files of all kinds arrive bit for bit under their names and types,
// hostile ones do not, and what was refused is in quarantine.
func TestUploads(t *testing.T) {
	root := real(t)
	scanner := clamdtest.Start(t)
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(root, "internal", "cli", "testdata", "uploads", "app.py"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "app.py"), string(text))
	quarantine := filepath.Join(t.TempDir(), "quarantine")
	writeFile(t, filepath.Join(dir, "dewar.toml"), fmt.Sprintf(`
[abuse]
rate = "off"
ban-after = "off"
[uploads]
clamav = %q
quarantine = %q
[[route]]
path = "/hooks/**"
reason = "the signature covers the body"
modes = { csrf = "off" }
files = { keep-body = true }
[[route]]
path = "/stream"
reason = "too large to keep"
stream = true
`, scanner, quarantine))
	s := start(t, dir, []string{"SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c"})
	c := s.client()
	post := func(target, body, kind string, header ...string) answer {
		return s.ask(c, "POST", target, body, append([]string{"Content-Type", kind, "Origin", s.https}, header...)...)
	}
	type got struct {
		Files []struct {
			Field, Name, Type, SHA256 string
			Size                      int
		}
		Fields   map[string][]string
		Boundary string
	}
	decode := func(a answer) (g got) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.text), &g); err != nil {
			t.Fatalf("%d %s", a.StatusCode, a.text)
		}
		return g
	}

	honest := honestUploads()
	if len(honest) < 20 {
		t.Fatal("too few kinds")
	}
	for _, f := range honest {
		body, kind := multi([]string{"title", "Ünïcode — “x”", "title", "twice"}, f)
		a := post("/upload", body, kind)
		s.want(a, 200, f.name)
		g := decode(a)
		if len(g.Files) != 1 || g.Files[0].Name != f.name || g.Files[0].Type != f.kind || g.Files[0].SHA256 != sum(f.text) || !slices.Equal(g.Fields["title"], []string{"Ünïcode — “x”", "twice"}) {
			t.Errorf("%s: the app got %+v", f.name, g)
		}
		if !strings.HasPrefix(g.Boundary, "dewar-") {
			t.Errorf("%s: the body came as it was sent", f.name)
		}
	}
	body, kind := multi(nil, honest[:9]...)
	if g := decode(post("/upload", body, kind)); len(g.Files) != 9 || g.Files[8].SHA256 != sum(honest[8].text) {
		t.Errorf("nine files: %+v", g.Files)
	}
	for _, f := range honest[:2] {
		a := s.ask(c, "PUT", "/raw/x", f.text, "Content-Type", f.kind, "Origin", s.https)
		s.want(a, 200, "raw "+f.name)
		if !strings.Contains(a.text, sum(f.text)) {
			t.Errorf("raw %s: %s", f.name, a.text)
		}
	}

	reasons := map[string]string{}
	const page = attackPage
	for _, f := range hostileUploads() {
		body, kind := multi(nil, f.sent)
		a := post("/upload", body, kind, "Accept", "application/json")
		s.want(a, f.status, f.name+" "+f.reason)
		if !strings.Contains(a.Header.Get("Content-Type"), "application/problem+json") || strings.Contains(a.text, f.reason) {
			t.Errorf("%s: a program gets %s: %s", f.name, a.Header.Get("Content-Type"), a.text)
		}
		reasons[a.Header.Get("X-Request-Id")] = f.reason
	}
	body, kind = multi(nil, sent{"cat.png", "image/png", page})
	if a := post("/upload", body, kind, "Accept", "text/html"); !strings.Contains(a.Header.Get("Content-Type"), "text/html") || !strings.Contains(a.text, a.Header.Get("X-Request-Id")) {
		t.Errorf("a person gets %s: %s", a.Header.Get("Content-Type"), a.text)
	}
	s.want(s.ask(c, "PUT", "/raw/x", page, "Content-Type", "image/png", "Origin", s.https), 415, "a page as a raw image")

	// A second file behind a bare line feed is a file to Werkzeug.
	hidden := "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nA\n--XX\nContent-Disposition: form-data; name=\"g\"; filename=\"evil.html\"\n\n" + page + "\r\n--XX--\r\n"
	s.want(post("/upload", hidden, "multipart/form-data; boundary=XX"), 400, "a hidden file")

	// A webhook whose signature covers the body.
	body, kind = multi([]string{"from", "a@example.org"}, honest[0])
	mac := hmac.New(sha256.New, []byte("shared"))
	mac.Write([]byte(body))
	if a := post("/hooks/mail", body, kind, "X-Signature", hex.EncodeToString(mac.Sum(nil))); !strings.Contains(a.text, "true") {
		t.Errorf("the signature does not fit: %d %s", a.StatusCode, a.text)
	}
	// A stream is not looked into, and the evidence says so.
	body, kind = multi(nil, sent{"e.txt", "text/plain", clamdtest.Eicar()})
	s.want(post("/stream", body, kind), 200, "a stream")

	code, out, errs := dewar(t, s.environ, "quarantine", "list", "--dir", dir)
	if code != 0 || !strings.Contains(out, "file-malware") || !strings.Contains(out, "eicar.zip") {
		t.Errorf("dewar quarantine list: %d\n%s%s", code, out, errs)
	}
	id := ""
	for line := range strings.Lines(out) {
		if strings.Contains(line, "logo.svg") {
			id, _, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
	}
	svg := sent{"other name.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`}
	body, kind = multi(nil, svg)
	s.want(post("/upload", body, kind), 422, "before its release")
	if code, out, errs := dewar(t, s.environ, "quarantine", "release", id, "--dir", dir); code != 0 {
		t.Errorf("dewar quarantine release %s: %d\n%s%s", id, code, out, errs)
	}
	s.want(post("/upload", body, kind), 200, "after its release")
	_, out, _ = dewar(t, s.environ, "check", dir, "--format", "json")
	if !strings.Contains(out, "looked into") || !strings.Contains(out, "stream past it on /stream") {
		t.Errorf("the evidence does not tell: %.3000s", out)
	}
	s.stop()
	events := s.events()
	for id, reason := range reasons {
		if !slices.ContainsFunc(events, func(e event.Event) bool {
			return e.RequestID == id && e.Reason == reason && e.Name == "upload_validation"
		}) {
			t.Errorf("no event with %s", reason)
		}
	}
	for _, name := range []string{"upload_complete", "upload_stored"} {
		if !slices.ContainsFunc(events, func(e event.Event) bool { return e.Name == name }) {
			t.Errorf("no event %s", name)
		}
	}
}

// TestUploadsUnguarded: without the layers every hostile file gets through to
// the app, so that what TestUploads refuses is the guard's doing.
func TestUploadsUnguarded(t *testing.T) {
	root := real(t)
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(root, "internal", "cli", "testdata", "uploads", "app.py"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "app.py"), string(text))
	s := start(t, dir, []string{"SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c"}, "--set", "uploads.files=off", "--set", "uploads.mode=off", "--set", "injection.mode=off", "--set", "abuse.rate=off")
	c := s.client()
	for _, f := range hostileUploads() {
		body, kind := multi(nil, f.sent)
		a := s.ask(c, "POST", "/upload", body, "Content-Type", kind, "Origin", s.https)
		s.want(a, 200, f.name)
		if !strings.Contains(a.text, sum(f.text)) {
			t.Errorf("%s: %s", f.name, a.text)
		}
	}
}
