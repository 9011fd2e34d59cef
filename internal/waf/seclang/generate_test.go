package seclang

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
)

// generator writes rule files of everything that the package models.
type generator struct {
	*rand.Rand
	id, markers int
}

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

var generatedTargets = []string{
	"ARGS", "ARGS:a", "ARGS:/^b/", "ARGS|!ARGS:a", "ARGS|!ARGS:/^b/", "ARGS_NAMES", "ARGS_GET", "ARGS_POST", "ARGS_GET_NAMES|ARGS_POST_NAMES", "ARGS_NAMES:a",
	"&ARGS", "&ARGS:a", "&ARGS_POST", "REQUEST_HEADERS", "REQUEST_HEADERS:User-Agent", "REQUEST_HEADERS|!REQUEST_HEADERS:X-A", "REQUEST_HEADERS_NAMES",
	"&REQUEST_HEADERS:X-B", "REQUEST_COOKIES", "REQUEST_COOKIES_NAMES", "REQUEST_COOKIES:/c/", "REQUEST_URI", "REQUEST_FILENAME", "REQUEST_BASENAME",
	"REQUEST_METHOD", "REQUEST_LINE|ARGS", "QUERY_STRING", "REQUEST_BODY", "ARGS_COMBINED_SIZE", "REMOTE_ADDR", "REQBODY_PROCESSOR", "ARGS|REQUEST_COOKIES|REQUEST_HEADERS:X-A",
	"TX:v1", "TX:v2", "&TX:v3", "TX:/^v/", "&TX:/^v/", "HIGHEST_SEVERITY", "REQUEST_URI|!REQUEST_URI",
}

var chainedTargets = []string{"MATCHED_VAR", "MATCHED_VARS", "MATCHED_VAR_NAME", "MATCHED_VARS_NAMES", "&MATCHED_VARS", "TX:0", "TX:1", "TX:2", "TX:v1"}

func (g *generator) operator() string {
	not := ""
	if g.IntN(6) == 0 {
		not = "!"
	}
	switch g.IntN(9) {
	case 0:
		return not + "@" + g.pick("eq", "ge", "gt", "le", "lt") + " " + g.pick("0", "1", "2", "3", "10", "%{tx.v1}", "%{tx.v2}", "x")
	case 1:
		return not + "@" + g.pick("streq", "contains", "beginsWith", "endsWith", "within", "strmatch") + " " + g.pick("foo", "bar", "a b", "GET", "%{tx.v1}", "foo%{tx.v2}bar", "/p", "1", "%{REQUEST_METHOD}", "%{ARGS.a}")
	case 2:
		return not + "@pm " + g.pick("foo bar", "select union", "x", "get post")
	case 3:
		return not + "@" + g.pick("detectSQLi", "detectXSS", "validateUrlEncoding", "validateUtf8Encoding", "unconditionalMatch", "noMatch", "validateByteRange 32-126", "validateByteRange 9,10,13,32-255", "ipMatch 192.0.2.0/24")
	}
	return not + "@rx " + g.pick("foo", "(?i)FOO", "^(.)(.)?", "^$", "b.r", "(f)(o+)|(b)", `\d+`, "(?i)select|union", "^/", "x|y|z", `[^a-z]`, `\xe9`, "a{2}", `\bfoo\b`, ".", "GET|POST")
}

func (g *generator) actions(head bool) string {
	var a []string
	add := func(format string, args ...any) { a = append(a, fmt.Sprintf(format, args...)) }
	for range g.IntN(3) {
		add("t:%s", g.pick("none", "lowercase", "uppercase", "urlDecodeUni", "removeWhitespace", "compressWhitespace", "length", "htmlEntityDecode", "jsDecode",
			"base64Decode", "hexEncode", "cmdLine", "normalizePath", "normalizePathWin", "removeNulls", "replaceComments", "utf8toUnicode", "trim", "sha1", "hexDecode"))
	}
	if g.IntN(3) == 0 {
		add("capture")
	}
	if g.IntN(6) == 0 {
		add("multiMatch")
	}
	for range g.IntN(3) {
		key := g.pick("v1", "v2", "v3", "v1", "v_%{MATCHED_VAR_NAME}", "v_%{tx.1}")
		value := g.pick("1", "2", "foo", "+1", "-1", "+%{tx.v1}", "%{tx.v2}", "%{MATCHED_VAR}", "%{tx.0}x", "%{REQUEST_METHOD}", "+", "+x", "-tx.v9")
		add("setvar:'tx.%s=%s'", key, value)
	}
	if g.IntN(8) == 0 {
		n := g.IntN(20) + 1
		add("ctl:%s", g.pick(fmt.Sprintf("ruleRemoveById=%d", n), fmt.Sprintf("ruleRemoveById=%d-%d", n, n+3), fmt.Sprintf("ruleRemoveTargetById=%d;ARGS:a", n),
			fmt.Sprintf("ruleRemoveTargetById=%d;ARGS:/^b/", n), "ruleRemoveTargetByTag=t1;REQUEST_HEADERS", "ruleRemoveByTag=t2", "ruleRemoveByMsg=plain", "forceRequestBodyVariable=On", "requestBodyProcessor=JSON"))
	}
	if head {
		if g.IntN(3) > 0 {
			add("msg:'%s'", g.pick("plain", "m %{MATCHED_VAR_NAME} %{tx.1}", "v1=%{tx.v1}", "n%{tx.v2}"))
		}
		add("tag:%s", g.pick("t1", "t2", "t3"))
		if g.IntN(4) == 0 {
			add("severity:%s", g.pick("CRITICAL", "NOTICE", "5"))
		}
		if g.IntN(6) == 0 {
			add("skipAfter:M%d", g.IntN(g.markers+2))
		}
		if g.IntN(12) == 0 {
			add("skip:%d", 1+g.IntN(3))
		}
	}
	return strings.Join(a, ",")
}

func (g *generator) file() string {
	var b strings.Builder
	b.WriteString("SecRequestBodyAccess On\n")
	if g.IntN(3) == 0 {
		fmt.Fprintf(&b, "SecDefaultAction \"phase:%d,%s\"\n", 1+g.IntN(2), g.pick("pass,log", "deny,status:499,log", "block,log", "pass,nolog"))
	}
	g.id, g.markers = 0, 0
	for range 6 + g.IntN(14) {
		if g.IntN(7) == 0 {
			fmt.Fprintf(&b, "SecMarker M%d\n", g.markers)
			g.markers++
			continue
		}
		g.id++
		verdict := g.pick("pass", "pass", "pass", "pass", "pass", "block", "pass", "pass", "deny,status:418", "allow:phase", "allow:request", "allow", "drop")
		if g.IntN(2) == 0 {
			verdict = "pass"
		}
		phase := 1 + g.IntN(2)
		acts := g.actions(true)
		if g.IntN(6) == 0 {
			// SecAction takes no transformations to speak of, but all the rest.
			fmt.Fprintf(&b, "SecAction \"id:%d,phase:%d,%s,%s\"\n", g.id, phase, verdict, acts)
			continue
		}
		links := 0
		if g.IntN(4) == 0 {
			links = 1 + g.IntN(2)
		}
		chain := ""
		if links > 0 {
			chain = ",chain"
		}
		fmt.Fprintf(&b, "SecRule %s \"%s\" \"id:%d,phase:%d,%s,%s%s\"\n", generatedTargets[g.IntN(len(generatedTargets))], g.operator(), g.id, phase, verdict, acts, chain)
		for ; links > 0; links-- {
			target := generatedTargets[g.IntN(len(generatedTargets))]
			if g.IntN(2) == 0 {
				target = chainedTargets[g.IntN(len(chainedTargets))]
			}
			acts := g.actions(false)
			if links > 1 {
				acts = strings.Trim(acts+",chain", ",")
			}
			fmt.Fprintf(&b, "SecRule %s \"%s\" \"%s\"\n", target, g.operator(), acts)
		}
	}
	for range g.IntN(3) {
		b.WriteString(g.pick("SecRuleUpdateTargetById 1-9 \"!ARGS:a\"\n", "SecRuleRemoveById 3\n", "SecRuleRemoveByTag t3\n", "SecRuleUpdateTargetByTag t1 \"!REQUEST_HEADERS:X-A\"\n", "SecRuleRemoveById 2-4\n"))
	}
	return b.String()
}

// generatedRequest is a request in which every name has one value, so that
// Coraza leaves less to chance.
type generatedRequest struct {
	method, uri, contentType, body string
	headers                        [][2]string
	// removed are rules, and rules of which one target, taken out beforehand.
	removed, untargeted []int
}

func (g *generator) request() generatedRequest {
	texts := []string{"foo", "bar", "FOO bar", "1", "42", "a b", "", "fo%6f", "select 1 union select 2", "<script>", "aa", "\u00e9", "x", "foo/../bar", "Zm9v", "1'or'1'='1", "a", "GET", "%zz"}
	escape := func(s string) string {
		return strings.NewReplacer(" ", "+", "<", "%3C", "&", "%26", "\u00e9", "%C3%A9").Replace(s)
	}
	text := func() string { return texts[g.IntN(len(texts))] }
	var query, form []string
	for _, name := range []string{"a", "b1", "B2", "c", "d"}[:g.IntN(6)] {
		query = append(query, name+"="+escape(text()))
	}
	r := generatedRequest{method: g.pick("GET", "POST"), uri: g.pick("/", "/p", "/p/foo.php", "/foo%20bar")}
	if len(query) > 0 {
		r.uri += "?" + strings.Join(query, "&")
	}
	for _, name := range []string{"User-Agent", "X-A", "X-B"}[:g.IntN(4)] {
		r.headers = append(r.headers, [2]string{name, text()})
	}
	if g.IntN(3) == 0 {
		r.headers = append(r.headers, [2]string{"Cookie", "c1=" + text() + "; d=" + text()})
	}
	if g.IntN(4) == 0 {
		r.removed = []int{1 + g.IntN(16)}
	}
	if g.IntN(4) == 0 {
		r.untargeted = []int{1 + g.IntN(16), 1 + g.IntN(16)}
	}
	if g.IntN(2) == 0 {
		for _, name := range []string{"e", "b3", "f"}[:g.IntN(4)] {
			form = append(form, name+"="+escape(text()))
		}
		r.contentType, r.body = "application/x-www-form-urlencoded", strings.Join(form, "&")
		if g.IntN(4) == 0 {
			r.contentType, r.body = "application/json", `{"a":"`+g.pick("foo", "bar")+`","n":[1,"x"]}`
		}
	}
	return r
}

func (r *generatedRequest) head(tx interface {
	ProcessConnection(string, int, string, int)
	ProcessURI(uri, method, proto string)
	AddRequestHeader(name, value string)
}) {
	tx.ProcessConnection("192.0.2.1", 1, "", 0)
	tx.ProcessURI(r.uri, r.method, "HTTP/1.1")
	if r.contentType != "" {
		tx.AddRequestHeader("Content-Type", r.contentType)
	}
	for _, h := range r.headers {
		tx.AddRequestHeader(h[0], h[1])
	}
}

var untargeted = regexp.MustCompile("^b")

// judge returns what Coraza makes of r, as text.
func (r *generatedRequest) judge(t testing.TB, w coraza.WAF) string {
	tx := w.NewTransaction()
	defer tx.Close()
	remover := tx.(interface {
		RemoveRuleByID(id int)
		RemoveRuleTargetByID(id int, v variables.RuleVariable, key string, rx *regexp.Regexp)
	})
	for _, id := range r.removed {
		remover.RemoveRuleByID(id)
	}
	for _, id := range r.untargeted {
		remover.RemoveRuleTargetByID(id, variables.Args, "a", nil)
		remover.RemoveRuleTargetByID(id, variables.ArgsGet, "", untargeted)
	}
	r.head(tx)
	var it *types.Interruption
	var err error
	if it = tx.ProcessRequestHeaders(); it == nil {
		if r.body != "" {
			if it, _, err = tx.WriteRequestBody([]byte(r.body)); err != nil {
				t.Fatal(err)
			}
		}
		if it == nil {
			if it, err = tx.ProcessRequestBody(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out []string
	for _, m := range tx.MatchedRules() {
		if m.Message() != "" {
			out = append(out, fmt.Sprintf("%d", m.Rule().ID()))
		}
	}
	if it != nil {
		out = append(out, fmt.Sprintf("%s by %d with %d", it.Action, it.RuleID, it.Status))
	}
	return strings.Join(out, " ")
}

func (r *generatedRequest) judgeCompiled(p *Program) (outcome, unsure string) {
	x := p.NewTransaction()
	defer x.Close()
	x.Exclude(p.Exclusions(r.removed, []Target{
		{Rules: r.untargeted, Variable: variables.Args, Key: "a"},
		{Rules: r.untargeted, Variable: variables.ArgsGet, Rx: untargeted},
	}))
	r.head(x)
	if x.ProcessRequestHeaders() {
		x.ProcessRequestBody([]byte(r.body))
	}
	var out []string
	for _, m := range x.Matches() {
		out = append(out, fmt.Sprintf("%d", m.ID))
	}
	if it := x.Interruption(); it != nil {
		out = append(out, fmt.Sprintf("%s by %d with %d", it.Action, it.RuleID, it.Status))
	}
	return strings.Join(out, " "), x.Unsure()
}

// Rule files made up of every construct the package models, on requests made
// up: the same rules match and act as in Coraza.
func TestGeneratedRules(t *testing.T) {
	programs := 150
	if n, err := strconv.Atoi(os.Getenv("WAF_PROGRAMS")); err == nil {
		programs = n
	}
	seed := uint64(1)
	if n, err := strconv.Atoi(os.Getenv("WAF_SEED")); err == nil {
		seed = uint64(n)
	}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 42))}
	decided, left, matched := 0, 0, 0
	for i := range programs {
		text := g.file()
		w, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		p, err := Load(w, nil)
		if err != nil && strings.HasSuffix(err.Error(), "there are no rules") {
			continue
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for range 12 {
			r := g.request()
			got, unsure := r.judgeCompiled(p)
			if unsure != "" {
				left++
				continue
			}
			decided++
			var seen []string
			for range 30 {
				want := r.judge(t, w)
				if want == got {
					seen = nil
					break
				}
				seen = append(seen, want)
			}
			if len(seen) > 0 {
				slices.Sort(seen)
				t.Fatalf("program %d:\n%s\n%+v\ncompiled: %s\ncoraza:   %q", i, text, r, got, slices.Compact(seen))
			}
			if got != "" {
				matched++
			}
		}
	}
	t.Logf("%d decided, %d with matches, %d left to Coraza", decided, matched, left)
	if decided < programs*4 || matched < programs {
		t.Errorf("%d decided, %d with matches, %d left to Coraza", decided, matched, left)
	}
}
