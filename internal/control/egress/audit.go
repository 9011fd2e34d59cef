package egress

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

var rules = []*audit.Rule{
	{
		ID: "DW-EGRESS-001", Control: "egress",
		Title:    "What a client sends chooses which host the app connects to",
		Why:      "The app stands inside of the network: through it a client reaches the cloud's metadata with its keys, databases, and services that trust whoever can reach them.",
		Fix:      "Take the host from a fixed list, and keep it apart from what a client sends: \"https://api.example.com/\" with the last slash, then the value.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{918}, OWASP: []string{"A01:2025"}, ASVS: []string{"1.3.6"},
		Bad: `import requests
from flask import Flask, request
app = Flask(__name__)

@app.get("/preview")
def preview():
    return {"size": len(requests.get(request.args["url"], timeout=5).content)}
`,
		Good: `import requests
from flask import Flask, request
app = Flask(__name__)

@app.get("/preview")
def preview():
    return {"size": len(requests.get("https://images.example.com/" + request.args["name"], timeout=5).content)}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "url"), func(h *pyflow.Hit) []audit.Danger {
				if slices.Contains(connected, h.Path) {
					return nil
				}
				for _, v := range h.Focus {
					if l, why := hostDanger(v, 0); why != "" {
						return []audit.Danger{{Label: l, Message: "%s chooses where the app connects to: it " + why, Caret: "the connection is made here"}}
					}
				}
				return nil
			})
		},
	},
}

// connected are the methods that take the path of a request on a connection
// whose host is settled.
var connected = []string{
	"http.client.HTTPConnection.request", "http.client.HTTPConnection.putrequest", "http.client.HTTPSConnection.request", "http.client.HTTPSConnection.putrequest",
	"urllib3.HTTPConnectionPool.request", "urllib3.HTTPConnectionPool.urlopen", "urllib3.HTTPSConnectionPool.request", "urllib3.HTTPSConnectionPool.urlopen",
}

// hostDanger says how a labelled piece of a URL, or of an address as sockets
// take it, chooses the host.
func hostDanger(v pyflow.Value, depth int) (l pyflow.Label, why string) {
	if depth > 4 {
		return l, ""
	}
	if len(v.Alternatives) > 0 {
		for _, a := range v.Alternatives {
			if l, why = hostDanger(a, depth+1); why != "" {
				return l, why
			}
		}
		return l, ""
	}
	if v.Kind == pyflow.List && len(v.Items) > 0 {
		return hostDanger(v.Items[0], depth+1) // (host, port)
	}
	for _, t := range audit.Texts(v) {
		for i, p := range t.Pieces {
			labels := audit.Live(p, audit.FromOutside, "url")
			if len(labels) == 0 || audit.HostFixed(t.Pieces, i) || audit.Only(p, pyflow.CharsOf("0123456789")) {
				continue
			}
			switch before := strings.TrimSpace(audit.Before(t.Pieces, i)); {
			case before == "":
				return labels[0], "can be any URL"
			case strings.HasSuffix(before, "//"):
				return labels[0], "is the host's name"
			default:
				return labels[0], "follows the host without a slash between, so @ or . in it make another host"
			}
		}
	}
	return l, ""
}
