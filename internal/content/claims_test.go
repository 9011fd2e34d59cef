package content

import (
	"strings"
	"testing"
)

// TestClaims: what a name or a declared type makes of a file is looked at as
// that, whatever the file begins with.
func TestClaims(t *testing.T) {
	const xhtml, script = `xmlns:h="http://www.w3.org/1999/xhtml"`, `<h:script>alert(1)</h:script>`
	far := strings.Repeat("<!-- far -->", 8000)
	for _, c := range []struct {
		name, kind, text string
		want             Danger // "": nothing is found
	}{
		{"a.html", "image/png", "hello <script>alert(1)</script>", ActiveHTML},
		{"a.html", "", strings.Repeat("just words ", 9000) + "<script>alert(1)</script>", ActiveHTML},
		{"a.html", "", "\x00\x01\x02\x03\xff<script>alert(1)</script>", ActiveHTML},
		{"a.txt", "text/html", "hello <script>alert(1)</script>", ActiveHTML},
		{"a.html", "", pngOf(4, 4) + "<img src=x onerror=alert(1)>", Disguised},
		{"a.htm", "image/jpeg", withComment(jpegOf(4, 4), "<x onclick=alert(1)>"), Disguised},
		{"a.png", "text/html", pngOf(4, 4), Disguised},
		{"a.html", "", pdfOf("<< /x (<img src=x onerror=alert(1)>) >>"), Disguised},
		{"a.svg", "", far + svg("<script>alert(1)</script>"), SVGScript},
		{"a.svg", "", `<g xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></g>`, SVGScript},
		{"a", "image/svg+xml", far + `<g xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, SVGScript},
		{"a.svg", "", `<?xml version="1.0" encoding="utf-7"?>+ADw-svg onload+AD0-alert(1)+AD4-`, SVGScript},
		{"a.svg", "", svg(`<foreignObject><meta xmlns="http://www.w3.org/1999/xhtml" http-equiv="refresh" content="0;url=https://evil.example"/></foreignObject>`), SVGScript},
		{"a.svg", "", svg(`<foreignObject><form xmlns="http://www.w3.org/1999/xhtml" action="https://evil.example/"/></foreignObject>`), SVGScript},
		{"a.xml", "text/xml", `<?xml version="1.0"?><a ` + xhtml + `>` + script + `</a>`, HiddenScript},
		{"a.xml", "", `<?xml version="1.0"?><a xmlns:h="&#104;ttp://www.w3.org/&#49;999/xhtml">` + script + `</a>`, HiddenScript},
		{"a.rdf", "", `<?xml version="1.0"?><r ` + xhtml + `><h:img src="x" onerror="alert(1)"/></r>`, HiddenScript},
		{"a.xml", "", `<?xml version="1.0"?><r xmlns:s="http://www.w3.org/2000/svg"><s:svg onload="alert(1)"/></r>`, HiddenScript},
		{"a.xml", "", `<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#x"?><a/>`, HiddenScript},
		{"a.xml", "", `<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="data:text/xsl,x"?><a/>`, HiddenScript},
		{"a.csv", "text/csv", "name,sum\nx,\"=cmd|' /C calc'!A0\"\n", External},
		{"a.csv", "text/csv", "@SUM(1+1)*cmd|' /C calc'!A0\n", External},
		{"a.csv", "text/csv", "-2+3+cmd|' /C calc'!D2;1\n", External},
		{"a.docx", "", zipOf(member{"[Content_Types].xml", "<Types/>"}, member{"word/document.xml", `<w:document><w:instrText xml:space="preserve"> DDEAUTO c:\\windows\\system32\\cmd.exe "/k calc" </w:instrText></w:document>`}), External},
		{"a.xlsx", "", zipOf(member{"[Content_Types].xml", "<Types/>"}, member{"xl/workbook.xml", "<workbook/>"}, member{"xl/externalLinks/externalLink1.xml", `<externalLink><ddeLink ddeService="cmd" ddeTopic="/c calc"/></externalLink>`}), External},

		{"logo.svg", "image/svg+xml", svg(`<style>@import url("https://fonts.example/a.css");</style><foreignObject><div xmlns="http://www.w3.org/1999/xhtml">label</div></foreignObject>`), ""},
		{"feed.xml", "application/atom+xml", `<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="/feed.xsl"?><feed xmlns="http://www.w3.org/2005/Atom"><entry><content type="xhtml"><div ` + xhtml + `><h:p>words, <h:a href="https://example.org/">a link</h:a></h:p></div></content></entry></feed>`, ""},
		{"page.xsl", "", `<?xml version="1.0"?><xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform" xmlns="http://www.w3.org/1999/xhtml"><xsl:template match="/"><html><script src="/a.js"/></html></xsl:template></xsl:stylesheet>`, ""},
		{"sums.csv", "text/csv", "date;sum\n2026-11-28;-12,50\n;=SUM(B2:B9)\n@home;+49 30 1234 | office!\n-;a|b\n", ""},
		{"log.csv", "text/csv", "time,message\n1,-x|grep y\n2,=A1|B1 is no cell\n", ""},
		{"notes.docx", "", zipOf(member{"[Content_Types].xml", "<Types/>"}, member{"word/document.xml", `<w:document><w:instrText xml:space="preserve"> PAGE </w:instrText><w:t>DDE is old</w:t></w:document>`}), ""},
	} {
		r := look(t, sample{name: c.name, kind: c.kind, text: c.text}, Limits{})
		if c.want != "" && !r.Has(c.want) || c.want == "" && len(r.Findings) > 0 {
			t.Errorf("%s %q %.60q: %v (%s), want %q", c.name, c.kind, c.text, r.Findings, r.Kind.MIME, c.want)
		}
	}
}
