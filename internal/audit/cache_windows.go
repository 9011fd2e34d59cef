package audit

import "io/fs"

// checksMode says whether a file's mode tells who may use it.
const checksMode = false

// ownFile is true: the folder below LocalAppData is the user's own by its
// access list.
func ownFile(fs.FileInfo) bool { return true }
