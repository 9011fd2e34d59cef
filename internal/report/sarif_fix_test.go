package report

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dewar-security/dewar/internal/audit"
)

// TestSARIFFixes: who applies the replacements of a result gets what the
// edits make.
func TestSARIFFixes(t *testing.T) {
	text := "é = 'ü😀'; bad()\r\nworse()\n"
	files := map[string][]byte{"a b.py": []byte(text), "latin.py": []byte("\xe9 = 1\n")}
	source := func(name string) []byte { return files[name] }
	at := func(s string) int { return strings.Index(text, s) }
	edits := []audit.Edit{
		{File: "a b.py", Start: 0, End: 0, New: "import x\r\n"},
		{File: "a b.py", Start: at("bad"), End: at("bad") + 3, New: "good"},
		{File: "a b.py", Start: at("worse()"), End: len(text), New: ""},
	}
	r := &AuditReport{Version: "1", Source: source, Findings: []audit.Finding{
		{Rule: sampleRule, Span: audit.Span{File: "a b.py", Line: 1, Column: 1}, Message: "m", Edits: edits},
		{Rule: sampleRule, Span: audit.Span{File: "latin.py", Line: 1, Column: 1}, Message: "m", Edits: []audit.Edit{{File: "latin.py", Start: 0, End: 1, New: "x"}}},
		{Rule: sampleRule, Span: audit.Span{File: "gone.py", Line: 1, Column: 1}, Message: "m", Edits: []audit.Edit{{File: "gone.py"}}},
	}}
	out := render(t, func(b *bytes.Buffer) error { return SARIF(b, r, Screen{}) })
	var log sarifLog
	if err := json.Unmarshal([]byte(out), &log); err != nil {
		t.Fatal(err)
	}
	results := log.Runs[0].Results
	if len(results[0].Fixes) != 1 || results[1].Fixes != nil || results[2].Fixes != nil {
		t.Fatalf("fixes: %s", out)
	}
	fix := results[0].Fixes[0]
	if fix.Description.Text != "mend it" || len(fix.ArtifactChanges) != 1 || fix.ArtifactChanges[0].ArtifactLocation.URI != "a%20b.py" {
		t.Errorf("%+v", fix)
	}
	// Apply them as SARIF counts: lines and characters from 1.
	lines := strings.SplitAfter(text, "\n")
	offset := func(line, column int) int {
		n := 0
		for _, l := range lines[:line-1] {
			n += len([]rune(l))
		}
		return n + column - 1
	}
	got := []rune(text)
	for _, c := range slices.Backward(fix.ArtifactChanges[0].Replacements) {
		new := ""
		if c.InsertedContent != nil {
			new = c.InsertedContent.Text
		}
		d := c.DeletedRegion
		got = slices.Concat(got[:offset(d.StartLine, d.StartColumn)], []rune(new), got[offset(d.EndLine, d.EndColumn):])
	}
	if want := string(audit.ApplyEdits([]byte(text), edits)); string(got) != want {
		t.Errorf("got %q, want %q", string(got), want)
	}

	f, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MustCompile("sarif.json").Validate(v); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
