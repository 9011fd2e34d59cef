package authn

import (
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/browsertest"
)

// TestBrowser: what only a browser can say: that it keeps the cookies under
// their names, sends them where they are needed, and sends the one of a login
// under way with another site's form (the provider's http and our https are
// two sites to it).
func TestBrowser(t *testing.T) {
	for _, mode := range []string{"query", "form_post"} {
		t.Run(mode, func(t *testing.T) {
			c := newClock()
			o := newHostileOP(t, c)
			cfg := siteConfig(o)
			cfg.Provider.ResponseMode = mode
			s := newSite(t, cfg, c)
			run := browsertest.Command(t, "--virtual-time-budget=8000", "--dump-dom", s.URL+"/account/x?y=1")
			out, err := run.Output()
			if !strings.Contains(string(out), `app GET /account/x?y=1 user="ann"`) {
				t.Errorf("%v\n%s\n%v", err, out, s.reasons())
			}
			if strings.Contains(string(out), "dewar-login") {
				t.Errorf("the app sees the guard's cookies: %s", out)
			}
		})
	}
}
