package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestLSPWithRealClient has the protocol library of VS Code hold a session
// with dewar lsp. The session is testdata/lspclient/session.mjs.
func TestLSPWithRealClient(t *testing.T) {
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatalf(format, args...)
		}
		t.Skipf("SKIPPED: dewar lsp is not tested with a real client: "+format, args...)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node is missing")
	}
	if out, err := exec.Command("../../scripts/lsp-client.sh").CombinedOutput(); err != nil {
		missing("scripts/lsp-client.sh: %v\n%s", err, out)
	}
	client, err := filepath.Abs("../../.cache/lsp-client")
	if err != nil {
		t.Fatal(err)
	}
	dir := project1(t, map[string]string{
		"app.py": mendable + "\nfrom flask import request\nfrom views import find\n\n\n@app.get(\"/u\")\ndef user():\n    return find(request.args[\"name\"])\n",
		"views.py": "import sqlite3\n\n\ndef find(name):\n    db = sqlite3.connect(\"u.db\")\n" +
			"    return db.execute(f\"SELECT * FROM u WHERE name = '{name}'\").fetchone()[0]\n",
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "testdata/lspclient/session.mjs", client, dir)
	fromClient, clientOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	clientIn, toClient, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = clientIn, clientOut, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	clientIn.Close()
	clientOut.Close()
	code := execute(ctx, []string{"lsp", "--stdio", "--verbose"}, []string{"HOME=" + t.TempDir()}, fromClient, toClient, &errs)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the client: %v\n%s\nthe server:\n%s", err, said.String(), errs.String())
	}
	if code != exitOK {
		t.Errorf("dewar lsp ended with %d\n%s", code, errs.String())
	}
	// A session that checks nothing must not pass.
	if m := regexp.MustCompile(`(?m)^(\d\d+) checks$`).FindString(said.String()); m == "" {
		t.Errorf("the client did not come to its end: %s", said.String())
	}
}

func TestLSPEnd(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		code int
	}{
		"no shutdown": {"", exitFindings},
		"no client":   {"hello\n", exitError},
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"lsp"}, nil, io.NopCloser(strings.NewReader(c.in)), &out, &errs); code != c.code || strings.Contains(errs.String(), "panic") {
			t.Errorf("%s: ended with %d, %s", name, code, errs.String())
		}
	}
}
