package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// WriteFixes writes the files below root: all of them, or none. A file
// appears under its name whole, with the mode and the owner it had. Nothing
// is written, and the error says so, when a file is no longer what it was, is
// a symbolic link, or may not be written.
func WriteFixes(root string, files []FixedFile) (err error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("cannot write the project: %w", err)
	}
	defer r.Close()
	staged := make([]string, len(files))
	defer func() {
		for _, tmp := range staged {
			if tmp != "" {
				_ = r.Remove(tmp)
			}
		}
	}()
	for i, f := range files {
		if staged[i], err = stage(r, f.Path, f.Before, f.After); err != nil {
			return fmt.Errorf("%s: %w; nothing was written", f.Path, err)
		}
	}
	for i, f := range files {
		if _, err = current(r, f.Path, f.Before); err == nil {
			err = r.Rename(staged[i], f.Path)
		}
		if err == nil {
			staged[i] = ""
			continue
		}
		err = fmt.Errorf("%s: %w; nothing was written", f.Path, err)
		for _, done := range files[:i] {
			tmp, back := stage(r, done.Path, done.After, done.Before)
			if back == nil {
				back = r.Rename(tmp, done.Path)
			}
			if back != nil {
				err = errors.Join(err, fmt.Errorf("%s was written and could not be put back: %w", done.Path, back))
			}
		}
		return err
	}
	return nil
}

// current checks that a file is what it was and may be written.
func current(r *os.Root, name string, want []byte) (fs.FileInfo, error) {
	fi, err := r.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("it is no regular file any more")
	}
	f, err := r.OpenFile(name, os.O_RDWR|plainFile, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	got, err := io.ReadAll(io.LimitReader(f, int64(len(want))+1))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, errors.New("the file changed while Dewar was looking: run it again")
	}
	return fi, nil
}

// stage writes the new content beside a file and returns its name.
func stage(r *os.Root, name string, before, after []byte) (tmp string, err error) {
	fi, err := current(r, name, before)
	if err != nil {
		return "", err
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, as of Go 1.24
	tmp = path.Join(path.Dir(name), ".dewar-fix-"+hex.EncodeToString(b[:]))
	f, err := r.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(after)
	if err == nil {
		err = keepOwner(f, fi)
	}
	if err == nil {
		err = f.Chmod(fi.Mode().Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = r.Remove(tmp)
		return "", err
	}
	return tmp, nil
}
