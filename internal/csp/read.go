package csp

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"sort"
	"strings"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/jinja"
)

// Bounds on what is read of one project. Above them a gap says so.
const (
	maxSkeletons = 4096
	maxPattern   = 32 << 10
	maxOrigins   = 64 // per directive
	maxGaps      = 1024
)

// File is one template, script or style sheet of a project.
type File struct {
	Path string
	Data []byte
}

// Read takes templates apart, and looks through static scripts and style
// sheets for origins that they name. Files come in a fixed order from the
// caller; so does what is found.
func Read(templates, static []File) *Source {
	s := &Source{Origins: map[string][]string{}}
	parsed := make([]*jinja.Template, len(templates))
	included := map[string]bool{} // by base name: paths of loaders are not known here
	for i, f := range templates {
		parsed[i] = jinja.Parse(f.Path, f.Data)
		jinja.Walk(parsed[i].Body, func(n jinja.Node) bool {
			var name jinja.Expr
			switch n := n.(type) {
			case *jinja.Include:
				name = n.Template
			case *jinja.Import:
				name = n.Template
			case *jinja.FromImport:
				name = n.Template
			}
			for _, text := range names(name) {
				included[path.Base(text)] = true
			}
			return true
		})
	}
	for i, t := range parsed {
		if !isPage(templates[i].Path) {
			continue
		}
		r := &reader{s: s, t: t, many: included[path.Base(t.Path)]}
		r.read()
	}
	for _, f := range static {
		for _, m := range mention.FindAll(f.Data, 4*maxOrigins) {
			if o := origin(string(m)); o != "" && len(s.Mentioned) < 4*maxOrigins {
				s.Mentioned = add(s.Mentioned, o)
			}
		}
	}
	return s
}

// mention is an address in a script or a style sheet.
var mention = regexp.MustCompile(`(?i)\b(?:https?|wss?)://[a-z0-9.-]+(?::[0-9]+)?`)

// names returns the names that an include may mean.
func names(x jinja.Expr) []string {
	switch x := x.(type) {
	case *jinja.Const:
		if x.Kind == jinja.String {
			return []string{x.Text}
		}
	case *jinja.List:
		var out []string
		for _, item := range x.Items {
			out = append(out, names(item)...)
		}
		return out
	case *jinja.Tuple:
		var out []string
		for _, item := range x.Items {
			out = append(out, names(item)...)
		}
		return out
	}
	return nil
}

// isPage says whether a template becomes (a part of) an HTML page.
func isPage(name string) bool {
	name = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), ".jinja2"), ".j2")
	switch path.Ext(name) {
	case ".html", ".htm", ".xhtml", "", ".jinja":
		return true
	}
	return false
}

// A reader takes one template apart. It writes the template as HTML in which
// each output and each tag of Jinja is a marker, and lets a tokenizer of HTML
// find scripts, styles and attributes in that.
type reader struct {
	s    *Source
	t    *jinja.Template
	flow *jinja.Flow
	many bool

	b      strings.Builder
	marks  []mark
	places []place
	loops  int // around what is written now
}

// place says of the HTML from an offset on where it comes from.
type place struct {
	at, where int
	text      bool // as it stands in the source
	many      bool
}

// mark is what a marker stands for.
type mark struct {
	kind markKind
	out  *jinja.Output
	what string // of an opaque one
}

type markKind uint8

const (
	markHole   markKind = iota // an output
	markSilent                 // a tag that puts out nothing
	markOpen                   // {% if %}
	markElse                   // {% elif %}, {% else %}
	markClose                  // {% endif %}
	markLoop                   // {% for %}
	markEmpty                  // {% else %} of for
	markEnd                    // {% endfor %}
	markOpaque                 // what comes out is not known here
)

// A marker is markStart, a number, markStop: characters for private use, which
// HTML's tokenizer takes for letters.
const (
	markStart = '\uE0F0'
	markStop  = '\uE0F1'
)

var marker = regexp.MustCompile("\uE0F0([0-9]+)\uE0F1")

// newlines writes line breaks as Jinja does, and as browsers read them before
// they hash (HTML standard, "preprocessing the input stream").
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// from notes where what is written next comes from.
func (r *reader) from(where int, text bool) {
	r.places = append(r.places, place{at: r.b.Len(), where: where, text: text, many: r.many || r.loops > 0})
}

func (r *reader) mark(where int, m mark) {
	r.from(where, false)
	fmt.Fprintf(&r.b, "%c%d%c", markStart, len(r.marks), markStop)
	r.marks = append(r.marks, m)
}

func (r *reader) read() {
	r.flow = jinja.Contexts(r.t.Body, jinja.Start(r.t.Path))
	if strings.ContainsRune(r.t.Source, markStart) {
		r.gap(0, "the template has characters that are markers here")
		return
	}
	r.nodes(r.t.Body)
	r.tokens(r.b.String())
}

// nodes writes nodes with markers.
func (r *reader) nodes(list []jinja.Node) {
	for _, n := range list {
		at := n.At().Start
		switch n := n.(type) {
		case *jinja.Text:
			r.from(at+max(strings.Index(r.t.Source[at:n.At().End], n.Value), 0), true)
			r.b.WriteString(newlines.Replace(n.Value))
		case *jinja.Output:
			if what := opaque(n.X); what != "" {
				r.mark(at, mark{kind: markOpaque, what: what, out: n})
			} else {
				r.mark(at, mark{kind: markHole, out: n})
			}
		case *jinja.If:
			for i, branch := range n.Branches {
				kind := markElse
				if i == 0 {
					kind = markOpen
				}
				r.mark(at, mark{kind: kind})
				r.nodes(branch.Body)
			}
			r.mark(at, mark{kind: markElse})
			r.nodes(n.Else)
			r.mark(at, mark{kind: markClose})
		case *jinja.For:
			r.loops++
			r.mark(at, mark{kind: markLoop})
			r.nodes(n.Body)
			r.loops--
			r.mark(at, mark{kind: markEmpty})
			r.nodes(n.Else)
			r.mark(at, mark{kind: markEnd})
		case *jinja.Macro:
			r.loops++
			r.mark(at, mark{kind: markSilent})
			r.nodes(n.Body)
			r.loops--
			r.mark(at, mark{kind: markSilent})
		case *jinja.CallBlock:
			r.loops++
			r.mark(at, mark{kind: markOpaque, what: "{% call %}"})
			r.nodes(n.Body)
			r.loops--
			r.mark(at, mark{kind: markSilent})
		case *jinja.Block:
			// In a script it may become anything that a child puts there.
			r.mark(at, mark{kind: markOpaque, what: "{% block " + n.Name + " %}"})
			r.nodes(n.Body)
			r.mark(at, mark{kind: markSilent})
		case *jinja.With:
			r.mark(at, mark{kind: markSilent})
			r.nodes(n.Body)
			r.mark(at, mark{kind: markSilent})
		case *jinja.Autoescape:
			r.mark(at, mark{kind: markSilent})
			r.nodes(n.Body)
			r.mark(at, mark{kind: markSilent})
		case *jinja.Set, *jinja.SetBlock, *jinja.Do, *jinja.Comment, *jinja.Import, *jinja.FromImport, *jinja.Extends:
			r.mark(at, mark{kind: markSilent})
		case *jinja.Include:
			r.mark(at, mark{kind: markOpaque, what: "{% include %}"})
		default:
			r.mark(at, mark{kind: markOpaque, what: "a tag of an extension"})
			jinja.Kids(n, func(k jinja.Node) {
				r.loops++
				r.nodes([]jinja.Node{k})
				r.loops--
			})
		}
	}
}

// opaque says why an output may put out code of the template itself; "" if it
// puts out a value.
func opaque(x jinja.Expr) string {
	for {
		switch f := x.(type) {
		case *jinja.Filter:
			x = f.X
			continue
		case *jinja.Call:
			if n, ok := f.Func.(*jinja.Name); ok && (n.Name == "super" || n.Name == "caller") {
				return "{{ " + n.Name + "() }}"
			}
		}
		return ""
	}
}

// tokens finds what is inline in HTML with markers.
func (r *reader) tokens(text string) {
	z := html.NewTokenizer(strings.NewReader(text))
	script := "" // "script" or "style" while in one that runs
	where, many, offset := 0, false, 0
	for {
		kind := z.Next()
		start := offset
		offset += len(z.Raw())
		if kind == html.ErrorToken {
			return
		}
		switch kind {
		case html.StartTagToken, html.SelfClosingTagToken:
			where, many = r.place(start)
			name, more := z.TagName()
			attrs := map[string]string{}
			for more {
				var k, v []byte
				k, v, more = z.TagAttr()
				if _, twice := attrs[string(k)]; !twice {
					attrs[string(k)] = string(v)
				}
			}
			script = r.element(string(name), attrs, where, many)
		case html.TextToken:
			if script != "" {
				r.inline(script, string(z.Text()), where, many)
			}
			script = ""
		default:
			script = ""
		}
	}
}

// place returns the place in the source of an offset into the HTML, and
// whether a page may have what stands there more than once.
func (r *reader) place(offset int) (where int, many bool) {
	i := sort.Search(len(r.places), func(i int) bool { return r.places[i].at > offset })
	if i == 0 {
		return 0, r.many
	}
	p := r.places[i-1]
	if p.text {
		return p.where + offset - p.at, p.many
	}
	return p.where, p.many
}

func (r *reader) gap(where int, format string, args ...any) {
	if len(r.s.Gaps) < maxGaps {
		line, _ := r.t.Line(min(where, len(r.t.Source)))
		r.s.Gaps = append(r.s.Gaps, Gap{File: r.t.Path, Line: line, What: fmt.Sprintf(format, args...)})
	}
}

// element looks at a start tag, and returns "script" or "style" if what stands
// in the element is one that needs a policy's leave.
func (r *reader) element(name string, attrs map[string]string, where int, many bool) string {
	for k, v := range attrs {
		switch {
		case len(k) > 2 && strings.HasPrefix(k, "on") && strings.TrimSpace(v) != "":
			r.skeleton(&r.s.Handlers, "event handler "+k, v, jinja.KindEvent, where, many)
		case k == "style" && strings.TrimSpace(v) != "":
			r.skeleton(&r.s.StyleAttributes, "style attribute", v, jinja.KindStyleAttr, where, many)
		case (k == "href" || k == "action" || k == "formaction") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(v)), "javascript:"):
			r.gap(where, "%s is a javascript: address", k)
		}
	}
	switch name {
	case "script":
		if src, ok := attrs["src"]; ok {
			r.address("script-src", src, true)
			return ""
		}
		if kind := attrs["type"]; strings.ContainsRune(kind, markStart) {
			r.gap(where, "the type of a script is not known")
			return ""
		} else if runs(kind) {
			return "script"
		}
	case "style":
		return "style"
	case "link":
		rel := strings.Fields(strings.ToLower(attrs["rel"]))
		for _, word := range rel {
			switch word {
			case "stylesheet":
				r.address("style-src", attrs["href"], true)
			case "icon", "apple-touch-icon", "mask-icon":
				r.address("img-src", attrs["href"], false)
			case "manifest":
				r.address("manifest-src", attrs["href"], false)
			case "preload", "modulepreload", "prefetch":
				if d := map[string]string{"script": "script-src", "style": "style-src", "font": "font-src", "image": "img-src", "fetch": "connect-src"}[strings.ToLower(attrs["as"])]; d != "" {
					r.address(d, attrs["href"], d == "script-src" || d == "style-src")
				}
			}
		}
	case "img", "picture":
		r.address("img-src", attrs["src"], false)
		r.srcset(attrs["srcset"])
	case "source":
		r.srcset(attrs["srcset"])
		r.address("media-src", attrs["src"], false)
	case "input":
		if strings.EqualFold(attrs["type"], "image") {
			r.address("img-src", attrs["src"], false)
		}
	case "video", "audio", "track":
		r.address("media-src", attrs["src"], false)
		r.address("img-src", attrs["poster"], false)
	case "iframe", "frame":
		r.address("frame-src", attrs["src"], false)
		if attrs["srcdoc"] != "" {
			r.gap(where, "srcdoc: the document in it is not read")
		}
	case "embed", "object":
		r.address("object-src", attrs["src"]+attrs["data"], false)
	case "form":
		r.address("form-action", attrs["action"], false)
	case "button":
		r.address("form-action", attrs["formaction"], false)
	case "base":
		r.address("base-uri", attrs["href"], false)
	}
	return ""
}

// runs says whether browsers take a script of this type for one to allow:
// JavaScript, modules, and the data blocks that steer scripts.
func runs(kind string) bool {
	kind, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(kind)), ";")
	switch strings.TrimSpace(kind) {
	case "", "module", "importmap", "speculationrules",
		"text/javascript", "application/javascript", "application/ecmascript", "application/x-ecmascript", "application/x-javascript",
		"text/ecmascript", "text/javascript1.0", "text/javascript1.1", "text/javascript1.2", "text/javascript1.3", "text/javascript1.4",
		"text/javascript1.5", "text/jscript", "text/livescript", "text/x-ecmascript", "text/x-javascript":
		return true
	}
	return false
}

func (r *reader) srcset(v string) {
	for candidate := range strings.SplitSeq(v, ",") {
		if words := strings.Fields(candidate); len(words) > 0 {
			r.address("img-src", words[0], false)
		}
	}
}

// address notes where something is loaded from. What is ours, or not known
// before the app runs, is not noted.
func (r *reader) address(directive, v string, whole bool) {
	v = strings.TrimSpace(v)
	fixed, _, dynamic := strings.Cut(v, string(markStart))
	o := origin(fixed)
	if o == "" {
		return
	}
	if dynamic {
		// https://{{ host }}, https://cdn.example{{ suffix }}: the host may
		// not end where the text does.
		u, err := url.Parse(fixed)
		if err != nil || u.Path == "" {
			return
		}
		whole = false
	}
	if whole {
		u, err := url.Parse(fixed)
		if err != nil {
			return
		}
		if p := u.EscapedPath(); p != "" && !strings.ContainsAny(p, ";,") {
			o += p
		}
	}
	if list := r.s.Origins[directive]; len(list) < maxOrigins {
		r.s.Origins[directive] = add(list, o)
	}
}

// origin returns https://host[:port] of an address elsewhere, or "".
func origin(v string) string {
	scheme := ""
	if strings.HasPrefix(v, "//") {
		v, scheme = "https:"+v, "https"
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(u.Host, " ;,'\"*") {
		return ""
	}
	switch s := strings.ToLower(u.Scheme); s {
	case "http", "https", "ws", "wss":
		if scheme == "" {
			scheme = s
		}
	default:
		return ""
	}
	return scheme + "://" + strings.ToLower(u.Host)
}

// inline notes an inline script or style sheet.
func (r *reader) inline(element, text string, where int, many bool) {
	if strings.TrimSpace(marker.ReplaceAllString(text, "x")) == "" {
		return
	}
	if element == "script" {
		r.skeleton(&r.s.Scripts, "inline script", text, jinja.KindScript, where, many)
	} else {
		r.skeleton(&r.s.Styles, "inline style sheet", text, jinja.KindStyle, where, many)
	}
}

// skeleton notes a text with markers in it: its hash if there are none, else
// its pattern.
func (r *reader) skeleton(list *[]Skeleton, what, text string, kind jinja.Kind, where int, many bool) {
	line, _ := r.t.Line(where)
	k := Skeleton{File: r.t.Path, Line: line, Many: many}
	if !strings.ContainsRune(text, markStart) {
		k.Hash = Hash(text)
	} else {
		p, err := r.pattern(text, kind)
		if err != nil {
			r.gap(where, "%s: %v", what, err)
			return
		}
		k.Pattern = p
	}
	if len(*list) >= maxSkeletons {
		r.gap(where, "%s: more than %d of them", what, maxSkeletons)
		return
	}
	*list = append(*list, k)
}
