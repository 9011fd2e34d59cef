package uploads

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-UPLOADS-001", Control: "uploads",
		Title:    "A file of any type is stored under the name the client gave it",
		Why:      "An upload called x.html or x.svg is a page of the site when it is served, with scripts in the session of whoever opens it; other servers run x.php or x.py.",
		Fix:      "Compare the last extension with a list of those that are meant, look at the content too, and choose the stored name yourself.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{434}, OWASP: []string{"A06:2025"}, ASVS: []string{"5.2.2"},
		Bad: `import os
from flask import Flask, request
from werkzeug.utils import secure_filename
app = Flask(__name__)

@app.post("/picture")
def picture():
    upload = request.files["picture"]
    upload.save(os.path.join("static/pictures", secure_filename(upload.filename)))
    return {"saved": True}
`,
		Good: `import os
import secrets
from flask import Flask, abort, request
app = Flask(__name__)

@app.post("/picture")
def picture():
    upload = request.files["picture"]
    extension = os.path.splitext(upload.filename)[1].lower()
    if extension not in (".png", ".jpg"):
        abort(400)
    upload.save(os.path.join("uploads", secrets.token_hex(16) + extension))
    return {"saved": True}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "path-write"), func(h *pyflow.Hit) []audit.Danger {
				name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
				if name != "save" && name != "open" && name != "write_bytes" {
					return nil
				}
				for _, v := range h.Focus {
					for _, t := range audit.Texts(v) {
						if l, ok := ownExtension(t.Pieces); ok && !looksAtType(p, h) && !passing(p, h) {
							return []audit.Danger{{Label: l, Message: "an upload is stored with the extension that %s ends in", Caret: "stored here"}}
						}
					}
				}
				return nil
			})
		},
	},
	{
		ID: "DW-UPLOADS-002", Control: "uploads",
		Title:    "Requests with uploads may be of any size",
		Why:      "A few requests of many gigabytes fill the disk or the memory, and the app stops for everybody.",
		Fix:      "Set MAX_CONTENT_LENGTH to what the largest upload needs; Flask answers 413 beyond it.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{770, 400}, OWASP: []string{"A06:2025"}, ASVS: []string{"5.2.1"},
		MitigatedBy: []string{"body"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

@app.post("/picture")
def picture():
    return {"size": len(request.files["picture"].read())}
`,
		Good: `from flask import Flask, request
app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 8 * 1024 * 1024

@app.post("/picture")
def picture():
    return {"size": len(request.files["picture"].read())}
`,
		Check: checkLimit,
	},
	{
		ID: "DW-UPLOADS-003", Control: "uploads",
		Title:    "An archive from a client is unpacked with the paths in it",
		Why:      "An entry called ../../app/views.py, or a link followed by a file, lands outside of the folder and overwrites what is there.",
		Fix:      "Unpack with filter=\"data\" (Python 3.12, and 3.8 to 3.11 with their last patches), which refuses such entries.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{22, 409}, OWASP: []string{"A01:2025"}, ASVS: []string{"5.3.3"},
		Bad: `import tarfile
from flask import Flask, request
app = Flask(__name__)

@app.post("/theme")
def theme():
    with tarfile.open(fileobj=request.files["theme"]) as archive:
        archive.extractall("themes")
    return {"unpacked": True}
`,
		Good: `import tarfile
from flask import Flask, request
app = Flask(__name__)

@app.post("/theme")
def theme():
    with tarfile.open(fileobj=request.files["theme"]) as archive:
        archive.extractall("themes", filter="data")
    return {"unpacked": True}
`,
		Check: func(p *audit.Pass) {
			p.Follow(append(p.Hits("use", "archive-extract"), p.Hits("sink", "archive")...), func(h *pyflow.Hit) []audit.Danger {
				l, ok := unpacks(h)
				if !ok {
					return nil
				}
				return []audit.Danger{{Label: l, Message: "%s is unpacked with the paths in it", Caret: "entries choose where they go"}}
			})
		},
	},
}

// ownExtension finds a piece that comes from an uploaded file's name and ends
// the stored one, so that the extension is the client's.
func ownExtension(pieces []pyflow.Piece) (pyflow.Label, bool) {
	for i := len(pieces) - 1; i >= 0; i-- {
		p := pieces[i]
		if !p.Unknown {
			if strings.TrimSpace(p.Literal) != "" {
				return pyflow.Label{}, false
			}
			continue
		}
		for _, l := range audit.Live(p, audit.FromOutside, "upload") {
			if l.Kind == "file" && audit.CanHold(p, ".") && audit.CanHold(p, "h") {
				return l, true
			}
		}
		return pyflow.Label{}, false
	}
	return pyflow.Label{}, false
}

// typeCheck finds what a program does to look at an upload's type: it takes
// the extension off, compares the end of the name, or asks a function of its
// own or a library that says what the content is.
var typeCheck = regexp.MustCompile(`(?i)splitext|rsplit\(|rpartition\(|\.suffix|\.endswith\(|content_type|mimetype|guess_type|imghdr|filetype\.|magic\.|Image\.open|extension|validate_on_submit|\w*(allow|valid|check|verif|permitted|supported)\w*\(`)

// looksAtType reports whether the function around a hit looks at the type of
// what it stores. How well is not judged.
func looksAtType(p *audit.Pass, h *pyflow.Hit) bool {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return false
	}
	for _, at := range around(f.Python, h.At.Start) {
		n := f.Python.Node(at)
		if typeCheck.Match(f.Python.Src[n.Start:n.End]) {
			return true
		}
	}
	return false
}

// around returns the functions that a place is in.
func around(f *pysyntax.File, at uint32) []pysyntax.ID {
	var out []pysyntax.ID
	for id := range f.Nodes {
		switch n := f.Node(pysyntax.ID(id)); {
		case id == 0 || n.Start > at || n.End <= at:
		case f.Kind(pysyntax.ID(id)) == pysyntax.FunctionDef || f.Kind(pysyntax.ID(id)) == pysyntax.AsyncFunctionDef:
			out = append(out, pysyntax.ID(id))
		}
	}
	return out
}

// checkLimit reports apps that take files and do not bound requests.
func checkLimit(p *audit.Pass) {
	takes := len(p.Hits("use", "upload-save")) > 0
	for _, e := range p.Flow().Entries {
		for _, field := range e.Fields {
			takes = takes || field.Kind == "file"
		}
	}
	if !takes || len(p.Flask.Apps) == 0 {
		p.NotApplicable("nothing takes uploaded files")
		return
	}
	limit := p.Flask.Effective("MAX_CONTENT_LENGTH", "production")
	if limit.Setting == nil {
		if !limit.Certain {
			return // settings come from where they cannot be read
		}
		for _, app := range p.Flask.Apps {
			if f := p.Project.File(app.Position.File); f != nil && f.Test {
				continue
			}
			p.Report(audit.Finding{Span: p.Span(app.Position), Message: "MAX_CONTENT_LENGTH is not set, and files are uploaded", Label: "requests to this app may be of any size"})
			return
		}
		return
	}
	if truth, known := limit.Value.Truth(); known && !truth {
		p.Report(audit.Finding{Span: p.Span(limit.Setting.Position), Message: "MAX_CONTENT_LENGTH is " + limit.Value.String() + ", and files are uploaded", Label: "requests may be of any size"})
	}
}

// unpacks returns the label of an archive that is unpacked without a look at
// the paths in it. zipfile takes ".." and leading slashes out of them; tarfile
// does so with a filter, by default since Python 3.14.
func unpacks(h *pyflow.Hit) (pyflow.Label, bool) {
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	if strings.HasPrefix(h.Path, "zipfile.") || name == "extract" {
		return pyflow.Label{}, false // one entry: DW-INJECTION-011 looks at its name
	}
	if filter, given := h.Keywords["filter"]; given {
		safe := true
		filter.Each(func(v pyflow.Value) {
			s, constant := v.Const()
			safe = safe && v.Kind != pyflow.None && (!constant || s != "fully_trusted") && v.Type != "tarfile.fully_trusted_filter"
		})
		if safe {
			return pyflow.Label{}, false
		}
	}
	if _, given := h.Arg(1, "members"); given && name == "extractall" {
		return pyflow.Label{}, false // chosen by the program
	}
	accept := func(l pyflow.Label) bool { return audit.FromOutside(l) }
	labels := audit.LiveIn(h.Self, accept, "archive")
	if h.Verb == "sink" || name == "unpack_archive" || name == "extract_archive" {
		for _, v := range append(h.Focus, h.Args...) {
			labels = append(labels, audit.LiveIn(v, accept, "archive")...)
		}
	}
	if len(labels) == 0 {
		return pyflow.Label{}, false
	}
	return labels[0], true
}

// goneRE matches a folder that is made for the time being and taken away.
var goneRE = regexp.MustCompile(`(?s)\bmkdtemp\(.*\brmtree\(|\bwith [\w.]*TemporaryDirectory\(`)

// passing reports whether a file is stored in a folder that the function around
// it takes away again: nobody is given it from there.
func passing(p *audit.Pass, h *pyflow.Hit) bool {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return false
	}
	for _, id := range slices.Backward(f.Around(h.At.Start, h.At.End)) {
		if k := f.Python.Kind(id); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef {
			return goneRE.Match(f.Python.Text(id))
		}
	}
	return false
}
