package audit

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Judge asks decide about every hit and reports each place once, in the order
// of the places. It is [Pass.Follow] for the rules that look at the values of
// a call, wherever they come from. Where decide leaves Finding.Span empty, it
// is the hit's.
func (p *Pass) Judge(hits []*pyflow.Hit, decide func(*pyflow.Hit) (Finding, bool)) {
	seen := map[Span]bool{}
	for _, h := range hits {
		f, bad := decide(h)
		if !bad {
			continue
		}
		if f.Span == (Span{}) {
			f.Span = p.Project.FlowSpan(h.At)
		}
		if !seen[f.Span] {
			seen[f.Span] = true
			p.Report(f)
		}
	}
}

// treeIndex finds nodes by place. It is made when first asked: most files
// are never asked about.
type treeIndex struct {
	once    sync.Once
	parents []pysyntax.ID
	calls   []pysyntax.ID            // by where they start, then the innermost first
	defs    map[uint32][]pysyntax.ID // functions and classes by the line they start on
}

func (f *File) index() *treeIndex {
	t := &f.tree
	t.once.Do(func() {
		py := f.Python
		t.parents = pysyntax.Parents(py)
		t.defs = map[uint32][]pysyntax.ID{}
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			switch py.Nodes[i].Kind {
			case pysyntax.Call:
				t.calls = append(t.calls, id)
			case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef:
				line, _ := py.Position(py.Nodes[i].Start)
				t.defs[uint32(line)] = append(t.defs[uint32(line)], id)
			}
		}
		slices.SortFunc(t.calls, func(a, b pysyntax.ID) int {
			x, y := py.Node(a), py.Node(b)
			return cmp.Or(cmp.Compare(x.Start, y.Start), cmp.Compare(x.End, y.End), cmp.Compare(a, b))
		})
	})
	return t
}

// Around returns the nodes of f.Python around a range of the source, the
// module first and the smallest last.
func (f *File) Around(start, end uint32) []pysyntax.ID {
	py := f.Python
	if py == nil {
		return nil
	}
	t := f.index()
	i, found := slices.BinarySearchFunc(t.calls, [2]uint32{start, end}, func(id pysyntax.ID, at [2]uint32) int {
		n := py.Node(id)
		return cmp.Or(cmp.Compare(n.Start, at[0]), cmp.Compare(n.End, at[1]))
	})
	var out []pysyntax.ID
	if found {
		for id := t.calls[i]; id != 0; id = t.parents[id] {
			out = append(out, id)
		}
		slices.Reverse(out)
		return out
	}
	pysyntax.Walk(py, py.Root, func(id pysyntax.ID) bool {
		n := py.Node(id)
		if id != py.Root && (n.Start > start || n.End < end) {
			return false
		}
		out = append(out, id)
		return true
	})
	return out
}

// At returns the file and the nodes around a hit, smallest last; nil where
// the hit is not in Python.
func (p *Pass) At(h *pyflow.Hit) (*File, []pysyntax.ID) {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return nil, nil
	}
	return f, f.Around(h.At.Start, h.At.End)
}

// HitCall returns the file and the call of a hit, for the builders of edits;
// 0 where the hit is no call.
func (p *Pass) HitCall(h *pyflow.Hit) (*File, pysyntax.ID) {
	f, around := p.At(h)
	for _, id := range slices.Backward(around) {
		if n := f.Python.Node(id); n.Kind == pysyntax.Call && n.Start == h.At.Start && n.End == h.At.End {
			return f, id
		}
	}
	return f, 0
}

// Purpose returns the names that say what the value of an expression is for,
// nearest first: the keyword or key it is given as, the function it is given
// to, the variable it is assigned to, the function it stands in.
func (f *File) Purpose(start, end uint32) []string {
	py := f.Python
	var out []string
	add := func(names ...string) {
		for _, n := range names {
			if n != "" && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	for _, id := range slices.Backward(f.Around(start, end)) {
		switch py.Kind(id) {
		case pysyntax.Keyword:
			name, _ := py.KeywordArg(id)
			add(name)
		case pysyntax.Call:
			fn, args, keywords := py.Call(id)
			inside := func(x pysyntax.ID) bool { n := py.Node(x); return n.Start <= start && end <= n.End }
			if slices.ContainsFunc(args, inside) || slices.ContainsFunc(keywords, inside) {
				add(targetName(py, fn))
			}
		case pysyntax.Dict:
			for k, v := range py.DictItems(id) {
				if n := py.Node(v); n.Start <= start && end <= n.End {
					if s, ok := py.StringValue(k); ok {
						add(s)
					}
				}
			}
		case pysyntax.Assign:
			targets, _ := py.Assign(id)
			for _, t := range targets {
				add(targetName(py, t))
			}
		case pysyntax.AnnAssign:
			t, _, _ := py.AnnAssign(id)
			add(targetName(py, t))
		case pysyntax.AugAssign:
			t, _, _ := py.AugAssign(id)
			add(targetName(py, t))
		case pysyntax.NamedExpr:
			t, _ := py.NamedExpr(id)
			add(targetName(py, t))
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
			add(py.FunctionDef(id).Name)
			return out
		case pysyntax.ClassDef:
			add(py.ClassDef(id).Name)
			return out
		}
	}
	return out
}

// targetName returns the last name of what is assigned to or called:
// "token" of user.token and of session["token"].
func targetName(py *pysyntax.File, id pysyntax.ID) string {
	switch py.Kind(id) {
	case pysyntax.Name:
		return py.Name(id)
	case pysyntax.Attribute:
		_, name := py.Attribute(id)
		return name
	case pysyntax.Subscript:
		base, key := py.Subscript(id)
		if s, ok := py.StringValue(key); ok {
			return s
		}
		return targetName(py, base)
	case pysyntax.Tuple, pysyntax.List:
		for _, e := range py.Elts(id) {
			if n := targetName(py, e); n != "" {
				return n
			}
		}
	}
	return ""
}

var nameWordRE = regexp.MustCompile(`[A-Z]+(?:[a-z0-9]+)?|[a-z]+|[0-9]+`)

// NameWords takes a name apart, in lower case: "resetToken", "RESET_TOKEN"
// and "reset_token" give "reset", "token".
func NameWords(name string) []string {
	words := nameWordRE.FindAllString(name, -1)
	for i := range words {
		words[i] = strings.ToLower(words[i])
	}
	return words
}

// secretWords make a name the name of a secret, alone or before or behind
// others; notSecretWords take that back.
var (
	secretWords = map[string]bool{"password": true, "passwd": true, "passwort": true, "pwd": true, "passphrase": true, "secret": true, "secrets": true,
		"token": true, "tokens": true, "otp": true, "totp": true, "pin": true, "apikey": true, "credential": true, "credentials": true, "csrf": true, "nonce": true,
		"salt": true, "captcha": true, "passcode": true, "sessionid": true, "authkey": true, "privatekey": true}
	secretPairs = map[[2]string]bool{{"api", "key"}: true, {"secret", "key"}: true, {"private", "key"}: true, {"access", "key"}: true, {"auth", "key"}: true,
		{"session", "id"}: true, {"session", "key"}: true, {"session", "token"}: true, {"reset", "code"}: true, {"verification", "code"}: true,
		{"confirmation", "code"}: true, {"invite", "code"}: true, {"auth", "code"}: true, {"security", "code"}: true, {"one", "time"}: true,
		{"remember", "me"}: true, {"encryption", "key"}: true, {"signing", "key"}: true, {"activation", "code"}: true, {"login", "code"}: true,
		{"backup", "code"}: true, {"recovery", "code"}: true, {"csrf", "token"}: true, {"pass", "word"}: true}
	notSecretWords = map[string]bool{"type": true, "count": true, "length": true, "len": true, "min": true, "max": true, "limit": true, "url": true, "uri": true,
		"path": true, "file": true, "filename": true, "expires": true, "expiry": true, "expiration": true, "ttl": true, "age": true, "lifetime": true,
		"field": true, "label": true, "prefix": true, "header": true, "enabled": true, "required": true, "policy": true, "strength": true, "index": true,
		"tokenizer": true, "tokenize": true, "form": true, "template": true, "page": true, "view": true, "valid": true, "error": true, "errors": true,
		"message": true, "changed": true, "date": true, "endpoint": true, "hint": true, "public": true, "location": true, "status": true, "regex": true, "pattern": true}
)

// SecretName reports whether a name says that its value is a secret:
// "reset_token", "apiKey", "password"; not "token_type", "password_length".
func SecretName(name string) bool {
	words := NameWords(name)
	secret := false
	for i, w := range words {
		if notSecretWords[w] {
			return false
		}
		secret = secret || secretWords[w] || i > 0 && secretPairs[[2]string{words[i-1], w}]
	}
	return secret
}

// PasswordName reports whether a name says that its value is a password in
// plain text: "password", "new_password"; not "password_hash".
func PasswordName(name string) bool {
	words := NameWords(name)
	found := false
	for _, w := range words {
		switch w {
		case "hash", "hashed", "digest", "salt", "encrypted", "crypt", "id", "reset", "token", "forgot", "change", "changed":
			return false
		case "password", "passwd", "passwort", "pwd", "passphrase", "pass", "pw":
			found = true
		}
		if notSecretWords[w] {
			return false
		}
	}
	return found
}

// QuotedName returns the name that a label's note speaks of: password of
// `form field "password"`.
func QuotedName(l pyflow.Label) string {
	i := strings.IndexByte(l.Note, '"')
	j := strings.LastIndexByte(l.Note, '"')
	if i < 0 || j <= i {
		return ""
	}
	return l.Note[i+1 : j]
}

// Consts returns the constant texts that a value may be.
func Consts(v pyflow.Value) []string {
	var out []string
	v.Each(func(v pyflow.Value) {
		if s, ok := v.Const(); ok {
			out = append(out, s)
		}
	})
	return out
}

// MayBe reports whether the value, or one of its alternatives, is the truth
// value b for sure.
func MayBe(v pyflow.Value, b bool) bool {
	found := false
	v.Each(func(v pyflow.Value) {
		switch {
		case v.Kind == pyflow.Bool && v.Known && v.Bool == b,
			v.Kind == pyflow.Number && v.Known && (v.Number != 0) == b,
			v.Kind == pyflow.None && !b:
			found = true
		}
	})
	return found
}

// Functions calls visit for every function of the project's own Python, test
// code left out.
func (p *Pass) Functions(visit func(f *File, id pysyntax.ID, fn pysyntax.Function)) {
	for f := range p.Python() {
		for i := range f.Python.Nodes {
			id := pysyntax.ID(i)
			if k := f.Python.Kind(id); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef {
				visit(f, id, f.Python.FunctionDef(id))
			}
		}
	}
}

// ViewText returns the source of a route's function or class.
func (p *Pass) ViewText(r *flask.Route) string { return p.DefinitionText(r.FunctionPosition) }

// DefinitionText returns the source of the function or class at a place; "" if
// there is none.
func (p *Pass) DefinitionText(at flask.Position) string {
	if id := p.DefinitionAt(at); id != 0 {
		return string(p.Project.File(at.File).Python.Text(id))
	}
	return ""
}

// DefinitionAt returns the function or class at a place; 0 if there is none.
func (p *Pass) DefinitionAt(at flask.Position) pysyntax.ID {
	f := p.Project.File(at.File)
	if f == nil || f.Python == nil {
		return 0
	}
	for _, id := range f.index().defs[uint32(at.Line)] {
		if f.NodeSpan(id).Column == at.Column {
			return id
		}
	}
	return 0
}

// repairsPerFile bounds how many repairs a rule makes in one file: each may
// read the whole file again.
const repairsPerFile = 100

// Repair calls build, unless the rule has made enough repairs in the file.
func (p *Pass) Repair(f *File, build func() []Edit) []Edit {
	if p.repairs == nil {
		p.repairs = map[*File]int{}
	}
	if p.repairs[f]++; p.repairs[f] > repairsPerFile {
		return nil
	}
	return build()
}
