package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
)

// bodyInMemory is how much of a request body stays in memory; what is longer
// lies in an unlinked temporary file.
const bodyInMemory = 1 << 20

// defaultBodyLimit bounds a body that no layer limited.
const defaultBodyLimit Size = 32 << 20

// ErrBodyIncomplete says that the client ended before the body did, or sent
// less than it had announced.
var ErrBodyIncomplete = errors.New("the client did not send the whole body")

// Body is a request body that is here as a whole.
type Body struct {
	size   int64
	memory []byte
	file   *os.File // the whole body, when it did not fit into memory
}

// Size returns the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Prefix returns at most the first n bytes. The caller must not change them.
func (b *Body) Prefix(n int) []byte {
	if int64(n) > b.size {
		n = int(b.size)
	}
	if b.file == nil {
		return b.memory[:n]
	}
	p := make([]byte, n)
	k, _ := b.file.ReadAt(p, 0)
	return p[:k]
}

// Reader returns a reader of its own from the beginning of the body. It is
// valid until the exchange ends.
func (b *Body) Reader() io.ReadSeeker {
	if b.file == nil {
		return bytes.NewReader(b.memory)
	}
	return io.NewSectionReader(b.file, 0, b.size)
}

func (b *Body) close() {
	if b.file != nil {
		b.file.Close()
	}
}

// LimitBody sets the most that [Exchange.Buffer] accepts. 0 accepts nothing.
func (x *Exchange) LimitBody(n Size) { x.bodyLimit, x.limited = n, true }

// Buffer reads the whole request body, once, and gives the request a fresh
// body with its exact length, so that nothing can be smuggled behind it. The
// error is an [*http.MaxBytesError] for a body over the limit, one that wraps
// [ErrBodyIncomplete] for a body that ends early, otherwise the client's or
// the disk's.
func (x *Exchange) Buffer() (*Body, error) {
	if x.body != nil || x.bodyErr != nil {
		return x.body, x.bodyErr
	}
	x.body, x.bodyErr = x.buffer()
	if x.bodyErr == nil {
		r := x.Request
		if x.body.size == 0 {
			r.Body = http.NoBody
		} else {
			r.Body = io.NopCloser(x.body.Reader())
		}
		r.ContentLength = x.body.size
		r.TransferEncoding = nil
		r.Trailer = nil
	}
	return x.body, x.bodyErr
}

func (x *Exchange) buffer() (*Body, error) {
	r := x.Request
	if r.Body == nil || r.Body == http.NoBody {
		return &Body{}, nil
	}
	limit := int64(defaultBodyLimit)
	if x.limited {
		limit = int64(x.bodyLimit)
	}
	tooLarge := &http.MaxBytesError{Limit: limit}
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	b := &Body{}
	src := io.LimitReader(r.Body, limit+1)
	var mem bytes.Buffer
	if n := r.ContentLength; n > 0 {
		mem.Grow(int(min(n, bodyInMemory)) + 1)
	}
	n, err := io.Copy(&mem, io.LimitReader(src, bodyInMemory))
	b.size, b.memory = n, mem.Bytes()
	if err == nil && n == bodyInMemory {
		// More to come: to a file that has no name and goes with the process.
		f, ferr := os.CreateTemp("", "dewar-body-*")
		if ferr != nil {
			return nil, fmt.Errorf("cannot keep the body: %w", ferr)
		}
		_ = os.Remove(f.Name())
		if _, ferr = f.Write(b.memory); ferr == nil {
			n, err = io.Copy(writer{f, &ferr}, src)
			b.size += n
		}
		if ferr != nil {
			f.Close()
			return nil, fmt.Errorf("cannot keep the body: %w", ferr)
		}
		b.file, b.memory = f, nil
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		b.close()
		return nil, err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		b.close()
		return nil, fmt.Errorf("%w: %w", ErrBodyIncomplete, err)
	case err != nil:
		b.close()
		return nil, err
	case b.size > limit:
		b.close()
		return nil, tooLarge
	case r.ContentLength >= 0 && b.size != r.ContentLength:
		b.close()
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrBodyIncomplete, b.size, r.ContentLength)
	}
	return b, nil
}

// writer tells an error of the disk from one of the client.
type writer struct {
	w   io.Writer
	err *error
}

func (w writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		*w.err = err
	}
	return n, err
}
