package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
)

// The part of the JUnit XML that Jenkins, GitLab, GitHub and Azure read: the
// schema of Apache Ant's junitreport task as Jenkins extends it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		File      string        `xml:"file,attr,omitempty"`
		Line      int           `xml:"line,attr,omitempty"`
		Failure   *junitProblem `xml:"failure"`
		Error     *junitProblem `xml:"error"`
		Skipped   *junitProblem `xml:"skipped"`
		Out       *junitText    `xml:"system-out"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",cdata"`
	}
	junitText struct {
		Text string `xml:",cdata"`
	}
)

// AuditJUnit writes an audit as a test report: a suite for each rule, a case
// for each finding. A finding below the threshold is a case that passes, with
// what was found as its output; a suppressed one is skipped. A rule that could
// not look is an error and never a pass; so is a file that was not read or not
// understood, which no rule can speak for. It holds no time: the same tree
// gives the same bytes.
func AuditJUnit(w io.Writer, r *AuditReport, _ Screen) error {
	all := junitSuites{Name: "dewar audit " + plain(r.App)}
	if r.Since != nil {
		all.Name += ", lines changed since " + plain(r.Since.Revision)
	}
	add := func(s junitSuite) {
		for _, c := range s.Cases {
			s.Tests++
			switch {
			case c.Failure != nil:
				s.Failures++
			case c.Error != nil:
				s.Errors++
			case c.Skipped != nil:
				s.Skipped++
			}
		}
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
		all.Suites = append(all.Suites, s)
	}
	byRule := map[string][]audit.Finding{}
	rules := slices.Clone(r.Rules)
	for _, f := range slices.Concat(r.Findings, r.Suppressed) {
		if byRule[f.Rule.ID] == nil && !slices.Contains(rules, f.Rule) {
			rules = append(rules, f.Rule)
		}
		byRule[f.Rule.ID] = append(byRule[f.Rule.ID], f)
	}
	slices.SortStableFunc(rules, func(a, b *audit.Rule) int { return strings.Compare(a.ID, b.ID) })
	for _, k := range rules {
		s := junitSuite{Name: k.ID + ": " + k.Title}
		seen := map[string]int{}
		for _, f := range byRule[k.ID] {
			c := junitCase{Name: plain(f.Message), ClassName: k.ID, File: plain(r.inWorkspace(f.Span.File)), Line: f.Span.Line}
			if f.Cause != "" {
				c.Name = plain(f.Cause) // whichever places it has today
			} else if f.Span.File != "" {
				c.Name += " (" + plain(spanText(f.Span)) + ")"
			}
			if seen[c.Name]++; seen[c.Name] > 1 { // names are how a server follows a case
				c.Name += fmt.Sprintf(" #%d", seen[c.Name])
			}
			switch {
			case f.Suppressed != nil:
				c.Skipped = &junitProblem{Message: plain("suppressed (" + f.Suppressed.Kind + "): " + cmp.Or(f.Suppressed.Reason, "no reason given"))}
			case r.Fails == nil || r.Fails(f):
				c.Failure = &junitProblem{Message: plain(f.Message), Type: f.Rule.Severity.String(), Text: r.frameText(f)}
			default:
				c.Out = &junitText{r.frameText(f)}
			}
			s.Cases = append(s.Cases, c)
		}
		for _, n := range r.Unproven {
			if n.Place == k.ID {
				s.Cases = append(s.Cases, junitCase{Name: "could look", ClassName: k.ID, Error: &junitProblem{Message: plain(n.Text), Type: "could not look"}})
			}
		}
		if len(s.Cases) == 0 {
			s.Cases = []junitCase{{Name: k.Title, ClassName: k.ID}}
		}
		add(s)
	}
	for _, n := range r.Unproven {
		if !slices.ContainsFunc(rules, func(k *audit.Rule) bool { return k.ID == n.Place }) {
			add(junitSuite{Name: plain(n.Place), Cases: []junitCase{{Name: "could look", ClassName: plain(n.Place), Error: &junitProblem{Message: plain(n.Text), Type: "could not look"}}}})
		}
	}
	files := junitSuite{Name: "every file was read and understood"}
	for _, l := range []struct {
		what  string
		notes []Note
	}{{"not understood", r.NotUnderstood}, {"skipped", r.Skipped}} {
		for _, n := range l.notes {
			files.Cases = append(files.Cases, junitCase{
				Name: plain(n.Place), ClassName: "dewar.files", File: plain(r.inWorkspace(n.File)), Line: n.Line,
				Error: &junitProblem{Message: plain(n.Text), Type: l.what},
			})
		}
	}
	if len(files.Cases) == 0 {
		files.Cases = []junitCase{{Name: fmt.Sprintf("%d %s", r.Files, plural(r.Files, "file", "files")), ClassName: "dewar.files"}}
	}
	add(files)
	// In attributes, encoding/xml does what legalXML does for texts.
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	return err
}

// frameText is a finding as [AuditText] shows it, without colours.
func (r *AuditReport) frameText(f audit.Finding) string {
	var b, out bytes.Buffer
	r.frame(&b, f, 100)
	_, _ = Screen{}.writer(&out).Write(b.Bytes()) // into memory: it cannot fail
	return "\n" + legalXML(out.String())
}

// legalXML replaces what no XML 1.0 document can hold, even escaped (2.2).
func legalXML(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 {
			return r
		}
		return '\uFFFD'
	}, s)
}
