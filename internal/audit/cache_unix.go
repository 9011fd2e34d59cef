//go:build !windows

package audit

import (
	"io/fs"
	"os"
	"syscall"
)

// checksMode says whether a file's mode tells who may use it.
const checksMode = true

// ownFile reports whether a file belongs to the user that runs Dewar.
func ownFile(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
