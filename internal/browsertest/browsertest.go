// Package browsertest runs a headless Chromium that talks to this machine
// only, for tests of what a browser decides.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// tooLong ends a browser that hangs.
const tooLong = 10 * time.Minute

// Command returns the path of Chromium with the flags that every test gives
// it, and a folder of its own for the profile. Where there is no Chromium the
// test is skipped, and fails where DEWAR_REQUIRE_REAL is set.
func Command(t testing.TB, more ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("chromium-browser")
	}
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal("Chromium is missing: apt-get install chromium")
		}
		t.Skip("SKIPPED, NO BROWSER LOOKED: apt-get install chromium")
	}
	home := profile(t)
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, path, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--host-resolver-rules=MAP site.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
		"--ignore-certificate-errors", "--user-data-dir=" + home}, more...)...)
	c.Env = append(os.Environ(), "HOME="+home)
	c.WaitDelay = 5 * time.Second
	return c
}

// profile is a folder that goes with the test. Chromium's helpers write into
// it for a moment after Chromium has ended, so that what T.TempDir does at the
// end, which is to fail then, is not enough.
func profile(t testing.TB) string {
	t.Helper()
	home, err := os.MkdirTemp("", "dewar-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			err := os.RemoveAll(home)
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("the browser's profile stays: %v", err)
				return
			}
		}
	})
	return home
}
