package csp

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/jinja"
)

// What an output may put where without becoming code. In a string the text
// cannot end the string, and cannot end the element; a backslash stands only
// in an escape that leaves the string open. Elsewhere in a script it is a run
// of JSON tokens: no name, no call and no operator can be made of them.
const (
	holeString   = "(?:[^'\"`\\\\\\n\\r<>\\x{2028}\\x{2029}]|\\\\(?:[nrtbfv/\\\\'\"]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}))*"
	holeTemplate = "[^`$\\\\{}<>]*"
	holeJSON     = `(?:"(?:[^"\\<>\n\r]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\b|\b(?:true|false|null|None|True|False|undefined|NaN)\b|[][{},:\s])*`
	holeLine     = `[^\n\r<>\x{2028}\x{2029}]*`
	holeComment  = `[^*<>]*`

	holeCSS       = `[A-Za-z0-9#.%,()\s_-]*`
	holeCSSString = `[^'"\\\n\r<>(){};]*`
	holeCSSURL    = `[A-Za-z0-9/._~%?=&#:@+-]*`
)

// hole returns what may come out of an output.
func (r *reader) hole(out *jinja.Output, kind jinja.Kind) (string, error) {
	expr := ""
	for _, c := range r.flow.Outputs[out] {
		var p string
		switch {
		case kind == jinja.KindScript || kind == jinja.KindEvent:
			switch c.Lexeme {
			case jinja.LexSingle, jinja.LexDouble:
				p = holeString
			case jinja.LexTemplate:
				p = holeTemplate
			case jinja.LexCode:
				p = holeJSON
			case jinja.LexLine:
				p = holeLine
			case jinja.LexComment:
				p = holeComment
			}
		default:
			switch c.Lexeme {
			case jinja.LexSingle, jinja.LexDouble:
				p = holeCSSString
			case jinja.LexCode:
				p = holeCSS
			case jinja.LexURL:
				p = holeCSSURL
			case jinja.LexComment:
				p = holeComment
			}
		}
		switch {
		case p == "":
			return "", fmt.Errorf("an output stands in %s", c)
		case expr != "" && p != expr:
			return "", errors.New("an output stands in a string on one way and outside on another")
		}
		expr = p
	}
	if expr == "" {
		return "", errors.New("it is not known where an output stands")
	}
	return expr, nil
}

// pattern returns the regular expression of a text with markers.
func (r *reader) pattern(text string, kind jinja.Kind) (string, error) {
	var b strings.Builder
	b.WriteString(`\A`)
	type frame struct {
		loop bool
	}
	var open []frame
	// Statements may take white space with them ("-", trim_blocks,
	// lstrip_blocks): there it may be any.
	loose := false
	literal := func(s string, next bool) {
		head, tail := "", ""
		if loose {
			t := strings.TrimLeft(s, " \t\n\f")
			if t != s || s == "" {
				head, s = `\s*`, t
			} else {
				head = `\s*`
			}
		}
		if next && s != "" {
			t := strings.TrimRight(s, " \t\n\f")
			tail, s = `\s*`, t
		} else if next {
			tail = `\s*`
		}
		b.WriteString(head)
		b.WriteString(regexp.QuoteMeta(s))
		if tail != "" && !(head != "" && s == "") {
			b.WriteString(tail)
		}
	}
	rest := text
	for {
		at := marker.FindStringSubmatchIndex(rest)
		if at == nil {
			literal(rest, false)
			break
		}
		i, err := strconv.Atoi(rest[at[2]:at[3]])
		if err != nil || i >= len(r.marks) {
			return "", errors.New("a marker is not one")
		}
		m := r.marks[i]
		literal(rest[:at[0]], m.kind != markHole)
		rest = rest[at[1]:]
		loose = m.kind != markHole
		switch m.kind {
		case markHole:
			p, err := r.hole(m.out, kind)
			if err != nil {
				return "", err
			}
			b.WriteString(p)
		case markSilent:
		case markOpaque:
			return "", fmt.Errorf("what %s puts there is not known", m.what)
		case markOpen:
			b.WriteString(`(?:`)
			open = append(open, frame{})
		case markLoop:
			b.WriteString(`(?:(?:`)
			open = append(open, frame{loop: true})
		case markElse, markClose, markEmpty, markEnd:
			if len(open) == 0 {
				return "", errors.New("a branch ends in it that does not begin in it")
			}
			f := &open[len(open)-1]
			if f.loop != (m.kind == markEmpty || m.kind == markEnd) {
				return "", errors.New("branches cross")
			}
			switch m.kind {
			case markElse:
				b.WriteString(`|`)
			case markEmpty:
				b.WriteString(`)*|`)
			default:
				b.WriteString(`)`)
				open = open[:len(open)-1]
			}
		}
		if b.Len() > maxPattern {
			return "", fmt.Errorf("it has more than %d KiB", maxPattern>>10)
		}
	}
	if len(open) > 0 {
		return "", errors.New("a branch begins in it that does not end in it")
	}
	b.WriteString(`\z`)
	p := b.String()
	if _, err := regexp.Compile(p); err != nil {
		return "", err
	}
	return p, nil
}
