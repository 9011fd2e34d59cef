package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/audit"
)

// nasty ends everything that a format could be ended by.
const nasty = "a]]>\"'<b>&amp;</script>\n::error::x\r\n%0A,:\x00\x1b[31m\u202e\ufffe\xff"

func hostileAudit() *AuditReport {
	r := sampleAudit()
	r.App = nasty
	r.Findings = append(r.Findings, audit.Finding{
		Rule: traceRule, Span: audit.Span{File: nasty, Line: 1, Column: 2, EndLine: 1, EndColumn: 4}, Message: nasty, Fix: nasty,
		Trace: []audit.Step{{Span: audit.Span{File: nasty, Line: 1, Column: 1, EndLine: 1, EndColumn: 9}, Note: nasty}},
	})
	r.Unproven = append(r.Unproven, Note{Place: "DW-SAMPLE-001", Text: nasty})
	r.NotUnderstood = append(r.NotUnderstood, Note{Place: nasty, Text: nasty, File: nasty, Line: 4})
	r.Source = func(string) []byte { return []byte(nasty) }
	return r
}

// unescape reads a workflow command as the runner does.
var unescape = strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",")

func TestGitHub(t *testing.T) {
	r := sampleAudit()
	r.Base = "services/shop"
	got := render(t, func(b *bytes.Buffer) error { return AuditGitHub(b, r, Screen{}) })
	for _, want := range []string{
		"::error title=DW-SAMPLE-001%3A A sample,file=services/shop/app.py,line=2,endLine=2,col=14,endColumn=23::danger is called%0AFix: mend it%0Ahigh, certain; dewar explain DW-SAMPLE-001\n",
		"1. app.py:1:1: source%0A2. lib/b.py:9:1: passes%0A3. app.py:3:1: sink",
		"::warning title=dewar%3A not understood,file=services/shop/old.py,line=3::old.py:3:1: print x\n",
		"::error title=dewar%3A rule could not look::DW-SAMPLE-009: panicked\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if !strings.HasPrefix(got, "::error title=DW-SAMPLE-002") {
		t.Error("the worst does not come first")
	}
}

// checkCommands holds every line against the grammar of a workflow command
// and returns how many there are.
func checkCommands(t *testing.T, out string) int {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for _, l := range lines {
		rest, ok := strings.CutPrefix(l, "::")
		head, text, two := strings.Cut(rest, "::")
		kind, props, _ := strings.Cut(head, " ")
		if !ok || !two || kind != "error" && kind != "warning" && kind != "notice" {
			t.Fatalf("no command: %q", l)
		}
		for _, p := range strings.Split(props, ",") {
			name, value, ok := strings.Cut(p, "=")
			if !ok || !strings.Contains(" title file line endLine col endColumn ", " "+name+" ") {
				t.Fatalf("%q in %q", p, l)
			}
			if strings.ContainsAny(value, ":,\r\n") {
				t.Fatalf("property %q is not escaped", value)
			}
		}
		for _, r := range unescape.Replace(text) {
			if r != '\n' && r < 0x20 || r == 0x202e {
				t.Fatalf("%q in %q", r, l)
			}
		}
	}
	return len(lines)
}

func TestGitHubHostile(t *testing.T) {
	r := hostileAudit()
	out := render(t, func(b *bytes.Buffer) error { return AuditGitHub(b, r, Screen{}) })
	want := len(r.Findings) + len(r.Skipped) + len(r.NotUnderstood) + len(r.Unproven)
	if n := checkCommands(t, out); n != want {
		t.Errorf("%d commands for %d things", n, want)
	}
}

func FuzzGitHubCommand(f *testing.F) {
	f.Add("app.py", "message")
	f.Add(nasty, nasty)
	f.Fuzz(func(t *testing.T, property, text string) {
		var b bytes.Buffer
		command(&b, "error", [][2]string{{"title", property}, {"file", property}}, text)
		if n := checkCommands(t, b.String()); n != 1 {
			t.Errorf("%d commands: %q", n, b.String())
		}
	})
}

func TestJUnit(t *testing.T) {
	for name, r := range map[string]*AuditReport{"sample": sampleAudit(), "hostile": hostileAudit()} {
		r.Fails = func(f audit.Finding) bool { return f.Rule.Severity >= audit.Critical }
		out := render(t, func(b *bytes.Buffer) error { return AuditJUnit(b, r, Screen{}) })
		var got junitSuites
		if err := xml.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		failures, errors, skipped, tests := 0, 0, 0, 0
		names := map[string]bool{}
		for _, s := range got.Suites {
			for _, c := range s.Cases {
				tests++
				if k := c.ClassName + c.Name; names[k] {
					t.Errorf("%s: two cases are called %q", name, k)
				} else {
					names[k] = true
				}
				switch {
				case c.Failure != nil:
					failures++
					if !strings.Contains(c.Failure.Text, "═") && !strings.Contains(c.Failure.Text, "╭─") {
						t.Errorf("%s: the failure shows no code: %q", name, c.Failure.Text)
					}
				case c.Error != nil:
					errors++
				case c.Skipped != nil:
					skipped++
				}
			}
		}
		critical := 0
		for _, f := range r.Findings {
			if f.Rule.Severity == audit.Critical {
				critical++
			}
		}
		wantErrors := len(r.Skipped) + len(r.NotUnderstood) + len(r.Unproven)
		if failures != critical || errors != wantErrors || skipped != len(r.Suppressed) {
			t.Errorf("%s: %d failures, %d errors, %d skipped; want %d, %d, %d\n%s", name, failures, errors, skipped, critical, wantErrors, len(r.Suppressed), out)
		}
		if fmt.Sprint(got.Tests, got.Failures, got.Errors, got.Skipped) != fmt.Sprint(tests, failures, errors, skipped) {
			t.Errorf("%s: the totals are not those of the cases", name)
		}
	}
}

// TestHTML parses the page and holds what it is made of against a list: a
// project cannot add an element, an attribute or a script.
func TestHTML(t *testing.T) {
	for name, r := range map[string]*AuditReport{"sample": sampleAudit(), "hostile": hostileAudit()} {
		out := render(t, func(b *bytes.Buffer) error { return AuditHTML(b, r, Screen{}) })
		if again := render(t, func(b *bytes.Buffer) error { return AuditHTML(b, r, Screen{}) }); again != out {
			t.Errorf("%s: two pages for one audit", name)
		}
		doc, err := html.Parse(strings.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		elements := strings.Fields(`html head meta title style body header p span h1 main section ul li b form label input select option fieldset legend
			output div article details summary small figure figcaption mark code dl dt dd h2 h3 footer script a`)
		attributes := strings.Fields(`lang charset http-equiv content name class aria-label aria-hidden aria-live hidden type autocomplete spellcheck value checked
			id data-rule data-severity data-sure open role tabindex href`)
		scripts, articles := 0, 0
		for n := range doc.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if !containsWord(elements, n.Data) {
				t.Errorf("%s: <%s>", name, n.Data)
			}
			for _, a := range n.Attr {
				if !containsWord(attributes, a.Key) {
					t.Errorf("%s: <%s %s=%q>", name, n.Data, a.Key, a.Val)
				}
				if a.Key == "href" && a.Val != "#gaps" {
					t.Errorf("%s: a link to %q", name, a.Val)
				}
			}
			switch n.Data {
			case "script":
				scripts++
				if n.FirstChild.Data != auditScript {
					t.Errorf("%s: the script is not ours", name)
				}
			case "article":
				articles++
			}
		}
		if scripts != 1 || articles != len(r.Findings)+len(r.Suppressed) {
			t.Errorf("%s: %d scripts, %d findings of %d", name, scripts, articles, len(r.Findings)+len(r.Suppressed))
		}
		for _, bad := range []string{"http://", "https://", "@import", "url(", " style="} {
			if strings.Contains(out, bad) {
				t.Errorf("%s: %q is in the page", name, bad)
			}
		}
		for _, want := range []string{"What this audit does not know", "panicked", "<mark>danger(1)</mark>", "suppressed (baseline): known"} {
			if name == "sample" && !strings.Contains(out, want) {
				t.Errorf("%q is not in the page", want)
			}
		}
	}
}

func containsWord(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// TestTextTrace: a long trace shows both of its ends.
func TestTextTrace(t *testing.T) {
	r := sampleAudit()
	f := audit.Finding{Rule: traceRule, Span: audit.Span{File: "app.py", Line: 1, Column: 1}, Message: "long"}
	for i := range 30 {
		f.Trace = append(f.Trace, audit.Step{Span: audit.Span{File: "app.py", Line: 1 + i%3, Column: 1, EndLine: 1 + i%3, EndColumn: 3}, Note: fmt.Sprintf("stop-%d.", i+1)})
	}
	r.Findings = []audit.Finding{f}
	out := render(t, func(b *bytes.Buffer) error { return AuditText(b, r, Screen{}) })
	for _, want := range []string{"1 stop-1.", "5 stop-5.", "19 more steps; --all shows them", "25 stop-25.", "30 stop-30."} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "stop-6.") || strings.Contains(out, "stop-24.") {
		t.Errorf("the middle is there:\n%s", out)
	}
	r.All = true
	if out := render(t, func(b *bytes.Buffer) error { return AuditText(b, r, Screen{}) }); !strings.Contains(out, "stop-15.") {
		t.Error("--all does not show the middle")
	}
}

// TestSinceIsSaid: a page without findings must not look as if the project
// had none.
func TestSinceIsSaid(t *testing.T) {
	r := sampleAudit()
	r.Findings, r.Suppressed = nil, nil
	r.Since = &Since{Revision: "origin/<main>", Base: "0123456789abcdef", Elsewhere: 1}
	page := render(t, func(b *bytes.Buffer) error { return AuditHTML(b, r, Screen{}) })
	if want := "origin/&lt;main&gt;</code> (<code>0123456789ab</code>): 1 finding elsewhere is not here"; !strings.Contains(page, want) {
		t.Errorf("%q is not in\n%s", want, page)
	}
	suites := render(t, func(b *bytes.Buffer) error { return AuditJUnit(b, r, Screen{}) })
	if want := "lines changed since origin/&lt;main&gt;"; !strings.Contains(suites, want) {
		t.Errorf("%q is not in\n%s", want, suites)
	}
}

// TestManyFindings: the time for a finding does not grow with its line.
func TestManyFindings(t *testing.T) {
	r := sampleAudit()
	const lines = 200_000
	text := []byte(strings.Repeat("danger()\n", lines))
	r.Source = func(string) []byte { return text }
	r.Findings = nil
	for i := range 5000 {
		r.Findings = append(r.Findings, audit.Finding{Rule: traceRule, Span: audit.Span{File: "app.py", Line: lines - i, Column: 1, EndLine: lines - i, EndColumn: 7}, Message: "m"})
	}
	page := render(t, func(b *bytes.Buffer) error { return AuditHTML(b, r, Screen{}) })
	if n := strings.Count(page, "<mark>danger</mark>"); n != 5000 {
		t.Errorf("%d lines are shown, want 5000", n)
	}
	if _, ok := r.lineOf("app.py", lines+2); ok {
		t.Error("a line behind the last one is there")
	}
}
