package formdata

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"sort"
	"strings"
)

// Composed is a body put together from texts of our own and parts that lie
// elsewhere. It is safe for concurrent use when its sources are.
type Composed struct {
	pieces []piece
	size   int64
}

type piece struct {
	begin int64
	src   io.ReaderAt
	off   int64 // of the piece in src
	size  int64
}

// Size returns the number of bytes.
func (c *Composed) Size() int64 { return c.size }

func (c *Composed) add(src io.ReaderAt, off, size int64) {
	if size > 0 {
		c.pieces = append(c.pieces, piece{c.size, src, off, size})
		c.size += size
	}
}

// ReadAt implements [io.ReaderAt].
func (c *Composed) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	i := sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].begin+c.pieces[i].size > off })
	for ; n < len(p) && i < len(c.pieces); i++ {
		s := &c.pieces[i]
		from := off + int64(n) - s.begin
		want := int(min(int64(len(p)-n), s.size-from))
		k, err := s.src.ReadAt(p[n:n+want], s.off+from)
		n += k
		if k < want {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // a source is shorter than was said
			}
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Source says where a part's content is; the zero Source is where the part
// was found.
type Source struct {
	Reader io.ReaderAt
	Size   int64
}

// Compose writes parts in one spelling: a random boundary, one
// Content-Disposition with name and filename as quoted strings in UTF-8, the
// Content-Type as sent, then the remaining fields. replaced, when not nil, has
// other contents for some parts, by index.
func Compose(body io.ReaderAt, parts []Part, replaced map[int]Source) (contentType string, c *Composed) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	boundary := "dewar-" + hex.EncodeToString(random[:])
	c = &Composed{pieces: make([]piece, 0, 2*len(parts)+1)}
	var text strings.Builder
	flush := func() {
		s := text.String()
		c.add(strings.NewReader(s), 0, int64(len(s)))
		text = strings.Builder{}
	}
	for i := range parts {
		p := &parts[i]
		text.WriteString("--" + boundary + "\r\nContent-Disposition: form-data; name=")
		quoted(&text, p.Name)
		if p.File {
			text.WriteString("; filename=")
			quoted(&text, p.FileName())
		}
		text.WriteString("\r\n")
		if p.Type != "" {
			text.WriteString("Content-Type: " + p.Type + "\r\n")
		}
		for _, f := range p.Extra {
			text.WriteString(f[0] + ": " + f[1] + "\r\n")
		}
		text.WriteString("\r\n")
		flush()
		if s := replaced[i]; s.Reader != nil {
			c.add(s.Reader, 0, s.Size)
		} else {
			c.add(body, p.Offset, p.Size)
		}
		text.WriteString("\r\n")
	}
	text.WriteString("--" + boundary + "--\r\n")
	flush()
	return "multipart/form-data; boundary=" + boundary, c
}

// quoted writes a quoted string (RFC 9110 section 5.6.4).
func quoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
}
