package injection

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/payload"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

func TestStructureLayer(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [
	 {"rule": "/item/<id>", "methods": ["GET"], "fields": [{"in": "query", "name": "page", "type": "int"}, {"in": "query", "name": "q"}, {"in": "query", "name": "n", "type": "int"}, {"in": "form", "name": "n"}]},
	 {"rule": "/any", "methods": ["GET"], "other_fields": true, "fields": [{"in": "query", "name": "page", "type": "int"}]},
	 {"rule": "/two", "methods": ["GET"], "fields": [{"in": "query", "name": "page", "type": "int"}]},
	 {"rule": "/post/new", "methods": ["GET"], "fields": [{"in": "query", "name": "body", "type": "html"}, {"in": "query", "name": "title"}]},
	 {"rule": "/case/x", "methods": ["GET"], "fields": [{"in": "query", "name": "size", "type": "int"}, {"in": "query", "name": "Size"}, {"in": "query", "name": "w*", "type": "int"}, {"in": "form", "name": "a.b", "type": "int"}]},
	 {"rule": "/order", "methods": ["POST"], "fields": [{"in": "form", "name": "n", "type": "int"}]},
	 {"rule": "/log/in", "methods": ["POST"], "fields": [{"in": "form", "name": "name"}, {"in": "form", "name": "Password"}, {"in": "json", "name": "new_pwd"}, {"in": "query", "name": "password2"}]},
	 {"rule": "/log/old", "endpoint": "old", "methods": ["POST"], "fields": [{"in": "form", "name": "password"}]},
	 {"rule": "/<word>", "methods": ["GET"], "fields": []}],
	 "patches": [{"check": "DW-INJECTION-001", "control": "injection", "fingerprint": "x", "file": "a.py", "line": 1, "severity": "high", "confidence": "certain", "language": "sql",
	  "parameters": [{"rule": "/log/old", "endpoint": "old", "methods": ["POST"], "in": "form", "name": "password"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	made, err := NewWAF(Config{Structure: true}, guard.Env{Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	l := made.(*WAF)
	if s := l.Describe(); !strings.Contains(s, "judged by grammar") || !strings.Contains(s, "4 parameters judged by their types") {
		t.Error(s)
	}
	attack := url.QueryEscape("1' union select name from staff-- ")
	for _, c := range []struct {
		target  string
		verdict guard.Verdict
		reason  string
	}{
		{"/item/7?q=hello", guard.Allow, ""},
		{"/item/7?q=union+was+a+great+select", guard.Observed, "waf-prose"},
		{"/item/7?q=" + url.QueryEscape("e3s3Kjd9fSBhbmQgbW9yZQ=="), guard.Deny, "waf-structure"}, // {{7*7}} and more
		{"/item/7?q=" + attack, guard.Deny, "waf-attack"},
		// Markup where markup belongs, and script nowhere.
		{"/post/new?body=" + url.QueryEscape(`<p style="color:red">Hi <img src="/a.png" alt="x"> <a href="/b">b</a></p>`), guard.Allow, ""},
		{"/post/new?title=" + url.QueryEscape(`<p style="color:red">Hi <img src="/a.png" alt="x"> <a href="/b">b</a></p>`), guard.Deny, "waf-attack"},
		{"/post/new?body=" + url.QueryEscape(`<p>Hi <img src="/a.png" onerror="go(1)"></p>`), guard.Deny, "waf-structure"},
		{"/post/new?body=" + attack, guard.Deny, "waf-attack"},
		// The code reads a number there: rules about words have no business.
		{"/item/7?page=" + attack, guard.Allow, ""},
		{"/item/7?n=" + attack, guard.Deny, "waf-attack"},
		{"/any?page=" + attack, guard.Deny, "waf-attack"},
		{"/two?page=" + attack, guard.Deny, "waf-attack"}, // /<word> may answer, too
		// Names that differ by case are two to the app, one to the rules.
		{"/case/x?Size=" + attack, guard.Deny, "waf-attack"},
		{"/case/x?size=" + attack, guard.Deny, "waf-attack"},
		{"/case/x?word=" + attack, guard.Deny, "waf-attack"},
		{"/case/x?a.b=" + attack, guard.Deny, "waf-attack"},
		{"/none/x/y?page=" + attack, guard.Deny, "waf-attack"},
	} {
		d := l.Request(exchange("GET", c.target, "", ""))
		if d.Verdict != c.verdict || d.Reason != c.reason {
			t.Errorf("%s: %v %s %s, want %v %s", c.target, d.Verdict, d.Reason, d.Detail, c.verdict, c.reason)
		}
		if c.verdict != guard.Allow && d.Attributes["waf.matches"] == "" {
			t.Errorf("%s: no rules in the event", c.target)
		}
	}
	// A password that rules take for an attack, where the source does nothing
	// with it that its text could harm.
	odd := url.QueryEscape("';--my p@ss <word>")
	for _, c := range []struct {
		target, kind, body string
		verdict            guard.Verdict
	}{
		{"/log/in", form, "name=ann&Password=" + odd, guard.Allow},
		{"/log/in", "application/json", `{"new_pwd": "';--my p@ss <word>"}`, guard.Allow},
		{"/log/in", form, "name=" + odd, guard.Deny},
		{"/log/in?password2=" + odd, form, "", guard.Deny},
		{"/log/in", form, "Password=" + attack, guard.Deny}, // what is one by its grammar
		// Random by its look, but it runs something.
		{"/log/in", form, "Password=" + url.QueryEscape("Aa1'||1=1#xx"), guard.Deny},
		{"/log/in", form, "Password=" + url.QueryEscape("${jndi:ldap://x}X1"), guard.Deny},
		{"/log/in", form, "Password=" + url.QueryEscape("$(id)Aa12345"), guard.Deny},
		{"/log/in", form, "Password=" + url.QueryEscape("{{7*7}}Aa1xx"), guard.Deny},
		{"/log/old", form, "password=" + odd, guard.Deny}, // a finding that is not fixed
		{"/else/where", form, "password=" + odd, guard.Deny},
	} {
		if d := l.Request(exchange("POST", c.target, c.kind, c.body)); d.Verdict != c.verdict {
			t.Errorf("%s %s: %v %s %s, want %v", c.target, c.body, d.Verdict, d.Reason, d.Detail, c.verdict)
		}
	}
	// What a password manager makes is never refused there, though by chance a
	// database, a shell or a template engine could make something of it.
	chance := rand.New(rand.NewPCG(7, 7))
	odds := 0
	for range 3000 {
		password := make([]byte, 12+chance.IntN(20))
		for i := range password {
			password[i] = byte('!' + chance.IntN('~'-'!'+1))
		}
		copy(password, "aZ4") // one of each, as they promise
		chance.Shuffle(len(password), func(i, j int) { password[i], password[j] = password[j], password[i] })
		if payload.Judge(string(password), payload.Text) != nil {
			odds++
		}
		if d := l.Request(exchange("POST", "/log/in", form, "name=ann&Password="+url.QueryEscape(string(password)))); d.Verdict != guard.Allow {
			t.Errorf("%s: %v %s %s", password, d.Verdict, d.Reason, d.Detail)
		}
	}
	if odds == 0 {
		t.Error("the judges find something in none of them: the test says nothing")
	}
	for _, guess := range []string{"'or'1'='1", "Kim27x'or'Kim27x'='Kim27x", `"||"a"="a`, "'='", "Kim27xA'union/**/select/**/1--", "Aa1 ' || 'x'='x"} {
		if d := l.Request(exchange("POST", "/log/in", form, "Password="+url.QueryEscape(guess))); d.Verdict != guard.Deny {
			t.Errorf("%s: %v", guess, d.Verdict)
		}
	}
	// Middleware may take it for another method, which another route answers.
	x := exchange("GET", "/item/7?page="+attack, "", "")
	x.Request.Header.Set("X-HTTP-Method-Override", "PUT")
	if d := l.Request(x); d.Verdict != guard.Deny {
		t.Errorf("with a method override: %+v", d)
	}
	if d := l.Request(exchange("GET", "/item/7?%5Fmethod=PUT&page="+attack, "", "")); d.Verdict != guard.Deny {
		t.Errorf("with a method in the query: %+v", d)
	}
	if d := l.Request(exchange("POST", "/order", form, "n="+attack)); d.Verdict != guard.Allow {
		t.Errorf("a number in a form: %+v", d)
	}
	for _, body := range []string{"n=" + attack + "&_method=PUT", "%5fMETHOD=delete&n=" + attack} {
		if d := l.Request(exchange("POST", "/order", form, body)); d.Verdict != guard.Deny {
			t.Errorf("with a method in the form: %+v", d)
		}
	}
	parts := "--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1' union select name from staff-- \r\n--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nPUT\r\n--b--\r\n"
	if d := l.Request(exchange("POST", "/order", "multipart/form-data; boundary=b", parts)); d.Verdict != guard.Deny {
		t.Errorf("with a method in a part: %+v", d)
	}
	if d := l.Request(exchange("POST", "/order", "multipart/form-data; boundary=b", strings.Replace(parts, "_method", "other", 1))); d.Verdict != guard.Allow {
		t.Errorf("a number in a part: %+v", d)
	}
	// A replay judges by the same map.
	r, err := NewReplay(Config{Structure: true}, nil, p)
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]bool{"/item/7?page=" + attack: false, "/it%65m/7?page=" + attack: false, "/item/7?q=" + attack: true} {
		if o, err := r.Judge(t.Context(), &Past{Method: "GET", URI: uri}); err != nil || o.Denied != want {
			t.Errorf("replay of %s: %+v, %v", uri, o, err)
		}
	}
}

// noPlans is an engine that takes no exclusions.
type noPlans struct{ inspector }

func (noPlans) Plan(...waf.Exclusion) (*waf.Plan, error) { return nil, errors.New("no such plan") }

// TestTypesThatCannotBeUsed: a route whose types make no plan is inspected in
// full, and the layer says so.
func TestTypesThatCannotBeUsed(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [{"rule": "/n", "methods": ["GET"], "fields": [{"in": "query", "name": "page", "type": "int"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := layer(t)
	whole := &WAF{engine: noPlans{l.engine}, cfg: l.cfg, policy: func() *policy.Policy { return p }, budget: budget{now: time.Now}, plans: map[*guard.Override]*waf.Plan{}}
	if d := whole.Request(exchange("GET", "/n?page="+url.QueryEscape("1' union select name from staff-- "), "", "")); d.Verdict != guard.Deny {
		t.Errorf("%+v", d)
	}
	if s := whole.Describe(); !strings.Contains(s, "inspected in full (/n: no such plan)") {
		t.Error(s)
	}
	if err := whole.Health(); err != nil {
		t.Errorf("it works: %v", err)
	}
}
