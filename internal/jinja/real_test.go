package jinja

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// askJinja returns, for each template, Jinja's tree in the form of dumper, or
// why Jinja refuses it.
func askJinja(t *testing.T, templates []string) (trees, refused []string) {
	t.Helper()
	python := ""
	var tried []string
	for _, p := range []string{os.Getenv("DEWAR_PYTHON"), "../../.venv/bin/python"} {
		if p == "" {
			continue
		}
		out, err := exec.Command(p, "-c", "import jinja2").CombinedOutput()
		if err == nil {
			python = p
			break
		}
		tried = append(tried, p+": "+err.Error()+" "+string(out))
	}
	if python == "" {
		msg := "SKIPPED, NOTHING WAS COMPARED WITH JINJA: run scripts/venv.sh or set DEWAR_PYTHON\n" + strings.Join(tried, "\n")
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	in, err := json.Marshal(templates)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/jdump.py")
	cmd.Env = append(os.Environ(), "PYTHONUTF8=1")
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []json.RawMessage
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(templates) {
		t.Fatalf("%d answers to %d templates: %v", len(answers), len(templates), err)
	}
	trees, refused = make([]string, len(answers)), make([]string, len(answers))
	for i, a := range answers {
		if json.Unmarshal(a, &trees[i]) == nil {
			continue
		}
		var e struct{ Error string }
		if err := json.Unmarshal(a, &e); err != nil {
			t.Fatal(err)
		}
		refused[i] = e.Error
	}
	return trees, refused
}

// compare holds what Parse says of the templates against Jinja.
func compareWithJinja(t *testing.T, names, templates []string) (accepted int) {
	t.Helper()
	trees, refused := askJinja(t, templates)
	failed := 0
	for i, src := range templates {
		tpl := Parse(names[i], []byte(src))
		unknown := false
		Walk(tpl.Body, func(n Node) bool {
			_, is := n.(*Unknown)
			unknown = unknown || is
			return true
		})
		var why string
		switch {
		case refused[i] != "" && unknown:
			// It may be an extension's tag.
		case refused[i] != "" && len(tpl.Errors) == 0:
			why = "Jinja refuses it: " + refused[i]
		case refused[i] == "" && len(tpl.Errors) > 0:
			why = "Jinja accepts it, but: " + tpl.Errors[0].Message
		case refused[i] == "":
			accepted++
			if got := (dumper{tpl}).body(tpl.Body); got != trees[i] {
				why = "\n got " + got + "\nwant " + trees[i]
			}
		}
		if why != "" {
			if len(src) > 400 {
				src = src[:400] + "…"
			}
			t.Errorf("%s: %q: %s", names[i], src, why)
			if failed++; failed > 20 {
				t.Fatal("and so on")
			}
		}
	}
	t.Logf("%d templates compared, %d of them accepted", len(templates), accepted)
	return accepted
}

// TestJinjaOnTemplates compares the templates of the example apps, of what is
// installed for them, and below DEWAR_CORPUS.
func TestJinjaOnTemplates(t *testing.T) {
	var names, templates []string
	examples := 0
	for _, root := range []string{"../../examples", "../../.venv/lib", os.Getenv("DEWAR_CORPUS")} {
		if root == "" {
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			switch filepath.Ext(path) {
			case ".html", ".htm", ".jinja", ".jinja2", ".j2", ".txt", ".xml":
			default:
				return nil
			}
			if !strings.Contains(path, "templates/") {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			names, templates = append(names, path), append(templates, string(b))
			if root == "../../examples" {
				examples++
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if examples < 20 {
		t.Fatalf("only %d templates in examples", examples)
	}
	if n := compareWithJinja(t, names, templates); n < 20 {
		t.Errorf("only %d of %d templates were accepted", n, len(templates))
	}
}

// syntax is every rule of the grammar at least once, and what breaks it.
var syntax = strings.Split(strings.TrimSpace(`
{{ a }}
a {{ b }} c{{ d }}
{{ a.b.c }}{{ a['b'] }}{{ a.0 }}{{ a.0.1 }}{{ a[1:2] }}{{ a[:] }}{{ a[::2] }}{{ a[1:] }}{{ a[1:2, 3] }}{{ a[] }}
{{ a() }}{{ a(1, b, c=2, *d, **e) }}{{ a(b=1,) }}{{ a(*b) }}{{ a(**b, ) }}
{{ a(b=1, 2) }}
{{ a(**b, *c) }}
{{ a(*b, 1) }}
{{ a b }}
{{ }}
{{ , }}
{{ a, }}{{ a, b }}{{ () }}{{ (a) }}{{ (a,) }}{{ (a, b) }}
{{ [] }}{{ [a] }}{{ [a, b,] }}{{ {} }}{{ {'a': 1} }}{{ {a: b, 1: c,} }}
{{ {'a': {'b': {}}} }}
{{ [,] }}
{{ 1 }}{{ 1.5 }}{{ 1e3 }}{{ 1.5E-3 }}{{ 1_000 }}{{ 0x1F }}{{ 0b11 }}{{ 0o17 }}{{ 0 }}{{ 00 }}{{ 1_0.0_1 }}
{{ 0_0 }}{{ 0x_f }}
{{ 01 }}
{{ 1. }}
{{ 1_ }}
{{ 1abc }}
{{ .5 }}
{{ 'a' "b" 'c' }}{{ "it's" }}{{ 'a\'b' }}{{ "\n\t\\\x41\u00e9\101\q" }}{{ 'a
b' }}
{{ 'a }}
{{ "\x4" }}
{{ true }}{{ True }}{{ false }}{{ none }}{{ None }}
{{ a if b }}{{ a if b else c }}{{ a if b else c if d else e }}{{ a if b if c }}{{ (a if b) if c else d }}
{{ a or b and not c }}{{ not not a }}{{ not a == b }}{{ a or b or c }}
{{ a == b }}{{ a < b <= c != d > e >= f }}{{ a in b }}{{ a not in b }}{{ not a in b }}
{{ a + b - c * d / e // f % g ** h }}{{ a ** b ** c }}{{ -a ** b }}{{ - a + + b }}{{ --a }}{{ (-a)|abs }}{{ -1|abs }}
{{ a ~ b ~ c }}{{ a ~ b + c }}{{ a + b ~ c }}{{ a * b ~ c }}
{{ a|b }}{{ a|b|c(1)|d.e(x=2) }}{{ (a + b)|c }}{{ a + b|c }}{{ a|b(1)(2) }}{{ a|b.c }}
{{ a|b[0] }}
{{ a| }}
{{ a is b }}{{ a is not b }}{{ a is b(1) }}{{ a is b 1 }}{{ a is b c.d }}{{ a is b.c }}{{ a is b and c }}{{ a is b or c }}{{ a is b if c else d }}
{{ a is in [1] }}{{ a is b [1] }}{{ a is b {'x': 1} }}{{ a is not b 'c' }}{{ a is b == c }}
{{ a is b is c }}
{{ a is b -1 }}
{{ a is }}
{{ a.b() .c }}{{ a . b }}{{ a.if }}{{ a.in.not }}
{{ a. }}
{{ a['b }}
{{ a['b' }}
{{ (a }}
{{ a) }}
{{ [a) }}
{{ {a} }}
{{ {a: } }}
{{ a $ b }}
{{ a ! b }}
{{ a ? b : c }}
{{ a = b }}
{{ a; b }}
{{ a
{{ a }
{{ {{ a }} }}
a {% b
{% %}
{% 'a' %}
{% if a %}b{% endif %}
{% if a %}b{% elif c %}d{% elif e %}f{% else %}g{% endif %}
{% if a, b %}{% endif %}{% if (a if b else c) %}{% endif %}
{% if a if b else c %}{% endif %}
{% if %}{% endif %}
{% if a %}{% else %}{% else %}{% endif %}
{% if a %}{% else %}{% elif b %}{% endif %}
{% if a %}
{% endif %}
{% else %}
{% elif a %}
{% if a %}{% endfor %}
{% if a %}{% for b in c %}{% endif %}{% endfor %}
{% if a %}{% endif a %}
{% if a %}{% else b %}{% endif %}
{% for a in b %}{{ a }}{% endfor %}
{% for a, b in c %}{% else %}{{ d }}{% endfor %}
{% for a, in b %}{% endfor %}{% for (a, b) in c %}{% endfor %}{% for a, (b, c) in d.items() %}{% endfor %}
{% for a in b if c %}{% endfor %}{% for a in b if c recursive %}{{ loop(a) }}{% endfor %}{% for a in b recursive %}{% endfor %}
{% for a in b, c %}{% endfor %}{% for a in b, %}{% endfor %}{% for a in (b if c else d) %}{% endfor %}
{% for a in b if c if d else e %}{% endfor %}
{% for a in b recursive if c %}{% endfor %}
{% for a.b in c %}{% endfor %}
{% for 1 in a %}{% endfor %}
{% for a() in b %}{% endfor %}
{% for in a %}{% endfor %}
{% for a %}{% endfor %}
{% for a in %}{% endfor %}
{% for a in b %}{% break %}{% continue %}{% endfor %}
{% for a in b %}{% break a %}{% endfor %}
{% for none in a %}{% endfor %}
{% block a %}b{% endblock %}{% block c %}d{% endblock c %}{% block e scoped %}{% endblock %}{% block f required %} {# g #}{% endblock %}{% block h scoped required %}{% endblock h %}
{% block a %}{% block b %}{% endblock %}{% endblock %}
{% block a %}{% endblock %}{% block a %}{% endblock %}
{% block a %}{% endblock b %}
{% block a-b %}{% endblock %}
{% block %}{% endblock %}
{% block 'a' %}{% endblock %}
{% block a required %}b{% endblock %}
{% block a required %}{{ b }}{% endblock %}
{% block a required scoped %}{% endblock %}
{% extends "a" %}{% extends a if b else "c" %}
{% extends %}
{% extends "a" b %}
{% include "a" %}{% include ["a", b] %}{% include "a" ignore missing %}{% include "a" with context %}{% include "a" ignore missing without context %}{% include a without context %}
{% include "a" ignore %}
{% include "a" without context ignore missing %}
{% import "a" as b %}{% import a as b with context %}{% import "a" as b without context %}
{% import "a" %}
{% import "a" as b.c %}
{% from "a" import b %}{% from "a" import b, c as d %}{% from a import b with context %}{% from a import b as c, d without context %}{% from a import with, context %}
{% from "a" import b, %}
{% from "a" import b, with context %}
{% from "a" import %}
{% from "a" import _b %}
{% from "a" import b c %}
{% macro a() %}b{% endmacro %}{% macro a(b, c=1, d=c) %}{{ b }}{% endmacro %}{% macro a() %}{% endmacro a %}
{% macro a(b,) %}{% endmacro %}
{% macro a(b=1, c) %}{% endmacro %}
{% macro a %}{% endmacro %}
{% macro a.b() %}{% endmacro %}
{% macro a(*b) %}{% endmacro %}
{% call a() %}b{% endcall %}{% call(b, c=1) d.e(f) %}{{ b }}{% endcall %}{% call() a() %}{% endcall %}
{% call a %}{% endcall %}
{% call a()|b %}{% endcall %}
{% filter a %}b{% endfilter %}{% filter a|b(1)|c %}{% endfilter %}{% filter a.b %}{% endfilter %}
{% filter %}{% endfilter %}
{% set a = 1 %}{% set a, b = c %}{% set a = b, c %}{% set a.b = 1 %}{% set a = b if c else d %}{% set (a, b) = c %}{% set a, b.c = d %}
{% set a %}b{% endset %}{% set a | b | c(1) %}d{% endset %}{% set a.b %}{% endset %}
{% set a.b.c = 1 %}
{% set a[0] = 1 %}
{% set 1 = a %}
{% set a == b %}
{% set %}{% endset %}
{% set a %}
{% set true = 1 %}
{% with %}a{% endwith %}{% with a = 1 %}{% endwith %}{% with a = 1, b = a %}{{ b }}{% endwith %}{% with a, b = c %}{% endwith %}
{% with a %}{% endwith %}
{% with a = 1 b = 2 %}{% endwith %}
{% autoescape true %}{{ a }}{% endautoescape %}{% autoescape a.b %}{% endautoescape %}
{% autoescape %}{% endautoescape %}
{% trans %}a{% endtrans %}{% trans %}a {{ b }} 100%{% endtrans %}{% trans a=b, c %}{{ a }}{{ c }}{{ d }}{% endtrans %}
{% trans count=a|length %}one{% pluralize %}{{ count }} many{% endtrans %}{% trans a, b=c %}x{% pluralize b %}y{% endtrans %}{% trans %}{{ a }}{% pluralize %}b{% endtrans %}
{% trans "menu" %}a{% endtrans %}{% trans trimmed %} a
   b {% endtrans %}{% trans notrimmed %} a {% endtrans %}{% trans trimmed a=b() %} {{ a }} {% endtrans %}
{% trans a=b() %}{{ a }}{% endtrans %}{% trans a: %}{{ a }}{% endtrans %}
{% trans %}a{% pluralize %}b{% endtrans %}
{% trans a %}{% pluralize b %}{% endtrans %}
{% trans a, a %}{% endtrans %}
{% trans a b %}{% endtrans %}
{% trans %}{{ a.b }}{% endtrans %}
{% trans %}{% if a %}{% endif %}{% endtrans %}
{% trans %}{% trans %}{% endtrans %}{% endtrans %}
{% trans %}{# a #}b{% endtrans %}
{% trans %}
{% do a.b(c) %}{% do a, b %}
{% do %}
{% debug %}
{% print a %}{% print a, b %}
{% print a b %}
{% raw %}{{ a }}{% b %}{# c #}{% endraw %}{% raw %}{% endraw %}{%- raw -%} a {%- endraw -%} b
{% raw %}a
{% raw a %}b{% endraw %}
{% endraw %}
{% raw +%}a{% endraw %}
{% raw %} a {%+ endraw +%} b
{# a #}b{#- c -#} d{#+ e +#}{#-#}{##}{# {{ a }} {% b #}
{# a
{#}
a {{- b -}} c {%- if d -%} e {%- endif -%} f {{+ g }}
a {%+ if b +%} c {%+ endif %}
{{ a +}}
{{-a-}}{{ a - }}
{{ a -}}
  b
a
{%- set a = '
' -%}

b
a

{{ b }}{{ c
}}{{
d.e
.f }}{% if
a %}{{ b }}{% endif %}
a { b } c {d} %} }} #} { {a} }
{{ é }}{{ ünïcödé.ñ }}
{{ a b }}
{{ a{# b #} }}
{{ a and }}
{{ and }}
{{ not }}
{{ a in }}
{{ a not b }}
{{ if }}{{ else.x }}{{ for }}{{ is is is }}
{{ is is }}
{{ a.b|c is d and e|f(g, h=i)|j or k[l].m() ~ n if o is not p else q }}
{% unknown %}
{% endunknown %}
{% if a %}{% unknown %}{% endif %}
{% csrf_token %}
{% cache 300, 'a' %}{{ b }}{% endcache %}
{% set a = namespace(b=1) %}{% set a.b = 2 %}{{ a.b }}
{{ ''.__class__ }}{{ a|attr('b') }}{{ self.c() }}{{ super() }}{{ caller(1) }}{{ varargs }}
{{ a[b if c else d:e] }}{{ a[b, c] }}{{ a[b,] }}
{{ a[b:c:d:e] }}
{{ "a" ~ 'b' "c" }}{{ 'a' 'b'.c }}
{{ a**-1 }}{{ 2**3|d }}{{ a//b//c }}
{{ a|b is c }}{{ a is b|c }}{{ a is b(1)|c }}
{{ {'a': 1}.a }}{{ [1][0] }}{{ (1, 2)[0] }}{{ 'a'.b }}{{ 1.b }}
{{ a }}}
{{{ a }}}
{{ {'a': 1}}}
{%if a%}{%endif%}{%-if a-%}{%-endif-%}
{% IF a %}{% ENDIF %}
`), "\n")

// syntaxCases joins lines that belong together: one that does not begin a
// case follows the one before.
func syntaxCases() []string {
	var cases []string
	open := regexp.MustCompile(`^(\{|a )`)
	for _, l := range syntax {
		if len(cases) > 0 && !open.MatchString(l) {
			cases[len(cases)-1] += "\n" + l
		} else {
			cases = append(cases, l)
		}
	}
	return cases
}

func TestJinjaOnSyntax(t *testing.T) {
	cases := syntaxCases()
	names := make([]string, len(cases))
	// Also with what follows, and with other line breaks.
	for _, c := range cases[:len(names)] {
		cases = append(cases, c+"\n", strings.ReplaceAll(c, "\n", "\r\n")+"\r\n\r\n")
		names = append(names, "line feed", "carriage return")
	}
	if n := compareWithJinja(t, names, cases); n < 100 {
		t.Errorf("only %d were accepted", n)
	}
}

// TestJinjaOnMutants compares what becomes of the syntax when tokens are taken
// out, doubled, moved and mixed: whether it is refused, and the tree if not.
func TestJinjaOnMutants(t *testing.T) {
	cases := syntaxCases()
	cut := regexp.MustCompile(`\{\{[-+]?|[-+]?\}\}|\{%[-+]?|[-+]?%\}|\{#|#\}|\w+|\s+|"[^"]*"|'[^']*'|.`)
	r := rand.New(rand.NewPCG(7, 7))
	tokens := make([][]string, len(cases))
	for i, c := range cases {
		tokens[i] = cut.FindAllString(c, -1)
	}
	var names, mutants []string
	for range 12000 {
		m := append([]string(nil), tokens[r.IntN(len(tokens))]...)
		for range 1 + r.IntN(3) {
			other := tokens[r.IntN(len(tokens))]
			i := r.IntN(len(m) + 1)
			switch k := r.IntN(4); {
			case k == 0 && i < len(m):
				m = append(m[:i:i], m[i+1:]...)
			case k == 1 && i < len(m):
				m[i] = other[r.IntN(len(other))]
			default:
				m = append(m[:i:i], append([]string{other[r.IntN(len(other))]}, m[i:]...)...)
			}
		}
		names, mutants = append(names, "mutant"), append(mutants, strings.Join(m, ""))
	}
	if n := compareWithJinja(t, names, mutants); n < 2000 {
		t.Errorf("only %d of %d were accepted", n, len(mutants))
	}
}
