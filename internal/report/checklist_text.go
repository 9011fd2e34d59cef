package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// ChecklistReport is a checklist and where it came from.
type ChecklistReport struct {
	*control.Checklist
	Version string `json:"version"`
	App     string `json:"app"`
	Profile string `json:"profile"`
	// Looked says for every face whether it was asked in this run, in a few
	// words: "412 files just now", "no guard is running".
	Looked map[string]string `json:"looked"`
	// All shows the evidence of promises that hold, too.
	All bool `json:"-"`
}

var cellGlyph = map[string]struct {
	glyph string
	style lipgloss.Style
}{
	"pass":           {"✓", green},
	"partial":        {"◔", green},
	"fail":           {"✗", red},
	"mitigated":      {"◐", amber},
	"error":          {"?", amber},
	"not-applicable": {"–", dim},
	"silent":         {"·", dim},
	"not-yet":        {"○", dim},
	"never":          {"–", dim},
}

var statusGlyph = map[control.Status]struct {
	glyph string
	style lipgloss.Style
}{
	control.Met:           {"✓", green},
	control.Failed:        {"✗", red},
	control.Mitigated:     {"◐", amber},
	control.Unproven:      {"?", violet},
	control.NotApplicable: {"–", dim},
}

// alarm orders rows for a reader: what is broken first.
var alarm = []control.Status{control.Failed, control.Mitigated, control.Unproven, control.Met, control.NotApplicable}

// ChecklistText writes the checklist for a person.
func ChecklistText(w io.Writer, r *ChecklistReport, s Screen) error {
	var b bytes.Buffer
	width := s.width()
	head := fmt.Sprintf("%s checklist   %s", bold.Inherit(blue).Render("dewar"), plain(r.App)+" · "+r.Profile)
	var looked []string
	for _, f := range evidence.Faces {
		if t := r.Looked[f.String()]; t != "" {
			looked = append(looked, f.String()+": "+t)
		}
	}
	fmt.Fprintf(&b, "%s\n", head)
	for _, t := range looked {
		fmt.Fprintf(&b, "  %s\n", dim.Render(plain(t)))
	}
	score := r.Score()
	fmt.Fprintf(&b, "\n  %s   %s", bar(r.Checklist, min(58, width-30)), bold.Render(fmt.Sprintf("%d of %d promises hold", score.Met, score.Of)))
	fmt.Fprintf(&b, "%s\n\n", dim.Render(fmt.Sprintf("   score %d %%", score.Percent)))

	titleWidth := 0
	for _, row := range r.Rows {
		titleWidth = max(titleWidth, lipgloss.Width(row.Title))
	}
	const left = 2 + 15 + 14 // glyph, status, control
	fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", left+titleWidth+1), dim.Render(" audit guard probe detect"))
	rows := slices.Clone(r.Rows)
	slices.SortStableFunc(rows, func(a, b control.Row) int {
		return slices.Index(alarm, a.Status) - slices.Index(alarm, b.Status)
	})
	for _, row := range rows {
		g := statusGlyph[row.Status]
		fmt.Fprintf(&b, "%s %s%s%s ", g.style.Render(g.glyph), g.style.Bold(true).Render(pad(row.Status.String(), 15)), pad(string(row.ID), 14), pad(row.Title, titleWidth))
		for _, c := range row.Cells {
			k := cellGlyph[c.State]
			fmt.Fprintf(&b, "   %s  ", k.style.Render(k.glyph))
		}
		b.WriteByte('\n')
		r.detail(&b, row, width)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s %s\n", amber.Render("! evidence not used:"), plain(p))
	}
	fmt.Fprintf(&b, "\n%s\n", dim.Render("✓ pass  ◔ pass, of a part  ✗ fail  ◐ fails, but a guard layer stands in front  ? could not tell  · not asked in this run"))
	fmt.Fprintf(&b, "%s\n", dim.Render("○ not built yet  – does not apply, or cannot exist (dewar explain CONTROL says why)"))
	r.next(&b)
	_, err := s.writer(w).Write(b.Bytes())
	return err
}

// detail prints why a row has its status: one line for what holds, the
// evidence for the rest.
func (r *ChecklistReport) detail(b *bytes.Buffer, row control.Row, width int) {
	const indent = "    "
	wrapped := func(mark, text string) {
		for i, line := range fill(plain(text), width-len(indent)-4) {
			if i > 0 {
				mark = strings.Repeat(" ", lipgloss.Width(mark))
			}
			fmt.Fprintf(b, "%s%s %s\n", indent, mark, line)
		}
	}
	if row.Status == control.Met && !r.All || len(row.Evidence) == 0 {
		wrapped(dim.Render("·"), row.Because)
		return
	}
	shown, fixes, hidden := 0, []string{}, 0
	const most = 6
	for _, e := range row.Evidence {
		quiet := e.Outcome == evidence.NotApplicable || e.Outcome == evidence.Pass && row.Status != control.Mitigated
		if !r.All && (quiet || shown >= most) {
			if !quiet {
				hidden++
			}
			continue
		}
		shown++
		wrapped(outcomeMark(e.Outcome), e.Summary+origin(e))
		if e.Fix != "" && e.Outcome == evidence.Fail && !slices.Contains(fixes, e.Fix) {
			fixes = append(fixes, e.Fix)
		}
	}
	if shown == 0 {
		wrapped(dim.Render("·"), row.Because)
	}
	if hidden > 0 {
		fmt.Fprintf(b, "%s%s\n", indent, dim.Render(fmt.Sprintf("  %d more; --all shows them", hidden)))
	}
	for _, f := range fixes[:min(len(fixes), 3)] {
		wrapped(blue.Render("= fix"), f)
	}
}

func outcomeMark(o evidence.Outcome) string {
	state := o.String()
	k := cellGlyph[state]
	return k.style.Render(k.glyph)
}

// origin says how the evidence was obtained.
func origin(e evidence.Evidence) string {
	switch {
	case e.Location != nil:
		return fmt.Sprintf("  [%s %s]", e.Check, e.Location)
	case e.URL != "":
		how := "vantage unknown"
		switch e.Vantage {
		case evidence.ThroughGuard:
			how = "through the guard"
		case evidence.AroundGuard:
			how = "around the guard"
		}
		return fmt.Sprintf("  [%s %s, %s]", e.Check, e.URL, how)
	}
	return fmt.Sprintf("  [%s]", e.Check)
}

func bar(l *control.Checklist, width int) string {
	var b strings.Builder
	s := l.Score()
	if s.Of == 0 {
		return dim.Render(strings.Repeat("░", width))
	}
	parts := []struct {
		n     int
		style lipgloss.Style
	}{{s.Met, green}, {s.Mitigated, amber}, {s.Failed, red}, {s.Unproven, violet}}
	used, sum := 0, 0
	for _, p := range parts {
		sum += p.n
		end := width * sum / s.Of
		b.WriteString(p.style.Render(strings.Repeat("█", end-used)))
		used = end
	}
	return b.String()
}

// next names the one step that helps most.
func (r *ChecklistReport) next(b *bytes.Buffer) {
	say := func(cmd, why string) { fmt.Fprintf(b, "\nNext: %s   %s\n", bold.Render(cmd), why) }
	silent := map[evidence.Face]int{}
	for _, row := range r.Rows {
		for _, c := range row.Cells {
			if c.State == "silent" {
				silent[c.Face]++
			}
		}
		if row.Status == control.Failed {
			check := string(row.ID)
			for _, e := range row.Evidence {
				if e.Outcome == evidence.Fail {
					check = e.Check
					break
				}
			}
			say("dewar explain "+check, "why the first failing promise matters and how to keep it")
			return
		}
	}
	switch {
	case silent[evidence.Guard] > 0:
		say("dewar run", fmt.Sprintf("would let the guard speak for %d promises", silent[evidence.Guard]))
	case silent[evidence.Probe] > 0:
		say("dewar check --url https://your-site", fmt.Sprintf("would ask the live site about %d promises", silent[evidence.Probe]))
	}
}
