package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/policy"
)

// fieldCase is a request whose fields are read here and by Werkzeug.
type fieldCase struct{ Query, Type, Body string }

func (c fieldCase) read() (Fields, error) {
	r := httptest.NewRequest("POST", "/", strings.NewReader(c.Body))
	r.URL = &url.URL{Path: "/", RawQuery: c.Query}
	r.Header.Set("Content-Type", c.Type)
	x := &Exchange{Request: r}
	defer x.closeBody()
	f, err := x.Fields()
	return append(Fields(nil), f...), err
}

// TestFieldsOfReplacedBody: a body that a layer put together is read as any.
func TestFieldsOfReplacedBody(t *testing.T) {
	for kind, body := range map[string]string{formType: "a=1&b=2", "application/json": `{"a":"1","b":"2"}`} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
		x := &Exchange{Request: r}
		if _, err := x.Buffer(); err != nil {
			t.Fatal(err)
		}
		x.ReplaceBody(kind, strings.NewReader(body), int64(len(body)))
		f, err := x.Fields()
		in := policy.Form
		if kind != formType {
			in = policy.JSON
		}
		if v, _ := f.Get(in, "b"); err != nil || v != "2" {
			t.Errorf("%s: %v, %v", kind, f, err)
		}
		x.closeBody()
	}
}

const (
	formType = "application/x-www-form-urlencoded"
	multi    = "multipart/form-data; boundary=cut"
)

// part returns one part of a multipart body.
func part(header, value string) string {
	return "--cut\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + value + "\r\n"
}

// fieldCases are requests that parsers are known to read in different ways.
var fieldCases = []fieldCase{
	{Query: "a=1&a=2&b"}, {Query: "=x&&a=&=&a==b"}, {Query: "a;b=1;c=2"}, {Query: "a[]=1&a[]=2&a[x]=3"}, {Query: "a%5B%5D=%31"},
	{Query: "q=a+b%20c%2Bd&a+b=c+d"}, {Query: "q=%"}, {Query: "q=%4"}, {Query: "q=%zz%41"}, {Query: "q=%C3%A9&p=%C3&o=%E2%82&n=%FF%FE"}, {Query: "q=%c3é"}, {Query: "é=%F0%9F%98%80"}, {Query: "q=%00&%00=1"},
	{Query: "q=\xff"}, {Query: "q=%u0041"}, {Query: "q=%ED%A0%80"}, {Query: "a%3Db=c&a=b%26c"}, {Query: "A=1&a=2"}, {Query: "a.b=1&a%2eb=2"},
	{Type: formType, Body: "a=1&a=2&b&=c&c="}, {Type: formType + "; charset=utf-16", Body: "a=%C3%A9"}, {Type: formType + ";charset=iso-8859-1", Body: "a=%E9"}, {Type: "APPLICATION/X-WWW-Form-Urlencoded ", Body: "a=1"},
	{Type: formType, Body: "a=\xe9"}, {Type: formType, Body: "a=1\r\n"}, {Type: formType, Body: "a=1;b=2"}, {Type: formType, Body: ""}, {Type: "text/plain", Body: "a=1"}, {Type: "", Body: "a=1"}, {Type: formType, Body: "\ufeffa=1"},
	{Query: "a=query", Type: formType, Body: "a=form"},
	{Type: multi, Body: part(`name="a"`, "1") + part(`name="a"`, "2") + part(`name="b"`, "") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="f"; filename="x.txt"`, "content\r\n--cu\r\n") + part(`name="a"`, "after") + "--cut--"},
	{Type: multi, Body: part(`name="f"; filename=""`, "") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="a%22b"; filename="c%22.txt"`, "x") + part(`name="q\"r"`, "v") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="f"; filename="plain.txt"; filename*=UTF-8''%e2%82%ac.txt`, "x") + part(`name="g"; filename*=utf-8''first.txt; filename="last.txt"`, "x") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="f"; filename*=iso-8859-1''%e9.txt`, "x") + part(`name="f"; filename*=utf-8''%e9.txt`, "x") + "--cut--\r\n"},
	{Type: multi, Body: part(`name*=utf-8''a`, "1") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="a"; name="b"`, "1") + "--cut--\r\n"},
	{Type: multi, Body: "preamble\r\n" + part(`name="a"`, "1") + "--cut--\r\n"},
	{Type: multi, Body: "\r\n" + part(`name="a"`, "1") + "--cut--\r\nepilogue --cut"},
	{Type: multi, Body: strings.ReplaceAll(part(`name="a"`, "1")+part(`name="b"`, "2")+"--cut--\r\n", "\r\n", "\n")},
	{Type: multi, Body: part(`name="f"; filename="x"`, "data\n--cut\nContent-Disposition: form-data; name=\"hidden\"\n\nvalue") + "--cut--\r\n"},
	{Type: multi, Body: part(`name="a"`, "1")}, {Type: multi, Body: part(`name="a"`, "1") + "--cut"}, {Type: multi, Body: "--cut--\r\n"},
	{Type: "multipart/form-data", Body: part(`name="a"`, "1") + "--cut--\r\n"},
	{Type: "multipart/form-data; boundary=other; boundary=cut", Body: part(`name="a"`, "1") + "--cut--\r\n"},
	{Type: `multipart/form-data; charset=utf-8; boundary="cut"`, Body: part(`name="a"`, "1") + "--cut--\r\n"},
	{Type: "multipart/form-data; boundary*=utf-8''cut", Body: part(`name="a"`, "1") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"a\"\r\nContent-Type: text/plain; charset=iso-8859-1", "\xe9") + part("name=\"a\"\r\nContent-Type: text/plain; charset=\"ASCII\"", "\xe9x") + part("name=\"a\"\r\nContent-Type: text/plain; charset=utf-16", "a\xe2\x82b\xf0\x9f\x98\xed\xa0\x80\xff") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"a\"\r\nContent-Type: text/plain; charset=utf-8; charset=iso-8859-1", "\xe9") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"a\"\r\nContent-Type: text/plain; charset*=utf-8''iso-8859-1", "\xe9") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"\xe9\"", "1") + "--cut--\r\n"}, {Type: multi, Body: part("name=\"é\"", "1") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"a\"\r\nContent-Transfer-Encoding: base64", "MTIz") + "--cut--\r\n"},
	{Type: multi, Body: part("name=\"a\"", "1\r\n--cut \r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2") + "--cut--\r\n"},
	{Type: "application/json", Body: `{"a": 1, "b": {"c": [true, null, {"d": "x"}]}, "a": "again", "e": [], "": {"": 2}}`},
	{Type: "application/json", Body: `[1.50, -0, 1e9, 1E+2, NaN, Infinity, -Infinity, "\u00e9\ud83d\ude00\ud800x\/\b"]`},
	{Type: "application/json", Body: `[{"a": 1}, {"a": 2, "b.c": 3}]`}, {Type: "application/json", Body: `"text"`}, {Type: "application/json", Body: " 7 "},
	{Type: "application/json", Body: `{"a": 1} x`}, {Type: "application/json", Body: `{"a": 1,}`}, {Type: "application/json", Body: `{a: 1}`}, {Type: "application/json", Body: `{'a': 1}`}, {Type: "application/json", Body: "{\"a\": \"x\ty\"}"},
	{Type: "application/json", Body: `{"a": 01}`}, {Type: "application/json", Body: `{"a": 1.}`}, {Type: "application/json", Body: `{"a": .5}`}, {Type: "application/json", Body: `{"a": +1}`}, {Type: "application/json", Body: `{"a": 1e}`}, {Type: "application/json", Body: `[1 2]`}, {Type: "application/json", Body: `{"a": "\x41"}`}, {Type: "application/json", Body: `{"a": "\u00g0"}`},
	{Type: "application/json", Body: "\ufeff{\"a\": 1}"}, {Type: "application/json", Body: "{\"a\": \"\xff\"}"}, {Type: "application/json; charset=latin-1", Body: `{"a": "é"}`}, {Type: "application/vnd.api+json", Body: `{"a": 1}`},
	{Type: "application/json", Body: "{\"a\": 1}\x00"}, {Type: "application/json", Body: "{\u00a0\"a\": 1}"}, {Type: "application/json", Body: `{"\u0061": 1, "a\u0000b": 2}`},
}

// oracle prints, for each request, what Werkzeug makes of it, in our words;
// null where it fails.
const oracle = `
import base64, io, json, sys
from werkzeug.wrappers import Request
def flatten(out, v, name, keys, inlist):
    kind, text, below = v
    out.append(["json", name, text, kind])
    if kind == "dict":
        for k, w in below:
            flatten(out, w, name + "." + k if keys else k, keys + 1, inlist)
    elif kind == "list":
        for w in below:
            flatten(out, w, name, keys, True)
def typed(v):
    if isinstance(v, tuple): return v
    if isinstance(v, str): return ("str", v, ())
    if v is True: return ("bool", "true", ())
    if v is False: return ("bool", "false", ())
    if v is None: return ("None", "null", ())
    return ("list", "", [typed(w) for w in v])
number = lambda s: ("number", s, ())
def loads(data):
    return typed(json.loads(data, parse_int=number, parse_float=number, parse_constant=number, object_pairs_hook=lambda p: ("dict", "", [(k, typed(v)) for k, v in p])))
result = []
for query, kind, body in json.load(sys.stdin):
    raw = base64.b64decode(body)
    r = Request({"REQUEST_METHOD": "POST", "QUERY_STRING": base64.b64decode(query).decode("latin1"), "CONTENT_TYPE": base64.b64decode(kind).decode("latin1"), "CONTENT_LENGTH": str(len(raw)), "wsgi.input": io.BytesIO(raw), "SERVER_NAME": "x", "SERVER_PORT": "80", "wsgi.url_scheme": "http"})
    out = []
    try:
        out += [["query", k, v, ""] for k, v in r.args.items(multi=True)]
        if r.is_json and raw:
            flatten(out, loads(raw), "", 0, False)
        else:
            out += [["form", k, v, ""] for k, v in r.form.items(multi=True)]
            out += [["file", k, f.filename, ""] for k, f in r.files.items(multi=True)]
    except Exception as e:
        out = None
    result.append(out)
json.dump(result, sys.stdout)
`

func werkzeug(t testing.TB, cases []fieldCase) [][][4]string {
	t.Helper()
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
	var in [][3][]byte
	for _, c := range cases {
		in = append(in, [3][]byte{[]byte(c.Query), []byte(c.Type), []byte(c.Body)})
	}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, "-c", oracle)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][][4]string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(cases) {
		t.Fatalf("%d answers to %d requests", len(want), len(cases))
	}
	return want
}

// agrees compares the fields read here with Werkzeug's. Where there was no
// error here, every field of Werkzeug's is among ours, and no other, except
// guessed JSON. Werkzeug puts the values of a name together, so only their
// order within a name counts.
func agrees(f Fields, want [][4]string) string {
	byName := func(list [][4]string) map[string][]string {
		m := map[string][]string{}
		for _, w := range list {
			key := w[0] + "\x00" + w[1]
			m[key] = append(m[key], w[3]+"\x00"+w[2])
		}
		return m
	}
	var got [][4]string
	for _, v := range f {
		if !v.Guessed {
			got = append(got, [4]string{v.In, v.Name, v.Value, v.Kind.String()})
		}
	}
	a, b := fmt.Sprintf("%q", byName(got)), fmt.Sprintf("%q", byName(want))
	if a != b {
		return a + "\n want " + b
	}
	return ""
}

func TestFieldsAreWerkzeugs(t *testing.T) {
	cases := append([]fieldCase(nil), fieldCases...)
	r := rand.New(rand.NewPCG(3, 5))
	pieces := []string{"a", "b=", "&", "&&", "=", "+", "%41", "%C3", "%A9", "%", "%4", "é", ";", "[]", "%00", "%26", "%3D", "\t", "\"", "%ED%A0%80", "%F0%9F"}
	for range 400 {
		s := ""
		for range r.IntN(12) {
			s += pieces[r.IntN(len(pieces))]
		}
		cases = append(cases, fieldCase{Query: s}, fieldCase{Type: formType, Body: s})
	}
	// One byte more, less or other in the bodies above.
	for range 4000 {
		c := fieldCases[r.IntN(len(fieldCases))]
		if c.Body == "" {
			continue
		}
		i := r.IntN(len(c.Body))
		odd := []string{"\r", "\n", "\r\n", "\"", ";", " ", "=", "%", "\\", "-", "--cut", "\x00", "\xe9", "{", "}", "[", "]", ",", "0", "*", "\v", ":"}[r.IntN(22)]
		switch r.IntN(3) {
		case 0:
			c.Body = c.Body[:i] + odd + c.Body[i:]
		case 1:
			c.Body = c.Body[:i] + odd + c.Body[i+1:]
		default:
			c.Body = c.Body[:i] + c.Body[i+1:]
		}
		cases = append(cases, c)
	}
	read, refused := 0, 0
	for i, want := range werkzeug(t, cases) {
		c := cases[i]
		f, err := c.read()
		switch {
		case err != nil && !strings.HasPrefix(c.Type, "multipart/") && slices.ContainsFunc(want, func(w [4]string) bool { return w[0] != policy.Query }):
			// Only multipart is refused for being odd; a form with bytes
			// that are no UTF-8 is an empty one to Werkzeug.
			t.Errorf("%q: %v, and Werkzeug reads %q", c, err, want)
		case err != nil:
			refused++
		case want == nil:
			t.Errorf("%q: read as %v, and Werkzeug cannot", c, f)
		default:
			read++
			if diff := agrees(f, want); diff != "" {
				t.Errorf("%q:\n  got %s", c, diff)
			}
		}
	}
	t.Logf("%d requests: %d read alike, %d refused", len(cases), read, refused)
	if read < 1500 || refused < 300 {
		t.Errorf("%d requests read, %d refused: the comparison says little", read, refused)
	}
}

func TestFields(t *testing.T) {
	f, err := fieldCase{Query: "a=1&a=2", Type: "application/json", Body: `{"a": "x", "a": "y", "l": [{"n": 1}, {"n": 2}]}`}.read()
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := f.Get(policy.Query, "a"); v != "1" || !ok {
		t.Errorf("the query's a: %q %v", v, ok)
	}
	if v, ok := f.Get(policy.JSON, "a"); v != "y" || !ok {
		t.Errorf("the JSON's a: %q %v", v, ok)
	}
	if _, ok := f.Get(policy.Form, "a"); ok {
		t.Error("there is no form")
	}
	if n := f.Count(policy.JSON, "l.n"); n != 2 {
		t.Errorf("l.n: %d", n)
	}
	for _, v := range f {
		if v.Name == "l.n" && (!v.InList || v.Depth != 2 || v.Kind != JSONNumber) {
			t.Errorf("%+v", v)
		}
	}
	// What may be read as JSON whatever it says that it is.
	for _, kind := range []string{"text/plain", formType, "application/octet-stream"} {
		f, err := fieldCase{Type: kind, Body: `{"a": "x"}`}.read()
		if v, ok := f.Get(policy.JSON, "a"); v != "x" || !ok || err != nil {
			t.Errorf("%s: %q %v %v", kind, v, ok, err)
		}
	}
	for _, c := range []struct {
		fieldCase
		want error
	}{
		{fieldCase{Query: strings.Repeat("a=1&", MaxFields+1)}, ErrFieldsTooMany},
		{fieldCase{Type: "application/json", Body: strings.Repeat("[", 1000) + strings.Repeat("]", 1000)}, ErrFieldsMalformed},
		{fieldCase{Type: "application/json", Body: "[" + strings.Repeat("1,", MaxFields) + "1]"}, ErrFieldsTooMany},
		{fieldCase{Type: formType, Body: "a=" + strings.Repeat("x", MaxFieldBytes)}, ErrFieldsTooMany},
		{fieldCase{Type: multi, Body: part(`name="a"`, strings.Repeat("x", MaxFieldBytes)) + "--cut--\r\n"}, ErrFieldsTooMany},
		{fieldCase{Type: "application/json", Body: "\xff\xfe{\x00}\x00"}, ErrFieldsMalformed},
	} {
		if _, err := c.read(); !errors.Is(err, c.want) {
			t.Errorf("%.40q: %v, want %v", c.Body, err, c.want)
		}
	}
	// A file of any size is passed over; the field behind it is read. The
	// body is in a file then.
	f, err = fieldCase{Type: multi, Body: part(`name="f"; filename="big"`, strings.Repeat("x", 3<<20)) + part(`name="a"`, "1") + "--cut--\r\n"}.read()
	if v, _ := f.Get(policy.Form, "a"); v != "1" || err != nil {
		t.Errorf("behind a file: %q %v", v, err)
	}
}

func TestFieldsOfBodiesThatAreNotHere(t *testing.T) {
	r := httptest.NewRequest("POST", "/?a=1", io.NopCloser(strings.NewReader("b=2")))
	r.Header.Set("Content-Type", formType)
	r.ContentLength = 3
	x := &Exchange{Request: r, Override: &Override{Stream: true}}
	if f, err := x.Fields(); len(f) != 1 || err != nil {
		t.Errorf("a body that streams: %v %v", f, err)
	}
	r = httptest.NewRequest("POST", "/?a=1", strings.NewReader("b=2"))
	r.ContentLength = 9
	r.Header.Set("Content-Type", formType)
	x = &Exchange{Request: r}
	if f, err := x.Fields(); len(f) != 1 || !errors.Is(err, ErrBodyIncomplete) {
		t.Errorf("a body that is cut: %v %v", f, err)
	}
	r = httptest.NewRequest("GET", "/?a=1", nil)
	x = &Exchange{Request: r}
	if f, err := x.Fields(); len(f) != 1 || err != nil {
		t.Errorf("no body: %v %v", f, err)
	}
	r.URL.RawQuery = "a=1&b=2"
	if f, _ := x.Fields(); len(f) != 1 {
		t.Error("fields are read twice")
	}
}

func FuzzFields(f *testing.F) {
	for _, c := range fieldCases {
		f.Add(c.Query, c.Type, c.Body)
	}
	f.Fuzz(func(t *testing.T, query, kind, body string) {
		fields, err := fieldCase{query, kind, body}.read()
		if len(fields) > MaxFields {
			t.Fatalf("%d fields", len(fields))
		}
		n := 0
		for _, v := range fields {
			n += len(v.Name) + len(v.Value)
			if v.In == "" || v.File != (v.In == policy.File) || (v.Kind != NotJSON) != (v.In == policy.JSON) {
				t.Fatalf("%+v", v)
			}
		}
		if n > MaxFieldBytes && err == nil {
			t.Fatalf("%d bytes of fields", n)
		}
	})
}

func BenchmarkFields(b *testing.B) {
	form := strings.Repeat("name=value+with+spaces&other=plain&", 12)
	for _, c := range []struct {
		name string
		fieldCase
	}{
		{"none", fieldCase{}},
		{"query", fieldCase{Query: "q=chair&page=2&sort=price"}},
		{"form24", fieldCase{Type: formType, Body: form}},
		{"json", fieldCase{Type: "application/json", Body: `{"address": "1 Main St", "lines": [{"product": 7, "n": 2}, {"product": 8, "n": 1}], "note": "ring twice"}`}},
		{"multipart", fieldCase{Type: multi, Body: part(`name="a"`, "1") + part(`name="f"; filename="x.png"`, strings.Repeat("x", 64<<10)) + "--cut--\r\n"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			u := &url.URL{Path: "/", RawQuery: c.Query}
			h := http.Header{"Content-Type": {c.Type}}
			body := &Body{memory: []byte(c.Body), size: int64(len(c.Body))}
			r := &http.Request{Method: "POST", URL: u, Header: h, ContentLength: body.size, Body: io.NopCloser(strings.NewReader(""))}
			b.ReportAllocs()
			for b.Loop() {
				x := Exchange{Request: r, body: body}
				if _, err := x.Fields(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestGuessedJSON: what a view gets by get_json(force=True) from a body that
// does not say that it is JSON is seen in every form that json.loads takes.
func TestGuessedJSON(t *testing.T) {
	const text = `{"name": "kim"}`
	wide := func(mark, big bool, width int) string {
		var b []byte
		runes := text
		if mark {
			runes = "\ufeff" + text
		}
		for _, r := range runes {
			var one [4]byte
			for i := range width {
				shift := 8 * i
				if big {
					shift = 8 * (width - 1 - i)
				}
				one[i] = byte(r >> shift)
			}
			b = append(b, one[:width]...)
		}
		return string(b)
	}
	bodies := map[string]string{
		"plain": text, "mark": "\ufeff" + text, "space": strings.Repeat(" \n", 200) + text, "mark and space": "\ufeff" + strings.Repeat(" ", 100) + text,
		"16le": wide(false, false, 2), "16be": wide(false, true, 2), "32le": wide(false, false, 4), "32be": wide(false, true, 4),
		"16le mark": wide(true, false, 2), "16be mark": wide(true, true, 2), "32le mark": wide(true, false, 4), "32be mark": wide(true, true, 4),
	}
	for name, body := range bodies {
		for _, kind := range []string{"text/plain", "application/octet-stream", "application/x-www-form-urlencoded"} {
			if kind == "application/x-www-form-urlencoded" && !utf8.ValidString(body) {
				continue // refused as a form
			}
			r := httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Header.Set("Content-Type", kind)
			x := &Exchange{Request: r}
			fields, err := x.Fields()
			if v, _ := fields.Get(policy.JSON, "name"); v != "kim" || err != nil {
				t.Errorf("%s as %s: %q, %v", name, kind, v, err)
			}
		}
	}
	for _, body := range []string{"\xff\xfeh\x00i\x00", "\x00\x00\x00\x20ftypheic", "   ", "{not JSON", "\xff\xfe{\x00\x00\xd8"} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/octet-stream")
		x := &Exchange{Request: r}
		if fields, err := x.Fields(); len(fields) > 0 || err != nil {
			t.Errorf("%q: %v, %v", body, fields, err)
		}
	}
}
