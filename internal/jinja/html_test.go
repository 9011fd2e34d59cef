package jinja

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// A piece is part of a generated template: text, an output, or a statement
// with bodies.
type piece struct {
	text   string
	marker string    // of an output
	bodies [][]piece // of an if, or the one of a loop
	loop   bool
	choice int // of the statement, counted over the template
}

// generator makes templates out of words of HTML in any order.
type generator struct {
	r       *rand.Rand
	words   []string
	markers int
	choices int
	loops   [4]bool // which of the choices are loops'
}

func (g *generator) pieces(n, depth int) []piece {
	var out []piece
	for range n {
		switch k := g.r.IntN(10); {
		case k < 3:
			// Behind a whole name an output would be a part of it: what that
			// means is decided, not measured (see TestContexts).
			if len(out) > 0 && nameAtEnd.MatchString(out[len(out)-1].text) || len(out) == 0 && depth > 0 {
				continue
			}
			g.markers++
			out = append(out, piece{marker: fmt.Sprintf("mk%dz", g.markers)})
		case k == 9 && depth < 2 && g.choices < 4:
			p := piece{choice: g.choices, loop: g.r.IntN(3) == 0}
			g.loops[g.choices] = p.loop
			g.choices++
			bodies := 1
			if !p.loop {
				bodies += g.r.IntN(2)
			}
			for range bodies {
				p.bodies = append(p.bodies, g.pieces(1+g.r.IntN(4), depth+1))
			}
			out = append(out, p, piece{text: " "})
		default:
			out = append(out, piece{text: g.words[g.r.IntN(len(g.words))]})
		}
	}
	return out
}

var nameAtEnd = regexp.MustCompile(`</?[a-zA-Z0-9]+$`)

// source writes the pieces as a template.
func source(b *strings.Builder, ps []piece) {
	for _, p := range ps {
		switch {
		case p.marker != "":
			b.WriteString("{{ " + p.marker + " }}")
		case p.loop:
			b.WriteString("{% for a in b %}")
			source(b, p.bodies[0])
			b.WriteString("{% endfor %}")
		case p.bodies != nil:
			b.WriteString("{% if a %}")
			source(b, p.bodies[0])
			if len(p.bodies) > 1 {
				b.WriteString("{% else %}")
				source(b, p.bodies[1])
			}
			b.WriteString("{% endif %}")
		default:
			b.WriteString(p.text)
		}
	}
}

// render writes the HTML that comes out when statement i takes the way
// choices[i]: a branch, or that many times through the loop.
func render(b *strings.Builder, ps []piece, choices []int) {
	for _, p := range ps {
		switch {
		case p.loop:
			for range choices[p.choice] {
				render(b, p.bodies[0], choices)
			}
		case p.bodies != nil:
			c := choices[p.choice]
			if c < len(p.bodies) {
				render(b, p.bodies[c], choices)
			}
		default:
			b.WriteString(p.text + p.marker)
		}
	}
}

var markerForm = regexp.MustCompile(`mk[0-9]+z`)

// landed is where a marker came to lie in a real tree.
type landed struct{ kind, tag, attr, prefix string }

// foreignOnly are names that are HTML's only by mistake. Which of such elements
// are open is not followed, so an end tag in SVG may close one around it.
var foreignOnly = setOf("g path desc foreignobject mi mtext")

// escapeBug is where x/net/html is not right: in a script, behind "<!--", a
// "<" that begins no tag ends the escaped state for it, for the standard
// (13.2.5.23) it does not.
var escapeBug = regexp.MustCompile(`(?is)<script.*<!--.*<[^a-z/]`)

// land parses the HTML as a browser does and finds the markers in it; nil
// where what the parser says is not worth asking.
func land(t *testing.T, text string) map[string][]landed {
	t.Helper()
	if escapeBug.MatchString(text) {
		return nil
	}
	root, err := html.ParseWithOptions(strings.NewReader(text), html.ParseOptionEnableScripting(false))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]landed{}
	add := func(in string, l landed) {
		for _, m := range markerForm.FindAllString(in, -1) {
			if !slices.Contains(found[m], l) {
				found[m] = append(found[m], l)
			}
		}
	}
	star := func(s string) string {
		return regexp.MustCompile(`\*+`).ReplaceAllString(markerForm.ReplaceAllString(strings.ToLower(s), "*"), "*")
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Namespace == "" && foreignOnly[n.Data] {
			return nil
		}
		switch n.Type {
		case html.ElementNode:
			add(n.Data, landed{kind: "tag-name"})
			tag := star(n.Data)
			for _, a := range n.Attr {
				key := a.Key
				if a.Namespace != "" {
					key = a.Namespace + ":" + key
				}
				add(key, landed{kind: "attr-name", tag: tag})
				for _, at := range markerForm.FindAllStringIndex(a.Val, -1) {
					add(a.Val[at[0]:at[1]], landed{"value", tag, star(key), a.Val[:at[0]]})
				}
			}
		case html.TextNode:
			l := landed{kind: "text"}
			if p := n.Parent; p != nil && p.Type == html.ElementNode {
				switch {
				case p.Data == "script" || p.Data == "style":
					l = landed{kind: p.Data}
				case p.Namespace == "" && rawElements[p.Data] != KindText:
					l = landed{kind: rawElements[p.Data].String(), tag: p.Data}
				}
			}
			add(n.Data, l)
		case html.CommentNode:
			add(n.Data, landed{kind: "comment"})
		case html.DoctypeNode:
			add(n.Data, landed{kind: "comment"})
		}
	}
	return found
}

// is reports whether a context is the place at which a marker landed.
func (c Context) is(l landed) bool {
	switch c.Kind {
	case KindScript, KindScriptData:
		return l.kind == "script"
	case KindMarkup, KindComment:
		// The parser makes comments of what is no declaration.
		return l.kind == "comment"
	case KindTagName, KindText:
		return l.kind == c.Kind.String()
	case KindStyle:
		return l.kind == "style"
	case KindAttrName:
		return l.kind == "attr-name" && names(c.Tag, l.tag)
	case KindRCDATA, KindRawText:
		return l.kind == c.Kind.String() && l.tag == c.Tag
	}
	if l.kind != "value" || !names(c.Tag, l.tag) || !names(c.Attr, l.attr) || c.Kind != KindScriptURL && c.Kind != attrKind(l.attr) {
		return false
	}
	if c.Dynamic {
		return strings.HasPrefix(l.prefix, c.Prefix)
	}
	return l.prefix == c.Prefix
}

// names reports whether a context's name, in which "*" is anything, is that
// one.
func names(name, real string) bool {
	first, rest, star := strings.Cut(name, starMark)
	if !star {
		return name == real
	}
	real, ok := strings.CutPrefix(real, first)
	for _, part := range strings.Split(rest, starMark) {
		i := strings.Index(real, part)
		if i < 0 {
			return false
		}
		real = real[i+len(part):]
	}
	return ok
}

// mayBeDropped reports whether a parser may drop what is at such a place: end tags
// have no attributes, a tag may never end or be there twice, a DOCTYPE has its
// place.
func (c Context) mayBeDropped() bool {
	switch c.Kind {
	case KindMarkup, KindTagName, KindAttrName, KindAttr, KindURL, KindEvent, KindStyleAttr, KindSrcdoc, KindScriptURL:
		return true
	}
	return false
}

var htmlWords = strings.Split(`<p|<p |<a href=|<div class=|<img src=|<h|<h1>|<x-|</p>|</|<|>|>|>|/>| /|=| = |"|"|'|'| title="| id='| on|on| data-| style=|href="/a?b="|`+
	` onclick="f('| alt=a| value=b | a b c|<!--|-->|--|->|-|!|--!>|<!|<!doctype |<?|<script>|<script type="application/json">|<script src="|</script>|</script |<!--<script>|</SCRIPT>|<style>|</style>|`+
	`<title>|</title>|<textarea>|<textarea rows=2 |</textarea>|</text|<iframe>|</iframe>|<xmp>|</xmp>|&|&amp;|&lt|&quot;|&#39;|&#x26;|;| |  |x|é|<![CDATA[|]]>|/|<span>|</span>|`+
	`<noembed>|</noembed>|<ul><li>|<table><tr><td>|</table>|<noscript>|</noscript>|`+"\n", "|")

var foreignWords = strings.Split(`<svg>|<svg width="|<math>|</svg>|</math>|<svg/>|<g |<g>|</g>|<path d='|<style>|</style>|<script>|</script>|<title>|</title>|<desc>|</desc>|<foreignObject>|`+
	`</foreignObject>|<mi>|</mi>|<mtext>|</mtext>|<svg><![CDATA[|<g><![CDATA[|<desc><![CDATA[|]]>|]|<!--|-->|<a xlink:href="|<textarea>|<title/>|<style/>|"|'|>|>|>| a=| b="|<b>|<p>|<br>|</p>| text |&lt;`, "|")

// TestAgainstHTMLParser puts markers for the outputs of generated templates,
// takes every way through their branches and up to three rounds of their
// loops, and asks a real HTML parser where the markers are: there must be a
// context for each place. A template without branches has no other context.
func TestAgainstHTMLParser(t *testing.T) {
	for _, c := range []struct {
		name            string
		words           []string
		templates, want int
	}{
		{"html", htmlWords, 6000, 40000},
		{"foreign", foreignWords, 3000, 10000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			compared, dropped, straight, failed, full := 0, 0, 0, 0, 0
			for i := range c.templates {
				if failed > 10 {
					t.FailNow()
				}
				g := &generator{r: r, words: c.words}
				if i%3 == 0 {
					g.choices = 4 // none
				}
				ps := g.pieces(4+r.IntN(20), 0)
				var b strings.Builder
				source(&b, ps)
				tpl := Parse("t.html", []byte(b.String()))
				if len(tpl.Errors) > 0 {
					t.Fatalf("%s: %v", b.String(), tpl.Errors)
				}
				contexts := map[string][]Context{}
				flow := Contexts(tpl.Body, Start(tpl.Path))
				// A State that is full has left something out, as it says.
				isFull := false
				for _, s := range flow.Before {
					isFull = isFull || s.places[maxAlternatives-1] != State{}.places[0]
				}
				if isFull {
					full++
					continue
				}
				Walk(tpl.Body, func(n Node) bool {
					if o, ok := n.(*Output); ok {
						contexts[o.X.(*Name).Name] = flow.Outputs[o]
					}
					return true
				})
				g.ways(func(choices []int) {
					b.Reset()
					render(&b, ps, choices)
					for m, places := range land(t, b.String()) {
						for _, l := range places {
							compared++
							if failed < 10 && !slices.ContainsFunc(contexts[m], func(c Context) bool { return c.is(l) }) {
								failed++
								t.Errorf("%s landed at %+v\nin %s\ncontexts %v\ntemplate %s", m, l, b.String(), contexts[m], tpl.Source)
							}
						}
					}
				})
				if len(contexts) > 0 && !strings.Contains(tpl.Source, "{%") {
					found := land(t, b.String())
					if found == nil {
						continue
					}
					for m, cs := range contexts {
						straight++
						if len(cs) != 1 {
							t.Errorf("%s: %d contexts of %s", tpl.Source, len(cs), m)
						}
						if len(found[m]) == 0 {
							if dropped++; !cs[0].mayBeDropped() {
								t.Errorf("%s in %s: %v, but it is nowhere", m, tpl.Source, cs[0])
							}
						}
					}
				}
			}
			t.Logf("%d places compared, %d outputs without branches, %d of them dropped by the parser; %d of %d templates with too many places", compared, straight, dropped, full, c.templates)
			if compared < c.want || dropped*2 > straight || full*50 > c.templates {
				t.Errorf("%d places compared, %d of %d dropped: that is no test", compared, dropped, straight)
			}
		})
	}
}

// ways calls f with every way through the statements.
func (g *generator) ways(f func([]int)) {
	choices := make([]int, min(g.choices, len(g.loops)))
	for {
		f(choices)
		i := 0
		for ; i < len(choices); i++ {
			choices[i]++
			if choices[i] < 2 || g.loops[i] && choices[i] < 4 {
				break
			}
			choices[i] = 0
		}
		if i == len(choices) {
			return
		}
	}
}
