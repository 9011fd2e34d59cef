package guard

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ErrContentEncoding says that a response is encoded in a way that cannot be
// looked into (br, zstd, several at once). It passes unchanged.
var ErrContentEncoding = errors.New("guard: unknown content encoding")

// PeekBody returns the first n bytes of a response's body, fewer if it ends
// before, with gzip and deflate decoded. The body stays as it was for whoever
// reads it next: bytes read are put back, the rest still streams. Decoding
// stops after n bytes, so a compression bomb costs nothing (CWE-409).
//
// Several layers look at the same page: what one has read the next one gets
// without reading it again. So nobody may change it.
//
// It blocks until n bytes or the end have arrived: do not call it on event
// streams.
func PeekBody(r *http.Response, n int) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header["Content-Encoding"], ",")))
	switch encoding {
	case "", "identity", "gzip", "x-gzip", "deflate":
	default:
		return nil, ErrContentEncoding
	}
	p, ok := r.Body.(*peekedBody)
	if !ok || p.at > 0 {
		p = &peekedBody{rest: r.Body}
		r.Body = p
	}
	raw, err := p.peek(n, r.ContentLength)
	if len(raw) == 0 {
		return nil, err
	}
	broken := err // off, on its way here
	var dec io.Reader
	switch encoding {
	case "", "identity":
		return raw, err
	case "deflate":
		dec, err = zlib.NewReader(bytes.NewReader(raw))
	default:
		dec, err = gzip.NewReader(bytes.NewReader(raw))
	}
	if err != nil {
		return nil, ErrContentEncoding
	}
	// An error here is the cut or damage of the encoding: what could be
	// decoded is what can be looked at.
	text, _ := io.ReadAll(io.LimitReader(dec, int64(n)))
	return text, broken
}

// peekedBody is a body of which the beginning has been read: it reads that,
// then the rest.
type peekedBody struct {
	raw  []byte
	at   int   // how much of raw was read
	err  error // what came behind raw, io.EOF included
	rest io.ReadCloser
}

// peek returns the first n bytes, of a body whose length is known or negative.
func (p *peekedBody) peek(n int, length int64) ([]byte, error) {
	if more := n - len(p.raw); more > 0 && p.err == nil {
		buf := bytes.NewBuffer(p.raw)
		if length > int64(len(p.raw)) {
			buf.Grow(int(min(length, int64(n))) - len(p.raw) + bytes.MinRead) // one allocation
		}
		var k int64
		k, p.err = buf.ReadFrom(io.LimitReader(p.rest, int64(more)))
		if p.raw = buf.Bytes(); p.err == nil && k < int64(more) {
			p.err = io.EOF
		}
	}
	err := p.err
	if err == io.EOF || n <= len(p.raw) {
		err = nil
	}
	m := min(n, len(p.raw))
	return p.raw[:m:m], err
}

// Read implements [io.Reader].
func (p *peekedBody) Read(b []byte) (int, error) {
	if p.at < len(p.raw) {
		n := copy(b, p.raw[p.at:])
		p.at += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	if len(b) > 0 {
		p.at = max(p.at, 1) // nothing can be put back any more
	}
	return p.rest.Read(b)
}

// Close implements [io.Closer].
func (p *peekedBody) Close() error { return p.rest.Close() }

// peeked reads what was put back, then the rest; closing closes the original.
type peeked struct {
	io.Reader
	c io.Closer
}

func (p *peeked) Close() error { return p.c.Close() }

// errReader repeats the error that peeking met, at the place where it was met.
type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}

// ReplaceAnswer gives a response another body, which is not encoded. What was
// said about the bytes of the old one goes: a strong validator becomes a weak
// one (RFC 9110 section 8.8.1), digests and ranges are taken away. The old body
// is closed with the new one: of a layer that only observes the answer is taken
// back.
func ReplaceAnswer(r *http.Response, body []byte) {
	r.Body = &replacedBody{bytes.NewReader(body), r.Body, r.ContentLength, r.TransferEncoding}
	r.ContentLength, r.TransferEncoding = int64(len(body)), nil
	h := r.Header
	h.Set("Content-Length", strconv.Itoa(len(body)))
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Content-Digest", "Repr-Digest", "Digest", "Accept-Ranges"} {
		h.Del(name)
	}
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag)
	}
}

// replacedBody is a body of ours and what it stands in the place of.
type replacedBody struct {
	*bytes.Reader
	was      io.ReadCloser // nil: there was none
	length   int64
	encoding []string
}

// Close implements [io.Closer].
func (b *replacedBody) Close() error {
	if b.was == nil {
		return nil
	}
	return b.was.Close()
}

// restore takes back what ReplaceAnswer did to the body since it was before.
func restore(r *http.Response, before io.ReadCloser) {
	for {
		b, ok := r.Body.(*replacedBody)
		if !ok || r.Body == before {
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = b.was, b.length, b.encoding
	}
}
