package guard

import (
	"bytes"
	"errors"
	"fmt"
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
	if inFiles != 17 { // three fit into memory, with the byte that tells the end
		t.Errorf("%d bodies in files", inFiles)
	}
	for range 40 { // a file takes a step of 64 KiB at least
		x, err := gather(16 << 10)
		if err != nil && !errors.Is(err, ErrBodyStorage) {
			t.Fatal(err)
		}
		if err == nil {
			inFiles++
		}
		open = append(open, x)
	}
	if inFiles != 48 {
		t.Errorf("%d bodies in files of 64 KiB each", inFiles)
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

// drip gives a body in the pieces named, then waits for release.
type drip struct {
	pieces  []int
	waiting chan struct{}
	release chan struct{}
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.pieces) == 0 {
		d.waiting <- struct{}{}
		<-d.release
		return 0, io.EOF
	}
	n := min(len(p), d.pieces[0])
	for i := range n {
		p[i] = 'x'
	}
	if d.pieces[0] -= n; d.pieces[0] == 0 {
		d.pieces = d.pieces[1:]
	}
	return n, nil
}

// TestSlowBodiesAreCheap: what a client that stops in the middle of its body
// holds is what it has sent, or a small buffer beside a file, and never more
// than the shared memory for all of them together.
func TestSlowBodiesAreCheap(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const memory = 1 << 20
	for _, length := range []int64{-1, 1 << 20} {
		s := NewSpool(memory, 1<<30)
		d := &drip{waiting: make(chan struct{}), release: make(chan struct{})}
		const n = 400
		done := make(chan int64, n)
		for i := range n {
			src := &drip{pieces: []int{8000 + i*100}, waiting: d.waiting, release: d.release}
			go func() {
				x := &Exchange{Request: &http.Request{Body: io.NopCloser(src), ContentLength: length}, spool: s}
				b, err := x.Buffer()
				size := int64(0)
				switch {
				case length < 0 && err == nil:
					size = b.Size()
				case length >= 0 && errors.Is(err, ErrBodyIncomplete):
					size = x.spilled.size
				default:
					t.Error(err)
				}
				x.closeBody()
				done <- size
			}()
		}
		for range n {
			<-d.waiting
		}
		if m, _ := s.Used(); m > memory {
			t.Errorf("%v of memory", m)
		}
		close(d.release)
		sum := int64(0)
		for range n {
			sum += <-done
		}
		if want := int64(n*8000 + 100*n*(n-1)/2); sum != want {
			t.Errorf("%d bytes of %d", sum, want)
		}
		if m, disk := s.Used(); m != 0 || disk != 0 {
			t.Errorf("%v and %v not given back", m, disk)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	for _, size := range []int64{300, 2100, 8200, 200 << 10, 4 << 20} {
		for _, announced := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d announced=%v", size, announced), func(b *testing.B) {
				text := bytes.Repeat([]byte("x"), int(size))
				length := int64(-1)
				if announced {
					length = size
				}
				b.ReportAllocs()
				b.SetBytes(size)
				for b.Loop() {
					x := &Exchange{Request: &http.Request{Body: io.NopCloser(bytes.NewReader(text)), ContentLength: length}}
					if _, err := x.Buffer(); err != nil {
						b.Fatal(err)
					}
					x.closeBody()
				}
			})
		}
	}
}
