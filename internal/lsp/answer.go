package lsp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"github.com/dewar-security/dewar/internal/audit"
)

// at finds the folder of a document and the latest audit that saw its text.
// The snapshot is nil where nothing is known of the document.
func (s *server) at(ctx context.Context, uri string) (f *folder, n *snapshot, file string, err error) {
	p, err := filePath(uri)
	if err != nil {
		return nil, nil, "", nil // an unsaved buffer, another scheme
	}
	s.mu.Lock()
	f, file = s.folderOf(p)
	d := s.docs[p]
	if f == nil {
		s.mu.Unlock()
		return nil, nil, "", nil
	}
	// The last audit will do while another one runs, if it saw this text.
	f.mu.Lock()
	if f.snap != nil && d != nil && !d.lost {
		if seen, ok := f.snap.docs[file]; ok && seen.version == d.version && seen.text == d.text {
			n = f.snap
		}
	}
	f.mu.Unlock()
	s.mu.Unlock()
	if n != nil {
		return f, n, file, nil
	}
	n, err = f.latest(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, nil, "", nil // the folder was closed
	}
	return f, n, file, err
}

// hover explains the findings at a place.
func (s *server) hover(ctx context.Context, params json.RawMessage) (any, error) {
	var p documentPosition
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	f, n, file, err := s.at(ctx, p.TextDocument.URI)
	if err != nil || n == nil {
		return nil, err
	}
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	var parts []string
	var around textRange
	for i := range n.res.Findings {
		x := &n.res.Findings[i]
		if x.Span.File != file {
			continue
		}
		r := f.spanRange(n, x.Span, client.encoding)
		if !r.touches(textRange{p.Position, p.Position}) {
			continue
		}
		if len(parts) == 0 {
			around = r
		}
		if client.markdown {
			parts = append(parts, f.markdown(n, x, client.encoding))
		} else {
			parts = append(parts, f.plain(x))
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	h := hoverResult{Contents: markup{"plaintext", strings.Join(parts, "\n\n")}, Range: &around}
	if client.markdown {
		h.Contents = markup{"markdown", strings.Join(parts, "\n\n---\n\n")}
	}
	return h, nil
}

// markdown tells a finding: what, why, how it comes to be, what to do.
func (f *folder) markdown(n *snapshot, x *audit.Finding, encoding string) string {
	var b strings.Builder
	id := escapeMarkdown(x.Rule.ID)
	if href := f.s.cfg.Link(x.Rule.ID); href != "" {
		id = "[" + id + "](" + href + ")"
	}
	fmt.Fprintf(&b, "**%s** · %s · %s\n\n%s\n\n%s\n", id, x.Rule.Severity, x.Sure(), escapeMarkdown(x.Message), escapeMarkdown(x.Rule.Why))
	steps := func(title string, list []audit.Step) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n**%s**\n\n", title)
		for i, s := range list {
			place := s.Span.File
			link := f.uri(n, s.Span.File)
			if s.Span.Line > 0 {
				place = fmt.Sprintf("%s:%d", path.Base(s.Span.File), s.Span.Line)
				link = fmt.Sprintf("%s#L%d", link, s.Span.Line)
			}
			fmt.Fprintf(&b, "%d. [%s](<%s>) %s\n", i+1, escapeMarkdown(place), strings.NewReplacer("<", "%3C", ">", "%3E", "\n", "").Replace(link), escapeMarkdown(s.Note))
		}
	}
	steps("How it gets there", x.Trace)
	steps("See also", x.Related)
	fmt.Fprintf(&b, "\n**Fix** %s\n", escapeMarkdown(cmp.Or(x.Fix, x.Rule.Fix)))
	return b.String()
}

// plain is markdown for a client that shows none.
func (f *folder) plain(x *audit.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, %s): %s\n%s\n", x.Rule.ID, x.Rule.Severity, x.Sure(), x.Message, x.Rule.Why)
	for i, s := range slices.Concat(x.Trace, x.Related) {
		fmt.Fprintf(&b, "%d. %s:%d %s\n", i+1, s.Span.File, s.Span.Line, s.Note)
	}
	fmt.Fprintf(&b, "Fix: %s", cmp.Or(x.Fix, x.Rule.Fix))
	return b.String()
}

// acceptable is the reason that a suppression made here gives. It counts, and
// it can be found.
const acceptable = "TODO: say why this is acceptable"

// codeActions offers the repairs that hold, and to silence the findings.
func (s *server) codeActions(ctx context.Context, params json.RawMessage) (any, error) {
	var p codeActionParams
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	actions := []codeAction{}
	f, n, file, err := s.at(ctx, p.TextDocument.URI)
	if err != nil || n == nil {
		return actions, err
	}
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	wants := func(kind string) bool {
		return len(p.Context.Only) == 0 && kind != kindFixAll || slices.ContainsFunc(p.Context.Only, func(o string) bool {
			return o == kind || strings.HasPrefix(kind, o+".")
		})
	}
	var here []*audit.Finding
	repairs := wants(kindFixAll)
	for i := range n.res.Findings {
		x := &n.res.Findings[i]
		if x.Span.File == file && wants(kindQuickFix) && f.spanRange(n, x.Span, client.encoding).touches(p.Range) {
			here = append(here, x)
			repairs = repairs || len(x.Edits) > 0
		}
	}
	if repairs { // which of them hold is known a little later
		select {
		case <-n.tried:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var silence []codeAction
	for _, x := range here {
		d := []diagnostic{f.diagnostic(n, x, client)}
		if n.holds(x) {
			if e := f.edit(n, x.Edits, client); e != nil {
				actions = append(actions, codeAction{Title: "Repair: " + title(cmp.Or(x.Fix, x.Message)), Kind: kindQuickFix, Diagnostics: d, IsPreferred: true, Edit: e})
			}
		}
		if e := f.edit(n, n.project.Suppress(x, acceptable), client); e != nil {
			silence = append(silence, codeAction{Title: "Silence " + x.Rule.ID + " here, with a reason", Kind: kindQuickFix, Diagnostics: d, Edit: e})
		}
	}
	actions = append(actions, silence...)
	if wants(kindFixAll) {
		if e := f.fixAll(n, file, client); e != nil {
			actions = append(actions, codeAction{Title: "Repair what Dewar can repair in this file", Kind: kindFixAll, Edit: e})
		}
	}
	return actions, nil
}

// title fits a text for a menu.
func title(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}

// holds reports whether the repair of a finding was tried, and did.
func (n *snapshot) holds(x *audit.Finding) bool {
	if len(x.Edits) == 0 || n.fixes == nil {
		return false
	}
	return !slices.ContainsFunc(n.fixes.Refused, func(r audit.Refusal) bool {
		return r.Finding.Rule == x.Rule && r.Finding.Fingerprint == x.Fingerprint
	})
}

// edit makes edits ones of the editor, nil where there are none or their
// place cannot be told.
func (f *folder) edit(n *snapshot, edits []audit.Edit, client clientFacts) *workspaceEdit {
	byFile := map[string][]textEdit{}
	for _, e := range edits {
		t := n.plainText(e.File)
		if t == nil || e.Start < 0 || e.Start > e.End || e.End > len(t.s) {
			return nil
		}
		byFile[e.File] = append(byFile[e.File], textEdit{textRange{t.position(e.Start, client.encoding), t.position(e.End, client.encoding)}, e.New})
	}
	return f.workspaceEdit(n, byFile, client)
}

// plainText returns the text of a file if it is the file's bytes: then
// offsets into one are offsets into the other.
func (n *snapshot) plainText(file string) *text {
	t, data := n.text(file), n.project.File(file)
	if t == nil || data == nil || t.s != string(data.Data) || !utf8.ValidString(t.s) || bytes.HasPrefix(data.Data, []byte("\xef\xbb\xbf")) {
		return nil
	}
	return t
}

func (f *folder) workspaceEdit(n *snapshot, byFile map[string][]textEdit, client clientFacts) *workspaceEdit {
	if len(byFile) == 0 {
		return nil
	}
	w := &workspaceEdit{}
	for file, edits := range byFile {
		uri := f.uri(n, file)
		if !client.documentChanges {
			if w.Changes == nil {
				w.Changes = map[string][]textEdit{}
			}
			w.Changes[uri] = edits
			continue
		}
		id := documentID{URI: uri}
		if d, ok := n.docs[file]; ok {
			v := d.version
			id.Version = &v
		}
		w.DocumentChanges = append(w.DocumentChanges, documentEdit{id, edits})
	}
	slices.SortFunc(w.DocumentChanges, func(a, b documentEdit) int { return strings.Compare(a.TextDocument.URI, b.TextDocument.URI) })
	return w
}

// fixAll returns all repairs of a file, nil if one of them reaches into
// another file: saving this one must not change others.
func (f *folder) fixAll(n *snapshot, file string, client clientFacts) *workspaceEdit {
	if n.fixes == nil {
		return nil
	}
	for _, x := range n.fixes.Fixed {
		here := slices.ContainsFunc(x.Edits, func(e audit.Edit) bool { return e.File == file })
		if here && slices.ContainsFunc(x.Edits, func(e audit.Edit) bool { return e.File != file }) {
			return nil
		}
	}
	i := slices.IndexFunc(n.fixes.Files, func(x audit.FixedFile) bool { return x.Path == file })
	t := n.plainText(file)
	if i < 0 || t == nil {
		return nil
	}
	var edits []textEdit
	for _, e := range udiff.Lines(t.s, string(n.fixes.Files[i].After)) {
		edits = append(edits, textEdit{textRange{t.position(e.Start, client.encoding), t.position(e.End, client.encoding)}, e.New})
	}
	return f.workspaceEdit(n, map[string][]textEdit{file: edits}, client)
}
