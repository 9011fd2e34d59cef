package report

import (
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
