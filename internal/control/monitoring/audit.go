package monitoring

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-MONITORING-001", Control: "monitoring",
		Title:    "What a client sends can begin a line of its own in the log",
		Why:      "With a line end in it, a value writes entries that never happened: it hides an attack, accuses somebody else, or breaks what reads the log.",
		Fix:      "Log values with %r, which writes line ends as \\n, or log JSON.",
		Severity: audit.Low, Confidence: audit.Possible, CWE: []int{117}, OWASP: []string{"A09:2025"}, ASVS: []string{"16.4.1"},
		Bad: `import logging
from flask import Flask, request
app = Flask(__name__)
log = logging.getLogger(__name__)

@app.get("/")
def index():
    log.info("somebody searched for %s", request.args["q"])
    return {}
`,
		Good: `import logging
from flask import Flask, request
app = Flask(__name__)
log = logging.getLogger(__name__)

@app.get("/")
def index():
    log.info("somebody searched for %r", request.args["q"])
    return {}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "log"), func(h *pyflow.Hit) []audit.Danger {
				for _, v := range written(h) {
					if l, ok := lineDanger(v); ok {
						return []audit.Danger{{Label: l, Message: "%s is logged and can hold a line end", Caret: "logged here",
							// One formatter that escapes them mends all of it.
							Cause: "what clients send is logged with its line ends"}}
					}
				}
				return nil
			})
		},
	},
	{
		ID: "DW-MONITORING-002", Control: "monitoring",
		Title:    "A secret that a client sends is logged",
		Why:      "Logs are read by more people and kept for longer than passwords may be, and copied to machines that nobody guards.",
		Fix:      "Log who it was about, never the password, token or card number itself.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{532}, OWASP: []string{"A09:2025"}, ASVS: []string{"16.2.5"},
		Bad: `import logging
from flask import Flask, request
app = Flask(__name__)

@app.post("/login")
def login():
    logging.warning("login with password %r", request.form["password"])
    return {}
`,
		Good: `import logging
from flask import Flask, request
app = Flask(__name__)

@app.post("/login")
def login():
    logging.warning("login with a password of %d characters", len(request.form["password"]))
    return {}
`,
		Check: func(p *audit.Pass) {
			logged := p.Hits("sink", "log")
			p.Follow(append(slices.Clone(logged), p.Hits("sink", "output")...), func(h *pyflow.Hit) []audit.Danger {
				if slices.Contains(logged, h) {
					for i, v := range append(slices.Clone(h.Args), keywordValues(h)...) {
						if v.Kind == pyflow.Number || v.Kind == pyflow.Bool {
							continue
						}
						named := accountName.MatchString(source(p, h, i))
						for _, l := range audit.LiveIn(v, audit.Known(audit.FromOutside)) {
							if secret(l) && !worthless(p, h, l) && (l.Kind != "header" || asSent(v) && !named) {
								return []audit.Danger{{Label: l, Message: leak, Caret: "logged here"}}
							}
						}
					}
				}
				return slices.DeleteFunc(readableSecrets(h), func(d audit.Danger) bool { return worthless(p, h, d.Label) })
			})
		},
	},
}

// refusals are the exceptions by which libraries say that a token is of no use
// to anybody.
var refusals = []string{
	"BadData", "BadPayload", "BadSignature", "BadTimeSignature", "SignatureExpired", "BadHeader", // itsdangerous
	"DecodeError", "ExpiredSignatureError", "InvalidSignatureError", "InvalidTokenError", "PyJWTError", "JWTError", "JWTClaimsError",
	"ExpiredTokenError", "BadSignatureError", "InvalidToken",
}

// worthless reports whether a hit stands where a token is dealt with that was
// refused. A password that is nearly right is none.
func worthless(p *audit.Pass, h *pyflow.Hit, l pyflow.Label) bool {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil || audit.PasswordName(audit.QuotedName(l)) {
		return false
	}
	py := f.Python
	for _, id := range slices.Backward(f.Around(h.At.Start, h.At.End)) {
		switch py.Kind(id) {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.Lambda:
			return false
		case pysyntax.ExceptHandler:
			typ, _, _ := py.ExceptHandler(id)
			types := []pysyntax.ID{typ}
			if py.Kind(typ) == pysyntax.Tuple {
				types = py.Elts(typ)
			}
			for _, t := range types {
				_, name := py.Attribute(t)
				if name == "" {
					name = py.Name(t)
				}
				if !slices.Contains(refusals, name) {
					return false
				}
			}
			return len(types) > 0
		}
	}
	return false
}

// leak is what DW-MONITORING-002 says.
const leak = "%s is written to the log"

// readableSecrets finds the secrets by the words of their fields' names: what
// clients sent and what was stored for them, in what is logged and printed.
func readableSecrets(h *pyflow.Hit) []audit.Danger {
	var out []audit.Danger
	for _, v := range h.Focus {
		for _, l := range audit.Readable(v) {
			name := audit.QuotedName(l)
			if word, ok := strings.CutSuffix(l.Note, " in the Authorization header"); ok {
				name = word
			}
			if audit.Guessed(l) || !audit.FromOutside(l) && !audit.FromStore(l) || !audit.PasswordName(name) && !audit.SecretName(name) {
				continue
			}
			if !slices.Contains([]string{"csrf_token", "nonce", "captcha"}, name) {
				out = append(out, audit.Danger{Label: l, Message: leak, Caret: "logged here"})
			}
		}
	}
	return out
}

// asSent reports whether a value may be what was sent as it came: a part of
// an Authorization header may be the account's name.
func asSent(v pyflow.Value) bool {
	for _, t := range audit.Texts(v) {
		for _, p := range t.Pieces {
			if p.Unknown && !t.Whole && p.Chars == pyflow.AnyChars && len(p.Without) == 0 && len(p.Labels) > 0 {
				return true
			}
		}
	}
	return false
}

// accountName finds what programs call the account that credentials are for.
var accountName = regexp.MustCompile(`(?i)user|name|email|account|login|owner`)

// source returns the text of the argument at index i.
func source(p *audit.Pass, h *pyflow.Hit, i int) string {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil || i >= len(h.ArgSpans) {
		return ""
	}
	at := h.ArgSpans[i]
	if at.File != h.At.File || at.Start > at.End || int(at.End) > len(f.Python.Src) {
		return ""
	}
	return string(f.Python.Src[at.Start:at.End])
}

// secretName finds the names of fields and headers that hold what nobody but
// the app may see.
var secretName = regexp.MustCompile(`(?i)"(.*[-_])?(\w*passw(or)?d\w*|pwd|passphrase|\w*secret\w*|pin|otp|((access|auth|refresh|reset|bearer|id|session|csrf)[-_]?)?token|api[-_]?key|authorization|(credit[-_]?)?card([-_]?(number|no))?|cvv2?|cvc|iban|ssn)"`)

// secret reports whether a label's note names a secret.
func secret(l pyflow.Label) bool {
	return secretName.MatchString(l.Note) || l.Note == "Authorization header"
}

func keywordValues(h *pyflow.Hit) []pyflow.Value {
	v, ok := h.Keywords["extra"]
	if !ok {
		return nil
	}
	return []pyflow.Value{v}
}

// verb finds the conversions of a %-format: flags, width, precision, type.
var verb = regexp.MustCompile(`%(?:\([^)]*\))?[#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?([a-zA-Z%])`)

// written returns the arguments of a logging call that come out as they are:
// the message, and those that its format takes with %s.
func written(h *pyflow.Hit) []pyflow.Value {
	if len(h.Args) == 0 {
		return nil
	}
	args := h.Args
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	if name == "log" && len(args) > 1 {
		args = args[1:] // the level
	}
	out := []pyflow.Value{args[0]}
	if len(args) == 1 || strings.HasPrefix(h.Path, "loguru.") {
		return append(out, args[1:]...)
	}
	format, constant := args[0].Const()
	if !constant {
		return append(out, args[1:]...)
	}
	i := 1
	for _, m := range verb.FindAllStringSubmatch(format, -1) {
		if m[1] == "%" {
			continue
		}
		if i >= len(args) {
			break
		}
		if m[1] == "s" {
			out = append(out, args[i])
		}
		i++
	}
	return out
}

// lineDanger finds labelled text that can hold a line end. Headers and
// addresses cannot.
func lineDanger(v pyflow.Value) (pyflow.Label, bool) {
	accept := func(l pyflow.Label) bool {
		return audit.FromOutside(l) && !audit.Guessed(l) && l.Kind != "header" && l.Kind != "url"
	}
	for _, t := range audit.Texts(v) {
		for _, p := range t.Pieces {
			if labels := audit.Live(p, accept, "log"); len(labels) > 0 && audit.CanHoldAny(p, "\r\n") {
				return labels[0], true
			}
		}
	}
	return pyflow.Label{}, false
}
