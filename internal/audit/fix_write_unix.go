//go:build !windows

package audit

import (
	"io/fs"
	"os"
	"syscall"
)

// plainFile are the flags that keep open from following a link, or waiting
// for a pipe, that took a file's place.
const plainFile = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// keepOwner gives a file the owner of the one it will replace.
func keepOwner(f *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
