package headers

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-HEADERS-001", Control: "headers",
		Title:    "Inline script stands in the way of a Content-Security-Policy",
		Why:      "A policy that stops injected scripts has to forbid inline ones; a page that has its own cannot be protected that way.",
		Fix:      "Move the script into a file below static/ and event handlers into addEventListener; or give the tag a nonce.",
		Severity: audit.Low, Confidence: audit.Certain, CWE: []int{1021, 79}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.4.3"},
		File: "templates/page.html",
		Bad:  "<p>hi</p><script>start()</script>\n",
		Good: "<p>hi</p><script src=\"{{ url_for('static', filename='start.js') }}\"></script>\n",
		Check: func(p *audit.Pass) {
			given := givenNonces(p)
			eachTemplate(p, func(f *audit.File) {
				for _, t := range tags(f.Data) {
					var what []string
					if t.name == "script" && !slices.Contains(given, string(f.Data[t.start:t.end])) && t.attr["src"] == "" && !t.nonce() && t.body && isJavaScript(t.attr["type"]) {
						what = append(what, "inline script")
					}
					for _, k := range slices.Sorted(maps.Keys(t.attr)) {
						if strings.HasPrefix(k, "on") && len(k) > 3 && t.attr[k] != "" {
							what = append(what, "event handler "+k)
						}
					}
					if what != nil {
						p.Report(audit.Finding{
							Span: f.SpanAt(t.start, t.end), Message: strings.Join(what, ", "),
							// No page is protected before all of them are.
							Cause: "inline scripts and event handlers stand in the way of a Content-Security-Policy",
						})
					}
				}
			})
		},
	},
	{
		ID: "DW-HEADERS-002", Control: "headers",
		Title:    "A script from another site is loaded without an integrity check",
		Why:      "Whoever changes that file there, by a break-in or a lapsed domain, runs code in every visitor's session here.",
		Fix:      "Serve a copy from static/, or add integrity=\"sha384-…\" and crossorigin=\"anonymous\".",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{353, 829}, OWASP: []string{"A08:2025"}, ASVS: []string{"3.6.1"},
		File: "templates/page.html",
		Bad:  "<script src=\"https://cdn.example.com/jquery.js\"></script>\n",
		Good: "<script src=\"https://cdn.example.com/jquery.js\" integrity=\"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K\" crossorigin=\"anonymous\"></script>\n",
		Check: func(p *audit.Pass) {
			eachTemplate(p, func(f *audit.File) {
				for _, t := range tags(f.Data) {
					src := strings.ToLower(strings.TrimSpace(t.attr["src"]))
					if t.name == "script" && t.attr["integrity"] == "" && (strings.HasPrefix(src, "https://") || strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "//")) {
						p.Report(audit.Finding{Span: f.SpanAt(t.start, t.end)})
					}
				}
			})
		},
	},
	{
		ID: "DW-HEADERS-003", Control: "headers",
		Title:    "A security header is set to a value that protects nothing",
		Why:      "The header is there, so nobody looks again, but browsers take it as permission.",
		Fix:      "Leave the header out and let the guard set it, or use a value that forbids.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{693, 1021}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.4.1", "3.4.3", "3.4.6"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\n@app.after_request\ndef add(response):\n    response.headers[\"X-Frame-Options\"] = \"ALLOWALL\"\n    return response\n",
		Good: "from flask import Flask\napp = Flask(__name__)\n@app.after_request\ndef add(response):\n    response.headers[\"X-Frame-Options\"] = \"DENY\"\n    return response\n",
		Check: func(p *audit.Pass) {
			for f := range p.Python() {
				for _, h := range headerAssignments(f) {
					if why := weak(h.name, h.value); why != "" {
						p.Report(audit.Finding{Span: f.NodeSpan(h.node), Message: fmt.Sprintf("%s: %s", h.name, why)})
					}
				}
			}
		},
	},
	{
		ID: "DW-HEADERS-004", Control: "headers",
		Title:    "Flask-Talisman is told not to protect",
		Why:      "The extension is there, so the app looks protected, but this part of it is switched off.",
		Fix:      "Leave the argument out: Talisman's defaults protect.",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{693}, OWASP: []string{"A02:2025"}, ASVS: []string{"3.4.3"},
		MitigatedBy: []string{"headers"},
		Bad:         "from flask import Flask\nfrom flask_talisman import Talisman\napp = Flask(__name__)\nTalisman(app, content_security_policy=None)\n",
		Good:        "from flask import Flask\nfrom flask_talisman import Talisman\napp = Flask(__name__)\nTalisman(app)\n",
		Check: func(p *audit.Pass) {
			uses := p.Flask.Extension("Talisman")
			for _, e := range uses {
				for _, name := range []string{"content_security_policy", "strict_transport_security", "frame_options", "x_content_type_options", "session_cookie_secure"} {
					if name == "session_cookie_secure" && p.Flask.Effective("SESSION_COOKIE_SECURE", "production").Value.IsTrue() {
						continue // the app's own setting does it
					}
					if v, ok := e.Args[name]; ok && v.IsFalse() {
						p.Report(audit.Finding{Span: p.Span(e.Position), Message: name + " is switched off"})
					}
				}
			}
			if len(uses) == 0 {
				p.NotApplicable("the app does not use Flask-Talisman")
			}
		},
	},
}

// givenNonces returns the start tags that the project's own code gives a nonce
// before a template is read or an answer is sent:
//
//	source.replace("<script>", '<script nonce="{{ nonce() }}">')
func givenNonces(p *audit.Pass) []string {
	var out []string
	for f := range p.Python() {
		if !bytes.Contains(f.Data, []byte("nonce=")) || !bytes.Contains(f.Data, []byte("<script")) {
			continue
		}
		py := f.Python
		for i := range py.Nodes {
			fn, args, _ := py.Call(pysyntax.ID(i))
			if fn == 0 || len(args) < 2 {
				continue
			}
			if _, method := py.Attribute(fn); method != "replace" {
				continue
			}
			tag := p.Flask.Value(f.Path, args[0])
			if strings.HasPrefix(tag.Text, "<script") && bytes.Contains(py.Text(args[1]), []byte("nonce=")) {
				out = append(out, tag.Text)
			}
		}
	}
	return out
}

// weak says why a header's value protects nothing; "" if it may.
func weak(name string, value flask.Value) string {
	if !value.Known || value.Kind != flask.String {
		return ""
	}
	v := strings.ToLower(strings.Join(strings.Fields(value.Text), " "))
	switch strings.ToLower(name) {
	case "x-frame-options":
		if v != "deny" && v != "sameorigin" {
			return fmt.Sprintf("%q is no value that browsers know, so every site may frame this one", value.Text)
		}
	case "x-content-type-options":
		if v != "nosniff" {
			return fmt.Sprintf("%q is not nosniff", value.Text)
		}
	case "strict-transport-security":
		if strings.Contains(strings.ReplaceAll(v, " ", ""), "max-age=0") {
			return "max-age=0 makes browsers forget that the site needs HTTPS"
		}
	case "referrer-policy":
		if strings.Contains(v, "unsafe-url") {
			return "unsafe-url sends whole addresses, with their query strings, to every other site"
		}
	case "content-security-policy":
		for directive := range strings.SplitSeq(v, ";") {
			words := strings.Fields(directive)
			if len(words) == 0 || words[0] != "script-src" && words[0] != "default-src" {
				continue
			}
			pinned := strings.Contains(directive, "'nonce-") || strings.Contains(directive, "'sha") || strings.Contains(directive, "'strict-dynamic'")
			for _, w := range words[1:] {
				if w == "*" || w == "https:" || w == "http:" || w == "data:" || w == "'unsafe-inline'" {
					if !pinned {
						return words[0] + " allows " + w + ", and with it injected scripts"
					}
				}
			}
		}
	}
	return ""
}

func eachTemplate(p *audit.Pass, look func(*audit.File)) {
	n := 0
	for f := range p.Files(audit.Template) {
		n++
		look(f)
	}
	if n == 0 {
		p.NotApplicable("the project has no templates")
	}
}

func isJavaScript(kind string) bool {
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "" || kind == "module" || strings.Contains(kind, "javascript") || strings.Contains(kind, "ecmascript")
}

// tag is one start tag of a template.
type tag struct {
	name       string
	attr       map[string]string
	start, end int
	body       bool // followed by text that is not blank
}

// nonce reports whether the tag has a nonce, or a Jinja expression in its place
// that writes one.
func (t *tag) nonce() bool {
	for k := range t.attr {
		if strings.Contains(k, "nonce") {
			return true
		}
	}
	return false
}

// tags returns a template's start tags. What Jinja writes inside an attribute
// is kept as text: its being there is what matters, not what it becomes.
func tags(src []byte) []tag {
	var out []tag
	z := html.NewTokenizer(bytes.NewReader(src))
	offset := 0
	for {
		kind := z.Next()
		start := offset
		offset += len(z.Raw())
		switch kind {
		case html.ErrorToken:
			return out
		case html.TextToken:
			if n := len(out); n > 0 && out[n-1].end == start && len(bytes.TrimSpace(z.Raw())) > 0 {
				out[n-1].body = true
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			t := tag{name: string(name), attr: map[string]string{}, start: start, end: offset}
			for more {
				var k, v []byte
				k, v, more = z.TagAttr()
				t.attr[string(k)] = string(v)
			}
			out = append(out, t)
		}
	}
}
