package authn

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// proofRules are about passwords, tokens and checks by themselves.
var proofRules = []*audit.Rule{
	{
		ID: "DW-AUTHN-001", Control: "authn",
		Title:    "A password is kept as it was typed",
		Why:      "Whoever reads the table, by one injection or from one lost backup, has every password, and most people use theirs elsewhere, too.",
		Fix:      "Store generate_password_hash(password) and ask check_password_hash(stored, password), both of werkzeug.security.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{256, 312, 522}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.4.2"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

@app.post("/login")
def login():
    user = find_user(request.form["name"])
    if user and user.password == request.form["password"]:
        return "welcome"
    return "no", 403
`,
		Good: `from flask import Flask, request
from werkzeug.security import check_password_hash
app = Flask(__name__)

@app.post("/login")
def login():
    user = find_user(request.form["name"])
    if user and check_password_hash(user.password, request.form["password"]):
        return "welcome"
    return "no", 403
`,
		Check: plainPasswords,
	},
	{
		ID: "DW-AUTHN-002", Control: "authn",
		Title:    "A password is hashed with a fast hash",
		Why:      "SHA-256 is made to be fast: a graphics card tries billions of passwords a second against a stolen table.",
		Fix:      "Use werkzeug.security.generate_password_hash (scrypt), argon2 or bcrypt, which are slow on purpose and salt by themselves.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{916}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.4.2"},
		Bad: `import hashlib
from flask import Flask, request
app = Flask(__name__)

@app.post("/register")
def register():
    save(request.form["name"], hashlib.sha256(request.form["password"].encode()).hexdigest())
    return ""
`,
		Good: `from flask import Flask, request
from werkzeug.security import generate_password_hash
app = Flask(__name__)

@app.post("/register")
def register():
    save(request.form["name"], generate_password_hash(request.form["password"]))
    return ""
`,
		Check: fastPasswordHash,
	},
	{
		ID: "DW-AUTHN-003", Control: "authn",
		Title:    "A token is believed without its signature",
		Why:      "Anybody writes a token that says anything: another user's id, an administrator's role, no end date.",
		Fix:      "jwt.decode(token, key, algorithms=[\"HS256\"]), with the algorithms that the app itself signs with and nothing switched off.",
		Severity: audit.Critical, Confidence: audit.Certain, CWE: []int{347}, OWASP: []string{"A07:2025"}, ASVS: []string{"9.1.1", "9.1.2"},
		Bad: `import jwt
from flask import Flask, request
app = Flask(__name__)

@app.get("/me")
def me():
    return jwt.decode(request.headers["X-Token"], options={"verify_signature": False})
`,
		Good: `import jwt
from flask import Flask, request
app = Flask(__name__)

@app.get("/me")
def me():
    return jwt.decode(request.headers["X-Token"], app.config["TOKEN_KEY"], algorithms=["HS256"])
`,
		Check: unverifiedToken,
	},
	{
		ID: "DW-AUTHN-008", Control: "authn",
		Title:    "A check of rights is an assert",
		Why:      "Python leaves asserts out when it runs with -O or PYTHONOPTIMIZE, and then nobody is turned away.",
		Fix:      "if not allowed: abort(403)",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{617, 703}, OWASP: []string{"A01:2025"}, ASVS: []string{"8.3.1"},
		Bad: `from flask import Flask
from flask_login import current_user
app = Flask(__name__)

@app.post("/close")
def close():
    assert current_user.is_admin
    return "closed"
`,
		Good: `from flask import Flask, abort
from flask_login import current_user
app = Flask(__name__)

@app.post("/close")
def close():
    if not current_user.is_admin:
        abort(403)
    return "closed"
`,
		Check: assertedRights,
	},
	{
		ID: "DW-AUTHN-009", Control: "authn",
		Title:    "A secret is compared in a time that tells how much of it is right",
		Why:      "== stops at the first character that differs: from the time of many answers a client learns a key or signature character by character.",
		Fix:      "hmac.compare_digest(a, b)",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{208}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.2.4"},
		Bad: `import hashlib
import hmac
import os
from flask import Flask, abort, request
app = Flask(__name__)

@app.post("/hook")
def hook():
    signature = hmac.new(os.environ["HOOK_KEY"].encode(), request.get_data(), hashlib.sha256).hexdigest()
    if request.headers["X-Signature"] != signature:
        abort(403)
    return ""
`,
		Good: `import hashlib
import hmac
import os
from flask import Flask, abort, request
app = Flask(__name__)

@app.post("/hook")
def hook():
    signature = hmac.new(os.environ["HOOK_KEY"].encode(), request.get_data(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers["X-Signature"], signature):
        abort(403)
    return ""
`,
		Check: timedComparison,
	},
}

// ---- passwords ----

// plainPasswords reports comparisons of a stored password with one that was
// typed, and passwords that go into a row as they are.
func plainPasswords(p *audit.Pass) {
	hashing := passwordProperties(p)
	p.Functions(func(f *audit.File, id pysyntax.ID, fn pysyntax.Function) {
		py := f.Python
		local := locals(py, id)
		pysyntax.Walk(py, id, func(n pysyntax.ID) bool {
			if n != id {
				if k := py.Kind(n); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef || k == pysyntax.ClassDef {
					return false // looked at by itself
				}
			}
			switch py.Kind(n) {
			case pysyntax.Compare:
				left, rest := py.Compare(n)
				if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
					break
				}
				a, b := left, rest[0].Right
				if typed(p, f, a, local) {
					a, b = b, a
				}
				if name := stored(p, f, a, local); name != "" && typed(p, f, b, local) {
					p.Report(audit.Finding{Span: f.NodeSpan(n), Message: fmt.Sprintf("%s is compared with what was typed, so it is stored in plain text", name)})
				}
			case pysyntax.Assign:
				targets, v := py.Assign(n)
				if len(targets) != 1 || py.Kind(targets[0]) != pysyntax.Attribute {
					break
				}
				base, name := py.Attribute(targets[0])
				if !audit.PasswordName(name) || hashing[name] || !typed(p, f, v, local) {
					break
				}
				root := py.DottedName(base)
				if root != "self" && root != "cls" && !strings.Contains(strings.ToLower(root), "form") && !isField(p, f, base) {
					p.Report(audit.Finding{Span: f.NodeSpan(n), Message: fmt.Sprintf("%s.%s gets the password as it was typed", root, name)})
				}
			case pysyntax.Call:
				plainCall(p, f, n, local, hashing)
			}
			return true
		})
	})
}

var (
	insertRE = regexp.MustCompile(`(?is)^\s*(?:insert\s+into|replace\s+into|update)\b.*\b(?:password|passwd|pwd)\b`)
	whereRE  = regexp.MustCompile(`(?is)\bwhere\b.*\b(?:password|passwd|pwd)\s*=\s*(?:\?|%s|%\(\w+\)s|:\w+|\$\d)`)
	// builtRE is whereRE for a statement that is put together: what follows
	// the sign of equality is a value or a gap for one.
	builtRE  = regexp.MustCompile(`(?is)\bwhere\b.*\b(?:password|passwd|pwd)\s*=\s*\\?['"]*(?:\{|%s|['"])`)
	modelish = regexp.MustCompile(`^[A-Z]\w*$`)
)

// plainCall looks at User(password=…), filter_by(password=…) and
// execute("INSERT …", (…, password)).
func plainCall(p *audit.Pass, f *audit.File, n pysyntax.ID, local map[string][]pysyntax.ID, hashing map[string]bool) {
	py := f.Python
	fn, args, keywords := py.Call(n)
	_, method := py.Attribute(fn)
	name := method
	if name == "" {
		name = py.Name(fn)
	}
	switch {
	case name == "filter_by", modelish.MatchString(name):
		for _, k := range keywords {
			kw, v := py.KeywordArg(k)
			if !audit.PasswordName(kw) || hashing[kw] || !typed(p, f, v, local) || name != "filter_by" && !isModel(p, f, fn) {
				continue
			}
			what := name + " is given the password as it was typed"
			if name == "filter_by" {
				what = "a row is looked up by the password as it was typed, so it is stored in plain text"
			}
			p.Report(audit.Finding{Span: f.NodeSpan(k), Message: what})
		}
	case (name == "execute" || name == "executemany") && len(args) == 1:
		built, text := args[0], string(py.Text(args[0]))
		if v := local[py.Name(built)]; len(v) == 1 {
			built, text = v[0], string(py.Text(v[0]))
		}
		if !insertRE.MatchString(strings.TrimLeft(text, "frbuFRBU\"'")) && !builtRE.MatchString(text) {
			return
		}
		found := false
		pysyntax.Walk(py, built, func(x pysyntax.ID) bool {
			found = found || x != built && typed(p, f, x, local)
			return !found
		})
		if found {
			p.Report(audit.Finding{Span: f.NodeSpan(n), Message: "the statement holds the password as it was typed"})
		}
	case (name == "execute" || name == "executemany") && len(args) > 1:
		sql := p.Flask.Value(f.Path, args[0]).Text
		if inner, in, _ := py.Call(args[0]); inner != 0 && len(in) > 0 {
			sql = p.Flask.Value(f.Path, in[0]).Text
		}
		if !insertRE.MatchString(sql) && !whereRE.MatchString(sql) {
			return
		}
		values := py.Elts(args[1])
		for _, v := range py.DictItems(args[1]) {
			values = append(values, v)
		}
		for _, v := range values {
			if typed(p, f, v, local) {
				p.Report(audit.Finding{Span: f.NodeSpan(v), Message: "the statement is given the password as it was typed"})
				return
			}
		}
	}
}

// passwordProperties returns the attributes that some class of the project
// computes: assigning to them may hash.
func passwordProperties(p *audit.Pass) map[string]bool {
	out := map[string]bool{}
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			if py.Kind(id) != pysyntax.ClassDef {
				continue
			}
			for _, st := range py.ClassDef(id).Body {
				switch py.Kind(st) {
				case pysyntax.FunctionDef:
					fn := py.FunctionDef(st)
					if fn.Name == "__setattr__" || fn.Name == "__init__" && hashes(py, st) {
						out["password"] = true
					}
					out[fn.Name] = out[fn.Name] || audit.PasswordName(fn.Name) && len(fn.Decorators) > 0
					// @validates("password"), @hybrid_property, events
					for _, d := range fn.Decorators {
						_, args, _ := py.Call(d)
						for _, a := range args {
							if s, ok := py.StringValue(a); ok {
								out[s] = true
							}
						}
					}
				case pysyntax.Assign:
					targets, v := py.Assign(st)
					text := string(py.Text(v))
					if len(targets) == 1 && (strings.Contains(text, "PasswordType") || strings.Contains(text, "Encrypted") || strings.Contains(text, "property(") || strings.Contains(text, "synonym(")) {
						out[py.Name(targets[0])] = true
					}
				}
			}
		}
	}
	return out
}

func hashes(py *pysyntax.File, id pysyntax.ID) bool {
	return slices.ContainsFunc([]string{"hash", "crypt", "set_password"}, func(w string) bool { return strings.Contains(string(py.Text(id)), w) })
}

// locals returns the expressions that each name is assigned in a function.
func locals(py *pysyntax.File, fn pysyntax.ID) map[string][]pysyntax.ID {
	out := map[string][]pysyntax.ID{}
	pysyntax.Walk(py, fn, func(id pysyntax.ID) bool {
		targets, v := py.Assign(id)
		if t, _, av := py.AnnAssign(id); t != 0 && av != 0 {
			targets, v = []pysyntax.ID{t}, av
		}
		if t, nv := py.NamedExpr(id); t != 0 {
			targets, v = []pysyntax.ID{t}, nv
		}
		for _, t := range targets {
			if name := py.Name(t); name != "" {
				out[name] = append(out[name], v)
			}
			// name, password = request.form["name"], request.form["password"]
			if e, ve := py.Elts(t), py.Elts(v); len(e) > 0 && len(e) == len(ve) {
				for i := range e {
					if name := py.Name(e[i]); name != "" {
						out[name] = append(out[name], ve[i])
					}
				}
			}
		}
		return true
	})
	return out
}

// typed reports whether an expression is a password as a visitor typed it:
// read from the request or a form under a password's name.
func typed(p *audit.Pass, f *audit.File, id pysyntax.ID, local map[string][]pysyntax.ID) bool {
	name := received(p, f, id, local, 0)
	return name != "" && audit.PasswordName(name)
}

// received returns the name under which an expression was read from the
// request, looking through local names and what leaves a text as it is.
func received(p *audit.Pass, f *audit.File, id pysyntax.ID, local map[string][]pysyntax.ID, depth int) string {
	py := f.Python
	if depth > 4 {
		return ""
	}
	switch py.Kind(id) {
	case pysyntax.Name:
		values := local[py.Name(id)]
		found := ""
		for _, v := range values {
			n := received(p, f, v, local, depth+1)
			if n == "" && !isEmpty(py, v) {
				return "" // it may be something else by now
			}
			if n != "" {
				found = n
			}
		}
		return found
	case pysyntax.Subscript:
		base, key := py.Subscript(id)
		if requestPart(p, f, base, local, depth) {
			s, _ := py.StringValue(key)
			return s
		}
	case pysyntax.Attribute:
		base, attr := py.Attribute(id)
		switch attr {
		case "data": // form.password.data
			if _, field := py.Attribute(base); field != "" && !strings.HasPrefix(p.Flask.Name(f.Path, base), "flask.request") {
				return field
			}
		case "password":
			if p.Flask.Name(f.Path, base) == "flask.request.authorization" {
				return "password"
			}
			for _, v := range local[py.Name(base)] {
				if p.Flask.Name(f.Path, v) == "flask.request.authorization" {
					return "password"
				}
			}
		}
	case pysyntax.Call:
		fn, args, _ := py.Call(id)
		base, method := py.Attribute(fn)
		switch method {
		case "get":
			if len(args) > 0 && requestPart(p, f, base, local, depth) {
				s, _ := py.StringValue(args[0])
				return s
			}
		case "strip", "encode", "lower", "decode":
			return received(p, f, base, local, depth+1)
		}
		if py.Name(fn) == "str" && len(args) == 1 {
			return received(p, f, args[0], local, depth+1)
		}
	case pysyntax.BoolOp:
		_, operands := py.BoolOp(id)
		return received(p, f, operands[0], local, depth+1)
	}
	return ""
}

func isEmpty(py *pysyntax.File, id pysyntax.ID) bool {
	s, ok := py.StringValue(id)
	return py.Kind(id) == pysyntax.None || ok && s == ""
}

// requestPart reports whether an expression is a part of the request that
// holds values by name.
func requestPart(p *audit.Pass, f *audit.File, id pysyntax.ID, local map[string][]pysyntax.ID, depth int) bool {
	if n := f.Python.Name(id); n != "" && depth < 4 {
		for _, v := range local[n] {
			if requestPart(p, f, v, local, depth+1) {
				return true
			}
		}
	}
	if fn, _, _ := f.Python.Call(id); fn != 0 {
		return p.Flask.Name(f.Path, fn) == "flask.request.get_json"
	}
	switch p.Flask.Name(f.Path, id) {
	case "flask.request.form", "flask.request.args", "flask.request.values", "flask.request.json", "flask.request.headers", "flask.request.cookies", "flask.request.files":
		return true
	}
	return false
}

// stored returns the name of an expression that is a password kept
// somewhere: user.password, row["password"].
func stored(p *audit.Pass, f *audit.File, id pysyntax.ID, local map[string][]pysyntax.ID) string {
	py := f.Python
	if received(p, f, id, local, 0) != "" {
		return ""
	}
	switch py.Kind(id) {
	case pysyntax.Attribute:
		base, name := py.Attribute(id)
		if low := strings.ToLower(py.DottedName(base)); audit.PasswordName(name) && low != "" && !strings.Contains(low, "form") && !strings.Contains(low, "request") && !strings.Contains(low, "config") && !strings.Contains(low, "settings") && !strings.Contains(low, "auth") && !strings.Contains(low, "args") {
			return py.DottedName(base) + "." + name
		}
	case pysyntax.Subscript:
		base, key := py.Subscript(id)
		s, _ := py.StringValue(key)
		if low := strings.ToLower(py.DottedName(base)); audit.PasswordName(s) && low != "" && !strings.Contains(low, "config") && !strings.Contains(low, "environ") && !strings.Contains(low, "form") && !strings.Contains(low, "data") && !strings.Contains(low, "args") && !strings.Contains(low, "json") {
			return py.DottedName(base) + "[" + s + "]"
		}
	}
	return ""
}

// isModel reports whether a call makes a row of the project's own model: a
// class of the project that has no __init__ of its own.
func isModel(p *audit.Pass, f *audit.File, fn pysyntax.ID) bool {
	name := f.Python.Name(fn)
	if name == "" {
		_, name = f.Python.Attribute(fn)
	}
	for g := range p.Python() {
		py := g.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			if py.Kind(id) != pysyntax.ClassDef {
				continue
			}
			c := py.ClassDef(id)
			if c.Name != name || len(c.Bases) == 0 {
				continue
			}
			for _, b := range c.Bases {
				if text := string(py.Text(b)); strings.Contains(text, "Form") || strings.Contains(text, "Schema") {
					return false
				}
			}
			text := string(py.Text(id))
			return strings.Contains(text, "Column(") || strings.Contains(text, "mapped_column(") || strings.Contains(text, "Field(")
		}
	}
	return false
}

// isField reports whether an attribute is set on something that talks to
// another server rather than on a row: smtp.password, config.password.
func isField(p *audit.Pass, f *audit.File, base pysyntax.ID) bool {
	low := strings.ToLower(f.Python.DottedName(base))
	return low == "" || slices.ContainsFunc([]string{"config", "setting", "client", "conn", "session", "args", "request", "smtp", "server", "app"}, func(w string) bool { return strings.Contains(low, w) }) ||
		strings.HasPrefix(p.Flask.Name(f.Path, base), "flask.")
}

// fastHashes are the hashes that are no more than fast. MD5 and SHA-1 have a
// rule of their own, DW-SECRETS-010.
var fastHashes = map[string]bool{"sha224": true, "sha256": true, "sha384": true, "sha512": true, "sha3224": true, "sha3256": true, "sha3384": true, "sha3512": true, "blake2b": true, "blake2s": true}

func fastPasswordHash(p *audit.Pass) {
	p.Judge(p.Hits("use", "hash"), func(h *pyflow.Hit) (audit.Finding, bool) {
		name, data := h.Path[strings.LastIndexByte(h.Path, '.')+1:], 0
		if h.Path == "hashlib.new" {
			v, _ := h.Arg(0, "name")
			for _, s := range audit.Consts(v) {
				name = s
			}
			data = 1
		} else if parts := strings.Split(h.Path, "."); name == "new" && len(parts) > 1 {
			name = parts[len(parts)-2]
		}
		if !fastHashes[strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))] || strings.HasPrefix(h.Path, "hmac.") {
			return audit.Finding{}, false
		}
		v, _ := h.Arg(data, "data")
		what := passwordIn(v)
		if what == "" {
			what = hashedName(p, h, data)
		}
		return audit.Finding{Message: fmt.Sprintf("%s is hashed with %s, which is fast", what, name)}, what != ""
	})
	p.Follow(p.Hits("sink", "hash-data"), func(h *pyflow.Hit) []audit.Danger {
		for _, v := range h.Focus {
			for _, l := range v.All() {
				if audit.FromOutside(l) && audit.PasswordName(audit.QuotedName(l)) {
					return []audit.Danger{{Label: l, Message: "%s is hashed with a fast hash", Caret: "hashed here"}}
				}
			}
		}
		return nil
	})
	p.Judge(p.Hits("use", "password-hash"), func(h *pyflow.Hit) (audit.Finding, bool) {
		last := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		switch {
		case last == "generate_password_hash" && strings.HasPrefix(h.Path, "werkzeug."):
			v, _ := h.Arg(1, "method")
			for _, m := range audit.Consts(v) {
				if m == "plain" || m == "md5" || m == "sha1" || strings.HasPrefix(m, "sha") {
					return audit.Finding{Message: fmt.Sprintf("passwords are hashed with the method %q, which is fast", m)}, true
				}
			}
		case strings.HasPrefix(h.Path, "passlib.hash."):
			for _, s := range []string{"plaintext", "md5_crypt", "hex_", "des_crypt"} {
				if strings.Contains(h.Path, "."+s) {
					return audit.Finding{Message: fmt.Sprintf("passwords are hashed with %s, which is fast", strings.Split(h.Path, ".")[2])}, true
				}
			}
		case last == "pbkdf2_hmac":
			if v, ok := h.Arg(3, "iterations"); ok && v.Kind == pyflow.Number && v.Known && v.Number < 10000 {
				return audit.Finding{Message: fmt.Sprintf("PBKDF2 runs only %.0f rounds", v.Number)}, true
			}
		}
		return audit.Finding{}, false
	})
}

// passwordIn returns the words for a password that a visitor typed and that
// is part of a value.
func passwordIn(v pyflow.Value) string {
	for _, l := range v.All() {
		if audit.FromOutside(l) && audit.PasswordName(audit.QuotedName(l)) {
			return audit.Sourced(l)
		}
	}
	return ""
}

// hashedName returns the name of what is hashed, if it is a password's and
// its value is not a constant.
func hashedName(p *audit.Pass, h *pyflow.Hit, arg int) string {
	f, call := p.HitCall(h)
	if call == 0 || arg >= len(h.Args) {
		return ""
	}
	if _, known := h.Args[arg].Const(); known {
		return ""
	}
	py := f.Python
	_, args, _ := py.Call(call)
	if arg >= len(args) {
		return ""
	}
	found := ""
	pysyntax.Walk(py, args[arg], func(id pysyntax.ID) bool {
		name := py.Name(id)
		if py.Kind(id) == pysyntax.Attribute {
			_, name = py.Attribute(id)
		}
		if audit.PasswordName(name) && name != "pw" && name != "pass" {
			found = name
		}
		return found == ""
	})
	return found
}

// ---- tokens ----

func unverifiedToken(p *audit.Pass) {
	hits := p.Hits("use", "jwt-decode")
	verdicts := map[*pyflow.Hit]string{}
	verified := map[string]bool{}     // functions that verify, too
	later := map[*pyflow.Entry]bool{} // and what a request runs through
	for _, h := range hits {
		if verdicts[h] = tokenFault(h); verdicts[h] == "" {
			verified[h.Function] = true
			later[h.Entry] = h.Entry != nil
		}
	}
	p.Judge(hits, func(h *pyflow.Hit) (audit.Finding, bool) {
		f, call := p.HitCall(h)
		// A look at the token before it is verified chooses the key.
		out := audit.Finding{Message: verdicts[h]}
		if later[h.Entry] || call != 0 && len(later) > 0 && onlyIssuer(f, call) {
			out.Confidence, out.Label = audit.Possible, "unless the token is verified before anybody believes it"
		}
		return out, verdicts[h] != "" && call != 0 && !verified[h.Function]
	})
	p.Judge(p.Hits("use", "jwt-encode"), func(h *pyflow.Hit) (audit.Finding, bool) {
		v, _ := h.Arg(2, "algorithm")
		for _, s := range audit.Consts(v) {
			if strings.EqualFold(s, "none") {
				return audit.Finding{Message: "the token is not signed: its algorithm is none"}, true
			}
		}
		return audit.Finding{}, false
	})
}

// issuerClaims say with which key a token is to be verified.
var issuerClaims = map[string]bool{"iss": true, "kid": true, "aud": true, "azp": true, "client_id": true, "tid": true}

// onlyIssuer reports whether of a token that is decoded nothing is read but who
// says to have made it.
func onlyIssuer(f *audit.File, call pysyntax.ID) bool {
	py := f.Python
	around := f.Around(py.Node(call).Start, py.Node(call).End)
	i := slices.Index(around, call)
	if i < 0 {
		return false
	}
	// The claim that is read of an expression, if one is.
	claim := func(id, of pysyntax.ID) bool {
		base, key := py.Subscript(id)
		if fn, args, _ := py.Call(id); fn != 0 && len(args) > 0 {
			on, method := py.Attribute(fn)
			if method == "get" {
				base, key = on, args[0]
			}
		}
		name, _ := py.StringValue(key)
		return base != 0 && base == of && issuerClaims[name]
	}
	up := around[:i]
	for j := len(up) - 1; j >= max(0, len(up)-2); j-- {
		if claim(up[j], call) {
			return true
		}
	}
	if len(up) == 0 {
		return false
	}
	targets, value := py.Assign(up[len(up)-1])
	if value != call || len(targets) != 1 || py.Name(targets[0]) == "" {
		return false
	}
	name := py.Name(targets[0])
	for j := len(up) - 1; j >= 0; j-- {
		if k := py.Kind(up[j]); k != pysyntax.FunctionDef && k != pysyntax.AsyncFunctionDef {
			continue
		}
		uses, claims := 0, 0
		pysyntax.Walk(py, up[j], func(id pysyntax.ID) bool {
			if py.Name(id) == name && id != targets[0] {
				uses++
			}
			base, _ := py.Subscript(id)
			if fn, _, _ := py.Call(id); fn != 0 {
				base, _ = py.Attribute(fn)
			}
			if base != 0 && py.Name(base) == name && claim(id, base) {
				claims++
			}
			return true
		})
		return claims > 0 && uses == claims
	}
	return false
}

// tokenFault says why a call that decodes a token believes anybody.
func tokenFault(h *pyflow.Hit) string {
	if strings.HasPrefix(h.Path, "jwcrypto.") || strings.HasPrefix(h.Path, "flask_jwt_extended.") {
		return ""
	}
	switch h.Path {
	case "python_jwt.process_jwt":
		return "the token is only taken apart"
	case "python_jwt.verify_jwt":
		return "" // without a list of algorithms it accepts no signed token
	}
	if v, ok := h.Keywords["verify"]; ok && audit.MayBe(v, false) {
		return "verify is off"
	}
	// PyJWT: decode(jwt, key, algorithms, options); jose: decode(token, key,
	// algorithms, options); jose.jws.verify(token, key, algorithms, verify).
	options, _ := h.Arg(3, "options")
	fault, off := "", false
	options.Each(func(v pyflow.Value) {
		if x, ok := v.Field("verify_signature"); ok && audit.MayBe(x, false) {
			off = true
		}
		if v.Kind == pyflow.Bool && v.Known && !v.Bool && strings.HasSuffix(h.Path, ".verify") {
			off = true
		}
	})
	if off {
		return "verify_signature is off"
	}
	algorithms, given := h.Arg(2, "algorithms")
	if strings.HasPrefix(h.Path, "authlib.") {
		return ""
	}
	texts := func(v pyflow.Value) {
		for _, s := range audit.Consts(v) {
			if strings.EqualFold(s, "none") {
				fault = "the algorithm none is accepted, which is no signature"
			}
		}
		for _, l := range v.All() {
			if audit.FromOutside(l) && fault == "" {
				fault = audit.Sourced(l) + " chooses the algorithm"
			}
		}
	}
	switch {
	case !given && !h.Unpacked:
		return "no algorithms are named: the token chooses"
	case given:
		algorithms.Each(func(v pyflow.Value) {
			if v.Kind == pyflow.None {
				fault = "no algorithms are named: the token chooses"
			}
			texts(v)
			for _, i := range v.Items {
				texts(i)
			}
		})
	}
	return fault
}

// ---- assert ----

// rightsRE matches the names of what decides about rights.
var rightsRE = regexp.MustCompile(`(?i)^(?:is_|has_|can_|may_)?(?:authenticated|admin|administrator|superuser|staff|owner|owned_by|allowed|authorized|authorised|permission|permissions|permitted|role|roles|logged_in|access|moderator)$`)

// decidesRE matches those that are an answer by themselves, not the name of a
// role to be looked up.
var decidesRE = regexp.MustCompile(`(?i)^(?:is|has|can|may)_|^(?:authenticated|authori[sz]ed|allowed|permitted|logged_in)$`)

func assertedRights(p *audit.Pass) {
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			test, _ := py.Assert(id)
			if test == 0 {
				continue
			}
			what := ""
			pysyntax.Walk(py, test, func(n pysyntax.ID) bool {
				name, dotted := py.Name(n), py.DottedName(n)
				if py.Kind(n) == pysyntax.Attribute {
					_, name = py.Attribute(n)
				}
				if name == "" {
					return what == ""
				}
				q := p.Flask.Name(f.Path, n)
				switch {
				case strings.HasPrefix(q, "flask_login.current_user"), strings.HasPrefix(q, "flask_security.current_user"),
					strings.HasPrefix(q, "flask.session"), strings.HasPrefix(q, "flask.g.user"), strings.HasPrefix(q, "flask.request.") && py.Name(n) == "" && !strings.HasPrefix(q, "flask.request.method"):
					what = dotted
				case dotted != "" && rightsRE.MatchString(name) && (strings.Contains(dotted, ".") || decidesRE.MatchString(name)):
					what = dotted
				}
				return what == ""
			})
			// A type checker's hint: assert current_user is not None,
			// assert isinstance(x, User).
			if what == "" || narrows(py, test) || setOf(py, test, what) || invariant(py, test) || valueOfUser(p, f, test) {
				continue
			}
			p.Report(audit.Finding{Span: f.NodeSpan(id), Message: fmt.Sprintf("whether %s holds is asserted, and asserts can be left out", what)})
		}
	}
}

// invariant reports whether a test says that two answers agree, so that it
// decides nothing: (secret is None) == is_admin.
func invariant(py *pysyntax.File, test pysyntax.ID) bool {
	left, rest := py.Compare(test)
	if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
		return false
	}
	answer := func(id pysyntax.ID) bool {
		op, _ := py.UnaryOp(id)
		return py.Kind(id) == pysyntax.Compare || py.Kind(id) == pysyntax.UnaryOp && op == pysyntax.UnaryNot
	}
	return answer(left) || answer(rest[0].Right)
}

// valueOfUser reports whether a test only asks whether there is a value that
// the user object holds, such as an id, under a name of its own: id =
// current_user.id; assert id.
func valueOfUser(p *audit.Pass, f *audit.File, test pysyntax.ID) bool {
	name := f.Python.Name(test)
	if name == "" || rightsRE.MatchString(name) {
		return false
	}
	q := p.Flask.Name(f.Path, test)
	for _, user := range []string{"flask_login.current_user.", "flask_security.current_user."} {
		if attr, ok := strings.CutPrefix(q, user); ok && !rightsRE.MatchString(attr) {
			return true
		}
	}
	return false
}

// setOf reports whether a name that may be an answer is a set here, of words
// that a program allows: options in allowed, allowed.issubset(options).
func setOf(py *pysyntax.File, test pysyntax.ID, name string) bool {
	if strings.Contains(name, ".") {
		return false
	}
	if _, rest := py.Compare(test); len(rest) == 1 && (rest[0].Op == pysyntax.CmpIn || rest[0].Op == pysyntax.CmpNotIn) {
		return py.Name(rest[0].Right) == name
	}
	fn, _, _ := py.Call(test)
	if fn == 0 || py.Kind(fn) != pysyntax.Attribute {
		return false
	}
	of, method := py.Attribute(fn)
	return py.Name(of) == name && slices.Contains([]string{"issubset", "issuperset", "isdisjoint"}, method)
}

func narrows(py *pysyntax.File, test pysyntax.ID) bool {
	if fn, _, _ := py.Call(test); fn != 0 {
		return py.Name(fn) == "isinstance" || py.Name(fn) == "hasattr" || py.Name(fn) == "callable"
	}
	_, rest := py.Compare(test)
	return len(rest) == 1 && rest[0].Op == pysyntax.CmpIsNot && py.Kind(rest[0].Right) == pysyntax.None
}

// ---- comparisons ----

// digestWords name what only the app and those it trusts can know.
var digestRE = regexp.MustCompile(`(?i)(?:^|_)(?:signature|sig|hmac|mac|digest|hexdigest|api_?key|secret|secret_?key|auth_?token|access_?token|csrf_?token|reset_?token|webhook_?(?:secret|token)|password_?hash|token|webhook_?key|shared_?key)$`)

func timedComparison(p *audit.Pass) {
	p.Functions(func(f *audit.File, id pysyntax.ID, fn pysyntax.Function) {
		py := f.Python
		local := locals(py, id)
		pysyntax.Walk(py, id, func(n pysyntax.ID) bool {
			if n != id {
				if k := py.Kind(n); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef {
					return false
				}
			}
			left, rest := py.Compare(n)
			if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
				return true
			}
			a, b := left, rest[0].Right
			if received(p, f, a, local, 0) == "" {
				a, b = b, a
			}
			// One side comes with the request, the other is a secret.
			if received(p, f, a, local, 0) == "" || received(p, f, b, local, 0) != "" {
				return true
			}
			what := secretSide(p, f, b, local)
			if what == "" || inQuery(py, n, f) {
				return true
			}
			p.Report(audit.Finding{Span: f.NodeSpan(n), Message: fmt.Sprintf("%s is compared with what a client sent by ==", what), Edits: p.Repair(f, func() []audit.Edit { return p.FixCompareDigest(f, n) })})
			return true
		})
	})
}

// inQuery reports whether a comparison is part of a query, so that the
// database compares: query.filter(Row.token == token).
func inQuery(py *pysyntax.File, compare pysyntax.ID, f *audit.File) bool {
	n := py.Node(compare)
	for _, id := range slices.Backward(f.Around(n.Start, n.End)) {
		switch py.Kind(id) {
		case pysyntax.Call:
			fn, _, _ := py.Call(id)
			name := py.Name(fn)
			if name == "" {
				_, name = py.Attribute(fn)
			}
			if slices.Contains([]string{"filter", "where", "having", "join", "outerjoin", "and_", "or_", "not_", "case", "select", "delete", "update", "get_or_none"}, name) {
				return true
			}
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.Lambda:
			return false
		}
	}
	return false
}

// secretSide returns the words for an expression that is a secret: computed
// by a keyed hash, read from the configuration, or named so.
func secretSide(p *audit.Pass, f *audit.File, id pysyntax.ID, local map[string][]pysyntax.ID) string {
	py := f.Python
	if v := p.Flask.Value(f.Path, id); v.Known && v.Kind != flask.None && v.FromEnv == "" || py.Kind(id) == pysyntax.None {
		if py.Kind(id) != pysyntax.Name && py.Kind(id) != pysyntax.Attribute {
			return "" // a literal: DW-SECRETS-015
		}
	}
	name := ""
	switch py.Kind(id) {
	case pysyntax.Name:
		name = py.Name(id)
		for _, v := range local[name] {
			if computesDigest(py, v) {
				return name
			}
		}
	case pysyntax.Attribute:
		_, name = py.Attribute(id)
	case pysyntax.Subscript:
		base, key := py.Subscript(id)
		name, _ = py.StringValue(key)
		if text := py.DottedName(base); text == "session" {
			return "" // a token kept in the visitor's own session
		}
	case pysyntax.Call:
		if computesDigest(py, id) {
			return "a digest"
		}
		fn, args, _ := py.Call(id)
		if base, m := py.Attribute(fn); (m == "get" || m == "getenv") && len(args) > 0 && py.DottedName(base) != "session" {
			name, _ = py.StringValue(args[0])
		}
	}
	if digestRE.MatchString(name) && !strings.Contains(strings.ToLower(name), "csrf") {
		return name
	}
	return ""
}

func computesDigest(py *pysyntax.File, id pysyntax.ID) bool {
	fn, _, _ := py.Call(id)
	_, m := py.Attribute(fn)
	return m == "hexdigest" || m == "digest" && strings.Contains(string(py.Text(id)), "hmac")
}
