package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pyflow"
)

// FromOutside reports whether a label stands for data that a client sends
// with the request or message at hand, as opposed to what was stored before.
// It is the answer to most rules' question which labels count.
func FromOutside(l pyflow.Label) bool {
	switch {
	case slices.Contains(outside, l.Kind), l.Kind == "kept": // by an earlier request, in an object of a module
		return true
	case l.Kind == "file-content":
		// What is read from a file of the server's own is not an upload.
		return !strings.HasPrefix(l.Note, "content of a file")
	}
	return false
}

// outside are the kinds of labels of what comes with a request or message.
var outside = []string{"query", "form", "json", "cookie", "header", "path", "url", "body", "file", "websocket", "message"}

// FromStore reports whether a label stands for data read back from where the
// application keeps what clients sent earlier.
func FromStore(l pyflow.Label) bool { return l.Kind == "stored" }

// Guessed reports whether a label went through a call of which nothing is
// known, so that the value may have nothing to do with its source any more.
func Guessed(l pyflow.Label) bool { return l.Harmless.For("guess") }

// Known accepts what ok does, but for what is [Guessed].
func Known(ok func(pyflow.Label) bool) func(pyflow.Label) bool {
	return func(l pyflow.Label) bool { return ok(l) && !Guessed(l) }
}

// Anything accepts every label.
func Anything(pyflow.Label) bool { return true }

// Danger is one way in which data from outside does harm at a hit.
type Danger struct {
	// Label says where the data comes from.
	Label pyflow.Label
	// Message is the finding's; the source stands in it as "%s".
	Message string
	// Caret is the finding's label.
	Caret string
	Fix   string
	// Cause is [Finding.Cause], Confidence [Finding.Confidence].
	Cause      string
	Confidence Confidence
	// Spot is where the data stands (payload.Sink), if the rule knows, and
	// Language in which, if the rule has several.
	Spot, Language string
	// Labels are all of those that do harm. Nil: it may be whatever of a
	// request comes to the hit.
	Labels []pyflow.Label
	// Pattern, Names, Watched and Open are those of [Source].
	Pattern        string
	Names, Watched []string
	Open           string
	// At is the place to mark, the hit's if nil.
	At *pyflow.Span
	// Edits repair it, if that is possible; called once for each finding.
	Edits func() []Edit
}

// Hits returns the hits of a verb on any of the kinds, in order, those in
// test code left out. It tells the pass when functions were given up, since
// what they reach was not seen.
func (p *Pass) Hits(verb string, kinds ...string) []*pyflow.Hit {
	flow := p.Flow()
	if flow == nil {
		return nil
	}
	for _, g := range flow.GaveUp {
		if f := p.Project.File(g.At.File); f == nil || !f.Test {
			p.CouldNotLook(fmt.Sprintf("%s in %s was not followed to its end: %s", g.Name, g.At.File, g.Reason))
		}
	}
	var out []*pyflow.Hit
	for _, h := range flow.Hits {
		if h.Verb != verb || !slices.Contains(kinds, h.Kind) {
			continue
		}
		if f := p.Project.File(h.At.File); f != nil && !f.Test {
			out = append(out, h)
		}
	}
	return out
}

// Follow asks decide about every hit and reports each place once: the danger
// with the shortest way from its source, the other sources beside it.
func (p *Pass) Follow(hits []*pyflow.Hit, decide func(*pyflow.Hit) []Danger) {
	type found struct {
		h *pyflow.Hit
		d Danger
	}
	places := map[pyflow.Span][]found{}
	var order []pyflow.Span
	for _, h := range hits {
		for _, d := range decide(h) {
			at := h.At
			if d.At != nil {
				at = *d.At
			}
			if places[at] == nil {
				order = append(order, at)
			}
			places[at] = append(places[at], found{h, d})
		}
	}
	for _, at := range order {
		all := places[at]
		slices.SortStableFunc(all, func(a, b found) int {
			return cmp.Or(
				cmp.Compare(b.d.Confidence, a.d.Confidence),
				compareKept(a.d.Label, b.d.Label),
				cmp.Compare(len(a.d.Label.Trace), len(b.d.Label.Trace)),
				strings.Compare(a.d.Label.At.File, b.d.Label.At.File),
				cmp.Compare(a.d.Label.At.Start, b.d.Label.At.Start),
				strings.Compare(a.d.Message, b.d.Message),
			)
		})
		best := all[0]
		if best.d.Label.Kind == "kept" {
			best.d.Confidence = Possible // somebody else may look over it in between
		}
		f := Finding{
			Span:       p.Project.FlowSpan(at),
			Message:    strings.ReplaceAll(best.d.Message, "%s", Sourced(best.d.Label)),
			Label:      best.d.Caret,
			Fix:        best.d.Fix,
			Cause:      best.d.Cause,
			Confidence: best.d.Confidence,
			Language:   best.d.Language,
			Trace:      p.Project.Trace(best.d.Label, best.h),
		}
		seen := []pyflow.Span{best.d.Label.At}
		for _, other := range all[1:] {
			if l := other.d.Label; !slices.Contains(seen, l.At) && len(seen) < 8 {
				seen = append(seen, l.At)
				f.Related = append(f.Related, Step{Span: p.Project.FlowSpan(l.At), Note: "so does " + Sourced(l)})
			}
		}
		if best.d.Edits != nil {
			f.Edits = best.d.Edits()
		}
		for _, x := range all {
			f.Sources = addSources(f.Sources, x.h, x.d)
		}
		p.Report(f)
	}
}

// addSources adds what of a request comes to a hit. What is harmless there by
// its label is left out, unless it is what the rule found; that a piece cannot
// hold what does harm is not looked at: more is better than less.
func addSources(list []Source, h *pyflow.Hit, d Danger) []Source {
	labels := []pyflow.Label{d.Label}
	if d.Labels != nil {
		labels = d.Labels
	}
	for _, v := range h.Focus {
		if d.Labels != nil {
			break
		}
		kinds := []string{}
		if h.Kind == "response" || h.Kind == "template" {
			kinds = append(kinds, "html", "response", "template")
		}
		for _, l := range LiveIn(v, FromOutside, kinds...) {
			if !slices.ContainsFunc(labels, func(o pyflow.Label) bool { return o.At == l.At && o.Kind == l.Kind && o.Note == l.Note }) {
				labels = append(labels, l)
			}
		}
	}
	for _, l := range labels {
		s := Source{Kind: l.Kind, Name: l.Name(), Note: l.Note, Values: l.Kind == "form" && strings.HasPrefix(l.Note, "query parameter or"), at: l.At,
			Pattern: d.Pattern, Names: d.Names, Watched: d.Watched, Open: d.Open}
		if len(labels) == 1 || h.Output != nil {
			s.Spot = d.Spot
		}
		i := slices.IndexFunc(list, func(o Source) bool {
			return o.Kind == s.Kind && o.Name == s.Name && o.at == s.at && o.Pattern == s.Pattern
		})
		switch {
		case i < 0:
			list = append(list, s)
		default:
			list[i].Spot = bothSpots(list[i].Spot, s.Spot)
			list[i].Open = cmp.Or(list[i].Open, s.Open)
		}
	}
	return list
}

// bothSpots joins places; one that is not known makes both unknown.
func bothSpots(a, b string) string {
	if a == "" || b == "" {
		return ""
	}
	for s := range strings.SplitSeq(b, "|") {
		if !slices.Contains(strings.Split(a, "|"), s) {
			a += "|" + s
		}
	}
	return a
}

// compareKept puts what comes with the request at hand before what an earlier
// one left.
func compareKept(a, b pyflow.Label) int {
	n := map[bool]int{true: 1}
	return n[a.Kind == "kept"] - n[b.Kind == "kept"]
}

// Sourced returns the words for a label's source in the middle of a sentence:
// `the query parameter "q"`.
func Sourced(l pyflow.Label) string {
	note := l.Note
	if note == "" {
		note = "data of kind " + l.Kind
	}
	return "the " + note
}

// ArgAt returns the place of the argument at index i or of the name, or nil.
func ArgAt(h *pyflow.Hit, i int, name string) *pyflow.Span {
	if i >= 0 && i < len(h.ArgSpans) {
		return &h.ArgSpans[i]
	}
	if at, ok := h.KeywordSpans[name]; ok && name != "" {
		return &at
	}
	return nil
}

// Texts returns the texts that a value may be: of every alternative the
// pieces in order. What is labelled and otherwise unknown is one unknown
// piece; numbers, containers and objects are none.
func Texts(v pyflow.Value) []FlowText {
	var out []FlowText
	v.Each(func(v pyflow.Value) {
		switch {
		case v.Kind == pyflow.Text && len(v.Pieces) > 0:
			out = append(out, FlowText{Pieces: v.Pieces, Safe: v.Safe})
		case (v.Kind == pyflow.Text || v.Kind == pyflow.Unknown) && len(v.Labels) > 0:
			out = append(out, FlowText{Pieces: []pyflow.Piece{{Unknown: true, Chars: pyflow.AnyChars, Labels: v.Labels}}, Whole: v.Kind == pyflow.Unknown, Safe: v.Safe})
		}
	})
	return out
}

// FlowText is one of the texts that a value may be.
type FlowText struct {
	Pieces []pyflow.Piece
	// Whole is set when it is not even known that the value is a text.
	Whole bool
	// Safe is set on markup.
	Safe bool
}

// Live returns the labels of a piece that accept takes and that neither the
// piece nor the label itself is harmless for, whatever the kinds.
func Live(p pyflow.Piece, accept func(pyflow.Label) bool, kinds ...string) []pyflow.Label {
	if !p.Unknown {
		return nil
	}
	for _, k := range kinds {
		if p.Harmless.For(k) {
			return nil
		}
	}
	var out []pyflow.Label
	for _, l := range p.Labels {
		if accept(l) && !slices.ContainsFunc(kinds, l.Harmless.For) {
			out = append(out, l)
		}
	}
	return out
}

// LiveIn is [Live] for all labels of a value, parts included.
func LiveIn(v pyflow.Value, accept func(pyflow.Label) bool, kinds ...string) []pyflow.Label {
	var out []pyflow.Label
	add := func(p pyflow.Piece) {
		for _, l := range Live(p, accept, kinds...) {
			if !slices.ContainsFunc(out, func(o pyflow.Label) bool { return o.At == l.At && o.Kind == l.Kind }) {
				out = append(out, l)
			}
		}
	}
	var walk func(pyflow.Value, int)
	walk = func(v pyflow.Value, depth int) {
		if depth > 16 {
			return
		}
		add(pyflow.Piece{Unknown: true, Labels: v.Labels})
		for _, piece := range v.Pieces {
			add(piece)
		}
		for _, item := range v.Items {
			walk(item, depth+1)
		}
		for _, a := range v.Alternatives {
			walk(a, depth+1)
		}
		if v.Rest != nil {
			walk(*v.Rest, depth+1)
		}
	}
	walk(v, 0)
	return out
}

// Readable returns the labels of what can be read in a value: not of numbers
// and truths about a text, such as its length.
func Readable(v pyflow.Value) []pyflow.Label { return readable(v, 0) }

func readable(v pyflow.Value, depth int) []pyflow.Label {
	if v.Kind == pyflow.Number || v.Kind == pyflow.Bool || v.Kind == pyflow.Object || depth > 8 {
		return nil
	}
	var out []pyflow.Label
	for _, l := range v.Labels {
		// What some call made of a text is rarely the text: the user that a
		// token belongs to.
		if v.Kind != pyflow.Unknown || l.Kind == "json" || l.Kind == "header" && !Guessed(l) {
			out = append(out, l)
		}
	}
	for _, piece := range v.Pieces {
		if !Only(piece, Digits) {
			out = append(out, piece.Labels...)
		}
	}
	for _, x := range slices.Concat(v.Items, v.Alternatives) {
		out = append(out, readable(x, depth+1)...)
	}
	if v.Rest != nil {
		out = append(out, readable(*v.Rest, depth+1)...)
	}
	return out
}

// CanHold reports whether the piece can contain the text s.
func CanHold(p pyflow.Piece, s string) bool {
	if !p.Unknown {
		return strings.Contains(p.Literal, s)
	}
	for _, r := range s {
		if !p.Chars.Has(r) {
			return false
		}
	}
	for _, w := range p.Without {
		if w != "" && strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// CanHoldAny reports whether the piece can contain one of the characters.
func CanHoldAny(p pyflow.Piece, chars string) bool {
	return strings.ContainsFunc(chars, func(r rune) bool { return CanHold(p, string(r)) })
}

// CanBegin reports whether the piece can begin with r, or with the text of it.
func CanBegin(p pyflow.Piece, r rune) bool {
	if !p.Unknown {
		return strings.HasPrefix(p.Literal, string(r))
	}
	return CanHold(p, string(r)) && (p.First == (pyflow.Chars{}) || p.First.Has(r))
}

// Only reports whether the piece consists of characters of the set at most.
func Only(p pyflow.Piece, set pyflow.Chars) bool {
	if !p.Unknown {
		return !strings.ContainsFunc(p.Literal, func(r rune) bool { return !set.Has(r) })
	}
	return p.Chars.And(set) == p.Chars
}

// Digits are the characters that numbers are written with.
var Digits = pyflow.CharRange("0-9.eE+_-")

// Word are the characters of names, also beyond ASCII.
var Word = pyflow.CharRange(`a-zA-Z0-9_\u`)

// Receiver returns the source text of what a method was called on, empty if
// it cannot be told: "self.db" of self.db.execute(q).
func (p *Pass) Receiver(h *pyflow.Hit) string {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return ""
	}
	src := f.Python.Src
	if int(h.At.End) > len(src) || h.At.Start > h.At.End {
		return ""
	}
	text := string(src[h.At.Start:h.At.End])
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	if i := strings.Index(text, "."+name); i >= 0 {
		return text[:i]
	}
	return ""
}
