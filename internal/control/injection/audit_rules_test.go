package injection

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
)

func TestRules(t *testing.T) { audittest.Run(t, rules) }

// A check that the app's own setting switches off makes a hint of a finding;
// one that the request switches off does not.
func TestSettingDecides(t *testing.T) {
	const app = `import os
import pathlib
import config
from flask import Flask, request
app = Flask(__name__)

def look(name):
    if not %s:
        return
    whole = os.path.realpath(os.path.join("/srv/shelf", name))
    try:
        pathlib.Path(whole).relative_to("/srv/shelf")
    except ValueError:
        raise PermissionError(name)

@app.get("/")
def one():
    name = request.args["name"]
    look(name)
    return open(os.path.join("/srv/shelf", name)).read()
`
	for condition, want := range map[string]audit.Confidence{
		"config.STRICT":                audit.Possible,
		`getattr(config, "STRICT", 0)`: audit.Possible,
		`app.config["STRICT"]`:         audit.Possible,
		`request.args.get("STRICT")`:   audit.Likely,
		`request.cookies["unchecked"]`: audit.Likely,
	} {
		dir := t.TempDir()
		text := []byte(fmt.Sprintf(app, condition))
		if err := os.WriteFile(filepath.Join(dir, "app.py"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		found := audit.Run(context.Background(), p, pathRules, audit.Options{}).Findings
		if len(found) != 1 || found[0].Rule.ID != "DW-INJECTION-010" || found[0].Sure() != want {
			t.Errorf("%s: %d findings, %v", condition, len(found), found)
		}
	}
}
