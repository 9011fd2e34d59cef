package lsp

import (
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/audit"
)

// text is a document with its lines, as LSP counts them: "\n", "\r\n" and
// "\r" end one.
type text struct {
	s     string
	lines []int // offsets of the lines' starts
}

func newText(s string) *text {
	t := &text{s: s, lines: []int{0}}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\n', s[i] == '\r' && (i+1 == len(s) || s[i+1] != '\n'):
			t.lines = append(t.lines, i+1)
		}
	}
	return t
}

// line returns the start and end of a line without its line break. A line
// beyond the last is empty, at the end.
func (t *text) line(n int) (start, end int) {
	if n < 0 || n >= len(t.lines) {
		return len(t.s), len(t.s)
	}
	start, end = t.lines[n], len(t.s)
	if n+1 < len(t.lines) {
		end = t.lines[n+1]
	}
	return start, start + len(strings.TrimRight(t.s[start:end], "\r\n"))
}

// offset returns the byte offset of a position. A character beyond the end of
// the line is its end, one within a character the character's start.
func (t *text) offset(p position, encoding string) int {
	start, end := t.line(int(min(p.Line, 1<<30)))
	want := int(min(p.Character, 1<<30))
	if encoding == "utf-8" {
		at := min(start+want, end)
		for at > start && at < end && !utf8.RuneStart(t.s[at]) {
			at--
		}
		return at
	}
	at := start
	for units := 0; at < end; {
		r, n := utf8.DecodeRuneInString(t.s[at:end])
		width := 1
		if r >= 0x10000 {
			width = 2
		}
		if units+width > want {
			break
		}
		units += width
		at += n
	}
	return at
}

// position returns the position of a byte offset.
func (t *text) position(offset int, encoding string) position {
	offset = max(0, min(offset, len(t.s)))
	line := sort.SearchInts(t.lines, offset+1) - 1
	start, end := t.line(line)
	return position{uint32(line), units(t.s[start:min(offset, end)], encoding)}
}

func units(s, encoding string) uint32 {
	if encoding == "utf-8" {
		return uint32(len(s))
	}
	n := uint32(0)
	for _, r := range s {
		if n++; r >= 0x10000 {
			n++
		}
	}
	return n
}

// place returns the position of a line and column of the audit, which count
// characters from 1, with no byte order mark among them.
func (t *text) place(line, column int, encoding string) position {
	start, end := t.line(line - 1)
	s := t.s[start:end]
	if line == 1 {
		s = strings.TrimPrefix(s, "\ufeff")
	}
	for i := range s {
		if column--; column < 1 {
			return position{uint32(max(line-1, 0)), units(s[:i], encoding)}
		}
	}
	if line > len(t.lines) {
		return t.position(len(t.s), encoding)
	}
	return position{uint32(max(line-1, 0)), units(s, encoding)}
}

// span returns the range of a span of the audit. A finding about a whole file
// is shown on its first line.
func (t *text) span(s audit.Span, encoding string) textRange {
	if s.Line < 1 {
		_, end := t.line(0)
		return textRange{position{}, t.position(end, encoding)}
	}
	r := textRange{Start: t.place(s.Line, s.Column, encoding)}
	r.End = r.Start
	if s.EndLine > s.Line || s.EndLine == s.Line && s.EndColumn > s.Column {
		r.End = t.place(s.EndLine, s.EndColumn, encoding)
	}
	return r
}

func (p position) before(q position) bool {
	return p.Line < q.Line || p.Line == q.Line && p.Character < q.Character
}

// touches reports whether two ranges have a place in common, their ends
// included: a cursor right behind a finding is on it.
func (r textRange) touches(o textRange) bool {
	return !r.End.before(o.Start) && !o.End.before(r.Start)
}
