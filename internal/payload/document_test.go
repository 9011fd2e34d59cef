package payload

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// documentCases are documents that ask their reader for more than data, and
// those that honest clients send.
var documentCases = []struct {
	language      string
	breaks, plain []string
}{
	{"xml", []string{
		`<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>`, `<?xml version="1.0"?><!-- a --><?b c?>` + "\n" + `<!DOCTYPE r SYSTEM "http://x.example/"><r/>`, "\xef\xbb\xbf<!DOCTYPE r><r/>",
		"<\x00!\x00D\x00O\x00C\x00T\x00Y\x00P\x00E\x00", "\xfe\xff\x00<\x00!\x00D\x00O\x00C\x00T\x00Y\x00P\x00E", `<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE r>`, "<?xml version='1.0' encoding='IBM037'?><r/>", "<?xml version='1.0' encoding='ISO-2022-KR'?><r/>",
		"garbage <!DOCTYPE r [<!ENTITY % a SYSTEM 'x'> %a;]>", "\x4c\x6f\xa7\x94\x93", "PCFET0NUWVBFIHI+PHIvPg==",
	}, []string{
		`<?xml version="1.0" encoding="ISO-8859-1"?><order><item n="1"/></order>`, `<rss><![CDATA[<!DOCTYPE html><p>]]></rss>`, "<a>&lt;!DOCTYPE&gt;</a>", "<!-- <!DOCTYPE r> --><r/>", "", "text", "<\x00r\x00/\x00>\x00", "<?xml version='1.0' encoding=\"utf-8\" standalone='yes'?>\n<!-- <?xml encoding='utf-7'?> -->\n<r/>",
	}},
	{"yaml", []string{
		"!!python/object/apply:os.system ['id']", "a: 1\nb: !!python/name:os.system", "[!!python/tuple [1]]", "!<tag:yaml.org,2002:python/name:os.system> x", "%TAG ! tag:yaml.org,2002:python/\n--- !name:os.system", "&a !!pytho%6e/name:os.system", "- !include /etc/passwd",
		"\xff\xfe!\x00!\x00p\x00y\x00t\x00h\x00o\x00n\x00/\x00x\x00", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]",
		"ISFweXRob24vbmFtZTpvcy5zeXN0ZW0=",
	}, []string{
		"- name: chair\n  price_cents: 100\n", "note: Great!!! Really\nq: \"!!x\"\n", "a: &x {b: 1}\nc: [" + strings.Repeat("*x, ", 60) + "1]", "a: !!str 1\nb: !!set {a, b}", "x: '!y'", "", "alert: \"[!NOTE]\"\n# !important\n", "- \"\\u0021!python/name:os\"",
	}},
	{"pickle", []string{
		"cos\nsystem\n(S'id'\ntR.", "gASVHQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAJpZJSFlFKULg==", "(S'id'\nios\nsystem\n.", "K\x01.cos\nsystem\n.", "N0cbuiltins\neval\n",
		// The memo of Python: a place that is taken twice counts once, and 1_0 is ten.
		"gASMCGRhdGV0aW1lcQFxATCMBXBvc2l4lDCMBGRhdGVxAnECMIwGZ2V0cGlklDBoAWgCkylSLg==",
		"gASMBXBvc2l4cDFfMAowjAZnZXRwaWRwMV8xCjCMCGRhdGV0aW1lcDAKMGcxXzAKjARkYXRlcDAKMGcxXzEKkylSLg==",
	}, []string{
		"gASVDwAAAAAAAABdlChLAUsCSwOMAWGUZS4=", "(lp0\nI1\naI2\na.", "hello", "", "user@shop.example", "\x80\x03cdatetime\ndate\nq\x00C\x04\x07\xea\x01\x02q\x01\x85q\x02Rq\x03.", "c\n\n",
	}},
	{"jsonpickle", []string{
		`{"py/object": "os.Popen"}`, `[{"a": {"\u0070y/reduce": [{"py/type": "os.system"}, {"py/tuple": ["id"]}]}}]`, `{"py/repr": "os/os.system('id')"}`, `{"a": NaN, "py/object": "x"}`, `{"a": NaN, "py\/object": "x"}`, "\xff\xfe{\x00\"\x00p\x00y\x00/\x00o\x00b\x00j\x00e\x00c\x00t\x00\"\x00:\x001\x00}\x00", "{\x00\"\x00p\x00y\x00/\x00t\x00y\x00p\x00e\x00\"\x00:\x001\x00}\x00", "eyJweS9vYmplY3QiOiAieCJ9",
	}, []string{`{"a": [1, {"py/tuple": [1, 2]}], "b": "py"}`, "[]", "", "text", `{"happy/object": 1}`}},
}

func TestDocuments(t *testing.T) {
	seen := []string{}
	for _, c := range documentCases {
		seen = append(seen, c.language)
		s := Sink{Language: c.language}
		for _, d := range c.breaks {
			if s.BreaksDocument([]byte(d), true) == "" {
				t.Errorf("%s: %q is taken", c.language, d)
			}
		}
		for _, d := range c.plain {
			if why := s.BreaksDocument([]byte(d), true); why != "" {
				t.Errorf("%s: %q is refused: %s", c.language, d, why)
			}
			if why := s.Breaks(d); why != "" && !strings.Contains(d, "\x00") {
				t.Errorf("%s, in a field: %q is refused: %s", c.language, d, why)
			}
		}
	}
	if !slices.Equal(seen, Documents) {
		t.Errorf("cases for %v, want %v", seen, Documents)
	}
	// What is longer than is looked at passes only if the rest cannot matter.
	for language, want := range map[string]string{"xml": "", "yaml": tooLong, "pickle": "", "jsonpickle": tooLong} {
		if why := (Sink{Language: language, Spot: "raw"}).BreaksDocument([]byte("<r/>"), false); why != want {
			t.Errorf("%s, cut off: %q", language, why)
		}
	}
	if why := (Sink{Language: "xml"}).BreaksDocument([]byte("<!-- "+strings.Repeat("x", 5000)), false); why != tooLong {
		t.Errorf("a prolog without end: %q", why)
	}
	// Where the source reads the bytes as they come, Base64 is text.
	if why := (Sink{Language: "xml", Spot: "raw"}).BreaksDocument([]byte("PCFET0NUWVBFIHI+PHIvPg=="), true); why != "" {
		t.Errorf("raw Base64: %s", why)
	}
}

// Documents that are made to take long: a judge that goes over them once for
// each of their characters is not through when go test gives up.
func TestDocumentsThatTakeLong(t *testing.T) {
	const n = 1 << 20
	for _, doc := range map[string]string{
		"bangs": strings.Repeat("!", n), "one word with bangs": strings.Repeat("a!", n/2), "bangs behind blanks": strings.Repeat(" !", n/2), "tags of one line": strings.Repeat("[!a", n/3), "anchors": strings.Repeat("&a ", n/3) + "!x",
		"aliases": "a: &a 1\nb: [" + strings.Repeat("*a,", n/3) + "]", "comments": strings.Repeat("<!---->", n/7), "opcodes": strings.Repeat("N", n), "lines": strings.Repeat("S\n", n/2), "memo": strings.Repeat("Nq\x01", n/3), "long blanks": strings.Repeat(" ", n) + "!a",
	} {
		for _, l := range Documents {
			Sink{Language: l}.BreaksDocument([]byte(doc), true)
		}
	}
}

// TestDocumentsAsPythonReadsThem: whatever has Python's readers name an object
// or take a document type is refused, and what programs write is not.
func TestDocumentsAsPythonReadsThem(t *testing.T) {
	py := "../../.venv/bin/python"
	if p := os.Getenv("DEWAR_PYTHON"); p != "" {
		py = p
	}
	if out, err := exec.Command(py, "-c", "import yaml").CombinedOutput(); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatalf("no Python with PyYAML: %v %s", err, out)
		}
		t.Skipf("SKIPPED: no Python with PyYAML, run scripts/venv.sh: %v %s", err, out)
	}
	cmd := exec.Command(py, "testdata/documents.py")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v %s", err, &errs)
	}
	harmful, plain := map[string]int{}, map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c struct {
			Language    string
			Data        []byte
			Harm, Plain bool
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		why := Sink{Language: c.Language}.BreaksDocument(c.Data, true)
		switch {
		case c.Harm:
			harmful[c.Language]++
			if why == "" {
				t.Errorf("%s: %q is taken", c.Language, c.Data)
			}
		case c.Plain:
			plain[c.Language]++
			if why != "" {
				t.Errorf("%s: %q is refused: %s", c.Language, c.Data, why)
			}
		}
	}
	for _, l := range []string{"pickle", "yaml", "xml"} {
		if harmful[l] < 100 || plain[l] < 10 {
			t.Errorf("%s: %d harmful and %d plain documents: too few", l, harmful[l], plain[l])
		}
	}
}

func FuzzDocument(f *testing.F) {
	for i, c := range documentCases {
		for _, d := range append(c.breaks, c.plain...) {
			f.Add(uint8(i), []byte(d))
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, d []byte) {
		l := Documents[int(i)%len(Documents)]
		raw := Sink{Language: l, Spot: "raw"}
		why := raw.BreaksDocument(d, true)
		// What harms as it is harms where it is not known whether it is that.
		if why != "" && (Sink{Language: l}).BreaksDocument(d, true) == "" {
			t.Fatalf("%s: %q passes where less is known", l, d)
		}
		if why != "" {
			return
		}
		// Nor is it any better in Base64.
		wrapped := []byte(base64.StdEncoding.EncodeToString(d))
		if inner := (Sink{Language: l}).BreaksDocument(wrapped, true); inner != "" && !strings.Contains(inner, "in Base64") && !strings.Contains(inner, "compressed") {
			t.Fatalf("%s: %q in Base64: %s", l, d, inner)
		}
	})
}
