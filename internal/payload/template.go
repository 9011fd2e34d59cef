package payload

import "strings"

// The judge of templates looks at what stands between the marks of a template
// engine. A name or a dotted path is what honest placeholders hold; it
// asks for what computes or reaches further: arithmetic on numbers, calls,
// underscored attributes, the objects that engines give away, statements.

var templateMarks = []struct {
	open, close string
	// statements says that names with arguments stand between the marks.
	statements bool
}{
	{"{{", "}}", false},
	{"{%", "%}", true},
	{"${", "}", false},
	{"#{", "}", false},
	{"*{", "}", false},
	{"@{", "}", false},
	{"~{", "}", false},
	{"<%", "%>", false},
	{"@(", ")", false},
	{"[[", "]]", false},
}

func judgeTemplate(text string, place Place, _ []string) string {
	for _, m := range templateMarks {
		from := 0
		for range 8 {
			i := strings.Index(text[from:], m.open)
			if i < 0 {
				break
			}
			i += from + len(m.open)
			from = i
			end := strings.Index(text[i:], m.close)
			inner := ""
			if end < 0 {
				if m.open == "@(" || m.open == "[[" || m.open == "@{" {
					continue
				}
				inner = text[i:]
			} else {
				inner = text[i : i+end]
			}
			if shape := templateExpression(inner, m.open, m.statements); shape != "" {
				return shape
			}
		}
	}
	l := text
	if i := strings.Index(l, "<#"); i >= 0 && (strings.HasPrefix(l[i:], "<#assign") || strings.HasPrefix(l[i:], "<#list") || strings.HasPrefix(l[i:], "<#include") || strings.HasPrefix(l[i:], "<#if")) {
		return "directive"
	}
	if i := strings.Index(l, "#set("); i >= 0 || strings.Contains(l, "#set ($") || strings.Contains(l, "#foreach(") || strings.Contains(l, "$class.") {
		return "directive"
	}
	return ""
}

func templateExpression(s, open string, statements bool) string {
	t := strings.TrimSpace(strings.Trim(s, "{}-=+~"))
	if t == "" || len(t) > 2000 {
		return ""
	}
	l := strings.ToLower(t)
	if strings.HasPrefix(l, "jndi:") || strings.Contains(l, "${") && (strings.Contains(l, "lower:") || strings.Contains(l, "upper:") || strings.Contains(l, "::-")) || strings.HasPrefix(l, "env:") || strings.HasPrefix(l, "sys:") || strings.HasPrefix(l, "script:") || strings.HasPrefix(l, "dns:") || strings.HasPrefix(l, "::-") {
		return "lookup"
	}
	tokens := jsScan(t)
	if statements {
		switch tokens[0].text {
		case "import", "include", "extends", "from", "set", "for", "if", "with", "macro", "call", "filter", "block", "debug", "dump", "load", "raw":
			if tokens[0].text == "debug" || len(tokens) > 3 && (strings.ContainsAny(t, "(='\"") || tokens[0].text == "for" || tokens[0].text == "set" || tokens[0].text == "load") {
				return "statement"
			}
		}
	}
	for i, x := range tokens {
		n := jsToken{}
		if i+1 < len(tokens) {
			n = tokens[i+1]
		}
		switch {
		case strings.HasPrefix(x.text, "__") && strings.HasSuffix(x.text, "__") && len(x.text) > 4,
			(x.kind == jsString || x.kind == jsOpen) && strings.Contains(x.text, "__"):
			return "underscored attribute"
		case x.kind == jsNumber && n.kind == jsPunct && strings.Contains("*+-/%", n.text) && i+2 < len(tokens):
			y := tokens[i+2]
			if (y.text == n.text || y.kind == jsPunct && y.text == "*") && i+3 < len(tokens) {
				y = tokens[i+3]
			}
			if (y.kind == jsNumber || y.kind == jsString) && (n.text == "*" || n.text == "+" && i == 0 || n.text == "-" && i == 0 && open != "[[" || n.text == "/" && i == 0 && open == "{{") {
				return "arithmetic"
			}
		case (x.kind == jsString) && n.text == "*":
			return "arithmetic"
		case x.kind == jsName && n.kind == jsPunct && n.text == "(" && (open == "{{" || open == "${" || open == "#{" || open == "*{" || open == "<%" || open == "@("):
			if open == "{{" && i > 0 && tokens[i-1].text == "|" && !templateObjects[tokens[0].text] && tokens[0].kind == jsName {
				continue // a filter with arguments on a placeholder
			}
			if open == "@(" && i == 0 && len(tokens) < 8 {
				continue
			}
			return "call"
		case x.kind == jsName && templateObjects[x.text] && (n.text == "." || n.text == "[" || n.text == "|" || n.kind == jsEnd && i == 0 && open == "{{"):
			return "engine object"
		case x.kind == jsName && n.kind == jsPunct && n.text == "?" && i+2 < len(tokens) && tokens[i+2].text == "new":
			return "call"
		case x.kind == jsKeyword && x.text == "new" && n.kind == jsName && strings.Contains(t, "("):
			return "call"
		}
	}
	if strings.HasPrefix(open, "<%") && len(tokens) > 2 && (strings.ContainsAny(t, "(=;") || strings.HasPrefix(t, "=")) {
		return "call"
	}
	if open == "{{" && (strings.HasPrefix(t, "''") || strings.HasPrefix(t, `""`) || strings.HasPrefix(t, "()") || strings.HasPrefix(t, "[]") || strings.HasPrefix(t, "{}")) && len(t) > 2 && t[2] == '.' {
		return "underscored attribute"
	}
	return ""
}

// templateObjects are the objects that Flask, Jinja, Twig, Velocity, Spring
// and others put within a template's reach.
var templateObjects = set("config", "request", "self", "cycler", "joiner", "lipsum", "namespace", "url_for", "get_flashed_messages", "session", "g", "_self", "_context", "app", "settings", "class", "T", "application", "environ", "globals", "Runtime", "runtime", "constructor", "process", "global")
