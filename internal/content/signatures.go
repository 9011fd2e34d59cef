package content

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"
)

// signatures tell formats that the library for types does not know, and that a
// double click opens, mounts or runs.
var signatures = []struct {
	at    int
	magic string
	kind  Kind
}{
	{0, "\x04\x22\x4d\x18", Kind{"application/x-lz4", Archive}},
	{0, "\x1f\x9d\x90", Kind{"application/x-compress", Archive}},
	{7, "**ACE**", Kind{"application/x-ace-compressed", Archive}},
	// Windows and macOS mount these, and what is in them is not marked as
	// downloaded.
	{32769, "CD001", Kind{"application/x-iso9660-image", Archive}},
	{32769, "BEA01", Kind{"application/x-udf-image", Archive}},
	{0, "vhdxfile", Kind{"application/x-vhdx", Archive}},
	{0, "conectix", Kind{"application/x-vhd", Archive}},
	{0, "MSWIM\x00\x00\x00", Kind{"application/x-ms-wim", Archive}},
	{0, "hsqs", Kind{"application/x-squashfs", Archive}},
}

// shortcuts are texts that the desktop runs, or that lead it to a server.
var shortcuts = []struct {
	begins *regexp.Regexp
	kind   Kind
}{
	{regexp.MustCompile(`(?i)^\[InternetShortcut(?:\.[AW])?\]\s*[\r\n]`), Kind{"application/x-mswinurl", Script}},
	{regexp.MustCompile(`^(?:#[^\r\n]*\s+)*\[Desktop Entry\]\s*[\r\n]`), Kind{"application/x-desktop", Script}},
	{regexp.MustCompile(`(?i)^\[Shell\]\s*[\r\n](?:[^\[]*[\r\n])?(?:Command|IconFile)\s*=`), Kind{"application/x-windows-scf", Script}},
	{regexp.MustCompile(`(?i)^\[autorun(?:\.\w+)?\]\s*[\r\n]`), Kind{"application/x-setupscript", Script}},
	{regexp.MustCompile(`^(?:REGEDIT4|Windows Registry Editor Version \d)`), Kind{"text/x-ms-regedit", Script}},
	{regexp.MustCompile(`^ID;P[^\r\n]*\r?\n(?:[BCFOPNW];[A-Z]|E\r?\n)`), Kind{"application/x-sylk", Office}},
	{regexp.MustCompile(`^WEB\r?\n\d\r?\nhttps?://`), Kind{"text/x-ms-iqy", Script}},
	{regexp.MustCompile(`(?i)^(?:[ \w]+:[sib]:[^\r\n]*[\r\n]+)*full address:s:`), Kind{"application/x-rdp", Script}},
}

// desktopRoots are first elements of XML that the desktop runs.
var desktopRoots = map[string]Kind{
	"jnlp":                       {"application/x-java-jnlp-file", Script},
	"pcsettings":                 {"application/x-ms-settingcontent", Script},
	"librarydescription":         {"application/x-ms-library", Script},
	"searchconnectordescription": {"application/x-ms-searchconnector", Script},
	"scriptlet":                  {"text/x-ms-scriptlet", Script},
	"appinstaller":               {"application/x-ms-appinstaller", Script},
}

// mailHead is a line of the head of a message (RFC 5322) that no other text
// begins with.
var mailHead = regexp.MustCompile(`(?i)^(?:From |(?:Return-Path|Received|Delivered-To|MIME-Version|Message-ID|From|To|Subject|Date|X-[\w-]+|DKIM-Signature|ARC-[\w-]+|Authentication-Results|Content-Type|Thread-\w+|List-[\w-]+|User-Agent|Reply-To|Sender|Importance|Snapshot-Content-Location): ?)`)

// byOwnSignature tells a kind that the library calls unknown or text.
func byOwnSignature(prefix, begins []byte) (Kind, bool) {
	for _, s := range signatures {
		if len(prefix) >= s.at+len(s.magic) && string(prefix[s.at:s.at+len(s.magic)]) == s.magic {
			return s.kind, true
		}
	}
	switch {
	case len(prefix) > 22 && prefix[2] == '-' && prefix[3] == 'l' && prefix[6] == '-' && bytes.IndexByte([]byte("hz"), prefix[4]) >= 0 && bytes.IndexByte([]byte("01234567ds"), prefix[5]) >= 0 && prefix[20] <= 3:
		return Kind{"application/x-lzh-compressed", Archive}, true
	case len(prefix) > 34 && prefix[0] == 0x60 && prefix[1] == 0xea && prefix[4] >= 30 && prefix[4] <= 40 && int(binary.LittleEndian.Uint16(prefix[2:])) > int(prefix[4]) && binary.LittleEndian.Uint16(prefix[2:]) <= 2600:
		return Kind{"application/x-arj", Archive}, true
	}
	for _, s := range shortcuts {
		if s.begins.Match(begins) {
			return s.kind, true
		}
	}
	if isMail(prefix) {
		return Kind{"message/rfc822", Data}, true
	}
	return Kind{}, false
}

// isMail reports whether a text is a message: its head has a MIME-Version or a
// Message-ID among lines that all look like a head.
func isMail(prefix []byte) bool {
	text := bytes.TrimPrefix(prefix, []byte("\xef\xbb\xbf"))
	if !mailHead.Match(text[:min(len(text), 64)]) {
		return false
	}
	head, _, ok := bytes.Cut(text, []byte("\n\r\n"))
	if h, _, short := bytes.Cut(text, []byte("\n\n")); short && (!ok || len(h) < len(head)) {
		head, ok = h, true
	}
	if !ok {
		return false
	}
	sure := false
	for i, line := range bytes.Split(head, []byte("\n")) {
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' || i == 0 && bytes.HasPrefix(line, []byte("From ")) {
			continue
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || bytes.IndexByte(name, ' ') >= 0 {
			return false
		}
		switch strings.ToLower(string(name)) {
		case "mime-version", "message-id":
			sure = true
		}
	}
	return sure
}
