package event

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// WriterSink writes lines to w. Close does not close w.
func WriterSink(w io.Writer) Sink { return writerSink{w} }

type writerSink struct{ w io.Writer }

func (s writerSink) Write(line []byte) error { _, err := s.w.Write(line); return err }
func (writerSink) Sync() error               { return nil }
func (writerSink) Close() error              { return nil }

// FileSink appends lines to a file of mode 0600. It starts a new file when
// the next line would go over maxSize (0: never) and keeps the last keep old
// ones as name.1, name.2, …; it opens the name again when somebody else moved
// or deleted the file. Sync calls fsync.
type FileSink struct {
	name    string
	maxSize int64
	keep    int

	mu   sync.Mutex
	f    *os.File
	size int64
	n    int // lines since the last look whether the file is still there
}

// OpenFile opens name for appending.
func OpenFile(name string, maxSize int64, keep int) (*FileSink, error) {
	s := &FileSink{name: name, maxSize: maxSize, keep: max(keep, 1)}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("the security log: %w", err)
	}
	return s, nil
}

func (s *FileSink) open() error {
	f, err := os.OpenFile(s.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if st.IsDir() {
		f.Close()
		return &fs.PathError{Op: "open", Path: s.name, Err: errors.New("is a folder")}
	}
	s.f, s.size = f, st.Size()
	return nil
}

// Write implements [Sink].
func (s *FileSink) Write(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.n++; s.n%64 == 1 && s.moved() {
		s.f.Close()
		if err := s.open(); err != nil {
			s.f = nil
			return err
		}
	}
	if s.maxSize > 0 && s.size > 0 && s.size+int64(len(line)) > s.maxSize {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	n, err := s.f.Write(line)
	s.size += int64(n)
	return err
}

// moved reports whether the name no longer leads to the open file.
func (s *FileSink) moved() bool {
	named, err := os.Stat(s.name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	open, err := s.f.Stat()
	return err == nil && !os.SameFile(named, open)
}

func (s *FileSink) rotate() error {
	if err := s.f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	s.f.Close()
	s.f = nil
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
	return s.open()
}

// Sync implements [Sink].
func (s *FileSink) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	if st, err := s.f.Stat(); err == nil && !st.Mode().IsRegular() {
		return nil // a pipe or a device has no disk to reach
	}
	return s.f.Sync()
}

// Close implements [Sink].
func (s *FileSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}
