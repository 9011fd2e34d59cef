package authn

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// Who reads nothing of an unverified token but who says to have made it looks
// for the key, if the project verifies tokens at all.
func TestOnlyIssuer(t *testing.T) {
	const verifies = "\ndef good(token):\n    return jwt.decode(token, KEY, algorithms=[\"HS256\"])\n"
	const peek = "import jwt\n\ndef who(token):\n    claims = jwt.decode(token, options={\"verify_signature\": False})\n    return "
	for text, want := range map[string]audit.Confidence{
		peek + "claims.get(\"iss\")\n" + verifies:                    audit.Possible,
		peek + "claims[\"iss\"], claims[\"aud\"]\n" + verifies:       audit.Possible,
		peek + "claims.get(\"iss\")\n":                               audit.Certain,
		peek + "claims.get(\"sub\")\n" + verifies:                    audit.Certain,
		peek + "claims\n" + verifies:                                 audit.Certain,
		peek + "claims[\"iss\"] and claims[\"name\"]\n" + verifies:   audit.Certain,
		peek + "load(claims) if claims[\"iss\"] else 0\n" + verifies: audit.Certain,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		found := audit.Run(context.Background(), p, proofRules, audit.Options{}).Findings
		if len(found) != 1 || found[0].Rule.ID != "DW-AUTHN-003" || found[0].Sure() != want {
			t.Errorf("%d findings %v of\n%s", len(found), found, text)
		}
	}
}

// A view beside those that change something and ask for a login is a finding if
// it is seen to change something, too, and a hint if it may be a search.
func TestOpenBesideChanging(t *testing.T) {
	app := "from flask import Flask, request, render_template\nfrom flask_login import login_required\nfrom models import Thing, db\napp = Flask(__name__)\n"
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		app += "\n@app.post(\"/" + n + "\")\n@login_required\ndef " + n + "():\n    db.session.add(Thing(request.form[\"x\"]))\n    db.session.commit()\n    return \"\"\n"
	}
	for body, want := range map[string]audit.Confidence{
		"    db.session.add(Thing(request.form[\"x\"]))\n    db.session.commit()\n    return \"\"\n": audit.Likely,
		"    return render_template(\"found.html\", q=request.form[\"q\"])\n":                        audit.Possible,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(app+"\n@app.post(\"/open\")\ndef opened():\n"+body), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		some := false
		for _, f := range audit.Run(context.Background(), p, Control.Rules, audit.Options{}).Findings {
			if f.Rule.ID == "DW-AUTHN-004" {
				some = true
				if f.Sure() != want {
					t.Errorf("%v, want %v, of\n%s", f.Sure(), want, body)
				}
			}
		}
		if !some {
			t.Errorf("nothing is found of\n%s", body)
		}
	}
}
