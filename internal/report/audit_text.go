package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"charm.land/lipgloss/v2"

	"github.com/dewar-security/dewar/internal/audit"
)

// AuditText writes findings as a compiler writes errors: the code, the place
// marked, what is wrong with it, what to do.
func AuditText(w io.Writer, r *AuditReport, s Screen) error {
	var b bytes.Buffer
	var about []string
	for _, n := range []struct {
		n         int
		one, many string
	}{{r.Files, "file", "files"}, {r.Routes, "route", "routes"}, {len(r.Rules), "rule", "rules"}} {
		about = append(about, fmt.Sprintf("%d %s", n.n, plural(n.n, n.one, n.many)))
	}
	fmt.Fprintf(&b, "%s %s  %s · %s · %s", bold.Inherit(blue).Render("dewar"), r.Version, plain(r.App), r.Profile, strings.Join(about, " · "))
	if r.Config != "" {
		fmt.Fprintf(&b, "   %s", dim.Render("config "+plain(r.Config)))
	}
	b.WriteString("\n\n")

	counts := map[string]int{}
	hidden := 0
	for _, f := range bySeverity(r.Findings) {
		counts[level(f.Rule.Severity)]++
		if f.Rule.Severity == audit.Low && !r.All {
			hidden++
			continue
		}
		r.frame(&b, f, s.width())
	}
	if r.All {
		for _, f := range bySeverity(r.Suppressed) {
			r.frame(&b, f, s.width())
		}
	}
	if hidden > 0 {
		fmt.Fprintf(&b, "  %d %s not shown; --all shows them\n\n", hidden, plural(hidden, "hint", "hints"))
	}
	r.summary(&b, counts)
	_, err := s.writer(w).Write(b.Bytes())
	return err
}

func styleOf(s audit.Severity) lipgloss.Style {
	switch level(s) {
	case "error":
		return red
	case "warning":
		return amber
	}
	return blue
}

// mark is one marked range inside a frame.
type mark struct {
	span audit.Span
	note string
	step int // of a trace, from 1
	main bool
}

// marksOf returns what a finding marks: the steps of its trace, or its place
// and those that belong to it.
func marksOf(f audit.Finding) (marks []mark, traced bool) {
	for i, s := range f.Trace {
		marks = append(marks, mark{s.Span, s.Note, i + 1, i == len(f.Trace)-1})
	}
	if len(marks) > 0 {
		return marks, true
	}
	marks = append(marks, mark{f.Span, cmp.Or(f.Label, f.Message), 0, true})
	for _, s := range f.Related {
		marks = append(marks, mark{s.Span, s.Note, 0, false})
	}
	return marks, false
}

// grouped parts marks by file, in their order.
func grouped(marks []mark) [][]mark {
	var groups [][]mark
	for _, m := range marks {
		if n := len(groups); n > 0 && groups[n-1][0].span.File == m.span.File {
			groups[n-1] = append(groups[n-1], m)
		} else if m.span.File != "" {
			groups = append(groups, []mark{m})
		}
	}
	return groups
}

// A longer trace is folded in the middle: its ends say where it comes from
// and what it does.
const (
	maxTrace  = 12
	traceHead = 5
)

func folded(marks []mark, all bool) []mark {
	if all || len(marks) <= maxTrace || marks[0].step == 0 {
		return marks
	}
	out := slices.Clone(marks[:traceHead])
	left := len(marks) - maxTrace + 1
	fold := mark{note: fmt.Sprintf("%d more steps; --all shows them", left)}
	fold.span.File = out[len(out)-1].span.File
	return append(append(out, fold), marks[traceHead+left:]...)
}

func (r *AuditReport) frame(b *bytes.Buffer, f audit.Finding, width int) {
	style := styleOf(f.Rule.Severity)
	head := style.Bold(true).Render(level(f.Rule.Severity)+"["+f.Rule.ID+"]") + bold.Render(": "+plain(f.Message))
	tag := f.Rule.Severity.String() + " · " + f.Sure().String()
	if f.Suppressed != nil {
		tag = "suppressed (" + f.Suppressed.Kind + ")"
	}
	gap := max(2, width-lipgloss.Width(head)-lipgloss.Width(tag))
	fmt.Fprintf(b, "%s%s%s\n", head, strings.Repeat(" ", gap), dim.Render(tag))

	marks, traced := marksOf(f)
	groups := grouped(folded(marks, r.All))
	gutter := 2
	for _, g := range groups {
		for _, m := range g {
			gutter = max(gutter, len(fmt.Sprint(m.span.Line)))
		}
	}
	for i, g := range groups {
		corner := "╭─"
		if i > 0 {
			corner = "├─"
		}
		where := g[0].span
		if i == 0 {
			where = f.Span
		}
		loc := where.File
		if where.Line > 0 {
			loc = fmt.Sprintf("%s:%d:%d", where.File, where.Line, where.Column)
		}
		fmt.Fprintf(b, "%s %s %s\n", strings.Repeat(" ", gutter), dim.Render(corner), blue.Render(plain(loc)))
		slices.SortStableFunc(g, func(a, c mark) int {
			if traced {
				return 0
			}
			return cmp.Or(cmp.Compare(a.span.Line, c.span.Line), cmp.Compare(a.span.Column, c.span.Column))
		})
		last := 0
		for _, m := range g {
			if m.span.Line == 0 {
				fmt.Fprintf(b, "%s %s %s\n", strings.Repeat(" ", gutter), dim.Render("│"), plain(m.note))
				continue
			}
			if m.step > 0 {
				m.note = fmt.Sprintf("%d %s", m.step, m.note)
			}
			r.code(b, m, gutter, width, last, style)
			last = m.span.Line
		}
	}
	r.places(b, f, gutter)
	side := func(name, text string) {
		lines := fill(plain(text), width-gutter-10)
		for i, line := range lines {
			mark := bold.Render("= " + pad(name, 5))
			if i > 0 {
				mark = strings.Repeat(" ", 7)
			}
			fmt.Fprintf(b, "%s %s %s\n", strings.Repeat(" ", gutter), mark, line)
		}
	}
	if f.Suppressed != nil {
		side("kept", cmp.Or(f.Suppressed.Reason, "no reason given"))
	}
	side("fix", cmp.Or(f.Fix, f.Rule.Fix))
	if len(f.Rule.MitigatedBy) > 0 {
		side("now", "the guard's "+strings.Join(f.Rule.MitigatedBy, ", ")+" "+plural(len(f.Rule.MitigatedBy), "layer", "layers")+" can stand in front: dewar run")
	}
	refs := []string{"dewar explain " + f.Rule.ID}
	for _, c := range f.Rule.CWE {
		refs = append(refs, fmt.Sprintf("CWE-%d", c))
	}
	for _, a := range f.Rule.ASVS {
		refs = append(refs, "ASVS 5.0 "+a)
	}
	side("more", strings.Join(refs, " · "))
	b.WriteByte('\n')
}

// maxPlaces is how many other places of a cause are named in short.
const maxPlaces = 5

// places names the other places of a finding's cause.
func (r *AuditReport) places(b *bytes.Buffer, f audit.Finding, gutter int) {
	others := f.Others()
	shown := others
	if !r.All && len(others) > maxPlaces+1 {
		shown = others[:maxPlaces]
	}
	for _, o := range shown {
		note := cmp.Or(o.Label, o.Message)
		if note == cmp.Or(f.Label, f.Message) {
			note = ""
		}
		fmt.Fprintf(b, "%s %s %s  %s\n", strings.Repeat(" ", gutter), dim.Render("├─"), blue.Render(plain(spanText(o.Span))), plain(note))
	}
	if left := len(others) - len(shown); left > 0 {
		fmt.Fprintf(b, "%s %s %d more places; --all shows them\n", strings.Repeat(" ", gutter), dim.Render("├─"), left)
	}
}

// code prints one line of source with the mark under it.
func (r *AuditReport) code(b *bytes.Buffer, m mark, gutter, width, last int, style lipgloss.Style) {
	rail := dim.Render("│")
	if last > 0 && m.span.Line > last+1 {
		fmt.Fprintf(b, "%s %s\n", strings.Repeat(" ", gutter), dim.Render("┆"))
	}
	text, ok := r.lineOf(m.span.File, m.span.Line)
	if !ok {
		fmt.Fprintf(b, "%*d %s %s\n", gutter, m.span.Line, rail, dim.Render("(source not available)"))
		fmt.Fprintf(b, "%s %s %s\n", strings.Repeat(" ", gutter), rail, plain(m.note))
		return
	}
	room := max(20, width-gutter-3)
	runes := []rune(strings.ReplaceAll(text, "\t", "    "))
	// A tab before the mark moves it by three columns more.
	tabs := strings.Count(string([]rune(text)[:min(max(m.span.Column-1, 0), utf8.RuneCountInString(text))]), "\t")
	start := min(max(m.span.Column-1, 0)+3*tabs, len(runes))
	end := len(runes)
	if m.span.EndLine == m.span.Line && m.span.EndColumn > m.span.Column {
		end = min(start+m.span.EndColumn-m.span.Column, len(runes))
	}
	// A long line is shown around its mark.
	from := 0
	if start > room-20 {
		from = max(0, start-room/3)
	}
	to := min(len(runes), from+room)
	shown := plain(string(runes[from:to]))
	if from > 0 {
		shown = "…" + shown[len(string([]rune(shown)[0])):]
	}
	if m.main || last != m.span.Line {
		fmt.Fprintf(b, "%*d %s %s\n", gutter, m.span.Line, rail, strings.TrimRight(shown, " "))
	}
	end = min(end, to)
	under := lipgloss.Width(string(runes[from:max(from, start)]))
	length := max(1, lipgloss.Width(strings.TrimRight(string(runes[min(start, end):end]), " ")))
	line := "─"
	if m.main {
		line = "━"
	}
	note := fill(plain(m.note), max(24, room-under-length-1))
	for i, n := range note {
		marker := style.Render(strings.Repeat(line, min(length, room-under)))
		if i > 0 {
			marker = strings.Repeat(" ", min(length, room-under))
		}
		fmt.Fprintf(b, "%s %s %s%s %s\n", strings.Repeat(" ", gutter), rail, strings.Repeat(" ", under), marker, style.Render(n))
	}
}

// lineOf returns a line of a file as text; false if there is none.
func (r *AuditReport) lineOf(file string, n int) (string, bool) {
	if r.Source == nil || n < 1 {
		return "", false
	}
	data := r.Source(file)
	starts := r.starts[file]
	if starts == nil {
		starts = []int{0}
		for i, c := range data {
			if c == '\n' {
				starts = append(starts, i+1)
			}
		}
		if r.starts == nil {
			r.starts = map[string][]int{}
		}
		r.starts[file] = starts
	}
	if data == nil || n > len(starts) {
		return "", false
	}
	line, _, _ := bytes.Cut(data[starts[n-1]:], []byte("\n"))
	return strings.ToValidUTF8(string(bytes.TrimSuffix(line, []byte("\r"))), "\uFFFD"), true
}

func (r *AuditReport) summary(b *bytes.Buffer, counts map[string]int) {
	var parts []string
	for _, l := range []struct{ one, many string }{{"error", "errors"}, {"warning", "warnings"}, {"hint", "hints"}} {
		parts = append(parts, fmt.Sprintf("%d %s", counts[l.one], plural(counts[l.one], l.one, l.many)))
	}
	line := strings.Join(parts, " · ")
	if len(r.Findings) == 0 {
		line = green.Render("no findings")
	}
	fmt.Fprintf(b, "%s   in %.2f s\n", bold.Render(line), r.Duration.Seconds())
	if r.Since != nil {
		fmt.Fprintf(b, "Only lines changed since %s (%.12s); %d %s elsewhere.\n", plain(r.Since.Revision), r.Since.Base, r.Since.Elsewhere, plural(r.Since.Elsewhere, "finding", "findings"))
	}
	if !r.Cached.IsZero() {
		fmt.Fprintf(b, "Unchanged since %s: read from the cache (--no-cache finds it anew).\n", r.Cached.Local().Format(time.DateTime))
	}
	fmt.Fprintf(b, "Checked %d %s (%d lines), %d %s.", r.Files, plural(r.Files, "file", "files"), r.Lines, r.Routes, plural(r.Routes, "route", "routes"))
	if len(r.Skipped)+len(r.NotUnderstood)+len(r.Unproven) == 0 {
		b.WriteString(" Every file was read and understood.")
	}
	b.WriteByte('\n')
	notes := func(what string, all []Note) {
		if len(all) == 0 {
			return
		}
		fmt.Fprintf(b, "%s\n", amber.Render(fmt.Sprintf("%d %s:", len(all), what)))
		for i, n := range all {
			if i == 10 && !r.All {
				fmt.Fprintf(b, "  %d more; --all shows them\n", len(all)-i)
				break
			}
			fmt.Fprintf(b, "  %s: %s\n", plain(n.Place), plain(n.Text))
		}
	}
	notes(plural(len(r.NotUnderstood), "file not understood", "files not understood"), r.NotUnderstood)
	notes(plural(len(r.Skipped), "file skipped", "files skipped"), r.Skipped)
	notes(plural(len(r.Unproven), "rule could not look", "rules could not look"), r.Unproven)
	if n := len(r.Suppressed); n > 0 {
		kinds := map[string]int{}
		for _, f := range r.Suppressed {
			kinds[f.Suppressed.Kind]++
		}
		var by []string
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for k := range kinds {
				if !yield(k) {
					return
				}
			}
		}) {
			by = append(by, fmt.Sprintf("%d %s", kinds[k], k))
		}
		fmt.Fprintf(b, "%d suppressed (%s)\n", n, strings.Join(by, ", "))
	}
	fmt.Fprintf(b, "%s\n", dim.Render(fmt.Sprintf("exit %d   (fails on %s)", r.Exit, r.FailOn)))
}

// AuditConcise writes one line per finding, with All one for each place.
func AuditConcise(w io.Writer, r *AuditReport, s Screen) error {
	var b bytes.Buffer
	all := r.Findings
	if r.All {
		all = places(all)
	}
	for _, f := range all {
		fmt.Fprintf(&b, "%s:%d:%d: %s %s\n", plain(f.Span.File), f.Span.Line, f.Span.Column,
			styleOf(f.Rule.Severity).Render(f.Rule.Severity.String()+"["+f.Rule.ID+"]"), plain(f.Message))
	}
	_, err := s.writer(w).Write(b.Bytes())
	return err
}
