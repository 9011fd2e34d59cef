package seclang

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types/variables"
	"github.com/corazawaf/libinjection-go"
)

func newWAF(t testing.TB, directives string) coraza.WAF {
	t.Helper()
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(directives))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func program(t testing.TB, directives string) *Program {
	t.Helper()
	p, err := Load(newWAF(t, directives), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// allTransformations are the names of Coraza's transformations in rules.
var allTransformations = []string{
	"base64Decode", "base64DecodeExt", "base64Encode", "cmdLine", "compressWhitespace", "cssDecode", "escapeSeqDecode",
	"hexDecode", "hexEncode", "htmlEntityDecode", "jsDecode", "length", "lowercase", "md5", "normalisePath",
	"normalisePathWin", "normalizePath", "normalizePathWin", "removeComments", "removeCommentsChar", "removeNulls",
	"removeWhitespace", "replaceComments", "replaceNulls", "sha1", "uppercase", "urlDecode", "urlDecodeUni", "urlEncode",
	"utf8toUnicode", "trim", "trimLeft", "trimRight",
}

// transformations returns them as the loader found them in compiled rules.
func transformations(t testing.TB) map[string]step {
	t.Helper()
	var rules strings.Builder
	for i, name := range allTransformations {
		fmt.Fprintf(&rules, "SecRule ARGS \"@rx x\" \"id:%d,phase:2,pass,nolog,t:%s\"\n", i+1, name)
	}
	p := program(t, rules.String())
	if gaps := p.Gaps(); len(gaps) > 0 {
		t.Fatal(gaps)
	}
	out := map[string]step{}
	for i, name := range allTransformations {
		if r := p.rules[i]; len(r.steps) != 1 {
			t.Fatalf("%s: %v", name, r.steps)
		} else {
			out[name] = r.steps[0]
		}
	}
	return out
}

// pieces are what texts are made of: everything that some transformation or
// operator treats specially.
var pieces = []string{
	"a", "Z", "0", "9", "f", " ", "\t", "\n", "\r", "\v", "\f", "\x00", "%", "%41", "%u0041", "%zz", "+", "\\", "\\x41", "\\u0041", "\\101",
	"&lt;", "&#65;", "&", "/", "/*", "*/", "<!--", "-->", "--", "#", ".", "..", "./", "//", ":", ";", ",", "(", ")", "^", "\"", "'", "`",
	"=", "<", ">", "_", "-", "@", "!", "\u00e9", "\u00a0", "\x85", "\xa0", "\xff", "\u0130", "\u212a", "union", "select", "or", "1=1", "script", "onload",
	"{", "}", "[", "]", "|", "$", "?", "~", "\x7f", "\x1b",
}

func randomText(r *rand.Rand, from []string) string {
	var b strings.Builder
	for range r.IntN(9) {
		b.WriteString(from[r.IntN(len(from))])
	}
	return b.String()
}

// A transformation changes no text that holds none of its triggers.
func TestTriggers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, s := range transformations(t) {
		trigger, ok := triggers[s.name]
		if !ok {
			t.Errorf("%s is %s to Coraza, which is unknown", name, s.name)
			continue
		}
		if trigger == anything {
			continue
		}
		quiet := slices.DeleteFunc(slices.Clone(pieces), func(p string) bool { return charsetOf(p)&trigger != 0 })
		for range 20000 {
			in := randomText(r, quiet)
			if out, _, err := s.fn(in); err != nil || out != in {
				t.Errorf("%s(%q) = %q, %v", name, in, out, err)
				break
			}
		}
	}
}

// A transformation leaves a text as it is if that is said beforehand.
func TestSameTransformations(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tried := map[string]int{}
	for name, s := range transformations(t) {
		f := same[s.name]
		if f == nil {
			continue
		}
		for range 20000 {
			in := randomText(r, pieces)
			if !f(in, charsetOf(in)) {
				continue
			}
			tried[s.name]++
			if out, _, err := s.fn(in); err != nil || out != in {
				t.Fatalf("%s(%q) = %q", name, in, out)
			}
		}
	}
	for name := range same {
		if tried[name] < 1000 {
			t.Errorf("%s: %d texts tried", name, tried[name])
		}
	}
}

// Transformations written anew are Coraza's.
func TestQuickTransformations(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ascii := slices.DeleteFunc(slices.Clone(pieces), func(p string) bool { return charsetOf(p)&hasHigh != 0 })
	tried := 0
	for name, s := range transformations(t) {
		f := quick[s.name]
		if f == nil {
			continue
		}
		tried++
		for range 20000 {
			in := randomText(r, ascii)
			want, changed, err := s.fn(in)
			if got := f(in); err != nil || got != want || changed != (got != in) {
				t.Fatalf("%s(%q) = %q, want %q, %v", name, in, got, want, changed)
			}
		}
	}
	if tried != len(quick) {
		t.Errorf("%d of %d tried", tried, len(quick))
	}
}

// What is left out of libinjection is nothing to it.
func TestInjectionShortcuts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	words := append([]string{"json.", "12.5", "select", "union", "drop", "null", "sleep", "user", "x", "n", "b", "e", "u", "q", "like", "in", "is", "not", "if", "begin"}, pieces...)
	sqli, xss := 0, 0
	for range 200000 {
		s := randomText(r, words)
		if r.IntN(4) == 0 {
			s = "json." + strings.ReplaceAll(s, " ", ".")
		}
		set := charsetOf(s)
		if oneWord(s, set) {
			sqli++
			if bad, print := libinjection.IsSQLi(s); bad {
				t.Fatalf("%q is an SQL injection (%s)", s, print)
			}
		}
		if set&(hasLess|hasEquals) == 0 {
			xss++
			if libinjection.IsXSS(s) {
				t.Fatalf("%q is XSS", s)
			}
		}
	}
	if sqli < 1000 || xss < 1000 {
		t.Errorf("only %d and %d texts tried", sqli, xss)
	}
}

// collectionRules let every list and single value be read; one rule keeps
// Coraza parsing bodies of any kind.
const collectionRules = `
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyJsonDepthLimit 20
SecArgumentsLimit 30
SecRule REQUEST_HEADERS:X-Parser "@rx ." "id:1,phase:1,pass,nolog,chain"
SecRule REQUEST_HEADERS:X-Parser "@streq JSON" "ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:X-Parser "@streq XML" "id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:X-Parser "@streq FORCE" "id:3,phase:1,pass,nolog,ctl:forceRequestBodyVariable=On"
`

// FuzzCollections compares all variables of a request with Coraza's.
func FuzzCollections(f *testing.F) {
	for _, parser := range []string{"", "JSON", "XML", "FORCE"} {
		f.Add("GET", "/a/b.php?x=1&y=%41+b&=c&d&x=%zz&&X=2#f", "Cookie", " a=b; c; =d;e=f=g ;; \x01h=i", "", parser, "a=1&b=%20&a=2&c")
		f.Add("POST", "/%zz?a=1", "X-A", "v", "application/x-www-form-urlencoded; charset=x", parser, "a=1&b=%20&a=2&c")
		f.Add("POST", "*", "Content-Type", "text/plain", "\u00a0multipart/form-data; boundary=XX", parser, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\nX-B: c\r\n\r\nhello\r\n--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n\r\nfile\r\n--XX--\r\n")
		f.Add("POST", "http://h/p\\q/", "x-a", "w", "application/json", parser, `{"a":[1,"b",{"c":null,"c":true,"":2.50}],"A":"\u0041\n","a.b":{}, "d":[[[]]]}`)
		f.Add("POST", "/", "x-a", "w", "application/json", parser, strings.Repeat("[", 30))
		f.Add("POST", "/", "x-a", "w", "text/xml", parser, `<a b="c">t<d e='f'/> <![CDATA[g]]>&lt;<br>h`)
		f.Add("POST", "/?"+strings.Repeat("a=b&", 40), "x-a", "w", "", parser, strings.Repeat("a=b&", 40))
	}
	for _, uri := range []string{"/", "//a/b?c", "/a//b", "/?", "/a?b?c", "/a:b", "/~a-b_c.d?e=%zz&f=\x7f", "/a?b=\u00fc", "/a*b", "/a;b=1", "/%41?a", "/a?#b", "?a=1", "a/b", "/a b", "/a?b c"} {
		f.Add("GET", uri, "x-a", "w", "", "", "")
	}
	w := newWAF(f, collectionRules)
	p, err := Load(w, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, uri, name, value, contentType, parser, body string) {
		tx := w.NewTransaction()
		defer tx.Close()
		x := p.NewTransaction()
		defer x.Close()
		for _, h := range []interface {
			ProcessConnection(string, int, string, int)
			ProcessURI(uri, method, proto string)
			AddRequestHeader(name, value string)
			AddPathRequestArgument(name, value string)
			SetServerName(string)
		}{tx, x} {
			h.ProcessConnection("192.0.2.1", 1, "192.0.2.2", 2)
			h.ProcessURI(uri, method, "HTTP/1.1")
			h.AddPathRequestArgument("path", value)
			h.AddRequestHeader("Content-Type", contentType)
			h.AddRequestHeader("X-Parser", parser)
			h.AddRequestHeader(name, value)
			h.AddRequestHeader("Cookie", body)
			h.SetServerName("h")
		}
		tx.ProcessRequestHeaders()
		if !x.ProcessRequestHeaders() {
			t.Fatalf("stopped: %+v %s", x.denied, x.unsure)
		}
		if len(body) > 0 {
			if _, _, err := tx.WriteRequestBody([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.ProcessRequestBody(); err != nil {
			t.Fatal(err)
		}
		x.ProcessRequestBody([]byte(body))
		if x.unsure != "" {
			return
		}
		state := tx.(plugintypes.TransactionState)
		for v, vs := range views {
			var want, got []string
			if c := state.Collection(v); c != nil {
				for _, m := range c.FindAll() {
					want = append(want, fmt.Sprintf("%q %q", m.Key(), m.Value()))
				}
			}
			for _, w := range vs {
				for _, e := range x.lists[w.list] {
					if w.names {
						e.value = e.key
					}
					if e.fold != strings.ToLower(e.key) {
						t.Errorf("%q is folded to %q", e.key, e.fold)
					}
					got = append(got, fmt.Sprintf("%q %q", e.key, e.value))
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(want, got) {
				t.Errorf("%s:\n%q\ncoraza:\n%q", v.Name(), got, want)
			}
		}
		for v := range singles {
			if matchedVariable(v) {
				continue
			}
			want := ""
			if m := state.Collection(v).FindAll(); len(m) == 1 {
				want = m[0].Value()
			}
			if got := x.singles[v].value; got != want {
				t.Errorf("%s = %q, coraza %q", v.Name(), got, want)
			}
		}
		if m := state.Collection(variables.ArgsCombinedSize).FindAll(); m[0].Value() != x.argumentsSize() {
			t.Errorf("ARGS_COMBINED_SIZE = %s, coraza %s", x.argumentsSize(), m[0].Value())
		}
	})
}

// What the loader does not know makes a gap, by rule and reason, and the
// transaction that comes to it is left to Coraza.
func TestGaps(t *testing.T) {
	for text, want := range map[string]string{
		`SecRule TIME_HOUR "@gt 3" "id:7,phase:1,pass,msg:'m'"`:                                          "rule 7: looks at TIME_HOUR",
		`SecRule REMOTE_ADDR "@geoLookup" "id:7,phase:1,pass,msg:'m'"`:                                   "rule 7: operator @geoLookup",
		`SecRule ARGS "@validateNid cl .*" "id:7,phase:1,pass,msg:'m'"`:                                  "rule 7: operator @validateNid",
		`SecRule MATCHED_VAR "@rx ." "id:7,phase:1,pass,msg:'m'"`:                                        "rule 7: looks at MATCHED_VAR outside of a chain",
		`SecRule REQUEST_METHOD "@streq %{time_hour}" "id:7,phase:1,pass,msg:'m'"`:                       "rule 7: TIME_HOUR in a macro",
		"SecRuleEngine Off\nSecAction \"id:7,phase:1,pass\"":                                             "SecRuleEngine is Off",
		`SecRule REQUEST_METHOD "@rx ." "id:7,phase:1,pass,msg:'m',chain"` + "\nSecRule ENV:A \"@rx x\"": "rule 7: looks at ENV",
	} {
		p := program(t, text)
		gaps := p.Gaps()
		if len(gaps) != 1 || gaps[0] != want {
			t.Errorf("%s: %q", text, gaps)
		}
		x := p.NewTransaction()
		x.ProcessURI("/?a=1", "GET", "HTTP/1.1")
		x.ProcessConnection("192.0.2.1", 1, "", 0)
		if !strings.Contains(text, "Engine") && (x.ProcessRequestHeaders() || x.Unsure() == "") {
			t.Errorf("%s: decided", text)
		}
		x.Close()
	}
	// Actions that are not modelled matter only when they are run.
	p := program(t, `SecRule ARGS:a "@streq 1" "id:7,phase:1,pass,nolog,ctl:requestBodyAccess=Off"`)
	if len(p.Gaps()) != 0 {
		t.Error(p.Gaps())
	}
	for uri, unsure := range map[string]bool{"/?a=1": true, "/?a=2": false} {
		x := p.NewTransaction()
		x.ProcessURI(uri, "GET", "HTTP/1.1")
		x.ProcessRequestHeaders()
		if (x.Unsure() != "") != unsure {
			t.Errorf("%s: %q", uri, x.Unsure())
		}
		x.Close()
	}
}

// What is decided beforehand is what the rules would have come to.
func TestFold(t *testing.T) {
	p := program(t, `
SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=2,setvar:tx.sum=1"
SecRule &TX:level "@eq 0" "id:2,phase:1,pass,nolog,setvar:tx.level=1"
SecRule TX:level "@lt 2" "id:3,phase:1,pass,nolog,skipAfter:END"
SecAction "id:4,phase:1,pass,nolog,setvar:tx.sum=+10"
SecRule TX:level "@lt 3" "id:5,phase:1,pass,nolog,skipAfter:END"
SecAction "id:6,phase:1,pass,nolog,setvar:tx.sum=+100"
SecMarker END
SecRule ARGS:skip "@streq 1" "id:7,phase:1,pass,nolog,skipAfter:LATER"
SecAction "id:8,phase:1,pass,nolog,setvar:tx.sum=+1000"
SecMarker LATER
SecRule TX:sum "@eq 1011" "id:9,phase:1,pass,msg:'all'"
SecRule ARGS:skip "@streq 2" "id:10,phase:1,pass,nolog,skip:1"
SecAction "id:11,phase:1,pass,nolog,setvar:tx.sum=9"
SecRule TX:sum "@eq 9" "id:12,phase:1,pass,msg:'nine'"
`)
	run := 0
	for _, op := range p.phases[1] {
		if op.rule != nil && op.rule.mark == "" {
			run++
		}
	}
	if run > 6 {
		t.Errorf("%d rules are left to run", run)
	}
	for uri, want := range map[string]string{"/": "9 12", "/?skip=1": "12", "/?skip=2": "9"} {
		x := p.NewTransaction()
		x.ProcessURI(uri, "GET", "HTTP/1.1")
		x.ProcessRequestHeaders()
		var ids []string
		for _, m := range x.Matches() {
			ids = append(ids, fmt.Sprint(m.ID))
		}
		if got := strings.Join(ids, " "); got != want || x.Unsure() != "" {
			t.Errorf("%s: %s %s, want %s", uri, got, x.Unsure(), want)
		}
		x.Close()
	}
	// With both, skip counts from behind the marker.
	p2 := program(t, `
SecAction "id:1,phase:1,pass,nolog,skipAfter:M,skip:1"
SecAction "id:2,phase:1,pass,msg:'two'"
SecMarker M
SecAction "id:3,phase:1,pass,nolog,setvar:tx.v=1"
SecRule TX:v "@eq 1" "id:4,phase:1,pass,msg:'four'"
SecAction "id:5,phase:1,pass,msg:'five'"
`)
	y := p2.NewTransaction()
	y.ProcessRequestHeaders()
	if m := y.Matches(); len(m) != 1 || m[0].ID != 5 {
		t.Errorf("skip and skipAfter: %+v", m)
	}
	y.Close()
	// A rule that was decided beforehand and is taken out changes the rest.
	x := p.NewTransaction()
	x.Exclude(p.Exclusions([]int{4}, nil))
	x.ProcessURI("/", "GET", "HTTP/1.1")
	if x.ProcessRequestHeaders() || x.Unsure() == "" {
		t.Error("rule 4 is taken out and still counted")
	}
	x.Close()
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	for i := range 100000 {
		c.put(1, fmt.Sprint(strings.Repeat("x", 200+i%2*3700), i), hits{1})
	}
	c.put(1, "last", hits{1})
	total := 0
	for _, t := range [...]table{c.small, c.large} {
		for i := range t {
			if e := t[i].Load(); e != nil {
				total += len(e.value) + 64
			}
		}
	}
	if total > 16<<20 || total < 8<<20 {
		t.Errorf("%d bytes are kept", total)
	}
	if _, ok := c.get(2, "last"); ok {
		t.Error("another class has the value")
	}
	if h, ok := c.get(1, "last"); !ok || !h.has(1) {
		t.Error("the last value is forgotten")
	}
	if c.put(1, strings.Repeat("x", largeValue+1), hits{2}); len(c.put(1, "", nil)) != 0 {
		t.Error("nothing became something")
	}
	if _, ok := c.get(1, strings.Repeat("x", largeValue+1)); ok {
		t.Error("a value too long is kept")
	}
}

// Thousands of variables with names made at run time are counted in time and
// right.
func TestManyVariables(t *testing.T) {
	p := program(t, `
SecArgumentsLimit 5000
SecRule ARGS_NAMES "@rx ." "id:1,phase:1,pass,nolog,setvar:'tx.count_%{MATCHED_VAR_NAME}=+1'"
SecRule TX:/^count_/ "@gt 1" "id:2,phase:1,pass,msg:'twice %{MATCHED_VAR_NAME}'"
SecRule &TX:/^count_/ "@eq 4001" "id:3,phase:1,pass,msg:'all'"
`)
	var query strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&query, "a%d=1&", i)
	}
	query.WriteString("b=1&b=2")
	x := p.NewTransaction()
	defer x.Close()
	x.ProcessURI("/?"+query.String(), "GET", "HTTP/1.1")
	if !x.ProcessRequestHeaders() {
		t.Fatal(x.Unsure())
	}
	if m := x.Matches(); len(m) != 2 || m[0].ID != 2 || m[0].Message != "twice TX:count_args_names:b" || m[1].ID != 3 {
		t.Errorf("%+v", m)
	}
}
