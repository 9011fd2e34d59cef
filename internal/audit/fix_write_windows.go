package audit

import (
	"io/fs"
	"os"
)

const plainFile = 0

// keepOwner has nothing to do: a new file inherits from its folder.
func keepOwner(*os.File, fs.FileInfo) error { return nil }
