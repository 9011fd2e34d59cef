package formdata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func mustBoundary(t testing.TB, contentType string) string {
	t.Helper()
	b, ok := Boundary(contentType)
	if !ok {
		t.Fatalf("no boundary in %q", contentType)
	}
	return b
}

func body(disposition, content string) string {
	return "--XX\r\nContent-Disposition: " + disposition + "\r\n\r\n" + content + "\r\n--XX--\r\n"
}

func TestIndex(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 3*window/16)
	for _, c := range []struct {
		name, body string
		parts      []string // name=filename:content, or nil for an error
	}{
		{"no part", "--XX--\r\n", []string{}},
		{"field", body(`form-data; name="a"`, "hello"), []string{"a=:hello"}},
		{"file", body(`form-data; name="a"; filename="b.txt"`, "x\ny"), []string{"a=b.txt:x\ny"}},
		{"empty file input", body(`form-data; name="a"; filename=""`, ""), []string{"a=:"}},
		{"the last name counts", body(`form-data; name="a"; filename*=utf-8''%C3%BC; filename="b"`, ""), []string{"a=b:"}},
		{"the last name counts, extended", body(`form-data; name="a"; filename="b"; filename*=utf-8''%C3%BC`, ""), []string{"a=ü:"}},
		{"extended name in Latin-1", body(`form-data; name="a"; filename*=iso-8859-1'en'%FC`, ""), []string{"a=ü:"}},
		{"empty line first, epilogue", "\r\n" + body(`form-data; name="a"`, "1") + "behind\n--XX\n", []string{"a=:1"}},
		{"no content and no line for it", "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--", []string{"a=:"}},
		{"nearly the boundary", body(`form-data; name="a"`, "\r\n--X\r\n--\r\n-\r\n--Y"), []string{"a=:\r\n--X\r\n--\r\n-\r\n--Y"}},
		{"larger than the window", body(`form-data; name="a"; filename="b"`, long), []string{"a=b:" + long}},
		{"header across the window", "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + strings.Repeat("x", window-70) + "\r\n" + body(`form-data; name="b"`, "1"), []string{"a=:" + strings.Repeat("x", window-70), "b=:1"}},
		{"boundary in the body's words", body(`form-data; name="a"`, "see --XX for more"), nil},
		{"boundary behind LF", body(`form-data; name="a"`, "1\n--XX\r\nContent-Disposition: form-data; name=b\r\n\r\n2"), nil},
		{"boundary before LF", body(`form-data; name="a"`, "1\r\n--XX\nContent-Disposition: form-data; name=b\n\n2"), nil},
		{"boundary before space", "--XX \r\nContent-Disposition: form-data; name=b\r\n\r\n2\r\n--XX--\r\n", nil},
		{"boundary prefix", body(`form-data; name="a"`, "1\r\n--XXY\r\n"), nil},
		{"preamble", "x\r\n" + body(`form-data; name="a"`, "1"), nil},
		{"preamble without a line's end", "x" + body(`form-data; name="a"`, "1"), nil},
		{"cut in the content", "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n", nil},
		{"cut in the last boundary", "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--XX-", nil},
		{"cut in the header", "--XX\r\nContent-Disposition: form-data; name=a\r\n", nil},
		{"nothing", "", nil},
		{"only LF", strings.ReplaceAll(body(`form-data; name="a"`, "1"), "\r\n", "\n"), nil},
		{"only CR", strings.ReplaceAll(body(`form-data; name="a"`, "1"), "\r\n", "\r"), nil},
		{"folded header", body("form-data;\r\n name=\"a\"", "1"), nil},
		{"header without a colon", body("form-data; name=\"a\"\r\ngarbage", "1"), nil},
		{"space before the colon", strings.Replace(body(`form-data; name="a"`, "1"), "Disposition:", "Disposition :", 1), nil},
		{"two dispositions", body("form-data; name=\"a\"\r\ncontent-disposition: form-data; name=\"b\"", "1"), nil},
		{"two types", body("form-data; name=\"a\"; filename=b\r\nContent-Type: text/plain\r\nContent-Type: text/html", "1"), nil},
		{"two names", body(`form-data; name="a"; filename="b"; filename="c"`, "1"), nil},
		{"base64", body("form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64", "1"), nil},
		{"nested", body("form-data; name=\"a\"\r\nContent-Type: multipart/mixed; boundary=YY", "1"), nil},
		{"field in UTF-7", body("form-data; name=\"a\"\r\nContent-Type: text/plain; charset=utf-7", "1"), nil},
		{"field in UTF-8", body("form-data; name=\"a\"\r\nContent-Type: text/plain; charset=\"UTF-8\"", "1"), []string{"a=:1"}},
		{"line end in an extended name", body(`form-data; name="a"; filename*=utf-8''x%0d%0aX:y`, "1"), nil},
		{"extended name that is not UTF-8", body(`form-data; name="a"; filename*=utf-8''%ff`, "1"), []string{"a=\ufffd:1"}},
		{"name that is not UTF-8", body("form-data; name=\"\xfc\"", "1"), nil},
		{"header too large", body(`form-data; name="`+strings.Repeat("a", maxHeaderBytes)+`"`, "1"), nil},
		{"header of many fields", body("form-data; name=\"a\""+func() (s string) {
			for i := range maxHeaderFields + 1 {
				s += fmt.Sprintf("\r\nX-%d: y", i)
			}
			return
		}(), "1"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts, err := Index(strings.NewReader(c.body), int64(len(c.body)), "XX", 10)
			if c.parts == nil {
				var syntax *SyntaxError
				if !errors.As(err, &syntax) {
					t.Fatalf("%+v, %v", parts, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, strings.NewReader(c.body), parts); !slices.Equal(got, c.parts) {
				t.Fatalf("%q, want %q", got, c.parts)
			}
			contentType, out := Compose(strings.NewReader(c.body), parts, nil)
			again, err := Index(out, out.Size(), mustBoundary(t, contentType), 10)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, out, again); !slices.Equal(got, c.parts) {
				t.Fatalf("composed: %q, want %q", got, c.parts)
			}
		})
	}
	three := "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" + body("form-data; name=a", "")
	if _, err := Index(strings.NewReader(three), int64(len(three)), "XX", 2); !errors.Is(err, ErrTooManyParts) {
		t.Errorf("three parts where two are allowed: %v", err)
	}
	if _, err := Index(strings.NewReader("--XX\r\n"), 1000, "XX", 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body shorter than its size: %v", err)
	}
}

// A composed body holds other contents where they were given, and the header
// fields that came with a part.
func TestCompose(t *testing.T) {
	in := body("form-data; name=\"a\"; filename*=utf-8''%22x%5C\r\nX-Path: p/q\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\nContent-Length: 7", "old")
	parts, err := Index(strings.NewReader(in), int64(len(in)), "XX", 10)
	if err != nil {
		t.Fatal(err)
	}
	contentType, out := Compose(strings.NewReader(in), parts, map[int]Source{0: {strings.NewReader("newer"), 5}})
	got, err := io.ReadAll(io.NewSectionReader(out, 0, out.Size()))
	if err != nil {
		t.Fatal(err)
	}
	b := mustBoundary(t, contentType)
	want := "--" + b + "\r\nContent-Disposition: form-data; name=\"a\"; filename=\"\\\"x\\\\\"\r\nContent-Type: image/png\r\nX-Path: p/q\r\n\r\nnewer\r\n--" + b + "--\r\n"
	if string(got) != want || int64(len(want)) != out.Size() {
		t.Errorf("%q\nwant %q", got, want)
	}
	if other, _ := Compose(strings.NewReader(in), parts, nil); other == contentType {
		t.Error("two bodies have the same boundary")
	}
	for off := range want {
		p := make([]byte, 11)
		n, err := out.ReadAt(p, int64(off))
		if string(p[:n]) != want[off:min(len(want), off+11)] || (err == io.EOF) != (n < 11) {
			t.Fatalf("from %d: %q, %v", off, p[:n], err)
		}
	}
}

func read(t testing.TB, src io.ReaderAt, parts []Part) []string {
	out := []string{}
	for i := range parts {
		content, err := io.ReadAll(parts[i].Content(src))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, parts[i].Name+"="+parts[i].FileName()+":"+string(content))
	}
	return out
}

// Index takes nothing that the streaming reader does not take, finds the same
// parts, and what Compose writes is what was read.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(body(`form-data; name="a"; filename="b\"c"`, "x")), "XX")
	f.Add([]byte("\r\n"+body(`form-data; name="a"; filename*=utf-8''%C3%BC`, "x\r\n--X")), "XX")
	f.Add([]byte("--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--"), "XX")
	f.Fuzz(func(t *testing.T, in []byte, boundary string) {
		if b, ok := Boundary("multipart/form-data; boundary=\"" + boundary + "\""); !ok || b != boundary {
			return
		}
		parts, err := Index(bytes.NewReader(in), int64(len(in)), boundary, 100)
		if err != nil {
			return
		}
		got := read(t, bytes.NewReader(in), parts)
		mr := NewReader(bytes.NewReader(in), boundary)
		for i := range parts {
			p, err := mr.NextRawPart()
			if err != nil {
				t.Fatalf("part %d of %q: %v", i, in, err)
			}
			d, why := PartDisposition(p.Header)
			content, err := io.ReadAll(p)
			if why != "" || err != nil || d != parts[i].Disposition || !strings.HasSuffix(got[i], ":"+string(content)) {
				t.Fatalf("part %d: %+v %q %v, Index has %q", i, d, why, err, got[i])
			}
		}
		if _, err := mr.NextRawPart(); err != io.EOF {
			t.Fatalf("Index ends where the reader goes on: %v", err)
		}
		contentType, out := Compose(bytes.NewReader(in), parts, nil)
		again, err := Index(out, out.Size(), mustBoundary(t, contentType), 100)
		if err != nil {
			t.Fatalf("what was composed of %q cannot be read: %v", in, err)
		}
		if got2 := read(t, out, again); !slices.Equal(got, got2) {
			t.Fatalf("%q became %q", got, got2)
		}
	})
}

// reader makes of each body what Werkzeug makes of it: a list of name, file
// name or null, type, and content, or the error.
const reader = `
import base64, io, json, sys
from werkzeug.formparser import parse_form_data
out = []
for kind, body in json.load(sys.stdin):
    body = base64.b64decode(body)
    env = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    try:
        _, form, files = parse_form_data(env, silent=False)
        out.append([[k, None, "", base64.b64encode(v.encode()).decode()] for k, v in form.items(multi=True)]
            + [[k, f.filename, f.content_type or "", base64.b64encode(f.read()).decode()] for k, f in files.items(multi=True)])
    except Exception as e:
        out.append(str(e) or type(e).__name__)
json.dump(out, sys.stdout)
`

// TestWerkzeug composes every body of a hostile grammar that Index accepts and
// compares what the real parser finds in it with what Index found: the same
// parts, names, types and bytes. The bodies as they came show that the test
// can fail: some of them Werkzeug reads differently.
func TestWerkzeug(t *testing.T) {
	py := "../../.venv/bin/python"
	if p := os.Getenv("DEWAR_PYTHON"); p != "" {
		py = p
	}
	if out, err := exec.Command(py, "-c", "import werkzeug").CombinedOutput(); err != nil {
		msg := fmt.Sprintf("SKIPPED: no Python with Werkzeug, run scripts/venv.sh: %v %s", err, out)
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	type sent struct {
		Kind string
		Body []byte
	}
	var composed, raw []sent
	var want [][]Part
	var bodies [][]byte
	accepted, refused := 0, 0
	for _, in := range shapes() {
		b := []byte(in)
		raw = append(raw, sent{"multipart/form-data; boundary=XX", b})
		parts, err := Index(bytes.NewReader(b), int64(len(b)), "XX", 50)
		if err != nil {
			refused++
			continue
		}
		accepted++
		kind, c := Compose(bytes.NewReader(b), parts, nil)
		text, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil {
			t.Fatal(err)
		}
		composed, want, bodies = append(composed, sent{kind, text}), append(want, parts), append(bodies, b)
	}
	ask := func(in []sent) (out []json.RawMessage) {
		list := make([][2]any, len(in))
		for i, s := range in {
			list[i] = [2]any{s.Kind, s.Body}
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(py, "-c", reader)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
		answer, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	// What Index accepts Werkzeug reads so as it came, too: keep-body relies
	// on it.
	var came []sent
	for _, b := range bodies {
		came = append(came, sent{"multipart/form-data; boundary=XX", b})
	}
	answers := ask(composed)
	for i, answer := range ask(came) {
		if !bytes.Equal(answer, answers[i]) {
			t.Errorf("%q:\nas it came Werkzeug reads %s\n               composed %s", bodies[i], answer, answers[i])
		}
	}
	for i, answer := range answers {
		type found struct {
			name, file, kind string
			isFile           bool
			content          string
		}
		var rows [][4]any
		if err := json.Unmarshal(answer, &rows); err != nil {
			t.Errorf("%q: Werkzeug refuses what was composed: %s", bodies[i], answer)
			continue
		}
		var got, expect []found
		for _, r := range rows {
			file, isFile := r[1].(string)
			var content []byte
			_ = json.Unmarshal([]byte(fmt.Sprintf("%q", r[3])), &content)
			// "%22" is a quote since 2.3, and itself before.
			quote := strings.NewReplacer("%22", `"`)
			got = append(got, found{quote.Replace(r[0].(string)), quote.Replace(file), r[2].(string), isFile, string(content)})
		}
		for _, files := range []bool{false, true} { // form first, then files, each by first appearance of the name
			var order []string
			for _, p := range want[i] {
				if p.File == files && !slices.Contains(order, p.Name) {
					order = append(order, p.Name)
				}
			}
			for _, name := range order {
				for j := range want[i] {
					p := &want[i][j]
					if p.File != files || p.Name != name {
						continue
					}
					content, _ := io.ReadAll(p.Content(bytes.NewReader(bodies[i])))
					f := found{strings.ReplaceAll(p.Name, "%22", `"`), strings.ReplaceAll(p.FileName(), "%22", `"`), "", files, string(content)}
					if files {
						f.kind = p.Type
					} else {
						f.content = string([]rune(f.content)) // each wrong byte one U+FFFD
					}
					expect = append(expect, f)
				}
			}
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%q:\nWerkzeug reads %+v\n    Index has %+v", bodies[i], got, expect)
		}
	}
	tricked := 0
	for i, answer := range ask(raw) {
		if bytes.Contains(answer, []byte(`"evil.py"`)) && !strings.Contains(honestName(raw[i].Body), "evil.py") {
			tricked++
		}
	}
	t.Logf("%d bodies accepted, %d refused; Werkzeug finds a hidden file in %d of them as they came", accepted, refused, tricked)
	if accepted < 300 || refused < 300 || tricked < 10 {
		t.Error("the grammar says little")
	}
}

// honestName is what Go's parser makes of the first part's file name.
func honestName(b []byte) string {
	p, err := NewReader(bytes.NewReader(b), "XX").NextRawPart()
	if err != nil {
		return ""
	}
	return p.FileName()
}

// shapes makes bodies out of pieces that parsers disagree about.
func shapes() []string {
	const hostile = "Content-Disposition: form-data; name=\"g\"; filename=\"evil.py\"\r\n\r\nBB"
	dispositions := []string{
		`form-data; name="f"; filename="a.png"`, `form-data; name='f'; filename='a.py'`, `form-data; name=f; filename=a.png`, `form-data; name="f"; filename="a.png"; filename="evil.py"`,
		`form-data; name="f"; filename*=UTF-8''evil.py`, `form-data; name="f"; filename="a.png"; filename*=UTF-8''b.png`, `form-data; name="f"; filename*=UTF-8''b.png; filename="a.png"`,
		`form-data; name="f"; filename*0="evil"; filename*1=".py"`, `form-data; name="f"; filename="a\".png\";evil.py"`, `form-data; name="f"; filename="../../etc/x.py"`,
		`form-data; name="f"; filename="C:\\x\\a.py"`, "form-data; name=\"f\"; filename=\"evil.py\x00.png\"", "form-data; name=\"f\";\r\n filename=\"evil.py\"", `form-data; name="f"`,
		`form-data; name="f"; filename=""`, `form-data; name ="f"; filename ="evil.py"`, `form-data; name="f" filename="evil.py"`, `attachment; name="f"; filename="evil.py"`, `FORM-DATA; NAME="f"; FILENAME="evil.py"`,
		`form-data; name="f"; filename="evil%2epy"`, `form-data; name="f"; filename="=?UTF-8?B?ZXZpbC5weQ==?="`, `form-data; name*=utf-8''f; filename="evil.py"`, `form-data; name="f"; filename="a.png;evil.py"`,
		`form-data; name="f"; filename="evil.py`, `form-data; name="ü"; filename="ü☃.png"`, "form-data; name=\"f\"; filename=\"\xfc.png\"", `form-data; name="a%22b"; filename="c%22d"`, `form-data; name="_charset_"`,
		`form-data; name="a\\"; filename="b\\"`, `form-data; name="x[y]"; filename="-; name=z; filename=evil.py"`, `form-data; name=""; filename="a"`, `form-data; name="f"; filename*=iso-8859-1''%FC.png`,
	}
	types := []string{"", "Content-Type: image/png\r\n", "Content-Type: text/html; charset=utf-7\r\n", "Content-Type: image\r\n", "content-type: multipart/mixed; boundary=YY\r\n", "Content-Type: image/png\r\nContent-Type: text/html\r\n",
		"Content-Transfer-Encoding: base64\r\n", "Content-Length: 1\r\n", "X-A: b\r\nX-A: c\r\n", "X-A: b\r\n", "garbage\r\n", "X : y\r\n", " X: y\r\n", "X:\r\n"}
	contents := []string{"DATA", "", "\r\n", "\n", "A\r\n--X", "A\n--XX\n" + hostile, "A\r--XX\r" + hostile, "A\r\n--XX\n" + hostile, "A\r\n--XX \r\n" + hostile, "A\r\n--XXEXTRA\r\n" + hostile, "A\n--XX\r\n" + hostile, "A\n--XX--\r\n", "\xff\xfe\x00", "--XX", "A\r\n--XX\x0b\r\n" + hostile, "A\r\n--XX\r\n" + hostile}
	var out []string
	for i, d := range dispositions {
		for j, k := range types {
			for l, c := range contents {
				if i > 2 && (i+j+l)%3 != 0 && j > 1 && l > 1 {
					continue // every pair, and a third of the triples
				}
				out = append(out, "--XX\r\nContent-Disposition: "+d+"\r\n"+k+"\r\n"+c+"\r\n--XX--\r\n")
			}
		}
	}
	whole := body(dispositions[0], "DATA")
	return append(out, "junk\r\n"+whole, "junk"+whole, "\r\n"+whole, whole+body(`form-data; name="g"; filename="evil.py"`, "BB"), whole[:len(whole)-8], strings.ReplaceAll(whole, "\r\n", "\n"), strings.ReplaceAll(whole, "\r\n", "\r"),
		strings.Replace(whole, "Disposition:", "Disposition :", 1), "--XX--\r\n", "--XX--", "\n"+whole, "")
}

func BenchmarkIndex(b *testing.B) {
	in := []byte("--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n" + string(random(10<<20)) + "\r\n--XX--\r\n")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Index(bytes.NewReader(in), int64(len(in)), "XX", 10); err != nil {
			b.Fatal(err)
		}
	}
}
