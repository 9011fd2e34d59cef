package cli

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrain: after SIGTERM the guard says that it is not ready, and serves on
// for deployment.drain, each connection for one answer.
func TestDrain(t *testing.T) {
	dir := plainProject(t)
	writeFile(t, dir+"/dewar.toml", "[deployment]\ndrain = \"15s\"\n[abuse]\nrate-limit = \"off\"\n[injection]\nmode = \"off\"\n")
	s, _ := process(t, dir, nil)
	pid := s.pid()
	c := s.client()
	if a := s.ask(c, "GET", "/", ""); a.StatusCode != 200 || a.Close {
		t.Errorf("before: %s, close %v", a.Status, a.Close)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not being ready", func() bool {
		res, err := http.Get(s.consoleURL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusServiceUnavailable
	})
	fresh := s.client()
	fresh.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
	fresh.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	for range 3 {
		if a := s.ask(fresh, "GET", "/", ""); a.StatusCode != 200 || !a.Close || !strings.HasPrefix(a.text, "one") {
			t.Errorf("while draining: %s %q, close %v", a.Status, a.text, a.Close)
		}
	}
	begin := time.Now()
	eventually(t, "the end", func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("it took %s", d)
	}
}
