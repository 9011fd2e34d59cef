package event

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func open(t *testing.T, name string, maxSize int64, keep int) *FileSink {
	t.Helper()
	s, err := OpenFile(name, maxSize, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t *testing.T, s *FileSink, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if err := s.Write([]byte(l + "\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileSink(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s := open(t, name, 0, 1)
	write(t, s, "one", "two")
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; others can read the log", st.Mode(), err)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Write([]byte("x\n")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed log takes lines: %v", err)
	}
	write(t, open(t, name, 0, 1), "three") // appends
	if got := content(t, name); got != "one\ntwo\nthree\n" {
		t.Errorf("%q", got)
	}
	if _, err := OpenFile(t.TempDir(), 0, 1); err == nil {
		t.Error("a folder is taken for a log")
	}
}

func TestFileSinkRotates(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s := open(t, name, 8, 2)
	write(t, s, "aaa", "bbb", "ccc", "ddd", "eee", "fff", "longer than a file may be", "ggg")
	for file, want := range map[string]string{"": "ggg\n", ".1": "longer than a file may be\n", ".2": "eee\nfff\n"} {
		if got := content(t, name+file); got != want {
			t.Errorf("log%s holds %q, want %q", file, got, want)
		}
	}
	if _, err := os.Stat(name + ".3"); err == nil {
		t.Error("a third old file is kept")
	}
}

// TestFileSinkMoved: logrotate moves or deletes the file; no line is lost into
// a file without a name.
func TestFileSinkMoved(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s := open(t, name, 0, 1)
	write(t, s, "one")
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	write(t, s, "two")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	write(t, s, "three")
	if content(t, name+".old") != "one\n" || content(t, name) != "three\n" {
		t.Errorf("%q, %q", content(t, name+".old"), content(t, name))
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	if content(t, name) != "" {
		t.Error("Reopen did not make the file")
	}
}

// TestFileSinkHalfLine: a crash left half a line; the next event is whole.
func TestFileSinkHalfLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte("{\"whole\":1}\n{\"half"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, open(t, name, 0, 1), `{"next":1}`, `{"more":1}`)
	if got := content(t, name); got != "{\"whole\":1}\n{\"half\n{\"next\":1}\n{\"more\":1}\n" {
		t.Errorf("%q", got)
	}
}

// TestFileSinkFullDisk: the file may not grow any more, in the middle of a
// line. The line is an error and leaves nothing behind; when there is room
// again the next one is whole. A limit on file size stands for the disk.
func TestFileSinkFullDisk(t *testing.T) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip("SKIPPED: no limit on file size here: ", err)
	}
	name := filepath.Join(t.TempDir(), "log")
	s := open(t, name, 0, 1)
	write(t, s, "before")
	// Go ignores SIGXFSZ, so the write comes back short, as on a disk.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: was.Max}); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	err := s.Write([]byte("does not fit\n"))
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		t.Error("a line that was not written is no error")
	}
	write(t, s, "after")
	if got := content(t, name); got != "before\nafter\n" {
		t.Errorf("%q", got)
	}
}

// TestFileSinkCannotRotate: the log goes on over its size, and says so.
func TestFileSinkCannotRotate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	// An old file that is a folder with something in it can neither be
	// removed nor replaced, not even by root.
	if err := os.MkdirAll(filepath.Join(name+".1", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, name, 8, 1)
	write(t, s, "aaaaaa", "bbbbbb", "cccccc")
	if got := content(t, name); got != "aaaaaa\nbbbbbb\ncccccc\n" {
		t.Errorf("%q", got)
	}
	if err := s.Sync(); err == nil || !strings.Contains(err.Error(), "log.1") {
		t.Errorf("Sync says %v", err)
	}
}

// TestFileSinkDevice: /dev/null and pipes are never moved out of the way.
func TestFileSinkDevice(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	r, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := open(t, name, 8, 1)
	write(t, s, "aaaaaa", "bbbbbb", "cccccc")
	buf := make([]byte, 100)
	n, _ := r.Read(buf)
	if string(buf[:n]) != "aaaaaa\nbbbbbb\ncccccc\n" {
		t.Errorf("%q", buf[:n])
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("%v", all)
	}
}

func BenchmarkFileSink(b *testing.B) {
	s, err := OpenFile(filepath.Join(b.TempDir(), "log"), 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	line := []byte(strings.Repeat("x", 400) + "\n")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
