package waf

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/waf/crssuite"
)

// outcome is what must be the same whoever judges. Coraza keeps headers and
// arguments in maps, so that which of several values it names for a match, and
// what of them it quotes, is left to chance.
func outcome(v Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "denied %v %d %q rule %d score %d of %d partial %v:", v.Denied, v.Status, v.Reason, v.RuleID, v.Score, v.Threshold, v.Partial)
	for _, m := range v.Matches {
		fmt.Fprintf(&b, " %d(%s)", m.ID, m.Severity)
	}
	return b.String()
}

// both judges a request by the compiled rules and by Coraza. why is not empty
// if the compiled rules leave it to Coraza.
func both(t testing.TB, e *Engine, r Request) (compiled, reference Verdict, why string) {
	t.Helper()
	var raw []byte
	if r.Body != nil {
		var err error
		if raw, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (body, bool) {
		if raw == nil {
			return body{}, true
		}
		r.Body = strings.NewReader(string(raw))
		b, err := e.readBody(r)
		if err != nil {
			t.Fatal(err)
		}
		return b, b.denied == ""
	}
	b, ok := read()
	if !ok {
		return Verdict{}, Verdict{}, "refused before the rules"
	}
	v := Verdict{Threshold: e.cfg.InboundThreshold, Partial: b.partial}
	compiled, why = e.inspectCompiled(r, b, v, nil)
	if why != "" {
		return compiled, Verdict{}, why
	}
	want := outcome(compiled)
	ids, union := map[int]bool{}, map[int]bool{}
	for _, m := range compiled.Matches {
		ids[m.ID] = true
	}
	for range 24 {
		var err error
		if reference, err = e.inspectReference(r, b, v); err != nil {
			t.Fatal(err)
		}
		if reference.Reference = false; outcome(reference) == want {
			return compiled, reference, ""
		}
		for _, m := range reference.Matches {
			union[m.ID] = true
		}
	}
	// Coraza may take one of several values of a name for another, by chance,
	// and then each time misses some rule; but none that it finds is missing
	// here. What it always says alike must be what the compiled rules say.
	if maps.Equal(ids, union) && reference.Denied == compiled.Denied && len(reference.Matches) < len(compiled.Matches) {
		reference = compiled
	}
	return compiled, reference, ""
}

// agree reports a request on which the compiled rules and Coraza disagree. It
// counts those left to Coraza by reason.
func agree(t testing.TB, e *Engine, name string, r Request, left map[string]int) {
	t.Helper()
	c, ref, why := both(t, e, r)
	if why != "" {
		left[why]++
		return
	}
	left[""]++
	if got, want := outcome(c), outcome(ref); got != want {
		t.Errorf("level %d, %s:\n  %s %s %v\n  compiled %s\n  coraza   %s", e.cfg.Paranoia, name, r.Method, r.URI, r.Header, got, want)
	}
}

// mostlyDecided fails if more than one in ten requests were left to Coraza:
// then the comparison would say little.
func mostlyDecided(t testing.TB, left map[string]int) {
	t.Helper()
	total := 0
	for _, n := range left {
		total += n
	}
	if left[""]*10 < total*9 {
		t.Errorf("of %d requests only %d were decided: %v", total, left[""], left)
	}
}

func TestCompiledRulesAgree(t *testing.T) {
	for level := 1; level <= 4; level++ {
		e, err := New(Config{Paranoia: level})
		if err != nil {
			t.Fatal(err)
		}
		if e.gap != "" {
			t.Fatal(e.gap)
		}
		left := map[string]int{}
		for _, a := range attacks {
			agree(t, e, a.name, a.request(t), left)
		}
		for _, h := range honests {
			agree(t, e, h.name, h.request(t), left)
		}
		mostlyDecided(t, left)
		e.Close()
	}
}

// The Core Rule Set's own tests, a fifth of them, as the engine is set up.
func TestCompiledRulesAgreeOnSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	cases, err := crssuite.Load()
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t)
	left := map[string]int{}
	for i := 0; i < len(cases); i += 5 {
		c := &cases[i]
		if c.Request == nil {
			continue
		}
		r := Request{Method: c.Request.Method, URI: c.Request.RequestURI, Proto: c.Request.Proto, Host: c.Request.Host, Header: c.Request.Header,
			TransferEncoding: c.Request.TransferEncoding, Client: netip.MustParseAddr("203.0.113.9")}
		if len(c.Body) > 0 {
			r.Body = strings.NewReader(string(c.Body))
		}
		agree(t, e, c.Name, r, left)
	}
	mostlyDecided(t, left)
}

// userRules holds one of everything that a user's rule file may do.
const userRules = `
SecRule ARGS:page "@rx ^\d+$" "id:1001,phase:1,pass,nolog,setvar:tx.page=1"
SecRule TX:page "@eq 1" "id:1002,phase:2,pass,msg:'a page',chain"
  SecRule ARGS "@contains shoes" "setvar:tx.shoes=+1,chain"
    SecRule TX:shoes "@ge 1" "t:none"
SecRule REQUEST_HEADERS:User-Agent "@pm curl wget" "id:1003,phase:1,pass,nolog,skipAfter:AFTER_TOOLS"
SecRule &REQUEST_HEADERS:Accept-Language "@eq 0" "id:1004,phase:1,pass,msg:'no language',setvar:tx.inbound_anomaly_score_pl1=+2"
SecMarker AFTER_TOOLS
SecRule REQUEST_METHOD "!@within GET POST HEAD OPTIONS" "id:1005,phase:1,pass,msg:'odd method %{MATCHED_VAR}',logdata:'%{REQUEST_LINE}'"
SecRule ARGS_NAMES|ARGS "@rx (?i)(zanzi)(bar)" "id:1006,phase:2,deny,status:406,capture,msg:'%{TX.1}-%{TX.2}',t:none,t:lowercase,t:removeWhitespace"
SecRule REQUEST_URI "@beginsWith /wiki" "id:1007,phase:1,pass,nolog,ctl:ruleRemoveById=942100-942999,ctl:ruleRemoveTargetById=941100-941999;ARGS:/^t/"
SecRule REQUEST_FILENAME "@endsWith /free" "id:1008,phase:1,allow:request,msg:'free'"
SecRule REQUEST_FILENAME "@streq /skip" "id:1009,phase:2,pass,nolog,skip:2"
SecRule ARGS "@rx x" "id:1010,phase:2,pass,msg:'x'"
SecAction "id:1011,phase:2,pass,msg:'always'"
SecRule REQUEST_COOKIES:theme|!REQUEST_COOKIES:theme2 "@streq dark" "id:1012,phase:1,pass,msg:'dark',multiMatch,t:none,t:urlDecodeUni,t:lowercase"
SecRule ARGS|!ARGS:/^sec/ "@rx (?:foo){2,}" "id:1013,phase:2,drop,msg:'foofoo'"
SecRule ARGS "@validateByteRange 9,10,13,32-255" "id:1014,phase:2,redirect:'https://example.com/',msg:'bytes'"
SecRule ARGS:/^num/ "@gt 10" "id:1015,phase:2,pass,msg:'big',t:length,setvar:'tx.big_%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule TX:/^big_/ "@rx 1" "id:1016,phase:2,pass,msg:'big with 1'"
SecRule REMOTE_ADDR "@ipMatch 203.0.113.0/24" "id:1017,phase:1,pass,nolog,setvar:tx.page=%{tx.page}-%{REMOTE_ADDR}"
SecRule ARGS "@rx ^(a+)(b?)$" "id:1018,phase:2,pass,capture,msg:'ab',chain"
  SecRule TX:2 "@streq b" "chain"
    SecRule MATCHED_VARS "@unconditionalMatch"
SecRule FILES|FILES_NAMES|MULTIPART_PART_HEADERS "@rx (?i)\.exe" "id:1019,phase:2,deny,msg:'exe'"
SecRule XML:/*|XML://@* "@contains secret" "id:1020,phase:2,deny,status:409,msg:'secret'"
SecRule REQUEST_BODY|REQUEST_LINE "@rx \xe9\x80" "id:1021,phase:2,pass,msg:'latin'"
SecRule ARGS_COMBINED_SIZE "@gt 500" "id:1022,phase:2,pass,msg:'long'"
SecRule ARGS_GET:mode|ARGS_POST:mode "@pmFromFile words.data" "id:1023,phase:2,pass,msg:'word'"
SecRule REQUEST_HEADERS|!REQUEST_HEADERS:Cookie|!REQUEST_HEADERS:/^sec-/ "@rx q=0\.[0-3]" "id:1024,phase:1,pass,msg:'q'"
SecRuleUpdateTargetById 942100 "!ARGS:safe"
SecRuleUpdateTargetByTag attack-xss "!ARGS:html"
SecRuleRemoveById 920320
SecRuleRemoveByTag attack-injection-php
SecRuleUpdateActionById 941160 "pass,nolog,setvar:tx.seen=1"
`

// variants are engines that differ in what their rules do.
func variants(t testing.TB) map[string]*Engine {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"words.data": "zanzibar\n# a comment\nTimbuktu now\n", "user.conf": userRules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]*Engine{}
	for name, cfg := range map[string]Config{
		"level 1": {}, "level 2": {Paranoia: 2}, "level 3": {Paranoia: 3, InboundThreshold: 1000}, "level 4": {Paranoia: 4, InboundThreshold: 1000},
		"exclusions": {Paranoia: 2, Exclude: []Exclusion{{Rules: []int{942100, 941100, 920280}, Parameters: []string{"q", "a.*.b"}}, {Rules: []int{942190, 932160, 920450}}, {Parameters: []string{"text"}}}},
		"user rules": {InboundThreshold: 20, RuleFiles: []string{filepath.Join(dir, "user.conf")}},
	} {
		e, err := New(cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { e.Close() })
		if e.gap != "" {
			t.Fatalf("%s: %s", name, e.gap)
		}
		out[name] = e
	}
	return out
}

// mutator makes requests of pieces of others.
type mutator struct {
	*rand.Rand
	cases []crssuite.Case
	texts []string
}

func newMutator(t testing.TB, seed uint64) *mutator {
	t.Helper()
	cases, err := crssuite.Load()
	if err != nil {
		t.Fatal(err)
	}
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 99))}
	for _, c := range cases {
		if c.Request == nil {
			continue
		}
		m.cases = append(m.cases, c)
		for _, vs := range c.Request.URL.Query() {
			m.texts = append(m.texts, vs...)
		}
		if form, err := url.ParseQuery(string(c.Body)); err == nil {
			for _, vs := range form {
				m.texts = append(m.texts, vs...)
			}
		}
	}
	m.texts = append(m.texts, "shoes", "zanzi bar", "foofoo", "aab", "42", "x", "", "secret", "a.exe", "\xe9\x80", "\u00fc", "Timbuktu NOW", "1'or'1'='1", "\x00", "%u0061", "&#97;", "${jndi:x}", "{{7*7}}")
	return m
}

func pick[T any](m *mutator, list []T) T { return list[m.IntN(len(list))] }

// text returns a payload, or pieces of several.
func (m *mutator) text() string {
	s := pick(m, m.texts)
	for m.IntN(3) == 0 {
		o := pick(m, m.texts)
		switch m.IntN(5) {
		case 0:
			s += o
		case 1:
			s = s[:m.IntN(len(s)+1)] + o
		case 2:
			s = s[m.IntN(len(s)+1):]
		case 3:
			s = url.QueryEscape(s)
		case 4:
			if len(s) > 0 {
				b := []byte(s)
				b[m.IntN(len(b))] = byte(m.Uint32())
				s = string(b)
			}
		}
	}
	return s[:min(len(s), 600)]
}

var mutantNames = []string{"q", "text", "page", "mode", "num1", "num2", "safe", "html", "sec_a", "a.b", "theme", "_method", "Q", "json.x", "path"}

// request makes a request.
func (m *mutator) request() Request {
	var r Request
	if m.IntN(2) == 0 {
		c := pick(m, m.cases)
		r = Request{Method: c.Request.Method, URI: c.Request.RequestURI, Proto: c.Request.Proto, Host: c.Request.Host, Header: c.Request.Header.Clone(),
			TransferEncoding: c.Request.TransferEncoding, Client: netip.MustParseAddr(pick(m, []string{"203.0.113.9", "198.51.100.1", "127.0.0.1"}))}
		if len(c.Body) > 0 {
			r.Body = strings.NewReader(string(c.Body))
		}
		if m.IntN(3) == 0 {
			return r
		}
	} else {
		r = browser(pick(m, []string{"GET", "POST", "PUT", "BREW"}), pick(m, []string{"/", "/wiki/a", "/x/free", "/skip", "/a.b/c%2f..%2f", "/search"}))
	}
	var args []string
	for range m.IntN(4) {
		args = append(args, pick(m, mutantNames)+"="+url.QueryEscape(m.text()))
	}
	if len(args) > 0 && !strings.Contains(r.URI, "?") && strings.HasPrefix(r.URI, "/") {
		r.URI += "?" + strings.Join(args, "&")
	}
	value := func(s string) string {
		return strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return -1
			}
			return c
		}, s)
	}
	for range m.IntN(3) {
		name := pick(m, []string{"User-Agent", "Referer", "Cookie", "X-Filename", "Accept", "Accept-Language", "Content-Encoding", "Range", "X-Any", "Host2"})
		v := value(m.text())
		if name == "Cookie" {
			v = pick(m, mutantNames) + "=" + v + "; theme=dark"
		}
		if m.IntN(3) == 0 {
			r.Header[name] = append(r.Header[name], v)
		} else {
			r.Header[name] = []string{v}
		}
	}
	var fields []string
	for range 1 + m.IntN(3) {
		fields = append(fields, m.text())
	}
	switch m.IntN(7) {
	case 0, 1:
		var pairs []string
		for i, f := range fields {
			pairs = append(pairs, mutantNames[(i*5+m.IntN(5))%len(mutantNames)]+"="+url.QueryEscape(f))
		}
		r = withBody(r, form, strings.Join(pairs, "&"))
	case 2:
		obj := map[string]any{}
		for _, f := range fields {
			obj[pick(m, mutantNames)] = []any{f, map[string]any{"b": f, "n": 1, "z": nil}}
		}
		text, _ := json.Marshal(obj)
		r = withBody(r, pick(m, []string{"application/json", "text/plain", "application/vnd.a+json"}), string(text))
	case 3:
		var b strings.Builder
		b.WriteString("<?xml version='1.0'?><r>")
		for _, f := range fields {
			fmt.Fprintf(&b, "<a k=%q>", f)
			xml.EscapeText(&b, []byte(f))
			b.WriteString("</a>")
		}
		r = withBody(r, "application/xml", b.String()+"</r>")
	case 4:
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, f := range fields {
			if m.IntN(3) == 0 {
				w.CreateFormFile(pick(m, mutantNames), value(f))
			} else {
				w.WriteField(pick(m, mutantNames), f)
			}
		}
		w.Close()
		r = withBody(r, w.FormDataContentType(), b.String())
	case 5:
		r = withBody(r, pick(m, []string{"text/plain", "application/octet-stream", "image/png", ""}), strings.Join(fields, "\n"))
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	return r
}

// Requests made of pieces of the Core Rule Set's own tests get the same
// verdict from the compiled rules as from Coraza, at every level, with
// exclusions and with a user's rules.
func TestCompiledRulesAgreeOnMutants(t *testing.T) {
	n := 60
	if testing.Short() {
		n = 15
	}
	if v, err := strconv.Atoi(os.Getenv("WAF_MUTANTS")); err == nil {
		n = v
	}
	for name, e := range variants(t) {
		t.Run(name, func(t *testing.T) {
			m := newMutator(t, uint64(len(name)))
			if seed, err := strconv.Atoi(os.Getenv("WAF_SEED")); err == nil {
				m = newMutator(t, uint64(seed))
			}
			left := map[string]int{}
			for i := range n {
				r := m.request()
				if m.IntN(3) == 0 {
					plan, err := e.Plan(Exclusion{Parameters: []string{pick(m, mutantNames)}}, Exclusion{Rules: []int{942100, 932130}, Parameters: []string{"text"}})
					if err != nil {
						t.Fatal(err)
					}
					r.Plan = plan
				}
				agree(t, e, fmt.Sprint("mutant ", i), r, left)
				if t.Failed() {
					return
				}
			}
			t.Log(left)
			if left[""]*3 < n*2 {
				t.Errorf("only %d of %d decided: %v", left[""], n, left)
			}
		})
	}
}

// FuzzCompiledRules compares the verdicts on requests that a fuzzer makes up.
func FuzzCompiledRules(f *testing.F) {
	for _, a := range attacks[:20] {
		r := a.request(f)
		var text []byte
		if r.Body != nil {
			text, _ = io.ReadAll(r.Body)
		}
		f.Add(r.Method, r.URI, "X-A", r.Header.Get("Referer"), r.Header.Get("Content-Type"), string(text))
	}
	f.Add("POST", "/wiki/x?page=12&q=shoes&mode=Timbuktu%20now", "Cookie", "theme=DARK", "application/json", `{"num1":"12345678901","sec_a":"foofoo","a":"aab"}`)
	engines := variants(f)
	f.Fuzz(func(t *testing.T, method, uri, name, value, contentType, text string) {
		if len(uri)+len(value)+len(text) > 2000 || len(name) == 0 {
			return
		}
		for _, which := range []string{"level 1", "level 4", "user rules"} {
			r := browser(method, uri)
			r.Header[name] = append(r.Header[name], value)
			if text != "" {
				r = withBody(r, contentType, text)
			}
			agree(t, engines[which], which, r, map[string]int{})
		}
	})
}

// Responses get the same verdict, too.
func TestCompiledResponsesAgree(t *testing.T) {
	cases, err := crssuite.Load()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(page().Body), "", "<h1>Welcome</h1>", "You have an error in your SQL syntax near ''"}
	for _, c := range cases {
		if c.Response != "" {
			texts = append(texts, c.Response, "<p>"+c.Response+"</p>\n"+c.Response[:len(c.Response)/2])
		}
	}
	for level := 1; level <= 4; level++ {
		e, err := New(Config{Paranoia: level, Responses: true})
		if err != nil {
			t.Fatal(err)
		}
		if gaps := e.compiledResponses.Gaps(); len(gaps) > 0 {
			t.Fatal(gaps)
		}
		matched := 0
		for i, text := range texts {
			r := Response{Status: []int{200, 404, 500}[i%3], Proto: "HTTP/1.1", Body: []byte(text), Header: http.Header{"Content-Type": {[]string{"text/html; charset=utf-8", "text/plain", "application/json", "image/png"}[i%4]}}}
			if i%7 == 0 {
				r.Header["Content-Encoding"] = []string{"gzip"}
			}
			v := Verdict{Threshold: e.cfg.OutboundThreshold}
			c, why := e.inspectResponseCompiled(r, v)
			ref, err := e.inspectResponseReference(r, v)
			if err != nil {
				t.Fatal(err)
			}
			if why != "" {
				t.Errorf("level %d, %q: left to Coraza: %s", level, text, why)
			} else if got, want := outcome(c), outcome(ref); got != want {
				t.Errorf("level %d, %q:\n  compiled %s\n  coraza   %s", level, text, got, want)
			}
			matched += len(ref.Matches)
		}
		if matched < len(texts)/3 {
			t.Errorf("level %d: only %d matches", level, matched)
		}
		e.Close()
	}
}

// A rule file with something that is not compiled leaves what comes to it to
// Coraza, and says so.
func TestGapIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "user.conf")
	if err := os.WriteFile(file, []byte("SecRule REQUEST_FILENAME \"@streq /x\" \"id:1,phase:1,deny,msg:'m',chain\"\nSecRule TIME_YEAR \"@gt 2000\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{RuleFiles: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if want := "rule 1 in " + file + ": looks at TIME_YEAR"; e.Gap() != want {
		t.Errorf("gap %q", e.Gap())
	}
	if v := inspect(t, e, browser("GET", "/x")); !v.Denied || v.RuleID != 1 || !v.Reference {
		t.Errorf("%+v", v)
	}
	if v := inspect(t, e, browser("GET", "/y")); v.Denied {
		t.Errorf("%+v", v)
	}
	brief := browser("GET", "/x")
	brief.Brief = true
	if v := inspect(t, e, brief); !v.Denied || v.Reason != ReasonBusy || v.Status != 429 || v.Reference {
		t.Errorf("%+v", v)
	}
}

// What passes does so without Coraza; what is refused, Coraza has confirmed,
// unless the request was to be brief.
func TestWhoJudges(t *testing.T) {
	e := engine(t)
	if v := inspect(t, e, param("blue shoes")(t)); v.Denied || v.Reference {
		t.Errorf("%+v", v)
	}
	for _, brief := range []bool{false, true} {
		r := param("1' OR '1'='1")(t)
		r.Brief = brief
		if v := inspect(t, e, r); !v.Denied || v.Reason != ReasonAttack || v.Reference == brief {
			t.Errorf("brief %v: %+v", brief, v)
		}
	}
	reference, err := New(Config{Reference: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reference.Close()
	if v := inspect(t, reference, param("blue shoes")(t)); v.Denied || !v.Reference || reference.Gap() == "" {
		t.Errorf("%+v %q", v, reference.Gap())
	}
}
