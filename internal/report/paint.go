// Package report writes what Dewar found: for a person at a terminal, for a
// program (JSON), for code-scanning services (SARIF 2.1.0), for a browser
// (HTML).
//
// A format is one file and one line in [AuditFormats] or [ChecklistFormats].
// Formats never judge: the same findings and the same checklist stand in all
// of them.
package report

import (
	"image/color"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
)

// Screen is where text goes and how it may look.
type Screen struct {
	// Width is the number of columns; 0 means 100, as in a file or a pipe.
	Width int
	// Colour allows ANSI colours. The caller decides (a terminal, NO_COLOR,
	// --color); the writer then fits them to what the terminal can show.
	Colour bool
	// Environ is the environment by which the colours are fitted.
	Environ []string
}

// writer returns w with colours fitted or taken out.
func (s Screen) writer(w io.Writer) io.Writer {
	p := &colorprofile.Writer{Forward: w, Profile: colorprofile.NoTTY}
	if s.Colour {
		p.Profile = max(colorprofile.Env(s.Environ), colorprofile.ANSI)
	}
	return p
}

func (s Screen) width() int {
	if s.Width <= 0 {
		return 100
	}
	return max(s.Width, 40)
}

// The palette of the screens in the design; the writer maps it to what the
// terminal has.
var (
	bold   = lipgloss.NewStyle().Bold(true)
	dim    = lipgloss.NewStyle().Foreground(lipgloss.Color("#768390"))
	red    = lipgloss.NewStyle().Foreground(lipgloss.Color("#ff6a69"))
	amber  = lipgloss.NewStyle().Foreground(lipgloss.Color("#e3a72f"))
	green  = lipgloss.NewStyle().Foreground(lipgloss.Color("#46c768"))
	blue   = lipgloss.NewStyle().Foreground(lipgloss.Color("#41b7e6"))
	violet = lipgloss.NewStyle().Foreground(lipgloss.Color("#b083f0"))
)

var _ color.Color = lipgloss.Color("#000000")

// pad fills s with spaces to n columns, counting wide characters as two.
func pad(s string, n int) string {
	if w := lipgloss.Width(s); w < n {
		return s + strings.Repeat(" ", n-w)
	}
	return s
}

// fill breaks s at spaces into lines of at most n columns.
func fill(s string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		switch {
		case line == "":
			line = word
		case lipgloss.Width(line)+1+lipgloss.Width(word) <= n:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// plain makes text from a project or a site safe to print: a control
// character in a file name or a header must not drive the terminal (CWE-150).
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return '\uFFFD'
		}
		return r
	}, s)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
