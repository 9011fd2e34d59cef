package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// A suppression comment names the rules, and the reason that somebody
// decided to live with what they find:
//
//	# dewar: ignore[DW-CSRF-002] called by Stripe, which signs its requests
//	# dewar: ignore[DW-CSRF-002, DW-CSRF-003] until 2027-01-31: see JIRA-12
//
// It stands on one of the finding's lines, or alone on the lines above. There
// is no form that silences every rule: a misspelt id must not do so.

// suppression is one such comment, or one of bandit's "# nosec", or one of
// ruff's and flake8-bandit's "# noqa: S324": these two say that somebody looked
// at the line. A "# noqa" counts only with the ids of bandit's tests (S324 is
// B324) and for our rules of the same weakness; a bare one is about style.
type suppression struct {
	span   Span
	ids    []string
	reason string
	until  time.Time // the last day on which it holds; zero is for ever
	first  int       // the lines it covers
	last   int
	nosec  bool
	tests  []string // bandit's test ids; empty means all
	used   map[string]bool
	bad    string // why it does not count
	fix    string
}

// comments lists, for each kind of file, what begins a comment.
var comments = map[Kind][]string{
	Python: {"#"}, GunicornConf: {"#"}, Env: {"#"}, TOML: {"#"}, YAML: {"#"}, INI: {"#", ";"}, Dockerfile: {"#"},
	Compose: {"#"}, Requirements: {"#"}, NginxConf: {"#"}, Shell: {"#"}, Procfile: {"#"}, Systemd: {"#", ";"},
	Template: {"{#", "<!--"}, HTML: {"<!--"}, JS: {"//", "/*"}, Lock: {"#"},
}

var (
	suppressRE = regexp.MustCompile(`dewar:[ \t]*ignore\b(?:\[([^\]]*)\])?[ \t]*(.*)`)
	untilRE    = regexp.MustCompile(`^until[ \t]+([0-9A-Za-z-]+)[ \t]*:?[ \t]*(.*)$`)
	noqaRE     = regexp.MustCompile(`#[ \t]*noqa:[ \t]*([A-Z]+[0-9]+(?:[ \t]*,?[ \t]*[A-Z]+[0-9]+)*)`)
	nosecRE    = regexp.MustCompile(`#[ \t]*nosec\b:?[ \t]*((?:B[0-9]{3}[ \t,]*)*)`)
	ruleIDRE   = regexp.MustCompile(`^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$`)
)

// suppressions finds the comments in f.
func suppressions(f *File) []*suppression {
	marks := comments[f.Kind]
	if marks == nil {
		return nil
	}
	data := string(f.Data)
	python := f.Python != nil
	if !strings.Contains(data, "dewar:") && !(python && (strings.Contains(data, "nosec") || strings.Contains(data, "noqa:"))) {
		return nil
	}
	var found []*suppression
	inString := f.strings()
	through := 0 // the line that the last comment alone speaks of
	for n := 1; n <= len(f.lines); n++ {
		line := f.Line(n)
		if python && strings.Contains(line, "nosec") {
			if m := nosecRE.FindStringSubmatchIndex(line); m != nil && !inString.hold(f.lines[n-1]+m[0]) {
				found = append(found, &suppression{
					span: f.SpanAt(f.lines[n-1]+m[0], f.lines[n-1]+m[1]), nosec: true, first: n, last: n,
					tests: strings.FieldsFunc(line[m[2]:m[3]], func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }),
				})
			}
		}
		if python && strings.Contains(line, "noqa:") {
			if m := noqaRE.FindStringSubmatchIndex(line); m != nil && !inString.hold(f.lines[n-1]+m[0]) {
				if tests := banditTests(line[m[2]:m[3]]); len(tests) > 0 {
					found = append(found, &suppression{
						span: f.SpanAt(f.lines[n-1]+m[0], f.lines[n-1]+m[1]), nosec: true, first: n, last: n,
						tests: tests, reason: line[m[0]:m[1]],
					})
				}
			}
		}
		m := suppressRE.FindStringSubmatchIndex(line)
		if m == nil {
			continue
		}
		// The comment has to begin right before the words.
		before := strings.TrimRight(line[:m[0]], " \t-")
		mark := ""
		for _, c := range marks {
			if strings.HasSuffix(before, strings.TrimRight(c, "-")) {
				mark = c
			}
		}
		if mark == "" {
			continue
		}
		begin := len(before) - len(strings.TrimRight(mark, "-"))
		if python && inString.hold(f.lines[n-1]+begin) {
			continue
		}
		rest := line[m[4]:m[5]]
		for _, end := range [...]string{"#}", "-->", "*/"} {
			if i := strings.Index(rest, end); i >= 0 && mark != "#" {
				rest = rest[:i]
			}
		}
		s := &suppression{
			span: f.SpanAt(f.lines[n-1]+begin, f.lines[n-1]+len(line)), first: n, last: n, used: map[string]bool{},
			reason: strings.TrimSpace(strings.TrimLeft(strings.TrimRight(rest, " \t-"), ":- \t")),
		}
		ids := ""
		if m[2] >= 0 {
			ids = line[m[2]:m[3]]
		}
		for id := range strings.SplitSeq(ids, ",") {
			if id = strings.TrimSpace(id); id != "" && !slices.Contains(s.ids, id) {
				s.ids = append(s.ids, id)
			}
		}
		if u := untilRE.FindStringSubmatch(s.reason); u != nil {
			t, err := time.Parse(time.DateOnly, u[1])
			if err != nil {
				s.bad, s.fix = fmt.Sprintf("%q is not a date", u[1]), "write it as until 2027-01-31: reason"
			}
			s.until, s.reason = t, strings.TrimSpace(u[2])
		}
		switch {
		case s.bad != "":
		case len(s.ids) == 0:
			s.bad, s.fix = "the suppression names no rule", "write dewar: ignore[DW-XXX-001] reason"
		case s.reason == "":
			s.bad, s.fix = "the suppression gives no reason", "say after the bracket why the finding is acceptable"
		default:
			for _, id := range s.ids {
				if !ruleIDRE.MatchString(id) {
					s.bad, s.fix = fmt.Sprintf("%q is not a rule id", id), "write ids such as DW-CSRF-001, separated by commas"
				}
			}
		}
		if strings.Trim(line[:begin], " \t\ufeff") == "" { // alone: it speaks of the next line that is not a comment
			// A comment within a block of them speaks of the same line.
			for s.last = max(s.last, through); through < n && s.last < f.LineCount(); {
				s.last++
				next := strings.TrimSpace(f.Line(s.last))
				comment := false
				for _, c := range marks {
					comment = comment || strings.HasPrefix(next, c)
				}
				if !comment {
					break
				}
			}
			through = s.last
		}
		found = append(found, s)
	}
	return found
}

// covers reports whether s stands where it speaks of f.
func (s *suppression) covers(f *Finding) bool {
	if s.span.File != f.Span.File {
		return false
	}
	if f.Span.Line == 0 { // the whole file: the comment stands on its first line
		return s.first == 1
	}
	last := max(f.Span.EndLine, f.Span.Line)
	if f.Span.EndColumn == 1 && last > f.Span.Line {
		last-- // the end is exclusive
	}
	return s.first <= last && s.last >= f.Span.Line
}

// banditCWE says which weakness each of bandit's tests is about, after
// bandit's own issue.Cwe. A "# nosec B105" speaks of our rules of the same
// weakness only; a bare one speaks of all.
var banditCWE = map[string][]int{
	"B104": {605}, "B105": {259, 321, 798, 1394}, "B106": {259, 321, 798, 1394}, "B107": {259, 321, 798, 1394},
	"B102": {78, 94, 95}, "B103": {732}, "B108": {377}, "B110": {703}, "B112": {703}, "B113": {400},
	"B201": {94, 215, 489}, "B202": {22}, "B301": {502}, "B302": {502}, "B303": {327, 328}, "B304": {327}, "B305": {327},
	"B306": {377}, "B307": {78, 94, 95}, "B308": {79, 80}, "B310": {22, 918}, "B311": {330, 338}, "B312": {319},
	"B313": {20, 611}, "B314": {20, 611}, "B318": {20, 611}, "B320": {20, 611}, "B321": {319}, "B323": {295}, "B324": {327, 328},
	"B501": {295}, "B502": {327}, "B503": {327}, "B504": {327}, "B505": {326}, "B506": {20, 502}, "B507": {295}, "B508": {319},
	"B601": {78}, "B602": {78}, "B603": {78}, "B604": {78}, "B605": {78}, "B606": {78}, "B607": {78}, "B608": {89},
	"B610": {89}, "B611": {89}, "B701": {79, 94, 116, 1336}, "B702": {79, 80, 116}, "B703": {79, 80},
}

// banditTests returns the tests of bandit that a list of noqa's codes names.
func banditTests(codes string) []string {
	var out []string
	for _, c := range strings.FieldsFunc(codes, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		if len(c) == 4 && c[0] == 'S' && banditCWE["B"+c[1:]] != nil {
			out = append(out, "B"+c[1:])
		}
	}
	return out
}

// silences reports whether s, which covers f, is about f's rule.
func (s *suppression) silences(f *Finding) bool {
	if !s.nosec {
		return slices.Contains(s.ids, f.Rule.ID)
	}
	if len(s.tests) == 0 {
		return true
	}
	for _, t := range s.tests {
		for _, cwe := range banditCWE[t] {
			if slices.Contains(f.Rule.CWE, cwe) {
				return true
			}
		}
	}
	return false
}

// expired reports whether s has run out on the day of now.
func (s *suppression) expired(now time.Time) bool {
	return !s.until.IsZero() && now.UTC().Truncate(24*time.Hour).After(s.until)
}

// literals tells whether an offset into Data lies in a string literal of the
// file's Python, where a # begins no comment.
type literals struct {
	f     *File
	begin []int // of the literals, in order
	end   []int // end[i] is the greatest end of the literals up to i
}

// strings returns the string literals of the file's Python.
func (f *File) strings() *literals {
	l := &literals{f: f}
	if f.Python == nil {
		return l
	}
	// Src is Data in UTF-8: the offsets agree unless Data was in another
	// encoding. Then Src is asked where its own line and column are.
	var spans [][2]int
	for i := range f.Python.Nodes {
		switch n := &f.Python.Nodes[i]; n.Kind {
		case pysyntax.Str, pysyntax.Bytes, pysyntax.StrPart:
			spans = append(spans, [2]int{int(n.Start), int(n.End)})
		}
	}
	slices.SortFunc(spans, func(a, b [2]int) int { return a[0] - b[0] })
	last := 0
	for _, s := range spans {
		last = max(last, s[1])
		l.begin, l.end = append(l.begin, s[0]), append(l.end, last)
	}
	return l
}

// hold reports whether the offset lies in a literal.
func (l *literals) hold(offset int) bool {
	if len(l.begin) == 0 {
		return false
	}
	if len(l.f.Python.Src) != len(l.f.Data) {
		line, col := l.f.Position(offset)
		offset = l.f.Python.Offset(line, col)
	}
	i, found := slices.BinarySearch(l.begin, offset)
	if !found {
		i--
	}
	return i >= 0 && offset < l.end[i]
}
