//go:build unix && !linux

package gateway

import (
	"os"
	"os/exec"
	"syscall"
)

// childAttributes puts the child into its own process group. Only Linux ends
// it when we are killed.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// reap waits for the child's end and ends what is left of its process group.
func reap(cmd *exec.Cmd, ended func()) error {
	err := cmd.Wait()
	ended()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return err
}

func ownerOf(st os.FileInfo) (uid int, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
