package gateway

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

// TestHeaderSmuggling: gunicorn as people start it, on a unix socket, behind
// nothing but a reverse proxy. It trusts every peer of a unix socket, so
// SCRIPT_NAME as a header moves the path past any rule of the proxy: the
// attack works through the bare forwarder, and must not through the layers.
func TestHeaderSmuggling(t *testing.T) {
	python := realPython(t)
	dir := project(t, map[string]string{"app.py": echoApp})
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(python, "-m", "gunicorn", "--bind", "unix:"+sock, "app:app")
	cmd.Dir, cmd.Env = dir, cleanEnviron(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}()
	<-waitFor(func() bool {
		c, err := net.Dial("unix", sock)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	f, err := NewForwarder("unix:"+sock, ForwarderOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	cfg := deployment.Config{Methods: []string{"GET", "POST"}, AllowedHosts: []string{"127.0.0.1"}}
	env := guard.Env{Now: time.Now, CertificateNames: func() []string { return nil }, Facts: func() guard.Facts { return guard.Facts{} }}
	var bounds []guard.Bound
	for _, spec := range deployment.Control.Layers {
		var l guard.Layer
		switch spec.Name {
		case "request":
			l, err = deployment.NewRequest(cfg, env)
		case "client":
			l, err = deployment.NewClient(cfg, env)
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, guard.Bound{Spec: spec, Layer: l})
	}
	if len(bounds) != 2 {
		t.Fatalf("%d layers", len(bounds))
	}
	chain, err := guard.NewChain(guard.Options{Layers: bounds, Forward: f})
	if err != nil {
		t.Fatal(err)
	}
	bareFront := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f.Forward(w, &guard.Exchange{Request: r}, nil); err != nil {
			t.Error(err)
		}
	}))
	defer bareFront.Close()
	guarded := httptest.NewServer(chain)
	defer guarded.Close()

	attack := []string{"SCRIPT_NAME", "/foo", "X_Auth_User", "admin", "X-Forwarded-For", "198.51.100.1", "X-Forwarded-Proto", "https"}
	e := getEcho(t, "GET", bareFront.URL+"/foo/admin", "", attack...)
	if e.Environ["PATH_INFO"] != "/admin" || e.Scheme != "https" {
		t.Logf("this gunicorn is not open to the attack: PATH_INFO %q, scheme %s", e.Environ["PATH_INFO"], e.Scheme)
		if os.Getenv("DEWAR_TEST_PYTHON") == "" {
			t.Error("the attack no longer works bare: the test below proves nothing")
		}
	}
	status, text := do(t, "GET", guarded.URL+"/foo/admin", "", attack...)
	if status != http.StatusOK {
		return // refused is as good as cleaned
	}
	var g echo
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		t.Fatal(err)
	}
	if g.Environ["PATH_INFO"] != "/foo/admin" || g.Environ["SCRIPT_NAME"] != "" || g.Environ["HTTP_X_AUTH_USER"] != "" ||
		g.Scheme != "http" || strings.Contains(g.Environ["HTTP_X_FORWARDED_FOR"], "198.51.100.1") {
		t.Errorf("reached the app through the layers: %+v", g)
	}
}
