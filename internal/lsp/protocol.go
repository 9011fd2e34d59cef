package lsp

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The part of LSP 3.17 that the server reads and writes.
type (
	position struct {
		Line      uint32 `json:"line"`
		Character uint32 `json:"character"`
	}
	textRange struct {
		Start position `json:"start"`
		End   position `json:"end"`
	}
	location struct {
		URI   string    `json:"uri"`
		Range textRange `json:"range"`
	}
	diagnostic struct {
		Range              textRange      `json:"range"`
		Severity           int            `json:"severity"`
		Code               string         `json:"code"`
		CodeDescription    *codeLink      `json:"codeDescription,omitempty"`
		Source             string         `json:"source"`
		Message            string         `json:"message"`
		RelatedInformation []relatedPlace `json:"relatedInformation,omitempty"`
	}
	codeLink struct {
		Href string `json:"href"`
	}
	relatedPlace struct {
		Location location `json:"location"`
		Message  string   `json:"message"`
	}
	publishParams struct {
		URI         string       `json:"uri"`
		Version     *int64       `json:"version,omitempty"`
		Diagnostics []diagnostic `json:"diagnostics"`
	}
	textEdit struct {
		Range   textRange `json:"range"`
		NewText string    `json:"newText"`
	}
	documentID struct {
		URI     string `json:"uri"`
		Version *int64 `json:"version"`
	}
	documentEdit struct {
		TextDocument documentID `json:"textDocument"`
		Edits        []textEdit `json:"edits"`
	}
	workspaceEdit struct {
		Changes         map[string][]textEdit `json:"changes,omitempty"`
		DocumentChanges []documentEdit        `json:"documentChanges,omitempty"`
	}
	codeAction struct {
		Title       string         `json:"title"`
		Kind        string         `json:"kind"`
		Diagnostics []diagnostic   `json:"diagnostics,omitempty"`
		IsPreferred bool           `json:"isPreferred,omitempty"`
		Edit        *workspaceEdit `json:"edit"`
	}
	hoverResult struct {
		Contents markup     `json:"contents"`
		Range    *textRange `json:"range,omitempty"`
	}
	markup struct {
		Kind  string `json:"kind"`
		Value string `json:"value"`
	}
	workspaceFolder struct {
		URI string `json:"uri"`
	}
	documentPosition struct {
		TextDocument documentID `json:"textDocument"`
		Position     position   `json:"position"`
	}
	codeActionParams struct {
		TextDocument documentID `json:"textDocument"`
		Range        textRange  `json:"range"`
		Context      struct {
			Only []string `json:"only"`
		} `json:"context"`
	}
)

// Kinds of code actions.
const (
	kindQuickFix = "quickfix"
	kindFixAll   = "source.fixAll.dewar"
)

// Severities of a diagnostic.
const (
	severityError       = 1
	severityWarning     = 2
	severityInformation = 3
)

// initializeParams is what the server wants to know of a client. Fields that
// a client may send as null are pointers or take null for empty.
type initializeParams struct {
	RootPath         string            `json:"rootPath"`
	RootURI          string            `json:"rootUri"`
	WorkspaceFolders []workspaceFolder `json:"workspaceFolders"`
	Capabilities     struct {
		General struct {
			PositionEncodings []string `json:"positionEncodings"`
		} `json:"general"`
		TextDocument struct {
			Hover struct {
				ContentFormat []string `json:"contentFormat"`
			} `json:"hover"`
			PublishDiagnostics struct {
				RelatedInformation     bool `json:"relatedInformation"`
				CodeDescriptionSupport bool `json:"codeDescriptionSupport"`
			} `json:"publishDiagnostics"`
		} `json:"textDocument"`
		Workspace struct {
			WorkspaceEdit struct {
				DocumentChanges bool `json:"documentChanges"`
			} `json:"workspaceEdit"`
			DidChangeWatchedFiles struct {
				DynamicRegistration bool `json:"dynamicRegistration"`
			} `json:"didChangeWatchedFiles"`
		} `json:"workspace"`
	} `json:"capabilities"`
}

// clientFacts are a client's abilities.
type clientFacts struct {
	encoding        string // "utf-8" or "utf-16"
	markdown        bool
	related         bool
	links           bool
	documentChanges bool
	watch           bool
}

func (p *initializeParams) facts() clientFacts {
	c := p.Capabilities
	f := clientFacts{
		encoding:        "utf-16",
		markdown:        slices.Contains(c.TextDocument.Hover.ContentFormat, "markdown"),
		related:         c.TextDocument.PublishDiagnostics.RelatedInformation,
		links:           c.TextDocument.PublishDiagnostics.CodeDescriptionSupport,
		documentChanges: c.Workspace.WorkspaceEdit.DocumentChanges,
		watch:           c.Workspace.DidChangeWatchedFiles.DynamicRegistration,
	}
	if slices.Contains(c.General.PositionEncodings, "utf-8") {
		f.encoding = "utf-8" // what positions are counted in here
	}
	return f
}

var errNoFile = errors.New("it names no file")

// filePath returns the clean path of a file URI.
func filePath(uri string) (string, error) {
	if len(uri) > 16<<10 || strings.ContainsRune(uri, 0) {
		return "", errNoFile
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Path == "" || u.Host != "" && u.Host != "localhost" || strings.ContainsRune(u.Path, 0) {
		return "", fmt.Errorf("%.100q: %w", uri, errNoFile)
	}
	p := u.Path
	if runtime.GOOS == "windows" {
		p = strings.TrimPrefix(p, "/")
	}
	p = filepath.Clean(filepath.FromSlash(p))
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("%.100q: %w", uri, errNoFile)
	}
	return p, nil
}

// fileURI returns the URI of a path.
func fileURI(path string) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p
	}
	return (&url.URL{Scheme: "file", Path: p}).String()
}
