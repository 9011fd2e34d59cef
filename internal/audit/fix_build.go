package audit

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// The builders below make whole repairs of faults that several rules know.
// Each is called with the node that a rule found and looks itself whether the
// repair does there what the code did; nil means that it might not. They do
// not judge whether there is a fault.

// library returns the path under which a library knows what an expression
// names, such as "random.choice" for choice after "from random import
// choice", or "" where the file does not say so for certain.
func (f *File) library(id pysyntax.ID) string {
	py := f.Python
	name := py.DottedName(id)
	top, rest, _ := strings.Cut(name, ".")
	if top == "" {
		return ""
	}
	target, imports := "", 0
	for i := range py.Nodes {
		s := pysyntax.ID(i)
		for _, n := range py.Import(s) {
			if n.Bound() != top {
				continue
			}
			full := n.Name
			if n.As == "" {
				if full = top; n.Name != top {
					imports-- // which bindings does not count
				}
			}
			if target != "" && target != full {
				return ""
			}
			target = full
			imports++
		}
		from, level, names := py.ImportFrom(s)
		for _, n := range names {
			if n.Bound() != top {
				continue
			}
			full := from + "." + n.Name
			if level > 0 || target != "" && target != full {
				return ""
			}
			target = full
			imports++
		}
	}
	if target == "" || bindings(py, top, 0) != imports {
		return ""
	}
	if rest != "" {
		target += "." + rest
	}
	return target
}

// callee returns the path of what a call calls; see library.
func (f *File) callee(call pysyntax.ID) string {
	if f.Python == nil {
		return ""
	}
	fn, _, _ := f.Python.Call(call)
	return f.library(fn)
}

// parent returns the node right above another, or 0.
func (f *File) parent(id pysyntax.ID) pysyntax.ID { return f.index().parents[id] }

// renameTo makes a call's function another attribute of its module: in place
// where it is written module.name, and through the module otherwise.
func (p *Pass) renameTo(f *File, fn pysyntax.ID, module, name string) []Edit {
	if f.Python.Kind(fn) == pysyntax.Attribute && f.Python.DottedName(fn) != "" {
		if v, _ := f.Python.Attribute(fn); f.library(v) == module {
			start, end := f.Python.NameSpan(fn)
			return f.edit(start, end, name)
		}
	}
	mod, imp := p.EnsureImport(f, module, fn)
	return Together(imp, p.ReplaceNode(f, fn, mod+"."+name))
}

// FixYAMLLoad makes yaml.load, full_load and unsafe_load, and their _all
// forms, the safe ones (CWE-502). A loader given is dropped, CLoader and its
// like become CSafeLoader. Documents that only need YAML's own types load as
// before.
func (p *Pass) FixYAMLLoad(f *File, call pysyntax.ID) []Edit {
	name, ok := strings.CutPrefix(f.callee(call), "yaml.")
	if !ok {
		return nil
	}
	to := "safe_load"
	switch name {
	case "load", "full_load", "unsafe_load":
	case "load_all", "full_load_all", "unsafe_load_all":
		to = "safe_load_all"
	default:
		return nil
	}
	py := f.Python
	fn, args, keywords := py.Call(call)
	var loader pysyntax.ID
	switch {
	case len(args) == 1 && len(keywords) == 0:
		return p.renameTo(f, fn, "yaml", to)
	case len(args) == 2 && len(keywords) == 0 && strings.HasPrefix(name, "load"):
		loader = args[1]
	case len(args) == 1 && len(keywords) == 1:
		if k, v := py.KeywordArg(keywords[0]); k == "Loader" && strings.HasPrefix(name, "load") {
			loader = v
		}
	}
	if loader == 0 || py.Kind(args[0]) == pysyntax.Starred {
		return nil
	}
	l, ok := strings.CutPrefix(f.library(loader), "yaml.")
	switch {
	case ok && strings.HasPrefix(l, "C"):
		return p.renameTo(f, loader, "yaml", "CSafeLoader")
	case !ok || l != "Loader" && l != "FullLoader" && l != "UnsafeLoader":
		return nil // one of the project's own: it may know more types
	case len(keywords) == 1:
		if drop := p.RemoveKeyword(f, call, "Loader"); drop != nil {
			return Together(p.renameTo(f, fn, "yaml", to), drop)
		}
	}
	return p.renameTo(f, loader, "yaml", "SafeLoader")
}

// FixRandom makes a call of a function of module random one of module
// secrets, or of secrets.SystemRandom, which has the same methods (CWE-338).
// It is nil in a file that seeds the generator: that wants the same numbers
// again.
func (p *Pass) FixRandom(f *File, call pysyntax.ID) []Edit {
	name, ok := strings.CutPrefix(f.callee(call), "random.")
	if !ok {
		return nil
	}
	py := f.Python
	// Names are resolved only where the text has one of the two: that takes
	// a look at the whole file each.
	if bytes.Contains(py.Src, []byte("seed")) || bytes.Contains(py.Src, []byte("setstate")) {
		for i := range py.Nodes {
			fn, _, _ := py.Call(pysyntax.ID(i))
			if fn == 0 || !bytes.Contains(py.Text(fn), []byte("seed")) && !bytes.Contains(py.Text(fn), []byte("setstate")) && py.Kind(fn) != pysyntax.Name {
				continue
			}
			if c := f.library(fn); c == "random.seed" || c == "random.setstate" {
				return nil
			}
		}
	}
	fn, args, keywords := py.Call(call)
	one := len(args) == 1 && len(keywords) == 0 && py.Kind(args[0]) != pysyntax.Starred
	switch name {
	case "choice":
		name = "choice"
	case "randrange":
		if name = "SystemRandom().randrange"; one {
			name = "randbelow"
		}
	case "getrandbits":
		if name = "SystemRandom().getrandbits"; one {
			name = "randbits"
		}
	case "randbytes":
		if name = "SystemRandom().randbytes"; one {
			name = "token_bytes"
		}
	case "random", "uniform", "randint", "choices", "sample", "shuffle", "triangular", "gauss", "normalvariate", "expovariate", "betavariate":
		name = "SystemRandom()." + name
	default:
		return nil
	}
	mod, imp := p.EnsureImport(f, "secrets", call)
	return Together(imp, p.ReplaceNode(f, fn, mod+"."+name))
}

// storedDigest is a digest of MD5 or SHA-1 written down. keptDigest are words
// that say on a line, or in the name of the function around it, that the
// digest is compared with one that is kept elsewhere, or that somebody else
// expects this very algorithm; and that it is of a password, which needs more
// than SHA-256.
var (
	storedDigest = regexp.MustCompile(`["'](?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40})["']`)
	keptDigest   = regexp.MustCompile(`(?i)md5|sha_?1|pass|pwd|avatar|mail|etag|checksum|digest_|fingerprint|verify|stored|pwned|signature|index|ident|_id\b|_name|filename`)
)

// FixHash makes MD5 and SHA-1 SHA-256 (CWE-328): in hashlib.md5(…).hexdigest()
// or .digest(), the same with hashlib.new("md5", …), in a reference to
// hashlib.md5 as hmac.new takes it, or in the literal "md5". The digest
// becomes another, and longer: so it is nil in a file that holds digests,
// where the names say that the digest is of a password, kept elsewhere or
// expected by somebody else, and where it goes further than one expression.
func (p *Pass) FixHash(f *File, node pysyntax.ID) []Edit {
	py := f.Python
	if py == nil || node == 0 || storedDigest.Match(py.Src) {
		return nil
	}
	weak := func(s string) bool {
		switch strings.ReplaceAll(strings.ToLower(s), "-", "") {
		case "md5", "sha1":
			return true
		}
		return false
	}
	named := node // what says the algorithm
	if fn, args, _ := py.Call(node); fn != 0 {
		named = fn
		switch name, _ := strings.CutPrefix(f.library(fn), "hashlib."); {
		case name == "new":
			if named, _ = py.Argument(node, "name"); len(args) > 0 {
				named = args[0]
			}
		case !weak(name):
			return nil
		}
		attr := f.parent(node)
		if _, method := py.Attribute(attr); method != "hexdigest" && method != "digest" {
			return nil
		}
	}
	if named == 0 {
		return nil
	}
	n := py.Node(named)
	first, last := lineStart(py.Src, n.Start), lineEnd(py.Src, py.Node(node).End)
	around := string(py.Src[first:n.Start]) + string(py.Src[n.End:max(last, n.End)])
	if scope := f.scope(node); scope != py.Root {
		around += " " + py.FunctionDef(scope).Name
	}
	if keptDigest.MatchString(around) {
		return nil
	}
	switch n.Kind {
	case pysyntax.Str:
		if s, ok := py.StringValue(named); ok && weak(s) {
			return p.ReplaceNode(f, named, quoteLike(py.Text(named), "sha256"))
		}
	case pysyntax.Name, pysyntax.Attribute:
		if name, ok := strings.CutPrefix(f.library(named), "hashlib."); ok && weak(name) {
			return p.renameTo(f, named, "hashlib", "sha256")
		}
	}
	return nil
}

// quoteLike writes a plain word as a literal in the quotes of another.
func quoteLike(old []byte, word string) string {
	if len(old) > 0 && old[0] == '\'' {
		return "'" + word + "'"
	}
	return `"` + word + `"`
}

// timeoutAt is the place of the timeout among the positional arguments, for
// functions where it may be one.
var timeoutAt = map[string]int{
	"urllib.request.urlopen": 2, "socket.create_connection": 1, "smtplib.SMTP": 3, "smtplib.LMTP": -1, "smtplib.SMTP_SSL": 3,
	"poplib.POP3": 2, "imaplib.IMAP4": 2, "telnetlib.Telnet": 2, "http.client.HTTPConnection": 2, "http.client.HTTPSConnection": -1,
	"ftplib.FTP": 4, "ftplib.FTP_TLS": -1,
}

// FixTimeout gives a call that waits for another host timeout=10, seconds
// (CWE-400). Functions of requests and httpx take it by name only.
func (p *Pass) FixTimeout(f *File, call pysyntax.ID) []Edit {
	if f.Python == nil {
		return nil
	}
	_, args, _ := f.Python.Call(call)
	if at, ok := timeoutAt[f.callee(call)]; ok && len(args) > at {
		if at < 0 {
			if len(args) > 2 { // which one is it?
				return nil
			}
		} else {
			if slices.ContainsFunc(args, func(a pysyntax.ID) bool { return f.Python.Kind(a) == pysyntax.Starred }) {
				return nil
			}
			return p.ReplaceNode(f, args[at], "10")
		}
	}
	return p.SetKeyword(f, call, "timeout", "10")
}

// FixAutoescape gives a call of jinja2.Environment autoescape=True (CWE-79).
func (p *Pass) FixAutoescape(f *File, call pysyntax.ID) []Edit {
	if f.Python == nil {
		return nil
	}
	// autoescape is the fifteenth parameter; nobody counts that far.
	if _, args, _ := f.Python.Call(call); len(args) > 10 {
		return nil
	}
	return p.SetKeyword(f, call, "autoescape", "True")
}

// FixCookie gives a call of Response.set_cookie flags among "secure",
// "httponly" and "samesite" (CWE-614, CWE-1004, CWE-1275). samesite becomes
// "Lax". It is nil where one of them is computed: that may be meant.
func (p *Pass) FixCookie(f *File, call pysyntax.ID, flags ...string) []Edit {
	py := f.Python
	if py == nil {
		return nil
	}
	_, args, _ := py.Call(call)
	order := []string{"key", "value", "max_age", "expires", "path", "domain", "secure", "httponly", "samesite"}
	var parts [][]Edit
	var add []string
	for _, flag := range flags {
		value := "True"
		if flag == "samesite" {
			value = `"Lax"`
		}
		at := slices.Index(order, flag)
		given, unpacks := py.Argument(call, flag)
		switch {
		case at < 6 || unpacks || slices.ContainsFunc(args, func(a pysyntax.ID) bool { return py.Kind(a) == pysyntax.Starred }):
			return nil
		case at < len(args):
			given = args[at]
			fallthrough
		case given != 0:
			switch py.Kind(given) {
			case pysyntax.False, pysyntax.None, pysyntax.Num, pysyntax.Str:
				parts = append(parts, p.ReplaceNode(f, given, value))
			default:
				return nil
			}
		default:
			add = append(add, flag+"="+value)
		}
	}
	if len(add) > 0 {
		// One insertion for all: SetKeyword puts what it is given behind the
		// last argument as it is.
		name, value, _ := strings.Cut(strings.Join(add, ", "), "=")
		parts = append(parts, p.SetKeyword(f, call, name, value))
	}
	return Together(parts...)
}

// FixMktemp makes open(tempfile.mktemp(…), "w") a NamedTemporaryFile that
// stays, which is the same file without the moment in which another may make
// it first (CWE-377). Any other use of the name is nil: mkstemp gives an open
// file with it that somebody has to close.
func (p *Pass) FixMktemp(f *File, call pysyntax.ID) []Edit {
	if f.callee(call) != "tempfile.mktemp" {
		return nil
	}
	py := f.Python
	open := f.parent(call)
	fn, args, keywords := py.Call(open)
	if py.Name(fn) != "open" || bindings(py, "open", 0) > 0 || len(args) != 2 || args[0] != call || len(keywords) > 0 {
		return nil
	}
	mode, ok := py.StringValue(args[1])
	if !ok || !slices.Contains([]string{"w", "wb", "w+", "wb+", "w+b", "x", "xb"}, mode) {
		return nil
	}
	text := []string{quoteLike(py.Text(args[1]), strings.Replace(mode, "x", "w", 1))}
	mk, margs, mkeywords := py.Call(call)
	for i, a := range margs {
		if py.Kind(a) == pysyntax.Starred || i > 2 {
			return nil
		}
		text = append(text, []string{"suffix", "prefix", "dir"}[i]+"="+string(py.Text(a)))
	}
	for _, k := range mkeywords {
		if name, _ := py.KeywordArg(k); name == "" {
			return nil
		}
		text = append(text, string(py.Text(k)))
	}
	text = append(text, "delete=False")
	module, ok := strings.CutSuffix(py.DottedName(mk), ".mktemp")
	var imp []Edit = []Edit{}
	if !ok {
		module, imp = p.EnsureImport(f, "tempfile", call)
	}
	return Together(imp, p.ReplaceNode(f, open, module+".NamedTemporaryFile("+strings.Join(text, ", ")+")"))
}

// FixCompareDigest makes a == b hmac.compare_digest(a, b), and a != b its
// negation (CWE-208). compare_digest refuses None, and text beyond ASCII: so
// both sides have to be known as text or as bytes, and text of which nothing
// more is known is compared as bytes.
func (p *Pass) FixCompareDigest(f *File, compare pysyntax.ID) []Edit {
	py := f.Python
	if py == nil {
		return nil
	}
	left, rest := py.Compare(compare)
	if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
		return nil
	}
	right := rest[0].Right
	a, b := f.textual(left, compare, 0), f.textual(right, compare, 0)
	if a == unknownText || b == unknownText || (a == someBytes) != (b == someBytes) {
		return nil
	}
	l, r := string(py.Text(left)), string(py.Text(right))
	if strings.ContainsAny(l+r, "\r\n") || py.Kind(left) == pysyntax.NamedExpr || py.Kind(right) == pysyntax.NamedExpr {
		return nil
	}
	if a != someBytes && (a != asciiText || b != asciiText) {
		// None is compared as "", which nothing that is never empty equals.
		if a == maybeText && b != asciiText || b == maybeText && a != asciiText {
			return nil
		}
		encode := func(s string, id pysyntax.ID, t textKind) string {
			switch {
			case t == maybeText:
				return "(" + s + ` or "").encode()`
			case py.Kind(id) == pysyntax.Name || py.Kind(id) == pysyntax.Attribute || py.Kind(id) == pysyntax.Call || py.Kind(id) == pysyntax.Subscript:
				return s + ".encode()"
			}
			return "(" + s + ").encode()"
		}
		l, r = encode(l, left, a), encode(r, right, b)
	}
	mod, imp := p.EnsureImport(f, "hmac", compare)
	text := mod + ".compare_digest(" + l + ", " + r + ")"
	if rest[0].Op == pysyntax.CmpNe {
		text = "not " + text
		switch py.Kind(f.parent(compare)) {
		case pysyntax.If, pysyntax.While, pysyntax.Assert, pysyntax.Return, pysyntax.Assign, pysyntax.BoolOp, pysyntax.IfExp, pysyntax.Keyword:
		default:
			if py.Node(compare).Flags&pysyntax.FParen == 0 {
				return nil
			}
		}
	}
	return Together(imp, p.ReplaceNode(f, compare, text))
}

// textKind is what is known about the type of an expression.
type textKind uint8

const (
	unknownText textKind = iota
	someBytes
	asciiText // text in ASCII that is never empty
	someText
	maybeText // text or None
)

// requestText are the parts of a request that give text.
var requestText = map[string]bool{"args": true, "form": true, "values": true, "headers": true, "cookies": true}

// textual tells the type of an expression, looking through one assignment of
// a name that has no other in the function around at.
func (f *File) textual(id, at pysyntax.ID, depth int) textKind {
	py := f.Python
	switch py.Kind(id) {
	case pysyntax.Bytes:
		return someBytes
	case pysyntax.Str:
		s, ok := py.StringValue(id)
		switch {
		case !ok:
			return unknownText
		case s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }):
			return asciiText
		}
		return someText
	case pysyntax.JoinedStr:
		return someText
	case pysyntax.BinOp:
		if l, op, r := py.BinOp(id); op == pysyntax.OpAdd {
			a, b := f.textual(l, at, depth+1), f.textual(r, at, depth+1)
			switch {
			case a == asciiText && b == asciiText:
				return asciiText
			case (a == asciiText || a == someText) && (b == asciiText || b == someText):
				return someText
			case a == someBytes && b == someBytes:
				return someBytes
			}
		}
	case pysyntax.Name:
		if v := f.onlyValue(id, at); v != 0 && depth < 4 {
			return f.textual(v, at, depth+1)
		}
	case pysyntax.Subscript:
		v, index := py.Subscript(id)
		if py.Kind(index) == pysyntax.Str && (f.requestPart(v) || f.library(v) == "os.environ") {
			return someText
		}
	case pysyntax.Call:
		fn, args, keywords := py.Call(id)
		v, method := py.Attribute(fn)
		switch {
		case method == "hexdigest" && len(args) == 0 && len(keywords) == 0:
			return asciiText
		case method == "digest" && len(args) == 0 && len(keywords) == 0, method == "encode":
			return someBytes
		case method == "get" && f.requestPart(v) && len(keywords) == 0 && len(args) == 1:
			return maybeText
		case method == "get" && f.requestPart(v) && len(keywords) == 0 && len(args) == 2 && py.Kind(args[1]) == pysyntax.Str:
			return someText
		}
		switch f.library(fn) {
		case "secrets.token_hex", "secrets.token_urlsafe":
			return asciiText
		case "base64.b64encode", "base64.urlsafe_b64encode", "base64.b64decode", "base64.urlsafe_b64decode", "secrets.token_bytes", "hashlib.pbkdf2_hmac", "hashlib.scrypt":
			return someBytes
		}
	}
	return unknownText
}

// requestPart reports whether an expression is request.args or its like.
func (f *File) requestPart(id pysyntax.ID) bool {
	v, name := f.Python.Attribute(id)
	return requestText[name] && f.library(v) == "flask.request"
}

// onlyValue returns the expression that a name has at a place, where it is
// given one only once, by a plain assignment in the same function (or, both of
// them, in the module).
func (f *File) onlyValue(name, at pysyntax.ID) pysyntax.ID {
	py := f.Python
	n := py.Name(name)
	scope := f.scope(at)
	if n == "" || bindings(py, n, 0) == 0 {
		return 0
	}
	var value pysyntax.ID
	var where uint32
	count := bindingsIn(py, scope, n)
	pysyntax.Walk(py, scope, func(id pysyntax.ID) bool {
		if id != scope && (py.Kind(id) == pysyntax.FunctionDef || py.Kind(id) == pysyntax.AsyncFunctionDef || py.Kind(id) == pysyntax.Lambda || py.Kind(id) == pysyntax.ClassDef) {
			return false
		}
		if targets, v := py.Assign(id); len(targets) == 1 && py.Name(targets[0]) == n {
			value, where = v, py.Node(id).Start
		}
		return true
	})
	if count != 1 || value == 0 || where >= py.Node(at).Start {
		return 0
	}
	return value
}

// scope returns the innermost function around a node, or the module.
func (f *File) scope(id pysyntax.ID) pysyntax.ID {
	py := f.Python
	n := py.Node(id)
	scope := py.Root
	pysyntax.Walk(py, py.Root, func(k pysyntax.ID) bool {
		m := py.Node(k)
		switch m.Kind {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.Lambda:
			if m.Start <= n.Start && n.End <= m.End && k != id {
				scope = k
			}
		}
		return k == py.Root || m.Start <= n.Start && n.End <= m.End || m.Kind.IsStatement()
	})
	return scope
}
