package injection

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var pathRules = []*audit.Rule{
	{
		ID: "DW-INJECTION-010", Control: "injection",
		Patch:    "path",
		Title:    "What a client sends chooses which file is read",
		Why:      "With ../ or an absolute path the name leaves its folder: configuration, keys, the database, the source come back.",
		Fix:      "Use flask.send_from_directory or werkzeug.utils.safe_join, or take a number or a name from a fixed list.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{22}, OWASP: []string{"A01:2025"}, ASVS: []string{"5.3.2"},
		MitigatedBy: []string{"waf"},
		Bad: `import os
from flask import Flask, request, send_file
app = Flask(__name__)

@app.get("/manual")
def manual():
    return send_file(os.path.join("/srv/manuals", request.args["file"]))
`,
		Good: `from flask import Flask, request, send_from_directory
app = Flask(__name__)

@app.get("/manual")
def manual():
    return send_from_directory("/srv/manuals", request.args["file"])
`,
		Check: func(p *audit.Pass) {
			followPath(p, []string{"path-read", "send-file"}, "%s chooses which file is read", "the file is opened here", func(h *pyflow.Hit) (exit, bool) {
				if writes(h) {
					return exit{}, false
				}
				return pathDanger(h)
			})
		},
	},
	{
		ID: "DW-INJECTION-011", Control: "injection",
		Patch:    "path",
		Title:    "What a client sends chooses which file is written or deleted",
		Why:      "With ../ or an absolute path the name leaves its folder: the app's code, its templates or the account's SSH keys are overwritten.",
		Fix:      "Choose the name yourself (secrets.token_hex); or pass it through werkzeug.utils.secure_filename and safe_join.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{22, 73}, OWASP: []string{"A01:2025"}, ASVS: []string{"5.3.2"},
		MitigatedBy: []string{"waf"},
		Bad: `import os
from flask import Flask, request
app = Flask(__name__)

@app.post("/notes")
def save():
    with open(os.path.join("/srv/notes", request.form["title"]), "w") as file:
        file.write(request.form["text"])
    return {"saved": True}
`,
		Good: `import os
from flask import Flask, request
from werkzeug.utils import secure_filename
app = Flask(__name__)

@app.post("/notes")
def save():
    with open(os.path.join("/srv/notes", secure_filename(request.form["title"])), "w") as file:
        file.write(request.form["text"])
    return {"saved": True}
`,
		Check: func(p *audit.Pass) {
			followPath(p, []string{"path-read", "path-write", "path-delete"}, "%s chooses which file is changed", "the file is changed here", func(h *pyflow.Hit) (exit, bool) {
				if h.Kind == "path-read" && !writes(h) || filtered(h) {
					return exit{}, false
				}
				return pathDanger(h)
			})
		},
	},
	{
		ID: "DW-INJECTION-024", Control: "injection",
		Patch:    "path",
		Title:    "What a client sends chooses which file is asked for",
		Why:      "With ../ or an absolute path the answer tells which files, accounts and programs the server has.",
		Fix:      "Put the name through werkzeug.utils.safe_join before the question, or take a number or a name from a fixed list.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{22}, OWASP: []string{"A01:2025"}, ASVS: []string{"5.3.2"},
		MitigatedBy: []string{"waf"},
		Bad: `import os
from flask import Flask, request
app = Flask(__name__)

@app.get("/has")
def has():
    return {"there": os.path.exists("/srv/manuals/" + request.args["file"])}
`,
		Good: `import os
from flask import Flask, request
from werkzeug.utils import safe_join
app = Flask(__name__)

@app.get("/has")
def has():
    path = safe_join("/srv/manuals", request.args["file"])
    return {"there": path is not None and os.path.exists(path)}
`,
		Check: func(p *audit.Pass) {
			followPath(p, []string{"path-stat"}, "%s chooses which file is asked for", "the question is put here", pathDanger)
		},
	},
}

// filtered reports whether an archive's entry is unpacked by a filter that
// refuses names outside of the folder.
func filtered(h *pyflow.Hit) bool {
	v, given := h.Keywords["filter"]
	if !given || h.Path != "tarfile.TarFile.extract" {
		return false
	}
	texts := audit.Consts(v)
	if len(texts) == 0 {
		return strings.HasSuffix(v.Type, "_filter") && !strings.HasSuffix(v.Type, "fully_trusted_filter")
	}
	return !slices.ContainsFunc(texts, func(s string) bool { return s != "data" && s != "tar" })
}

// pathDanger looks at the paths that a sink is given. What is no text is a
// file that is open already, or bytes.
// followPath is follow for paths. Where a check that a setting of the app's own
// switches off stands before, that setting decides.
func followPath(p *audit.Pass, kinds []string, message, caret string, find func(*pyflow.Hit) (exit, bool)) {
	p.Follow(p.Hits("sink", kinds...), func(h *pyflow.Hit) []audit.Danger {
		e, bad := find(h)
		if !bad {
			return nil
		}
		d := audit.Danger{Label: e.Label, Spot: e.Spot, Message: message + ": it " + e.Why, Caret: caret, Confidence: sure(h)}
		if e.Label.Harmless.For("path-setting") {
			d.Confidence, d.Caret = audit.Possible, caret+", unless the setting is on by which the path is checked"
		}
		return []audit.Danger{d}
	})
}

func pathDanger(h *pyflow.Hit) (exit, bool) {
	return inTexts(h, func(t audit.FlowText) (exit, bool) {
		return pathExit(t.Pieces, func(l pyflow.Label) bool {
			if t.Whole && (h.Kind == "send-file" || h.Path == "PIL.Image.open") && l.Kind != "json" && l.Kind != "body" {
				return false // an object, most likely a file that is open
			}
			return known(l) && (!content(l) || takesPath(h.Path))
		}, h.Kind)
	})
}

// content reports whether a label stands for what a file holds, not for a
// name.
func content(l pyflow.Label) bool {
	return l.Kind == "file-content" && strings.HasPrefix(l.Note, "content ")
}

// onlyCompiled reports whether a pattern is only looked at: it is compiled and
// what comes of that is not kept. Reading a pattern takes as long as it is.
func onlyCompiled(p *audit.Pass, h *pyflow.Hit) bool {
	if !strings.HasSuffix(h.Path, ".compile") {
		return false
	}
	f, call := p.HitCall(h)
	if f == nil || call == 0 {
		return false
	}
	for _, id := range f.Around(h.At.Start, h.At.End) {
		if n := f.Python.Node(id); n.Kind == pysyntax.ExprStmt && n.A == call {
			return true
		}
	}
	return false
}

// takesPath reports whether a function takes nothing but a path: not a file
// that is open, nor what it holds.
func takesPath(path string) bool {
	return path == "builtins.open" || path == "io.open" || strings.HasPrefix(path, "os.")
}

// writes reports whether a call of open asks for writing.
func writes(h *pyflow.Hit) bool {
	if !strings.HasSuffix(h.Path, "open") && !strings.HasSuffix(h.Path, "GzipFile") && !strings.HasSuffix(h.Path, "FileIO") && h.Path != "builtins.file" {
		return false
	}
	i := 1
	if h.Path == "pathlib.Path.open" {
		i = 0
	}
	mode, _ := h.Arg(i, "mode")
	out := false
	mode.Each(func(v pyflow.Value) {
		s, ok := v.Const()
		out = out || ok && strings.ContainsAny(s, "wax+")
	})
	return out
}

var otherRules = []*audit.Rule{
	{
		ID: "DW-INJECTION-017", Control: "injection",
		Patch:    "redirect",
		Title:    "What a client sends chooses where a redirection leads",
		Why:      "A link that begins with the site's own address ends on the attacker's copy of its login page; tokens in the address go along.",
		Fix:      "Redirect to endpoints with url_for; where the target has to come from outside, take a path only, and refuse what begins with //, /\\ or a scheme.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{601}, OWASP: []string{"A01:2025"}, ASVS: []string{"3.7.2"},
		Bad: `from flask import Flask, redirect, request
app = Flask(__name__)

@app.get("/go")
def go():
    return redirect(request.args["next"])
`,
		Good: `from flask import Flask, redirect, request, url_for
app = Flask(__name__)

@app.get("/go")
def go():
    return redirect(url_for("item", name=request.args["next"]))

@app.get("/item/<name>")
def item(name):
    return {"name": name}
`,
		Check: func(p *audit.Pass) {
			hits := append(p.Hits("sink", "redirect"), p.Hits("set", "redirect")...)
			for _, h := range append(p.Hits("set", "header"), p.Hits("sink", "header")...) {
				if name, ok := headerName(h); ok && strings.EqualFold(name, "Location") {
					hits = append(hits, h)
				}
			}
			p.Follow(hits, func(h *pyflow.Hit) []audit.Danger {
				e, bad := inFocus(h, func(t []pyflow.Piece) (exit, bool) {
					return redirectExit(t, func(l pyflow.Label) bool {
						// Back to where the visitor is, or was.
						return known(l) && l.Kind != "url" && l.Note != "Referer header" && l.Note != "Host header" && l.Note != "request path"
					})
				})
				if !bad {
					return nil
				}
				d := audit.Danger{Label: e.Label, Spot: e.Spot, Message: "%s chooses where the visitor is sent: it " + e.Why, Caret: "the visitor is sent on here"}
				if strings.EqualFold(audit.QuotedName(e.Label), "Referer") {
					d.Confidence = audit.Possible // a browser that says so was there before
				}
				return []audit.Danger{d}
			})
		},
	},
	{
		ID: "DW-INJECTION-018", Control: "injection",
		Patch:    "header",
		Title:    "What a client sends becomes a header of the answer",
		Why:      "Who chooses a header's name sets cookies and policies. A line end in a value begins another header; Werkzeug refuses those since 0.9, so a value alone is an error page at worst, and a header of its own under other servers.",
		Fix:      "Choose names from a fixed list; take line ends out of values.",
		Severity: audit.Low, Confidence: audit.Possible, CWE: []int{113}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.1"},
		MitigatedBy: []string{"waf"},
		Bad: `from flask import Flask, make_response, request
app = Flask(__name__)

@app.get("/")
def index():
    response = make_response("ok")
    response.headers[request.args["name"]] = "1"
    return response
`,
		Good: `from flask import Flask, make_response, request
app = Flask(__name__)

@app.get("/")
def index():
    response = make_response("ok")
    response.headers["X-Page"] = str(int(request.args["page"]))
    return response
`,
		Check: func(p *audit.Pass) {
			hits := append(p.Hits("sink", "header", "cookie-value"), p.Hits("set", "header")...)
			p.Follow(hits, headerDanger)
		},
	},
	{
		ID: "DW-INJECTION-019", Control: "injection",
		Patch:    "mail",
		Title:    "What a client sends becomes a header of a mail",
		Why:      "A line end in a subject or a name begins another header: copies to thousands of addresses, sent by this server.",
		Fix:      "Build the mail with email.message.EmailMessage, which refuses line ends, or take them out.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{93}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.3.11"},
		Bad: `import smtplib
from flask import Flask, request
app = Flask(__name__)

@app.post("/contact")
def contact():
    mail = "Subject: " + request.form["subject"] + "\n\nSomebody wrote."
    smtplib.SMTP("localhost").sendmail("web@example.com", ["desk@example.com"], mail)
    return {"sent": True}
`,
		Good: `import smtplib
from flask import Flask, request
app = Flask(__name__)

@app.post("/contact")
def contact():
    mail = "Subject: A message\n\n" + request.form["subject"]
    smtplib.SMTP("localhost").sendmail("web@example.com", ["desk@example.com"], mail)
    return {"sent": True}
`,
		Check: func(p *audit.Pass) {
			hits := append(p.Hits("sink", "email-header"), p.Hits("set", "email-header")...)
			p.Follow(hits, mailDanger)
		},
	},
	{
		ID: "DW-INJECTION-026", Control: "injection",
		Title:    "A stylesheet from a client is run",
		Why:      "XSLT is a programming language: document() in a stylesheet reads files and other servers, and extensions write files.",
		Fix:      "Keep the stylesheets with the app and let clients choose among them; give values by XSLT.strparam.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{91, 611}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.5.1"},
		Bad: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)
REPORT = etree.parse("report.xml")

@app.post("/report")
def report():
    sheet = etree.fromstring(request.form["sheet"], etree.XMLParser(resolve_entities=False))
    return str(etree.XSLT(sheet)(REPORT)), 200, {"Content-Type": "text/plain"}
`,
		Good: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)
REPORT = etree.parse("report.xml")
SHEET = etree.XSLT(etree.parse("report.xsl"))

@app.post("/report")
def report():
    title = etree.XSLT.strparam(request.form["title"])
    return str(SHEET(REPORT, title=title)), 200, {"Content-Type": "text/plain"}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "xslt"), func(h *pyflow.Hit) []audit.Danger {
				for _, l := range focusLabels(h, "xslt") {
					return []audit.Danger{{Label: l, Message: "%s is a stylesheet that is run", Caret: "the stylesheet is read here"}}
				}
				return nil
			})
		},
	},
	{
		ID: "DW-INJECTION-020", Control: "injection",
		Patch:    "regex",
		Title:    "What a client sends is used as a regular expression",
		Why:      "A pattern such as (a+)+$ needs longer than the universe is old for a line of text; one request keeps a worker busy for ever.",
		Fix:      "Search for the text itself (in, find), or put re.escape around it.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{1333, 400}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.9", "1.3.12"},
		Bad: `import re
from flask import Flask, request
app = Flask(__name__)

@app.get("/find")
def find():
    return {"found": bool(re.search(request.args["pattern"], "some long text"))}
`,
		Good: `import re
from flask import Flask, request
app = Flask(__name__)

@app.get("/find")
def find():
    return {"found": bool(re.search(re.escape(request.args["pattern"]), "some long text"))}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"regex"}, "%s is used as a regular expression", "the pattern is read here", func(h *pyflow.Hit) (exit, bool) {
				if onlyCompiled(p, h) {
					return exit{}, false
				}
				if t, ok := h.Keywords["timeout"]; ok && t.Kind != pyflow.None {
					return exit{}, false // of the library regex
				}
				if strings.HasPrefix(h.Path, "regex.Pattern.") { // made of what was compiled
					for _, v := range h.Focus {
						if l := audit.LiveIn(v, known, "regex"); len(l) > 0 {
							return exit{Label: l[0], Why: "can hold quantifiers"}, true
						}
					}
					return exit{}, false
				}
				return inFocus(h, func(t []pyflow.Piece) (exit, bool) {
					for i, piece := range t {
						if l := audit.Live(piece, known, "regex"); len(l) > 0 && audit.CanHoldAny(piece, "*+{") {
							return exit{Label: l[0], Piece: i, Why: "can hold quantifiers", Patch: func(d *audit.Danger) { d.Open = "a pattern can take long without taking exponential time" }}, true
						}
					}
					return exit{}, false
				})
			})
		},
	},
	{
		ID: "DW-INJECTION-021", Control: "injection",
		Patch:    "regex-text",
		Title:    "A regular expression can take for ever on what a client sends",
		Why:      "The pattern can match the same text in exponentially many ways, and Python tries them all before it says no: thirty characters keep a worker busy for hours.",
		Fix:      "Let each repetition begin with a character that the one before cannot end with, use possessive quantifiers (Python 3.11), or bound the length of the text first.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{1333, 400}, OWASP: []string{"A06:2025"}, ASVS: []string{"1.3.12"},
		Bad: `import re
from flask import Flask, request
app = Flask(__name__)

@app.get("/check")
def check():
    return {"valid": bool(re.fullmatch(r"(\w+\s?)+", request.args["text"]))}
`,
		Good: `import re
from flask import Flask, request
app = Flask(__name__)

@app.get("/check")
def check():
    return {"valid": bool(re.fullmatch(r"(\w+\s)*\w+", request.args["text"]))}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "regex-text"), func(h *pyflow.Hit) []audit.Danger {
				name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
				pattern, given := h.Arg(0, "pattern")
				if strings.Contains(h.Path, "Pattern.") {
					if pattern, given = h.Self.Field("pattern"); !given && len(h.Self.Items) > 0 {
						pattern, given = h.Self.Items[0], true
					}
				}
				labels := focusLabels(h, "regex-text")
				if !given || len(labels) == 0 || short(h) {
					return nil
				}
				var bad string
				pattern.Each(func(v pyflow.Value) {
					if s, ok := v.Const(); ok && bad == "" && runaway(s, name == "fullmatch") {
						bad = s
					}
				})
				if bad == "" {
					return nil
				}
				mode, open := patternWay(h, bad, labels)
				d := audit.Danger{Pattern: bad, Spot: mode, Open: open}
				if len(bad) > 60 {
					bad = bad[:60] + "…"
				}
				d.Label, d.Caret = labels[0], "this backtracks exponentially"
				d.Message = "%s is matched against " + strings.ReplaceAll(bad, "%s", "% s") + ", which can take exponential time"
				return []audit.Danger{d}
			})
		},
	},
	{
		ID: "DW-INJECTION-022", Control: "injection",
		Title:    "What a client sends goes into the session unchecked",
		Why:      "Code elsewhere takes what stands in the session for something the app decided; a client that chooses a key or a value there decides in its place.",
		Fix:      "Check the value against what is allowed, or store what it led to (the account's id), under a fixed key.",
		Severity: audit.Low, Confidence: audit.Possible, CWE: []int{501}, OWASP: []string{"A06:2025"}, ASVS: []string{"2.2.1"},
		Bad: `from flask import Flask, request, session
app = Flask(__name__)
app.secret_key = "x"

@app.post("/role")
def role():
    session["role"] = request.form["role"]
    return {"ok": True}
`,
		Good: `from flask import Flask, abort, request, session
app = Flask(__name__)
app.secret_key = "x"

@app.post("/role")
def role():
    if request.form["theme"] not in ("dark", "light"):
        abort(400)
    session["theme"] = request.form["theme"] == "dark"
    return {"ok": True}
`,
		Check: func(p *audit.Pass) {
			hits := append(p.Hits("set", "session"), p.Hits("sink", "session")...)
			p.Follow(hits, func(h *pyflow.Hit) []audit.Danger {
				for i, v := range slices.Concat(h.Args, h.Focus, keywordValues(h)) {
					labels := sessionLabels(v)
					if len(labels) == 0 {
						continue
					}
					what := "%s goes into the session unchecked"
					if i == 0 && len(h.Args) > 1 {
						what = "%s chooses the key in the session"
					}
					return []audit.Danger{{Label: labels[0], Message: what, Caret: "stored in the session here"}}
				}
				return nil
			})
		},
	},
	{
		ID: "DW-INJECTION-023", Control: "injection",
		Patch:    "attribute",
		Title:    "A client fills in whatever attributes it names",
		Why:      "Besides the fields of the form, the client sends is_admin, role or owner_id, and the object takes them.",
		Fix:      "Name the attributes that may come from outside, one by one or in a form class.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{915}, OWASP: []string{"A08:2025"}, ASVS: []string{"15.3.3"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

class User:
    name = ""
    admin = False

@app.post("/profile")
def profile():
    user = User()
    for key, value in request.form.items():
        setattr(user, key, value)
    return {"name": user.name}
`,
		Good: `from flask import Flask, request
app = Flask(__name__)

class User:
    name = ""
    admin = False

@app.post("/profile")
def profile():
    user = User()
    for key in ("name",):
        setattr(user, key, request.form[key])
    return {"name": user.name}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"setattr", "assign"}, "%s chooses which attributes are set", "attributes are set here by name", func(h *pyflow.Hit) (exit, bool) {
				e, bad := assignDanger(h)
				if bad {
					e.Patch = func(d *audit.Danger) {
						d.Names, d.Watched = attributeNames(p)
						d.Open = "attributes that are not known to be privileged are only noted"
					}
				}
				return e, bad
			})
		},
	},
}

// sessionLabels returns the labels of what a session should not take as it
// is: texts that can be more than a word of the application's or a number.
func sessionLabels(v pyflow.Value) []pyflow.Label {
	if v.Kind == pyflow.Number || v.Kind == pyflow.Bool {
		return nil
	}
	// The path is one that the app has a view for.
	return audit.LiveIn(v, func(l pyflow.Label) bool { return known(l) && l.Note != "request path" }, "session")
}

func keywordValues(h *pyflow.Hit) []pyflow.Value {
	var names []string
	for k := range h.Keywords {
		names = append(names, k)
	}
	slices.Sort(names)
	var out []pyflow.Value
	for _, k := range names {
		out = append(out, h.Keywords[k])
	}
	return out
}

// undeclared accepts what a client names itself. A form's data and the
// arguments that a parser reads have only the fields that were declared.
func undeclared(l pyflow.Label) bool {
	return known(l) && l.Note != "form data" && !strings.HasPrefix(l.Note, "request argument")
}

// assignDanger finds names of attributes that a client chooses.
func assignDanger(h *pyflow.Hit) (exit, bool) {
	if h.Kind == "setattr" {
		return inFocus(h, func(t []pyflow.Piece) (exit, bool) {
			for i, piece := range t {
				// A prefix of the application's own keeps the rest apart.
				if l := audit.Live(piece, undeclared, "setattr", "assign"); len(l) > 0 && i == 0 && !audit.Only(piece, audit.Digits) {
					return exit{Label: l[0], Piece: i, Why: "can name any of them"}, true
				}
			}
			return exit{}, false
		})
	}
	for _, v := range append(slices.Clone(h.Focus), h.Keywords["**"]) {
		var found exit
		bad := false
		v.Each(func(v pyflow.Value) {
			open := v.Kind == pyflow.Unknown || v.Kind == pyflow.Object && (strings.HasSuffix(v.Type, "MultiDict") || strings.HasPrefix(v.Type, "flask.request."))
			labels := audit.LiveIn(v, undeclared, "assign", "setattr")
			if v.Kind == pyflow.Dict {
				// Of a dictionary the names count, which are known one by one
				// but for those that its own labels stand for.
				open = true
				labels = audit.Live(pyflow.Piece{Unknown: true, Labels: v.Labels}, undeclared, "assign", "setattr")
			}
			if open && len(labels) > 0 && !bad {
				found, bad = exit{Label: labels[0], Piece: 0, Why: "can name any of them"}, true
			}
		})
		if bad {
			return found, true
		}
	}
	return exit{}, false
}

// short reports whether a text is known to be a few characters only.
func short(h *pyflow.Hit) bool {
	for _, v := range h.Focus {
		if v.Kind != pyflow.Number && v.Kind != pyflow.Bool {
			return false
		}
	}
	return true
}

// headerName returns the constant name of the header that a hit sets.
func headerName(h *pyflow.Hit) (string, bool) {
	v, ok := h.Arg(0, "")
	if !ok {
		return "", false
	}
	return v.Const()
}

// headerDanger finds names from outside, and values that can hold a line end.
func headerDanger(h *pyflow.Hit) []audit.Danger {
	cookie := h.Kind == "cookie-value"
	if name, ok := h.Arg(0, "key"); ok {
		for _, t := range audit.Texts(name) {
			for _, piece := range t.Pieces[:1] {
				if l := audit.Live(piece, known, "header", "cookie-value"); len(l) > 0 && !audit.Only(piece, audit.Digits) {
					what := "%s names a header of the answer"
					if cookie {
						what = "%s names a cookie"
					}
					return []audit.Danger{{Label: l[0], Message: what, Caret: "set here"}}
				}
			}
		}
	}
	if cookie {
		return nil // values are quoted
	}
	for _, v := range h.Focus {
		for _, t := range audit.Texts(v) {
			if e, bad := newlineExit(t.Pieces, lineEnds, "header"); bad {
				return []audit.Danger{{Label: e.Label, Spot: e.Spot, Message: "%s becomes a header of the answer: it " + e.Why, Caret: "set here"}}
			}
		}
	}
	return nil
}

// lineEnds accepts labels of what can hold a line end: headers and addresses
// cannot.
func lineEnds(l pyflow.Label) bool {
	return known(l) && l.Kind != "header" && l.Kind != "url"
}

// mailDanger finds what can begin another header of a mail.
func mailDanger(h *pyflow.Hit) []audit.Danger {
	if strings.HasPrefix(h.Path, "email.message.EmailMessage.") || strings.HasPrefix(h.Path, "flask_mail.") || strings.HasPrefix(h.Path, "flask_mailman.") {
		return nil // they refuse line ends
	}
	values := h.Focus
	if strings.HasSuffix(h.Path, ".sendmail") {
		// The addresses of the envelope are refused with line ends (Python
		// 3.9.4); of the text only the headers count.
		msg, ok := h.Arg(2, "msg")
		if !ok {
			return nil
		}
		values = []pyflow.Value{msg}
	}
	var all []pyflow.Label // of headers: in the text behind them line ends belong
	for _, v := range values {
		for _, t := range audit.Texts(v) {
			for i, piece := range t.Pieces {
				l := audit.Live(piece, lineEnds, "email-header")
				before := audit.Before(t.Pieces, i)
				if len(l) == 0 || !audit.CanHoldAny(piece, "\r\n") || strings.Contains(before, "\n\n") || strings.Contains(before, "\r\n\r\n") {
					continue
				}
				all = append(all, l...)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return []audit.Danger{{Label: all[0], Labels: all, Message: "%s becomes a header of a mail: it can hold a line end", Caret: "the mail's headers come from here"}}
}
