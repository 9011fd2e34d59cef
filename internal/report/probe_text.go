package report

import (
	"bytes"
	"fmt"
	"io"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

// ProbeText writes what a probe learnt: what is broken first, then what could
// not be told, then what held.
func ProbeText(w io.Writer, r *probe.Report, s Screen) error {
	var b bytes.Buffer
	width := s.width()
	fmt.Fprintf(&b, "%s probe   %s   %d checks, only this host, at most %d requests\n", bold.Inherit(blue).Render("dewar"), plain(r.Site), len(r.Results), r.Budget)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "  %s %s\n", amber.Render("!"), plain(n))
	}
	b.WriteByte('\n')
	count := map[evidence.Outcome]int{}
	vantage := map[evidence.Vantage]int{}
	for _, o := range []evidence.Outcome{evidence.Fail, evidence.Error, evidence.Pass, evidence.NotApplicable} {
		for _, res := range r.Results {
			for _, e := range res.Evidence {
				if e.Outcome != o {
					continue
				}
				count[o]++
				vantage[e.Vantage]++
				k := cellGlyph[o.String()]
				for i, line := range fill(plain(e.Summary), width-32) {
					if i == 0 {
						fmt.Fprintf(&b, "%s %s %s\n", k.style.Render(k.glyph), pad(e.Check, 27), line)
					} else {
						fmt.Fprintf(&b, "%s%s\n", pad("", 30), line)
					}
				}
				if o == evidence.Fail {
					fmt.Fprintf(&b, "%s%s\n", pad("", 30), dim.Render(plain(e.URL)))
					for i, line := range fill(plain(e.Fix), width-38) {
						label := "      "
						if i == 0 {
							label = blue.Render("= fix ")
						}
						fmt.Fprintf(&b, "%s%s%s\n", pad("", 30), label, line)
					}
				}
			}
		}
	}
	fmt.Fprintf(&b, "\n%s   %d requests in %.1f s\n", bold.Render(fmt.Sprintf("%d failed · %d could not tell · %d held", count[evidence.Fail], count[evidence.Error], count[evidence.Pass])), r.Requests, r.Duration.Seconds())
	switch {
	case vantage[evidence.AroundGuard] > 0:
		fmt.Fprintf(&b, "%s\n", red.Render(fmt.Sprintf("%d answers came around the guard: the app can be reached past its protection", vantage[evidence.AroundGuard])))
	case vantage[evidence.ThroughGuard] > 0:
		fmt.Fprintln(&b, dim.Render("The answers came through the guard."))
	default:
		fmt.Fprintln(&b, dim.Render("No guard of yours identified itself: whether the answers came through one is unknown."))
	}
	_, err := s.writer(w).Write(b.Bytes())
	return err
}
