package content

import (
	"mime"
	"os"
	"path/filepath"
	"testing"
)

// TestTools: files that people's programs wrote are in order. They were made
// with Pillow, ReportLab, pypdf, openpyxl, XlsxWriter, odfpy, py7zr and Python's
// email package: forms, links, charts, frames, EXIF, attachments.
func TestTools(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "honest"))
	if err != nil || len(entries) < 20 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join("testdata", "honest", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		// As browsers send them: with the type that goes with the name, and
		// with none.
		for _, kind := range []string{mime.TypeByExtension(filepath.Ext(e.Name())), "application/octet-stream", ""} {
			r := look(t, sample{name: e.Name(), kind: kind, text: string(b)}, Limits{})
			if len(r.Findings) > 0 {
				t.Errorf("%s as %q: %v (%s)", e.Name(), kind, r.Findings, r.Kind.MIME)
			}
			if r.Kind.Family == Unknown {
				t.Errorf("%s is not known: %s", e.Name(), r.Kind.MIME)
			}
		}
	}
	// An object file has the extension of a model for some programs.
	macho := "\xcf\xfa\xed\xfe\x07\x00\x00\x01\x03\x00\x00\x00\x01\x00\x00\x00" + string(make([]byte, 64))
	if r := look(t, sample{name: "main.obj", text: macho}, Limits{}); r.Has(Disguised) {
		t.Errorf("an object file: %v", r.Findings)
	}
}
