package gateway

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine   = 8 << 10
	tailLines = 200
)

// tail keeps the last lines that the child wrote.
type tail struct {
	mu    sync.Mutex
	lines []string
	next  int
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < tailLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % tailLines
}

// text returns the last n lines.
func (t *tail) text(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// readLines hands every line of r to out, cut at maxLine bytes and without
// terminal control characters: the app's log quotes requests, and an escape
// sequence in one must not drive the operator's terminal (CWE-150).
func readLines(r io.Reader, out func(string)) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			text := clean(strings.TrimRight(string(line), "\r\n"))
			if errors.Is(err, bufio.ErrBufferFull) {
				text += " …"
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = br.ReadSlice('\n')
				}
			}
			out(text)
		}
		if err != nil {
			return
		}
	}
}

// clean replaces control characters and invalid UTF-8.
func clean(s string) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return utf8.RuneError
		}
		return r
	}, s)
}
