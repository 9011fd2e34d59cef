package injection

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

// behind is an app behind some layers: what reaches it is counted.
type behind struct {
	chain   *guard.Chain
	reached int
	answer  func(w http.Header, r *http.Request) (status int, body string)
}

// Forward implements [guard.Forwarder].
func (b *behind) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	b.reached++
	h := http.Header{}
	status, body := b.answer(h, x.Request)
	res := &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: x.Request, ProtoMajor: 1, ProtoMinor: 1}
	if err := modify(res); err != nil {
		return err
	}
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	_, err := io.Copy(w, res.Body)
	return err
}

func (b *behind) do(t testing.TB, method, target string, more ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(more); i += 2 {
		r.Header.Add(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	b.chain.ServeHTTP(w, r)
	return w
}

func flaskLike(h http.Header, r *http.Request) (int, string) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case r.URL.Path == "/" || r.URL.Path == "/cart/7" || r.URL.Path == "/cart/8" || r.URL.Path == "/api/things":
		if r.Method != "GET" {
			h.Set("Allow", "GET, HEAD, OPTIONS")
			return 405, "<h1>no such method in the shop</h1>"
		}
		return 200, "fine"
	}
	return 404, "<h1>no such page in the shop</h1>"
}

var liveRules = []guard.FactRoute{
	{Rule: "/", Methods: []string{"GET", "HEAD", "OPTIONS"}, Endpoint: "index"},
	{Rule: "/cart/<int:id>", Methods: []string{"GET", "HEAD", "OPTIONS"}, Endpoint: "cart"},
	{Rule: "/api/things", Methods: []string{"GET", "HEAD", "OPTIONS"}, Endpoint: "things"},
	{Rule: "/api/<own:x>/y", Methods: []string{"GET"}, Endpoint: "own", Converters: map[string]string{"x": `\d{3}`}},
}

func routesBefore(t testing.TB, facts *guard.Facts, p *policy.Policy, answer func(http.Header, *http.Request) (int, string), mode guard.Mode) (*behind, *Routes) {
	t.Helper()
	l, err := NewRoutes(Config{}, guard.Env{Facts: func() guard.Facts { return *facts }, Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	b := &behind{answer: answer}
	b.chain, err = guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: routesSpec, Layer: l, Mode: mode}}, Forward: b})
	if err != nil {
		t.Fatal(err)
	}
	return b, l.(*Routes)
}

// What no rule has does not reach the app, once its own page is known.
func TestRoutesAnswerForTheApp(t *testing.T) {
	facts := guard.Facts{Known: true, Routes: liveRules}
	b, l := routesBefore(t, &facts, nil, flaskLike, guard.Enforce)
	for i := range 2 {
		if w := b.do(t, "GET", fmt.Sprintf("/nothing/%d", i)); w.Code != 404 {
			t.Fatal(w.Code)
		}
	}
	if b.reached != 2 {
		t.Fatalf("the app was not asked for its page: %d", b.reached)
	}
	for _, path := range []string{"/wp-login.php", "/nothing/0", "/%2e%2e/x", "/Cart/7"} {
		w := b.do(t, "GET", path)
		if w.Code != 404 || !strings.Contains(w.Body.String(), "no such page in the shop") || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	if b.reached != 2 {
		t.Errorf("%d requests without a route reached the app", b.reached-2)
	}
	// A HEAD gets no body, the app's rules are answered by it.
	if w := b.do(t, "HEAD", "/none"); w.Code != 404 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/", "/cart/7", "/cart/7/", "//cart//7", "/api/things", "/cart/\u0667"} {
		b.reached = 0
		if b.do(t, "GET", path); b.reached != 1 {
			t.Errorf("%s did not reach the app", path)
		}
	}
	if w := b.do(t, "GET", "/api/123/y"); w.Code != 404 || b.reached != 2 {
		t.Errorf("a rule with a converter of the project: %d, %d", w.Code, b.reached)
	}
	// An API may have an error page of its own: below a first part that the
	// app's rules have, it is asked again.
	b.reached = 0
	b.do(t, "GET", "/api/none")
	if b.reached != 1 {
		t.Error("the page of another part of the app was taken")
	}
	for i, path := range []string{"/cart/x", "/cart/y", "/cart/z", "/cart", "/cart/7/8"} {
		b.reached = 0
		if w := b.do(t, "GET", path); w.Code != 404 || b.reached != max(0, min(1, 2-i)) {
			t.Errorf("%s: %d, reached %d", path, w.Code, b.reached)
		}
	}
	// Methods: the app's own 405, with the methods of this rule.
	b.reached = 0
	b.do(t, "POST", "/cart/7")
	b.do(t, "POST", "/")
	b.do(t, "POST", "/cart/8")
	w := b.do(t, "DELETE", "/api/things")
	if w.Code != 405 || b.reached == 0 {
		t.Errorf("%d", w.Code)
	}
	b.reached = 0
	for range 3 {
		w = b.do(t, "DELETE", "/cart/8")
	}
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" || !strings.Contains(w.Body.String(), "no such method") {
		t.Errorf("%d %v %q, reached %d", w.Code, w.Header(), w.Body, b.reached)
	}
	if !strings.Contains(l.Describe(), "does not reach it") {
		t.Error(l.Describe())
	}
	// Rules at the top share their page.
	b.reached = 0
	facts.Routes = append([]guard.FactRoute{{Rule: "/one", Methods: []string{"GET"}}, {Rule: "/two", Methods: []string{"GET"}}, {Rule: "/three", Methods: []string{"GET"}}}, liveRules...)
	b.answer = func(h http.Header, r *http.Request) (int, string) { return 405, "not so" }
	for _, path := range []string{"/one", "/two", "/three"} {
		w = b.do(t, "DELETE", path)
	}
	if w.Code != 405 || w.Header().Get("Allow") != "GET" || b.reached != 2 {
		t.Errorf("%d %v, reached %d", w.Code, w.Header(), b.reached)
	}
	b.answer = flaskLike
	// New code: its page may be another one.
	facts.Routes = append([]guard.FactRoute{{Rule: "/new", Methods: []string{"GET"}}}, liveRules...)
	b.reached = 0
	b.do(t, "GET", "/nothing")
	if b.reached != 1 {
		t.Error("the page of the old code was taken")
	}
}

// Whatever may be answered without a rule reaches the app.
func TestRoutesWhereNothingIsCertain(t *testing.T) {
	ask := func(b *behind, more ...string) int {
		for i := range 4 {
			b.do(t, "GET", fmt.Sprintf("/nothing/%d", i), more...)
		}
		return b.reached
	}
	facts := &guard.Facts{Known: true, Routes: liveRules, Elsewhere: []string{"WSGI middleware app.Static"}}
	b, l := routesBefore(t, facts, nil, flaskLike, guard.Enforce)
	if n := ask(b); n != 4 || !strings.Contains(l.Describe(), "app.Static") {
		t.Errorf("middleware: %d, %s", n, l.Describe())
	}
	// The page quotes the path: it is nobody else's.
	facts = &guard.Facts{Known: true, Routes: liveRules}
	b, l = routesBefore(t, facts, nil, func(h http.Header, r *http.Request) (int, string) { return 404, "no " + r.URL.Path }, guard.Enforce)
	if n := ask(b); n != 4 || !strings.Contains(l.Describe(), "differs") {
		t.Errorf("a page that differs: %d %s", n, l.Describe())
	}
	// A page for somebody who is known to the app is not kept.
	b, _ = routesBefore(t, facts, nil, flaskLike, guard.Enforce)
	if n := ask(b, "Cookie", "session=x"); n != 4 {
		t.Errorf("with a cookie: %d", n)
	}
	b, _ = routesBefore(t, facts, nil, func(h http.Header, r *http.Request) (int, string) {
		h.Set("Set-Cookie", "session=x")
		return 404, "no"
	}, guard.Enforce)
	if n := ask(b); n != 4 {
		t.Errorf("a page that sets a cookie: %d", n)
	}
	// The app answers a path without a rule all the same.
	hidden := func(h http.Header, r *http.Request) (int, string) {
		if r.URL.Path == "/hidden" {
			return 200, "here"
		}
		return flaskLike(h, r)
	}
	b, l = routesBefore(t, facts, nil, hidden, guard.Enforce)
	b.do(t, "GET", "/hidden")
	if n := ask(b); n != 5 || !strings.Contains(l.Describe(), "/hidden") {
		t.Errorf("a surprise: %d %s", n, l.Describe())
	}
	if w := b.do(t, "GET", "/hidden"); w.Body.String() != "here" {
		t.Error("what the app answers is refused")
	}
	// Observing refuses nothing.
	b, _ = routesBefore(t, facts, nil, flaskLike, guard.Observe)
	if n := ask(b); n != 4 {
		t.Errorf("observing: %d", n)
	}
	// The method may be chosen by a header.
	b, _ = routesBefore(t, facts, nil, flaskLike, guard.Enforce)
	ask(b)
	b.reached = 0
	b.do(t, "POST", "/", "X-Http-Method-Override", "GET")
	if b.reached != 1 {
		t.Error("a request with another method was refused")
	}
	// Without an app to ask there is only the source, which is noted.
	p, err := policy.Decode(strings.NewReader(`{"version":1,"routes":[{"rule":"/","methods":["GET"],"endpoint":"index","kinds":["page"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	b, _ = routesBefore(t, &guard.Facts{}, p, flaskLike, guard.Enforce)
	if n := ask(b); n != 4 {
		t.Errorf("only the source: %d", n)
	}
}

func TestBodyKinds(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version":1,"routes":[
		{"rule":"/none","methods":["POST"],"endpoint":"none","kinds":["page"]},
		{"rule":"/form","methods":["POST"],"endpoint":"form","kinds":["page"],"reads_body":true,"fields":[{"in":"form","name":"a"}]},
		{"rule":"/json","methods":["POST"],"endpoint":"json","kinds":["api"],"reads_body":true,"fields":[{"in":"json","name":"a"}]},
		{"rule":"/raw","methods":["POST"],"endpoint":"raw","kinds":["api"],"reads_body":true},
		{"rule":"/other","methods":["POST"],"endpoint":"other","kinds":["api"],"other_fields":true},
		{"rule":"/token","methods":["POST"],"endpoint":"token","kinds":["page"],"csrf":"checked"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewRoutes(Config{}, guard.Env{Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, kind, body, want string }{
		{"/none", form, "a=1", "route-body"}, {"/none", "", "", ""}, {"/form", form, "a=1", ""}, {"/form", "multipart/form-data; boundary=x", "--x--", ""},
		{"/form", "application/json", "{}", "route-body-kind"}, {"/json", "application/json", "{}", ""}, {"/json", form, "a=1", "route-body-kind"},
		{"/raw", form, "a=1", ""}, {"/raw", "application/json", "1", ""}, {"/other", "application/json", "1", ""}, {"/token", form, "csrf_token=1", ""},
	} {
		d := l.Request(exchange("POST", c.path, c.kind, c.body))
		if d.Reason != c.want || d.Verdict == guard.Deny {
			t.Errorf("%+v: %+v", c, d)
		}
	}
}

func BenchmarkRoutes(b *testing.B) {
	facts := guard.Facts{Known: true, Routes: liveRules}
	l, err := NewRoutes(Config{}, guard.Env{Facts: func() guard.Facts { return facts }})
	if err != nil {
		b.Fatal(err)
	}
	x := exchange("GET", "/cart/7", "", "")
	b.ReportAllocs()
	for b.Loop() {
		l.Request(x)
	}
}
