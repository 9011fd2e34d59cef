package content

import (
	"bytes"
	"regexp"
	"strings"
)

// oleNames are names of storages and streams in a compound file (MS-CFB) that
// mean something: its directory has them in UTF-16, each at the beginning of
// 128 bytes.
var oleNames = []struct {
	name   string
	danger Danger
	what   string
}{
	{"_VBA_PROJECT", Macro, "VBA macros"},
	{"_VBA_PROJECT_CUR", Macro, "VBA macros"},
	{"Macros", Macro, "VBA macros"},
	{"EncryptedPackage", Encrypted, "an encrypted document"},
	{"\x01Ole10Native", Embedded, "an embedded object"},
	{"Package", Embedded, "an embedded package"},
	{"ObjectPool", "", ""},
}

// ole looks at an office document of the old binary kind.
func (in *inspection) ole(f File, entry string) error {
	type want struct {
		utf16 []byte
		i     int
	}
	var wants []want
	for i, n := range oleNames {
		if n.danger == "" {
			continue
		}
		var b []byte
		for _, c := range []byte(n.name) {
			b = append(b, c, 0)
		}
		wants = append(wants, want{append(b, 0, 0), i})
	}
	return in.windows(f, 0, func(b []byte, _ int64) bool {
		// Sectors are multiples of 512 bytes, and so are the windows.
		for i := 0; i+128 <= len(b); i += 128 {
			e := b[i : i+128]
			if kind := e[66]; kind != 1 && kind != 2 || e[64] == 0 || e[65] != 0 { // storage or stream, with a name
				continue
			}
			for _, w := range wants {
				if bytes.HasPrefix(e, w.utf16) && int(e[64]) == len(w.utf16) {
					in.find(oleNames[w.i].danger, entry, "%s (%q)", oleNames[w.i].what, oleNames[w.i].name)
				}
			}
		}
		return true
	})
}

// relationship is one line of a .rels part of OOXML (ECMA-376 part 2).
var (
	relationship = regexp.MustCompile(`(?i)<(?:\w+:)?Relationship\s[^>]*>`)
	relExternal  = regexp.MustCompile(`(?i)TargetMode\s*=\s*["']External["']`)
	relType      = regexp.MustCompile(`(?i)Type\s*=\s*["'][^"']*/(attachedTemplate|oleObject|subDocument|frame|externalLinkPath|control)["']`)
	relTarget    = regexp.MustCompile(`(?i)Target\s*=\s*["']([^"']*)["']`)
)

var (
	// ddeField is a field of Word that asks another program.
	ddeField = regexp.MustCompile(`<w:instrText[^>]*>\s*DDE(?:AUTO)?\s|w:instr\s*=\s*["']\s*DDE(?:AUTO)?\s`)
	// ddeCell is a formula that does, in text with separators: =cmd|'/C calc'!A0.
	ddeCell = regexp.MustCompile(`(?:^|[\r\n,;\t])[ "']*[=+@-][ \w+\-*/"'()@=.:]{0,100}\|[^\r\n]{0,300}![ ]?\w`)
)

// spreadsheet looks for formulas that start programs in text with separators.
func (in *inspection) spreadsheet(f File, entry string) error {
	return in.windows(f, 1024, func(b []byte, _ int64) bool {
		if ddeCell.Match(textOf(b)) {
			in.find(External, entry, "a formula with a DDE link, which starts a program")
			return false
		}
		return true
	})
}

// officeEntry looks at an entry of a ZIP archive by its name, and at what it
// holds where that is small and of interest.
func (in *inspection) officeEntry(name, entry string, text func() []byte) {
	lower := strings.ToLower(name)
	base := lower[strings.LastIndexByte(lower, '/')+1:]
	switch {
	case base == "vbaproject.bin", base == "vbadata.xml":
		in.find(Macro, entry, "VBA macros (%s)", name)
	case strings.HasPrefix(lower, "xl/macrosheets/") || strings.HasPrefix(lower, "xl/dialogsheets/"):
		in.find(Macro, entry, "Excel 4.0 macros (%s)", name)
	case strings.HasPrefix(lower, "basic/") && strings.HasSuffix(lower, ".xml") && base != "script-lc.xml", strings.HasPrefix(lower, "scripts/"):
		in.find(Macro, entry, "OpenDocument macros (%s)", name)
	case strings.Contains(lower, "/activex/") && strings.HasSuffix(lower, ".bin"):
		in.find(Embedded, entry, "an ActiveX control (%s)", name)
	case strings.Contains(lower, "/embeddings/") && strings.HasSuffix(lower, ".bin"):
		in.find(Embedded, entry, "an embedded object (%s)", name)
	case strings.HasPrefix(lower, "xl/externallinks/") && strings.HasSuffix(lower, ".xml"):
		if bytes.Contains(text(), []byte("ddeLink")) {
			in.find(External, entry, "a DDE link, which starts a program (%s)", name)
		}
	case lower == "word/document.xml":
		if ddeField.Match(text()) {
			in.find(External, entry, "a DDE field, which starts a program (%s)", name)
		}
	case strings.HasSuffix(lower, ".rels"):
		for _, r := range relationship.FindAll(text(), 10_000) {
			if !relExternal.Match(r) {
				continue
			}
			if t := relType.FindSubmatch(r); t != nil {
				target := ""
				if m := relTarget.FindSubmatch(r); m != nil {
					target = string(m[1])
				}
				in.find(External, entry, "%s from %q (%s)", t[1], target, name)
			}
		}
	}
}
