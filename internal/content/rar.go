package content

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"path"

	"github.com/nwaples/rardecode/v2"
)

const (
	rarMagic  = "Rar!\x1a\x07\x00"     // before version 5
	rar5Magic = "Rar!\x1a\x07\x01\x00" // since
)

// rarStarts reports whether a RAR archive begins at an offset: its signature,
// and the checksum of the header behind it.
func rarStarts(f File, at int64) bool {
	head := make([]byte, max(0, min(64, f.Size-at)))
	if at < 0 || readAt(f.Data, head, at) != nil {
		return false
	}
	switch {
	case bytes.HasPrefix(head, []byte(rarMagic)) && len(head) >= 14:
		h := head[7:]
		size := int64(binary.LittleEndian.Uint16(h[5:]))
		if size < 7 || at+7+size > f.Size {
			return false
		}
		b := make([]byte, size)
		return readAt(f.Data, b, at+7) == nil && uint16(crc32.ChecksumIEEE(b[2:])) == binary.LittleEndian.Uint16(b)
	case bytes.HasPrefix(head, []byte(rar5Magic)) && len(head) >= 16:
		size, n := binary.Uvarint(head[12:])
		if n <= 0 || n > 3 || size == 0 || size > 2<<20 || at+12+int64(n)+int64(size) > f.Size {
			return false
		}
		b := make([]byte, n+int(size))
		return readAt(f.Data, b, at+12) == nil && crc32.ChecksumIEEE(b) == binary.LittleEndian.Uint32(head[8:])
	}
	return false
}

// rar looks into a RAR archive that begins at the file's first byte.
func (in *inspection) rar(f File, entry string, depth int) error {
	err := guarded(func() error { return in.rarEntries(f, entry, depth) })
	switch {
	case err == nil:
	case in.fatal(err):
		return err
	case errors.Is(err, rardecode.ErrArchiveEncrypted), errors.Is(err, rardecode.ErrArchivedFileEncrypted):
		in.find(Encrypted, entry, "the names of its entries are encrypted")
	case rarUnread(err):
		in.find(Opaque, entry, "RAR: %v", err)
	default:
		in.find(Unreadable, entry, "RAR: %v", err)
	}
	return nil
}

// rarUnread tells what is in order and not unpacked here from what is broken.
func rarUnread(err error) bool {
	for _, e := range []error{rardecode.ErrMultiVolume, rardecode.ErrDictionaryTooLarge, rardecode.ErrPlatformIntSize, rardecode.ErrUnsupportedDecoder, rardecode.ErrUnknownDecoder, rardecode.ErrUnknownVersion} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (in *inspection) rarEntries(f File, entry string, depth int) error {
	r, err := rardecode.NewReader(io.NewSectionReader(f.Data, 0, f.Size), rardecode.MaxDictionarySize(maxDictionary))
	if err != nil {
		return err
	}
	for {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		here := join(entry, h.Name)
		if err := in.count(here); err != nil {
			return err
		}
		if why := unsafePath(h.Name); why != "" {
			in.find(ArchivePath, here, "%s", why)
		}
		switch h.LinkType {
		case rardecode.LinkTypeUnixSymlink, rardecode.LinkTypeWindowsSymlink, rardecode.LinkTypeWindowsJunction:
			if escapes(path.Join(path.Dir(h.Name), h.LinkTarget)) || unsafeTarget(h.LinkTarget) {
				in.find(ArchiveLink, here, "a symbolic link to %q", h.LinkTarget)
			}
		case rardecode.LinkTypeHardLink, rardecode.LinkTypeFileCopy:
			if escapes(h.LinkTarget) || unsafeTarget(h.LinkTarget) {
				in.find(ArchiveLink, here, "a link to %q", h.LinkTarget)
			}
		}
		if h.IsDir || h.LinkType != rardecode.LinkTypeNone {
			continue
		}
		if h.Encrypted {
			in.find(Encrypted, entry, "the entry %q is encrypted", h.Name)
			if in.left -= max(0, h.UnPackedSize); in.left < 0 {
				in.find(Bomb, here, "unpacks to more than %d bytes", in.limits.Unpacked)
				return errBudget
			}
			continue
		}
		m := &metered{in: in, r: r, entry: here}
		if h.Mode()&fs.ModeSymlink != 0 {
			err = in.linkTarget(m, h.Name, here)
		} else {
			b := bufio.NewReaderSize(m, 4096)
			head, _ := b.Peek(4096)
			err = in.member(b, head, h.Name, here, depth)
		}
		switch {
		case err == nil:
		case in.fatal(err):
			return err
		case rarUnread(err):
			in.find(Opaque, here, "RAR: %v", err)
			return nil // what follows in a solid archive needs it
		default:
			in.find(Unreadable, here, "RAR: %v", err)
			return nil
		}
	}
}
