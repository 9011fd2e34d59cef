package csrf

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

const (
	plainLogin  = `<form method="post" action="/login"><input name="user"><input type="password" name="pw"></form>`
	tokenLogin  = `<form method="post" action="/login"><input type="hidden" name="csrf_token" value="right"><input name="user"><input type="password" name="pw"></form>`
	foreignForm = `<form method="post" action="https://id.example/login"><input name="user"><input type="password" name="pw"></form>`
)

// site has a login page; post answers what is posted to it.
func site(login string, post http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch {
		case r.Method == http.MethodPost:
			post(w, r)
		case r.URL.Path == "/login" && login != "":
			w.Header().Set("Set-Cookie", "session=s3; HttpOnly")
			w.Write([]byte(login))
		case r.URL.Path == "/":
			w.Write([]byte("<h1>Shop</h1>"))
		default:
			http.NotFound(w, r)
		}
	})
}

func answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// guarded refuses by Fetch-Metadata, as net/http does.
func guarded(next http.HandlerFunc) http.HandlerFunc {
	return http.NewCrossOriginProtection().Handler(next).ServeHTTP
}

func TestCrossSiteProbe(t *testing.T) {
	k := probetest.Find(t, checks, "csrf-cross-site-post")
	withToken := func(ok, bad int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("csrf_token") == "right" && strings.Contains(r.Header.Get("Cookie"), "session=s3") {
				w.WriteHeader(ok)
				return
			}
			w.WriteHeader(bad)
		}
	}
	var n atomic.Int64
	for _, x := range []struct {
		name string
		site http.Handler
		want evidence.Outcome
	}{
		{"open", site(plainLogin, answer(200)), evidence.Fail},
		{"open, redirects", site(plainLogin, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login?failed=1", http.StatusSeeOther)
		}), evidence.Fail},
		{"guard in front", site(plainLogin, guarded(answer(200))), evidence.Pass},
		{"guard in front, no login", site("", guarded(answer(405))), evidence.Pass},
		{"token checked", site(tokenLogin, withToken(200, 400)), evidence.Pass},
		{"token in the form, status unchanged", site(tokenLogin, withToken(200, 200)), evidence.Error},
		// A refusal of everything is no proof of anything.
		{"refuses every empty login", site(plainLogin, answer(400)), evidence.Error},
		{"takes no POST", site("", answer(405)), evidence.Error},
		{"no login, answers all", site("", answer(200)), evidence.Error},
		{"limits", site(plainLogin, answer(429)), evidence.Error},
		{"login elsewhere", site(foreignForm, answer(200)), evidence.Error},
		{"answers as it likes", site(plainLogin, func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1)%3 == 2 {
				w.WriteHeader(403)
				return
			}
			if n.Load()%3 == 0 {
				w.WriteHeader(500)
			}
		}), evidence.Error},
	} {
		t.Run(x.name, func(t *testing.T) { probetest.Want(t, probetest.Ask(t, k, x.site, false), x.want) })
	}
}

// TestCrossSiteProbeIsHarmless: what arrives names no account, and nothing
// arrives when writing is switched off.
func TestCrossSiteProbeIsHarmless(t *testing.T) {
	k := probetest.Find(t, checks, "csrf-cross-site-post")
	var posts atomic.Int64
	h := site(tokenLogin, func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if r.URL.Path != "/login" || r.FormValue("user") != "" || r.FormValue("pw") != "" {
			t.Errorf("%s got %v", r.URL, r.Form)
		}
	})
	probetest.Ask(t, k, h, false)
	if posts.Load() != 3 {
		t.Errorf("%d POSTs", posts.Load())
	}
	posts.Store(0)
	all := probetest.Ask(t, k, h, false, func(o *probe.Options) { o.Writes = false })
	probetest.Want(t, all, evidence.Error)
	if posts.Load() != 0 {
		t.Error("a POST was sent although writing is off")
	}
}
