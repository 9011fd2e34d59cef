package egress

import (
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
)

func TestRules(t *testing.T) { audittest.Run(t, rules) }

// TestChosen looks at how sure DW-EGRESS-002 is: certain where the check is
// off for everybody, possible where a setting or a condition decides.
func TestChosen(t *testing.T) {
	tests := []struct {
		name, body string
		want       audit.Confidence
	}{
		{"literal", "requests.get(URL, verify=False, timeout=5)", audit.Certain},
		{"below another condition", "if URL:\n        requests.get(URL, verify=False, timeout=5)", audit.Certain},
		{"below a setting", "if not OPTIONS.verify_tls:\n        requests.get(URL, verify=False, timeout=5)", audit.Possible},
		{"negated", "requests.get(URL, verify=not DEBUG, timeout=5)", audit.Possible},
		{"either", "requests.get(URL, verify=False if DEBUG else True, timeout=5)", audit.Possible},
		{"session below a setting", "s = requests.Session()\n    if OPTIONS.insecure:\n        s.verify = False", audit.Possible},
	}
	for _, tt := range tests {
		a := txtar.Parse([]byte("-- app.py --\nimport requests\nfrom flask import Flask\nfrom elsewhere import OPTIONS\napp = Flask(__name__)\nURL = \"https://a.example.com/\"\nDEBUG = True\n@app.get(\"/\")\ndef index():\n    " + tt.body + "\n    return {}\n"))
		var got []audit.Confidence
		for _, f := range audit.Run(t.Context(), audittest.Project(t, a), rules, audit.Options{}).Findings {
			if f.Rule.ID == "DW-EGRESS-002" {
				got = append(got, f.Sure())
			}
		}
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: %v, want one finding, %v", tt.name, got, tt.want)
		}
	}
}
