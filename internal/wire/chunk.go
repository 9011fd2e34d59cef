package wire

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/dewar-security/dewar/internal/percent"
)

// Limits of chunked bodies (RFC 9112 section 7.1).
const (
	maxChunkLine  = 256      // bytes of a chunk's first line
	maxExtensions = 4 << 10  // bytes of extensions in one body
	maxTrailer    = 4 << 10  // bytes of trailers
	maxChunkSize  = 1 << 40  // bytes of one chunk
	smallChunks   = 16 << 10 // chunks of less than smallChunk bytes in one body
	smallChunk    = 16
)

// chunks checks a chunked body and gives net/http a plain one in its place:
// without extensions, without trailers. Nobody behind the guard would see
// either, and both have been used to hide requests in.
type chunks struct {
	state   chunkState
	left    int64 // bytes of the current chunk
	ext     int
	trailer int
	small   int
	emit    []byte // framing for net/http, not yet handed out
	space   [32]byte
}

type chunkState uint8

const (
	chunkLine chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
	chunkDone
)

// step looks at the bytes behind what was consumed and returns how many of
// them are framing that has been dealt with. In state chunkData it returns 0.
// more says that a line is not whole yet.
func (k *chunks) step(b []byte) (n int, more bool, f *Fault) {
	bad := func(detail string) (int, bool, *Fault) {
		return 0, false, &Fault{Status: 400, Reason: BadChunks, Detail: detail}
	}
	switch k.state {
	case chunkEnd:
		if len(b) < 2 {
			if len(b) == 1 && b[0] != '\r' {
				return bad("a chunk that is longer than it said")
			}
			return 0, true, nil
		}
		if b[0] != '\r' || b[1] != '\n' {
			return bad("a chunk that is longer than it said")
		}
		k.emit = append(k.emit, "\r\n"...)
		k.state = chunkLine
		return 2, false, nil
	case chunkLine, chunkTrailer:
		i := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
		if k.state == chunkTrailer {
			i = bytes.IndexByte(b, '\n')
		}
		switch {
		case i < 0 && k.state == chunkLine && len(b) >= maxChunkLine:
			return bad(fmt.Sprintf("a chunk's line of more than %d bytes", maxChunkLine))
		case i < 0 && k.trailer+len(b) > maxTrailer:
			return bad(fmt.Sprintf("trailers of more than %d bytes", maxTrailer))
		case i < 0:
			return 0, true, nil
		case i == 0 || b[i-1] != '\r':
			return bad("a bare LF in a chunk's line or trailer")
		}
		line := b[:i-1]
		if k.state == chunkTrailer {
			if k.trailer += i + 1; k.trailer > maxTrailer {
				return bad(fmt.Sprintf("trailers of more than %d bytes", maxTrailer))
			}
			if len(line) == 0 {
				k.emit = append(k.emit, "0\r\n\r\n"...)
				k.state = chunkDone
				return i + 1, false, nil
			}
			colon := bytes.IndexByte(line, ':')
			if colon < 1 || foreign(line[:colon], inToken) >= 0 || foreign(line[colon+1:], inValue) >= 0 {
				return bad("trailer " + clip(line))
			}
			return i + 1, false, nil
		}
		size, ext := line, []byte(nil)
		for j, c := range line {
			if percent.Digit(c) < 0 {
				size, ext = line[:j], line[j:]
				break
			}
		}
		if len(size) == 0 || len(size) > 16 {
			return bad("chunk size " + clip(line))
		}
		n := int64(0)
		for _, c := range size {
			if n = n<<4 | int64(percent.Digit(c)); n > maxChunkSize {
				return bad("chunk size " + clip(line))
			}
		}
		if !extension(ext) {
			return bad("chunk extension " + clip(ext))
		}
		if k.ext += len(ext); k.ext > maxExtensions {
			return bad(fmt.Sprintf("chunk extensions of more than %d bytes", maxExtensions))
		}
		if n < smallChunk {
			if k.small++; k.small > smallChunks {
				return bad(fmt.Sprintf("more than %d chunks of less than %d bytes", smallChunks, smallChunk))
			}
		}
		if n == 0 {
			k.state = chunkTrailer // the end is told when it is one
			return i + 1, false, nil
		}
		k.left, k.state = n, chunkData
		k.emit = append(strconv.AppendInt(k.emit, n, 16), "\r\n"...)
		return i + 1, false, nil
	}
	return 0, false, nil
}

// took says that n bytes of a chunk's data have been handed out.
func (k *chunks) took(n int) {
	if k.left -= int64(n); k.left == 0 {
		k.state = chunkEnd
	}
}

// extension reports whether b is nothing, or chunk extensions:
// *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ).
func extension(b []byte) bool {
	for len(b) > 0 {
		if b = trimLeft(b); len(b) == 0 || b[0] != ';' {
			return false // white space at the end, too
		}
		b = trimLeft(b[1:])
		n := 0
		for n < len(b) && classes[b[n]]&inToken != 0 {
			n++
		}
		if n == 0 {
			return false
		}
		b = b[n:]
		rest := trimLeft(b)
		if len(rest) == 0 || rest[0] != '=' {
			continue
		}
		b = trimLeft(rest[1:])
		if len(b) > 0 && b[0] == '"' {
			for n = 1; n < len(b) && b[n] != '"'; n++ {
				if b[n] == '\\' {
					n++
				}
				if n >= len(b) || classes[b[n]]&inValue == 0 {
					return false
				}
			}
			if n >= len(b) {
				return false
			}
			b = b[n+1:]
			continue
		}
		for n = 0; n < len(b) && classes[b[n]]&inToken != 0; n++ {
		}
		if n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}
