package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// retyped gives the first entry of a tar archive another type, and the
// checksum that goes with it.
func retyped(archive string, typ byte) string {
	b := []byte(archive)
	b[156] = typ
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return string(b)
}

// TestTarTypes: what Python's tarfile unpacks as a file is looked into,
// whatever type it calls itself: contiguous (7) and those that nobody knows.
func TestTarTypes(t *testing.T) {
	for _, typ := range []byte("07Q") {
		archive := retyped(tarOf(entryOf("a.bin", zipOf(member{"../x", "y"}))), typ)
		if r := look(t, sample{"a.tar", "", archive, nil}, Limits{}); !r.Has(ArchivePath) {
			t.Errorf("type %q: %v", typ, r.Findings)
		}
	}
}

// TestZipNames: a name in the extra field for Unicode counts, too; a folder
// that is there twice is one folder.
func TestZipNames(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	name := "../../app.py"
	extra := "\x75\x70" + string([]byte{byte(5 + len(name)), 0}) + "\x01\x00\x00\x00\x00" + name
	must(z.CreateHeader(&zip.FileHeader{Name: "notes.txt", Extra: []byte(extra)}))
	must(0, z.Close())
	if r := look(t, sample{"a.zip", "", b.String(), nil}, Limits{}); !r.Has(ArchivePath) {
		t.Errorf("%v", r.Findings)
	}
	folders := zipOf(member{"docs/", ""}, member{"docs/a.txt", "x"}, member{"docs/", ""})
	if r := look(t, sample{"a.zip", "", folders, nil}, Limits{}); len(r.Findings) > 0 {
		t.Errorf("%v", r.Findings)
	}
	twice := zipOf(member{"docs/a.txt", strings.Repeat("x", 9)}, member{"docs/a.txt", "y"})
	if r := look(t, sample{"a.zip", "", twice, nil}, Limits{}); !r.Has(ArchiveAmbiguous) {
		t.Errorf("%v", r.Findings)
	}
}

// TestManyFindings: however much an archive has of what is only noted, what
// refuses it is among its findings.
func TestManyFindings(t *testing.T) {
	var headers []tar.Header
	for i := range 2 * maxFindings {
		headers = append(headers, entryOf(fmt.Sprintf("bin/%d", i), "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 60)))
	}
	for _, c := range []struct {
		last tar.Header
		want Danger
	}{
		{entryOf("../../app.py", "x"), ArchivePath},
		{entryOf("a.gz", gzipOf(strings.Repeat("\x00", 4<<20))), Bomb},
		{entryOf("cat.png", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 60)), Disguised},
	} {
		r := look(t, sample{"a.tar", "", tarOf(append(headers, c.last)...), nil}, tight)
		if !r.Has(c.want) {
			t.Errorf("%s is not among %d findings", c.want, len(r.Findings))
		}
		if len(r.Findings) > maxFindings+10 {
			t.Errorf("%d findings", len(r.Findings))
		}
	}
}

// TestUnreadableDirectory: an archive that is not read here and may be by
// others (Python's zipfile goes by the size of the directory, not by the number
// of entries, and takes an offset that is too large) is none that passes.
func TestUnreadableDirectory(t *testing.T) {
	whole := zipOf(member{"../x", "y"})
	change := func(at int, with string) string {
		b := []byte(whole)
		copy(b[len(b)-22+at:], with)
		return string(b)
	}
	for what, text := range map[string]string{
		"two entries announced": change(8, "\x02\x00\x02\x00"), "none announced": change(8, "\x00\x00\x00\x00"), "an offset too large": change(16, "\xff\xff\x00\x00"),
	} {
		if r := look(t, sample{"a.zip", "", text, nil}, Limits{}); !r.Has(ArchiveAmbiguous) {
			t.Errorf("%s: %v", what, r.Findings)
		}
		if r := look(t, sample{"cat.png", "image/png", pngOf(9, 9) + text, nil}, Limits{}); !r.Has(Polyglot) {
			t.Errorf("%s behind an image: %v", what, r.Findings)
		}
	}
	// A record that Go's reader does not take, and Python's does.
	first := tarOf(entryOf("pax", "15 mtime=never\n"), entryOf("a", "x"), entryOf("../../app.py", "y"))
	if r := look(t, sample{"a.tar", "", retyped(first, tar.TypeXHeader), nil}, Limits{}); !r.Has(ArchiveAmbiguous) {
		t.Errorf("tar: %v", r.Findings)
	}
	if r := look(t, sample{"a.zip", "", whole[:len(whole)-30], nil}, Limits{}); r.Has(ArchiveAmbiguous) {
		t.Errorf("cut short: %v", r.Findings)
	}
}

// TestHEICSizes: the largest of several images in one file is the one that
// takes memory, whatever shape the first has.
func TestHEICSizes(t *testing.T) {
	ispe := func(w, h uint32) string {
		return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("ispe\x00\x00\x00\x00"), w), h))
	}
	text := "\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic" + strings.Repeat("\x00", 12) + ispe(1, 1_000_000) + ispe(40_000, 40_000) + strings.Repeat("\x00", 40)
	if r := look(t, sample{"a.heic", "image/heic", text, nil}, Limits{}); !r.Has(ImageSize) {
		t.Errorf("%v", r.Findings)
	}
}
