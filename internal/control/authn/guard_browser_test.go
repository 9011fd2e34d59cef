package authn

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestBrowser: what only a browser can say: that it keeps the cookies under
// their names, sends them where they are needed, and sends the one of a login
// under way with another site's form (the provider's http and our https are
// two sites to it).
func TestBrowser(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal("Chromium is missing: apt-get install chromium")
		}
		t.Skip("SKIPPED, NO BROWSER LOOKED: apt-get install chromium")
	}
	for _, mode := range []string{"query", "form_post"} {
		t.Run(mode, func(t *testing.T) {
			c := newClock()
			o := newHostileOP(t, c)
			cfg := siteConfig(o)
			cfg.Provider.ResponseMode = mode
			s := newSite(t, cfg, c)
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			home := t.TempDir()
			run := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
				"--ignore-certificate-errors", "--user-data-dir="+home, "--virtual-time-budget=8000", "--dump-dom", s.URL+"/account/x?y=1")
			run.Env = append(os.Environ(), "HOME="+home)
			run.WaitDelay = 2 * time.Second
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
