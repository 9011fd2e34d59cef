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
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, int64(n))) + bytes.MinRead) // one allocation
	}
	_, err := buf.ReadFrom(io.LimitReader(r.Body, int64(n)))
	raw := buf.Bytes()
	r.Body = &peeked{io.MultiReader(bytes.NewReader(raw), errReader{err}, r.Body), r.Body}
	if len(raw) == 0 {
		return nil, err
	}
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
	return text, nil
}

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
// one (RFC 9110 section 8.8.1), digests and ranges are taken away. The old
// body is closed.
func ReplaceAnswer(r *http.Response, body []byte) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	h := r.Header
	h.Set("Content-Length", strconv.Itoa(len(body)))
	for _, name := range []string{"Content-Encoding", "Content-Md5", "Content-Digest", "Repr-Digest", "Digest", "Accept-Ranges"} {
		h.Del(name)
	}
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag)
	}
}
