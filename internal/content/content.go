// Package content says what a file really is, whatever its name and its
// sender say, and what in it does harm when the file is opened, unpacked,
// served or believed.
//
//	report, err := content.Inspect(ctx, content.File{Name: "cat.jpg", Type: "image/jpeg", Data: f, Size: n}, content.Limits{})
//	for _, finding := range report.Findings { … }
//
// It judges nothing: a macro is a finding, and whether files with macros are
// welcome is for the caller to say. What could not be looked into (an
// encrypted archive, a format without a parser) is a finding, too.
//
// Files are read where they lie, in pieces; the memory that one takes does not
// grow with its size. What archives and compressed streams hold is unpacked
// to be looked at within one budget for the whole file, all levels of nesting
// together, so that a bomb costs what the budget says (CWE-409).
package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"
)

// File is what is looked at.
type File struct {
	// Name is the name that the sender gave it; it may be empty.
	Name string
	// Type is the Content-Type that the sender gave it; it may be empty.
	Type string
	Data io.ReaderAt
	Size int64
}

// Danger names one kind of finding. The names are stable: settings and logs
// use them.
type Danger string

// What can be found.
const (
	// Disguised: active content (a page, a program, a script, SVG) under a
	// name or type of something harmless.
	Disguised Danger = "disguised"
	// Polyglot: the file is two things at once, such as an image that is an
	// archive from its end.
	Polyglot Danger = "polyglot"
	// HiddenScript: script or markup within a file of another kind.
	HiddenScript Danger = "hidden-script"
	// TypeMismatch: name, declared type and content do not agree, and nothing
	// active is behind it.
	TypeMismatch Danger = "type-mismatch"
	// Executable: a program, or a script that servers run.
	Executable Danger = "executable"
	// Malformed: the file breaks its own format.
	Malformed Danger = "malformed"
	// SVGScript: SVG that runs script when it is opened.
	SVGScript Danger = "svg-script"
	// ActiveHTML: a page, which runs script in the site's name when served.
	ActiveHTML Danger = "html"
	// XMLEntities: entities of XML that read other files or expand without
	// bound.
	XMLEntities Danger = "xml-entities"
	// PDFScript: JavaScript in PDF.
	PDFScript Danger = "pdf-script"
	// PDFLaunch: PDF that starts a program.
	PDFLaunch Danger = "pdf-launch"
	// PDFEmbedded: files within PDF.
	PDFEmbedded Danger = "pdf-embedded"
	// Macro: macros of an office document.
	Macro Danger = "macro"
	// External: an office document that loads a template or object from
	// elsewhere when it is opened.
	External Danger = "external-reference"
	// Embedded: programs or objects within an office document.
	Embedded Danger = "embedded-object"
	// Encrypted: nobody can look into it without the password.
	Encrypted Danger = "encrypted"
	// Bomb: unpacks to more than the budget.
	Bomb Danger = "bomb"
	// ArchivePath: an entry that leaves the folder it is unpacked into.
	ArchivePath Danger = "archive-path"
	// ArchiveLink: a symbolic or hard link that leaves the folder, or a
	// device file.
	ArchiveLink Danger = "archive-link"
	// ArchiveAmbiguous: two readers of the archive see different entries.
	ArchiveAmbiguous Danger = "archive-ambiguous"
	// ArchiveExecutable: a program within an archive.
	ArchiveExecutable Danger = "archive-executable"
	// Unreadable: an archive that the reader here gives up on, because it is
	// damaged, or made so that this one fails and another does not.
	Unreadable Danger = "unreadable"
	// Opaque: a format that is not looked into.
	Opaque Danger = "opaque"
	// ImageSize: more pixels than the limit.
	ImageSize Danger = "image-size"
)

// Finding is one thing that was found.
type Finding struct {
	Danger Danger
	// Entry is the path of entries within archives, joined by "!"; empty for
	// the file itself.
	Entry string
	// Detail says what exactly was seen. It may quote the file.
	Detail string
}

// String writes the finding on one line.
func (f Finding) String() string {
	if f.Entry == "" {
		return string(f.Danger) + ": " + f.Detail
	}
	return fmt.Sprintf("%s in %q: %s", f.Danger, f.Entry, f.Detail)
}

// Report is what was found out about a file.
type Report struct {
	Kind     Kind
	Findings []Finding
	// Unpacked is how many bytes came out of archives and compressed streams,
	// Entries how many entries they had, of all levels.
	Unpacked int64
	Entries  int
	// Width and Height are those of an image, 0 when unknown.
	Width, Height int
}

// Has reports whether a danger was found.
func (r *Report) Has(d Danger) bool {
	for i := range r.Findings {
		if r.Findings[i].Danger == d {
			return true
		}
	}
	return false
}

// Limits bound what a file may unpack to, and what a look at it may cost. Zero
// fields have the defaults that their comments name.
type Limits struct {
	// Unpacked is the most bytes that all levels may unpack to together:
	// 100 MiB. A file may unpack to ten times its own size in any case.
	Unpacked int64
	// Ratio is the largest ratio of unpacked to packed bytes, above the first
	// 10 MiB: 200.
	Ratio int64
	// Entries is the most entries of all levels together: 50,000.
	Entries int
	// Depth is how many archives may stand in one another: 4.
	Depth int
	// Pixels is the most pixels of an image: 100 million.
	Pixels int64
	// Keep holds what an archive has within it while that is looked at. Nil
	// keeps it in memory, up to 32 MiB.
	Keep func(io.Reader) (io.ReaderAt, int64, error)
}

func (l Limits) withDefaults(size int64) Limits {
	set := func(p *int64, v int64) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.Unpacked, 100<<20)
	if size < math.MaxInt64/10 {
		l.Unpacked = max(l.Unpacked, 10*size)
	}
	set(&l.Ratio, 200)
	set(&l.Pixels, 100_000_000)
	if l.Entries <= 0 {
		l.Entries = 50_000
	}
	if l.Depth <= 0 {
		l.Depth = 4
	}
	if l.Keep == nil {
		l.Keep = func(r io.Reader) (io.ReaderAt, int64, error) {
			const most = 32 << 20
			b, err := io.ReadAll(io.LimitReader(r, most+1))
			if err == nil && len(b) > most {
				err = fmt.Errorf("more than %d bytes within an archive", most)
			}
			return bytes.NewReader(b), int64(len(b)), err
		}
	}
	return l
}

// maxFindings bounds the findings of one file: an archive of ten thousand
// hostile names is as clear after the first few.
const maxFindings = 50

// inspection is one look at one file.
type inspection struct {
	ctx    context.Context
	limits Limits
	report *Report
	packed int64 // size of the whole file
	left   int64 // of the budget
}

// Inspect looks at a file. The error says that it could not be read, or that
// ctx ended; what is wrong with the file is in the report.
func Inspect(ctx context.Context, f File, limits Limits) (*Report, error) {
	limits = limits.withDefaults(f.Size)
	in := &inspection{ctx: ctx, limits: limits, report: &Report{}, packed: f.Size, left: limits.Unpacked}
	err := in.file(f, "", 0)
	if errors.Is(err, errBudget) || errors.Is(err, errDepth) {
		err = nil // it is in the findings
	}
	return in.report, err
}

func (in *inspection) find(d Danger, entry, format string, args ...any) {
	// The first of each danger is there in any case: it may be the one for
	// which the file is refused.
	if len(in.report.Findings) >= maxFindings && in.report.Has(d) {
		return
	}
	detail := fmt.Sprintf(format, args...)
	for i := range in.report.Findings {
		if f := &in.report.Findings[i]; f.Danger == d && f.Entry == entry && f.Detail == detail {
			return
		}
	}
	in.report.Findings = append(in.report.Findings, Finding{d, entry, detail})
}

// prefixBytes is how much of a file its kind is told by.
const prefixBytes = 64 << 10

// file looks at one file: the one that was sent, or one within an archive.
func (in *inspection) file(f File, entry string, depth int) error {
	if err := in.ctx.Err(); err != nil {
		return err
	}
	prefix := make([]byte, min(prefixBytes, f.Size))
	if err := readAt(f.Data, prefix, 0); err != nil {
		return err
	}
	kind := Sniff(prefix)
	if entry == "" {
		in.report.Kind = kind
	}
	if f.Size > 0 {
		in.compare(f, kind, entry)
	}
	// What a name or a type makes of a file counts beside what it begins with: a
	// server goes by the one, and a browser then reads whatever is there.
	claims := func(family Family) bool {
		return familyOf(Extension(f.Name)) == family || familyOfType(f.Type) == family
	}
	switch kind.Family {
	case Text, Unknown, XML, HTML, Script:
		if claims(SVG) && f.Size > 0 {
			if err := in.markup(f, Kind{"image/svg+xml", SVG}, entry); err != nil {
				return err
			}
		}
		if claims(HTML) && f.Size > 0 && kind.MIME != "message/rfc822" {
			in.find(ActiveHTML, entry, "a page by its name or type")
		}
	}
	switch kind.Family {
	case Image:
		if err := in.image(f, kind, entry); err != nil {
			return err
		}
	case SVG, XML:
		if err := in.markup(f, kind, entry); err != nil {
			return err
		}
	case HTML:
		in.find(ActiveHTML, entry, "a page")
	case PDF:
		if err := in.pdf(f, entry); err != nil {
			return err
		}
	case Office:
		if kind.MIME == "application/x-ole-storage" || bytes.HasPrefix(prefix, oleMagic) {
			if err := in.ole(f, entry); err != nil {
				return err
			}
		}
	case Program:
		if entry == "" {
			in.find(Executable, entry, "%s", kind.MIME)
		} else {
			in.find(ArchiveExecutable, entry, "%s", kind.MIME)
		}
		if bytes.HasPrefix(prefix, oleMagic) {
			return nil
		}
		return in.selfExtracting(f, entry, depth)
	case Script:
		if entry == "" {
			in.find(Executable, entry, "%s", kind.MIME)
		}
	case Text:
		if ext := Extension(f.Name); ext == "csv" || ext == "tsv" {
			if err := in.spreadsheet(f, entry); err != nil {
				return err
			}
		}
	}
	if container := kind.container(); container != "" {
		return in.archive(container, f, entry, depth)
	}
	if err := in.appended(f, kind, entry); err != nil {
		return err
	}
	return in.behind(f, kind, entry, depth)
}

// compare holds name and declared type against what the file is.
func (in *inspection) compare(f File, kind Kind, entry string) {
	ext := Extension(f.Name)
	byName, byType := familyOf(ext), familyOfType(f.Type)
	for _, claim := range []struct {
		what   string
		family Family
	}{{"its name ends in ." + ext, byName}, {"its type is given as " + f.Type, byType}} {
		switch verdict(claim.family, kind) {
		case disguise:
			in.find(Disguised, entry, "%s, and it is %s", claim.what, kind.MIME)
			return
		case mismatch:
			in.find(TypeMismatch, entry, "%s, and it is %s", claim.what, kind.MIME)
			return
		}
	}
}

// Extension returns the last extension of a file name, in lower case, without
// its dot.
func Extension(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 || i == len(name)-1 || strings.ContainsAny(name[i:], `/\`) {
		return ""
	}
	return strings.ToLower(strings.TrimRightFunc(name[i+1:], unicode.IsSpace))
}

// readAt fills p, or says why it cannot.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// windowStep is how far two windows lie apart. It is a multiple of 512.
const windowStep = 128 << 10

// windows hands a file to look in pieces that overlap, so that what is no
// longer than overlap is whole in one of them. look returns false to end.
func (in *inspection) windows(f File, overlap int, look func(b []byte, at int64) bool) error {
	buf := make([]byte, min(int64(windowStep+overlap), f.Size))
	for at := int64(0); at < f.Size; at += windowStep {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), f.Size-at)]
		if err := readAt(f.Data, b, at); err != nil {
			return err
		}
		if !look(b, at) {
			return nil
		}
	}
	return nil
}
