package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func exchange(body io.Reader, length int64) *Exchange {
	r := httptest.NewRequest("POST", "/", body)
	r.ContentLength = length
	return &Exchange{Request: r}
}

// openFiles counts files of this process below dir, deleted ones included.
func openFiles(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

// TestBuffer: what a body of each size becomes, in memory or on disk, and
// that nothing of it stays behind.
func TestBuffer(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, c := range []struct {
		size, limit int64 // limit < 0: none
		chunked     bool
		want        string // "", "large"
		files       int
	}{
		{0, -1, false, "", 0}, {0, 0, true, "", 0}, {1, 0, false, "large", 0}, {1, 0, true, "large", 0}, {10, 10, false, "", 0}, {10, 10, true, "", 0}, {11, 10, false, "large", 0}, {11, 10, true, "large", 0},
		{bodyInMemory - 1, -1, false, "", 0}, {bodyInMemory, -1, true, "", 1}, {bodyInMemory + 1, -1, false, "", 1}, {3 << 20, 3 << 20, true, "", 1}, {3<<20 + 1, 3 << 20, true, "large", 1},
		{int64(defaultBodyLimit) + 1, -1, true, "large", 1}, {int64(defaultBodyLimit), -1, true, "", 1},
	} {
		name := fmt.Sprintf("%d bytes, limit %d, chunked %v", c.size, c.limit, c.chunked)
		want := bytes.Repeat([]byte("0123456789abcdef"), int(c.size/16)+1)[:c.size]
		length := c.size
		if c.chunked {
			length = -1
		}
		x := exchange(io.MultiReader(bytes.NewReader(want)), length)
		if c.limit >= 0 {
			x.LimitBody(Size(c.limit))
		}
		b, err := x.Buffer()
		if again, err2 := x.Buffer(); again != b || err2 != err {
			t.Errorf("%s: not the same the second time", name)
		}
		if n := openFiles(t, dir); n != c.files {
			t.Errorf("%s: %d files", name, n)
		}
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
			t.Errorf("%s: %v has a name", name, left)
		}
		// Accepted or not, what the app would read is the whole body.
		if got, rerr := io.ReadAll(x.Request.Body); rerr != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the app would read %d bytes, %v", name, len(got), rerr)
		}
		if c.want == "large" {
			var over *http.MaxBytesError
			if !errors.As(err, &over) || b != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else {
			if err != nil || b.Size() != c.size || x.Request.ContentLength != c.size {
				t.Fatalf("%s: %v", name, err)
			}
			r1, r2 := b.Reader(), b.Reader()
			one, _ := io.ReadAll(r1)
			two, _ := io.ReadAll(r2)
			if !bytes.Equal(one, want) || !bytes.Equal(two, want) {
				t.Errorf("%s: readers differ", name)
			}
			if _, err := r1.Seek(0, io.SeekStart); err != nil {
				t.Error(err)
			}
			for _, n := range []int{-1, 0, 1, 100, 2 << 20} {
				if p := b.Prefix(n); !bytes.Equal(p, want[:min(max(n, 0), len(want))]) {
					t.Errorf("%s: Prefix(%d) has %d bytes", name, n, len(p))
				}
			}
		}
		x.closeBody()
		if n := openFiles(t, dir); n != 0 {
			t.Errorf("%s: %d files stay open", name, n)
		}
	}
}

// failing reads data, then err.
type failing struct {
	data io.Reader
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if n, err := f.data.Read(p); err == nil {
		return n, nil
	}
	return 0, f.err
}

func TestBufferErrors(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	reset := errors.New("connection reset")
	for _, size := range []int{0, 5, 2 << 20} {
		for _, c := range []struct {
			err    error
			length int64
			want   error
		}{{io.ErrUnexpectedEOF, -1, ErrBodyIncomplete}, {reset, -1, reset}, {io.EOF, int64(size) + 1, ErrBodyIncomplete}, {os.ErrDeadlineExceeded, -1, os.ErrDeadlineExceeded}} {
			x := exchange(&failing{strings.NewReader(strings.Repeat("x", size)), c.err}, c.length)
			b, err := x.Buffer()
			if !errors.Is(err, c.want) || b != nil {
				t.Errorf("%d bytes then %v: %v", size, c.err, err)
			}
			// Who reads on meets the same error at the same place: a cut body
			// never looks whole.
			got, rerr := io.ReadAll(x.Request.Body)
			if size > 0 && (len(got) != size || rerr == nil) {
				t.Errorf("%d bytes then %v: read on %d, %v", size, c.err, len(got), rerr)
			}
			x.closeBody()
		}
	}
	if n := openFiles(t, dir); n != 0 {
		t.Errorf("%d files stay open", n)
	}
	t.Setenv("TMPDIR", dir+"/gone")
	x := exchange(io.MultiReader(strings.NewReader(strings.Repeat("x", 2<<20))), -1)
	if _, err := x.Buffer(); !errors.Is(err, ErrBodyStorage) {
		t.Errorf("no folder: %v", err)
	}
}

// TestAnnouncedIsNotAllocated: what a client announces costs nothing until it
// comes.
func TestAnnouncedIsNotAllocated(t *testing.T) {
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x := exchange(strings.NewReader("x"), 1<<20)
			x.Buffer()
			x.closeBody()
		}
	})
	if n := r.AllocedBytesPerOp(); n > 64<<10 {
		t.Errorf("%d bytes for a body of one", n)
	}
}

// TestObservedBodyPassesWhole: a body over the limit, let through because the
// layer observes, reaches the app as it came.
func TestObservedBodyPassesWhole(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	bothProtocols(t, func(t *testing.T, h2 bool) {
		var log journal
		layers := []Bound{onRequest("body", Observe, func(x *Exchange) Decision {
			x.LimitBody(2 << 20)
			if _, err := x.Buffer(); err != nil {
				return Refuse(413, "body-too-large", err.Error())
			}
			return Pass()
		})}
		s, client := serve(t, h2, Options{Publish: log.publish, Layers: layers}, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		})
		for _, size := range []int{5 << 20, 1 << 20, 3} {
			res, err := client.Post(s.URL, "x/y", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || string(got) != fmt.Sprint(size, error(nil)) {
				t.Errorf("%d bytes: %d %s", size, res.StatusCode, got)
			}
		}
		if e := log.wait(t, 1); len(e) != 1 || e[0].Verdict != "observe" {
			t.Errorf("%+v", e)
		}
	})
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

// A body put together from the one that came is what the app and later layers
// get, with its length; what was kept goes with the exchange.
func TestReplaceBody(t *testing.T) {
	for _, size := range []int{10, 3 << 20} { // in memory, on disk
		text := strings.Repeat("x", size)
		spool := NewSpool(0, 0)
		x := &Exchange{Request: httptest.NewRequest("POST", "/", strings.NewReader(text)), spool: spool}
		x.LimitBody(8 << 20)
		old, err := x.Buffer()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := x.Keep(strings.NewReader("behind" + text))
		if err != nil {
			t.Fatal(err)
		}
		x.ReplaceBody("text/plain; a=b", io.NewSectionReader(kept, 3, 3), 3)
		b, err := x.Buffer()
		if err != nil || b.Size() != 3 || string(b.Prefix(10)) != "ind" || x.Request.ContentLength != 3 || x.Request.Header.Get("Content-Type") != "text/plain; a=b" {
			t.Errorf("%v %+v %v", b.Size(), x.Request, err)
		}
		got, err := io.ReadAll(x.Request.Body)
		if err != nil || string(got) != "ind" {
			t.Errorf("the app would get %q, %v", got, err)
		}
		if p := make([]byte, 4); size > 0 {
			if n, err := old.ReadAt(p, int64(size)-2); n != 2 || err != io.EOF || string(p[:n]) != "xx" {
				t.Errorf("the body that was there reads %q, %v", p[:n], err)
			}
		}
		x.closeBody()
		if m, d := spool.Used(); m != 0 || d != 0 {
			t.Errorf("%v and %v are still taken", m, d)
		}
	}
}
