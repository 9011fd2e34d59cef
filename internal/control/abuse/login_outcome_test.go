package abuse

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

func TestAsksSecret(t *testing.T) {
	for page, want := range map[string]bool{
		`<form><input type="password" name=p>`:         true,
		`<INPUT NAME='p' TYPE='Password'>`:             true,
		`<input type=password>`:                        true,
		"<input\n  class=x\n  type = \"password\"\n/>": true,
		`<input data-type="password" type="text">`:     false,
		`<input value="type=password" type="text">`:    false,
		`<input type="text"><p>type="password"</p>`:    false,
		`<p>input type="password"</p>`:                 false,
		``:                                             false,
		`<input`:                                       false,
		`<input type`:                                  false,
		`<input type="password`:                        true,
		strings.Repeat(`<input `, 9000):                false,
		strings.Repeat(`<input type="text">`, 100) + `<input type="password">`: true,
	} {
		if asksSecret([]byte(page), login) != want {
			t.Errorf("%.60q: want %v", page, want)
		}
	}
	if !asksSecret([]byte(`<input name="otp_code">`), secondFactor) || asksSecret([]byte(`<input name="otp_code">`), login) {
		t.Error("a code is asked for")
	}
}

func TestInfer(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version":1,"routes":[{"rule":"/enter","methods":["GET"],"answers":["GET"],"kind":"login"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	st := store.NewMemory(store.MemoryOptions{Buckets: 8})
	defer st.Close()
	made, err := NewLogin(loginDefaults(t), guard.Env{Store: st, Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	l := made.(*loginLayer)
	for _, c := range []struct {
		name, kind, location, cookie, body string
		status                             int
		change                             guard.SessionChange
		want                               outcome
	}{
		{name: "a session begins", status: 200, kind: "text/html", body: loginPage, change: guard.LoggedIn, want: success},
		{name: "a session is renewed", status: 302, location: "/login", change: guard.Renewed, want: failure},
		{name: "the session names a user", status: 302, location: "/", cookie: flaskSession, want: success},
		{name: "a session without a user", status: 302, location: "/", cookie: "session=eyJfZmxhc2hlcyI6W119.aSn3YQ.3q2-7wAAAAAAAAAAAAAAAAAAAAA", want: unknown},
		{name: "a remember token", status: 302, location: "/", cookie: "remember_token=7|" + strings.Repeat("ab", 64) + "; Max-Age=99", want: success},
		{name: "a cookie goes", status: 302, location: "/", cookie: "access_token=; Max-Age=0", want: unknown},
		{name: "401", status: 401, want: failure},
		{name: "422 of an API", status: 422, kind: "application/json", body: `{}`, want: failure},
		{name: "the app's own limit", status: 429, want: untried},
		{name: "a crash", status: 500, want: untried},
		{name: "back to itself", status: 302, location: "/login?next=%2F", want: failure},
		{name: "back to itself, absolute", status: 303, location: "http://example.com/login", want: failure},
		{name: "to what the route map calls a login", status: 302, location: "/enter", want: failure},
		{name: "to a login elsewhere in the app", status: 302, location: "/auth/sign-in", want: failure},
		{name: "on with an error", status: 302, location: "/?error=1", want: failure},
		{name: "on with a message", status: 302, location: "/?m=Invalid+password", want: failure},
		{name: "on", status: 302, location: "/dashboard", want: unknown},
		{name: "nowhere", status: 302, want: unknown},
		{name: "the form again", status: 200, kind: "text/html; charset=utf-8", body: loginPage, want: failure},
		{name: "plain words", status: 200, kind: "text/plain", body: "Bad credentials", want: failure},
		{name: "a page", status: 200, kind: "text/html", body: "<h1>Hello Kim</h1>", want: unknown},
		{name: "a token", status: 200, kind: "application/json", body: `{"token": "abcdefghijklmnop"}`, want: success},
		{name: "a token within", status: 200, kind: "application/json", body: `{"data": {"user": {"authToken": "abcdefghijklmnop"}}}`, want: success},
		{name: "only a CSRF token", status: 200, kind: "application/json", body: `{"csrf_token": "abcdefghijklmnop"}`, want: unknown},
		{name: "an error beside a CSRF token", status: 200, kind: "application/json", body: `{"csrf_token": "abcdefghijklmnop", "response": {"errors": ["no"]}}`, want: failure},
		{name: "no error", status: 200, kind: "application/json", body: `{"error": null, "ok": true}`, want: unknown},
		{name: "not ok", status: 200, kind: "application/json", body: `{"ok": false}`, want: failure},
		{name: "in words", status: 200, kind: "application/json", body: `{"message": "Wrong password"}`, want: failure},
		{name: "OAuth", status: 400, kind: "application/json", body: `{"error": "invalid_grant"}`, want: failure},
		{name: "a list", status: 200, kind: "application/json", body: `[1]`, want: unknown},
		{name: "no JSON at all", status: 200, kind: "application/json", body: `{"token": "abc`, want: unknown},
		{name: "nothing", status: 204, want: unknown},
	} {
		x := &guard.Exchange{Request: httptest.NewRequest("POST", "/login", nil), Path: "/login", Change: c.change}
		r := &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), ContentLength: int64(len(c.body)), Request: x.Request}
		for k, v := range map[string]string{"Content-Type": c.kind, "Location": c.location, "Set-Cookie": c.cookie} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		got, why, _ := l.infer(x, r, &attempt{kind: login, certain: true, route: "/login"})
		if got != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, got, why, c.want)
		}
		if rest, _ := io.ReadAll(r.Body); string(rest) != c.body {
			t.Errorf("%s: the answer was changed", c.name)
		}
	}
	// The client's own session proves nothing.
	x := &guard.Exchange{Request: httptest.NewRequest("POST", "/login", nil), Path: "/login"}
	name, value, _ := strings.Cut(strings.Split(flaskSession, ";")[0], "=")
	x.Request.AddCookie(&http.Cookie{Name: name, Value: value})
	r := &http.Response{StatusCode: 302, Header: http.Header{"Location": {"/"}, "Set-Cookie": {flaskSession}}, Body: http.NoBody}
	if got, _, _ := l.infer(x, r, &attempt{kind: login, certain: true, route: "/other"}); got == success {
		t.Error("a session that the client brought counts as a login")
	}
}

// FuzzOutcome: whatever an app answers, judging it ends, soon.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(loginPage), "application/json", "/login")
	f.Add([]byte(`{"a": {"b": {"c": {"token": "x"}}}}`), "text/html", "//evil\\x?error")
	st := store.NewMemory(store.MemoryOptions{Buckets: 8})
	made, err := NewLogin(loginDefaults(f), guard.Env{Store: st})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, kind, location string) {
		for _, status := range []int{200, 302} {
			x := &guard.Exchange{Request: httptest.NewRequest("POST", "/login", nil), Path: "/login"}
			r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}, "Location": {location}, "Set-Cookie": {location}}, Body: io.NopCloser(strings.NewReader(string(body))), Request: x.Request}
			made.(*loginLayer).infer(x, r, &attempt{kind: secondFactor, route: "/login"})
			rest, _ := io.ReadAll(r.Body)
			if string(rest) != string(body) {
				t.Fatal("the answer was changed")
			}
		}
	})
}

// FuzzNormalName: a name that was made one is one already, or a second
// spelling would have a count of its own.
func FuzzNormalName(f *testing.F) {
	for _, s := range []string{" Kim ", "ＫＩＭ", "ﬃ", "İstanbul", "ẞ", "\u212bngstr\u00f6m", "a\u0301", strings.Repeat("ﷺ", 60)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := normalName(s)
		if len(once) > maxName {
			once = normalName(once) // was cut
		}
		if again := normalName(once); again != once && len(once) <= maxName {
			t.Fatalf("%q becomes %q, then %q", s, once, again)
		}
	})
}
