package gateway

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

func execIn(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestKilled: when the guard is killed, the kernel ends gunicorn.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("GATEWAY_TEST_CHILD"); dir != "" {
		// We are the guard to be killed.
		o := options(t, map[string]string{"app.py": echoApp})
		r := start(t, o)
		os.WriteFile(dir+"/pid.tmp", []byte(itoa(r.master())), 0o600)
		os.Rename(dir+"/pid.tmp", dir+"/pid")
		time.Sleep(time.Minute)
		return
	}
	realPython(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "GATEWAY_TEST_CHILD="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pgid int
	<-waitFor(func() bool {
		b, err := os.ReadFile(dir + "/pid")
		pgid = atoi(string(b))
		return err == nil
	})
	if pgid == 0 || len(groupMembers(pgid)) < 2 {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal("the guard did not start")
	}
	cmd.Process.Kill()
	cmd.Wait()
	<-waitFor(func() bool { return len(groupMembers(pgid)) == 0 })
	if left := groupMembers(pgid); len(left) > 0 {
		t.Errorf("left after SIGKILL: %v", left)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }
