package content

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"path"
	"slices"

	"github.com/bodgit/sevenzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// What a 7z archive's header may be made of. The library that unpacks believes
// the header's numbers, and takes memory for them; sevenCheck reads the header
// first and holds it to these.
const (
	maxSevenHeader  = 16 << 20
	maxSevenFolders = 10_000
	// maxSevenCoders is 7-Zip's own limit for the steps of one folder, of
	// which none is chained more often in practice than four times.
	maxSevenCoders = 8
)

const sevenMagic = "7z\xbc\xaf\x27\x1c"

// The parts of a header (7zFormat.txt in the LZMA SDK).
const (
	sevenEnd = iota
	sevenHeaderID
	sevenProperties
	sevenAdditional
	sevenStreams
	sevenFiles
	sevenPack
	sevenUnpack
	sevenSub
	sevenSize
	sevenCRC
	sevenFolder
	sevenCoderSizes
	sevenNumbers
	sevenEncoded = 0x17
)

// Ways of compression by their ids.
const (
	coderLZMA  = "\x03\x01\x01"
	coderLZMA2 = "\x21"
	coderPPMd  = "\x03\x04\x01"
	coderAES   = "\x06\xf1\x07\x01"
	coderZstd  = "\x04\xf7\x11\x01"
)

// plainCoders are those that take no memory by what the archive says, and are
// unpacked: copy, delta, the filters for programs, Deflate, bzip2.
var plainCoders = []string{"\x00", "\x03", "\x03\x03\x01\x03", "\x03\x03\x01\x1b", "\x03\x03\x02\x05", "\x03\x03\x05\x01", "\x03\x03\x08\x05", "\x0a", "\x04\x01\x08", "\x04\x02\x02"}

func init() {
	// The library's own takes whatever window a frame asks for.
	sevenzip.RegisterDecompressor([]byte(coderZstd), func(_ []byte, _ uint64, in []io.ReadCloser) (io.ReadCloser, error) {
		if len(in) != 1 {
			return nil, errSeven
		}
		z, err := newZstd(in[0])
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	})
}

// newZstd unpacks Zstandard in this goroutine, with bounded memory.
func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxDictionary))
}

var (
	errSeven       = errors.New("a header that could not be followed")
	errSevenLocked = errors.New("the names of its entries are encrypted")
)

// notRead says that an archive is in order, and not unpacked here.
type notRead struct{ why string }

// Error implements error.
func (e *notRead) Error() string { return e.why }

// sevenHeader is what sevenCheck has read.
type sevenHeader struct {
	files   int
	folders []sevenFolderInfo
	// unpacked is the most that comes out of one step of each folder, summed.
	unpacked int64
}

type sevenFolderInfo struct {
	encrypted bool
	unread    string // why it is not unpacked
	size      uint64 // unpacked
	sizes     []uint64
	packed    int // streams that it reads
	coders    []string
	props     [][]byte
	free      int // the output that no other step reads
}

// sevenStarts reports whether a 7z archive begins at an offset: its signature,
// and the checksum over the first header.
func sevenStarts(f File, at int64) bool {
	var b [32]byte
	return at >= 0 && at <= f.Size-32 && readAt(f.Data, b[:], at) == nil && string(b[:6]) == sevenMagic && crc32.ChecksumIEEE(b[12:]) == binary.LittleEndian.Uint32(b[8:])
}

// sevenCheck reads the header of an archive that begins at the file's first
// byte, and refuses what would cost more than the budget to open.
func (in *inspection) sevenCheck(f File) (*sevenHeader, error) {
	var b [32]byte
	if !sevenStarts(f, 0) {
		return nil, errSeven
	}
	if err := readAt(f.Data, b[:], 0); err != nil {
		return nil, err
	}
	offset, size := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
	if size == 0 {
		return &sevenHeader{}, nil
	}
	if offset > uint64(f.Size) || size > uint64(f.Size) || 32+offset+size > uint64(f.Size) {
		return nil, errors.New("its header lies outside of the file")
	}
	if size > maxSevenHeader {
		return nil, &notRead{fmt.Sprintf("a header of %d bytes", size)}
	}
	head := make([]byte, size)
	if err := readAt(f.Data, head, int64(32+offset)); err != nil {
		return nil, err
	}
	if head[0] == sevenEncoded {
		var err error
		if head, err = in.sevenEncoded(f, head[1:]); err != nil {
			return nil, err
		}
	}
	r := &sevenReader{b: head}
	if r.byte() != sevenHeaderID {
		return nil, errSeven
	}
	return r.header(in.limits.Entries)
}

// sevenEncoded unpacks a header that is compressed itself.
func (in *inspection) sevenEncoded(f File, b []byte) ([]byte, error) {
	r := &sevenReader{b: b}
	position, packs, folders := r.streams(1, nil)
	if r.err != nil {
		return nil, r.err
	}
	if len(folders) != 1 || len(packs) == 0 {
		return nil, errSeven
	}
	fo := &folders[0]
	switch {
	case fo.encrypted:
		return nil, errSevenLocked
	case fo.unread != "":
		return nil, &notRead{fo.unread}
	case len(fo.coders) != 1:
		return nil, &notRead{"a header that is compressed in several steps"}
	case fo.size > maxSevenHeader:
		return nil, &notRead{fmt.Sprintf("a header that unpacks to %d bytes", fo.size)}
	case position > uint64(f.Size) || packs[0] > uint64(f.Size) || 32+position+packs[0] > uint64(f.Size):
		return nil, errSeven
	}
	var src io.Reader = bufio.NewReader(io.NewSectionReader(f.Data, int64(32+position), int64(packs[0])))
	switch fo.coders[0] {
	case "\x00":
	case coderLZMA:
		head := binary.LittleEndian.AppendUint64(slices.Clone(fo.props[0]), fo.size)
		z, err := lzma.NewReader(io.MultiReader(bytes.NewReader(head), src))
		if err != nil {
			return nil, err
		}
		src = z
	case coderLZMA2:
		z, err := lzma.Reader2Config{DictCap: lzma2Dictionary(fo.props[0][0])}.NewReader2(src)
		if err != nil {
			return nil, err
		}
		src = z
	default:
		return nil, &notRead{"a header that is compressed in an unusual way"}
	}
	out := make([]byte, fo.size)
	_, err := io.ReadFull(&metered{in: in, r: src}, out)
	if err == nil && len(out) == 0 {
		err = errSeven
	}
	return out, err
}

func lzma2Dictionary(bits byte) int {
	return int(2|bits&1) << (bits/2 + 11)
}

// sevenReader reads the numbers of a header. After an error all are 0.
type sevenReader struct {
	b   []byte
	err error
}

func (r *sevenReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *sevenReader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errSeven)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *sevenReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads an integer whose first byte says by its leading ones how many
// more there are.
func (r *sevenReader) number() uint64 {
	first := r.byte()
	n := bits.LeadingZeros8(^first)
	v := uint64(0)
	if n < 7 {
		v = uint64(first&(1<<(8-n)-1)) << (8 * n)
	}
	for i := range n {
		v |= uint64(r.byte()) << (8 * i)
	}
	if r.err != nil {
		return 0
	}
	return v
}

// count reads a number of things of which there may be so many.
func (r *sevenReader) count(most int, what string) int {
	n := r.number()
	if n > uint64(most) {
		r.fail(&notRead{fmt.Sprintf("%d %s", n, what)})
		return 0
	}
	return int(n)
}

// digests passes over checksums of n things.
func (r *sevenReader) digests(n int) {
	defined := n
	if r.byte() == 0 {
		defined = 0
		for i, b := range r.bytes(uint64(n+7) / 8) {
			if left := n - 8*i; left < 8 {
				b &= 0xff << (8 - left)
			}
			defined += bits.OnesCount8(b)
		}
	}
	r.bytes(4 * uint64(defined))
}

// streams reads where packed data lies and what unpacks it. With subs, the
// unpacked files of each folder are counted there.
func (r *sevenReader) streams(most int, subs *int) (position uint64, packs []uint64, folders []sevenFolderInfo) {
	id := r.byte()
	if id == sevenPack {
		position = r.number()
		n := r.count(maxSevenCoders*maxSevenFolders, "packed streams")
		id = r.byte()
		if id == sevenSize {
			for range n {
				packs = append(packs, r.number())
			}
			id = r.byte()
		}
		if id == sevenCRC {
			r.digests(n)
			id = r.byte()
		}
		if id != sevenEnd {
			r.fail(errSeven)
		}
		if len(packs) != n { // the library goes by their number
			r.fail(errSeven)
		}
		id = r.byte()
	}
	if id == sevenUnpack {
		folders = r.folders(most)
		id = r.byte()
	}
	packed := 0
	for i := range folders {
		packed += folders[i].packed
	}
	if packed > len(packs) {
		r.fail(errSeven)
	}
	if id == sevenSub {
		r.subStreams(folders, subs)
		id = r.byte()
	} else if subs != nil {
		*subs = len(folders)
	}
	if id != sevenEnd {
		r.fail(errSeven)
	}
	return position, packs, folders
}

func (r *sevenReader) folders(most int) (out []sevenFolderInfo) {
	if r.byte() != sevenFolder {
		r.fail(errSeven)
		return nil
	}
	n := r.count(most, "folders")
	if r.byte() != 0 { // kept elsewhere, which nothing writes
		r.fail(errSeven)
	}
	for range n {
		if r.err != nil {
			return nil
		}
		out = append(out, r.folder())
	}
	if r.byte() != sevenCoderSizes {
		r.fail(errSeven)
	}
	for i := range out {
		fo := &out[i]
		for range fo.coders {
			fo.sizes = append(fo.sizes, r.number())
		}
		if r.err != nil {
			return nil
		}
		fo.size = fo.sizes[fo.free]
	}
	id := r.byte()
	if id == sevenCRC {
		r.digests(n)
		id = r.byte()
	}
	if id != sevenEnd {
		r.fail(errSeven)
	}
	return out
}

// folder reads how one piece of packed data is unpacked: its steps, and which
// output goes into which input.
func (r *sevenReader) folder() (fo sevenFolderInfo) {
	coders := r.count(maxSevenCoders, "steps of compression")
	if coders == 0 {
		r.fail(errSeven)
	}
	inputs := 0
	for range coders {
		flags := r.byte()
		id := string(r.bytes(uint64(flags & 15)))
		ins := 1
		if flags&0x10 != 0 {
			ins = r.count(maxSevenCoders, "inputs of a step")
			if r.count(maxSevenCoders, "outputs of a step") != 1 || ins == 0 {
				r.fail(errSeven)
			}
		}
		inputs += ins
		var props []byte
		if flags&0x20 != 0 {
			props = r.bytes(r.number())
		}
		if flags&0xc0 != 0 {
			r.fail(errSeven)
		}
		fo.coders, fo.props = append(fo.coders, id), append(fo.props, props)
		switch {
		case id == coderAES:
			fo.encrypted = true
		case !slices.Contains(plainCoders, id) && id != coderZstd && memoryOf(id, props) == 0:
			fo.unread = fmt.Sprintf("compression %x", id)
		case memoryOf(id, props) > maxDictionary:
			fo.unread = fmt.Sprintf("a dictionary of %d bytes", memoryOf(id, props))
		}
	}
	var bound [maxSevenCoders]bool
	for range coders - 1 {
		in, out := r.number(), r.number()
		if in >= uint64(inputs) || out >= uint64(coders) || bound[out] {
			r.fail(errSeven)
			return fo
		}
		bound[out] = true
	}
	for fo.free < coders-1 && bound[fo.free] {
		fo.free++
	}
	if fo.packed = inputs - (coders - 1); fo.packed < 1 {
		r.fail(errSeven)
		return fo
	}
	if fo.packed > 1 {
		for range fo.packed {
			if r.number() >= uint64(inputs) {
				r.fail(errSeven)
			}
		}
	}
	return fo
}

// memoryOf is what a way of compression asks for by its properties; 0 is one
// that is not known, or whose properties are wrong.
func memoryOf(id string, props []byte) uint64 {
	switch {
	case id == coderLZMA && len(props) == 5:
		return max(1, uint64(binary.LittleEndian.Uint32(props[1:])))
	case id == coderPPMd && len(props) == 5:
		return max(1, uint64(binary.LittleEndian.Uint32(props[1:])))
	case id == coderLZMA2 && len(props) == 1 && props[0] < 40:
		return uint64(lzma2Dictionary(props[0]))
	case id == coderLZMA2 && len(props) == 1 && props[0] == 40:
		return math.MaxUint32
	}
	return 0
}

func (r *sevenReader) subStreams(folders []sevenFolderInfo, subs *int) {
	if subs == nil {
		r.fail(errSeven)
		return
	}
	numbers := make([]int, len(folders))
	for i := range numbers {
		numbers[i] = 1
	}
	id := r.byte()
	if id == sevenNumbers {
		for i := range numbers {
			numbers[i] = r.count(1<<24, "files in a folder")
		}
		id = r.byte()
	}
	total, several := 0, false
	for _, n := range numbers {
		total += n
		several = several || n > 1
	}
	*subs = total
	if id == sevenSize {
		for i, n := range numbers {
			left := folders[i].size
			for range n - 1 {
				size := r.number()
				if r.err != nil {
					return
				}
				if size > left {
					r.fail(errors.New("files that are larger than what they are unpacked from"))
					return
				}
				left -= size
			}
		}
		id = r.byte()
	} else if several {
		r.fail(errSeven) // nobody knows where one ends
	}
	if id == sevenCRC {
		r.digests(total)
		id = r.byte()
	}
	if id != sevenEnd {
		r.fail(errSeven)
	}
}

// header reads what stands behind the first byte of a header.
func (r *sevenReader) header(entries int) (*sevenHeader, error) {
	h := &sevenHeader{}
	id := r.byte()
	if id == sevenProperties || id == sevenAdditional {
		return nil, &notRead{"a header with properties that nothing writes"}
	}
	subs := 0
	if id == sevenStreams {
		_, _, h.folders = r.streams(maxSevenFolders, &subs)
		id = r.byte()
	}
	if id == sevenFiles {
		if n := r.number(); n > math.MaxInt32 {
			return h, errSevenMany
		} else {
			h.files = int(n)
		}
		id = sevenEnd // what follows is as long as it is
	}
	if id != sevenEnd {
		r.fail(errSeven)
	}
	if r.err != nil {
		return nil, r.err
	}
	if h.files > entries || subs > h.files && subs > entries {
		return h, errSevenMany
	}
	if subs > h.files {
		return nil, errSeven
	}
	for i := range h.folders {
		most := slices.Max(h.folders[i].sizes)
		if most > math.MaxInt64/2 || h.unpacked+int64(most) < 0 {
			return h, errSevenLarge
		}
		h.unpacked += int64(most)
	}
	return h, nil
}

var (
	errSevenMany  = errors.New("too many files")
	errSevenLarge = errors.New("too large")
)

// guarded runs what a library does with a file. A panic there is as good as an
// error: the file was not looked into.
func guarded(look func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("its reader failed: %v", v)
		}
	}()
	return look()
}

// sevenZip looks into a 7z archive that begins at the file's first byte.
func (in *inspection) sevenZip(f File, entry string, depth int) error {
	var h *sevenHeader
	err := guarded(func() (err error) { h, err = in.sevenCheck(f); return err })
	var unread *notRead
	switch {
	case err == nil && h.unpacked > in.left, errors.Is(err, errSevenLarge):
		in.find(Bomb, entry, "unpacks to more than %d bytes", in.limits.Unpacked)
		return errBudget
	case errors.Is(err, errSevenMany):
		in.find(Bomb, entry, "more than %d entries", in.limits.Entries)
		return errBudget
	case err == nil:
	case in.fatal(err):
		return err
	case errors.Is(err, errSevenLocked):
		in.find(Encrypted, entry, "7z: %v", err)
		return nil
	case errors.As(err, &unread):
		in.find(Opaque, entry, "7z: %v", err)
		return nil
	default:
		in.find(Unreadable, entry, "7z: %v", err)
		return nil
	}
	if h.files == 0 {
		return nil
	}
	err = guarded(func() error { return in.sevenEntries(f, h, entry, depth) })
	if err != nil && !in.fatal(err) {
		in.find(Unreadable, entry, "7z: %v", err)
		err = nil
	}
	return err
}

func (in *inspection) sevenEntries(f File, h *sevenHeader, entry string, depth int) error {
	z, err := sevenzip.NewReader(f.Data, f.Size)
	if err != nil {
		return err
	}
	// broken are folders in which something could not be unpacked: what comes
	// behind it there cannot be either.
	broken := map[int]bool{}
	for _, e := range z.File {
		here := join(entry, e.Name)
		if err := in.count(here); err != nil {
			return err
		}
		if why := unsafePath(e.Name); why != "" {
			in.find(ArchivePath, here, "%s", why)
		}
		mode := e.Mode()
		if mode&(fs.ModeDevice|fs.ModeNamedPipe) != 0 {
			in.find(ArchiveLink, here, "a device file")
		}
		if mode.IsDir() || e.UncompressedSize == 0 {
			continue
		}
		if e.Stream < 0 || e.Stream >= len(h.folders) {
			return errSeven
		}
		fo := &h.folders[e.Stream]
		switch {
		case fo.encrypted:
			in.find(Encrypted, entry, "the entry %q is encrypted", e.Name)
			continue
		case fo.unread != "":
			in.find(Opaque, here, "%s", fo.unread)
			continue
		case broken[e.Stream]:
			in.find(Unreadable, here, "it stands behind one that cannot be unpacked")
			continue
		}
		if err := in.sevenEntry(e, entry, here, depth); err != nil {
			if in.fatal(err) {
				return err
			}
			broken[e.Stream] = true
			in.find(Unreadable, here, "%v", err)
		}
	}
	return nil
}

func (in *inspection) sevenEntry(e *sevenzip.File, entry, here string, depth int) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	m := &metered{in: in, r: r, entry: here}
	if e.Mode()&fs.ModeSymlink != 0 {
		return in.linkTarget(m, e.Name, here)
	}
	b := bufio.NewReaderSize(m, 4096)
	head, _ := b.Peek(4096)
	if err := in.member(b, head, e.Name, here, depth); err != nil {
		return err
	}
	if m.n != int64(e.UncompressedSize) {
		return fmt.Errorf("it unpacks to %d bytes, and %d are announced", m.n, e.UncompressedSize)
	}
	return nil
}

// linkTarget judges a symbolic link whose target is its content.
func (in *inspection) linkTarget(r io.Reader, name, here string) error {
	target, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if t := string(target); escapes(path.Join(path.Dir(name), t)) || unsafeTarget(t) {
		in.find(ArchiveLink, here, "a symbolic link to %q", t)
	}
	return nil
}
