package content

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"image"
	_ "image/gif"  // for its header
	_ "image/jpeg" // for its header
	_ "image/png"  // for its header
	"io"
	"slices"

	_ "golang.org/x/image/bmp"  // for its header
	_ "golang.org/x/image/tiff" // for its header
	_ "golang.org/x/image/webp" // for its header
)

// image looks at a raster image: how many pixels it claims to have, which is
// what a decoder allocates (CWE-409), and what else than an image is in it.
func (in *inspection) image(f File, kind Kind, entry string) error {
	width, height, known := dimensions(f, kind)
	switch {
	case known && (width == 0 || height == 0):
		in.find(Malformed, entry, "an image of %d by %d pixels", width, height)
	case known && int64(height) > in.limits.Pixels/int64(width):
		in.find(ImageSize, entry, "%d by %d pixels, allowed are %d", width, height, in.limits.Pixels)
	case !known:
		switch kind.MIME {
		case "image/png", "image/apng", "image/vnd.mozilla.apng", "image/jpeg", "image/gif", "image/webp":
			in.find(Malformed, entry, "%s without a header that can be read", kind.MIME)
		}
	}
	if entry == "" {
		in.report.Width, in.report.Height = width, height
	}
	return in.hidden(f, entry)
}

// dimensions reads an image's size from its header.
func dimensions(f File, kind Kind) (width, height int, known bool) {
	switch kind.MIME {
	case "image/png", "image/apng", "image/vnd.mozilla.apng":
		// Whether the checksums are right is the decoder's business.
		var head [24]byte
		if readAt(f.Data, head[:], 0) != nil || string(head[12:16]) != "IHDR" {
			return 0, 0, false
		}
		return int(binary.BigEndian.Uint32(head[16:])), int(binary.BigEndian.Uint32(head[20:])), true
	case "image/heic", "image/heif", "image/avif", "image/heic-sequence", "image/heif-sequence":
		// ImageSpatialExtentsProperty (ISO/IEC 23008-12 section 6.5.3): the
		// largest of them is the whole image.
		head := make([]byte, min(prefixBytes, f.Size))
		if readAt(f.Data, head, 0) != nil {
			return 0, 0, false
		}
		for {
			i := bytes.Index(head, []byte("ispe"))
			if i < 0 || len(head) < i+16 {
				return width, height, known
			}
			w, h := int(binary.BigEndian.Uint32(head[i+8:])), int(binary.BigEndian.Uint32(head[i+12:]))
			if !known || uint64(w)*uint64(h) > uint64(width)*uint64(height) {
				width, height, known = w, h, true
			}
			head = head[i+16:]
		}
	}
	c, _, err := image.DecodeConfig(bufio.NewReader(io.NewSectionReader(f.Data, 0, f.Size)))
	return c.Width, c.Height, err == nil
}

// tags are what begins script or markup behind "<", where nothing but
// compressed data and plain metadata has its place. Each is long enough not to
// come up by chance.
var tags = []struct {
	tag string
	end string // one of these must follow; empty: nothing has to
}{
	{"?php", ""}, {"?=$_", ""}, {"?=`", "$_`"}, {"script", " \t\r\n/>"}, {"svg", " \t\r\n>"}, {"html", " \t\r\n>"}, {"iframe", " \t\r\n>"}, {"!doctype html", ""}, {"%@ page", ""}, {"jsp:", "usdifp"},
}

// tagBegins are the bytes that one of tags begins with.
var tagBegins = func() (out [256]bool) {
	for _, t := range tags {
		c := t.tag[0]
		out[c] = true
		if c >= 'a' && c <= 'z' {
			out[c-'a'+'A'] = true
		}
	}
	return
}()

// foreign are signatures of other formats, for the same place.
var foreign = []struct{ signature, format string }{
	{"%PDF-1.", "PDF"}, {"Rar!\x1a\x07", "RAR"}, {"7z\xbc\xaf\x27\x1c", "7z"}, {"__HALT_COMPILER();", "PHAR"},
}

// hidden searches a file for script and for other formats.
func (in *inspection) hidden(f File, entry string) error {
	return in.windows(f, 32, func(b []byte, at int64) bool {
		more := true
		for rest := b; more; {
			i := bytes.IndexByte(rest, '<')
			if i < 0 {
				break
			}
			if rest = rest[i+1:]; len(rest) == 0 || !tagBegins[rest[0]] {
				continue
			}
			for _, t := range tags {
				n := len(t.tag)
				if len(rest) > n && bytes.EqualFold(rest[:n], []byte(t.tag)) && (t.end == "" || bytes.IndexByte([]byte(t.end), rest[n]) >= 0) {
					in.find(HiddenScript, entry, "\"<%s\" at byte %d", t.tag, at+int64(len(b)-len(rest)-1))
					more = false
					break
				}
			}
		}
		for _, s := range foreign {
			if i := bytes.Index(b, []byte(s.signature)); i >= 0 && at+int64(i) > 0 {
				in.find(Polyglot, entry, "%s begins at byte %d", s.format, at+int64(i))
				more = false
			}
		}
		return more
	})
}

// appended finds what makes a file of any kind an archive from its end, and
// one of any kind a PDF within its first kilobyte.
func (in *inspection) appended(f File, kind Kind, entry string) error {
	if kind.Family == Media {
		if err := in.hidden(f, entry); err != nil {
			return err
		}
	}
	if kind.Family == Program {
		return nil // installers are archives from their end
	}
	if kind.Family != PDF && kind.Family != Text {
		head := make([]byte, min(1024, f.Size))
		if err := readAt(f.Data, head, 0); err != nil {
			return err
		}
		if i := bytes.Index(head, []byte("%PDF-")); i > 0 && kind.Family != Unknown {
			in.find(Polyglot, entry, "PDF begins at byte %d", i)
		}
	}
	if kind.Family == PDF {
		head := make([]byte, min(1024, f.Size))
		if err := readAt(f.Data, head, 0); err != nil {
			return err
		}
		if i := bytes.Index(head, []byte("%PDF-")); i > 0 && len(bytes.TrimLeft(head[:i], " \t\r\n\f\x00\ufeff")) > 0 {
			if slices.ContainsFunc(pictureMagics, func(m string) bool { return bytes.HasPrefix(head, []byte(m)) }) {
				in.find(Polyglot, entry, "PDF that begins as something else")
			} else {
				in.find(Malformed, entry, "%d bytes before the header of PDF", i)
			}
		}
	}
	// Within a document or a database a stored archive is in order, and may
	// stand near the end; from its end it is not.
	d, exact, _, err := findDirectory(f)
	if err == nil && d.size > 0 && (exact || kind.Family == Image || kind.Family == Media || kind.Family == Font) {
		in.find(Polyglot, entry, "%s that is a ZIP archive from its end", kind.MIME)
	}
	return nil
}

// pictureMagics begin images and sounds.
var pictureMagics = []string{"BM", "RIFF", "GIF8", "\xff\xd8\xff", "\x89PNG", "II*\x00", "MM\x00*", "ID3", "fLaC", "\x00\x00\x01\x00", "FLV"}
