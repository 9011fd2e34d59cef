package abuse

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

func limitedSite(from int64, match func(*http.Request) bool, status int) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if match(r) {
			if n.Add(1) > from {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/login" {
			w.Write([]byte(`<form method=post><input name=user value=nobody><input type=password name=pw></form>`))
		}
	})
}

func TestLoginProbe(t *testing.T) {
	k := probetest.Find(t, checks, "login-burst")
	post := func(r *http.Request) bool {
		if r.Method == http.MethodPost && (r.FormValue("user") != "" || r.FormValue("pw") != "") {
			t.Errorf("a login with %v", r.Form)
		}
		return r.Method == http.MethodPost
	}
	for _, x := range []struct {
		name string
		site http.Handler
		opt  func(*probe.Options)
		want evidence.Outcome
	}{
		{"limited", limitedSite(10, post, 200), nil, evidence.Pass},
		{"not limited", limitedSite(1e9, post, 200), nil, evidence.Fail},
		{"not limited, 401", limitedSite(1e9, post, 401), nil, evidence.Fail},
		{"every one refused", limitedSite(1e9, post, 403), nil, evidence.Error},
		{"no token, all 400", limitedSite(1e9, post, 400), nil, evidence.Error},
		{"too few asked", limitedSite(20, post, 200), func(o *probe.Options) { o.Burst = 10 }, evidence.Error},
		{"bursts off", limitedSite(0, post, 200), func(o *probe.Options) { o.Burst = -1 }, evidence.Error},
		{"writing off", limitedSite(0, post, 200), func(o *probe.Options) { o.Writes = false }, evidence.Error},
		{"no login", http.NotFoundHandler(), nil, evidence.Error},
	} {
		t.Run(x.name, func(t *testing.T) {
			var change []func(*probe.Options)
			if x.opt != nil {
				change = append(change, x.opt)
			}
			probetest.Want(t, probetest.Ask(t, k, x.site, false, change...), x.want)
		})
	}
}

func TestFloodProbe(t *testing.T) {
	k := probetest.Find(t, checks, "request-burst")
	get := func(r *http.Request) bool { return true }
	for _, x := range []struct {
		name  string
		site  http.Handler
		burst int
		want  evidence.Outcome
		says  string
	}{
		{"limited", limitedSite(400, get, 404), flood, evidence.Pass, "Retry-After"},
		{"not limited", limitedSite(1e9, get, 404), flood, evidence.Fail, "1000"},
		// The polite default cannot prove that there is no limit.
		{"not limited, few asked", limitedSite(1e9, get, 404), 40, evidence.Error, "within 40"},
	} {
		t.Run(x.name, func(t *testing.T) {
			all := probetest.Ask(t, k, x.site, false, func(o *probe.Options) { o.Burst = x.burst })
			probetest.Want(t, all, x.want)
			if !strings.Contains(all[0].Summary, x.says) {
				t.Errorf("%q does not say %q", all[0].Summary, x.says)
			}
		})
	}
}
