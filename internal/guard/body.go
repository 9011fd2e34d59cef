package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/dewar-security/dewar/internal/formdata"
)

// defaultBodyLimit bounds a body that no layer limited.
const defaultBodyLimit Size = 32 << 20

// ErrBodyIncomplete says that the client ended before the body did, or sent
// less than it had announced.
var ErrBodyIncomplete = errors.New("the client did not send the whole body")

// ErrBodyStorage says that there is no room for the body: it is not the
// client's fault.
var ErrBodyStorage = errors.New("cannot keep the body")

// Body is a request body that is here as a whole.
type Body struct {
	size   int64
	memory []byte
	file   *os.File    // the whole body, when it did not fit into memory
	view   io.ReaderAt // the whole body, when it is put together from others
	hold   holding
}

// noBody is the body of every request without one.
var noBody Body

// Size returns the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Prefix returns at most the first n bytes. The caller must not change them.
func (b *Body) Prefix(n int) []byte {
	n = int(min(int64(max(n, 0)), b.size))
	if b.file == nil && b.view == nil {
		return b.memory[:n]
	}
	p := make([]byte, n)
	k, _ := b.ReadAt(p, 0)
	return p[:k]
}

// ReadAt implements [io.ReaderAt]. It is valid until the exchange ends.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case b.view != nil:
		return b.view.ReadAt(p, off)
	case b.file != nil:
		return b.file.ReadAt(p, off)
	case off < 0:
		return 0, errors.New("guard: negative offset in a body")
	case off >= int64(len(b.memory)):
		return 0, io.EOF
	}
	n := copy(p, b.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Reader returns a reader of its own from the beginning of the body. It is
// valid until the exchange ends.
func (b *Body) Reader() io.ReadSeeker {
	if b.file == nil && b.view == nil {
		return bytes.NewReader(b.memory)
	}
	return io.NewSectionReader(b, 0, b.size)
}

func (b *Body) close() {
	if b == nil {
		return
	}
	if b.file != nil {
		b.file.Close()
	}
	b.hold.release()
}

func (x *Exchange) closeBody() {
	x.body.close()
	x.spilled.close()
	for _, b := range x.kept {
		b.close()
	}
	x.kept = nil
}

// Keep reads src to its end and holds it until the exchange ends, as request
// bodies are held: in memory or on disk, within what all of them may take.
// The error wraps [ErrBodyStorage] when there is no room.
func (x *Exchange) Keep(src io.Reader) (*Body, error) {
	b := &Body{hold: holding{spool: x.spool}}
	if b.hold.spool == nil {
		b.hold.spool = defaultSpool
	}
	x.kept = append(x.kept, b)
	return b, b.read(src, -1)
}

// Parts finds the parts of the request's multipart/form-data body, at most so
// many, as [formdata.Index] does: once, and remembered for the next layer that
// asks. Their contents are read from the [Body]. The error is Buffer's, a
// [*formdata.SyntaxError] or [formdata.ErrTooManyParts].
func (x *Exchange) Parts(most int) ([]formdata.Part, error) {
	b, err := x.Buffer()
	if err != nil {
		return nil, err
	}
	if x.indexed.of != b || x.indexed.most != most {
		x.indexed = index{of: b, most: most}
		if boundary, ok := formdata.Boundary(x.Request.Header.Get("Content-Type")); ok {
			x.indexed.parts, x.indexed.err = formdata.Index(b, b.Size(), boundary, most)
		} else {
			x.indexed.err = &formdata.SyntaxError{What: "no usable boundary in the Content-Type"}
		}
	}
	return x.indexed.parts, x.indexed.err
}

// index is what Parts remembers.
type index struct {
	of    *Body
	most  int
	parts []formdata.Part
	err   error
}

// ReplaceBody gives the app and the layers that follow another body, such as
// one written anew from what a layer understood, and the Content-Type that
// goes with it. What src reads through to stays valid until the exchange ends:
// it may lie in the body that was there. The body must have been gathered.
func (x *Exchange) ReplaceBody(contentType string, src io.ReaderAt, size int64) {
	if x.body != nil {
		x.kept = append(x.kept, x.body)
	}
	b := &Body{size: size, view: src}
	x.body, x.bodyErr = b, nil
	r := x.Request
	r.Header["Content-Type"] = []string{contentType}
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = http.NoBody, size, nil, nil
	if size > 0 {
		r.Body = io.NopCloser(b.Reader())
	}
	if r.Header.Get("Content-Length") != "" {
		r.Header.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}

// Streams reports whether the body goes to the app as it comes, unseen: the
// override of the route says so.
func (x *Exchange) Streams() bool { return x.Override != nil && x.Override.Stream }

// Gathered reports whether the whole body is here.
func (x *Exchange) Gathered() bool { return x.body != nil }

// LimitBody sets the most that [Exchange.Buffer] accepts. 0 accepts nothing.
func (x *Exchange) LimitBody(n Size) { x.bodyLimit, x.limited = max(n, 0), true }

// Buffer reads the whole request body, once, and gives the request a fresh
// body with its exact length, so that nothing can be smuggled behind it. The
// error is an [*http.MaxBytesError] for a body over the limit, one that wraps
// [ErrBodyIncomplete] for a body that ends early or [ErrBodyStorage] when
// there is no room for it, otherwise the client's. After an error the
// request's body is as long as it was: what was read stands before the rest,
// for the case that the layer only observes.
func (x *Exchange) Buffer() (*Body, error) {
	if x.body != nil || x.bodyErr != nil {
		return x.body, x.bodyErr
	}
	r := x.Request
	b, err := x.buffer()
	if err != nil {
		x.bodyErr, x.spilled = err, b
		if b != nil && b.size > 0 {
			rest := r.Body
			if !errors.As(err, new(*http.MaxBytesError)) {
				rest = io.NopCloser(errReader{err}) // it would not come again
			}
			r.Body = &peeked{io.MultiReader(b.Reader(), rest), r.Body}
		}
		return nil, err
	}
	x.body = b
	if b.size == 0 {
		r.Body = http.NoBody
	} else {
		r.Body = io.NopCloser(b.Reader())
	}
	r.ContentLength = b.size
	r.TransferEncoding = nil
	r.Trailer = nil
	return b, nil
}

// buffer reads the body. With an error it returns what it has read.
func (x *Exchange) buffer() (*Body, error) {
	r := x.Request
	if r.Body == nil || r.Body == http.NoBody {
		return &noBody, nil
	}
	limit := int64(defaultBodyLimit)
	if x.limited {
		limit = int64(x.bodyLimit)
	}
	tooLarge := &http.MaxBytesError{Limit: limit}
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	b := &Body{hold: holding{spool: x.spool}}
	if b.hold.spool == nil {
		b.hold.spool = defaultSpool
	}
	err := b.read(io.LimitReader(r.Body, limit+1), r.ContentLength)
	if errors.Is(err, ErrBodyStorage) {
		return b, err
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return b, err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return b, fmt.Errorf("%w: %w", ErrBodyIncomplete, err)
	case err != nil:
		return b, err
	case b.size > limit:
		return b, tooLarge
	case r.ContentLength >= 0 && b.size != r.ContentLength:
		return b, fmt.Errorf("%w: %d of %d bytes", ErrBodyIncomplete, b.size, r.ContentLength)
	}
	return b, nil
}
