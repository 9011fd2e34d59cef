package abuse

import (
	"bytes"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// breached tells whether a password is known from a breach: by a small list of
// the most common ones that the program holds, and by the operator's file of
// SHA-1 hashes in the form of Have I Been Pwned, one a line in ascending order
// ("000000005AD76BD555C1D6D771DE417A4B87E4B4:10"). The file is searched where
// it lies, some 30 reads of a few hundred bytes; nothing of it is kept in
// memory, and nothing leaves this machine.
type breached struct {
	file io.ReaderAt
	size int64
	name string
}

// common is a list of passwords in lower case that everybody tries first; see
// passwords.txt for where it comes from.
//
//go:embed passwords.txt
var common string

var commonPasswords = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(common) {
		if line = strings.TrimRight(line, "\r\n"); line != "" && line[0] != '#' {
			m[line] = true
		}
	}
	return m
})

// openBreached opens a file and looks whether it is what it must be. An empty
// name stands for the built-in list alone.
func openBreached(name string) (*breached, io.Closer, error) {
	if name == "" {
		return &breached{}, nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	b := &breached{file: f, name: name}
	if err == nil {
		b.size = fi.Size()
		err = b.check()
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, f, nil
}

// check reads hashes at some places: each must be one, and later than the one
// before.
func (b *breached) check() error {
	var last []byte
	for i := range int64(16) {
		at := b.size / 16 * i
		h, _, err := b.lineAt(at)
		if errors.Is(err, io.EOF) && i > 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", at, err)
		}
		if bytes.Compare(h, last) < 0 {
			return fmt.Errorf("at byte %d: the hashes are not in ascending order: take the file that is ordered by hash", at)
		}
		last = h
	}
	return nil
}

// maxLine is the longest line: a hash, a colon, a count and the line's end.
const maxLine = 64

// lineAt returns the hash of the first line that begins at or after a byte,
// and where that line ends.
func (b *breached) lineAt(at int64) (hash []byte, end int64, err error) {
	var buf [2*maxLine + 1]byte
	begin := max(at-1, 0) // one before: a line may begin at this very byte
	n, err := b.file.ReadAt(buf[:], begin)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	text := buf[:n]
	if at > 0 {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			if begin+int64(n) >= b.size {
				return nil, 0, io.EOF
			}
			return nil, 0, errors.New("a line is too long for a hash and a count")
		}
		text = text[i+1:]
		begin += int64(i) + 1
	}
	if len(text) == 0 {
		return nil, 0, io.EOF
	}
	i := bytes.IndexByte(text, '\n')
	switch {
	case i < 0 && begin+int64(len(text)) < b.size:
		return nil, 0, errors.New("a line is too long for a hash and a count")
	case i < 0:
		i = len(text) - 1
	}
	line := bytes.TrimRight(text[:i+1], "\r\n")
	if len(line) < 40 || len(line) > 40 && line[40] != ':' {
		return nil, 0, errors.New("not the SHA-1 of a password in 40 hexadecimal digits")
	}
	hash = make([]byte, sha1.Size)
	if _, err := hex.Decode(hash, line[:40]); err != nil {
		return nil, 0, errors.New("not the SHA-1 of a password in 40 hexadecimal digits")
	}
	return hash, begin + int64(i) + 1, nil
}

// has reports whether a password is known.
func (b *breached) has(password string) (bool, error) {
	if password == "" {
		return false, nil
	}
	if commonPasswords()[strings.ToLower(password)] {
		return true, nil
	}
	if b.file == nil {
		return false, nil
	}
	want := sha1.Sum([]byte(password)) // the form of the file, no protection
	lo, hi := int64(0), b.size         // the line, if there is one, begins in [lo, hi)
	for lo < hi {
		mid := lo + (hi-lo)/2
		h, end, err := b.lineAt(mid)
		if errors.Is(err, io.EOF) {
			hi = mid
			continue
		}
		if err != nil {
			return false, fmt.Errorf("%s: at byte %d: %w", b.name, mid, err)
		}
		switch bytes.Compare(h, want[:]) {
		case 0:
			return true, nil
		case -1:
			lo = end
		default:
			hi = mid
		}
	}
	return false, nil
}
