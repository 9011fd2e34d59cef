package content

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

var (
	errBudget = errors.New("the budget for unpacking is used up")
	errDepth  = errors.New("too many archives within one another")
)

// ratioFrom is how much may come out before the ratio counts: a page of zeros
// is no bomb.
const ratioFrom = 10 << 20

// metered passes on what comes out of a compressed stream and takes it off the
// budget.
type metered struct {
	in    *inspection
	r     io.Reader
	entry string
	n     int64 // came through
}

// Read implements [io.Reader].
func (m *metered) Read(p []byte) (int, error) {
	if err := m.in.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	in := m.in
	m.n += int64(n)
	in.left -= int64(n)
	in.report.Unpacked += int64(n)
	switch {
	case in.left < 0:
		in.find(Bomb, m.entry, "unpacks to more than %d bytes", in.limits.Unpacked)
		return n, errBudget
	case in.report.Unpacked > ratioFrom && in.report.Unpacked/in.limits.Ratio > in.packed:
		in.find(Bomb, m.entry, "unpacks to more than %d times its size", in.limits.Ratio)
		return n, errBudget
	}
	return n, err
}

// count takes one entry off the budget.
func (in *inspection) count(entry string) error {
	if in.report.Entries++; in.report.Entries > in.limits.Entries {
		in.find(Bomb, entry, "more than %d entries", in.limits.Entries)
		return errBudget
	}
	return nil
}

// fatal reports whether an error ends the whole look: everything else is about
// one entry.
func (in *inspection) fatal(err error) bool {
	return errors.Is(err, errBudget) || errors.Is(err, errDepth) || errors.Is(err, errKeep) || in.ctx.Err() != nil
}

// archive looks into what holds other files.
func (in *inspection) archive(container string, f File, entry string, depth int) error {
	if depth >= in.limits.Depth {
		in.find(Bomb, entry, "archives within one another, more than %d deep", in.limits.Depth)
		return errDepth
	}
	section := func() *bufio.Reader { return bufio.NewReader(io.NewSectionReader(f.Data, 0, f.Size)) }
	inner := strings.TrimSuffix(f.Name, "."+Extension(f.Name))
	switch container {
	case "zip":
		return in.zip(f, entry, depth)
	case "tar":
		return in.tar(section(), entry, depth)
	case "gzip":
		z, err := gzip.NewReader(section())
		if err != nil {
			in.find(Malformed, entry, "gzip: %v", err)
			return nil
		}
		return in.stream(z, inner, entry, depth)
	case "bzip2":
		return in.stream(bzip2.NewReader(section()), inner, entry, depth)
	case "xz":
		size, err := xzCheck(f)
		switch {
		case err != nil:
			in.find(Opaque, entry, "xz: %v", err)
			return nil
		case size > in.left:
			in.find(Bomb, entry, "unpacks to %d bytes, allowed are %d", size, in.limits.Unpacked)
			return errBudget
		}
		x, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(section())
		if err != nil {
			in.find(Malformed, entry, "xz: %v", err)
			return nil
		}
		return in.stream(x, inner, entry, depth)
	case "zstd":
		z, err := newZstd(section())
		if err != nil {
			in.find(Malformed, entry, "zstd: %v", err)
			return nil
		}
		defer z.Close()
		return in.stream(z, inner, entry, depth)
	case "lz4":
		return in.stream(lz4.NewReader(section()), inner, entry, depth)
	case "7z":
		return in.sevenZip(f, entry, depth)
	case "rar":
		return in.rar(f, entry, depth)
	case "mail":
		return in.mail(f, entry, depth)
	default:
		in.find(Opaque, entry, "%s is not looked into", Sniff(headOf(f)).MIME)
	}
	return nil
}

// maxStub is how far from its beginning a file is searched for an archive that
// does not begin with its first byte: unpackers look for one behind the stub of
// a self-extracting archive, and WinRAR goes no further than this.
const maxStub = 4 << 20

// inner finds a 7z or RAR archive that begins behind the file's first byte. Its
// first header has to be right: six bytes alone come up by chance.
func (in *inspection) inner(f File) (container string, at int64, err error) {
	f.Size = min(f.Size, maxStub)
	whole := f
	at = -1
	err = in.windows(f, 16, func(b []byte, from int64) bool {
		for _, s := range []struct {
			magic, container string
			starts           func(File, int64) bool
		}{{sevenMagic, "7z", sevenStarts}, {rarMagic[:6], "rar", rarStarts}} {
			for i := 0; ; i++ {
				j := bytes.Index(b[i:], []byte(s.magic))
				if j < 0 {
					break
				}
				i += j
				if p := from + int64(i); p > 0 && (at < 0 || p < at) && s.starts(whole, p) {
					container, at = s.container, p
					break
				}
			}
		}
		return at < 0
	})
	return container, at, err
}

// from is a file without its first bytes.
func (f File) from(at int64) File {
	f.Data, f.Size = io.NewSectionReader(f.Data, at, f.Size-at), f.Size-at
	return f
}

// selfExtracting looks into the archive that a program carries.
func (in *inspection) selfExtracting(f File, entry string, depth int) error {
	container, at, err := in.inner(f)
	if err != nil || at < 0 {
		return err
	}
	return in.archive(container, f.from(at), entry, depth)
}

// behind looks into an archive that has something before it which is no
// program. Text and markup are read as such, and are an archive all the same;
// what is in formats that hold files (documents, databases, disks) may well be
// one, and those are left alone.
func (in *inspection) behind(f File, kind Kind, entry string, depth int) error {
	switch kind.Family {
	case Unknown, Text, HTML, XML, SVG, Script, Font:
	default:
		return nil
	}
	container, at, err := in.inner(f)
	if err != nil || at < 0 {
		return err
	}
	if kind.Family == Unknown {
		in.find(Malformed, entry, "%s begins at byte %d", container, at)
	} else {
		in.find(Polyglot, entry, "%s in which %s begins at byte %d", kind.MIME, container, at)
	}
	return in.archive(container, f.from(at), entry, depth)
}

func headOf(f File) []byte {
	b := make([]byte, min(4096, f.Size))
	if readAt(f.Data, b, 0) != nil {
		return nil
	}
	return b
}

// join names an entry of an archive that is an entry itself.
func join(entry, name string) string {
	if entry == "" {
		return name
	}
	return entry + "!" + name
}

// stream looks at what one compressed stream holds.
func (in *inspection) stream(r io.Reader, name, entry string, depth int) error {
	if err := in.count(entry); err != nil {
		return err
	}
	b := bufio.NewReaderSize(&metered{in: in, r: r, entry: entry}, 4096)
	head, _ := b.Peek(4096)
	if Sniff(head).container() == "tar" {
		return in.tar(b, entry, depth)
	}
	if Sniff(head).Family == SVG {
		// .svgz: browsers open it like what it holds.
		err := in.keep(b, name, join(entry, path.Base(name)), depth)
		if err != nil && !in.fatal(err) {
			in.find(Malformed, entry, "%v", err)
			err = nil
		}
		return err
	}
	err := in.member(b, head, name, join(entry, path.Base(name)), depth)
	if err != nil && !in.fatal(err) {
		in.find(Malformed, entry, "%v", err)
		err = nil
	}
	return err
}

// member looks at one entry of an archive as it comes: to its end in any case,
// because only what was unpacked is known to be within the budget. What can
// hold something harmful is kept and looked at like a file of its own.
func (in *inspection) member(r io.Reader, head []byte, name, entry string, depth int) error {
	kind := Sniff(head)
	switch {
	case kind.container() != "" && kind.container() != "opaque", kind.Family == PDF, kind.Family == Office:
		return in.keep(r, name, entry, depth)
	case kind.Family == Program:
		in.find(ArchiveExecutable, entry, "%s", kind.MIME)
		if verdict(familyOf(Extension(name)), kind) == disguise {
			in.find(Disguised, entry, "its name ends in .%s, and it is %s", Extension(name), kind.MIME)
		}
	case kind.container() == "opaque":
		in.find(Opaque, entry, "%s is not looked into", kind.MIME)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// errKeep says that there was no room: it is not the file's fault.
var errKeep = errors.New("cannot keep what an archive holds")

// keep holds an entry and looks at it like a file of its own.
func (in *inspection) keep(r io.Reader, name, entry string, depth int) error {
	watched := &watched{r: r}
	data, size, err := in.limits.Keep(watched)
	switch {
	case watched.err != nil:
		return watched.err
	case err != nil:
		return fmt.Errorf("%w: %w", errKeep, err)
	}
	return in.file(File{Name: name, Data: data, Size: size}, entry, depth+1)
}

// watched remembers why a stream could not be read to its end.
type watched struct {
	r   io.Reader
	err error
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// tar looks into a tar archive.
func (in *inspection) tar(r io.Reader, entry string, depth int) error {
	t := tar.NewReader(r)
	seen := map[string]bool{}
	for {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if in.fatal(err) {
				return err
			}
			if errors.Is(err, tar.ErrHeader) {
				// Python passes over what it does not understand, and goes on.
				in.find(ArchiveAmbiguous, entry, "a header that not every reader of tar takes: what follows is not known")
			} else {
				in.find(Malformed, entry, "tar: %v", err)
			}
			return nil
		}
		here := join(entry, h.Name)
		if err := in.count(here); err != nil {
			return err
		}
		if why := unsafePath(h.Name); why != "" {
			in.find(ArchivePath, here, "%s", why)
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			if escapes(path.Join(path.Dir(h.Name), h.Linkname)) || unsafeTarget(h.Linkname) {
				in.find(ArchiveLink, here, "a symbolic link to %q", h.Linkname)
			}
		case tar.TypeLink:
			if escapes(h.Linkname) || unsafeTarget(h.Linkname) {
				in.find(ArchiveLink, here, "a hard link to %q", h.Linkname)
			}
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			in.find(ArchiveLink, here, "a device file")
		}
		switch h.Typeflag {
		case tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeDir, tar.TypeXGlobalHeader:
			continue // without data
		}
		// A type that nobody knows is a file to Python's tarfile and to GNU tar.
		if clean := path.Clean(h.Name); seen[clean] {
			in.find(ArchiveAmbiguous, here, "two entries have this name")
		} else {
			seen[clean] = true
		}
		// A sparse file's holes are no bytes of the archive: they count.
		b := bufio.NewReaderSize(&metered{in: in, r: t, entry: here}, 4096)
		head, _ := b.Peek(4096)
		if err := in.member(b, head, h.Name, here, depth); err != nil {
			if in.fatal(err) {
				return err
			}
			in.find(Malformed, here, "%v", err)
			return nil
		}
	}
}

// unsafePath says why the path of an entry may leave the folder that the
// archive is unpacked into, or deceive whoever unpacks it; "" when it is fine.
func unsafePath(name string) string {
	slashes := strings.ReplaceAll(name, `\`, "/")
	switch {
	case name == "":
		return "an empty name"
	case len(name) > 4096:
		return fmt.Sprintf("a name of %d bytes", len(name))
	case strings.HasPrefix(slashes, "/"):
		return "an absolute path"
	case len(name) > 1 && name[1] == ':' && (name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z'):
		return "a path with a drive"
	case escapes(slashes):
		return "a path that leaves the folder"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' && r != '\r' || r == 0x7f }):
		return "control characters in the name" // macOS has "Icon\r"
	}
	return ""
}

// escapes reports whether a relative path goes above where it begins, at any
// point on its way.
func escapes(p string) bool {
	depth := 0
	for seg := range strings.SplitSeq(strings.ReplaceAll(p, `\`, "/"), "/") {
		switch seg {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func unsafeTarget(target string) bool {
	return strings.HasPrefix(target, "/") || strings.HasPrefix(target, `\`) || len(target) > 1 && target[1] == ':' || strings.ContainsRune(target, 0)
}
