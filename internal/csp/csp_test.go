package csp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/csp"
)

func read(t *testing.T, template string) (*csp.Source, *csp.Matcher) {
	t.Helper()
	s := csp.Read([]csp.File{{Path: "templates/page.html", Data: []byte(template)}}, nil)
	m, err := csp.NewMatcher(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

// TestMatch: what the template could have written is allowed, and nothing else.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name, template string
		own            []string // pages whose every inline text is the app's
		foreign        []string // pages of which no inline text gets a hash
	}{
		{
			"fixed", "<script>start()</script>",
			[]string{"<script>start()</script>", "<body><script defer>start()</script>"},
			[]string{"<script>start() </script>", "<script>alert(1)</script>", "<style>start()</style>", "<p onclick='start()'>"},
		},
		{
			"in a string", `<script>var name = "{{ name }}", at = '{{ url_for("index") }}';</script>`,
			[]string{
				`<script>var name = "", at = '/';</script>`,
				`<script>var name = "Ann &#34;x&#34; O&#39;Neil", at = '/a/b?c=1&amp;d=2';</script>`,
				`<script>var name = "Zoë \u0022", at = '/';</script>`,
			},
			[]string{
				`<script>var name = "";alert(1)//", at = '/';</script>`,
				`<script>var name = "\", at = ';alert(1)//';</script>`,
				"<script>var name = \"a\nb\", at = '/';</script>",
				`<script>var name = "x", at = '/';alert(1)</script>`,
			},
		},
		{
			"JSON", `<script>var cart = {{ cart|tojson }}; show(cart);</script>`,
			[]string{
				`<script>var cart = {"a": [1, -2.5e3, true, null], "b": "x\u003cy \"q\""}; show(cart);</script>`,
				`<script>var cart = 7; show(cart);</script>`,
				`<script>var cart = ; show(cart);</script>`,
			},
			[]string{
				`<script>var cart = alert(1); show(cart);</script>`,
				"<script>var cart = {\"a\": `${alert(1)}`}; show(cart);</script>",
				`<script>var cart = {"a": document.cookie}; show(cart);</script>`,
				`<script>var cart = {"a": "<!--<script>"}; show(cart);</script>`,
				`<script>var cart = {"a": 'x'}; show(cart);</script>`,
				`<script>var cart = {"a": truex}; show(cart);</script>`,
			},
		},
		{
			"branches and loops", "<script>\n{% if admin %}admin();{% elif user %}user({{ id }});{% endif %}\n{%- for x in list %}\nadd(\"{{ x }}\");{% else %}none();{% endfor %}\n</script>",
			[]string{
				"<script>\nadmin();none();\n</script>",
				"<script>\nuser(7);\nadd(\"a\");\nadd(\"b\");\n</script>",
				"<script>\n\nadd(\"a\");\n</script>",
			},
			[]string{
				"<script>\nadmin();user(7);none();\n</script>",
				"<script>\nuser(x);none();\n</script>",
				"<script>\nadmin();\nadd(\"a\");none();\n</script>",
			},
		},
		{
			"handlers and styles",
			`<a onclick="go('{{ id }}')" style="width: {{ n }}%"><style>p { color: {{ c }}; background: url("{{ u }}") }</style>`,
			[]string{
				`<a onclick="go('7')" style="width: 50%"><style>p { color: rgb(1, 2, 3); background: url("/x.png") }</style>`,
				`<a onclick="go('a &amp; b')" style="width: 5.5%"><style>p { color: #fff; background: url("") }</style>`,
			},
			[]string{
				`<a onclick="go('7');alert('x')" style="width: 5%; background: url(//evil.example)"><style>p { color: red} *{ background: url("") }</style>`,
				`<a onclick="go('&#39;);alert(1)//')">`,
				`<a onmouseover="alert(1)" style="position: fixed">`,
			},
		},
		{
			"what decides nothing alone", "{# <script>x()</script> #}<script src=\"/a.js\">y()</script><script type=\"application/json\">{{ z }}</script>",
			nil,
			[]string{"<script>x()</script>", "<script>y()</script>", "<script>alert(1)</script>"},
		},
	} {
		s, m := read(t, c.template)
		for _, page := range c.own {
			got := m.Match([]byte(page))
			if n, want := count(got), inline(page); n != want || len(got.Copied) > 0 {
				t.Errorf("%s: %d of %d texts of %s\n%+v\n%+v", c.name, n, want, page, s, got)
			}
		}
		for _, page := range c.foreign {
			if got := m.Match([]byte(page)); count(got) > 0 {
				t.Errorf("%s: %+v allowed of %s\n%+v", c.name, got, page, s)
			}
		}
	}
}

func count(p csp.Page) int {
	return len(p.Scripts) + len(p.Handlers) + len(p.Styles) + len(p.StyleAttributes)
}

// inline counts what a test's page has inline.
func inline(page string) int {
	return strings.Count(page, "<script>") + strings.Count(page, "<script defer>") + strings.Count(page, "<style>") + strings.Count(page, " onclick=") + strings.Count(page, " style=")
}

// TestCopied: a second text of a skeleton that stands once in its template is
// somebody else's, and which of the two cannot be told.
func TestCopied(t *testing.T) {
	const one, two = `<script>var api = "/v1";</script>`, `<script>var api = "https://evil.example";</script>`
	_, m := read(t, `<script>var api = "{{ api }}";</script><script>fixed()</script>`)
	if got := m.Match([]byte(one + "<script>fixed()</script>")); len(got.Scripts) != 2 {
		t.Errorf("own: %+v", got)
	}
	got := m.Match([]byte(two + one + "<script>fixed()</script>"))
	if !slices.Equal(got.Scripts, []string{csp.Hash("fixed()")}) || len(got.Copied) != 1 || got.Copied[0].Line != 1 {
		t.Errorf("copied: %+v", got)
	}
	if got := m.Match([]byte(one + one)); len(got.Scripts) != 1 || got.Copied != nil {
		t.Errorf("the same text twice does nothing new: %+v", got)
	}
	for _, many := range []string{
		`{% for api in all %}<script>var api = "{{ api }}";</script>{% endfor %}`,
		`{% macro m(api) %}<script>var api = "{{ api }}";</script>{% endmacro %}`,
	} {
		_, m := read(t, many)
		if got := m.Match([]byte(two + one)); len(got.Scripts) != 2 || got.Copied != nil {
			t.Errorf("%s: %+v", many, got)
		}
	}
}

func TestRead(t *testing.T) {
	s := csp.Read([]csp.File{
		{Path: "templates/base.html", Data: []byte("<html>\n<script src=\"https://cdn.example/lib/x.js?v=1\"></script>\n" +
			"<script src=\"{{ url_for('static', filename='a.js') }}\"></script><script src=\"/static/b.js\"></script>\n" +
			"<link rel=stylesheet href=\"//fonts.example/css\"><img src=\"https://img.example/{{ id }}.png\"><img src=\"https://{{ host }}/x\">\n" +
			"<iframe src=\"https://www.video.example/embed/{{ id }}\"></iframe><form action=\"https://pay.example/go\">\n" +
			"<script>{% block js %}{% endblock %}</script>\n<a href=\"javascript:go()\">\n{% include 'part.html' %}\n<script>\n{% if x %}a</script>{% endif %}b</script>")},
		{Path: "templates/part.html", Data: []byte("<script>part('{{ x }}')</script>")},
		{Path: "templates/mail.txt", Data: []byte("<script>never()</script>")},
	}, []csp.File{{Path: "static/a.js", Data: []byte("fetch('https://api.example:8443/v1'); new WebSocket(\"wss://live.example\")")}})
	want := map[string][]string{
		"script-src": {"https://cdn.example/lib/x.js"}, "style-src": {"https://fonts.example/css"}, "img-src": {"https://img.example"},
		"frame-src": {"https://www.video.example"}, "form-action": {"https://pay.example"},
	}
	if got := fmt.Sprint(s.Origins); got != fmt.Sprint(want) {
		t.Errorf("origins %s\nwant    %v", got, want)
	}
	if got := fmt.Sprint(s.Mentioned); got != "[https://api.example:8443 wss://live.example]" {
		t.Errorf("mentioned %s", got)
	}
	if len(s.Scripts) != 1 || s.Scripts[0].File != "templates/part.html" || !s.Scripts[0].Many {
		t.Errorf("scripts %+v", s.Scripts)
	}
	var gaps []string
	for _, g := range s.Gaps {
		gaps = append(gaps, fmt.Sprintf("%d %s", g.Line, g.What))
	}
	if got := strings.Join(gaps, "\n"); got != "6 inline script: what {% block js %} puts there is not known\n7 href is a javascript: address\n9 inline script: a branch begins in it that does not end in it" {
		t.Errorf("gaps\n%s", got)
	}
}

// FuzzRead: any template ends in skeletons that compile, and pages never get
// the hash of a text that no skeleton has.
func FuzzRead(f *testing.F) {
	f.Add("<script>var a = '{{ x }}';{% if y %}b{% endif %}</script>", "<script>var a = 'x';</script>")
	f.Add("<p style='{{ a }}' onclick=x>", "<p style=a onclick=x>")
	f.Add("{% for a in b %}<style>{{ a }}</style>{% endfor %}", "<style>#</style>")
	f.Fuzz(func(t *testing.T, template, page string) {
		s, m := read(t, template)
		got := m.Match([]byte(page))
		if count(got) > 0 && s.Empty() {
			t.Fatalf("%+v from nothing", got)
		}
		m.Fixed()
	})
}

func BenchmarkMatch(b *testing.B) {
	var template, page strings.Builder
	for i := range 40 {
		fmt.Fprintf(&template, "<p>{{ text }}</p><script>part%d('{{ x }}', {{ y|tojson }})</script>", i)
	}
	for i := range 12 {
		fmt.Fprintf(&page, "%s<script>part%d('value', {\"a\": [1, 2]})</script>", strings.Repeat("<p class=\"row\">some text of a page</p>\n", 140), i)
	}
	s := csp.Read([]csp.File{{Path: "p.html", Data: []byte(template.String())}}, nil)
	m, err := csp.NewMatcher(s)
	if err != nil {
		b.Fatal(err)
	}
	html := []byte(page.String())
	b.SetBytes(int64(len(html)))
	for b.Loop() {
		if got := m.Match(html); len(got.Scripts) != 12 {
			b.Fatalf("%+v", got)
		}
	}
}
