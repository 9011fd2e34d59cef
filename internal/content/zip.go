package content

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// directory is where a ZIP archive's central directory lies (APPNOTE.TXT 4.3).
type directory struct {
	entries     int64
	start, size int64
	// shift is what has to be added to the archive's own offsets: bytes that
	// stand before it.
	shift int64
}

var errNoDirectory = errors.New("no central directory")

const (
	endLength    = 22
	longestEnd   = endLength + 1<<16 - 1
	headerLength = 46
	localLength  = 30
)

// findDirectory finds the central directory by its end record. exact says that
// the record ends the file together with its comment, as it must; Python's
// zipfile and many others take one with up to 64 KiB behind it, too, the last
// of them. other says that there is an exact one beside it: two readers open
// two archives.
func findDirectory(f File) (d directory, exact, other bool, err error) {
	tail := make([]byte, min(longestEnd, f.Size))
	if err := readAt(f.Data, tail, f.Size-int64(len(tail))); err != nil {
		return d, false, false, err
	}
	err = errNoDirectory
	found := false
	// Each record that is looked at costs a read: a file made of signatures
	// must not cost thousands.
	for i, tries := len(tail), 0; tries < 100; tries++ {
		if i = bytes.LastIndex(tail[:i], []byte("PK\x05\x06")); i < 0 {
			break
		}
		end := tail[i:]
		if len(end) < endLength {
			continue
		}
		ends := int(binary.LittleEndian.Uint16(end[20:])) == len(end)-endLength
		if found && !ends {
			continue
		}
		candidate, cerr := directoryAt(f, end, f.Size-int64(len(end)))
		switch {
		case cerr != nil:
			if err == errNoDirectory && ends {
				err = cerr
			}
		case candidate.size > 0 && !candidate.begins(f):
			if err == errNoDirectory && ends {
				err = errors.New("its central directory is not where its end says")
			}
		case found:
			return d, exact, true, nil
		default:
			d, exact, found, err = candidate, ends, true, nil
		}
		if found && exact {
			break
		}
	}
	return d, exact, false, err
}

// directoryAt reads the end record end, which stands at an offset.
func directoryAt(f File, end []byte, at int64) (d directory, err error) {
	d.entries = int64(binary.LittleEndian.Uint16(end[10:]))
	d.size = int64(binary.LittleEndian.Uint32(end[12:]))
	offset := int64(binary.LittleEndian.Uint32(end[16:]))
	if d.entries == 0xffff || d.size == 0xffffffff || offset == 0xffffffff {
		var locator [20]byte
		var end64 [56]byte
		if at >= 20 && readAt(f.Data, locator[:], at-20) == nil && bytes.HasPrefix(locator[:], []byte("PK\x06\x07")) {
			where := int64(binary.LittleEndian.Uint64(locator[8:]))
			if where < 0 || where > at-20-int64(len(end64)) || readAt(f.Data, end64[:], where) != nil || !bytes.HasPrefix(end64[:], []byte("PK\x06\x06")) {
				return d, errors.New("no end record of ZIP64 where its locator says")
			}
			d.entries = int64(binary.LittleEndian.Uint64(end64[32:]))
			d.size = int64(binary.LittleEndian.Uint64(end64[40:]))
			offset = int64(binary.LittleEndian.Uint64(end64[48:]))
			at = where
		}
	}
	d.start = at - d.size
	d.shift = d.start - offset
	// An offset that is too large makes shift negative: Python takes that.
	if d.size < 0 || d.start < 0 || d.entries < 0 || offset < 0 {
		return d, errors.New("a central directory that lies outside of the file")
	}
	return d, nil
}

// begins reports whether a central directory really is where the end record
// says.
func (d directory) begins(f File) bool {
	var b [4]byte
	return readAt(f.Data, b[:], d.start) == nil && string(b[:]) == "PK\x01\x02"
}

// zipEntry is what the central directory says of one entry.
type zipEntry struct {
	name            string
	flags, method   uint16
	packed, size    int64
	offset          int64 // of its local header, in the file
	symlink, folder bool
	data            int64 // where its data begins
	// unicode is the name in the extra field for it (APPNOTE.TXT 4.6.9), which
	// some readers take in place of the other.
	unicode string
}

// zip looks into a ZIP archive.
func (in *inspection) zip(f File, entry string, depth int) error {
	d, exact, other, err := findDirectory(f)
	switch {
	case errors.Is(err, errNoDirectory):
		in.find(Malformed, entry, "ZIP: %v", err)
		return nil
	case err != nil:
		in.find(ArchiveAmbiguous, entry, "ZIP: %v", err) // others may read it all the same
		return nil
	case other:
		in.find(ArchiveAmbiguous, entry, "it has two central directories")
	case !exact:
		in.find(Malformed, entry, "ZIP: bytes behind its end")
	}
	if d.shift != 0 {
		in.find(ArchiveAmbiguous, entry, "its offsets are wrong by %d bytes: something stands before it", d.shift)
	}
	entries, err := in.zipEntries(f, d, entry)
	if err != nil {
		if in.fatal(err) {
			return err
		}
		in.find(ArchiveAmbiguous, entry, "ZIP: %v", err) // others may read it all the same
		return nil
	}
	if int64(len(entries)) != d.entries {
		// Python goes by the size of the directory, others by the number.
		in.find(ArchiveAmbiguous, entry, "ZIP: %d entries, and %d are announced", len(entries), d.entries)
	}
	office := slices.ContainsFunc(entries, func(e zipEntry) bool { return e.name == "[Content_Types].xml" || e.name == "META-INF/manifest.xml" })
	java := in.report.Kind.MIME == "application/java-archive" || in.report.Kind.MIME == "application/vnd.android.package-archive" || strings.HasSuffix(f.Name, ".whl") ||
		slices.ContainsFunc(entries, func(e zipEntry) bool { return e.name == "META-INF/MANIFEST.MF" })
	seen := make(map[string]bool, len(entries))
	for i := range entries {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		e := &entries[i]
		here := join(entry, e.name)
		if why := unsafePath(e.name); why != "" {
			in.find(ArchivePath, here, "%s", why)
		}
		if why := unsafePath(e.unicode); e.unicode != "" && why != "" {
			in.find(ArchivePath, here, "its name in Unicode is %s", why)
		}
		// A folder that is there twice is one folder.
		if clean := path.Clean(e.name); seen[clean] && !e.folder {
			in.find(ArchiveAmbiguous, here, "two entries have this name")
		} else {
			seen[clean] = true
		}
		if why, err := localHeader(f, e); err != nil {
			return err
		} else if why != "" {
			in.find(ArchiveAmbiguous, here, "%s", why)
			continue
		}
	}
	if overlap(entries) {
		in.find(Bomb, entry, "entries that share their data")
		return errBudget
	}
	for i := range entries {
		e := &entries[i]
		here := join(entry, e.name)
		if e.data == 0 || e.folder {
			continue
		}
		if office {
			in.officeEntry(e.name, entry, func() []byte {
				if e.open(f) == nil || e.flags&1 != 0 {
					return nil
				}
				b, _ := io.ReadAll(io.LimitReader(&metered{in: in, r: e.open(f), entry: here}, 1<<20))
				return b
			})
			if in.left < 0 {
				return errBudget
			}
		}
		r := e.open(f)
		switch {
		case e.flags&1 != 0:
			in.find(Encrypted, entry, "the entry %q is encrypted", e.name)
		case r == nil:
			in.find(Opaque, here, "compression method %d", e.method)
		}
		if e.flags&1 != 0 || r == nil {
			// Its size is known by what it says, which unpackers keep to.
			if in.left -= e.size; in.left < 0 {
				in.find(Bomb, here, "unpacks to more than %d bytes", in.limits.Unpacked)
				return errBudget
			}
			continue
		}
		m := &metered{in: in, r: r, entry: here}
		if e.symlink {
			target, err := io.ReadAll(io.LimitReader(m, 4096))
			if err != nil && in.fatal(err) {
				return err
			}
			if t := string(target); escapes(path.Join(path.Dir(e.name), t)) || unsafeTarget(t) {
				in.find(ArchiveLink, here, "a symbolic link to %q", t)
			}
			continue
		}
		b := bufio.NewReaderSize(m, 4096)
		head, _ := b.Peek(4096)
		if java && Sniff(head).Family == Program && !bytes.HasPrefix(head, []byte("MZ")) {
			_, err = io.Copy(io.Discard, b) // classes and libraries are what it is for
		} else {
			err = in.member(b, head, e.name, here, depth)
		}
		if err != nil {
			if in.fatal(err) {
				return err
			}
			in.find(Malformed, here, "%v", err)
			continue
		}
		if m.n != e.size {
			in.find(ArchiveAmbiguous, here, "it unpacks to %d bytes, and %d are announced", m.n, e.size)
		}
	}
	return nil
}

// zipEntries reads the central directory.
func (in *inspection) zipEntries(f File, d directory, entry string) (out []zipEntry, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f.Data, d.start, d.size), 32<<10)
	var h [headerLength]byte
	for left := d.size; left > 0; {
		if _, err := io.ReadFull(r, h[:4]); err != nil {
			return nil, err
		}
		if string(h[:4]) != "PK\x01\x02" {
			if string(h[:4]) == "PK\x05\x05" {
				break // a digital signature
			}
			return nil, errors.New("a header of the central directory is missing")
		}
		if _, err := io.ReadFull(r, h[4:]); err != nil {
			return nil, err
		}
		n, m, k := int(binary.LittleEndian.Uint16(h[28:])), int(binary.LittleEndian.Uint16(h[30:])), int(binary.LittleEndian.Uint16(h[32:]))
		rest := make([]byte, n+m)
		if _, err := io.ReadFull(r, rest); err != nil {
			return nil, err
		}
		if _, err := r.Discard(k); err != nil {
			return nil, err
		}
		left -= int64(headerLength + n + m + k)
		e := zipEntry{
			name: string(rest[:n]), flags: binary.LittleEndian.Uint16(h[8:]), method: binary.LittleEndian.Uint16(h[10:]),
			packed: int64(binary.LittleEndian.Uint32(h[20:])), size: int64(binary.LittleEndian.Uint32(h[24:])), offset: int64(binary.LittleEndian.Uint32(h[42:])),
		}
		e.extra(rest[n:])
		e.offset += d.shift
		mode := binary.LittleEndian.Uint32(h[38:]) >> 16
		e.symlink = (h[5] == 3 || h[5] == 19) && mode&0xf000 == 0xa000
		e.folder = strings.HasSuffix(e.name, "/") && e.packed == 0
		if err := in.count(join(entry, e.name)); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// extra takes sizes and offset from the extra field of ZIP64 where the header
// has no room for them, and the name in Unicode.
func (e *zipEntry) extra(extra []byte) {
	for len(extra) >= 4 {
		id, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if extra = extra[4:]; n > len(extra) {
			return
		}
		if v := extra[:n]; id == 0x7075 && n > 5 {
			e.unicode = string(v[5:])
		} else if id == 1 {
			for _, p := range []*int64{&e.size, &e.packed, &e.offset} {
				if *p == 0xffffffff && len(v) >= 8 {
					*p, v = int64(binary.LittleEndian.Uint64(v)), v[8:]
				}
			}
		}
		extra = extra[n:]
	}
}

// localHeader compares an entry's own header with what the central directory
// says, and finds its data. why is what differs: readers that go from the
// front see another file than those that go by the directory.
func localHeader(f File, e *zipEntry) (why string, err error) {
	var h [localLength]byte
	if e.offset < 0 || e.packed < 0 || e.size < 0 || e.offset > f.Size-localLength {
		return "it lies outside of the file", nil
	}
	if err := readAt(f.Data, h[:], e.offset); err != nil {
		return "", err
	}
	if string(h[:4]) != "PK\x03\x04" {
		return "there is no entry where the directory says", nil
	}
	n, m := int64(binary.LittleEndian.Uint16(h[26:])), int64(binary.LittleEndian.Uint16(h[28:]))
	data := e.offset + localLength + n + m
	if data > f.Size-e.packed {
		return "its data lies outside of the file", nil
	}
	name := make([]byte, n)
	if err := readAt(f.Data, name, e.offset+localLength); err != nil {
		return "", err
	}
	switch flags := binary.LittleEndian.Uint16(h[6:]); {
	case string(name) != e.name:
		return fmt.Sprintf("its own header calls it %q", name), nil
	case binary.LittleEndian.Uint16(h[8:]) != e.method:
		return "its own header names another compression", nil
	case flags&1 != e.flags&1:
		return "its own header and the directory do not agree whether it is encrypted", nil
	case flags&8 == 0 && int64(binary.LittleEndian.Uint32(h[18:])) != e.packed && binary.LittleEndian.Uint32(h[18:]) != 0xffffffff:
		return "its own header gives another size", nil
	}
	e.data = data
	return "", nil
}

// overlap reports whether two entries use the same bytes: what makes ten
// thousand large files out of one.
func overlap(entries []zipEntry) bool {
	type span struct{ begin, end int64 }
	spans := make([]span, 0, len(entries))
	for i := range entries {
		if e := &entries[i]; e.data > 0 {
			spans = append(spans, span{e.offset, e.data + e.packed})
		}
	}
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.begin < b.begin:
			return -1
		case a.begin > b.begin:
			return 1
		}
		return 0
	})
	for i := 1; i < len(spans); i++ {
		if spans[i].begin < spans[i-1].end {
			return true
		}
	}
	return false
}

// open returns what an entry unpacks to, or nil for a method that is not known.
func (e *zipEntry) open(f File) io.Reader {
	packed := io.NewSectionReader(f.Data, e.data, e.packed)
	switch e.method {
	case 0:
		return packed
	case 8:
		return flate.NewReader(bufio.NewReader(packed))
	case 12:
		return bzip2.NewReader(bufio.NewReader(packed))
	}
	return nil
}
