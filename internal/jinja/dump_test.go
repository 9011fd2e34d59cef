package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// dumper writes a tree as testdata/jdump.py writes Jinja's.
type dumper struct{ t *Template }

func (d dumper) string(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err)
	}
	s = strings.TrimSuffix(b.String(), "\n")
	// Go escapes two that Python does not, and the other way about.
	return strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029").Replace(s)
}

func group(parts ...string) string {
	return "(" + strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ") + ")"
}

func flagged(on bool, name string) string {
	if on {
		return name
	}
	return ""
}

func (d dumper) line(e Expr) string {
	line, _ := d.t.Line(e.At().Start)
	return fmt.Sprintf("@%d", line)
}

func (d dumper) args(a *Args) []string {
	out := d.exprs(a.Args)
	for _, k := range a.Keywords {
		out = append(out, k.Name+"="+d.expr(k.X))
	}
	if a.Star != nil {
		out = append(out, "*"+d.expr(a.Star))
	}
	if a.StarStar != nil {
		out = append(out, "**"+d.expr(a.StarStar))
	}
	return out
}

func (d dumper) exprs(es []Expr) []string {
	var out []string
	for _, e := range es {
		out = append(out, d.expr(e))
	}
	return out
}

func (d dumper) expr(e Expr) string {
	list := func(name string, items []Expr) string { return group(append([]string{name}, d.exprs(items)...)...) }
	switch e := e.(type) {
	case nil:
		return "-"
	case *Name:
		return e.Name + d.line(e)
	case *Const:
		switch e.Kind {
		case String:
			return d.string(e.Text) + d.line(e)
		case Int:
			n, ok := new(big.Int).SetString(e.Text, 0)
			if !ok { // 00
				n = new(big.Int)
			}
			return n.String() + d.line(e)
		case Float:
			f, err := strconv.ParseFloat(e.Text, 64)
			if err != nil && f == 0 {
				panic(err)
			}
			s := strconv.FormatFloat(f, 'g', 17, 64)
			s = strings.Replace(s, "+Inf", "inf", 1)
			return s + "f" + d.line(e)
		}
		return e.Text + d.line(e)
	case *Attr:
		return group("attr", d.expr(e.X), e.Name)
	case *Item:
		return group("item", d.expr(e.X), d.expr(e.Index))
	case *Slice:
		return group("slice", d.expr(e.Lower), d.expr(e.Upper), d.expr(e.Step))
	case *Call:
		return group(append([]string{"call", d.expr(e.Func)}, d.args(&e.Args)...)...)
	case *Filter:
		return group(append([]string{"filter", e.Name, d.expr(e.X)}, d.args(&e.Args)...)...)
	case *Test:
		s := group(append([]string{"test", e.Name, d.expr(e.X)}, d.args(&e.Args)...)...)
		if e.Negated {
			s = group("un", "not", s)
		}
		return s
	case *BinOp:
		return group("bin", e.Op, d.expr(e.Left), d.expr(e.Right))
	case *UnaryOp:
		return group("un", e.Op, d.expr(e.X))
	case *Compare:
		parts := []string{"cmp", d.expr(e.Left)}
		for _, o := range e.Ops {
			parts = append(parts, group(strings.ReplaceAll(o.Op, " ", "-"), d.expr(o.Right)))
		}
		return group(parts...)
	case *Cond:
		return group("cond", d.expr(e.Then), d.expr(e.Test), d.expr(e.Else))
	case *Concat:
		return list("concat", e.Parts)
	case *List:
		return list("list", e.Items)
	case *Tuple:
		return list("tuple", e.Items)
	case *Dict:
		parts := []string{"dict"}
		for i := range e.Keys {
			parts = append(parts, d.expr(e.Keys[i])+":"+d.expr(e.Values[i]))
		}
		return group(parts...)
	case *Bad:
		return list("bad", e.Parts)
	}
	panic(fmt.Sprintf("no form for %T", e))
}

func (d dumper) params(ps []Param) string {
	parts := []string{"params"}
	for _, p := range ps {
		s := p.Name
		if p.Default != nil {
			s += "=" + d.expr(p.Default)
		}
		parts = append(parts, s)
	}
	return group(parts...)
}

func (d dumper) body(nodes []Node) string {
	var out []string
	text := ""
	flush := func() {
		if text != "" {
			out = append(out, group("text", d.string(newlines.Replace(text))))
		}
		text = ""
	}
	for _, n := range nodes {
		switch n := n.(type) {
		case *Text:
			text += n.Value
		case *Comment:
		default:
			flush()
			out = append(out, d.stmt(n))
		}
	}
	flush()
	return "[" + strings.Join(out, " ") + "]"
}

// message is what a trans block is to gettext.
func (d dumper) message(nodes []Node, trimmed bool, names map[string]string) string {
	s := ""
	for _, n := range nodes {
		switch n := n.(type) {
		case *Text:
			s += strings.ReplaceAll(newlines.Replace(n.Value), "%", "%%")
		case *Output:
			name := n.X.(*Name).Name
			s += "%(" + name + ")s"
			if _, ok := names[name]; !ok {
				names[name] = name
			}
		}
	}
	if trimmed {
		// The white space around line breaks is one space.
		var b strings.Builder
		for i, l := range strings.Split(strings.TrimFunc(s, isSpace), "\n") {
			if l = strings.TrimFunc(l, isSpace); i > 0 && l != "" {
				b.WriteString(" ")
			}
			b.WriteString(l)
		}
		s = b.String()
	}
	return d.string(s)
}

func (d dumper) stmt(n Node) string {
	switch n := n.(type) {
	case *Output:
		return group("output", d.expr(n.X))
	case *Debug:
		return "(debug)"
	case *If:
		parts := []string{"if"}
		for _, b := range n.Branches {
			parts = append(parts, d.expr(b.Test), d.body(b.Body))
		}
		return group(append(parts, "else", d.body(n.Else))...)
	case *For:
		return group("for", d.expr(n.Target), d.expr(n.Iter), d.expr(n.Filter), flagged(n.Recursive, "recursive"), d.body(n.Body), "else", d.body(n.Else))
	case *Block:
		return group("block", n.Name, flagged(n.Scoped, "scoped"), flagged(n.Required, "required"), d.body(n.Body))
	case *Extends:
		return group("extends", d.expr(n.Template))
	case *Include:
		return group("include", d.expr(n.Template), flagged(n.IgnoreMissing, "ignore"), flagged(n.WithContext, "context"))
	case *Import:
		return group("import", d.expr(n.Template), n.Alias, flagged(n.WithContext, "context"))
	case *FromImport:
		parts := []string{"from", d.expr(n.Template)}
		for _, a := range n.Names {
			parts = append(parts, a.Name+":"+a.As)
		}
		return group(append(parts, flagged(n.WithContext, "context"))...)
	case *Macro:
		return group("macro", n.Name, d.params(n.Params), d.body(n.Body))
	case *CallBlock:
		return group("callblock", d.params(n.Params), d.expr(n.X), d.body(n.Body))
	case *FilterBlock:
		return group("filterblock", d.expr(n.X), d.body(n.Body))
	case *Set:
		return group("set", d.expr(n.Target), d.expr(n.X))
	case *SetBlock:
		return group("setblock", d.expr(n.Target), d.expr(n.Filter), d.body(n.Body))
	case *With:
		parts := []string{"with"}
		for i := range n.Targets {
			parts = append(parts, d.expr(n.Targets[i])+"="+d.expr(n.Values[i]))
		}
		return group(append(parts, d.body(n.Body))...)
	case *Autoescape:
		return group("autoescape", d.expr(n.X), d.body(n.Body))
	case *Do:
		return group("do", d.expr(n.X))
	case *Break:
		return "(break)"
	case *Continue:
		return "(continue)"
	case *Trans:
		names := map[string]string{}
		for _, v := range n.Vars {
			if v.At() == v.X.At() {
				names[v.Name] = v.Name
			} else {
				names[v.Name] = d.expr(v.X)
			}
		}
		one, many := d.message(n.Body, n.Trimmed, names), "-"
		if n.HasPlural {
			many = d.message(n.Plural, n.Trimmed, names)
		}
		parts := []string{"trans", one, many, d.string(n.Context)}
		var vars []string
		for k, v := range names {
			vars = append(vars, k+"="+v)
		}
		slices.SortFunc(vars, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
		return group(append(parts, vars...)...)
	case *Unknown:
		return group("unknown", n.Name, d.body(n.Body))
	}
	panic(fmt.Sprintf("no form for %T", n))
}
