package settings

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// flowRules look at what the program sets up while it runs.
var flowRules = []*audit.Rule{
	{
		ID: "DW-SETTINGS-010", Control: "settings",
		Title:    "Everybody on the machine may change a file",
		Why:      "Any other account, or a break-in into any other service, writes what this app then reads, serves or runs.",
		Fix:      "Give only what is needed: 0o600 for what one account reads, 0o640 with a group, 0o750 for programs and folders.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{732, 276}, OWASP: []string{"A02:2025"}, ASVS: []string{"13.3.2"},
		Bad:   "import os\n\ndef keep(path):\n    os.chmod(path, 0o777)\n",
		Good:  "import os\n\ndef keep(path):\n    os.chmod(path, 0o640)\n",
		Check: worldWritable,
	},
	{
		ID: "DW-SETTINGS-011", Control: "settings",
		Title:    "A temporary file has a name that can be known before",
		Why:      "Another account puts a link there first, and the app writes over whatever the link points to, or reads what was put there.",
		Fix:      "Use tempfile.NamedTemporaryFile() or tempfile.mkstemp(), which choose the name and open the file in one step.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{377, 379}, OWASP: []string{"A01:2025"}, ASVS: []string{"5.3.2"},
		Bad:   "import tempfile\n\ndef keep(text):\n    path = tempfile.mktemp()\n    with open(path, \"w\") as f:\n        f.write(text)\n",
		Good:  "import tempfile\n\ndef keep(text):\n    with tempfile.NamedTemporaryFile(\"w\", delete=False) as f:\n        f.write(text)\n",
		Check: guessableFile,
	},
	{
		ID: "DW-SETTINGS-012", Control: "settings",
		Title:    "Whatever site asks may read answers with the visitor's cookies",
		Why:      "The Origin that a request brings is sent back as allowed, with credentials: any page a visitor opens reads what the visitor can read here.",
		Fix:      "Compare the origin with a fixed list before it is sent back, and add Vary: Origin; Flask-CORS does both.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{942, 346}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.4.2"},
		MitigatedBy: []string{"cors"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

@app.after_request
def share(response):
    response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin")
    response.headers["Access-Control-Allow-Credentials"] = "true"
    return response
`,
		Good: `from flask import Flask, request
app = Flask(__name__)
PARTNERS = {"https://www.example.com", "https://shop.example.com"}

@app.after_request
def share(response):
    origin = request.headers.get("Origin")
    if origin in PARTNERS:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
    return response
`,
		Check: reflectedOrigin,
	},
	{
		ID: "DW-SETTINGS-013", Control: "settings",
		Title:    "A traceback goes to the client",
		Why:      "It tells paths, versions, the code around the error and values in it: what an attacker would otherwise have to guess, for every error that can be provoked.",
		Fix:      "Log it with app.logger.exception() and answer with a fixed text, or raise and let Flask answer 500.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{209, 497}, OWASP: []string{"A10:2025"}, ASVS: []string{"16.5.1"},
		MitigatedBy: []string{"mask"},
		Bad: `import traceback
from flask import Flask, request
app = Flask(__name__)

@app.get("/share")
def share():
    try:
        return {"each": 100 / int(request.args["people"])}
    except Exception:
        return {"error": traceback.format_exc()}, 500
`,
		Good: `from flask import Flask, request
app = Flask(__name__)

@app.get("/share")
def share():
    try:
        return {"each": 100 / int(request.args["people"])}
    except Exception:
        app.logger.exception("no share")
        return {"error": "this cannot be shared"}, 500
`,
		Check: shownTraceback,
	},
}

// whileDeveloping finds conditions under which a traceback is meant to be seen.
var whileDeveloping = regexp.MustCompile(`(?i)debug|develop|testing|is_admin|verbose`)

// shownTraceback follows tracebacks into answers.
func shownTraceback(p *audit.Pass) {
	p.Follow(append(p.Hits("sink", "response", "template"), p.Hits("set", "response")...), func(h *pyflow.Hit) []audit.Danger {
		for _, v := range h.Focus {
			for _, l := range audit.LiveIn(v, func(l pyflow.Label) bool { return l.Kind == "traceback" && !audit.Guessed(l) }) {
				if whileDebugging(p, l.At) || whileDebugging(p, h.At) {
					continue
				}
				return []audit.Danger{{Label: l, Message: "%s goes to the client", Caret: "answered here"}}
			}
		}
		return nil
	})
}

// whileDebugging reports whether a place stands below a condition that is
// about development, or in one branch of such an expression.
func whileDebugging(p *audit.Pass, at pyflow.Span) bool {
	f := p.Project.File(at.File)
	if f == nil || f.Python == nil {
		return false
	}
	py := f.Python
	for _, id := range f.Around(at.Start, at.End) {
		test, _, _ := py.If(id)
		if py.Kind(id) == pysyntax.IfExp {
			test, _, _ = py.IfExp(id)
		}
		if test != 0 && whileDeveloping.Match(py.Text(test)) {
			return true
		}
	}
	return false
}

func worldWritable(p *audit.Pass) {
	p.Judge(p.Hits("use", "chmod"), func(h *pyflow.Hit) (audit.Finding, bool) {
		f, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false
		}
		index, name := 1, "mode"
		mask := strings.HasSuffix(h.Path, ".umask")
		if mask || strings.HasPrefix(h.Path, "pathlib.") {
			index = 0
		}
		v, ok := h.Arg(index, name)
		if !ok {
			return audit.Finding{}, false
		}
		bad := false
		v.Each(func(v pyflow.Value) {
			if v.Kind != pyflow.Number || !v.Known || v.Number < 0 || v.Number > 0o177777 {
				return
			}
			mode := int(v.Number) // with the type of the file or without, as os.stat gives it
			// The sticky bit lets only the owner delete in a shared folder.
			bad = bad || !mask && mode&0o002 != 0 && mode&0o1000 == 0 || mask && mode&0o002 == 0
		})
		if !bad && !mask {
			bad = othersWrite(f.Python, call)
		}
		message := "everybody may write after this"
		if mask {
			message = "with this mask, what the process creates can be written by everybody"
		}
		return audit.Finding{Message: message}, bad
	})
}

// othersWrite reports whether a call's mode is put together with the bits of
// module stat that let others write.
func othersWrite(py *pysyntax.File, call pysyntax.ID) bool {
	_, args, keywords := py.Call(call)
	found := false
	for _, a := range append(append([]pysyntax.ID(nil), args...), keywords...) {
		pysyntax.Walk(py, a, func(id pysyntax.ID) bool {
			name := py.Name(id)
			if py.Kind(id) == pysyntax.Attribute {
				_, name = py.Attribute(id)
			}
			if op, _ := py.UnaryOp(id); op == pysyntax.UnaryInvert {
				return false // taken away
			}
			found = found || name == "S_IWOTH" || name == "S_IRWXO"
			return !found
		})
	}
	return found
}

// sharedFolder matches paths of fixed name in folders that all accounts
// write to.
var sharedFolder = regexp.MustCompile(`^/(?:tmp|var/tmp|dev/shm)/[^/]+$`)

func guessableFile(p *audit.Pass) {
	p.Judge(p.Hits("use", "tempfile"), func(h *pyflow.Hit) (audit.Finding, bool) {
		f, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false
		}
		name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		return audit.Finding{Message: name + "() only makes a name: the file can be there before it is opened", Edits: p.Repair(f, func() []audit.Edit { return p.FixMktemp(f, call) })}, true
	})
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			fn, args, _ := py.Call(id)
			if py.Name(fn) != "open" || len(args) == 0 {
				continue
			}
			modeNode, _ := py.Argument(id, "mode")
			if len(args) > 1 {
				modeNode = args[1]
			}
			mode := p.Flask.Value(f.Path, modeNode)
			if modeNode == 0 || !mode.Known || !strings.ContainsAny(mode.Text, "wa+") {
				continue
			}
			if path := p.Flask.Value(f.Path, args[0]); path.Known && sharedFolder.MatchString(path.Text) {
				p.Report(audit.Finding{Span: f.NodeSpan(id), Message: fmt.Sprintf("%s is written under a fixed name in a folder that all accounts share", path.Text)})
			}
		}
	}
}

func reflectedOrigin(p *audit.Pass) {
	hits := append(p.Hits("set", "header"), p.Hits("sink", "header")...)
	header := func(h *pyflow.Hit) string {
		if len(h.Args) == 0 {
			return ""
		}
		s, _ := h.Args[0].Const()
		return strings.ToLower(s)
	}
	// The functions that send credentials along.
	credentials := map[string]bool{}
	for _, h := range hits {
		if header(h) != "access-control-allow-credentials" || len(h.Args) < 2 {
			continue
		}
		for _, s := range audit.Consts(h.Args[1]) {
			credentials[h.Function] = credentials[h.Function] || strings.EqualFold(s, "true")
		}
	}
	p.Follow(hits, func(h *pyflow.Hit) []audit.Danger {
		if header(h) != "access-control-allow-origin" || len(h.Args) < 2 || !credentials[h.Function] && !addsCredentials(p, h) {
			return nil
		}
		for _, text := range audit.Texts(h.Args[1]) {
			for _, piece := range text.Pieces {
				for _, l := range audit.Live(piece, audit.FromOutside, "header") {
					// A fixed scheme and host before it leave no choice.
					if piece.Chars.HasAny(":/.") {
						return []audit.Danger{{Label: l, Message: "%s is sent back as an allowed origin, with credentials", Caret: "every origin is allowed here"}}
					}
				}
			}
		}
		return nil
	})
}

// addsCredentials reports whether the function around a hit adds the header
// for credentials as a constant, in which no data flows.
func addsCredentials(p *audit.Pass, h *pyflow.Hit) bool {
	f, around := p.At(h)
	for i := len(around) - 1; i >= 0; i-- {
		if k := f.Python.Kind(around[i]); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef {
			return addRE.Match(f.Python.Text(around[i]))
		}
	}
	return false
}

var addRE = regexp.MustCompile(`(?i)\(\s*["']access-control-allow-credentials["']\s*,\s*["']true["']`)
