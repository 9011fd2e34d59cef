package session

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

func TestFlagsProbe(t *testing.T) {
	k := probetest.Find(t, checks, "cookie-flags")
	for _, x := range []struct {
		name    string
		cookies []string
		want    evidence.Outcome
	}{
		{"good", []string{"session=x; Secure; HttpOnly; SameSite=Lax; Path=/"}, evidence.Pass},
		{"good, odd spelling", []string{"session=x;secure ;HTTPONLY;samesite = strict"}, evidence.Pass},
		{"no Secure", []string{"session=x; HttpOnly; SameSite=Lax"}, evidence.Fail},
		{"no HttpOnly", []string{"session=x; Secure; SameSite=Lax"}, evidence.Fail},
		{"no SameSite", []string{"session=x; Secure; HttpOnly"}, evidence.Fail},
		{"SameSite twice, the last invalid", []string{"session=x; Secure; HttpOnly; SameSite=Lax; SameSite=Maybe"}, evidence.Fail},
		{"None", []string{"sessionid=x; Secure; HttpOnly; SameSite=None"}, evidence.Fail},
		{"value that looks like flags", []string{`session="; Secure; HttpOnly; SameSite=Lax"`}, evidence.Fail},
		{"flags in the value", []string{"session=Secure,HttpOnly"}, evidence.Fail},
		{"host prefix broken", []string{"__Host-session=x; Secure; HttpOnly; SameSite=Lax; Path=/; Domain=shop.example"}, evidence.Fail},
		{"CSRF cookie for scripts", []string{"session=x; Secure; HttpOnly; SameSite=Lax", "csrf_token=x; Secure; SameSite=Lax"}, evidence.Pass},
		{"language in clear text", []string{"session=x; Secure; HttpOnly; SameSite=Lax", "lang=de"}, evidence.Fail},
		{"removed", []string{"session=; Max-Age=0", "s2=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"}, evidence.Error},
		{"no session", []string{"lang=de; Secure"}, evidence.Error},
		{"none", nil, evidence.Error},
	} {
		t.Run(x.name, func(t *testing.T) {
			all := probetest.Ask(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, c := range x.cookies {
					w.Header().Add("Set-Cookie", c)
				}
			}), true)
			probetest.Want(t, all, x.want)
		})
	}
}

// TestFlagsBeyondTheFrontPage: cookies set on the way and on the login page
// count, too.
func TestFlagsBeyondTheFrontPage(t *testing.T) {
	k := probetest.Find(t, checks, "cookie-flags")
	for _, at := range []string{"/", "/welcome", "/login"} {
		all := probetest.Ask(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == at {
				w.Header().Set("Set-Cookie", "session=x")
			}
			w.Header().Set("Content-Type", "text/html")
			switch r.URL.Path {
			case "/":
				http.Redirect(w, r, "/welcome", http.StatusFound)
			case "/login":
				fmt.Fprint(w, `<form method=post><input name=user><input type=password name=pw></form>`)
			}
		}), true)
		probetest.Want(t, all, evidence.Fail)
	}
}

func TestFixationProbe(t *testing.T) {
	k := probetest.Find(t, checks, "session-fixation")
	n := 0
	for name, x := range map[string]struct {
		site http.HandlerFunc
		want evidence.Outcome
	}{
		"takes over": {func(w http.ResponseWriter, r *http.Request) {
			id := "fresh"
			if c, err := r.Cookie("session"); err == nil {
				id = c.Value
			}
			w.Header().Set("Set-Cookie", "session="+id+"; HttpOnly")
		}, evidence.Fail},
		"makes its own": {func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("Set-Cookie", fmt.Sprintf("session=fresh%d; HttpOnly", n))
		}, evidence.Pass},
		"says nothing": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Cookie") == "" {
				w.Header().Set("Set-Cookie", "session=x")
			}
		}, evidence.Error},
		"no session": {func(w http.ResponseWriter, r *http.Request) {}, evidence.Error},
	} {
		t.Run(name, func(t *testing.T) { probetest.Want(t, probetest.Ask(t, k, x.site, false), x.want) })
	}
}

func FuzzFlaws(f *testing.F) {
	f.Add("session=x; Secure; HttpOnly; SameSite=Lax")
	f.Add("=;;; ;samesite")
	f.Fuzz(func(t *testing.T, s string) {
		// Completing a cookie as the guard does leaves no flaw that a flag
		// could mend.
		out, _ := harden(s, hardening{secure: true, httpOnly: true, sameSite: "Lax"})
		for _, flaw := range flaws(out) {
			if flaw == "no Secure" || flaw == "no HttpOnly" || flaw == "no SameSite" || flaw == "an invalid SameSite" {
				t.Errorf("%q became %q: %s", s, out, flaw)
			}
		}
		removes(s)
	})
}
