package content

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
)

// Family is a group of formats that are opened by the same kind of program.
type Family uint8

// The families.
const (
	Unknown Family = iota
	Text           // nothing runs it
	Image          // raster images
	SVG
	HTML
	XML
	PDF
	Office // OLE, OOXML, OpenDocument, RTF
	Archive
	Program // machine code, bytecode, installers, shortcuts
	Script  // text that an interpreter runs
	Media   // audio and video
	Font
	Data // other formats that nothing runs
)

// Kind is what a file is.
type Kind struct {
	MIME   string
	Family Family
}

func init() {
	// A page may stand behind thousands of spaces or a long comment.
	mimetype.SetLimit(prefixBytes)
}

var (
	oleMagic = []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	// phpTag begins PHP where a server looks for it.
	phpTag = regexp.MustCompile(`(?i)^(?:<\?(?:php|=)|<%[@=!])`)
	// magickScript begins drawing commands that ImageMagick runs whatever the
	// file's name, and which read and write other files (CVE-2016-3714).
	magickScript = regexp.MustCompile(`(?i)^(?:push\s+graphic-context|<image\s+authenticate=|<group>\s*<read\s)`)
	// markupTag begins a text that a browser takes for a page: it sniffs for
	// some of these, and a server that goes by content for all.
	markupTag = regexp.MustCompile(`(?i)^<(?:!doctype\s+html|html|head|body|script|iframe|img|div|table|a|br|b|p|h1|title|style|form|object|embed|link|meta|video|audio|input|details|marquee|button|base|math|frameset)(?:[\s/>]|$)`)
)

// Sniff tells what a file is by its first bytes.
func Sniff(prefix []byte) Kind {
	mime, _, _ := strings.Cut(mimetype.Detect(prefix).String(), ";")
	if mime == "application/pdf" && !bytes.HasPrefix(bytes.TrimLeft(prefix, " \t\r\n\f\x00\ufeff"), []byte("%PDF-")) {
		// Readers of PDF find its header anywhere in the first kilobyte;
		// what begins as something else is that, too.
		other, _, _ := strings.Cut(mimetype.Detect(bytes.Replace(prefix, []byte("%PDF-"), []byte(" PDF-"), 1)).String(), ";")
		if f := familyOfType(other); f != Unknown && f != Text {
			mime = other
		}
	}
	k := Kind{mime, familyOfType(mime)}
	begins := bytes.TrimLeft(prefix, " \t\r\n\f\v")
	begins = begins[:min(len(begins), 256)]
	switch {
	case len(prefix) >= 2 && prefix[0] == 0x80 && prefix[1] >= 2 && prefix[1] <= 5 && (len(prefix) > 10 && prefix[1] >= 4 && prefix[2] == 0x95 || prefix[1] < 4 && looksPickled(prefix[2:])):
		return Kind{"application/x-python-pickle", Program}
	case phpTag.Match(begins):
		return Kind{"text/x-php", Script}
	case bytes.HasPrefix(bytes.TrimLeft(prefix, "\x04\x1b \r\n"), []byte("%!PS")):
		return Kind{"application/postscript", Data}
	case magickScript.Match(begins):
		return Kind{"text/x-mvg", Script}
	}
	if (k.Family == Program || k.Family == Archive) && plainText(prefix) {
		// Two or three letters make "MZ", "FWS" or "BZh": a list that begins
		// with them is no program.
		k = Kind{"text/plain", Text}
	}
	if k.MIME == "message/rfc822" && !isMail(prefix) {
		k = Kind{"text/plain", Text}
	}
	switch k.Family {
	case Text, Unknown:
		if own, ok := byOwnSignature(prefix, begins); ok {
			return own
		}
	}
	switch k.Family {
	case Text, Unknown, XML:
		text := textOf(prefix)
		trimmed := bytes.TrimLeft(text, " \t\r\n\f\x00\ufeff")
		for bytes.HasPrefix(trimmed, []byte("<!--")) {
			_, rest, ok := bytes.Cut(trimmed, []byte("-->"))
			if !ok {
				break
			}
			trimmed = bytes.TrimLeft(rest, " \t\r\n\f")
		}
		root, xml := rootOf(text)
		switch {
		case root == "svg":
			return Kind{"image/svg+xml", SVG}
		case xml && desktopRoots[root].MIME != "":
			return desktopRoots[root]
		case k.Family != XML && markupTag.Match(trimmed[:min(len(trimmed), 256)]):
			return Kind{"text/html", HTML}
		case k.Family != XML && xml && root != "":
			return Kind{"text/xml", XML}
		case bytes.HasPrefix(prefix, []byte("#!")):
			if k.Family != Script {
				return Kind{"text/x-script", Script}
			}
		}
	}
	return k
}

// rootOf returns the local name of the first element of markup, in lower case,
// and whether something of XML stands before it. What no parser would take is
// passed over in favour of finding one.
func rootOf(b []byte) (name string, xml bool) {
	for {
		b = bytes.TrimLeft(b, " \t\r\n\f\x00\ufeff")
		var ok bool
		switch {
		case bytes.HasPrefix(b, []byte("<!--")):
			_, b, ok = bytes.Cut(b[4:], []byte("-->"))
		case bytes.HasPrefix(b, []byte("<?")):
			xml = true
			_, b, ok = bytes.Cut(b, []byte(">"))
		case bytes.HasPrefix(b, []byte("<!")):
			end := bytes.IndexByte(b, '>')
			if end >= 0 && bytes.IndexByte(b[:end], '[') >= 0 {
				xml = true
				if end = bytes.Index(b, []byte("]")); end >= 0 {
					if n := bytes.IndexByte(b[end:], '>'); n >= 0 {
						end += n
					}
				}
			}
			if ok = end >= 0; ok {
				b = b[end+1:]
			}
		case len(b) > 1 && b[0] == '<':
			name, _, _ = tagAt(b[1:])
			return name, xml
		default:
			return "", xml
		}
		if !ok {
			return "", xml
		}
	}
}

// plainText reports whether the beginning of a file is text in UTF-8, which no
// header of a program or an archive is.
func plainText(b []byte) bool {
	b = b[:min(len(b), 512)]
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' || r == 0x7f || r == utf8.RuneError && n == 1 && len(b) >= utf8.UTFMax {
			return false
		}
		b = b[n:]
	}
	return true
}

// looksPickled reports whether the bytes behind the header of pickle protocol
// 2 or 3 begin an object.
func looksPickled(b []byte) bool {
	return len(b) > 1 && bytes.IndexByte([]byte("c}](X\x8cU\x88\x89NKMJG)"), b[0]) >= 0 && bytes.IndexByte(b, '.') > 0
}

// textOf returns text of UTF-16 as UTF-8, as far as ASCII goes, and everything
// else as it is.
func textOf(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	odd := 0
	switch {
	case b[0] == 0xff && b[1] == 0xfe, b[1] == 0 && b[3] == 0 && b[0] != 0 && b[2] != 0:
	case b[0] == 0xfe && b[1] == 0xff, b[0] == 0 && b[2] == 0 && b[1] != 0 && b[3] != 0:
		odd = 1
	default:
		return b
	}
	out := make([]byte, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		low, high := b[i+odd], b[i+1-odd]
		switch {
		case high == 0:
			out = append(out, low)
		case high == 0xfe && low == 0xff:
		default:
			out = append(out, '?')
		}
	}
	return out
}

// container names the reader for what has files within it, or "".
func (k Kind) container() string {
	switch k.MIME {
	case "application/zip", "application/java-archive", "application/vnd.android.package-archive", "application/epub+zip", "application/vnd.google-earth.kmz",
		"application/vnd.ms-package.3dmanufacturing-3dmodel+xml", "application/vnd.sun.xml.calc", "application/vnd.ms-visio.drawing.main+xml":
		return "zip"
	case "application/x-tar":
		return "tar"
	case "application/gzip":
		return "gzip"
	case "application/x-bzip2":
		return "bzip2"
	case "application/x-xz":
		return "xz"
	case "application/zstd":
		return "zstd"
	case "application/x-lz4":
		return "lz4"
	case "application/x-7z-compressed":
		return "7z"
	case "application/vnd.rar":
		return "rar"
	case "message/rfc822":
		return "mail"
	case "application/vnd.ms-cab-compressed", "application/x-installshield", "application/lzip", "application/x-cpio", "application/x-xar", "application/x-archive",
		"application/x-compress", "application/x-ace-compressed", "application/x-iso9660-image", "application/x-udf-image", "application/x-vhdx", "application/x-vhd",
		"application/x-ms-wim", "application/x-squashfs", "application/x-lzh-compressed", "application/x-arj":
		return "opaque"
	}
	if strings.HasPrefix(k.MIME, "application/vnd.openxmlformats-") || strings.HasPrefix(k.MIME, "application/vnd.oasis.opendocument.") {
		return "zip"
	}
	return ""
}

// familyOfType returns the family of a media type.
func familyOfType(mime string) Family {
	mime, _, _ = strings.Cut(strings.ToLower(mime), ";")
	mime = strings.TrimSpace(mime)
	if f, ok := types[mime]; ok {
		return f
	}
	switch kind, _, _ := strings.Cut(mime, "/"); kind {
	case "image":
		return Image
	case "audio", "video":
		return Media
	case "font":
		return Font
	case "text":
		return Text
	case "model":
		return Data
	}
	switch {
	case strings.HasPrefix(mime, "application/vnd.openxmlformats-"), strings.HasPrefix(mime, "application/vnd.oasis.opendocument."), strings.HasPrefix(mime, "application/vnd.ms-"):
		return Office
	case strings.HasSuffix(mime, "+xml"):
		return XML
	case strings.HasSuffix(mime, "+json"):
		return Text
	case strings.HasSuffix(mime, "+zip"):
		return Archive
	}
	return Unknown
}

var types = map[string]Family{}

// extensions are the families of file names.
var extensions = map[string]Family{}

func init() {
	for family, list := range map[Family]string{
		Image:   "image/apng",
		SVG:     "image/svg+xml image/svg",
		HTML:    "text/html application/xhtml+xml application/vnd.ms-htmlhelp",
		XML:     "text/xml application/xml",
		PDF:     "application/pdf application/x-pdf",
		Office:  "application/msword application/x-ole-storage application/rtf text/rtf application/onenote application/vnd.sun.xml.calc",
		Archive: "application/zip application/x-zip-compressed application/x-tar application/gzip application/x-gzip application/x-bzip2 application/x-xz application/x-7z-compressed application/vnd.rar application/x-rar-compressed application/zstd application/vnd.ms-cab-compressed application/x-installshield application/lzip application/x-cpio application/x-xar application/x-archive application/x-lz4 application/x-compress application/x-iso9660-image application/java-archive application/vnd.android.package-archive application/x-chrome-extension",
		Program: "application/vnd.microsoft.portable-executable application/x-msdownload application/x-dosexec application/x-elf application/x-object application/x-executable application/x-sharedlib application/x-coredump application/x-mach-binary application/x-java-applet application/wasm application/x-ms-shortcut application/x-ms-installer application/vnd.debian.binary-package application/x-rpm application/x-shockwave-flash application/x-bytecode.python application/x-python-pickle",
		Script:  "text/x-php text/x-lua text/x-perl text/x-python text/x-ruby text/x-shellscript text/x-tcl text/javascript application/javascript application/x-httpd-php text/x-script application/x-sh",
		Media:   "application/ogg application/vnd.rn-realmedia-vbr application/vnd.apple.mpegurl",
		Font:    "application/vnd.ms-fontobject",
		Text:    "application/json application/x-ndjson application/x-subrip",
		Data:    "application/postscript application/vnd.sqlite3 application/vnd.apache.parquet application/dicom application/fits image/vnd.dwg image/vnd.dxf application/pkcs7-signature message/rfc822",
	} {
		for mime := range strings.FieldsSeq(list) {
			types[mime] = family
		}
	}
	for family, list := range map[Family]string{
		Image:   "png apng jpg jpeg jpe jfif gif webp bmp tif tiff ico heic heif avif jxl jp2 psd pbm pgm ppm",
		SVG:     "svg",
		HTML:    "html htm xhtml xht shtml hta mhtml mht",
		XML:     "xml xsd xsl xslt kml gpx rss atom",
		PDF:     "pdf",
		Office:  "doc dot docx dotx docm dotm xls xlt xlsx xltx xlsm xltm xlsb ppt pps pptx ppsx pptm odt ods odp odg rtf one msg vsd vsdx",
		Archive: "zip tar gz tgz bz2 tbz2 xz txz 7z rar zst tzst lz4 z cab lz lzh lha arj ace iso vhd vhdx wim cpio xar jar war apk epub kmz whl",
		Program: "exe dll scr com sys msi cpl so dylib elf class wasm lnk deb rpm pyc pyd bin pkl pickle swf",
		Script:  "php php3 php4 php5 php7 php8 phtml phar pht asp aspx ashx asmx jsp jspx jspf cgi fcgi pl py pyw rb sh bash zsh bat cmd ps1 vbs vbe js mjs cjs jse wsf lua tcl",
		Media:   "mp3 mp4 m4a m4v mov avi mkv webm ogg oga ogv wav flac aac aiff mpg mpeg wmv wma 3gp 3g2 amr mid midi flv opus",
		Font:    "ttf otf woff woff2 eot ttc",
		Text:    "txt csv tsv md rst log json yaml yml toml ini cfg conf ics vcf srt vtt tex sql css geojson ndjson",
		Data:    "sqlite sqlite3 db parquet dcm dwg dxf stl gltf glb shp dbf p7s eml ps eps",
	} {
		for ext := range strings.FieldsSeq(list) {
			extensions[ext] = family
		}
	}
}

func familyOf(ext string) Family { return extensions[ext] }

type comparison uint8

const (
	agrees comparison = iota
	mismatch
	disguise
)

// verdict compares what is claimed of a file with what it is.
func verdict(claimed Family, k Kind) comparison {
	is := k.Family
	switch {
	case claimed == is, claimed == Unknown:
		return agrees
	case claimed == SVG && k.MIME == "application/gzip":
		return agrees // .svgz
	case k.MIME == "application/postscript" && (claimed == Image || claimed == PDF):
		return disguise // a program for whoever converts images
	}
	passive := claimed == Image || claimed == Media || claimed == Font || claimed == PDF || claimed == Archive || claimed == Office
	switch is {
	case HTML, SVG, Script, Program:
		switch {
		case claimed == Office && is == HTML:
			return mismatch // spreadsheets are exported as HTML tables everywhere
		case claimed == XML && (is == SVG || is == HTML), claimed == SVG && is == HTML:
			return mismatch
		case (claimed == Text || claimed == HTML || claimed == Script) && is != Program:
			return agrees // source code, a page in plain text: served as text
		case (claimed == Archive || claimed == Data) && is == Program && (k.MIME == "application/vnd.debian.binary-package" || k.MIME == "application/x-rpm" || k.MIME == "application/x-ms-installer"):
			return mismatch
		case claimed == Script && is == Program, claimed == Program && is == Script, claimed == Data && is != Program:
			return mismatch
		case passive, claimed == Text, claimed == Data:
			return disguise
		}
		return mismatch
	case Unknown, Text:
		// Formats that nothing recognises are many, and so are those that
		// are text: playlists, subtitles, drawings.
		if claimed == Image || claimed == PDF || claimed == Archive {
			return mismatch
		}
		return agrees
	}
	switch {
	case claimed == HTML && (is == Image || is == Media || is == Font || is == PDF):
		return disguise // a browser that is told so reads it as a page
	case claimed == Text, claimed == Data, is == Data,
		claimed == Office && (is == Archive || is == XML), claimed == Archive && is == Office, claimed == XML && is == SVG,
		claimed == Program && is == Archive, claimed == HTML && is == XML, claimed == Script && is == XML:
		return agrees
	}
	return mismatch
}
