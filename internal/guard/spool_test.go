package guard

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestSpool: bodies share a bounded memory, then a bounded disk, and give both
// back.
func TestSpool(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := NewSpool(64<<10, 3<<20)
	gather := func(size int) (*Exchange, error) {
		text := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		x := &Exchange{Request: &http.Request{Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(size)}, spool: s}
		b, err := x.Buffer()
		if err == nil {
			if got, err := io.ReadAll(b.Reader()); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
		return x, err
	}
	var open []*Exchange
	inFiles := 0
	for range 20 {
		x, err := gather(16 << 10)
		if err != nil && !errors.Is(err, ErrBodyStorage) {
			t.Fatal(err)
		}
		if x.body != nil && x.body.file != nil {
			inFiles++
		}
		open = append(open, x)
		if m, d := s.Used(); m > 64<<10 || d > 3<<20 {
			t.Fatalf("%v of memory and %v of disk in use", m, d)
		}
	}
	if inFiles != 3 { // a file takes a whole step
		t.Errorf("%d bodies in files", inFiles)
	}
	if _, err := gather(16 << 10); !errors.Is(err, ErrBodyStorage) || !strings.Contains(err.Error(), "of disk") {
		t.Errorf("memory and disk are taken: %v", err)
	}
	for _, x := range open {
		x.closeBody()
	}
	if m, d := s.Used(); m != 0 || d != 0 {
		t.Errorf("%v of memory and %v of disk not given back", m, d)
	}
	if x, err := gather(2 << 20); err != nil {
		t.Errorf("after they were given back: %v", err)
	} else {
		x.closeBody()
	}
}
