package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/policy"
)

func TestSourcePolicy(t *testing.T) {
	files := map[string]string{"app.py": "from flask import Flask, request\napp = Flask(__name__)\n\n\n@app.get(\"/a/<int:n>\")\ndef a(n):\n    return str(request.args.get(\"page\", type=int))\n"}
	dir := project1(t, files)
	start := func(dir, setting string) (*sourcePolicy, error) {
		a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, environ: []string{"HOME=" + t.TempDir()}}
		cfg := &catalog.Config{}
		cfg.App.Policy = setting
		s, err := a.startPolicy(t.Context(), dir, cfg)
		if err == nil {
			<-s.done
		}
		return s, err
	}
	s, err := start(dir, "auto")
	if err != nil || s.current() == nil {
		t.Fatalf("%v, %v", s, err)
	}
	if typ, known := s.current().Match("GET", "/a/3").Type("query", "page"); typ != "int" || !known {
		t.Errorf("page: %q %v", typ, known)
	}
	if e := s.evidence(time.Now()); e.Outcome != evidence.Pass || !e.Partial || e.Validate() != nil {
		t.Errorf("%+v", e)
	}
	if s, err = start(dir, "off"); err != nil || s.current() != nil || s.evidence(time.Now()).Outcome != evidence.Error {
		t.Errorf("off: %+v, %v", s, err)
	}
	// A file goes before an audit, wherever the setting says it is.
	file := `{"version": 1, "routes": [{"rule": "/b", "methods": ["GET"]}]}`
	if err := os.WriteFile(filepath.Join(dir, "other.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = start(dir, "other.json"); err != nil || len(s.current().Routes()) != 1 {
		t.Errorf("a file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, policyFile), []byte(`{"version": 9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = start(dir, "auto"); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("a file of another version: %v", err)
	}
	if _, err = start(dir, "none.json"); err == nil || !strings.Contains(err.Error(), "app.policy") {
		t.Errorf("a file that is not there: %v", err)
	}
	// What cannot be read is said, and is no reason not to start.
	if s, err = start(t.TempDir(), "auto"); err != nil {
		t.Errorf("an empty folder: %v", err)
	} else if e := s.evidence(time.Now()); e.Outcome == evidence.Fail || e.Summary == "" {
		t.Errorf("%+v", e)
	}
}

// TestSourcePolicyProcess has the audit's process fail in the ways that a
// process can. Each is said, and none keeps an old map in force.
func TestSourcePolicyProcess(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the programs are shell scripts")
	}
	dir := project1(t, map[string]string{"app.py": "from flask import Flask\napp = Flask(__name__)\n"})
	for name, c := range map[string]struct{ script, why string }{
		"garbage":  {"echo '{\"version\": 1, \"routes'", "policy: line"},
		"a crash":  {"echo broken pipes >&2; exit 3", "broken pipes"},
		"a kill":   {"kill -9 $$", "no reason given"},
		"noise":    {"head -c 70000000 /dev/zero | tr '\\0' ' '", "more than 64 MiB"},
		"nothing":  {"exit 0", "unexpected end"},
		"a hang":   {"exec sleep 600", "not read within"},
		"grandson": {"sleep 600 & echo started; exit 1", "no reason given"},
	} {
		self := filepath.Join(t.TempDir(), "dewar")
		if err := os.WriteFile(self, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		a := &app{self: self, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, environ: os.Environ()}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		if name == "a hang" {
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		}
		s := &sourcePolicy{audited: true, p: &policy.Policy{}}
		s.outdate()
		begin := time.Now()
		s.renew(ctx, a, dir)
		cancel()
		e := s.evidence(time.Now())
		if s.current() != nil || e.Outcome != evidence.Error || !strings.Contains(e.Summary, c.why) || time.Since(begin) > 100*time.Second {
			t.Errorf("%s: %v after %v", name, e.Summary, time.Since(begin))
		}
	}
}

// TestSourcePolicyRenewed follows a policy through a change of the code.
func TestSourcePolicyRenewed(t *testing.T) {
	dir := project1(t, map[string]string{"app.py": "from flask import Flask\napp = Flask(__name__)\n"})
	name := filepath.Join(dir, "other.json")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"version": 1, "routes": [{"rule": "/b", "methods": ["GET"]}]}`)
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, environ: []string{"HOME=" + t.TempDir()}}
	cfg := &catalog.Config{}
	cfg.App.Policy = "other.json"
	s, err := a.startPolicy(t.Context(), dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	old := s.current()
	back := s.outdate()
	if s.current() != nil {
		t.Error("the old map speaks of new code")
	}
	if back(); s.current() != old {
		t.Error("the code stayed, its map did not")
	}
	// A file that was named is read again; nothing takes its place.
	write(`{"version": 1, "routes": [{"rule": "/c", "methods": ["GET"]}]}`)
	s.outdate()
	if s.renew(t.Context(), a, dir); s.current() == nil || s.current().Routes()[0].Rule != "/c" {
		t.Errorf("read again: %+v", s.current())
	}
	write("nothing")
	s.outdate()
	if s.renew(t.Context(), a, dir); s.current() != nil || s.evidence(time.Now()).Outcome != evidence.Error {
		t.Error("a broken file leaves the old map in force")
	}
	// Off stays off.
	cfg.App.Policy = "off"
	if s, err = a.startPolicy(t.Context(), dir, cfg); err != nil {
		t.Fatal(err)
	}
	s.outdate()
	if s.renew(t.Context(), a, dir); s.current() != nil || !strings.Contains(s.evidence(time.Now()).Summary, "off") {
		t.Error("a reload reads what is off")
	}
	// Of two audits at once the later one counts.
	cfg.App.Policy = "auto"
	if s, err = a.startPolicy(t.Context(), dir, cfg); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { s.outdate(); s.renew(t.Context(), a, dir) })
	}
	both.Wait()
	if <-s.done; s.current() == nil {
		t.Errorf("none of three audits counted: %v", s.why)
	}
}
