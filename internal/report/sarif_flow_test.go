package report

import (
	"net/url"
	"slices"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

func TestSARIFFlowImportance(t *testing.T) {
	k := &audit.Rule{ID: "DW-X-001", CWE: []int{89, 564}}
	f := audit.Finding{Rule: k, Trace: []audit.Step{{Note: "source"}, {Note: "through"}, {Note: "sink"}}}
	var got []string
	for _, l := range resultSARIF(f, 0, func(string) []byte { return nil }).CodeFlows[0].ThreadFlows[0].Locations {
		got = append(got, l.Location.Message.Text+" "+l.Importance)
	}
	if want := []string{"source essential", "through important", "sink essential"}; !slices.Equal(got, want) {
		t.Errorf("flow %q, want %q", got, want)
	}
	if tags, want := ruleSARIF(k).Properties.Tags, []string{"external/cwe/cwe-089", "external/cwe/cwe-564"}; !slices.Equal(tags[:2], want) {
		t.Errorf("tags %q do not begin with %q", tags, want)
	}
}

// TestSARIFArtifact: a reader that resolves the URI against the project comes
// to the file, whatever its name.
func TestSARIFArtifact(t *testing.T) {
	base, err := url.Parse("file:///project/")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"app.py", "a/b.py", "C:app.py", "a:7:b.py", "a/b:c.py", "with space#and?.py", "100%41.py", "\xff.py"} {
		ref, err := url.Parse(artifact(file).URI)
		if err != nil {
			t.Errorf("%q: %v", file, err)
			continue
		}
		if got := base.ResolveReference(ref); got.Scheme != "file" || got.Path != "/project/"+file {
			t.Errorf("%q is at %q", file, got)
		}
	}
}
