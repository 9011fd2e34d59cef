package content

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// sevenNumber writes a number as 7z headers have it.
func sevenNumber(n uint64) string {
	if n < 0x80 {
		return string([]byte{byte(n)})
	}
	return "\xff" + string(binary.LittleEndian.AppendUint64(nil, n))
}

// sevenFile puts a header and packed data into an archive, with the right
// checksums.
func sevenFile(packed, header string) string {
	start := binary.LittleEndian.AppendUint64(nil, uint64(len(packed)))
	start = binary.LittleEndian.AppendUint64(start, uint64(len(header)))
	start = binary.LittleEndian.AppendUint32(start, crc32.ChecksumIEEE([]byte(header)))
	return sevenMagic + "\x00\x04" + string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(start))) + string(start) + packed + header
}

// sevenPlan is a 7z archive of one folder; zero fields are what is honest.
type sevenPlan struct {
	members []member
	attrs   uint32
	coder   string // flags, id and properties; empty: copy
	packed  string // what the coder makes of the members' texts
	size    uint64 // unpacked
	files   uint64
	sizes   []uint64 // of all members but the last
}

func (p sevenPlan) header() (packed, header string) {
	var text, names strings.Builder
	var sizes []uint64
	for _, m := range p.members {
		text.WriteString(m.text)
		sizes = append(sizes, uint64(len(m.text)))
		for _, c := range utf16.Encode([]rune(m.name)) {
			names.Write(binary.LittleEndian.AppendUint16(nil, c))
		}
		names.WriteString("\x00\x00")
	}
	if p.coder == "" {
		p.coder, p.packed = "\x01\x00", text.String()
	}
	if p.size == 0 {
		p.size = uint64(text.Len())
	}
	if p.files == 0 {
		p.files = uint64(len(p.members))
	}
	if p.sizes == nil {
		p.sizes = sizes[:len(sizes)-1]
	}
	h := "\x01\x04\x06\x00\x01\x09" + sevenNumber(uint64(len(p.packed))) + "\x00"
	h += "\x07\x0b\x01\x00\x01" + p.coder + "\x0c" + sevenNumber(p.size) + "\x00"
	h += "\x08\x0d" + sevenNumber(uint64(len(p.members)))
	if len(p.members) > 1 {
		h += "\x09"
		var sizes strings.Builder
		for _, s := range p.sizes {
			sizes.WriteString(sevenNumber(s))
		}
		h += sizes.String()
	}
	h += "\x00\x00\x05" + sevenNumber(p.files) + "\x11" + sevenNumber(uint64(names.Len()+1)) + "\x00" + names.String()
	if p.attrs != 0 {
		h += "\x15" + sevenNumber(uint64(2+4*len(p.members))) + "\x01\x00" + strings.Repeat(string(binary.LittleEndian.AppendUint32(nil, p.attrs)), len(p.members))
	}
	return p.packed, h + "\x00\x00"
}

func (p sevenPlan) String() string { return sevenFile(p.header()) }

func sevenOf(members ...member) string { return sevenPlan{members: members}.String() }

// lzmaOf returns the properties and the data of LZMA without its header.
func lzmaOf(text string) (props, data string) {
	var b bytes.Buffer
	w := must(lzma.WriterConfig{Size: int64(len(text)), DictCap: 1 << 16}.NewWriter(&b))
	must(w.Write([]byte(text)))
	w.Close()
	return b.String()[:5], b.String()[13:]
}

// sevenPacked compresses the header, as 7-Zip does for all but the smallest.
// claim is what it says to unpack to; 0 is the truth.
func sevenPacked(p sevenPlan, claim uint64) string {
	packed, header := p.header()
	props, data := lzmaOf(header)
	if claim == 0 {
		claim = uint64(len(header))
	}
	return sevenFile(packed+data, "\x17\x06"+sevenNumber(uint64(len(packed)))+"\x01\x09"+sevenNumber(uint64(len(data)))+"\x00\x07\x0b\x01\x00\x01\x23\x03\x01\x01\x05"+props+"\x0c"+sevenNumber(claim)+"\x00\x00")
}

func zstdOf(text string) string {
	z := must(zstd.NewWriter(nil))
	defer z.Close()
	return string(z.EncodeAll([]byte(text), nil))
}

func lz4Of(text string) string {
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	must(w.Write([]byte(text)))
	w.Close()
	return b.String()
}

func madeBySevenZip(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "archives", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSevenZipReal: what 7-Zip wrote is opened to its last byte, whatever
// compressed it, and what cannot be opened says why.
func TestSevenZipReal(t *testing.T) {
	const text, note = 8292, 15
	for name, want := range map[string]struct {
		unpacked int64
		entries  int
		danger   Danger
		detail   string
	}{
		"lzma2.7z": {text + 2*note, 4, "", ""}, "lzma.7z": {text + note, 2, "", ""}, "ppmd.7z": {text + note, 2, "", ""}, "bzip2.7z": {text, 1, "", ""},
		"deflate.7z": {text, 1, "", ""}, "copy.7z": {note, 1, "", ""}, "apart.7z": {text + note, 2, "", ""}, "zstd.7z": {750, 1, "", ""}, "empty.7z": {0, 0, "", ""},
		"deflate64.7z": {0, 1, Opaque, "040109"}, "encrypted.7z": {0, 2, Encrypted, "note.txt"}, "locked.7z": {0, 0, Encrypted, "names"},
		"link.7z": {26, 2, ArchiveLink, "/etc/passwd"}, "bcj2.7z": {488, 1, ArchiveExecutable, "portable-executable"},
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, sample{name: name, kind: "application/x-7z-compressed", text: madeBySevenZip(t, name)}, Limits{})
			header := int64(0) // a compressed header counts, too
			if r.Unpacked >= want.unpacked {
				header = r.Unpacked - want.unpacked
			}
			if r.Unpacked < want.unpacked || header > 400 || r.Entries != want.entries {
				t.Errorf("%d bytes of %d entries, want %d of %d: %v", r.Unpacked, r.Entries, want.unpacked, want.entries, r.Findings)
			}
			if want.danger == "" && len(r.Findings) > 0 || want.danger != "" && (len(r.Findings) == 0 || !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Danger == want.danger && strings.Contains(f.String(), want.detail) })) {
				t.Errorf("%v, want %s", r.Findings, want.danger)
			}
		})
	}
}

// TestSevenZip: what is in an archive is judged as in ZIP, wherever the archive
// begins and whatever stands around it.
func TestSevenZip(t *testing.T) {
	eicarish := member{"a/setup.exe", "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + strings.Repeat("\x00", 100)}
	slip := sevenOf(member{"ok.txt", "fine"}, member{"../../app.py", "import os"})
	stub := eicarish.text + strings.Repeat("\x00\x01\x02", 5000)
	unix := func(mode uint32) uint32 { return mode<<16 | 0x8000 }
	for name, c := range map[string]struct {
		name, text string
		want       Danger // "": nothing is found
	}{
		"honest":                      {"a.7z", sevenOf(member{"a/b.txt", "hello"}, member{"c.csv", "1,2\n"}), ""},
		"honest, packed header":       {"a.7z", sevenPacked(sevenPlan{members: []member{{"a/b.txt", "hello"}}}, 0), ""},
		"path":                        {"a.7z", slip, ArchivePath},
		"path, packed header":         {"a.7z", sevenPacked(sevenPlan{members: []member{{"../x", "hello"}}}, 0), ArchivePath},
		"path of Windows":             {"a.7z", sevenOf(member{`..\..\x`, "x"}), ArchivePath},
		"link":                        {"a.7z", sevenPlan{members: []member{{"l", "../../etc"}}, attrs: unix(0xa1ff)}.String(), ArchiveLink},
		"link within":                 {"a.7z", sevenPlan{members: []member{{"d/l", "../e"}}, attrs: unix(0xa1ff)}.String(), ""},
		"device":                      {"a.7z", sevenPlan{members: []member{{"d", "x"}}, attrs: unix(0x61ff)}.String(), ArchiveLink},
		"program":                     {"a.7z", sevenOf(eicarish), ArchiveExecutable},
		"in a ZIP":                    {"a.zip", zipOf(member{"b.7z", slip}), ArchivePath},
		"ZIP within":                  {"a.7z", sevenOf(member{"b.zip", zipOf(member{"../x", "y"})}), ArchivePath},
		"in a tar of Zstandard":       {"a.tar.zst", zstdOf(tarOf(entryOf("b.7z", slip))), ArchivePath},
		"in LZ4":                      {"a.7z.lz4", lz4Of(slip), ArchivePath},
		"seven deep":                  {"a.7z", nested(7), Bomb},
		"self-extracting":             {"a.exe", stub + slip, ArchivePath},
		"behind bytes":                {"a.bin", strings.Repeat("\x9c\x00\xf1", 900) + slip, ArchivePath},
		"behind text":                 {"a.txt", "just a text\n" + slip, ArchivePath},
		"far behind text":             {"a.txt", strings.Repeat("just a text\n", 10_000) + slip, Polyglot},
		"behind an image":             {"a.png", pngOf(4, 4) + slip, Polyglot},
		"called an image":             {"a.png", slip, TypeMismatch},
		"a signature in a text":       {"a.txt", "begins with 7z\xc2\xbc\xc2\xaf and 7z\n", ""},
		"a signature and no archive":  {"a.bin", strings.Repeat("\x9c\x00\xf1", 900) + sevenMagic + strings.Repeat("\x01", 100), ""},
		"cut off":                     {"a.7z", slip[:len(slip)-9], Unreadable},
		"a wrong checksum":            {"a.7z", sevenMagic + strings.Repeat("\x01", 100), Unreadable},
		"more files than entries":     {"a.7z", sevenPlan{members: []member{{"a", "x"}}, files: 3_000_000_000}.String(), Bomb},
		"claims":                      {"a.7z", sevenPlan{members: []member{{"a", "x"}}, coder: "\x01\x00", packed: "x", size: 1 << 40}.String(), Bomb},
		"claims the most":             {"a.7z", sevenPlan{members: []member{{"a", "x"}}, coder: "\x01\x00", packed: "x", size: math.MaxUint64}.String(), Bomb},
		"sizes that do not add up":    {"a.7z", sevenPlan{members: []member{{"a", "x"}, {"b", "y"}}, sizes: []uint64{100}}.String(), Unreadable},
		"shorter than it says":        {"a.7z", sevenPlan{members: []member{{"a", "x"}}, coder: "\x01\x00", packed: "x", size: 500}.String(), Unreadable},
		"no LZMA":                     {"a.7z", sevenPlan{members: []member{{"a", "hello"}}, coder: "\x23\x03\x01\x01\x05\x5d\x00\x00\x01\x00", packed: strings.Repeat("\xff", 50)}.String(), Unreadable},
		"a dictionary of 2 GB":        {"a.7z", sevenPlan{members: []member{{"a", "hello"}}, coder: "\x23\x03\x01\x01\x05\x5d\x00\x00\x00\x80", packed: "x"}.String(), Opaque},
		"a dictionary of 4 GB":        {"a.7z", sevenPlan{members: []member{{"a", "hello"}}, coder: "\x21\x21\x01\x28", packed: "x"}.String(), Opaque},
		"a model of 2 GB":             {"a.7z", sevenPlan{members: []member{{"a", "hello"}}, coder: "\x23\x03\x04\x01\x05\x06\x00\x00\x00\x80", packed: "x"}.String(), Opaque},
		"a header that unpacks large": {"a.7z", sevenPacked(sevenPlan{members: []member{{"a", "x"}}}, 1<<30), Opaque},
		"unknown compression":         {"a.7z", sevenPlan{members: []member{{"a", "hello"}}, coder: "\x02\x7f\x7f", packed: "x"}.String(), Opaque},
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, sample{name: c.name, text: c.text}, Limits{})
			if c.want == "" && len(r.Findings) > 0 && !(c.name == "a.exe") || c.want != "" && !r.Has(c.want) {
				t.Errorf("%v, want %q", r.Findings, c.want)
			}
		})
	}
}

func nested(n int) string {
	s := sevenOf(member{"x", "x"})
	for range n {
		s = sevenOf(member{"x.7z", s})
	}
	return s
}

// TestSevenZipBomb: a real bomb ends at the budget, by what it says and by what
// it unpacks to, and a small archive cannot take memory by its numbers.
func TestSevenZipBomb(t *testing.T) {
	zeros := strings.Repeat("\x00", 30<<20)
	props, data := lzmaOf(zeros)
	coder := "\x23\x03\x01\x01\x05" + props
	bomb := sevenPlan{members: []member{{"zeros", zeros}}, coder: coder, packed: data}.String()
	for name, c := range map[string]struct {
		text   string
		limits Limits
	}{
		"by its size":  {bomb, Limits{Unpacked: 1 << 20}},
		"by its ratio": {bomb, Limits{}},
		"by its sum":   {zipOf(member{"a.7z", bomb}, member{"b.7z", bomb}), Limits{Unpacked: 40 << 20, Ratio: 1 << 30}},
		"zstd":         {zstdOf(zeros), Limits{}},
		"lz4":          {lz4Of(zeros), Limits{Ratio: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, sample{text: c.text}, c.limits)
			if !r.Has(Bomb) || r.Unpacked > 45<<20 {
				t.Errorf("%d bytes: %v", r.Unpacked, r.Findings)
			}
		})
	}
	// A header of 400,000 empty names, packed: the library alone would take
	// hundreds of bytes for each.
	many := sevenPacked(sevenPlan{members: make([]member, 400_000)}, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := look(t, sample{text: many}, Limits{})
	runtime.ReadMemStats(&after)
	if !r.Has(Bomb) {
		t.Errorf("%v", r.Findings)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 100<<20 {
		t.Errorf("%d MB were taken for an archive of %d bytes", took>>20, len(many))
	}
}

// TestReaderPanics: a library that fails has looked at nothing.
func TestReaderPanics(t *testing.T) {
	err := guarded(func() error { panic("index out of range") })
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Fatalf("%v", err)
	}
}

func FuzzSevenZip(f *testing.F) {
	names, err := filepath.Glob("testdata/archives/*.7z")
	if err != nil || len(names) < 10 {
		f.Fatal("no archives", err)
	}
	for _, name := range names {
		f.Add(madeBySevenZip(f, filepath.Base(name)), false)
	}
	f.Add(sevenOf(member{"a", "b"}, member{"c", "d"}), true)
	f.Fuzz(func(t *testing.T, text string, mend bool) {
		b := []byte(text)
		if mend && len(b) > 32 && bytes.HasPrefix(b, []byte(sevenMagic)) {
			// Checksums that are right let the rest be reached.
			offset, size := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
			if n := uint64(len(b)); offset < n && size < n && 32+offset+size <= n {
				binary.LittleEndian.PutUint32(b[28:], crc32.ChecksumIEEE(b[32+offset:32+offset+size]))
			}
			binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[12:32]))
		}
		limits := Limits{Unpacked: 1 << 20, Entries: 1000}
		r, err := Inspect(context.Background(), File{Name: "a.7z", Data: bytes.NewReader(b), Size: int64(len(b))}, limits)
		if err != nil {
			t.Fatal(err)
		}
		if r.Unpacked > max(limits.Unpacked, 10*int64(len(b)))+64<<10 {
			t.Fatalf("%d bytes were unpacked", r.Unpacked)
		}
	})
}
