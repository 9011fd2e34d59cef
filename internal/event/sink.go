package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// WriterSink writes lines to w. Close does not close w.
func WriterSink(w io.Writer) Sink { return writerSink{w} }

type writerSink struct{ w io.Writer }

func (s writerSink) Write(line []byte) error { _, err := s.w.Write(line); return err }
func (writerSink) Sync() error               { return nil }
func (writerSink) Close() error              { return nil }

// FileSink appends lines to a file, which it makes with mode 0600; a file that
// is there keeps its mode. It starts a new file when the next line would go
// over maxSize (0: never) and keeps the last keep old ones as name.1, name.2,
// …; it opens the name again when somebody else moved or deleted the file,
// for which it looks before every batch of lines.
// Sync calls fsync, on the file and not on its folder.
//
// Every line stands alone: what a full disk or a crash left of a half line is
// taken away or ended before the next one. A rotation that fails does not
// stop the log, which then grows over its size; Sync reports it.
type FileSink struct {
	name    string
	maxSize int64
	keep    int
	own     bool // no link is followed

	mu      sync.Mutex
	f       *os.File
	info    fs.FileInfo // of f when it was opened
	size    int64
	torn    bool // the file does not end with a newline
	closed  bool
	rotated error     // why the last rotation failed
	again   time.Time // when to try again
}

// OpenFile opens name for appending.
func OpenFile(name string, maxSize int64, keep int) (*FileSink, error) {
	s := &FileSink{name: name, maxSize: maxSize, keep: max(keep, 1)}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("the security log: %w", err)
	}
	return s, nil
}

// OpenOwnFile is [OpenFile] for a file that is nobody else's: a symbolic link
// in its place is not followed, now and whenever the name is opened again
// (CWE-59).
func OpenOwnFile(name string, maxSize int64, keep int) (*FileSink, error) {
	s := &FileSink{name: name, maxSize: maxSize, keep: max(keep, 1), own: true}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *FileSink) open() error {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if s.own {
		flags |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(s.name, flags, 0o600)
	if s.own && errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("%s is a symbolic link: name the file itself", s.name)
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.f, s.info, s.size, s.torn = f, st, st.Size(), false
	if st.Mode().IsRegular() && s.size > 0 {
		// A crash may have left half a line.
		if r, err := os.Open(s.name); err == nil {
			var last [1]byte
			n, _ := r.ReadAt(last[:], s.size-1)
			s.torn = n == 1 && last[0] != '\n'
			r.Close()
		}
	}
	return nil
}

func (s *FileSink) shut() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

// Write implements [Sink].
func (s *FileSink) Write(line []byte) error {
	_, err := s.WriteBatch(line)
	return err
}

// WriteBatch implements [Batcher]. Lines that do not fit into the file go on
// in the next one.
func (s *FileSink) WriteBatch(lines []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(lines) {
		rest := lines[n:]
		first := bytes.IndexByte(rest, '\n') + 1
		if first == 0 {
			first = len(rest)
		}
		if err := s.ready(first); err != nil {
			return n, err
		}
		m, err := s.append(rest[:s.fitting(rest, first)])
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// ready makes the file one that takes a line of so many bytes.
func (s *FileSink) ready(line int) error {
	if s.closed {
		return fs.ErrClosed
	}
	if s.f != nil && s.moved() {
		_ = s.f.Sync() // there is nowhere left to report it
		s.shut()
	}
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.over(line) && time.Now().After(s.again) {
		if s.rotated = s.rotate(); s.rotated != nil {
			s.again = time.Now().Add(10 * time.Second)
		}
		if s.f == nil {
			if err := s.open(); err != nil {
				return errors.Join(s.rotated, err)
			}
		}
	}
	return nil
}

// over reports whether so many bytes more are for the next file.
func (s *FileSink) over(n int) bool {
	return s.maxSize > 0 && s.size > 0 && s.size+int64(n) > s.maxSize && s.info.Mode().IsRegular()
}

// fitting returns how many bytes of whole lines go into this file: first,
// which is the first line's length, at least.
func (s *FileSink) fitting(lines []byte, first int) int {
	room := s.maxSize - s.size
	if s.maxSize <= 0 || int64(len(lines)) <= room || !s.info.Mode().IsRegular() || s.over(first) {
		return len(lines) // over: there is no next file
	}
	return max(first, bytes.LastIndexByte(lines[:max(room, 0)], '\n')+1)
}

// append writes lines and returns how many bytes of whole lines it took.
func (s *FileSink) append(lines []byte) (int, error) {
	begin := 0
	if s.torn {
		lines, begin = append([]byte{'\n'}, lines...), 1
	}
	n, err := s.f.Write(lines)
	whole := n
	if n < len(lines) {
		whole = bytes.LastIndexByte(lines[:n], '\n') + 1
		if s.info.Mode().IsRegular() && s.f.Truncate(s.size+int64(whole)) == nil {
			n = whole // the half line is gone
		}
	}
	if n > 0 {
		s.torn = n > whole
		s.size += int64(n)
	}
	return max(whole-begin, 0), err
}

// moved reports whether the name no longer leads to the open file.
func (s *FileSink) moved() bool {
	stat := os.Stat
	if s.own {
		stat = os.Lstat
	}
	named, err := stat(s.name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !os.SameFile(named, s.info)
}

// Reopen closes the file and opens its name again, for a rotation from
// outside. When that fails the sink goes on with the file it has.
func (s *FileSink) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fs.ErrClosed
	}
	old := s.f
	if err := s.open(); err != nil {
		return err
	}
	if old != nil {
		return old.Close()
	}
	return nil
}

// rotate moves the files one on. The file in use is closed when it succeeds,
// and stays when it fails.
func (s *FileSink) rotate() error {
	if err := s.f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	old := func(i int) string { return fmt.Sprintf("%s.%d", s.name, i) }
	if err := os.Remove(old(s.keep)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := s.keep - 1; i >= 1; i-- {
		if err := os.Rename(old(i), old(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(s.name, old(1)); err != nil {
		return err
	}
	s.shut()
	return nil
}

// Sync implements [Sink]. It also reports a rotation that failed. Lines can be
// written meanwhile.
func (s *FileSink) Sync() error {
	s.mu.Lock()
	f, rotated := s.f, s.rotated
	if f != nil && !s.info.Mode().IsRegular() {
		f = nil // a pipe or a device has no disk to reach
	}
	s.mu.Unlock()
	if f == nil {
		return rotated
	}
	err := f.Sync()
	if errors.Is(err, fs.ErrClosed) {
		err = nil // rotated meanwhile, and synced before that
	}
	return errors.Join(err, rotated)
}

// Close implements [Sink]. It is safe to call twice.
func (s *FileSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}
