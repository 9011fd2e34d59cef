package content

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

func rarVint(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

// rar5Block writes a header of RAR 5 with the data behind it.
func rar5Block(kind, flags uint64, fields, extra, data string) string {
	if extra != "" {
		flags |= 1
	}
	if data != "" {
		flags |= 2
	}
	b := rarVint(kind) + rarVint(flags)
	if extra != "" {
		b += rarVint(uint64(len(extra)))
	}
	if data != "" {
		b += rarVint(uint64(len(data)))
	}
	b += fields + extra
	b = rarVint(uint64(len(b))) + b
	return string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(b)))) + b + data
}

// rar5File writes a file that is stored as it is.
func rar5File(name, text, extra string, size uint64) string {
	fields := rarVint(4) + rarVint(size) + rarVint(0o100644) + string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text)))) +
		rarVint(0) + rarVint(1) + rarVint(uint64(len(name))) + name
	return rar5Block(2, 0, fields, extra, text)
}

const rar5Main = "\x00" // no flags of the archive

func rar5Of(members ...member) string {
	s := rar5Magic + rar5Block(1, 0, rar5Main, "", "")
	for _, m := range members {
		s += rar5File(m.name, m.text, "", uint64(len(m.text)))
	}
	return s + rar5Block(5, 0, "\x00", "", "")
}

func rar4Block(kind byte, flags uint16, fields, data string) string {
	b := string([]byte{kind}) + string(binary.LittleEndian.AppendUint16(nil, flags)) + string(binary.LittleEndian.AppendUint16(nil, uint16(7+len(fields)))) + fields
	return string(binary.LittleEndian.AppendUint16(nil, uint16(crc32.ChecksumIEEE([]byte(b))))) + b + data
}

func rar4Of(members ...member) string {
	s := rarMagic + rar4Block(0x73, 0, "\x00\x00\x00\x00\x00\x00", "")
	u32 := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
	for _, m := range members {
		fields := u32(uint32(len(m.text))) + u32(uint32(len(m.text))) + "\x03" + u32(crc32.ChecksumIEEE([]byte(m.text))) + u32(0) + "\x14\x30" +
			string(binary.LittleEndian.AppendUint16(nil, uint16(len(m.name)))) + u32(0o100644) + m.name
		s += rar4Block(0x74, 0x8000, fields, m.text)
	}
	return s + rar4Block(0x7b, 0x4000, "", "")
}

// rar5Link is the extra record of a redirection.
func rar5Link(kind uint64, target string) string {
	r := rarVint(5) + rarVint(kind) + rarVint(0) + rarVint(uint64(len(target))) + target
	return rarVint(uint64(len(r))) + r
}

// rar5Lock is the extra record of an encrypted file.
func rar5Lock() string {
	r := rarVint(1) + rarVint(0) + rarVint(0) + "\x0f" + strings.Repeat("s", 32)
	return rarVint(uint64(len(r))) + r
}

func rar5With(blocks string) string {
	return rar5Magic + rar5Block(1, 0, rar5Main, "", "") + blocks + rar5Block(5, 0, "\x00", "", "")
}

func TestRAR(t *testing.T) {
	program := "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + strings.Repeat("\x00", 100)
	stub := program + strings.Repeat("\x00\x01\x02", 5000)
	slip := rar5Of(member{"ok.txt", "fine"}, member{"../../app.py", "import os"})
	for name, c := range map[string]struct {
		name, text string
		want       Danger // "": nothing is found
	}{
		"honest, 5":                  {"a.rar", rar5Of(member{"a/b.txt", "hello"}, member{"c.csv", "1,2\n"}), ""},
		"honest, 4":                  {"a.rar", rar4Of(member{"a/b.txt", "hello"}, member{"c.csv", "1,2\n"}), ""},
		"path, 5":                    {"a.rar", slip, ArchivePath},
		"path, 4":                    {"a.rar", rar4Of(member{`..\..\x`, "x"}), ArchivePath},
		"absolute":                   {"a.rar", rar5Of(member{"/etc/cron.d/x", "x"}), ArchivePath},
		"link":                       {"a.rar", rar5With(rar5File("l", "", rar5Link(1, "/etc/passwd"), 0)), ArchiveLink},
		"hard link":                  {"a.rar", rar5With(rar5File("l", "", rar5Link(4, "../../x"), 0)), ArchiveLink},
		"link within":                {"a.rar", rar5With(rar5File("d/l", "", rar5Link(1, "../e"), 0)), ""},
		"encrypted":                  {"a.rar", rar5With(rar5File("x", strings.Repeat("z", 32), rar5Lock(), 20)), Encrypted},
		"names encrypted":            {"a.rar", rar5Magic + rar5Block(4, 0, "\x00\x00\x0f"+strings.Repeat("s", 16), "", ""), Encrypted},
		"encrypted beyond measure":   {"a.rar", rar5With(rar5File("x", strings.Repeat("z", 32), rar5Lock(), 1<<40)), Bomb},
		"program":                    {"a.rar", rar5Of(member{"setup.exe", program}), ArchiveExecutable},
		"in a ZIP":                   {"a.zip", zipOf(member{"b.rar", slip}), ArchivePath},
		"7z within":                  {"a.rar", rar5Of(member{"b.7z", sevenOf(member{"../x", "y"})}), ArchivePath},
		"self-extracting":            {"a.exe", stub + slip, ArchivePath},
		"behind bytes":               {"a.bin", strings.Repeat("\x9c\x00\xf1", 900) + slip, ArchivePath},
		"behind an image":            {"a.gif", gifOf(4, 4) + slip, Polyglot},
		"a signature and no archive": {"a.bin", strings.Repeat("\x9c\x00\xf1", 900) + rar5Magic + strings.Repeat("\x01", 100), ""},
		"cut off":                    {"a.rar", slip[:len(slip)-30], Unreadable},
		"a wrong checksum":           {"a.rar", strings.Replace(slip, "import os", "import so", 1), Unreadable},
		"shorter than it says":       {"a.rar", rar5With(rar5File("x", "abc", "", 1000)), Unreadable},
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, sample{name: c.name, text: c.text}, Limits{})
			if c.want == "" && len(r.Findings) > 0 || c.want != "" && !r.Has(c.want) {
				t.Errorf("%v, want %q (%s)", r.Findings, c.want, r.Kind.MIME)
			}
		})
	}
	r := look(t, sample{name: "a.rar", text: rar5Of(member{"a", strings.Repeat("x", 2<<20)})}, Limits{Unpacked: 1 << 20})
	if r.Has(Bomb) {
		t.Errorf("what is stored in a file of its own size: %v", r.Findings)
	}
	many := rar5Of(slices.Repeat([]member{{"a", "b"}}, 300)...)
	if r := look(t, sample{name: "a.rar", text: many}, Limits{Entries: 100}); !r.Has(Bomb) {
		t.Errorf("300 entries: %v", r.Findings)
	}
}

func FuzzRAR(f *testing.F) {
	f.Add(rar5Of(member{"a", "b"}, member{"c", "d"}), true)
	f.Add(rar4Of(member{"a", "b"}, member{"c", "d"}), true)
	f.Add(rar5With(rar5File("l", "", rar5Link(1, "/etc/passwd"), 0)), true)
	f.Add(rar5With(rar5File("x", strings.Repeat("z", 32), rar5Lock(), 20)), false)
	f.Fuzz(func(t *testing.T, text string, mend bool) {
		b := []byte(text)
		if mend && bytes.HasPrefix(b, []byte(rar5Magic)) {
			mendRAR5(b[8:])
		}
		limits := Limits{Unpacked: 1 << 20, Entries: 1000}
		r, err := Inspect(context.Background(), File{Name: "a.rar", Data: bytes.NewReader(b), Size: int64(len(b))}, limits)
		if err != nil {
			t.Fatal(err)
		}
		if r.Unpacked > max(limits.Unpacked, 10*int64(len(b)))+64<<10 {
			t.Fatalf("%d bytes were unpacked", r.Unpacked)
		}
	})
}

// mendRAR5 puts the right checksums into headers, so that the rest is reached.
func mendRAR5(b []byte) {
	for len(b) > 8 {
		size, n := binary.Uvarint(b[4:])
		if n <= 0 || size > uint64(len(b)-4-n) {
			return
		}
		end := 4 + n + int(size)
		binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:end]))
		h := b[4+n : end]
		_, k := binary.Uvarint(h)
		if k <= 0 {
			return
		}
		flags, l := binary.Uvarint(h[k:])
		if l <= 0 {
			return
		}
		h = h[k+l:]
		if flags&1 != 0 {
			_, l := binary.Uvarint(h)
			if l <= 0 {
				return
			}
			h = h[l:]
		}
		data := uint64(0)
		if flags&2 != 0 {
			data, l = binary.Uvarint(h)
			if l <= 0 {
				return
			}
		}
		if data > uint64(len(b)-end) {
			return
		}
		b = b[end+int(data):]
	}
}
