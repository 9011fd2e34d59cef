package session

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

func newLayer(t testing.TB, cfg Config, facts guard.Facts) *cookies {
	t.Helper()
	l, err := NewCookies(cfg, guard.Env{Facts: func() guard.Facts { return facts }})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*cookies)
}

func through(t testing.TB, l *cookies, scheme string, in ...string) []string {
	t.Helper()
	r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": in}}
	if d := l.Response(&guard.Exchange{Client: guard.Client{Scheme: scheme}}, r); d.Verdict != guard.Allow {
		t.Fatalf("%+v", d)
	}
	return r.Header["Set-Cookie"]
}

func TestCookies(t *testing.T) {
	cfg := Config{JSReadable: []string{"csrf_token"}, Cookies: []string{"sid"}}
	facts := guard.Facts{Known: true, SessionCookieName: "shop_session", RememberCookieName: "keep"}
	l := newLayer(t, cfg, facts)
	for _, c := range []struct{ name, in, want string }{
		{"Flask's default", "session=eyJ1IjoxfQ.aLx.sig; HttpOnly; Path=/", "session=eyJ1IjoxfQ.aLx.sig; HttpOnly; Path=/; Secure; SameSite=Lax"},
		{"Flask's deletion", "session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/", "session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"},
		{"Flask-Login's default", "remember_token=1|ab; Expires=Sun, 15 Nov 2037 00:00:00 GMT; Path=/", "remember_token=1|ab; Expires=Sun, 15 Nov 2037 00:00:00 GMT; Path=/; Secure; HttpOnly; SameSite=Lax"},
		{"name from the app", "shop_session=x", "shop_session=x; Secure; HttpOnly; SameSite=Lax"},
		{"remember name from the app", "keep=x", "keep=x; Secure; HttpOnly; SameSite=Lax"},
		{"name from settings", "sid=x", "sid=x; Secure; HttpOnly; SameSite=Lax"},
		{"prefix", "__Host-session=x; Path=/", "__Host-session=x; Path=/; Secure; HttpOnly; SameSite=Lax"},
		{"another cookie stays readable", "theme=dark; Path=/", "theme=dark; Path=/; Secure; SameSite=Lax"},
		{"readable by settings", "csrf_token=x", "csrf_token=x; Secure; SameSite=Lax"},
		{"nothing missing", "session=x; Secure; HttpOnly; SameSite=Strict", "session=x; Secure; HttpOnly; SameSite=Strict"},
		{"odd spelling, nothing missing", "session=x;  SECURE ;httponly;SameSite = lax ;Priority=High", "session=x;  SECURE ;httponly;SameSite = lax ;Priority=High"},
		{"explicit None stays and gets Secure", "embed=x; SameSite=None", "embed=x; SameSite=None; Secure"},
		{"the last SameSite counts", "a=x; SameSite=Strict; SameSite=None; Secure", "a=x; SameSite=Strict; SameSite=None; Secure"},
		{"an unknown SameSite counts as none", "a=x; SameSite=Sometimes; Secure", "a=x; Secure; SameSite=Lax"},
		{"an empty SameSite counts as none", "a=x; SameSite; Secure", "a=x; Secure; SameSite=Lax"},
		{"Partitioned is kept", "a=x; Path=/; Partitioned; Secure; SameSite=None", "a=x; Path=/; Partitioned; Secure; SameSite=None"},
		{"unknown attributes are kept", "a=x; Foo=bar; Secure", "a=x; Foo=bar; Secure; SameSite=Lax"},
		{"semicolon at the end", "a=x;", "a=x; Secure; SameSite=Lax"},
		{"Secure in the value is no attribute", `a="Secure"`, `a="Secure"; Secure; SameSite=Lax`},
		{"no equals sign", "justvalue", "justvalue; Secure; SameSite=Lax"},
		{"value with equals signs", "session=a=b==; Path=/", "session=a=b==; Path=/; Secure; HttpOnly; SameSite=Lax"},
		{"space around the name", " session =x", " session =x; Secure; HttpOnly; SameSite=Lax"},
	} {
		if got := through(t, l, "https", c.in); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
	if !strings.Contains(l.Describe(), "embed") {
		t.Errorf("SameSite=None is not reported: %s", l.Describe())
	}
}

func TestSeveralCookiesKeepTheirOrder(t *testing.T) {
	l := newLayer(t, Config{SameSite: "Strict"}, guard.Facts{})
	got := through(t, l, "https", "b=1", "bad\x01=2", "a=3; SameSite=Lax", "  ; Path=/")
	want := []string{"b=1; Secure; SameSite=Strict", "a=3; SameSite=Lax; Secure"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := through(t, l, "https", "bad\x7f=2"); got != nil {
		t.Errorf("%q", got)
	}
	if !strings.Contains(l.Describe(), "3 dropped") {
		t.Errorf("dropped cookies are not reported: %s", l.Describe())
	}
}

func TestNoSecureOverHTTP(t *testing.T) {
	l := newLayer(t, Config{}, guard.Facts{})
	if got := through(t, l, "http", "session=x"); got[0] != "session=x; HttpOnly; SameSite=Lax" {
		t.Errorf("%q", got)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, bad := range []Config{
		{SameSite: "None"}, {SameSite: "lax"}, {Cookies: []string{"a=b"}}, {JSReadable: []string{""}},
		{Cookies: []string{"sid"}, JSReadable: []string{"sid"}},
	} {
		if _, err := NewCookies(bad, guard.Env{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// FuzzHarden: printing what was parsed is the identity; hardening is complete
// after one pass and never takes a valid attribute away.
func FuzzHarden(f *testing.F) {
	for _, s := range []string{"session=x; HttpOnly; Path=/", "a=b;;; Secure;SameSite", "", ";", "a=x; SameSite=None; SameSite=no", "a;SECURE;secure=1"} {
		f.Add(s, true, true)
	}
	f.Fuzz(func(t *testing.T, s string, secure, httpOnly bool) {
		if got := parseSetCookie(s).String(); got != s {
			t.Fatalf("%q printed as %q", s, got)
		}
		h := hardening{secure: secure, httpOnly: httpOnly, sameSite: "Lax"}
		out, changed := harden(s, h)
		if !changed && out != s {
			t.Fatalf("%q became %q without a change", s, out)
		}
		if again, changed := harden(out, h); changed {
			t.Fatalf("%q → %q → %q", s, out, again)
		}
		before, after := parseSetCookie(s), parseSetCookie(out)
		if before.pair != after.pair || before.name != after.name {
			t.Fatalf("%q changed the cookie itself: %q", s, out)
		}
		for _, a := range before.attrs {
			if a.name == "samesite" || a.name == "" {
				continue
			}
			if v, ok := after.get(a.name); !ok {
				t.Fatalf("%q lost %s=%s: %q", s, a.name, v, out)
			}
		}
		if v, ok := before.get("samesite"); ok && validSameSite(v) {
			if w, _ := after.get("samesite"); w != v {
				t.Fatalf("SameSite %s became %s", v, w)
			}
		}
		for _, name := range []string{"secure", "httponly"} {
			n, had := 0, 0
			for _, a := range after.attrs {
				if a.name == name {
					n++
				}
			}
			for _, a := range before.attrs {
				if a.name == name {
					had++
				}
			}
			if n > max(had, 1) {
				t.Fatalf("%q: %s doubled in %q", s, name, out)
			}
		}
	})
}

func BenchmarkCookies(b *testing.B) {
	l := newLayer(b, Config{}, guard.Facts{})
	x := &guard.Exchange{Client: guard.Client{Scheme: "https"}}
	b.ReportAllocs()
	for range b.N {
		r := &http.Response{Header: http.Header{"Set-Cookie": {"session=eyJ1IjoxfQ.aLx.sig; HttpOnly; Path=/"}}}
		l.Response(x, r)
	}
}
