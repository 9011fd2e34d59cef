package csrf

import (
	"regexp"
	"slices"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// oneTime reports whether a GET route first asks for what only the app's own
// page can have sent the visitor off with: the state of an OAuth request (RFC
// 6749, section 10.12), a nonce in a link, compared with the one in the
// session; or whether a client library does.
func oneTime(p *audit.Pass, r *flask.Route, reach flask.Reach) bool {
	if slices.ContainsFunc(reach.Named, func(name string) bool { return stateMethods[name] }) {
		return true
	}
	for _, at := range reach.Functions {
		f := p.Project.File(at.File)
		if f == nil || f.Python == nil {
			continue
		}
		fn := p.DefinitionAt(at)
		if fn == 0 {
			continue
		}
		// A view may refuse by returning; what it calls has to raise.
		view := at == r.FunctionPosition || at.File == r.FunctionPosition.File && at.Line >= r.FunctionPosition.Line && at.EndLine <= r.FunctionPosition.EndLine
		if comparesState(p, f, fn, view, r.WriteAt) {
			return true
		}
	}
	return false
}

// stateMethods are the methods of OAuth clients that fail if the state is not
// the one in the session: of Authlib and Flask-OAuthlib.
var stateMethods = map[string]bool{"authorize_access_token": true, "authorized_response": true}

// comparesState reports whether a function ends at once when what the request
// brings is not what the session holds.
func comparesState(p *audit.Pass, f *audit.File, fn pysyntax.ID, view bool, write flask.Position) bool {
	py := f.Python
	locals := localValues(py, fn)
	// side tells what an expression reads; sure is unset where it is None when
	// there is nothing.
	var side func(v pysyntax.ID, depth int) (session, request, sure bool)
	side = func(v pysyntax.ID, depth int) (session, request, sure bool) {
		pysyntax.Walk(py, v, func(id pysyntax.ID) bool {
			base, key := py.Subscript(id)
			got := base != 0
			if call, args, _ := py.Call(id); call != 0 && len(args) > 0 {
				on, method := py.Attribute(call)
				base, key = on, args[0]
				got = method == "pop" && len(args) == 1
			}
			if base != 0 && key != 0 {
				name, _ := py.StringValue(key)
				switch p.Flask.Name(f.Path, base) {
				case "flask.session":
					session = session || !identityKeyRE.MatchString(name)
					sure = sure || got
				case "flask.request.args", "flask.request.values", "flask.request.headers":
					request, sure = true, sure || got
				}
			}
			if name := py.Name(id); name != "" && depth < 2 {
				for _, x := range locals[name] {
					s, r, g := side(x, depth+1)
					session, request, sure = session || s, request || r, sure || g
				}
			}
			return true
		})
		return session, request, sure
	}
	// unequal reports whether a condition holds whenever the two are not equal
	// (when is true), or never holds then (when is false).
	var unequal func(test pysyntax.ID, when bool) bool
	unequal = func(test pysyntax.ID, when bool) bool {
		if op, operand := py.UnaryOp(test); operand != 0 && op == pysyntax.UnaryNot {
			return unequal(operand, !when)
		}
		if op, operands := py.BoolOp(test); len(operands) > 0 {
			if (op == pysyntax.BoolOr) != when {
				return false // another reason may outweigh it
			}
			some := slices.ContainsFunc(operands, func(x pysyntax.ID) bool { return asksWhether(py, x) })
			for _, x := range operands {
				if a, b, ok := compared(py, x, when); ok {
					if fits, sure := fit(side, a, b); fits && (sure || some) {
						return true
					}
				} else if unequal(x, when) {
					return true
				}
			}
			return false
		}
		a, b, ok := compared(py, test, when)
		if !ok {
			return false
		}
		fits, sure := fit(side, a, b)
		return fits && sure
	}
	found := false
	pysyntax.Walk(py, fn, func(id pysyntax.ID) bool {
		test, body, orelse := py.If(id)
		switch {
		case test == 0 || found:
		case unequal(test, true):
			found = ends(py, body, view)
		case unequal(test, false):
			// What is written stands below the condition, or the other way out ends.
			found = ends(py, orelse, view) || view && !within(f, orelse, write) && (within(f, body, write) || !within(f, []pysyntax.ID{fn}, write) && onlyAnswers(py, fn, id))
		}
		return !found
	})
	return found
}

// onlyAnswers reports whether a function does nothing behind one of its
// statements but return.
func onlyAnswers(py *pysyntax.File, fn, after pysyntax.ID) bool {
	body := py.FunctionDef(fn).Body
	i := slices.Index(body, after)
	return i >= 0 && !slices.ContainsFunc(body[i+1:], func(id pysyntax.ID) bool { return py.Kind(id) != pysyntax.Return })
}

func within(f *audit.File, list []pysyntax.ID, at flask.Position) bool {
	return slices.ContainsFunc(list, func(id pysyntax.ID) bool {
		s := f.NodeSpan(id)
		return s.File == at.File && s.Line <= at.Line && at.Line <= s.EndLine
	})
}

// compared returns the two that a condition compares; when says that it is to
// hold if they are not equal.
func compared(py *pysyntax.File, test pysyntax.ID, when bool) (a, b pysyntax.ID, ok bool) {
	if op, operand := py.UnaryOp(test); operand != 0 && op == pysyntax.UnaryNot {
		return compared(py, operand, !when)
	}
	if left, rest := py.Compare(test); left != 0 && len(rest) == 1 {
		switch rest[0].Op {
		case pysyntax.CmpNe:
			return left, rest[0].Right, when
		case pysyntax.CmpEq:
			return left, rest[0].Right, !when
		}
		return 0, 0, false
	}
	if call, args, _ := py.Call(test); call != 0 && len(args) == 2 && compareRE.Match(py.Text(call)) {
		return args[0], args[1], !when
	}
	return 0, 0, false
}

// fit reports whether one of two comes from the session and the other one from
// the request, and whether they cannot both be missing.
func fit(side func(pysyntax.ID, int) (session, request, sure bool), a, b pysyntax.ID) (ok, sure bool) {
	aOurs, aTheirs, aSure := side(a, 0)
	bOurs, bTheirs, bSure := side(b, 0)
	return aOurs && !aTheirs && bTheirs && !bOurs || bOurs && !bTheirs && aTheirs && !aOurs, aSure || bSure
}

// asksWhether reports whether a condition asks whether something is there.
func asksWhether(py *pysyntax.File, test pysyntax.ID) bool {
	if op, operand := py.UnaryOp(test); operand != 0 && op == pysyntax.UnaryNot {
		return true
	}
	if left, rest := py.Compare(test); left != 0 && len(rest) == 1 {
		return rest[0].Op == pysyntax.CmpNotIn || rest[0].Op == pysyntax.CmpIs && py.Kind(rest[0].Right) == pysyntax.None
	}
	return py.Kind(test) == pysyntax.Name
}

// ends reports whether statements lead out of the function, or out of the
// request.
func ends(py *pysyntax.File, list []pysyntax.ID, view bool) bool {
	if len(list) == 0 {
		return false
	}
	switch last := list[len(list)-1]; py.Kind(last) {
	case pysyntax.Raise:
		return true
	case pysyntax.Return:
		return view
	case pysyntax.ExprStmt:
		call, _, _ := py.Call(py.Value(last))
		return call != 0 && abortRE.Match(py.Text(call))
	}
	return false
}

var abortRE = regexp.MustCompile(`(?:^|\.)abort$`)

// localValues returns what is assigned to each name in a function.
func localValues(py *pysyntax.File, fn pysyntax.ID) map[string][]pysyntax.ID {
	locals := map[string][]pysyntax.ID{}
	pysyntax.Walk(py, fn, func(id pysyntax.ID) bool {
		if py.Kind(id) == pysyntax.Assign {
			targets, v := py.Assign(id)
			for _, t := range targets {
				locals[py.Name(t)] = append(locals[py.Name(t)], v)
			}
		}
		return true
	})
	return locals
}
