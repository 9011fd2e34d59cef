package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/dewar-security/dewar/internal/audit"
)

// Diff writes what repairs change as a unified diff, which git apply and
// patch take. On a screen with colours, characters that could drive the
// terminal are replaced; a file or a pipe gets every byte as it is.
func Diff(w io.Writer, files []audit.FixedFile, s Screen) error {
	out := s.writer(w)
	if !s.Colour {
		out = w
	}
	for _, f := range files {
		text, err := unified(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if s.Colour {
			text = paintDiff(text)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}

// unified returns the diff of one file.
func unified(f audit.FixedFile) (string, error) {
	before := string(f.Before)
	d, err := udiff.ToUnifiedDiff(diffName("a/"+f.Path), diffName("b/"+f.Path), before, udiff.Lines(before, string(f.After)), udiff.DefaultContextLines)
	if err != nil {
		return "", err
	}
	// The library (v0.4.1) forgets the unchanged lines within a hunk when it
	// says where the next one stands in the new file.
	moved := 0
	for _, h := range d.Hunks {
		h.ToLine = h.FromLine + moved
		for _, l := range h.Lines {
			switch l.Kind {
			case udiff.Insert:
				moved++
			case udiff.Delete:
				moved--
			}
		}
	}
	return d.String(), nil
}

// diffName writes a file name as git does: in quotes if it could be taken for
// more than a name (a line break would begin another header), with a tab
// behind it if it has a space.
func diffName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '"' || r == '\\' }) {
		var b strings.Builder
		b.WriteByte('"')
		for _, c := range []byte(name) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < 0x20 || c >= 0x7f:
				fmt.Fprintf(&b, "\\%03o", c)
			default:
				b.WriteByte(c)
			}
		}
		return b.String() + `"`
	}
	if strings.Contains(name, " ") {
		return name + "\t"
	}
	return name
}

func paintDiff(text string) string {
	var b strings.Builder
	header := 2 // lines of the file's header left
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		shown := plain(strings.TrimSuffix(line, "\r"))
		if i := strings.IndexByte(line, '\t'); i >= 0 { // plain makes a tab a space
			shown = plain(strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", "    "))
		}
		switch {
		case header > 0:
			header--
			shown = bold.Render(shown)
		case strings.HasPrefix(line, "@@"):
			shown = blue.Render(shown)
		case strings.HasPrefix(line, "+"):
			shown = green.Render(shown)
		case strings.HasPrefix(line, "-"):
			shown = red.Render(shown)
		}
		b.WriteString(shown + "\n")
	}
	return b.String()
}

// FixSummary says what was repaired, or would be, what was left alone and
// why, and what remains.
func FixSummary(w io.Writer, x *audit.Fixes, applied bool, s Screen) error {
	var b bytes.Buffer
	line := func(f audit.Finding, reason string) {
		place := f.Span.File
		if f.Span.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.Span.File, f.Span.Line)
		}
		fmt.Fprintf(&b, "  %s %s %s%s\n", plain(place), f.Rule.ID, plain(f.Message), plain(reason))
	}
	many := func(n int, one, many string) string { return fmt.Sprintf("%d %s", n, plural(n, one, many)) }
	if n := len(x.Fixed); n > 0 {
		did := amber.Render("would be repaired")
		if applied {
			did = green.Render("repaired")
		}
		fmt.Fprintf(&b, "dewar: %s %s in %s\n", many(n, "finding", "findings"), did, many(len(x.Files), "file", "files"))
		for _, f := range x.Fixed {
			line(f, "")
		}
	} else {
		b.WriteString("dewar: nothing was found that can be repaired safely\n")
	}
	if n := len(x.Refused); n > 0 {
		fmt.Fprintf(&b, "dewar: %s left alone\n", many(n, "repair", "repairs"))
		for _, r := range x.Refused {
			line(r.Finding, ": "+r.Reason)
		}
	}
	if n := len(x.After.Findings); n > 0 {
		fmt.Fprintf(&b, "dewar: %s for you: \"dewar audit\" says what to do\n", many(n, "finding remains", "findings remain"))
	}
	if len(x.Files) > 0 && !applied {
		b.WriteString("dewar: nothing was written: \"dewar fix --apply\" writes it\n")
	}
	_, err := s.writer(w).Write(b.Bytes())
	return err
}
