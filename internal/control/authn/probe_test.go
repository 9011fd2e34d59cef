package authn

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

func TestIdentityHeaderProbe(t *testing.T) {
	k := probetest.Find(t, checks, "identity-header")
	closed := func(open func(*http.Request) bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/":
				fmt.Fprint(w, "<h1>welcome</h1>")
			case r.URL.Path != "/admin":
				http.NotFound(w, r)
			case open(r):
				fmt.Fprint(w, "<h1>administration</h1>")
			default:
				http.Redirect(w, r, "/login", http.StatusFound)
			}
		}
	}
	for name, tt := range map[string]struct {
		site http.HandlerFunc
		want evidence.Outcome
	}{
		"believes nobody":            {closed(func(*http.Request) bool { return false }), evidence.Pass},
		"opens for Remote-User":      {closed(func(r *http.Request) bool { return r.Header.Get("Remote-User") != "" }), evidence.Fail},
		"opens for X-Forwarded-User": {closed(func(r *http.Request) bool { return r.Header.Get("X-Forwarded-User") != "" }), evidence.Fail},
		"greets the user": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s", r.Header.Get("X-Auth-Request-User"))
		}, evidence.Fail},
		"opens a session": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "user="+r.Header.Get("X-Webauth-User"))
			fmt.Fprint(w, "hello")
		}, evidence.Fail},
		"shows every field": {func(w http.ResponseWriter, r *http.Request) {
			for n, v := range r.Header {
				fmt.Fprintln(w, n, v)
			}
		}, evidence.Error},
		"a firewall refuses": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Remote-User") != "" {
				http.Error(w, "no", http.StatusForbidden)
			} else {
				fmt.Fprint(w, "hello")
			}
		}, evidence.Error},
		"turned away": {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) }, evidence.Error},
	} {
		t.Run(name, func(t *testing.T) {
			all := probetest.Ask(t, k, tt.site, true)
			probetest.Want(t, all, tt.want)
			for _, e := range all {
				if strings.Contains(e.Summary, "dewar0") {
					t.Errorf("%s", e.Summary)
				}
			}
		})
	}
}
