package jinja

import (
	"strings"
	"testing"
)

// TestContexts is the table of what a place in the HTML is called. Each
// template has one output {{ x }}; several ways to it are given in order.
func TestContexts(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{`{{ x }}`, "text"},
		{`<p>{{ x }}</p>`, "text"},
		{`a < b {{ x }}`, "text"},
		{`<title>{{ x }}</title>`, "rcdata <title>"},
		{`<textarea rows=3><p>{{ x }}`, "rcdata <textarea>"},
		{`<title></title>{{ x }}`, "text"},
		{`<title></titles>{{ x }}`, "rcdata <title>"},
		{`<iframe>{{ x }}`, "rawtext <iframe>"},
		{`<plaintext></plaintext>{{ x }}`, "rawtext <plaintext>"},
		{`<!-- {{ x }} -->`, "comment"},
		{`<!-->{{ x }}`, "text"},
		{`<!-- a -- b --!>{{ x }}`, "text"},
		{`<!--{{ y }}->{{ x }}`, "comment"},
		{`<!doctype {{ x }}>`, "markup"},
		{`<?php {{ x }} ?>`, "markup"},
		{`<{{ x }}>`, "tag-name"},
		{`<h{{ x }}>`, "tag-name <h>"},
		{`</{{ x }}>`, "tag-name"},
		{`<p {{ x }}>`, "attr-name <p>"},
		{`<p a="b"{{ x }}>`, "attr-name <p>"},
		{`<p data-{{ x }}=1>`, "attr-name <p> data-"},
		{`<p title="{{ x }}">`, `attr <p> title in "`},
		{`<p title='a {{ x }}'>`, `attr <p> title in ' after a `},
		{`<p title = {{ x }}>`, `attr <p> title unquoted`},
		{`<p title=a{{ x }}>`, `attr <p> title unquoted after a`},
		{`<p title="{{ y }} b {{ x }}">`, `attr <p> title in " dynamic`},
		{`<P TITLE="&lt;&amp;&#65;{{ x }}">`, `attr <p> title in " after <&A`},
		{`<p {{ y }}="{{ x }}">`, `attr <p> * in "`},
		{`<p data-{{ y }}='{{ x }}'>`, `attr <p> data-* in '`},
		{`<{{ y }} title="{{ x }}">`, `attr <*> title in "`},
		{`<p title="a"id="{{ x }}">`, `attr <p> id in "`},
		{`<p =a="{{ x }}">`, `attr <p> =a in "`},
		{`<p a=>{{ x }}`, "text"},

		{`<a href="{{ x }}">`, `url <a> href in " at start`},
		{`<a href={{ x }}>`, `url <a> href unquoted at start`},
		{`<a href=" {{ x }}">`, `url <a> href in " at start after  `},
		{`<a href="{{ y }}{{ x }}">`, `url <a> href in " at start dynamic`},
		{`<a href="/p/{{ x }}">`, `url <a> href in " at path after /p/`},
		{`<a href="/{{ x }}">`, `url <a> href in " at host after /`},
		{`<a href="//{{ x }}">`, `url <a> href in " at host after //`},
		{`<a href="/\{{ x }}">`, `url <a> href in " at host after /\`},
		{`<a href="https://{{ x }}">`, `url <a> href in " at host after https://`},
		{`<a href="https://a.example{{ x }}">`, `url <a> href in " at host after https://a.example`},
		{`<a href="https://a.example/{{ x }}">`, `url <a> href in " at path after https://a.example/`},
		{`<a href="https:{{ x }}">`, `url <a> href in " at host after https:`},
		{`<a href="mailto:{{ x }}">`, `url <a> href in " at path after mailto:`},
		{`<a href="{{ y }}?q={{ x }}">`, `url <a> href in " at query dynamic`},
		{`<a href="/?q={{ x }}">`, `url <a> href in " at query after /?q=`},
		{`<a href="#{{ x }}">`, `url <a> href in " at fragment after #`},
		{`<a href="java{{ x }}">`, `url <a> href in " at start after java`},
		{`<a href="item/{{ x }}">`, `url <a> href in " at path after item/`},
		{`<a href="javascript:f('{{ x }}')">`, `script-url <a> href in " in single after javascript:f(' decoded`},
		{`<a href=" java&#115;cript&colon;{{ x }}">`, `script-url <a> href in " in code after  javascript: decoded`},
		{`<meta http-equiv="refresh" content="0; url={{ x }}">`, `url <meta> content in " at start`},
		{`<meta name="description" content="{{ x }}">`, `attr <meta> content in "`},
		{`<object data="{{ x }}">`, `url <object> data in " at start`},
		{`<iframe srcdoc="{{ x }}">`, `srcdoc <iframe> srcdoc in "`},

		{`<p onclick="{{ x }}">`, `event <p> onclick in " in code decoded`},
		{`<p onclick="f('{{ x }}')">`, `event <p> onclick in " in single after f(' decoded`},
		{`<p onclick='f("{{ x }}")'>`, `event <p> onclick in ' in double after f(" decoded`},
		{`<p onclick="f(&quot;{{ x }}&quot;)">`, `event <p> onclick in " in double after f(" decoded`},
		{`<p on{{ y }}="f(&#39;{{ x }}')">`, `event <p> on* in " in single after f(' decoded`},
		{`<p onclick="f('{{ y }}', {{ x }})">`, `event <p> onclick in " in code after f(' dynamic decoded`},
		{`<p style="color: {{ x }}">`, `style-attr <p> style in " in code after color:  decoded`},
		{`<p style="background: url({{ x }})">`, `style-attr <p> style in " in url after background: url( decoded`},
		{`<p style="background: url('{{ x }}')">`, `style-attr <p> style in " in single after background: url(' decoded`},

		{`<script>{{ x }}</script>`, "script <script> in code"},
		{`<script>var a = {{ x }};</script>`, "script <script> in code"},
		{`<script>var a = "{{ x }}";</script>`, "script <script> in double"},
		{`<script>var a = 'b\'{{ x }}';</script>`, "script <script> in single"},
		{"<script>var a = `b ${c} {{ x }}`;</script>", "script <script> in template"},
		{"<script>var a = `b ${ {c: {{ x }}} }`;</script>", "script <script> in code"},
		{"<script>var a = `b ${ {c: {}} } {{ x }}`;</script>", "script <script> in template"},
		{`<script>var a = /[/"]{{ x }}/;</script>`, "script <script> in regexp"},
		{`<script>var a = b / c; "{{ x }}"</script>`, "script <script> in double"},
		{`<script>return /"/.test("{{ x }}")</script>`, "script <script> in double"},
		{`<script>a = b++ / "{{ x }}"</script>`, "script <script> in double"},
		{`<script>f(a)[0] / 2; '{{ x }}'</script>`, "script <script> in single"},
		{`<script>// it's {{ x }}</script>`, "script <script> in line-comment"},
		{"<script>// it's\n{{ x }}</script>", "script <script> in code"},
		{`<script>/* it's * {{ x }}*/</script>`, "script <script> in comment"},
		{`<script>/* it's **/ {{ x }}</script>`, "script <script> in code"},
		{"<script><!--\nvar a = '{{ x }}' //--></script>", "script <script> in single"},
		{`<script>var a = {{ y }} / 2, b = "{{ x }}"</script>`, "script <script> in double"},
		{`<script>a = /{{ y }}"/; b = "{{ x }}"</script>`, "script <script> in double"},
		{`<script>a = "</script>{{ x }}`, "text"},
		{`<script>a = "</scripts>{{ x }}`, "script <script> in double"},
		{`<script><!-- <script> </script> {{ x }}`, "script <script> in line-comment"},
		{`<script><!-- <script> </script> --></script>{{ x }}`, "text"},
		{`<script><!-- </script>{{ x }}`, "text"},
		{`<script type="module">{{ x }}</script>`, "script <script> in code"},
		{`<script type="{{ y }}">{{ x }}</script>`, "script <script> in code"},
		{`<script type="application/json">{"a": {{ x }}}</script>`, "script-data <script> in code"},
		{`<script type="application/ld+json">{"a": "{{ x }}"}</script>`, "script-data <script> in double"},
		{`<script type="text/x-template"><p a="{{ x }}"></script>`, "script-data <script>"},
		{`<script {{ y }}>{{ x }}</script>`, "script <script> in code"},
		{`<script{{ y }}>{{ x }}</script>`, "script <script> in code"},
		{`<script src="a.js"></script>{{ x }}`, "text"},
		{`<script/>{{ x }}`, "script <script> in code"},
		{`<style>p { color: {{ x }} }</style>`, "style <style> in code"},
		{`<style>p::before { content: "{{ x }}" }</style>`, "style <style> in double"},
		{`<style>p { background: URL( {{ x }}) }</style>`, "style <style> in url"},
		{`<style>p { background: url( "{{ x }}") }</style>`, "style <style> in double"},
		{`<style>/* "{{ x }} */</style>`, "style <style> in comment"},

		{`<svg><style>{{ x }}</style></svg>`, "style <style> in code decoded"},
		{`<svg><script>a = &quot;{{ x }}"</script></svg>`, "script <script> in double decoded"},
		{`<svg><title><b title="{{ x }}">`, `attr <b> title in "`},
		{`<svg><title></title><![CDATA[ <p {{ x }} ]]></svg>`, "text"},
		{`<![CDATA[ <p> {{ x }} ]]>`, "text"},
		{`<![CDATA[ {{ x }} ]]>`, "markup"},
		{`<svg><div><style>{{ x }}`, "style <style> in code"},
		{`<svg><foreignObject><style>{{ x }}`, "style <style> in code"},
		{`<svg><a xlink:href="{{ x }}">`, `url <a> xlink:href in " at start`},
		{`<math><mi><textarea>{{ x }}`, "rcdata <textarea>"},
		{`<svg/><textarea>{{ x }}`, "rcdata <textarea>"},

		{`<p {% if a %}title="{% else %}class='{% endif %}{{ x }}`, `attr <p> class in ' or attr <p> title in "`},
		{`<a href="{% if a %}/p/{% endif %}{{ x }}">`, `url <a> href in " at start or url <a> href in " at path after /p/`},
		{`<p {% if a %}class="b"{% endif %}>{{ x }}`, "text"},
		{`{% if a %}<script>{% endif %}{{ x }}`, "script <script> in code or text"},
		{`<p class="{% for a in b %}{{ a }} {% endfor %}{{ x }}">`, `attr <p> class in " or attr <p> class in " dynamic`},
		{`<p class="{% for a in b %}c {% endfor %}{{ x }}">`, `attr <p> class in " or attr <p> class in " dynamic`},
		{`{% for a in b %}<title>{% if a %}{% break %}{% endif %}</title>{% endfor %}{{ x }}`, "text or rcdata <title>"},
		{`{% macro m(a) %}{{ x }}{% endmacro %}<a href="{{ m(1) }}">`, `url <a> href in " at start`},
		{`{% extends "a" %}<p {% block b %}{{ x }}{% endblock %}`, "text"},
		{`<p {% block b %}{{ x }}{% endblock %}`, "attr-name <p>"},
		{`<p {% set a %}{{ x }}{% endset %}`, "text"},
		{`<p title=  {{- x }}>`, `attr <p> title unquoted`},
		{`<p title="{# " #}{{ x }}">`, `attr <p> title in "`},
		{`<p title="{% raw %}{{ "{% endraw %}{{ x }}>`, "attr-name <p>"},
	} {
		tpl := Parse("t.html", []byte(c.template))
		for _, e := range tpl.Errors {
			t.Errorf("%s: %s", c.template, e.Message)
		}
		flow := Contexts(tpl.Body, Start(tpl.Path))
		found := 0
		Walk(tpl.Body, func(n Node) bool {
			o, ok := n.(*Output)
			if !ok {
				return true
			}
			if name, ok := o.X.(*Name); ok && name.Name == "x" {
				found++
				var all []string
				for _, x := range flow.Outputs[o] {
					all = append(all, x.String())
				}
				if got := strings.Join(all, " or "); got != c.want {
					t.Errorf("%s\n got %s\nwant %s", c.template, got, c.want)
				}
			}
			return true
		})
		if found != 1 {
			t.Errorf("%s: %d outputs of x", c.template, found)
		}
	}
}

func TestStart(t *testing.T) {
	for name, want := range map[string]string{
		"a.html": "text", "a": "text", "a/b.HTM": "text", "a.html.j2": "text", "a.jinja2": "text",
		"a.js": "script in code", "a.js.j2": "script in code", "a.css": "style in code",
		"a.json": "script-data in code", "a.txt": "plain", "a.sql": "plain", "a.xml": "text", "a.svg": "text",
	} {
		if got := Start(name).String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if Start("a.html") != (State{}) {
		t.Error("HTML does not begin in the zero State")
	}
	if got := Start("a.xml").Text(`<title a="`).Output().Text(`"/><style>`).String(); got != "style <style> in code decoded" {
		t.Errorf("in XML: %s", got)
	}
}
