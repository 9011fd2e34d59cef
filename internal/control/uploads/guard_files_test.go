package uploads

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/clamd/clamdtest"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

func newFiles(t testing.TB, cfg Config, env guard.Env) *Files {
	t.Helper()
	l, err := NewFiles(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.(*Files).Close() })
	return l.(*Files)
}

func typed(name, kind, content string) string {
	return "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" + name + "\"\r\nContent-Type: " + kind + "\r\n\r\n" + content + "\r\n"
}

func smallPNG() string {
	m := image.NewGray(image.Rect(0, 0, 7, 5))
	m.SetGray(1, 1, color.Gray{200})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}

func zipped(name, text string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, text)
	z.Close()
	return b.String()
}

const page = "<!doctype html><script>alert(1)</script>"

func TestFiles(t *testing.T) {
	macro := func() string {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range []string{"[Content_Types].xml", "word/document.xml", "word/vbaProject.bin"} {
			w, _ := z.Create(n)
			_, _ = io.WriteString(w, "<?xml version=\"1.0\"?><x/>")
		}
		z.Close()
		return b.String()
	}()
	for _, c := range []struct {
		name   string
		cfg    Config
		x      *guard.Exchange
		reason string
		status int // 0: it passes
	}{
		{"no body", Config{}, exchange(mp, ""), "", 0},
		{"a form", Config{}, exchange("application/x-www-form-urlencoded", "a="+page), "", 0},
		{"JSON", Config{}, exchange("application/json", `{"a":"<?php"}`), "", 0},
		{"text", Config{}, exchange("text/plain", "hello <b>"), "", 0},
		{"a page as text", Config{}, exchange("text/plain", page), "file-html", 0},
		{"fields alone", Config{}, exchange(mp, part(`form-data; name="a"`, page)+end), "", 0},
		{"an image", Config{}, exchange(mp, typed("a.png", "image/png", smallPNG())+end), "", 0},
		{"an empty file input", Config{}, exchange(mp, file("", "")+end), "", 0},
		{"a page as an image", Config{}, exchange(mp, typed("a.png", "image/png", page)+end), "file-disguised", 415},
		{"a page as an image by its type alone", Config{}, exchange(mp, typed("a.html", "image/png", page)+end), "file-disguised", 415},
		{"the second of two files", Config{}, exchange(mp, typed("a.png", "image/png", smallPNG())+typed("b.png", "image/png", page)+end), "file-disguised", 415},
		{"a file without a name", Config{}, exchange(mp, part(`form-data; name="a"; filename=""`, zipped("../x", ""))+end), "file-archive-path", 422},
		{"PHP in an image", Config{}, exchange(mp, typed("a.png", "image/png", smallPNG()+"<?php x")+end), "file-hidden-script", 422},
		{"allowed", Config{Allow: []string{"hidden-script"}}, exchange(mp, typed("a.png", "image/png", smallPNG()+"<?php x")+end), "", 0},
		{"macros are noted", Config{}, exchange(mp, typed("a.docm", "", macro)+end), "file-macro", 0},
		{"macros are refused", Config{Refuse: []string{"macro"}}, exchange(mp, typed("a.docm", "", macro)+end), "file-macro", 422},
		{"macros are neither", Config{Allow: []string{"macro"}, Refuse: []string{"macro"}}, exchange(mp, typed("a.docm", "", macro)+end), "", 0},
		{"a bomb", Config{MaxUnpacked: 1 << 20}, exchange(mp, typed("a.zip", "application/zip", zipped("a", strings.Repeat("\x00", 20<<20)))+end), "file-bomb", 413},
		{"too many pixels", Config{MaxPixels: 10}, exchange(mp, typed("a.png", "image/png", smallPNG())+end), "file-image-size", 413},
		{"extension", Config{Extensions: []string{".PNG", "jpg"}}, exchange(mp, typed("a.PNG", "image/png", smallPNG())+end), "", 0},
		{"wrong extension", Config{Extensions: []string{"png"}}, exchange(mp, typed("a.gif", "image/png", smallPNG())+end), "file-extension", 415},
		{"no extension", Config{Extensions: []string{"png"}}, exchange(mp, typed("png", "image/png", smallPNG())+end), "file-extension", 415},
		{"not multipart", Config{}, exchange(mp, "--XX\r\n"), "files-multipart", 400},
		{"a hidden file", Config{}, exchange(mp, file("a.png", "x\n--XX\r\nContent-Disposition: form-data; name=g; filename=evil.py\r\n\r\ny")+end), "files-multipart", 400},
		{"no boundary", Config{}, exchange("multipart/form-data", file("a", "")+end), "files-multipart", 400},
		{"too many parts", Config{MaxFiles: 1, MaxFields: 1}, exchange(mp, file("a", "")+file("b", "")+file("c", "")+end), "files-count", 413},
		{"a body that is a file", Config{}, exchange("image/png", smallPNG()), "", 0},
		{"a body that is no image", Config{}, exchange("image/png", page), "file-disguised", 415},
		{"a body of any kind with a bomb", Config{MaxUnpacked: 1 << 20}, exchange("application/octet-stream", zipped("a", strings.Repeat("\x00", 20<<20))), "file-bomb", 413},
		{"an archive that calls itself JSON", Config{MaxUnpacked: 1 << 20}, exchange("application/json", zipped("a", strings.Repeat("\x00", 20<<20))), "file-bomb", 413},
		{"an archive without a type", Config{MaxUnpacked: 1 << 20}, exchange("", zipped("a", strings.Repeat("\x00", 20<<20))), "file-bomb", 413},
		{"a program as text", Config{}, exchange("text/plain", "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff"), "file-disguised", 415},
		{"SVG as a body", Config{}, exchange("image/svg+xml", "<svg onload=alert(1) />"), "file-svg-script", 422},
		{"other multipart", Config{}, exchange("multipart/mixed; boundary=XX", page), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFiles(t, c.cfg, guard.Env{}).Request(c.x)
			if d.Reason != c.reason || (d.Verdict == guard.Deny) != (c.status > 0) || c.status > 0 && d.Status != c.status {
				t.Fatalf("%+v, want %q %d", d, c.reason, c.status)
			}
			if d.Reason != "" && !slices.ContainsFunc(filesSpec.Reasons, func(r guard.Reason) bool { return r.Name == d.Reason }) {
				t.Errorf("reason %q is not documented", d.Reason)
			}
			if strings.ContainsAny(d.Detail, "\r\n\x00") {
				t.Errorf("detail %q", d.Detail)
			}
		})
	}
}

// TestRewritten: the app gets what was understood and nothing else: one
// spelling, no preamble, no epilogue, another boundary, the right length.
func TestRewritten(t *testing.T) {
	body := "\r\n" + part(`form-data; name="a"`, "hello") + typed("\xc3\xbc.png", "image/png", smallPNG()) +
		"--XX\r\ncontent-disposition: Form-Data;name=b;filename=\"x\";filename*=utf-8''y.txt\r\nX-Path: p\r\n\r\n1\r\n" + end + "behind --XX"
	x := exchange(mp, body)
	x.Request.Header.Set("Content-Length", fmt.Sprint(len(body)))
	if d := newFiles(t, Config{}, guard.Env{}).Request(x); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	got, err := io.ReadAll(x.Request.Body)
	if err != nil || int64(len(got)) != x.Request.ContentLength || x.Request.Header.Get("Content-Length") != fmt.Sprint(len(got)) {
		t.Fatalf("%d bytes, %+v, %v", len(got), x.Request, err)
	}
	boundary, ok := formdata.Boundary(x.Request.Header.Get("Content-Type"))
	if !ok || boundary == "XX" {
		t.Fatalf("boundary %q", boundary)
	}
	want := strings.ReplaceAll("--@\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n--@\r\nContent-Disposition: form-data; name=\"f\"; filename=\"ü.png\"\r\nContent-Type: image/png\r\n\r\n"+
		smallPNG()+"\r\n--@\r\nContent-Disposition: form-data; name=\"b\"; filename=\"y.txt\"\r\nX-Path: p\r\n\r\n1\r\n--@--\r\n", "@", boundary)
	if string(got) != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	// A later layer reads the same.
	b, err := x.Buffer()
	if err != nil || string(b.Prefix(1<<20)) != want {
		t.Errorf("later layers get %q, %v", b.Prefix(100), err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
		o    *guard.Override
	}{
		{"keep-body", Config{KeepBody: true}, nil}, {"keep-body of the route", Config{}, &guard.Override{Files: guard.FilesOverride{KeepBody: true}}},
		{"observe", Config{Files: guard.Observe}, nil}, {"observe on the route", Config{}, &guard.Override{Modes: map[string]guard.Mode{"files": guard.Observe}}},
	} {
		x := exchange(mp, body)
		x.Override = c.o
		if d := newFiles(t, c.cfg, guard.Env{}).Request(x); d.Verdict != guard.Allow {
			t.Errorf("%s: %+v", c.name, d)
		}
		if got, _ := io.ReadAll(x.Request.Body); string(got) != body {
			t.Errorf("%s: the body is not as it came", c.name)
		}
	}
}

// TestSourceExtensions: the app's own list counts where every route that could
// answer has one.
func TestSourceExtensions(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [
		{"rule": "/upload", "methods": ["POST"], "endpoint": "a", "extensions": ["png", "jpg"]},
		{"rule": "/<x>", "methods": ["PUT"], "endpoint": "b"}, {"rule": "/upload", "methods": ["PUT"], "endpoint": "c", "extensions": ["png"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	env := guard.Env{Policy: func() *policy.Policy { return p }}
	upload := func(cfg Config, method, name string) guard.Decision {
		x := exchange(mp, typed(name, "application/octet-stream", "x")+end)
		x.Request.Method = method
		return newFiles(t, cfg, env).Request(x)
	}
	if d := upload(Config{}, "POST", "a.gif"); d.Reason != "file-extension" || d.Status != 415 || !strings.Contains(d.Detail, "own list") {
		t.Errorf("%+v", d)
	}
	if d := upload(Config{}, "POST", "a.JPG"); d.Reason == "file-extension" {
		t.Errorf("%+v", d)
	}
	if d := upload(Config{SourceExtensions: guard.Observe}, "POST", "a.gif"); d.Verdict != guard.Observed {
		t.Errorf("%+v", d)
	}
	if d := upload(Config{SourceExtensions: guard.Off}, "POST", "a.gif"); d.Verdict == guard.Deny || d.Reason == "file-extension" {
		t.Errorf("%+v", d)
	}
	if d := upload(Config{Extensions: []string{"gif"}}, "POST", "a.gif"); d.Verdict == guard.Deny {
		t.Errorf("settings go before the source: %+v", d)
	}
	if d := upload(Config{}, "PUT", "a.gif"); d.Verdict == guard.Deny && d.Reason == "file-extension" {
		t.Errorf("another route could answer: %+v", d)
	}
}

func TestRouteOverride(t *testing.T) {
	l := newFiles(t, Config{Extensions: []string{"png"}}, guard.Env{})
	x := exchange(mp, typed("a.svg", "image/svg+xml", "<svg onload='x()'/>")+end)
	x.Override = &guard.Override{Files: guard.FilesOverride{Extensions: []string{"svg"}, Allow: []string{"svg-script"}}}
	if d := l.Request(x); d.Verdict != guard.Allow {
		t.Errorf("%+v", d)
	}
	x = exchange(mp, typed("a.exe", "", "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff")+end)
	x.Override = &guard.Override{Files: guard.FilesOverride{Extensions: []string{"exe"}, Refuse: []string{"executable"}}}
	if d := l.Request(x); d.Reason != "file-executable" || d.Verdict != guard.Deny {
		t.Errorf("%+v", d)
	}
	x = exchange(mp, typed("a.png", "image/png", page)+end)
	x.Override = &guard.Override{Stream: true}
	if d := l.Request(x); d.Verdict != guard.Allow || x.Gathered() {
		t.Errorf("a stream was gathered: %+v", d)
	}
	for _, bad := range []guard.FilesOverride{{Allow: []string{"macros"}}, {Refuse: []string{"x"}}, {Images: "strip"}, {ClamAV: "maybe"}, {ClamAV: "later"}} {
		if err := l.CheckOverride(&guard.Override{Files: bad}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestFilesConfigErrors(t *testing.T) {
	for _, bad := range []Config{
		{Allow: []string{"macros"}}, {Refuse: []string{"all"}}, {Extensions: []string{"a.b"}}, {Extensions: []string{"."}}, {Images: "x"}, {ClamAV: "nowhere"}, {ClamAVWhen: "later"},
		{ClamAVWhen: "later", ClamAV: "/x"}, {ClamAVFailure: "x"}, {Quarantine: "app/static/q"}, {MaxRatio: -1}, {MaxPixels: -1},
	} {
		if _, err := NewFiles(bad, guard.Env{}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestReencode: what is hidden in an image does not come through, and the
// length is that of the new one.
func TestReencode(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 32, 16))
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	marker := "taken at 52.5 N 13.4 E"
	photo := b.String()[:2] + "\xff\xfe\x00" + string(rune(len(marker)+2)) + marker + b.String()[2:]
	for _, c := range []struct{ kind, body string }{{mp, typed("a.jpg", "image/jpeg", photo) + end}, {"image/jpeg", photo}} {
		x := exchange(c.kind, c.body)
		if d := newFiles(t, Config{Images: "reencode"}, guard.Env{}).Request(x); d.Verdict != guard.Allow {
			t.Fatalf("%+v", d)
		}
		got, err := io.ReadAll(x.Request.Body)
		if err != nil || int64(len(got)) != x.Request.ContentLength || bytes.Contains(got, []byte(marker)) || !bytes.Contains(got, []byte("\xff\xd8\xff")) {
			t.Errorf("%d bytes of %d, %v", len(got), x.Request.ContentLength, err)
		}
	}
	x := exchange("image/heic", "\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"+strings.Repeat("\x00", 100))
	if d := newFiles(t, Config{Images: "reencode"}, guard.Env{}).Request(x); d.Reason != "file-reencode" {
		t.Errorf("%+v", d)
	}
}

// TestClamAV holds uploads until a real daemon says that they are clean.
func TestClamAV(t *testing.T) {
	address := clamdtest.Start(t, "StreamMaxLength 1M")
	nested := zipped("b.zip", zipped("a.com", clamdtest.Eicar()))
	l := newFiles(t, Config{ClamAV: address}, guard.Env{})
	for _, c := range []struct {
		name, text, reason string
		status             int
	}{
		{"clean.txt", "hello", "", 0},
		{"a.txt", clamdtest.Eicar(), "file-malware", 422},
		{"a.zip", zipped("a.com", clamdtest.Eicar()), "file-malware", 422},
		{"b.zip", nested, "file-malware", 422},
		{"large.bin", strings.Repeat("\x01", 3<<20), "file-unscanned", 413},
	} {
		d := l.Request(exchange(mp, typed(c.name, "application/octet-stream", c.text)+end))
		if d.Reason != c.reason || c.status > 0 && (d.Verdict != guard.Deny || d.Status != c.status) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	if err := l.Health(); err != nil {
		t.Error(err)
	}
	if d := l.Describe(); !strings.Contains(d, "ClamAV") {
		t.Error(d)
	}
	open := newFiles(t, Config{ClamAV: address, ClamAVFailure: "open"}, guard.Env{})
	if d := open.Request(exchange(mp, typed("l.bin", "", strings.Repeat("\x01", 3<<20))+end)); d.Verdict != guard.Observed || d.Reason != "file-unscanned" {
		t.Errorf("%+v", d)
	}
	x := exchange(mp, typed("a.txt", "text/plain", clamdtest.Eicar())+end)
	x.Override = &guard.Override{Files: guard.FilesOverride{ClamAV: "off"}}
	if d := l.Request(x); d.Verdict != guard.Allow {
		t.Errorf("%+v", d)
	}
}

// TestScannerGone: without the daemon nothing passes unless the settings say
// so, and the layer says that it cannot work.
func TestScannerGone(t *testing.T) {
	gone := "unix:" + filepath.Join(t.TempDir(), "none")
	x := func() *guard.Exchange { return exchange(mp, typed("a.txt", "text/plain", "hello")+end) }
	l := newFiles(t, Config{ClamAV: gone}, guard.Env{})
	if d := l.Request(x()); d.Verdict != guard.Deny || d.Status != http.StatusServiceUnavailable || d.Reason != "file-unscanned" || d.Header.Get("Retry-After") == "" {
		t.Errorf("%+v", d)
	}
	if l.Health() == nil {
		t.Error("healthy without its daemon")
	}
	if d := newFiles(t, Config{ClamAV: gone, ClamAVFailure: "open"}, guard.Env{}).Request(x()); d.Verdict != guard.Observed {
		t.Errorf("%+v", d)
	}
	if d := l.Request(exchange(mp, part(`form-data; name="a"`, "no file")+end)); d.Verdict != guard.Allow {
		t.Errorf("a form without files: %+v", d)
	}
}

// TestLater: the app gets the file at once; what is found afterwards is in the
// quarantine, with an event.
func TestLater(t *testing.T) {
	address := clamdtest.Start(t)
	dir := filepath.Join(t.TempDir(), "q")
	found := make(chan event.Event, 10)
	env := guard.Env{Publish: func(e event.Event) { found <- e }}
	l := newFiles(t, Config{ClamAV: address, ClamAVWhen: "later", Quarantine: dir}, env)
	for _, text := range []string{"clean", clamdtest.Eicar()} {
		if d := l.Request(exchange(mp, typed("a.txt", "text/plain", text)+end)); d.Verdict != guard.Allow {
			t.Fatalf("%+v", d)
		}
	}
	select {
	case e := <-found:
		if e.Reason != "file-malware" || e.Severity != event.Critical || e.Attributes["quarantine"] == "" {
			t.Errorf("%+v", e)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("no event")
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(names) == 2 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%v", names)
		}
	}
	records, err := l.quarantine.records()
	if err != nil || len(records) != 1 || records[0].Name != "a.txt" || records[0].Size != int64(len(clamdtest.Eicar())) {
		t.Errorf("%+v, %v", records, err)
	}
	// What waited when a guard ended is scanned by the next one.
	l.Close()
	if err := l.later.add(exchange(mp, ""), bodyOf(t, clamdtest.Eicar()), &formdata.Part{Size: int64(len(clamdtest.Eicar()))}); err != nil {
		t.Fatal(err)
	}
	newFiles(t, Config{ClamAV: address, ClamAVWhen: "later", Quarantine: dir}, env)
	select {
	case e := <-found:
		if e.Reason != "file-malware" {
			t.Errorf("%+v", e)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("what waited was forgotten")
	}
}

func bodyOf(t testing.TB, text string) *guard.Body {
	x := exchange("application/octet-stream", text)
	b, err := x.Buffer()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQuarantine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	var mu sync.Mutex
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	env := guard.Env{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }}
	l := newFiles(t, Config{Quarantine: dir, QuarantineSize: 3000, QuarantineAge: guard.Duration(24 * time.Hour)}, env)
	send := func(text string) guard.Decision {
		x := exchange(mp, typed("../../evil \u00fc.png", "image/png", text)+end)
		x.ID = "REQUEST"
		return l.Request(x)
	}
	d := send(page)
	id := d.Attributes["quarantine"]
	if d.Verdict != guard.Deny || !recordID.MatchString(id) {
		t.Fatalf("%+v", d)
	}
	for _, ext := range []string{".bin", ".json"} {
		info, err := os.Stat(filepath.Join(dir, id+ext))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, id+".bin")); err != nil || string(b) != page {
		t.Errorf("%q, %v", b, err)
	}
	operate := func(command string, args map[string]string) (string, error) {
		v, err := l.Operate(context.Background(), "quarantine "+command, args)
		b, _ := json.Marshal(v)
		return string(b), err
	}
	if out, err := operate("list", nil); err != nil || !strings.Contains(out, id) {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := operate("show", map[string]string{"id": id}); err != nil || !strings.Contains(out, `"request":"REQUEST"`) || !strings.Contains(out, "file-disguised") {
		t.Errorf("%s, %v", out, err)
	}
	for _, bad := range []string{"../../../etc/passwd", "", "x", strings.Repeat("0", 26)} {
		for _, c := range []string{"show", "release", "delete"} {
			if _, err := operate(c, map[string]string{"id": bad}); err == nil {
				t.Errorf("%s %q", c, bad)
			}
		}
	}
	// Released: a copy, and the same file passes; another one does not.
	to := filepath.Join(t.TempDir(), "copy")
	if _, err := operate("release", map[string]string{"id": id, "to": to}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to); err != nil || string(b) != page {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := operate("release", map[string]string{"id": id, "to": to}); err == nil {
		t.Error("a file that was there is overwritten")
	}
	if d := send(page); d.Verdict != guard.Observed || !strings.Contains(d.Detail, "released") {
		t.Errorf("%+v", d)
	}
	if d := send(page + " "); d.Verdict != guard.Deny {
		t.Errorf("%+v", d)
	}
	again := newFiles(t, Config{Quarantine: dir}, env)
	if d := again.Request(exchange(mp, typed("x.png", "image/png", page)+end)); d.Verdict != guard.Observed {
		t.Errorf("a restart forgets what was released: %+v", d)
	}
	if _, err := operate("delete", map[string]string{"id": id}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, id+".bin")); err == nil {
		t.Error("it is still there")
	}
	// Bounded by bytes: the oldest make room. And by age.
	for i := range 5 {
		if d := send(page + strings.Repeat(" ", 900+i)); d.Attributes["quarantine"] == "" {
			t.Fatalf("%+v", d)
		}
		mu.Lock()
		now = now.Add(time.Second)
		mu.Unlock()
	}
	records, err := l.quarantine.records()
	total := int64(0)
	for _, r := range records {
		total += r.Size
	}
	if err != nil || len(records) != 3 || total > 3000 {
		t.Errorf("%d files of %d bytes, %v", len(records), total, err)
	}
	if d := send(page + strings.Repeat(" ", 4000)); d.Verdict != guard.Deny || d.Attributes["quarantine"] != "" {
		t.Errorf("a file larger than the quarantine: %+v", d)
	}
	mu.Lock()
	now = now.Add(25 * time.Hour)
	mu.Unlock()
	if out, err := operate("list", nil); err != nil || out != "[]" {
		t.Errorf("%s, %v", out, err)
	}
	// Nobody else may look into it.
	loose := filepath.Join(t.TempDir(), "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFiles(Config{Quarantine: loose}, guard.Env{}); err == nil {
		t.Error("a folder that everybody can read is taken")
	}
	if _, err := newFiles(t, Config{}, env).Operate(context.Background(), "quarantine list", nil); err == nil {
		t.Error("no quarantine, and a list of it")
	}
}

// FuzzFiles: whatever comes, the layer answers, and what passes is multipart
// of its own spelling with the same files.
func FuzzFiles(f *testing.F) {
	f.Add(mp, part(`form-data; name="a"`, "hello")+typed("a.png", "image/png", smallPNG())+end)
	f.Add("image/png", smallPNG())
	f.Add("application/zip", zipped("../a", "x"))
	l, err := NewFiles(Config{MaxUnpacked: 1 << 20}, guard.Env{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequest("POST", "/upload", strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		x := &guard.Exchange{Request: r, Path: "/upload"}
		d := l.Request(x)
		if d.Verdict == guard.Deny {
			if d.Status < 400 || d.Reason == "" || strings.ContainsAny(d.Detail, "\r\n\x00\x1b") {
				t.Fatalf("%+v", d)
			}
			return
		}
		got, err := io.ReadAll(x.Request.Body)
		if err != nil {
			t.Fatal(err)
		}
		boundary, ok := formdata.Boundary(x.Request.Header.Get("Content-Type"))
		if !ok || !strings.HasPrefix(boundary, "dewar-") {
			if string(got) != body {
				t.Fatalf("%q became %q", body, got)
			}
			return
		}
		if _, err := formdata.Index(bytes.NewReader(got), int64(len(got)), boundary, 10_000); err != nil {
			t.Fatal(err)
		}
	})
}

// What the layer costs beside gathering the body.
func BenchmarkFiles(b *testing.B) {
	noise := image.NewRGBA(image.Rect(0, 0, 1200, 900))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(r.Uint32())
	}
	var photo bytes.Buffer
	if err := png.Encode(&photo, noise); err != nil {
		b.Fatal(err)
	}
	upload := part(`form-data; name="a"`, "hello") + typed("a.png", "image/png", photo.String()) + end
	run := func(b *testing.B, cfg Config) {
		cfg.MaxBody = 64 << 20
		c, err := guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: filesSpec, Layer: newFiles(b, cfg, guard.Env{})}}, Forward: swallow{}})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(upload)))
		b.ReportAllocs()
		for b.Loop() {
			x := exchange(mp, upload)
			w := httptest.NewRecorder()
			if c.ServeHTTP(w, x.Request); w.Code != 204 {
				b.Fatal(w.Code)
			}
		}
	}
	b.Run("gather", func(b *testing.B) {
		c, err := guard.NewChain(guard.Options{Forward: swallow{}})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(upload)))
		for b.Loop() {
			c.ServeHTTP(httptest.NewRecorder(), exchange(mp, upload).Request)
		}
	})
	b.Run("inspect", func(b *testing.B) { run(b, Config{}) })
	b.Run("reencode", func(b *testing.B) { run(b, Config{Images: "reencode"}) })
	b.Run("clamav", func(b *testing.B) { run(b, Config{ClamAV: clamdtest.Start(b)}) })
	b.Run("form", func(b *testing.B) {
		l := newFiles(b, Config{}, guard.Env{})
		b.ReportAllocs()
		for b.Loop() {
			if d := l.Request(exchange("application/x-www-form-urlencoded", "a=b")); d.Verdict != guard.Allow {
				b.Fatal(d)
			}
		}
	})
}

// swallow is an app that reads its request.
type swallow struct{}

func (swallow) Forward(w http.ResponseWriter, x *guard.Exchange, _ func(*http.Response) error) error {
	_, err := io.Copy(io.Discard, x.Request.Body)
	w.WriteHeader(204)
	return err
}

// endless is a file of so many bytes that nobody keeps.
type endless struct {
	head, tail string
	size       int64
	at         int64
	block      []byte
}

func (e *endless) length() int64 { return int64(len(e.head)) + e.size + int64(len(e.tail)) }

// Read implements [io.Reader].
func (e *endless) Read(p []byte) (int, error) {
	n := 0
	switch head := int64(len(e.head)); {
	case e.at < head:
		n = copy(p, e.head[e.at:])
	case e.at < head+e.size:
		n = copy(p[:min(int64(len(p)), head+e.size-e.at)], e.block[(e.at-head)%int64(len(e.block)):])
	case e.at < e.length():
		n = copy(p, e.tail[e.at-head-e.size:])
	default:
		return 0, io.EOF
	}
	e.at += int64(n)
	return n, nil
}

// bigUpload sends a file of so many bytes through the body and files layers.
func bigUpload(t testing.TB, size int64, cfg Config) {
	t.Helper()
	cfg.MaxBody, cfg.MaxFile = guard.Size(size+1<<20), guard.Size(size+1<<20)
	c, err := guard.NewChain(guard.Options{
		Layers:  []guard.Bound{{Spec: bodySpec, Layer: newLayer(t, cfg)}, {Spec: filesSpec, Layer: newFiles(t, cfg, guard.Env{})}},
		Forward: swallow{}, Spool: guard.NewSpool(8<<20, guard.Size(size+64<<20)),
	})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range block {
		block[i] = byte(r.Uint32())
	}
	for i := range block {
		if block[i] == '-' {
			block[i] = '+' // the boundary does not come up
		}
	}
	body := &endless{head: "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n\r\n", tail: "\r\n" + end, size: size, block: block}
	req := httptest.NewRequest("POST", "/upload", body)
	req.ContentLength = body.length()
	req.Header.Set("Content-Type", mp)
	w := httptest.NewRecorder()
	if c.ServeHTTP(w, req); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

// TestFlatMemory: a large file is on disk and nowhere else: the memory that it
// takes does not grow with it.
func TestFlatMemory(t *testing.T) {
	size := int64(200 << 20)
	if s := os.Getenv("DEWAR_UPLOAD_MB"); s != "" { // a gigabyte, to see it for oneself
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		size = n << 20
	}
	runtime.GC() // what other tests left
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most uint64
	done := make(chan struct{})
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	begun := time.Now()
	bigUpload(t, size, Config{})
	took := time.Since(begun)
	close(done)
	<-sampled
	t.Logf("%d MiB: heap of %d MiB at most, %v", size>>20, most>>20, took)
	if most > before.HeapInuse+64<<20 {
		t.Errorf("%d MiB of heap, %d before", most>>20, before.HeapInuse>>20)
	}
}

// BenchmarkUpload is a file of 64 MiB from the client to the app: gathered,
// bounded, looked into, and scanned.
func BenchmarkUpload(b *testing.B) {
	const size = 64 << 20
	for _, c := range []struct {
		name string
		cfg  func() Config
	}{
		{"without-clamav", func() Config { return Config{} }},
		{"clamav", func() Config {
			return Config{ClamAV: clamdtest.Start(b, "StreamMaxLength 200M", "MaxScanSize 200M", "MaxFileSize 200M")}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := c.cfg()
			b.SetBytes(size)
			for b.Loop() {
				bigUpload(b, size, cfg)
			}
		})
	}
}

// TestNoRoom: when there is no room to look into a file, it does not pass, and
// it is not the client's fault.
func TestNoRoom(t *testing.T) {
	inner := zipped("a", strings.Repeat("\x01\x02\x03", 1<<20)) // 3 MiB that pack well
	upload := typed("a.zip", "application/zip", zipped("b.tar.gz", inner)+"") + end
	stored := func() string { // an archive within, not packed: it has to be kept whole
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.CreateHeader(&zip.FileHeader{Name: "big.zip", Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		var big bytes.Buffer
		zz := zip.NewWriter(&big)
		ww, err := zz.CreateHeader(&zip.FileHeader{Name: "zeros", Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = ww.Write(make([]byte, 6<<20))
		zz.Close()
		_, _ = w.Write(big.Bytes())
		z.Close()
		return b.String()
	}()
	for _, c := range []struct {
		text string
		code int
	}{{upload, 204}, {typed("a.zip", "application/zip", stored) + end, 503}} {
		chain, err := guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: filesSpec, Layer: newFiles(t, Config{MaxRatio: 1 << 20}, guard.Env{})}}, Forward: swallow{}, Spool: guard.NewSpool(1<<20, 2<<20)})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if chain.ServeHTTP(w, exchange(mp, c.text).Request); w.Code != c.code {
			t.Errorf("%d, want %d", w.Code, c.code)
		}
	}
}
