package egress

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// A check of the URL that the app's own setting switches off makes a hint of a
// finding; one that the request switches off does not.
func TestSettingDecides(t *testing.T) {
	const app = `from urllib.parse import urlparse
import config
import requests
from flask import Flask, abort, request
app = Flask(__name__)

def allowed(url):
    servers = %s
    if not servers:
        return True
    for server in servers:
        if urlparse(url).hostname != urlparse(server).hostname:
            continue
        return True
    return False

@app.get("/")
def one():
    url = request.args["url"]
    if not allowed(url):
        abort(400)
    return {"size": len(requests.get(url, timeout=5).content)}
`
	for servers, want := range map[string]audit.Confidence{
		`config.SERVERS`:                  audit.Possible,
		`getattr(config, "SERVERS", [])`:  audit.Possible,
		`request.args.getlist("servers")`: audit.Likely,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(fmt.Sprintf(app, servers)), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var found []audit.Finding
		for _, f := range audit.Run(context.Background(), p, rules, audit.Options{}).Findings {
			if f.Rule.ID == "DW-EGRESS-001" {
				found = append(found, f)
			}
		}
		if len(found) != 1 || found[0].Sure() != want {
			t.Errorf("%s: %d findings, %v", servers, len(found), found)
		}
	}
}
