package content

import (
	"bufio"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// maxMailParts is how many multiparts of a message may stand in one another:
// none that people write has more than four.
const maxMailParts = 10

// mail looks into the attachments of a message (RFC 5322, MHTML among them).
func (in *inspection) mail(f File, entry string, depth int) error {
	m, err := mail.ReadMessage(bufio.NewReader(io.NewSectionReader(f.Data, 0, f.Size)))
	if err != nil {
		in.find(Malformed, entry, "mail: %v", err)
		return nil
	}
	err = in.mailPart(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), "", m.Body, entry, depth, 0)
	if err != nil && !in.fatal(err) {
		in.find(Malformed, entry, "mail: %v", err)
		err = nil
	}
	return err
}

func (in *inspection) mailPart(contentType, encoding, name string, body io.Reader, entry string, depth, level int) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, params = "text/plain", nil
	}
	if strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" {
		if level >= maxMailParts {
			in.find(Bomb, entry, "parts of a message within one another, more than %d deep", maxMailParts)
			return errDepth
		}
		for parts := multipart.NewReader(body, params["boundary"]); ; {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := in.mailPart(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p.FileName(), p, entry, depth, level+1); err != nil {
				if in.fatal(err) {
					return err
				}
				in.find(Malformed, entry, "mail: %v", err)
			}
		}
	}
	if name == "" {
		name = params["name"]
	}
	if decoded, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
		name = decoded
	}
	here := join(entry, name)
	if err := in.count(here); err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, &base64Only{body})
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	b := bufio.NewReaderSize(&metered{in: in, r: body, entry: here}, 4096)
	head, _ := b.Peek(4096)
	return in.member(b, head, name, here, depth)
}

// base64Only passes over what mail programs pass over in base64.
type base64Only struct{ r io.Reader }

// Read implements [io.Reader].
func (b *base64Only) Read(p []byte) (int, error) {
	for {
		n, err := b.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' {
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil || n == 0 {
			return kept, err
		}
	}
}
