package guard

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func gzipped(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPeekBody(t *testing.T) {
	var deflated bytes.Buffer
	w := zlib.NewWriter(&deflated)
	io.WriteString(w, "hello")
	w.Close()
	bomb := gzipped(t, strings.Repeat("0", 50<<20))
	for _, c := range []struct {
		name, encoding string
		body           []byte
		n              int
		want           string
		err            error
	}{
		{"short", "", []byte("hello"), 10, "hello", nil},
		{"long", "", []byte("hello world"), 5, "hello", nil},
		{"gzip", "gzip", gzipped(t, "hello"), 100, "hello", nil},
		{"deflate", "Deflate", deflated.Bytes(), 100, "hello", nil},
		{"bomb", "gzip", bomb, 1000, strings.Repeat("0", 1000), nil},
		{"no gzip at all", "gzip", []byte("hello"), 10, "", ErrContentEncoding},
		{"br", "br", []byte("\x0b\x02"), 10, "", ErrContentEncoding},
		{"two encodings", "gzip, br", []byte("x"), 10, "", ErrContentEncoding},
		{"empty", "", nil, 10, "", nil},
	} {
		r := &http.Response{Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.body))}
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		got, err := PeekBody(r, c.n)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %.20q %v, want %.20q %v", c.name, got, err, c.want, c.err)
		}
		if rest, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(rest, c.body) {
			t.Errorf("%s: the client would get %.20q %v", c.name, rest, err)
		}
	}
}

type closeCounter struct {
	io.Reader
	n int
}

func (c *closeCounter) Close() error { c.n++; return nil }

func TestPeekBodyKeepsErrorsAndClose(t *testing.T) {
	broken := errors.New("upstream went away")
	c := &closeCounter{Reader: io.MultiReader(strings.NewReader("hel"), errReader{broken})}
	r := &http.Response{Header: http.Header{}, Body: c}
	if got, err := PeekBody(r, 10); string(got) != "hel" || !errors.Is(err, broken) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := io.ReadAll(r.Body); string(got) != "hel" || !errors.Is(err, broken) {
		t.Errorf("the client would get %q %v", got, err)
	}
	r.Body.Close()
	if c.n != 1 {
		t.Errorf("closed %d times", c.n)
	}
}

// TestPeekBodyBrokenOff: half a page that was compressed is no whole one, though
// what is there can be looked at.
func TestPeekBodyBrokenOff(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "first half")
	z.Flush()
	half := packed.Len()
	io.WriteString(z, "second half")
	z.Close()
	broken := errors.New("upstream went away")
	r := &http.Response{Header: http.Header{"Content-Encoding": {"gzip"}}, ContentLength: int64(packed.Len()), Body: io.NopCloser(io.MultiReader(bytes.NewReader(packed.Bytes()[:half]), errReader{broken}))}
	if got, err := PeekBody(r, 100); string(got) != "first half" || !errors.Is(err, broken) {
		t.Errorf("%q %v", got, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(packed.Bytes()))
	if got, err := PeekBody(r, 100); string(got) != "first halfsecond half" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

// TestReplaceAnswer: nothing is said any more about bytes that are gone.
func TestReplaceAnswer(t *testing.T) {
	closed := false
	r := &http.Response{ContentLength: 5, Body: closer{strings.NewReader("hello"), func() { closed = true }}, Header: http.Header{
		"Content-Length": {"5"}, "Content-Encoding": {"gzip"}, "Etag": {`"abc"`}, "Accept-Ranges": {"bytes"}, "Content-Digest": {"sha-256=:x:"}, "Content-Type": {"text/html"},
	}}
	ReplaceAnswer(r, []byte("good bye"))
	body, _ := io.ReadAll(r.Body)
	r.Body.Close()
	want := http.Header{"Content-Length": {"8"}, "Etag": {`W/"abc"`}, "Content-Type": {"text/html"}}
	if string(body) != "good bye" || r.ContentLength != 8 || !closed || !reflect.DeepEqual(r.Header, want) {
		t.Errorf("%q %d %v %v", body, r.ContentLength, closed, r.Header)
	}
}

type closer struct {
	io.Reader
	f func()
}

func (c closer) Close() error { c.f(); return nil }

// TestPeekTwice: layers that look one after the other, at more, at less and at
// nothing, read the body once, and the client gets all of it.
func TestPeekTwice(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	reads := 0
	src := readerFunc(nil)
	var in *strings.Reader
	src = func(p []byte) (int, error) {
		n, err := in.Read(p)
		reads += n
		return n, err
	}
	for _, length := range []int64{-1, int64(len(text))} {
		for _, peeks := range [][]int{{10000, 10000}, {100, 50, 0, 200, 20000, 20000, 7}, {10001, 10000, 1}, {0}, {9999, 10001}} {
			in, reads = strings.NewReader(text), 0
			r := &http.Response{Header: http.Header{}, Body: io.NopCloser(src), ContentLength: length}
			for _, n := range peeks {
				got, err := PeekBody(r, n)
				if want := text[:min(n, len(text))]; string(got) != want || err != nil {
					t.Errorf("%v: peek of %d has %d bytes, %v", peeks, n, len(got), err)
				}
				_ = append(got, "nobody else sees this"...)
			}
			before := reads
			got, err := io.ReadAll(r.Body)
			if string(got) != text || err != nil || before > len(text) {
				t.Errorf("%v: the client gets %d bytes, %v", peeks, len(got), err)
			}
		}
	}
	// What has begun to be read is not put back.
	in = strings.NewReader(text)
	r := &http.Response{Header: http.Header{}, Body: io.NopCloser(src), ContentLength: -1}
	if _, err := PeekBody(r, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r.Body, make([]byte, 15)); err != nil {
		t.Fatal(err)
	}
	if got, err := PeekBody(r, 5); string(got) != "56789" || err != nil {
		t.Errorf("behind what was read: %q %v", got, err)
	}
	if got, err := io.ReadAll(r.Body); string(got) != text[15:] || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// A short read is an end, an error stays one and comes at its place.
	broken := errors.New("upstream went away")
	r = &http.Response{Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader("hel"), errReader{broken})), ContentLength: -1}
	for range 2 {
		if got, err := PeekBody(r, 10); string(got) != "hel" || !errors.Is(err, broken) {
			t.Errorf("%q %v", got, err)
		}
	}
	for n := range 4 {
		if got, err := PeekBody(r, n); string(got) != "hel"[:n] || err != nil {
			t.Errorf("before the error: %q %v", got, err)
		}
	}
	if got, err := io.ReadAll(r.Body); string(got) != "hel" || !errors.Is(err, broken) {
		t.Errorf("%q %v", got, err)
	}
	got := testing.AllocsPerRun(100, func() {
		in = strings.NewReader(text)
		r := &http.Response{Header: http.Header{}, Body: io.NopCloser(src), ContentLength: int64(len(text))}
		for range 5 {
			if _, err := PeekBody(r, 10001); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got > 12 {
		t.Errorf("%v allocations for five looks", got)
	}
}

// readerFunc is a reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
