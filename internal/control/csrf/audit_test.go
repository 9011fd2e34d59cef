package csrf

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
)

func TestRules(t *testing.T) { audittest.Run(t, rules) }

// Another site cannot send a secret that it does not know, such as the token in
// the link of a mail; a number or a name it can.
func TestSecretAddress(t *testing.T) {
	const app = `from flask import Flask, session
app = Flask(__name__)
app.secret_key = "x" * 40

@app.get("/joined/<KEY>")
def joined(key):
    member = Member.query.filter_by(key=key).first_or_404()
    member.active = True
    db.session.commit()
    return ""
`
	for key, want := range map[string]audit.Confidence{"token": audit.Possible, "secret": audit.Possible, "int:token": audit.Likely, "name": audit.Likely} {
		dir := t.TempDir()
		name := strings.TrimPrefix(key, "int:")
		text := strings.NewReplacer("KEY", key, "(key)", "("+name+")", "key=key", "key="+name).Replace(app)
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		some := false
		for _, f := range audit.Run(context.Background(), p, rules, audit.Options{}).Findings {
			if f.Rule.ID == "DW-CSRF-005" {
				some = true
				if f.Sure() != want {
					t.Errorf("%s: %v, want %v", key, f.Sure(), want)
				}
			}
		}
		if !some {
			t.Errorf("%s: nothing is found in\n%s", key, text)
		}
	}
}
