package flask

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// What a page writes behind itself whoever looks at it, and however often, is
// no change that somebody could be made to ask for: the time when something
// was last used, rows that have expired, what is done again only after a
// while, what the visitor's own session keeps.

// clockCalls give the time of now.
var clockCalls = set(`datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today time.time time.time_ns time.strftime time.gmtime time.localtime
	time.monotonic arrow.utcnow arrow.now pendulum.now flask_sqlalchemy.SQLAlchemy().func.now sqlalchemy.func.now sqlalchemy.sql.func.now sqlalchemy.func.current_timestamp
	sqlalchemy.sql.functions.now`)

// timeMakers make a time, or a stretch of time, of what they are given.
var timeMakers = set("datetime.timedelta datetime.datetime.fromtimestamp datetime.datetime.utcfromtimestamp datetime.timezone int float str round")

// isNow reports whether an expression is the time of now, or made of it and of
// constants alone.
func (a *analyzer) isNow(s *scope, id node, depth int) bool {
	if id == 0 || depth > 6 {
		return false
	}
	t := s.unit.tree
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Call:
		fn, args := t.call(id)
		q := a.qname(s, fn)
		if clockCalls[q] {
			return true
		}
		rest := func() bool {
			return !slices.ContainsFunc(args, func(x arg) bool { return !a.isNow(s, x.val, depth+1) && !a.steady(s, x.val, depth+1) })
		}
		if timeMakers[q] {
			return rest() && slices.ContainsFunc(args, func(x arg) bool { return a.isNow(s, x.val, depth+1) })
		}
		base, _ := t.attr(fn) // now.isoformat(), now.replace(tzinfo=None)
		return base != 0 && a.isNow(s, base, depth+1) && rest()
	case pysyntax.BinOp:
		x, y := a.isNow(s, n.A, depth+1), a.isNow(s, n.B, depth+1)
		return x && (y || a.steady(s, n.B, depth+1)) || y && a.steady(s, n.A, depth+1)
	case pysyntax.Name:
		list := lookup(s, t.sym(n.A))
		return len(list) > 0 && !slices.ContainsFunc(list, func(b binding) bool {
			return b.kind != bindExpr || b.augmented || b.node == id || !a.isNow(b.scope, b.node, depth+1)
		})
	}
	return false
}

// steady reports whether an expression is a constant, a setting, or a stretch
// of time made of these.
func (a *analyzer) steady(s *scope, id node, depth int) bool {
	if depth > 8 {
		return false
	}
	if a.fold(s, id).Known {
		return true
	}
	t := s.unit.tree
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Num, pysyntax.Str, pysyntax.None:
		return true
	case pysyntax.BinOp:
		return a.steady(s, n.A, depth+1) && a.steady(s, n.B, depth+1)
	case pysyntax.Attribute: // timezone.utc, config.KEEP_DAYS
		q := a.qname(s, id)
		return q != "" && !strings.HasPrefix(q, "flask.request") && strings.ToLower(lastPart(q)) != q && !strings.Contains(q, "()")
	case pysyntax.Call:
		fn, args := t.call(id)
		return timeMakers[a.qname(s, fn)] && !slices.ContainsFunc(args, func(x arg) bool { return !a.steady(s, x.val, depth+1) })
	}
	return false
}

// stamps reports whether a call is given the time of now and nothing else that
// is not constant: a function that notes it under a name, the columns of an
// UPDATE.
func (a *analyzer) stamps(s *scope, args []arg) bool {
	t := s.unit.tree
	now := false
	ok := func(v node) bool {
		if a.isNow(s, v, 0) {
			now = true
			return true
		}
		return a.steady(s, v, 0)
	}
	for _, x := range args {
		if t.kind(x.val) == pysyntax.Dict {
			items := t.list(t.at(x.val).A)
			for i := 1; i < len(items); i += 2 {
				if items[i-1] == 0 || !a.isNow(s, items[i], 0) {
					return false
				}
				now = true
			}
			continue
		}
		if x.star != 0 || x.name != "synchronize_session" && !ok(x.val) {
			return false
		}
	}
	return now
}

// onlyStamped reports whether an object is one that was there before and of
// which the function changes nothing but the times that it notes.
func (a *analyzer) onlyStamped(s *scope, id node) bool {
	t := s.unit.tree
	key, stamped := t.text(id), false
	for _, st := range s.unit.stores {
		if st.scope != s {
			continue
		}
		base, _ := t.attr(st.target)
		if base == 0 {
			base, _ = t.sub(st.target)
		}
		if base == 0 || t.text(base) != key {
			continue
		}
		if st.value == 0 || !a.isNow(s, st.value, 0) {
			return false
		}
		stamped = true
	}
	if !stamped {
		return false
	}
	for _, o := range a.eval(s, id) {
		if o.kind == objInstance {
			return false // made here
		}
	}
	return true
}

// expired reports whether what a query finds is decided by the clock.
func (a *analyzer) expired(s *scope, query node) bool {
	t := s.unit.tree
	found, other := false, false
	t.walk(query, func(x node) bool {
		if t.kind(x) == pysyntax.Compare {
			for _, c := range t.compare(x) {
				if strings.ContainsAny(c.op, "<>") && (a.isNow(s, c.right, 0) || a.isNow(s, t.at(x).A, 0)) {
					found = true
				} else {
					other = other || !a.steady(s, c.right, 0)
				}
			}
		}
		return true
	})
	return found && !other
}

// throttled reports whether the statements below a condition run only once in
// a while: it compares with the clock what they set anew.
func (a *analyzer) throttled(s *scope, test node, yes []node) bool {
	t := s.unit.tree
	found := false
	var visit func(s *scope, id node, depth int)
	visit = func(s *scope, id node, depth int) {
		t.walk(id, func(x node) bool {
			switch t.kind(x) {
			case pysyntax.Compare:
				for _, c := range t.compare(x) {
					if !strings.ContainsAny(c.op, "<>") {
						continue
					}
					other := t.at(x).A
					switch {
					case a.isNow(s, c.right, 0):
					case a.isNow(s, other, 0):
						other = c.right
					default:
						continue
					}
					found = found || a.setsAnew(s, other, yes)
				}
			case pysyntax.Name:
				if depth < 2 {
					for _, b := range lookup(s, t.name(x)) {
						if b.kind == bindExpr && b.scope == s && b.node != 0 && b.node != id {
							visit(s, b.node, depth+1)
						}
					}
				}
			}
			return !found
		})
	}
	visit(s, test, 0)
	return found
}

// setsAnew reports whether statements set what an expression reads: the same
// attribute or key, or, where it is asked for by a constant name, what they
// give a call together with that name.
func (a *analyzer) setsAnew(s *scope, read node, list []node) bool {
	t := s.unit.tree
	keys := map[string]bool{}
	names := map[string]bool{}
	var gather func(id node, depth int)
	gather = func(id node, depth int) {
		t.walk(id, func(x node) bool {
			switch t.kind(x) {
			case pysyntax.Attribute, pysyntax.Subscript:
				keys[t.text(x)] = true
			case pysyntax.Str:
				if v, _ := t.str(x); v != "" {
					names[v] = true
				}
			case pysyntax.Name:
				if depth < 2 {
					for _, b := range lookup(s, t.name(x)) {
						if b.kind == bindExpr && b.scope == s && b.node != 0 && b.node != id {
							gather(b.node, depth+1)
						}
					}
				}
			}
			return true
		})
	}
	gather(read, 0)
	found := false
	for _, st := range list {
		t.walk(st, func(x node) bool {
			switch n := t.at(x); n.Kind {
			case pysyntax.Assign:
				found = found || slices.ContainsFunc(t.list(n.A), func(target node) bool { return keys[t.text(target)] })
			case pysyntax.ExprStmt:
				if _, args := t.call(n.A); len(args) > 1 {
					if v, ok := t.str(args[0].val); ok && names[v] {
						found = true
					}
				}
			}
			return !found
		})
	}
	return found
}

// handsOver reports whether statements call something for what it does with
// the object of which key is an attribute.
func handsOver(t tree, list []node, key string) bool {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return false
	}
	for _, st := range list {
		n := t.at(st)
		if n.Kind != pysyntax.ExprStmt {
			continue
		}
		if _, args := t.call(n.A); slices.ContainsFunc(args, func(x arg) bool { return t.text(x.val) == key[:i] }) {
			return true
		}
	}
	return false
}

// migrates reports whether a call moves what has an old place to its new one:
// neither is chosen by what the function is given or by the request.
func (a *analyzer) migrates(s *scope, id node, q string, args []arg) bool {
	switch q {
	case "os.rename", "os.replace", "shutil.move":
	default:
		return false
	}
	t := s.unit.tree
	return len(args) == 2 && !slices.ContainsFunc(args, func(x arg) bool {
		name := t.name(x.val)
		list := lookup(s, name)
		return name == "" || len(list) == 0 || slices.ContainsFunc(list, func(b binding) bool {
			return b.kind != bindExpr || strings.Contains(t.text(b.node), "request.")
		})
	})
}

// fromSession reports whether an expression is read from the visitor's own
// session, and from nothing else.
func (a *analyzer) fromSession(s *scope, id node, depth int) bool {
	if id == 0 || depth > 4 {
		return false
	}
	t := s.unit.tree
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Subscript:
		return a.qname(s, n.A) == "flask.session" || a.fromSession(s, n.A, depth+1)
	case pysyntax.Call:
		fn := t.callee(id)
		if a.qname(s, fn) == "flask.session.get" || a.qname(s, fn) == "flask.session.pop" {
			return true
		}
		base, _ := t.attr(fn)
		return base != 0 && a.fromSession(s, base, depth+1)
	case pysyntax.Name:
		read := false
		for _, b := range lookup(s, t.sym(n.A)) {
			switch {
			case b.kind != bindExpr || b.augmented || b.node == 0 || b.node == id:
				return false
			case t.kind(b.node) == pysyntax.None:
			case !a.fromSession(b.scope, b.node, depth+1):
				return false
			default:
				read = true
			}
		}
		return read
	case pysyntax.BinOp:
		x, y := a.fromSession(s, n.A, depth+1), a.fromSession(s, n.B, depth+1)
		return x && (y || a.steady(s, n.B, 0)) || y && a.steady(s, n.A, 0)
	}
	return false
}

// onlyOwn reports whether a call is only given what is read from the visitor's
// own session.
func (a *analyzer) onlyOwn(s *scope, args []arg) bool {
	return len(args) > 0 && !slices.ContainsFunc(args, func(x arg) bool { return x.star != 0 || !a.fromSession(s, x.val, 0) })
}
