package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestLifecycle counts requests that fail while settings, app and program
// change under load: none may. LIFECYCLE_RELOADS and LIFECYCLE_UPGRADES ask
// for more than the few of every day: see bench/lifecycle.sh.
func TestLifecycle(t *testing.T) {
	number := func(name string, usual int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n >= 0 {
			return n
		}
		return usual
	}
	reloads, upgrades := number("LIFECYCLE_RELOADS", 6), number("LIFECYCLE_UPGRADES", 1)
	if upgrades > reloads {
		reloads = upgrades
	}
	dir := plainProject(t)
	s, _ := process(t, dir, nil)
	settings := filepath.Join(dir, "dewar.toml")
	before, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	clients := number("LIFECYCLE_CLIENTS", 1)
	l := load(s, clients)
	begin := time.Now()
	var apps, upgraded int
	policies := []string{"same-origin", "origin", "strict-origin"}
	for i := range reloads {
		// Another value each time, and every tenth time the app, too.
		writeFile(t, settings, string(before)+fmt.Sprintf("[headers]\nreferrer-policy = %q\n[deployment]\nwatch = false\nidle-timeout = \"%ds\"\n", policies[i%3], 30+i%50))
		args := []string{"reload", dir}
		if i%10 == 5 {
			args, apps = append(args, "--app"), apps+1
		}
		s.command(0, args...)
		if upgraded < upgrades && i%max(reloads/upgrades, 1) == 0 {
			old := s.pid()
			s.command(0, "upgrade", dir)
			eventually(t, "the end of the old process", func() bool { return syscall.Kill(old, 0) != nil || zombie(old) })
			upgraded++
		}
	}
	took := time.Since(begin)
	l.end(t)
	fmt.Printf("%d reloads, %d of them with the app, and %d upgrades in %s: %d requests answered, %d dropped\n",
		reloads, apps, upgraded, took.Round(time.Second), l.ok.Load(), len(l.failed))
}
