package waf

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/dewar-security/dewar/internal/payload"
)

var structured = sync.OnceValues(func() (*Engine, error) { return New(Config{Structure: true}) })

func judge(t *testing.T, r Request) Verdict {
	t.Helper()
	return ask(t, structured, r)
}

// whole adds what every request of a browser has.
func whole(r Request) Request {
	if r.Method == "" {
		r.Method = "GET"
	}
	r.Proto, r.Host, r.Client = "HTTP/1.1", "example.com", netip.MustParseAddr("203.0.113.7")
	h := http.Header{"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, "Accept": {"*/*"}}
	for k, v := range r.Header {
		h[k] = v
	}
	r.Header = h
	return r
}

func search(value string) Request { return Request{URI: "/search?q=" + url.QueryEscape(value)} }

func post(contentType, text string) Request {
	return Request{Method: "POST", URI: "/x", Header: http.Header{"Content-Type": {contentType}, "Content-Length": {"1"}}, Body: strings.NewReader(text)}
}

// TestStructure asks for what the rules miss at paranoia level 1.
func TestStructure(t *testing.T) {
	hidden := base64.StdEncoding.EncodeToString([]byte(`<svg onload=go(1)>`))
	for name, r := range map[string]Request{
		"Base64 in a query":   search(hidden),
		"Base64 in a form":    post("application/x-www-form-urlencoded", "a=b&c="+url.QueryEscape(hidden)),
		"Base64 in JSON":      post("application/json", `{"a": {"b": ["`+hidden+`"]}}`),
		"an operator in JSON": post("application/json", `{"user": {"$ne": null}}`),
		"a multipart field":   post("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"+hidden+"\r\n--b--\r\n"),
		"a path":              {URI: "/x/" + url.PathEscape(`{{config.items()}}`)},
		"a header":            {URI: "/", Header: http.Header{"X-Name": {"a' or 1=1-- "}}},
		"text of XML":         post("application/xml", "<a><b>1 union select x from y</b></a>"),
	} {
		v := judge(t, r)
		if !v.Denied {
			t.Errorf("%s passes", name)
			continue
		}
		if v.Reason == ReasonStructure && (v.RuleID <= rulesStructure || v.Status != 403 || len(v.Matches) == 0 || !strings.HasPrefix(v.Matches[len(v.Matches)-1].Message, "Structure of ")) {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := judge(t, search(hidden)); v.Reason != ReasonStructure || v.Matches[0].Variable != "ARGS:q" || v.Reference {
		t.Errorf("%+v", v)
	}
}

// TestAcquit asks for prose that the rules refuse for its words.
func TestAcquit(t *testing.T) {
	overruled := 0
	for _, text := range []string{"union was a great select", "zsh is the best!", "ls 300 lexus", "john+or@var.es", "JavaScript: Basics of JavaScript Language", "We sell cat, more and less", "please select the best union for me"} {
		v := judge(t, search(text))
		if v.Denied {
			t.Errorf("%q is denied: %s", text, v.Summary())
		}
		if len(v.Acquitted) > 0 {
			overruled++
		}
	}
	if overruled == 0 {
		t.Error("the rules refused none of it: the test says nothing")
	}
	// Prose beside an attack frees nothing, wherever the attack stands.
	for name, r := range map[string]Request{
		"another parameter":    {URI: "/?q=union+was+a+great+select&z=" + url.QueryEscape("1' union select name from staff-- ")},
		"the same name":        {URI: "/?q=union+was+a+great+select&q=" + url.QueryEscape("1' union select name from staff-- ")},
		"a cookie":             {URI: "/?q=union+was+a+great+select", Header: http.Header{"Cookie": {"a=1' union select name from staff-- "}}},
		"a header":             {URI: "/?q=union+was+a+great+select", Header: http.Header{"Referer": {"() { :; }; /bin/cat /etc/passwd"}}},
		"its name":             {URI: "/?" + url.QueryEscape("1' union select name from staff-- ") + "=union+was+a+great+select"},
		"the path":             {URI: "/etc/../../../etc/passwd?q=union+was+a+great+select"},
		"the name in capitals": {URI: "/?q=union+was+a+great+select&Q=" + url.QueryEscape("zsh -x <")},
	} {
		if v := judge(t, r); !v.Denied {
			t.Errorf("an attack in %s passes beside prose", name)
		}
	}
	// Rules compare names without case; names need not be text.
	for _, query := range []string{"firstName=union+was+a+great+select", "q=union+was+a+great+select&%ff=hello+there&a%0a=b", "%ff=union+was+a+great+select&%fe=union+was+a+great+select&q=union+was+a+great+select", "a.*(=union+was+a+great+select"} {
		r := Request{Method: "POST", URI: "/x", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Content-Length": {"1"}}, Body: strings.NewReader(query)}
		if v := judge(t, r); v.Denied && !strings.Contains(query, "%0a") && !strings.Contains(query, "%ff") || !v.Denied && len(v.Acquitted) == 0 {
			t.Errorf("%s: %+v", query, v)
		}
	}
	// A second look costs by the parameters left out: there is an end to it.
	many := ""
	for i := range maxProse + 1 {
		many += fmt.Sprintf("&a%d=union+was+a+great+select", i)
	}
	if v := judge(t, post("application/x-www-form-urlencoded", many[1:])); !v.Denied {
		t.Error("any number of parameters is looked at again")
	}
}

func TestStructureExclusions(t *testing.T) {
	e, err := structured()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(x Exclusion, r Request) Verdict {
		t.Helper()
		plan, err := e.Plan(x)
		if err != nil {
			t.Fatal(err)
		}
		r.Plan = plan
		return judge(t, r)
	}
	hidden := search(base64.StdEncoding.EncodeToString([]byte(`{{7*7}} and more`)))
	if v := judge(t, hidden); v.Reason != ReasonStructure || v.RuleID != structureRule(payload.Template) {
		t.Fatalf("%+v", v)
	}
	if v := ask(Exclusion{Rules: []int{structureRule(payload.Template)}, Parameters: []string{"q"}}, hidden); v.Denied {
		t.Errorf("excluded for q: %+v", v)
	}
	if v := ask(Exclusion{Parameters: []string{"q"}}, hidden); v.Denied {
		t.Errorf("everything excluded for q: %+v", v)
	}
	if v := ask(Exclusion{Rules: []int{structureRule(payload.Template)}, Parameters: []string{"other"}}, hidden); !v.Denied {
		t.Error("excluded for another parameter")
	}
	if v := ask(Exclusion{Rules: []int{structureRule(payload.SQL)}}, hidden); !v.Denied {
		t.Error("another kind excluded")
	}
}
