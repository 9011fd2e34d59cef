// Package clamdtest starts Debian's clamd for tests, with signatures of their
// own and without the official database.
package clamdtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/clamd"
)

// Eicar returns the EICAR test file, the harmless file that every scanner
// knows. It is put together here so that no scanner finds it in the source.
func Eicar() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}` + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!" + "$H+H*"
}

// Signature is the name under which the daemon finds [Eicar].
const Signature = "Dewar.Test.EICAR"

// Start runs clamd until the test ends and returns its address. Without clamd
// on the machine the test is skipped, loudly, or fails where
// DEWAR_REQUIRE_REAL is set. extra are lines for its configuration.
func Start(t testing.TB, extra ...string) string {
	t.Helper()
	program, err := exec.LookPath("clamd")
	if err != nil {
		if _, statErr := os.Stat("/usr/sbin/clamd"); statErr != nil {
			const msg = "SKIPPED: no clamd: install the Debian package clamav-daemon"
			if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
				t.Fatal(msg)
			}
			t.Skip(msg)
		}
		program = "/usr/sbin/clamd"
	}
	dir, err := os.MkdirTemp("", "clamd") // a short path: sockets have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	db := filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Extended signature: name, any kind of file, any offset, bytes in hex.
	write("db/dewar.ndb", Signature+":0:*:"+hex.EncodeToString([]byte(Eicar()[:40]))+"\n")
	socket := filepath.Join(dir, "s")
	conf := fmt.Sprintf("DatabaseDirectory %s\nLocalSocket %s\nForeground yes\nTemporaryDirectory %s\nMaxThreads 4\n", db, socket, dir)
	for _, line := range extra {
		conf += line + "\n"
	}
	write("conf", conf)
	var log lines
	cmd := exec.Command(program, "--config-file", filepath.Join(dir, "conf"))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	c, err := clamd.Parse("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("clamd ended: %v\n%s", err, log.text())
		default:
		}
		if _, err := c.Version(context.Background()); err == nil {
			return "unix:" + socket
		} else if time.Since(begun) > time.Minute {
			t.Fatalf("clamd does not answer: %v\n%s", err, log.text())
		}
	}
}
