package flask

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// What a function writes is read from what it does, not from its name. Three
// things are told apart: what changes something, what makes something only
// when it is not there yet (and so does nothing the second time), and the end
// of a transaction, which stores what was changed before it, if anything was.

// wrote records a change of what outlives the request.
func (a *analyzer) wrote(s *scope, id node, f *facts, makes bool) {
	if f.keeping > 0 && makes {
		f.keeps = true
		return
	}
	if f.writeAt.Line == 0 {
		f.writeAt = a.pos(s.unit, id)
	}
}

// touched records that an object was changed that a transaction may store.
func (f *facts) touched() { f.dirty = f.dirty || f.keeping == 0 }

// writes returns the place of the first change; ok is false without one.
func (f *facts) writes() (at Position, ok bool) {
	switch {
	case f.writeAt.Line > 0:
		return f.writeAt, true
	case f.endAt.Line > 0 && f.dirty:
		return f.endAt, true
	}
	return Position{}, false
}

var (
	removeMethods  = set(`update_one update_many delete_one delete_many replace_one find_one_and_update find_one_and_delete bulk_update_mappings delete_from_db delete_instance`)
	insertMethods  = set(`add_all bulk_save_objects bulk_insert_mappings insert_one insert_many executemany executescript save_to_db`)
	sessionMethods = set("add delete merge")
	removeCalls    = set("os.remove os.unlink os.rename os.replace os.rmdir shutil.rmtree shutil.move")
	copyCalls      = set("shutil.copy shutil.copyfile shutil.copytree")
	sqlWriteRE     = regexp.MustCompile(`(?i)^\s*(insert|update|delete|replace|create|drop|alter|truncate)\b`)
	sqlMakesRE     = regexp.MustCompile(`(?i)^\s*(?:insert|create)\b`)
	// sqlOnceRE matches statements that do nothing the second time.
	sqlOnceRE = regexp.MustCompile(`(?i)^\s*create\s+(?:(?:unique|temp|temporary|virtual)\s+)*\w+\s+if\s+not\s+exists\b|^\s*create\s+temp|^\s*insert\s+or\s+ignore\b|\bon\s+conflict\b[^;]*\bdo\s+nothing\b`)
	// quietMethods are called for what they do and change nothing that a
	// transaction stores.
	quietMethods = set(`close rollback commit flush refresh expire expunge execute executemany debug info warning warn error exception critical log
		start join wait sleep release acquire fetchone fetchall seek write writelines`)
	containerMethods = set("append extend insert add update pop popitem remove discard clear setdefault sort reverse")
	missingRE        = regexp.MustCompile(`KeyError|NotFound|DoesNotExist|NoResult|AttributeError|IndexError`)
)

// writeFacts reads what a call writes.
func (a *analyzer) writeFacts(s *scope, id, base node, q, method string, args []arg, f *facts) {
	t := s.unit.tree
	switch {
	case q == "open":
		if m := a.fold(s, argNamed(args, "mode", 1)); m.Known && strings.ContainsAny(m.Text, "wax+") {
			a.wrote(s, id, f, true)
		}
	case method == "commit":
		if f.endAt.Line == 0 && f.keeping == 0 {
			f.endAt = a.pos(s.unit, id)
		}
	case removeCalls[q] && len(args) > 0 && a.fromSession(s, args[0].val, 0):
		f.session = true // what the visitor's own session names
	case removeCalls[q], removeMethods[method]:
		a.wrote(s, id, f, a.migrates(s, id, q, args))
	case copyCalls[q], insertMethods[method]:
		a.wrote(s, id, f, true)
	case sessionMethods[method] && strings.Contains(q+t.text(base), "session"):
		if len(args) == 0 || method == "delete" || !a.onlyStamped(s, args[0].val) {
			a.wrote(s, id, f, method == "add")
		}
	case (method == "delete" || method == "update") && base != 0 && (strings.Contains(t.text(base), "query") || strings.Contains(t.text(base), ".filter")):
		if method == "update" && a.stamps(s, args) || method == "delete" && a.expired(s, base) {
			return
		}
		a.wrote(s, id, f, false)
	case method == "save" && base != 0 && a.onlyStamped(s, base):
	case method == "save" && (len(args) == 0 || args[0].name != "" || f.uploads):
		a.wrote(s, id, f, true) // a row, or an upload; what is drawn is given a place, too
	case method == "execute" && len(args) > 0:
		a.sqlFacts(s, id, args[0].val, f)
	case q == "setattr":
		f.touched()
	}
}

// sqlFacts reads the statement that is executed.
func (a *analyzer) sqlFacts(s *scope, id, sql node, f *facts) {
	t := s.unit.tree
	if inner, in := t.call(sql); inner != 0 && len(in) > 0 { // text("…")
		switch n := lastPart(t.text(inner)); n {
		case "text":
			sql = in[0].val
		case "insert":
			a.wrote(s, id, f, true)
			return
		case "update", "delete", "values":
			a.wrote(s, id, f, n == "values")
			return
		}
	}
	text := a.fold(s, sql).Text
	if text == "" {
		text = strings.TrimLeft(t.text(sql), "frbuFRBU\"'")
	}
	switch {
	case sqlOnceRE.MatchString(text):
		f.keeps = true
	case sqlWriteRE.MatchString(text):
		a.wrote(s, id, f, sqlMakesRE.MatchString(text))
	case t.kind(sql) == pysyntax.Name || t.kind(sql) == pysyntax.Attribute:
		f.touched() // what it says is not known
	}
}

// assigned records a change of an object's attribute, or of an element of what
// the function has not made itself. When something was last used is noted
// whoever looks at it, so the time of now is no change.
func (a *analyzer) assigned(s *scope, target, value node, f *facts) {
	t := s.unit.tree
	base, _ := t.attr(target)
	if base != 0 && value != 0 && a.isNow(s, value, 0) {
		return
	}
	if base == 0 {
		base, _ = t.sub(target)
		if name := t.name(base); name != "" {
			for _, b := range lookup(s, name) {
				if b.kind == bindExpr && b.node != 0 {
					switch b.scope.unit.tree.kind(b.node) {
					case pysyntax.Dict, pysyntax.List, pysyntax.DictComp, pysyntax.ListComp, pysyntax.Set:
						return
					}
				}
			}
		}
	}
	if base == 0 || s.name == "__init__" {
		return
	}
	for _, own := range [...]string{"flask.g", "flask.session", "flask.request", "flask.current_app", "flask.make_response()"} {
		if q := a.qname(s, base); q == own || strings.HasPrefix(q, own+".") {
			return
		}
	}
	f.touched()
}

// effect records a method that is called for what it does and that the
// project does not define: user.follow(other).
func (a *analyzer) effect(s *scope, call node, f *facts) {
	t := s.unit.tree
	fn := t.callee(call)
	base, method := t.attr(fn)
	if base == 0 || quietMethods[method] || sessionMethods[method] && strings.Contains(t.text(base), "session") || containerMethods[method] && t.kind(base) == pysyntax.Name || strings.HasPrefix(a.qname(s, base), "flask.") {
		return
	}
	for _, o := range a.eval(s, fn) {
		if o.kind == objFunc || o.kind == objClass {
			return // read as what it is
		}
	}
	f.touched()
}

// lazy returns the statements of a function that run only when something that
// it looked for is not there, and that make it:
//
//	title = find()
//	if title is None:
//	    title = Title()      # these
//	    db.session.add(title)
//	return title
func (a *analyzer) lazy(fn *scope) map[node]bool {
	t := fn.unit.tree
	out := map[node]bool{}
	mark := func(list []node) {
		for _, st := range list {
			out[st] = true
		}
	}
	// used reports whether a name is read behind a node.
	used := func(key string, after uint32) bool {
		found := false
		for _, st := range fn.def.body {
			t.walk(st, func(x node) bool {
				n := t.at(x)
				if found || n.End <= after {
					return false
				}
				switch n.Kind {
				case pysyntax.Name, pysyntax.Attribute, pysyntax.Subscript:
					found = n.Start >= after && t.text(x) == key
				}
				return !found
			})
		}
		return found
	}
	assigns := func(list []node, key string) bool {
		found := false
		for _, st := range list {
			t.walk(st, func(x node) bool {
				if n := t.at(x); n.Kind == pysyntax.Assign {
					found = found || slices.ContainsFunc(t.list(n.A), func(target node) bool { return t.text(target) == key })
				}
				return !found
			})
		}
		return found
	}
	var returns func(list []node) node
	returns = func(list []node) node {
		if len(list) == 0 {
			return 0
		}
		switch n := t.at(list[len(list)-1]); n.Kind {
		case pysyntax.Return:
			return n.A
		case pysyntax.Try, pysyntax.TryStar:
			return returns(t.list(n.A))
		case pysyntax.With, pysyntax.AsyncWith:
			return returns(t.list(n.B))
		}
		return 0
	}
	var visit func(list []node, depth int)
	visit = func(list []node, depth int) {
		if depth > 100 {
			return
		}
		for i, st := range list {
			n := t.at(st)
			switch n.Kind {
			case pysyntax.If:
				yes, no := t.list(n.B), t.list(n.C)
				key, missing := a.missing(fn, n.A)
				if a.throttled(fn, n.A, yes) {
					mark(yes)
				}
				if !missing {
					yes, no = no, yes // no: where it is there
				}
				switch {
				case key == "":
				case key == aFile:
					if missing {
						mark(yes)
					}
				case assigns(yes, key) && (used(key, n.End) || strings.Contains(t.text(returns(yes)), key)):
					mark(yes)
				case handsOver(t, yes, key) && used(key, n.End):
					mark(yes)
				case !missing && len(yes) == 0 && returns(no) != 0 && strings.Contains(t.text(returns(no)), key) && assigns(list[i+1:], key) && returns(list[i+1:]) != 0:
					mark(list[i+1:])
				}
				visit(t.list(n.B), depth+1)
				visit(t.list(n.C), depth+1)
			case pysyntax.Try, pysyntax.TryStar:
				body := t.list(n.A)
				for _, h := range t.list(n.B) {
					handler := t.list(t.at(h).C)
					if missingRE.MatchString(t.text(t.at(h).A)) {
						if returns(body) != 0 && returns(handler) != 0 {
							mark(handler)
						}
						for _, b := range body {
							if x := t.at(b); x.Kind == pysyntax.Assign {
								for _, target := range t.list(x.A) {
									if key := t.text(target); assigns(handler, key) && (used(key, n.End) || strings.Contains(t.text(returns(handler)), key)) {
										mark(handler)
									}
								}
							}
						}
					}
					visit(handler, depth+1)
				}
				visit(body, depth+1)
				visit(t.list(n.C), depth+1)
				visit(t.list(n.D), depth+1)
			case pysyntax.With, pysyntax.AsyncWith:
				visit(t.list(n.B), depth+1)
			case pysyntax.While:
				visit(t.list(n.B), depth+1)
			case pysyntax.For, pysyntax.AsyncFor:
				visit(t.list(n.C), depth+1)
			}
		}
	}
	if fn.kind == funcScope {
		visit(fn.def.body, 0)
	}
	return out
}

// aFile is the key of a file or folder in [analyzer.missing].
const aFile = "\x00"

// missing reads a condition about whether something is there: its text, and
// whether the condition holds when it is not.
func (a *analyzer) missing(s *scope, test node) (key string, when bool) {
	t := s.unit.tree
	n := t.at(test)
	switch n.Kind {
	case pysyntax.BoolOp:
		if !t.isOr(test) {
			for _, x := range t.list(n.A) {
				if key, when := a.missing(s, x); when {
					return key, true
				}
			}
		}
	case pysyntax.UnaryOp:
		if t.unary(test) == "not" {
			key, when := a.missing(s, n.A)
			return key, key != "" && !when
		}
	case pysyntax.Name, pysyntax.Attribute, pysyntax.Subscript:
		return t.text(test), false
	case pysyntax.NamedExpr:
		return t.text(n.A), false
	case pysyntax.Compare:
		rest := t.compare(test)
		if len(rest) != 1 {
			return "", false
		}
		switch r := rest[0]; r.op {
		case "is", "==":
			if t.kind(r.right) == pysyntax.None {
				return t.text(n.A), true
			}
		case "is not", "!=":
			if t.kind(r.right) == pysyntax.None {
				return t.text(n.A), false
			}
		case "not in":
			return t.text(r.right) + "[" + t.text(n.A) + "]", true
		case "in":
			return t.text(r.right) + "[" + t.text(n.A) + "]", false
		}
	case pysyntax.Call:
		fn := t.callee(test)
		if _, m := t.attr(fn); m == "exists" || m == "isfile" || m == "isdir" || m == "is_file" || m == "is_dir" {
			if q := a.qname(s, fn); strings.HasPrefix(q, "os.path.") || m != "exists" || strings.Contains(strings.ToLower(q+t.text(fn)), "path") {
				return aFile, false
			}
		}
	}
	return "", false
}
