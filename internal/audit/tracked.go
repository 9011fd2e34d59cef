package audit

import (
	"bytes"
	"crypto/sha1" // git's own checksum of its index; no security hangs on it
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxIndex bounds how much of a git index is read: about two million files.
const maxIndex = 256 << 20

// gitTracked returns the slash-separated paths, relative to root, that git
// tracks. It finds the repository from root upwards and reads its index
// itself: running git in a directory of unknown origin would run what the
// repository's configuration names (CVE-2022-24765).
func gitTracked(root string) (map[string]bool, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	for dir := root; ; {
		git := filepath.Join(dir, ".git")
		if fi, err := os.Stat(git); err == nil {
			if !fi.IsDir() { // a work tree or submodule: "gitdir: <path>"
				b, err := readRegular(git, 4096)
				if err != nil {
					return nil, err
				}
				to, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "gitdir: ")
				if !ok {
					return nil, fmt.Errorf("%s is not understood", git)
				}
				if !filepath.IsAbs(to) {
					to = filepath.Join(dir, to)
				}
				git = to
			}
			sha256 := false
			if c, err := readRegular(filepath.Join(git, "config"), 1<<20); err == nil {
				sha256 = bytes.Contains(bytes.ToLower(c), []byte("objectformat = sha256"))
			}
			b, err := readRegular(filepath.Join(git, "index"), maxIndex)
			if err != nil {
				return nil, err
			}
			all, err := parseIndex(b, sha256)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(git, "index"), err)
			}
			rel, err := filepath.Rel(dir, root)
			if err != nil {
				return nil, err
			}
			prefix := ""
			if rel != "." {
				prefix = filepath.ToSlash(rel) + "/"
			}
			tracked := make(map[string]bool, len(all))
			for _, p := range all {
				if p, ok := strings.CutPrefix(p, prefix); ok {
					tracked[p] = true
				}
			}
			return tracked, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil, errors.New("no git repository")
		}
		dir = up
	}
}

// readRegular reads a file of at most limit bytes, and only if it is a
// regular one: opening a named pipe would wait for ever.
func readRegular(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case fi.Size() > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// parseIndex returns the paths in a git index of version 2, 3 or 4, as
// gitformat-index(5) describes it. A split index is an error: its paths live
// in another file.
func parseIndex(b []byte, sha256 bool) ([]string, error) {
	errShort := errors.New("the git index ends too early")
	hash := sha1.Size
	if sha256 {
		hash = 32
	}
	if len(b) < 12+hash || string(b[:4]) != "DIRC" {
		return nil, errors.New("not a git index")
	}
	version, count := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if version < 2 || version > 4 {
		return nil, fmt.Errorf("git index version %d is not understood", version)
	}
	body, sum := b[:len(b)-hash], b[len(b)-hash:]
	// A checksum of zeros means index.skipHash.
	if !sha256 && !bytes.Equal(sum, make([]byte, hash)) {
		if got := sha1.Sum(body); !bytes.Equal(got[:], sum) {
			return nil, errors.New("the git index does not match its checksum")
		}
	}
	fixed := 40 + hash + 2
	var paths []string
	prev := ""
	pos, total := 12, 0
	for range count {
		start := pos
		if len(body)-pos < fixed {
			return nil, errShort
		}
		mode := binary.BigEndian.Uint32(body[pos+24:])
		flags := binary.BigEndian.Uint16(body[pos+40+hash:])
		pos += fixed
		if version >= 3 && flags&0x4000 != 0 {
			pos += 2
		}
		if pos > len(body) {
			return nil, errShort
		}
		name := ""
		if version == 4 {
			strip, n := offsetVarint(body[pos:])
			if n == 0 || strip > uint64(len(prev)) {
				return nil, errShort
			}
			pos += n
			name = prev[:len(prev)-int(strip)]
		}
		end := bytes.IndexByte(body[pos:], 0)
		if end < 0 {
			return nil, errShort
		}
		// Prefix compression lets a small index name a large one: 40 bytes an
		// entry could each repeat a path of megabytes.
		if total += len(name) + end; total > maxIndex {
			return nil, errors.New("the paths in the git index are too large together")
		}
		name += string(body[pos : pos+end])
		pos += end + 1
		if version < 4 {
			pos = start + (pos-1-start)/8*8 + 8
			if pos > len(body) {
				return nil, errShort
			}
		}
		prev = name
		if mode>>12 == 0o4 { // a sparse directory: what is below is tracked
			return nil, errors.New("a sparse git index is not understood")
		}
		paths = append(paths, name)
	}
	for len(body)-pos >= 8 { // extensions
		if string(body[pos:pos+4]) == "link" {
			return nil, errors.New("a split git index is not understood")
		}
		n := binary.BigEndian.Uint32(body[pos+4:])
		if uint64(n) > uint64(len(body)-pos-8) {
			return nil, errShort
		}
		pos += 8 + int(n)
	}
	return paths, nil
}

// offsetVarint reads the number that pack files use for offsets.
func offsetVarint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i > 8 {
			return 0, 0
		}
		if i > 0 {
			v++
		}
		v = v<<7 | uint64(c&0x7f)
		if c&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}
