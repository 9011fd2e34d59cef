package pyflow

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

const hitsPerPlace = 8

type hitPlace struct {
	at   Span
	verb string
	kind string
	path string
}

// hit records that something of interest happens at a call.
func (it *interp) hit(st *state, f *Fact, path string, recv *value, c *call, focus []*value, spans []Span) {
	at := it.at(c)
	if at.File == "" || strings.HasPrefix(at.File, "<model>") {
		return
	}
	if len(spans) > 0 && spans[0].File == at.File && f.Verb != "sink" {
		at = c.at
	}
	it.record(st, &Hit{Verb: f.Verb, Kind: f.Args[0], Path: path, At: at}, recv, c, focus)
}

func (it *interp) record(st *state, h *Hit, recv *value, c *call, focus []*value) {
	place := hitPlace{h.At, h.Verb, h.Kind, h.Path}
	if it.perPlace[place] >= hitsPerPlace {
		return
	}
	// Mostly the same was seen here before: the traces are only made of what
	// was not.
	h.Unpacked = c.rest != nil
	it.fill(st, h, recv, c, focus, false)
	key := h.key()
	if _, ok := it.hits[key]; ok {
		return
	}
	it.fill(st, h, recv, c, focus, true)
	for i, s := range c.spans {
		if i < len(c.args) {
			h.ArgSpans = append(h.ArgSpans, s)
		} else if i-len(c.args) < len(c.kw) {
			if h.KeywordSpans == nil {
				h.KeywordSpans = map[string]Span{}
			}
			h.KeywordSpans[c.kw[i-len(c.args)].name] = s
		}
	}
	h.Function = it.functionName()
	h.Entry = it.entry
	it.perPlace[place]++
	it.hits[key] = h
	if h.Kind == "response" {
		it.given = append(it.given, h)
	}
}

// fill gives a hit the values of a call.
func (it *interp) fill(st *state, h *Hit, recv *value, c *call, focus []*value, traces bool) {
	z := freezer{it: it, st: st, seen: map[objID]bool{}, traces: traces}
	h.Args, h.Focus = make([]Value, 0, len(c.args)), nil
	for _, a := range c.args {
		h.Args = append(h.Args, z.value(it.refined(st, a), 0))
	}
	if len(c.kw) > 0 || c.rest != nil {
		h.Keywords = map[string]Value{}
	}
	for _, k := range c.kw {
		h.Keywords[k.name] = z.value(it.refined(st, k.v), 0)
	}
	if c.rest != nil {
		h.Keywords["**"] = z.value(it.refined(st, c.rest), 0)
	}
	if recv != nil {
		h.Self = z.value(recv, 0)
	}
	for _, v := range focus {
		h.Focus = append(h.Focus, z.value(v, 0))
	}
}

func (it *interp) functionName() string {
	for fr := it.fr; fr != nil; fr = fr.up {
		if fr.file != nil && fr.file.model {
			continue
		}
		switch {
		case fr.fn != nil:
			return fr.fn.fullName()
		case fr.mod != nil:
			return fr.mod.name
		}
	}
	return ""
}

// key identifies a hit by its place and values.
func (h *Hit) key() string {
	var b strings.Builder
	// In the order of the text.
	b.WriteString(h.At.File)
	var at [9]byte
	binary.BigEndian.PutUint32(at[1:], h.At.Start)
	binary.BigEndian.PutUint32(at[5:], h.At.End)
	b.Write(at[:])
	for _, s := range [...]string{h.Verb, h.Kind, h.Path} {
		b.WriteString(s)
		b.WriteByte(0)
	}
	if h.Output != nil {
		fmt.Fprintf(&b, "%+v\x00", *h.Output)
	}
	for i := range h.Args {
		h.Args[i].print(&b, 0)
		b.WriteByte(',')
	}
	for _, k := range sortedKeys(h.Keywords) {
		v := h.Keywords[k]
		b.WriteString(k + "=")
		v.print(&b, 0)
		b.WriteByte(',')
	}
	b.WriteByte('\x01')
	h.Self.print(&b, 0)
	for i := range h.Focus {
		h.Focus[i].print(&b, 0)
		b.WriteByte(';')
	}
	return b.String()
}

// print writes a value without the traces of its labels.
func (v *Value) print(b *strings.Builder, depth int) {
	printBits(b, v.Known, v.Bool, v.Safe, v.Bytes)
	printNumber(b, uint64(v.Kind))
	printNumber(b, math.Float64bits(v.Number))
	printText(b, v.Type)
	for i := range v.Pieces {
		p := &v.Pieces[i]
		b.WriteByte('[')
		printBits(b, p.Unknown, p.Chars.other)
		printText(b, p.Literal)
		printNumber(b, p.Chars.lo^p.First.lo<<1)
		printNumber(b, p.Chars.hi^p.First.hi<<1)
		printTexts(b, p.Without)
		printTexts(b, p.Harmless)
		printLabels(b, p.Labels)
		b.WriteByte(']')
	}
	printLabels(b, v.Labels)
	if depth > 6 {
		return
	}
	for i := range v.Items {
		if i < len(v.Keys) {
			b.WriteString(v.Keys[i] + ":")
		}
		v.Items[i].print(b, depth+1)
	}
	if v.Rest != nil {
		b.WriteString("*")
		v.Rest.print(b, depth+1)
	}
	for i := range v.Alternatives {
		b.WriteByte('|')
		v.Alternatives[i].print(b, depth+1)
	}
}

func printLabels(b *strings.Builder, list []Label) {
	for _, l := range list {
		b.WriteByte('{')
		printText(b, l.Kind)
		printText(b, l.At.File)
		printNumber(b, uint64(l.At.Start))
		printTexts(b, l.Harmless)
	}
}

// The pieces of a key tell their length, so that no two values have one.

func printBits(b *strings.Builder, list ...bool) {
	c := byte('@')
	for i, x := range list {
		if x {
			c |= 1 << i
		}
	}
	b.WriteByte(c)
}

func printNumber(b *strings.Builder, n uint64) {
	var buf [binary.MaxVarintLen64]byte
	b.Write(buf[:binary.PutUvarint(buf[:], n)])
}

func printText(b *strings.Builder, s string) {
	printNumber(b, uint64(len(s)))
	b.WriteString(s)
}

func printTexts(b *strings.Builder, list []string) {
	printNumber(b, uint64(len(list)))
	for _, s := range list {
		printText(b, s)
	}
}

// freezer turns abstract values into what a rule sees.
type freezer struct {
	it   *interp
	st   *state
	seen map[objID]bool
	n    int
	// traces says that labels are wanted with their traces.
	traces bool
}

func (z *freezer) labels(list []label, clean tags) []Label {
	if len(list) == 0 {
		return nil
	}
	out := make([]Label, 0, len(list))
	for _, l := range list {
		x := Label{Kind: l.src.kind, At: l.src.at, Note: l.src.note, Harmless: z.tags(l.clean | clean)}
		for s := l.step; z.traces && s != nil; s = s.prev {
			if strings.HasPrefix(s.at.File, "<model>") {
				continue
			}
			x.Trace = append(x.Trace, Step{At: s.at, Note: s.note})
		}
		for i, j := 0, len(x.Trace)-1; i < j; i, j = i+1, j-1 {
			x.Trace[i], x.Trace[j] = x.Trace[j], x.Trace[i]
		}
		out = append(out, x)
	}
	return out
}

func (z *freezer) tags(t tags) Harmless {
	if t == 0 {
		return nil
	}
	if t == allTags {
		return Harmless{"*"}
	}
	var out Harmless
	if t&guess != 0 {
		out = append(out, "guess")
	}
	for i, k := range z.it.p.tagList {
		if t>>i&1 != 0 {
			out = append(out, k)
		}
	}
	return out
}

func (z *freezer) value(v *value, depth int) Value {
	z.n++
	if v == nil || depth > maxFocus || z.n > 600 {
		return Value{}
	}
	var out Value
	switch v.kind {
	case vNone:
		out = Value{Kind: None, Known: true}
	case vBool:
		out = Value{Kind: Bool, Known: true, Bool: v.num != 0}
	case vBoolean:
		out = Value{Kind: Bool}
	case vNum:
		out = Value{Kind: Number, Known: true, Number: v.num}
	case vNumber:
		out = Value{Kind: Number}
	case vText:
		out = Value{Kind: Text, Known: v.text == nil, Bytes: v.isBytes, Safe: v.safe}
		if v.text == nil {
			if v.str != "" {
				out.Pieces = []Piece{{Literal: v.str}}
			}
			break
		}
		for _, p := range v.text {
			if p.sym == nil {
				out.Pieces = append(out.Pieces, Piece{Literal: p.lit})
				continue
			}
			out.Pieces = append(out.Pieces, Piece{Unknown: true, Chars: p.chars, First: Chars{p.chars.lo &^ p.notFirst.lo, p.chars.hi &^ p.notFirst.hi, p.chars.other}, Without: p.not, Doubled: doubledIn(p.sym), Harmless: z.tags(p.clean), Labels: z.labels(p.labels, p.clean)})
		}
	case vTuple:
		switch v.str {
		case "enum":
			return z.value(v.elems[1], depth)
		case "property", "staticmethod", "classmethod", "asview", "contextmanager":
			return Value{Kind: Function}
		}
		out = Value{Kind: List}
		for _, e := range v.elems {
			out.Items = append(out.Items, z.value(e, depth+1))
		}
	case vObj:
		return z.object(v, depth)
	case vLib:
		if l := z.it.labelsOf(z.st, v); len(l) > 0 { // request.form as a whole
			return Value{Kind: Unknown, Labels: z.labels(l, v.clean)}
		}
		out = Value{Kind: Function, Type: v.str}
	case vInst:
		out = Value{Kind: Object, Type: v.str}
		if v.str == "pathlib.Path" && len(v.elems) > 0 {
			t := z.value(v.elems[0], depth)
			t.Labels = append(t.Labels, z.labels(v.labels, v.clean)...)
			return t
		}
		for _, e := range v.elems {
			out.Items = append(out.Items, z.value(e, depth+1))
		}
	case vFunc:
		out = Value{Kind: Function, Type: v.fn.fullName()}
	case vClass:
		out = Value{Kind: Function, Type: v.cls.path()}
	case vModule:
		out = Value{Kind: Function, Type: v.mod.name}
	case vBound:
		out = Value{Kind: Function, Type: z.it.pathOf(z.st, v)}
		if v.fn != nil {
			out.Type = v.fn.fullName()
		} else if l := z.it.labelsOf(z.st, v); len(l) > 0 {
			return Value{Kind: Unknown, Labels: z.labels(l, v.clean)}
		}
	case vUnion:
		for _, a := range v.elems {
			if a.kind == vUnbound {
				continue
			}
			out.Alternatives = append(out.Alternatives, z.value(a, depth))
		}
		if len(out.Alternatives) == 1 {
			return out.Alternatives[0]
		}
		return out
	}
	if v.kind == vUnknown && v.str == "text" {
		return Value{Kind: Text, Pieces: []Piece{{Unknown: true, Chars: AnyChars, First: AnyChars, Harmless: z.tags(v.clean), Labels: z.labels(v.labels, v.clean)}}}
	}
	out.Labels = z.labels(v.labels, v.clean)
	return out
}

func (z *freezer) object(v *value, depth int) Value {
	o := z.it.get(z.st, v.obj)
	if o == nil || z.seen[v.obj] {
		return Value{Kind: Object}
	}
	z.seen[v.obj] = true
	defer delete(z.seen, v.obj)
	var out Value
	switch o.kind {
	case oList, oSet:
		out.Kind = List
		for _, e := range o.elems {
			if b, _ := bound(e); b != nil {
				out.Items = append(out.Items, z.value(b, depth+1))
			}
		}
	case oDict:
		out.Kind = Dict
		for _, k := range o.keys {
			if b, _ := bound(o.m[k]); b != nil {
				kv := keyValue(k)
				name := kv.str
				if kv.kind == vNum {
					name = numText(kv)
				}
				out.Keys = append(out.Keys, name)
				out.Items = append(out.Items, z.value(b, depth+1))
			}
		}
	default:
		out.Kind = Object
		if o.cls != nil {
			out.Type = o.cls.path()
			if b := o.cls.libBase(); b != "" {
				out.Type = b
			}
		}
		for _, k := range o.keys {
			if b, _ := bound(o.m[k]); b != nil {
				out.Keys = append(out.Keys, k)
				out.Items = append(out.Items, z.value(b, depth+1))
			}
		}
	}
	if o.rest != nil {
		r := z.value(o.rest, depth+1)
		out.Rest = &r
	}
	out.Labels = z.labels(addLabels(v.labels, o.restKeys), v.clean)
	return out
}
