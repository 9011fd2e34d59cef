package lsp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/sourcegraph/jsonrpc2"
)

// maxHeader bounds the header of a message.
const maxHeader = 4 << 10

// stream frames messages as LSP's base protocol does: "Content-Length: N", an
// empty line, N bytes of JSON. It implements [jsonrpc2.ObjectStream].
//
// A message that is no JSON-RPC gets an error for an answer and the next one
// is read, and so does one that is too large; a header that cannot be read
// ends the stream, as nobody can say where the next message begins.
type stream struct {
	r     *bufio.Reader
	close []io.Closer

	mu sync.Mutex // for w and broken
	w  *bufio.Writer

	broken error
}

var _ jsonrpc2.ObjectStream = (*stream)(nil)

func newStream(in io.Reader, out io.Writer) *stream {
	s := &stream{r: bufio.NewReaderSize(in, 16<<10), w: bufio.NewWriterSize(out, 16<<10)}
	for _, x := range []any{in, out} {
		if c, ok := x.(io.Closer); ok {
			s.close = append(s.close, c)
		}
	}
	return s
}

// err returns what ended the stream, nil for its ordinary end.
func (s *stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Close closes both streams.
func (s *stream) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// ReadObject reads the next message that is one.
func (s *stream) ReadObject(v any) error {
	for {
		n, err := readHeader(s.r)
		if err != nil {
			if !errors.Is(err, io.EOF) && !closed(err) {
				s.mu.Lock()
				s.broken = err
				s.mu.Unlock()
			}
			return err
		}
		if n > maxMessage {
			if _, err := io.CopyN(io.Discard, s.r, n); err != nil {
				return io.EOF
			}
			if err := s.refuse(codeInvalidRequest, fmt.Sprintf("a message of %d bytes is too large: the limit is %d", n, maxMessage)); err != nil {
				return err
			}
			continue
		}
		// The buffer grows with what comes, not with what the header says.
		var body bytes.Buffer
		if _, err := io.CopyN(&body, s.r, n); err != nil {
			return io.EOF
		}
		if err := json.Unmarshal(body.Bytes(), v); err != nil {
			code := int64(codeInvalidRequest)
			if !json.Valid(body.Bytes()) {
				code = codeParse
			}
			if err := s.refuse(code, "the message is not understood: "+err.Error()); err != nil {
				return err
			}
			continue
		}
		return nil
	}
}

// closed reports whether reading ended because the stream was closed here.
func closed(err error) bool {
	return errors.Is(err, io.ErrClosedPipe) || strings.Contains(err.Error(), "file already closed")
}

// refuse answers a message whose id is not known.
func (s *stream) refuse(code int64, text string) error {
	return s.WriteObject(map[string]any{"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": code, "message": text}})
}

// WriteObject writes one message.
func (s *stream) WriteObject(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "Content-Length: %d\r\n\r\n", len(data))
	_, _ = s.w.Write(data) // Flush has the error of both
	return s.w.Flush()
}

// readHeader reads the header of a message and returns the length of its
// body. io.EOF is the end of the stream between messages.
func readHeader(r *bufio.Reader) (int64, error) {
	length := int64(-1)
	read := 0
	for {
		line, err := r.ReadSlice('\n')
		read += len(line)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && read == 0:
			return 0, io.EOF
		case errors.Is(err, io.EOF):
			return 0, errors.New("the stream ends within a header")
		case errors.Is(err, bufio.ErrBufferFull):
			return 0, fmt.Errorf("a header of more than %d bytes", maxHeader)
		default:
			return 0, err
		}
		if read > maxHeader {
			return 0, fmt.Errorf("a header of more than %d bytes", maxHeader)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			if length < 0 {
				return 0, errors.New("a header without Content-Length: is this a language client?")
			}
			return length, nil
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			return 0, fmt.Errorf("%.60q is no header field: is this a language client?", text)
		}
		if !strings.EqualFold(strings.TrimSpace(name), "Content-Length") {
			continue
		}
		value = strings.TrimSpace(value)
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 || value[0] == '+' || length >= 0 && n != length {
			return 0, fmt.Errorf("%.60q is no length", value)
		}
		length = n
	}
}
