package audit

import (
	"bytes"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Suppress returns the edits that silence a finding where it stands, by a
// comment with the reason on a line of its own above it. They are nil where
// no such comment can stand: in JSON, within a string or an HTML tag, for a
// finding about a whole file, without a reason.
func (p *Project) Suppress(f *Finding, reason string) []Edit {
	file := p.File(f.Span.File)
	reason = strings.TrimSpace(reason)
	if file == nil || f.Rule == nil || f.Span.Line < 1 || f.Span.Line > len(file.starts()) || reason == "" || strings.ContainsAny(reason, "\r\n") {
		return nil
	}
	marks := comments[file.Kind]
	if len(marks) == 0 || file.Kind == Lock {
		return nil
	}
	start := file.starts()[f.Span.Line-1]
	line := file.Line(f.Span.Line)
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if bytes.HasPrefix(file.Data[start:], []byte("\xef\xbb\xbf")) {
		start += 3
		indent = ""
	}
	before := bytes.TrimRight(file.Data[:start], "\r\n")
	open, end := marks[0]+" ", ""
	switch file.Kind {
	case Python, GunicornConf:
		// The first line may say how the file is run, the second one how it
		// is written (PEP 263): neither is code. A joined line takes no
		// comment.
		if file.Python == nil || file.inLiteral(start) || bytes.HasSuffix(before, []byte("\\")) {
			return nil
		}
	case Shell, Dockerfile, Systemd, NginxConf:
		if bytes.HasSuffix(before, []byte("\\")) || strings.HasPrefix(line, "#!") {
			return nil
		}
	case Template:
		open, end = "{# ", " #}"
		if strings.Contains(reason, "#}") || inside(file.Data[:start], "{#", "#}") || inside(file.Data[:start], "{%", "%}") || inside(file.Data[:start], "{{", "}}") {
			return nil
		}
	case HTML:
		open, end = "<!-- ", " -->"
		if strings.Contains(reason, "--") || inside(file.Data[:start], "<", ">") || within(file.Data[:start], "script") || within(file.Data[:start], "style") {
			return nil
		}
	case JS:
		if inside(file.Data[:start], "/*", "*/") || bytes.Count(file.Data[:start], []byte("`"))%2 == 1 {
			return nil
		}
	}
	return []Edit{{File: file.Path, Start: start, End: start, New: indent + open + "dewar: ignore[" + f.Rule.ID + "] " + reason + end + file.newline()}}
}

// inLiteral reports whether an offset into Data, the start of a line, lies in
// a literal that began above it.
func (f *File) inLiteral(offset int) bool {
	line, _ := f.Position(offset)
	py := f.Python
	for i := range py.Nodes {
		n := &py.Nodes[i]
		switch n.Kind {
		case pysyntax.Str, pysyntax.Bytes, pysyntax.JoinedStr, pysyntax.TemplateStr, pysyntax.StrPart:
			first, _ := py.Position(n.Start)
			last, _ := py.Position(n.End)
			// Adjacent literals over several lines are one node; that is
			// refused as well, to be sure.
			if first < line && line <= last {
				return true
			}
		}
	}
	return false
}

// inside reports whether text ends between an opening mark and its end.
func inside(text []byte, open, end string) bool {
	i := bytes.LastIndex(text, []byte(open))
	return i >= 0 && !bytes.Contains(text[i:], []byte(end))
}

// within reports whether text ends in the body of an element.
func within(text []byte, element string) bool {
	text = bytes.ToLower(text)
	return bytes.LastIndex(text, []byte("<"+element)) > bytes.LastIndex(text, []byte("</"+element))
}
