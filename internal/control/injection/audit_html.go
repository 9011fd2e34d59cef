package injection

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/jinja"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// runsScripts are the elements whose URLs a browser runs when they begin with
// "javascript:".
var runsScripts = []string{"a", "area", "form", "button", "input", "iframe", "frame", "embed", "object", "base", "use", "animate", "set", "*"}

// htmlExit says what a piece can do at a place in a page; empty if nothing.
// escaped is set when & < > " ' in it were replaced.
func htmlExit(c jinja.Context, p pyflow.Piece, escaped bool) string {
	// plain is about what the browser's HTML parser gets, code about what a
	// script or style sheet gets behind it.
	plain := func(chars string) bool {
		return strings.ContainsFunc(chars, func(r rune) bool {
			return audit.CanHold(p, string(r)) && (!escaped || !strings.ContainsRune(`<>"'`, r))
		})
	}
	code := plain
	if c.Decoded {
		code = func(chars string) bool { return audit.CanHoldAny(p, chars) }
	}
	harmlessWord := audit.Only(p, audit.Digits) || audit.Only(p, audit.Word)
	switch {
	case harmlessWord:
		return ""
	case c.Unquoted():
		if plain(" \t\n>") {
			return "stands in the attribute " + c.Attr + " without quotes, which a space ends"
		}
	case c.Quote != 0 && plain(string(c.Quote)):
		return "stands in the attribute " + c.Attr + " and can close its quotes"
	}
	switch c.Kind {
	case jinja.KindText:
		if plain("<") {
			return "stands in the page's text and can hold tags"
		}
	case jinja.KindRCDATA, jinja.KindRawText:
		if plain("<") {
			return "stands in <" + c.Tag + "> and can close it"
		}
	case jinja.KindComment:
		if plain(">") {
			return "stands in a comment and can close it"
		}
	case jinja.KindMarkup, jinja.KindTagName, jinja.KindAttrName:
		return "stands inside of a tag"
	case jinja.KindURL:
		lists := p.Harmless.For("url") || p.Harmless.For("redirect")
		switch {
		case lists:
		case c.Tag == "script" && c.Attr == "src" && (c.URL == jinja.URLStart || c.URL == jinja.URLHost):
			return "chooses where a script is loaded from"
		case c.URL == jinja.URLStart && slices.Contains(runsScripts, c.Tag) && audit.CanHold(p, "javascript:"):
			return "begins the URL in " + c.Attr + ", so it can be javascript:…"
		}
	case jinja.KindSrcdoc:
		if audit.CanHold(p, "<") {
			return "stands in srcdoc, which is a page of its own"
		}
	case jinja.KindStyle:
		if plain("<") {
			return "stands in <style> and can close it"
		}
	case jinja.KindScriptData:
		if plain("<") {
			return "stands in <script> and can close it"
		}
	case jinja.KindEvent, jinja.KindScriptURL, jinja.KindScript:
		// A script in a file of its own has no tags around it.
		if c.Kind == jinja.KindScript && c.Tag != "" && plain("<") && !c.Decoded {
			return "stands in <script> and can close it"
		}
		switch c.Lexeme {
		case jinja.LexDouble:
			if code(`"`) {
				return `stands between " quotes of a script and can close them`
			}
		case jinja.LexSingle:
			if code(`'`) {
				return "stands between ' quotes of a script and can close them"
			}
		case jinja.LexTemplate:
			if code("`") || audit.CanHold(p, "${") {
				return "stands in a template literal, where ${…} is run"
			}
		case jinja.LexRegexp:
			if code("/") {
				return "stands in a regular expression of a script and can close it"
			}
		case jinja.LexLine:
			if code("\r\n") {
				return "stands in a comment of a script, which a line end closes"
			}
		case jinja.LexComment:
			if audit.CanHold(p, "*/") {
				return "stands in a comment of a script, which */ closes"
			}
		default:
			if json(p) {
				return ""
			}
			return "stands in the code of a script"
		}
	}
	return ""
}

// json reports whether a piece is JSON made safe for a page, a value in
// JavaScript: the filter tojson leaves none of < > & ' in it.
func json(p pyflow.Piece) bool {
	if p.Harmless.For("script") {
		return true
	}
	return !audit.CanHoldAny(p, "<>&'") && audit.CanHold(p, `"`)
}

// pageExit walks a page that was put together in Python and finds a labelled
// piece that can become a script. from is where the text begins.
func pageExit(pieces []pyflow.Piece, ok accept, from jinja.State) (exit, bool) {
	s := from
	for i, p := range pieces {
		if !p.Unknown {
			s = s.Text(p.Literal)
			continue
		}
		if labels := audit.Live(p, ok); len(labels) > 0 {
			escaped := len(audit.Live(p, ok, "html", "response", "template")) == 0
			l := labels[0]
			if l.Kind == "url" {
				// Werkzeug gives URLs with < > " percent-encoded.
				escaped = true
			}
			p := withURL(p, ok)
			for _, c := range s.Contexts() {
				if why := htmlExit(c, p, escaped); why != "" {
					return exit{Label: l, Piece: i, Why: why, Spot: spotIn(s.Contexts())}, true
				}
			}
		}
		s = s.Output()
	}
	return exit{}, false
}

// spotIn names the places in a page for a judge of values.
func spotIn(at []jinja.Context) string {
	var spots []string
	for _, c := range at {
		spot := ""
		switch {
		case c.Unquoted():
			spot = "unquoted"
		case c.Kind == jinja.KindText:
			spot = "text"
		case c.Kind == jinja.KindScript || c.Kind == jinja.KindEvent || c.Kind == jinja.KindScriptURL:
			switch c.Lexeme {
			case jinja.LexDouble, jinja.LexSingle, jinja.LexTemplate, jinja.LexRegexp, jinja.LexLine, jinja.LexComment:
			default:
				spot = "code"
			}
		}
		if spot == "" {
			return ""
		}
		if !slices.Contains(spots, spot) {
			spots = append(spots, spot)
		}
	}
	return strings.Join(spots, "|")
}

// withURL marks a piece as a harmless URL when all of its labels are.
func withURL(p pyflow.Piece, ok accept) pyflow.Piece {
	if len(audit.Live(p, ok, "url", "redirect")) == 0 {
		p.Harmless = append(slices.Clone(p.Harmless), "url")
	}
	return p
}

// outputExit finds a labelled piece in what a template puts out that can
// become a script there.
func outputExit(o *pyflow.Output, t audit.FlowText, ok accept) (exit, bool) {
	c := o.Place
	escaped := o.Escaped && !t.Safe
	if !escaped && c.Kind == jinja.KindText && len(t.Pieces) > 1 {
		return pageExit(t.Pieces, ok, jinja.State{})
	}
	for i, p := range t.Pieces {
		labels := audit.Live(p, ok)
		if len(labels) == 0 {
			continue
		}
		l := labels[0]
		at := c
		if at.URL == jinja.URLStart && (i > 0 || l.Kind == "url" || l.Note == "request path") {
			at.URL = jinja.URLPath
		}
		clean := escaped || l.Kind == "url" || len(audit.Live(p, ok, "html", "response", "template")) == 0
		if why := htmlExit(at, withURL(p, ok), clean); why != "" {
			return exit{Label: l, Piece: i, Why: why, Spot: spotIn([]jinja.Context{at})}, true
		}
	}
	return exit{}, false
}

// pages are the media types that browsers run scripts in.
var pages = []string{"text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml"}

// isPage reports whether a media type is one that scripts run in; known is
// false when it cannot be told.
func isPage(v pyflow.Value) (page, known bool) {
	known = true
	v.Each(func(v pyflow.Value) {
		switch s, constant := v.Const(); {
		case v.Kind == pyflow.None:
			page = true // the default
		case constant:
			s, _, _ = strings.Cut(s, ";")
			page = page || slices.Contains(pages, strings.ToLower(strings.TrimSpace(s)))
		default:
			prefix, _, semi := strings.Cut(v.Prefix(), ";")
			if semi {
				page = page || slices.Contains(pages, strings.ToLower(strings.TrimSpace(prefix)))
			} else {
				known = false
			}
		}
	})
	return page, known
}

// contentType finds the type among headers, given as a dictionary or a list
// of pairs.
func contentType(headers pyflow.Value) (pyflow.Value, bool) {
	var out pyflow.Value
	found := false
	headers.Each(func(h pyflow.Value) {
		for i, k := range h.Keys {
			if strings.EqualFold(k, "Content-Type") && i < len(h.Items) {
				out, found = h.Items[i], true
			}
		}
		if len(h.Keys) > 0 {
			return
		}
		for _, pair := range h.Items {
			if len(pair.Items) == 2 {
				if k, ok := pair.Items[0].Const(); ok && strings.EqualFold(k, "Content-Type") {
					out, found = pair.Items[1], true
				}
			}
		}
	})
	return out, found
}

// bodies returns the texts that a view's value sends as a page.
func bodies(v pyflow.Value) []audit.FlowText {
	var out []audit.FlowText
	v.Each(func(v pyflow.Value) {
		switch v.Kind {
		case pyflow.Text:
			out = append(out, audit.Texts(v)...)
		case pyflow.Unknown:
			// A dictionary becomes JSON; what came as JSON may be one.
			for _, t := range audit.Texts(v) {
				t.Pieces = slices.Clone(t.Pieces)
				for i := range t.Pieces {
					t.Pieces[i].Labels = slices.DeleteFunc(slices.Clone(t.Pieces[i].Labels), func(l pyflow.Label) bool {
						return l.Kind == "json" || l.Kind == "stored"
					})
				}
				out = append(out, t)
			}
		case pyflow.List:
			// (body, status, headers) in any order of the last two; a list
			// becomes JSON.
			if n := len(v.Items); n < 2 || n > 3 || v.Rest != nil {
				return
			}
			page := true
			for _, more := range v.Items[1:] {
				switch more.Kind {
				case pyflow.Text, pyflow.Number, pyflow.None:
				case pyflow.Dict, pyflow.List, pyflow.Object, pyflow.Unknown:
					if t, found := contentType(more); found {
						p, known := isPage(t)
						page = p || !known
					}
				default:
					return
				}
			}
			if page && v.Items[0].Kind != pyflow.List {
				out = append(out, bodies(v.Items[0])...)
			}
		case pyflow.Object:
			if response(v) && htmlResponse(v) {
				if body, ok := v.Field("response"); ok {
					out = append(out, bodies(body)...)
				} else if len(v.Labels) > 0 {
					out = append(out, audit.Texts(pyflow.Value{Kind: pyflow.Text, Labels: v.Labels})...)
				}
			}
		}
	})
	return out
}

func response(v pyflow.Value) bool {
	return strings.HasSuffix(v.Type, "Response")
}

// htmlResponse reports whether a response object is a page: by its type, its
// headers, or because neither says otherwise.
func htmlResponse(v pyflow.Value) bool {
	for _, name := range []string{"content_type", "mimetype"} {
		if t, ok := v.Field(name); ok && t.Kind != pyflow.None {
			page, known := isPage(t)
			return page && known
		}
	}
	if h, ok := v.Field("headers"); ok {
		if t, found := contentType(h); found {
			page, known := isPage(t)
			return page && known
		}
	}
	return true
}
