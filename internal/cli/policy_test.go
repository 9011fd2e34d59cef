package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/evidence"
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
