package content

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxDictionary is the largest dictionary of LZMA2 that is unpacked, which is
// that of "xz -9": a decoder takes it as memory before the first byte.
const maxDictionary = 64 << 20

var errXZ = errors.New("a structure that could not be followed")

// xzCheck follows the structure of an .xz file (The .xz File Format 1.2.1) from
// its end to its beginning without unpacking anything: how large the content
// is, and that no block asks for more memory than maxDictionary.
func xzCheck(f File) (unpacked int64, err error) {
	end := f.Size
	for streams := 0; end > 0; streams++ {
		if streams > 1000 {
			return 0, errXZ
		}
		var b [12]byte
		for end >= 4 { // stream padding
			if err := readAt(f.Data, b[:4], end-4); err != nil {
				return 0, err
			}
			if b[0]|b[1]|b[2]|b[3] != 0 {
				break
			}
			end -= 4
		}
		if end < 32 {
			return 0, errXZ
		}
		if err := readAt(f.Data, b[:], end-12); err != nil {
			return 0, err
		}
		if b[10] != 'Y' || b[11] != 'Z' {
			return 0, errXZ
		}
		index := (int64(binary.LittleEndian.Uint32(b[4:])) + 1) * 4
		if index > end-24 {
			return 0, errXZ
		}
		r := bufio.NewReader(io.NewSectionReader(f.Data, end-12-index, index))
		if c, err := r.ReadByte(); err != nil || c != 0 {
			return 0, errXZ
		}
		records, err := binary.ReadUvarint(r)
		if err != nil || records > uint64(index) {
			return 0, errXZ
		}
		var sizes []int64
		total := int64(0)
		for range records {
			padded, err1 := binary.ReadUvarint(r)
			content, err2 := binary.ReadUvarint(r)
			if err1 != nil || err2 != nil || padded == 0 || padded > uint64(end) || content > 1<<60 {
				return 0, errXZ
			}
			size := int64(padded+3) &^ 3
			total += size
			if unpacked += int64(content); unpacked < 0 || total > end || len(sizes) > 1_000_000 {
				return 0, errXZ
			}
			sizes = append(sizes, size)
		}
		start := end - 12 - index - total - 12
		if start < 0 {
			return 0, errXZ
		}
		at := start + 12
		for _, size := range sizes {
			if err := xzBlock(f, at); err != nil {
				return 0, err
			}
			at += size
		}
		end = start
	}
	return unpacked, nil
}

// xzBlock reads a block's header: one filter, LZMA2, with a dictionary that is
// not too large.
func xzBlock(f File, at int64) error {
	b := make([]byte, min(1024, f.Size-at))
	if len(b) < 8 {
		return errXZ
	}
	if err := readAt(f.Data, b, at); err != nil {
		return err
	}
	length := (int(b[0]) + 1) * 4
	if b[0] == 0 || length > len(b) {
		return errXZ
	}
	flags, rest := b[1], b[2:length]
	if flags&3 != 0 {
		return errors.New("filters before LZMA2")
	}
	for _, bit := range []byte{0x40, 0x80} {
		if flags&bit != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return errXZ
			}
			rest = rest[n:]
		}
	}
	if len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		return errXZ
	}
	dictionary := uint64(1<<32 - 1)
	if bits := rest[2]; bits < 40 {
		dictionary = uint64(2|bits&1) << (bits/2 + 11)
	}
	if dictionary > maxDictionary {
		return fmt.Errorf("a dictionary of %d bytes", dictionary)
	}
	return nil
}
