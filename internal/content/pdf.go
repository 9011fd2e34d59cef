package content

import (
	"bytes"
	"compress/zlib"
	"io"
)

// pdfNames are the names of PDF (ISO 32000) that stand for something active.
var pdfNames = map[string]struct {
	danger Danger
	what   string
}{
	"JavaScript":   {PDFScript, "JavaScript"},
	"Launch":       {PDFLaunch, "an action that starts a program"},
	"EmbeddedFile": {PDFEmbedded, "a file within it"},
	"RichMedia":    {PDFEmbedded, "Flash or another rich medium"},
	"Encrypt":      {"", ""},
	"ObjStm":       {"", ""},
}

// pdf searches PDF for names of active content, in the open and in object
// streams, which are compressed. It does not parse objects: a name that a
// reader would find is there as text, perhaps with #xx for some characters.
func (in *inspection) pdf(f File, entry string) error {
	encrypted, opened := false, 0
	err := in.windows(f, 4096, func(b []byte, at int64) bool {
		in.names(b, entry, func(name string, i int) {
			switch name {
			case "Encrypt":
				encrypted = true
			case "ObjStm":
				// Its stream follows, within the next kilobytes.
				if i >= windowStep {
					return // the next window has it, too
				}
				rest := b[i:min(len(b), i+4096)]
				j := bytes.Index(rest, []byte("stream"))
				if j < 0 || opened >= 10_000 {
					return
				}
				opened++
				start := at + int64(i+j+len("stream"))
				if j+7 < len(rest) && rest[j+6] == '\r' {
					start++
				}
				start++
				if start < f.Size {
					in.objectStream(f, start, entry)
				}
			}
		})
		return true
	})
	if err != nil {
		return err
	}
	if encrypted {
		in.find(Encrypted, entry, "an encrypted PDF")
	}
	return nil
}

// objectStream inflates one object stream and searches it. What is no Flate
// data is no finding: a reader cannot open it either, or it is encrypted.
func (in *inspection) objectStream(f File, start int64, entry string) {
	z, err := zlib.NewReader(io.NewSectionReader(f.Data, start, f.Size-start))
	if err != nil {
		return
	}
	const most = 1 << 20 // of one stream; names stand in its first part
	buf, _ := io.ReadAll(io.LimitReader(z, min(most, max(0, in.left))))
	in.left -= int64(len(buf))
	in.report.Unpacked += int64(len(buf))
	if in.left <= 0 {
		in.find(Bomb, entry, "object streams of more than %d bytes", in.limits.Unpacked)
		return
	}
	in.names(buf, entry, nil)
}

// names finds the names of interest in b and notes the dangers among them.
func (in *inspection) names(b []byte, entry string, also func(name string, behind int)) {
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], '/')
		if j < 0 {
			return
		}
		i += j + 1
		if i < len(b) && !interesting[b[i]] {
			continue
		}
		var space [len("EmbeddedFile")]byte
		spelt, n := pdfName(space[:0], b[i:])
		d, known := pdfNames[string(spelt)]
		if !known {
			continue
		}
		name := string(spelt)
		if d.danger != "" {
			in.find(d.danger, entry, "%s (/%s)", d.what, name)
		}
		if also != nil {
			also(name, i+n)
		}
		i += n
	}
}

// interesting are the first characters of the names of interest.
var interesting = func() (out [256]bool) {
	out['#'] = true
	for name := range pdfNames {
		out[name[0]] = true
	}
	return
}()

// pdfName reads a name behind its slash into dst, with #xx undone. A name
// longer than the ones of interest is nil.
func pdfName(dst, b []byte) ([]byte, int) {
	i := 0
	for ; i < len(b); i++ {
		c := b[i]
		if c <= ' ' || bytes.IndexByte([]byte("()<>[]{}/%"), c) >= 0 {
			break
		}
		if c == '#' && i+2 < len(b) {
			if h, ok := hexByte(b[i+1], b[i+2]); ok {
				c = h
				i += 2
			}
		}
		if len(dst) == cap(dst) {
			return nil, 0
		}
		dst = append(dst, c)
	}
	return dst, i
}

func hexByte(a, b byte) (byte, bool) {
	d := func(c byte) int {
		switch {
		case c >= '0' && c <= '9':
			return int(c - '0')
		case c >= 'a' && c <= 'f':
			return int(c-'a') + 10
		case c >= 'A' && c <= 'F':
			return int(c-'A') + 10
		}
		return -1
	}
	x, y := d(a), d(b)
	return byte(x<<4 | y), x >= 0 && y >= 0
}
