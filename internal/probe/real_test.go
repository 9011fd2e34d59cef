package probe_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/probe"
)

// serve runs an example app under gunicorn on loopback until the test ends.
func serve(t *testing.T, app string, environ ...string) string {
	t.Helper()
	missing := func(err error) {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatalf("needs make venv and the example apps: %v", err)
		}
		t.Skipf("SKIPPED: needs make venv and the example apps (%v)", err)
	}
	gunicorn, _ := filepath.Abs("../../.venv/bin/gunicorn")
	dir, _ := filepath.Abs("../../examples/" + app)
	for _, p := range []string{gunicorn, filepath.Join(dir, "wsgi.py")} {
		if _, err := os.Stat(p); err != nil {
			missing(err)
		}
	}
	addr := fmt.Sprint("127.0.0.1:", freeport.Take(t))
	log, err := os.Create(filepath.Join(t.TempDir(), "gunicorn.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	data := t.TempDir()
	// No configuration file: leaky's own is wrong on purpose.
	cmd := exec.Command(gunicorn, "--config", "/dev/null", "--bind", addr, "--workers", "1", "--threads", "8", "--worker-tmp-dir", data, "wsgi:app")
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + data, "TMPDIR=" + data, "PYTHONDONTWRITEBYTECODE=1", "INSTANCE_PATH=" + data}, environ...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("gunicorn:\n%s", b[max(0, len(b)-4000):])
		}
	})
	for range 900 {
		if r, err := http.Get("http://" + addr + "/"); err == nil {
			r.Body.Close()
			return "http://" + addr
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not start", app)
	return ""
}

func ask(t *testing.T, site string) map[string][]evidence.Evidence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	start := time.Now()
	r, err := probe.Run(ctx, site, catalog.Checks(), probe.Options{Rate: 500, Budget: 1500, Burst: 1000, Writes: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]evidence.Evidence{}
	for _, e := range r.Evidence() {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
		got[e.Check] = append(got[e.Check], e)
		t.Logf("%-10s %-24s %s  [%s] %s", e.Outcome, e.Check, e.Summary, e.URL, strings.ReplaceAll(e.Seen, "\n", " | "))
	}
	for _, res := range r.Results {
		if res.Requests > res.Check.Requests {
			t.Errorf("%s sent %d requests", res.Check.ID, res.Requests)
		}
	}
	t.Logf("%d requests, %s", r.Requests, time.Since(start).Round(time.Millisecond))
	return got
}

// wants compares each check's sum with what the app is known to do.
func wants(t *testing.T, got map[string][]evidence.Evidence, want map[evidence.Outcome]string) {
	t.Helper()
	seen := map[string]bool{}
	for o, ids := range want {
		for id := range strings.FieldsSeq(ids) {
			seen[id] = true
			if w, ok := evidence.Worst(got[id]); !ok || w != o {
				t.Errorf("%s: %s, want %s", id, w, o)
			}
		}
	}
	var rest []string
	for id := range got {
		if !seen[id] {
			rest = append(rest, fmt.Sprint(id, " ", got[id][0].Outcome))
		}
	}
	slices.Sort(rest)
	if len(rest) > 0 {
		t.Errorf("not expected: %s", strings.Join(rest, ", "))
	}
}

// TestLeaky: what the probe must find in an app with every promise broken, as
// seen by a visitor who has not logged in and without any guard.
func TestLeaky(t *testing.T) {
	wants(t, ask(t, serve(t, "leaky")), map[evidence.Outcome]string{
		evidence.Fail: `debugger-reachable traceback-shown reflected-markup sql-error csrf-cross-site-post headers-observatory headers-on-errors
			login-burst request-burst https-redirect server-banner host-header script-name-header upload-size`,
		// Its forms for files want an account, and its cookies come only after logging in, which the probe never does.
		evidence.Error:         "session-key-published cookie-flags session-fixation upload-active-content upload-path upload-malware",
		evidence.Pass:          "source-served directory-listing cors-reflects-origin secret-file-served template-arithmetic odd-methods forwarded-host identity-header",
		evidence.NotApplicable: "source-map-served certificate tls-versions",
	})
}

// TestShop: a well-written app without a guard fails only what an app cannot
// do for itself: TLS, the server in front, a limit for floods.
func TestShop(t *testing.T) {
	site := serve(t, "shop", "SECRET_KEY=5f0c1d8e7a9b4c3d2e1f6a7b8c9d0e1f2a3b4c5d6e7f8a9b", "TRUSTED_HOSTS=127.0.0.1")
	wants(t, ask(t, site), map[evidence.Outcome]string{
		evidence.Fail: "headers-observatory https-redirect request-burst script-name-header",
		evidence.Pass: `debugger-reachable traceback-shown source-served directory-listing source-map-served cors-reflects-origin secret-file-served
			session-key-published reflected-markup template-arithmetic sql-error cookie-flags session-fixation csrf-cross-site-post
			headers-on-errors login-burst odd-methods server-banner host-header forwarded-host identity-header upload-size`,
		evidence.Error:         "upload-active-content upload-path upload-malware",
		evidence.NotApplicable: "certificate tls-versions",
	})
}

// TestShopWithPublishedKey: only the key differs, and Flask signed with it.
func TestShopWithPublishedKey(t *testing.T) {
	all := ask(t, serve(t, "shop", "SECRET_KEY=dev-secret-key-change-in-production", "TRUSTED_HOSTS=127.0.0.1"))["session-key-published"]
	if len(all) != 2 { // the session cookie and Flask-WTF's token
		t.Errorf("%d answers, want two", len(all))
	}
	for _, e := range all {
		if e.Outcome != evidence.Fail || strings.Contains(e.Summary+e.Seen, "change-in-production") {
			t.Errorf("%+v", e)
		}
	}
}
