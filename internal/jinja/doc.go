// Package jinja reads Jinja2 templates and says where in the HTML each of
// their outputs lands.
//
// [Parse] gives the whole tree of a template, statements and expressions, with
// the byte range of every node. It never fails: what cannot be read becomes an
// [Error] and a [Bad] expression or an [Unknown] tag, and the rest of the
// template is read as if nothing had been. The syntax is that of Jinja 3.1
// with its extensions i18n, do, loopcontrols and debug; the tags of other
// extensions are kept with those of their arguments that are expressions. The
// delimiters are the usual ones and line statements are off, as in Flask.
//
// # Contexts
//
// Whether escaping makes a value harmless depends on where it comes out:
//
//	<p>{{ x }}</p>                        text
//	<p title="{{ x }}">                   attr, quoted
//	<p title={{ x }}>                     attr, unquoted: escaping does not hold
//	<a href="{{ x }}">                    url at its start: javascript:
//	<a href="/item?id={{ x }}">           url in its query
//	<p onclick="f('{{ x }}')">            event: escaping is undone before JS reads
//	<script>var a = "{{ x }}"</script>    script in a string
//
// A [State] is where in the HTML one stands: everything an HTML tokenizer
// knows after the text before. It is a comparable value, so it can be a key of
// a map, and it steps forward over text and outputs:
//
//	s := jinja.Start("page.html")
//	s = s.Text(`<a href="/item?id=`)
//	s.Contexts()           // url, in its query, after the prefix "/item?id="
//	s = s.Output()
//
// Where ways through a template meet, [Join] holds all the states there, so
// an output has as many contexts as there are ways to it:
//
//	<a {% if old %}title={% else %}title="{% endif %}{{ x }}
//
// The state before an included template, a child's block or a macro's body is
// the one at the place that includes, calls or overrides it. Whoever runs a
// template therefore carries a State along; [Contexts] does it for the nodes
// of one template.
//
// The tokenizer is that of the HTML standard with what a tree builder tells it
// in SVG and MathML; which HTML elements are open is not followed, so an end
// tag that closes an element around an unclosed <svg> does not end the SVG.
//
// An output is taken as a run of letters: it does not close the string, the
// tag or the attribute it stands in. What it could do is what the context
// tells.
//
// # Bounds
//
// Expressions and statements nest at most 200 deep and no expression's tree is
// deeper than 400, so recursion over a tree is safe. A State holds at most
// 16 alternatives and of an attribute's value the first 256 bytes. Reading
// takes time linear in the size of the source.
package jinja
