package pysyntax

import (
	"bytes"
	"fmt"
	"sort"
	"sync"
	"unicode/utf8"
)

// File is one parsed module. It does not change after [Parse] and may be used
// by several goroutines.
type File struct {
	Path   string
	Src    []byte // the source as UTF-8, with its byte order mark if it had one
	Nodes  []Node // Nodes[0] is nobody's node
	Lists  []uint32
	Root   ID // the Module
	Errors []SyntaxError
	Syms   Symbols

	ascii bool

	once  sync.Once
	lines []uint32 // offsets of line starts
}

// SyntaxError is a place where the source is not Python.
type SyntaxError struct {
	Pos       uint32 // offset in File.Src
	Line, Col int    // as of [File.Position]
	Msg       string // one clause, lower case, no full stop
}

// Error returns "line:column: message".
func (e SyntaxError) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Col, e.Msg)
}

// Node returns a node. For id 0 it is a node of kind [Bad].
func (f *File) Node(id ID) *Node { return &f.Nodes[id] }

// Kind returns the kind of a node, [Bad] for id 0.
func (f *File) Kind(id ID) Kind { return f.Nodes[id].Kind }

// List returns the elements of a list, nil for list 0. It is part of the
// tree: do not change it.
func (f *File) List(list uint32) []uint32 {
	if list == 0 {
		return nil
	}
	n := f.Lists[list]
	return f.Lists[list+1 : list+1+n : list+1+n]
}

// Text returns the source of a node, without parentheses around it.
func (f *File) Text(id ID) []byte {
	n := &f.Nodes[id]
	return f.Src[n.Start:n.End]
}

const bom = "\xef\xbb\xbf"

// lineStarts returns the line table. Lines end as in Python: \n, \r\n or \r.
func (f *File) lineStarts() []uint32 {
	f.once.Do(func() {
		src := f.Src
		lines := make([]uint32, 1, len(src)/32+1)
		cr := bytes.IndexByte(src, '\r') >= 0
		for i := 0; i < len(src); {
			var n int
			if cr {
				n = bytes.IndexAny(src[i:], "\r\n")
			} else {
				n = bytes.IndexByte(src[i:], '\n')
			}
			if n < 0 {
				break
			}
			i += n + 1
			if src[i-1] == '\r' && i < len(src) && src[i] == '\n' {
				i++
			}
			lines = append(lines, uint32(i))
		}
		if bytes.HasPrefix(src, []byte(bom)) {
			lines[0] = uint32(len(bom))
		}
		f.lines = lines
	})
	return f.lines
}

// Position returns the line and column of an offset in Src. Both count from
// 1, columns in characters; a byte order mark is no character. An offset
// beyond the end is taken for the end.
func (f *File) Position(offset uint32) (line, col int) {
	lines := f.lineStarts()
	offset = min(offset, uint32(len(f.Src)))
	i := max(sort.Search(len(lines), func(i int) bool { return lines[i] > offset })-1, 0)
	start := lines[i]
	for offset > start && int(offset) < len(f.Src) && !utf8.RuneStart(f.Src[offset]) {
		offset-- // within a character
	}
	switch {
	case offset <= start:
		return i + 1, 1
	case f.ascii:
		return i + 1, int(offset-start) + 1
	}
	return i + 1, utf8.RuneCount(f.Src[start:offset]) + 1
}

// Offset returns the offset in Src of a line and column as of
// [File.Position]. What is beyond the end of the line, or of the file, gives
// that end.
func (f *File) Offset(line, col int) int {
	lines := f.lineStarts()
	if line < 1 || line > len(lines) {
		return len(f.Src)
	}
	at := int(lines[line-1])
	rest := f.Line(line)
	for ; col > 1 && len(rest) > 0; col-- {
		_, n := utf8.DecodeRune(rest)
		rest, at = rest[n:], at+n
	}
	return at
}

// LineCount returns the number of lines. A line break at the very end begins
// no further line; an empty file has one line.
func (f *File) LineCount() int {
	lines := f.lineStarts()
	if n := len(lines); n > 1 && int(lines[n-1]) == len(f.Src) {
		return n - 1
	}
	return len(lines)
}

// Line returns line n, counted from 1, without its line break; nil if there
// is no such line.
func (f *File) Line(n int) []byte {
	lines := f.lineStarts()
	if n < 1 || n > len(lines) {
		return nil
	}
	line := f.Src[lines[n-1]:]
	if n < len(lines) {
		line = f.Src[lines[n-1]:lines[n]]
	}
	return bytes.TrimRight(line, "\r\n")
}
