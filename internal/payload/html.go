package payload

import (
	"html"
	"strings"
)

// The judge of HTML reads tags as a browser does, leniently: what the text
// leaves open the page closes. It asks whether a tag runs script, loads
// something active, or carries an event handler, and whether a text would
// leave the quoted attribute it stands in and add a handler of its own.

func judgeHTML(text string, place Place, _ []string) string {
	if strings.IndexByte(text, '<') < 0 && strings.IndexByte(text, '=') < 0 {
		return ""
	}
	s := text
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "") // old parsers and filters drop it
	}
	if strings.Contains(s, `\0`) {
		s = strings.ReplaceAll(s, `\0`, "")
	}
	if shape := htmlTags(s); shape != "" {
		return shape
	}
	if shape := attributeBreak(s); shape != "" {
		return shape
	}
	// What is left when a filter takes tags out: o<x>nfocus=….
	if i := strings.IndexByte(s, '<'); i > 0 && strings.IndexByte(s[i:], '>') > 0 && strings.IndexByte(s, '=') >= 0 {
		if stripped := stripTags(s); stripped != s {
			if shape := attributeBreak(stripped); shape != "" {
				return shape
			}
		}
	}
	return ""
}

// htmlTags looks at every tag of s. Tags that begin within the attributes of
// others are looked at again; markup that makes much of that is hostile, and
// found by it.
func htmlTags(s string) string {
	work := 64*len(s) + 64<<10
	for i := 0; i < len(s); i++ {
		if work < 0 {
			return "tangled markup"
		}
		if s[i] != '<' || i+1 >= len(s) {
			continue
		}
		j := i + 1
		closing := s[j] == '/'
		if closing {
			j++
		}
		if j >= len(s) || !isAlpha(s[j]) {
			continue
		}
		k := j
		for k < len(s) && !isSpace(s[k]) && s[k] != '/' && s[k] != '>' && s[k] != '<' && s[k] != '"' && s[k] != '\'' && s[k] != '=' {
			k++
		}
		name := strings.ToLower(s[j:k])
		if colon := strings.LastIndexByte(name, ':'); colon >= 0 {
			name = name[colon+1:]
		}
		if closing {
			if name == "script" && k < len(s) {
				return "end of a script"
			}
			continue
		}
		end := k < len(s) && (s[k] == '>' || isSpace(s[k]) || s[k] == '/') || k == len(s)
		if end {
			switch name {
			case "script", "iframe", "object", "embed", "applet", "frame", "frameset", "portal", "xmp-script":
				return "active element"
			case "style":
				work -= 4096
				if activeStyle(s[k:min(len(s), k+4096)]) {
					return "active style"
				}
			case "base":
				if strings.Contains(strings.ToLower(s[k:min(len(s), k+128)]), "href") {
					return "active element"
				}
			}
		}
		if shape := htmlAttributes(name, s, k, &work); shape != "" {
			return shape
		}
	}
	return ""
}

// htmlAttributes looks at the attributes of the tag name, which begin at i, and
// takes the bytes that it went over from work.
func htmlAttributes(name, s string, i int, work *int) string {
	from := i
	defer func() { *work -= i - from }()
	for n := 0; n < 64 && i < len(s); n++ {
		for i < len(s) && (isSpace(s[i]) || s[i] == '/' || s[i] == '"' || s[i] == '\'') {
			i++
		}
		if i >= len(s) || s[i] == '>' {
			return ""
		}
		k := i
		for k < len(s) && !isSpace(s[k]) && s[k] != '=' && s[k] != '>' && (s[k] != '/' || k == i) {
			k++
		}
		attr := strings.ToLower(s[i:k])
		i = k
		for i < len(s) && isSpace(s[i]) {
			i++
		}
		value := ""
		if i < len(s) && s[i] == '=' {
			i++
			for i < len(s) && isSpace(s[i]) {
				i++
			}
			if i < len(s) && (s[i] == '"' || s[i] == '\'' || s[i] == '`') {
				q := s[i]
				k = i + 1
				for k < len(s) && s[k] != q {
					k++
				}
				value = s[i+1 : min(k, len(s))]
				i = min(k+1, len(s))
			} else {
				k = i
				for k < len(s) && !isSpace(s[k]) && s[k] != '>' {
					k++
				}
				value = s[i:k]
				i = k
			}
		} else if !strings.HasPrefix(attr, "on") {
			continue
		}
		switch {
		case len(attr) > 4 && strings.HasPrefix(attr, "on") && (eventHandlers[attr] || len(attr) > 4 && value != "" && strings.ContainsAny(value, "(`=")):
			if value != "" {
				return "event handler"
			}
		case attr == "srcdoc":
			return "active element"
		case urlAttributes[attr]:
			v := html.UnescapeString(value)
			if rest, ok := scriptURL(v); ok && !harmlessScript(rest) {
				return "javascript: URL"
			}
			if dataURL(v) && name != "img" {
				return "data: URL"
			}
		case attr == "style":
			if activeStyle(html.UnescapeString(value)) {
				return "active style"
			}
		case name == "meta" && attr == "http-equiv":
			if v := strings.ToLower(value); v == "refresh" || v == "set-cookie" || v == "link" || v == "content-security-policy" {
				return "active element"
			}
		case name == "link" && attr == "rel":
			if v := strings.ToLower(value); strings.Contains(v, "import") || strings.Contains(v, "stylesheet") || strings.Contains(v, "manifest") {
				return "active element"
			}
		case attr == "attributename" && strings.HasPrefix(strings.ToLower(value), "on"):
			return "event handler"
		}
	}
	return ""
}

// activeStyle says that a style sheet runs script in some browser, or loads
// another sheet. Comments and backslashes inside names are dropped as CSS
// does.
func activeStyle(s string) bool {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "/*")
		_, after, closed := strings.Cut(rest, "*/")
		if !ok || !closed {
			break
		}
		b.WriteString(before)
		s = after
	}
	b.WriteString(s)
	s = strings.ToLower(strings.ReplaceAll(b.String(), `\`, ""))
	for _, w := range []string{"expression(", "javascript:", "vbscript:", "-moz-binding", "behavior:url", "behavior: url", "@import"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func dataURL(s string) bool {
	s = strings.ToLower(strings.TrimSpace(s))
	if !strings.HasPrefix(s, "data:") {
		return false
	}
	s = s[5:]
	return strings.HasPrefix(s, "text/html") || strings.HasPrefix(s, "image/svg") || strings.HasPrefix(s, "text/xml") || strings.HasPrefix(s, "application/x") || strings.HasPrefix(s, "text/javascript")
}

var urlAttributes = set("href", "src", "action", "formaction", "data", "xlink:href", "poster", "background", "to", "from", "values", "code", "codebase", "lowsrc", "dynsrc", "manifest", "classid", "folder", "url")

// eventHandlers are the event handler content attributes of the HTML standard
// and SVG, and the animation and pointer events of CSSOM that browsers know.
var eventHandlers = set("onabort", "onactivate", "onafterprint", "onafterscriptexecute", "onanimationcancel", "onanimationend", "onanimationiteration", "onanimationstart",
	"onauxclick", "onbeforecopy", "onbeforecut", "onbeforeinput", "onbeforematch", "onbeforepaste", "onbeforeprint", "onbeforescriptexecute", "onbeforetoggle", "onbeforeunload",
	"onbegin", "onblur", "onbounce", "oncancel", "oncanplay", "oncanplaythrough", "onchange", "onclick", "onclose", "oncontentvisibilityautostatechange", "oncontextmenu", "oncopy", "oncuechange", "oncut",
	"ondblclick", "ondrag", "ondragend", "ondragenter", "ondragexit", "ondragleave", "ondragover", "ondragstart", "ondrop", "ondurationchange", "onemptied", "onend", "onended", "onerror",
	"onfinish", "onfocus", "onfocusin", "onfocusout", "onformdata", "onfullscreenchange", "ongotpointercapture", "onhashchange", "oninput", "oninvalid", "onkeydown", "onkeypress", "onkeyup",
	"onload", "onloadeddata", "onloadedmetadata", "onloadend", "onloadstart", "onlostpointercapture", "onmessage", "onmousedown", "onmouseenter", "onmouseleave", "onmousemove", "onmouseout", "onmouseover", "onmouseup", "onmousewheel",
	"onmozfullscreenchange", "onpagehide", "onpageshow", "onpaste", "onpause", "onplay", "onplaying", "onpointercancel", "onpointerdown", "onpointerenter", "onpointerleave", "onpointermove", "onpointerout", "onpointerover", "onpointerrawupdate", "onpointerup",
	"onpopstate", "onprogress", "onratechange", "onrepeat", "onreset", "onresize", "onscroll", "onscrollend", "onsearch", "onseeked", "onseeking", "onselect", "onselectionchange", "onselectstart", "onshow", "onstalled", "onstart", "onsubmit", "onsuspend",
	"ontimeupdate", "ontoggle", "ontouchend", "ontouchmove", "ontouchstart", "ontransitioncancel", "ontransitionend", "ontransitionrun", "ontransitionstart", "onunhandledrejection", "onunload", "onvolumechange", "onwaiting", "onwebkitanimationend", "onwebkittransitionend", "onwheel", "onzoom")

// attributeBreak looks for an event handler that a text adds to the tag it
// stands in: behind a quote, a space or a slash, with a value that is code.
func attributeBreak(s string) string {
	for i := 0; i+4 < len(s); i++ {
		if s[i]|0x20 != 'o' || s[i+1]|0x20 != 'n' || i > 0 && (isAlnum(s[i-1]) || s[i-1] == '_' || s[i-1] == '.' || s[i-1] == '-' || s[i-1] == '&' || s[i-1] == '?') {
			continue
		}
		k := i + 2
		for k < len(s) && isAlpha(s[k]) && k-i < 40 {
			k++
		}
		if !eventHandlers[strings.ToLower(s[i:k])] {
			continue
		}
		for k < len(s) && (isSpace(s[k]) || s[k] == '/') {
			k++
		}
		if k >= len(s) || s[k] != '=' {
			continue
		}
		value := strings.TrimLeft(s[k+1:], " \t\r\n\"'`\\")
		if value == "" {
			continue
		}
		// In a list of assignments or a program of the visitor's own, no
		// quote or space would part it from what stands before.
		broke := i == 0 || strings.IndexByte("\"'`>/ \t\r\n\x0c\\", s[i-1]) >= 0
		if !broke {
			continue
		}
		value = value[:min(len(value), 512)]
		if end := strings.IndexAny(value, " \"'>"); end > 0 {
			value = value[:end]
		}
		value = html.UnescapeString(value)
		if strings.ContainsAny(value, "(`") || strings.Contains(value, "location") || strings.Contains(value, "javascript:") || jsCalls[value] || strings.Contains(value, "=") {
			return "event handler"
		}
	}
	return ""
}

// stripTags takes everything between < and > out.
func stripTags(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		j := strings.IndexByte(s[i:], '>')
		if j < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i+j+1:]
	}
	b.WriteString(s)
	return b.String()
}
