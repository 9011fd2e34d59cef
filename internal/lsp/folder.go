package lsp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
)

// folder is one workspace folder and the audit of it.
type folder struct {
	s      *server
	root   string
	loose  bool // only the open documents, without the disk
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}

	mu      sync.Mutex
	gen     int  // counts the changes
	disk    bool // the disk has to be read again
	running context.CancelFunc
	snap    *snapshot
	changed chan struct{} // closed when snap is replaced

	// For the worker alone.
	project   *audit.Project
	rules     []*audit.Rule
	options   audit.Options
	complaint string

	pubMu     sync.Mutex
	published map[string]string // what each URI was last sent
	cleared   bool
}

// snapshot is the outcome of one audit.
type snapshot struct {
	gen     int
	project *audit.Project
	res     *audit.Result
	docs    map[string]document // as they were

	// tried is closed when fixes is there. fixes is nil if the repairs were
	// not tried to the end.
	tried chan struct{}
	fixes *audit.Fixes

	mu    sync.Mutex
	texts map[string]*text
}

// text returns the text of a file, nil if there is none.
func (n *snapshot) text(file string) *text {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, ok := n.texts[file]; ok {
		return t
	}
	var t *text
	if d, ok := n.docs[file]; ok {
		t = newText(d.text)
	} else if f := n.project.File(file); f != nil {
		// A file in another encoding is shown decoded.
		if f.Python != nil {
			t = newText(string(f.Python.Src))
		} else {
			t = newText(string(f.Data))
		}
	}
	n.texts[file] = t
	return t
}

// touch notes a change and calls a running audit off.
func (f *folder) touch(disk bool) {
	f.mu.Lock()
	f.gen++
	f.disk = f.disk || disk
	if f.running != nil {
		f.running()
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// latest waits for the audit of the last change.
func (f *folder) latest(ctx context.Context) (*snapshot, error) {
	for {
		f.mu.Lock()
		snap, changed := f.snap, f.changed
		current := snap != nil && snap.gen == f.gen
		f.mu.Unlock()
		if current {
			return snap, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.ctx.Done():
			return nil, f.ctx.Err()
		}
	}
}

// work audits the folder after each change, until it is closed.
func (f *folder) work() {
	first := true
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.wake:
		}
		for settled := first; !settled; {
			select {
			case <-f.ctx.Done():
				return
			case <-f.wake:
			case <-time.After(f.s.cfg.Debounce):
				settled = true
			}
		}
		first = false
		f.s.guard("the audit of "+f.root, f.audit)
	}
}

// audit reads what changed, publishes the findings and tries the repairs.
func (f *folder) audit() {
	select {
	case f.s.turn <- struct{}{}:
		defer func() { <-f.s.turn }()
	case <-f.ctx.Done():
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	f.mu.Lock()
	gen, disk := f.gen, f.disk
	f.disk = false
	f.running = cancel
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.running = nil
		f.mu.Unlock()
	}()

	snap, err := f.look(ctx, gen, disk)
	switch {
	case f.ctx.Err() != nil:
		return
	case ctx.Err() != nil: // there is a newer change
		f.mu.Lock()
		f.disk = f.disk || disk
		f.mu.Unlock()
		return
	case err != nil:
		// Once for each mistake, not at every key.
		if f.complaint != err.Error() {
			f.complaint = err.Error()
			f.s.tell(severityError, "dewar: "+err.Error())
		}
		f.project = nil
		snap = &snapshot{gen: gen, project: audit.InMemory(nil), res: &audit.Result{}, tried: make(chan struct{}), texts: map[string]*text{}}
	default:
		f.complaint = ""
	}
	defer close(snap.tried)
	// Who sees the diagnostics may ask about them at once.
	f.mu.Lock()
	f.snap = snap
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	f.publish(snap)
	if err != nil {
		return
	}
	fixes, err := audit.PlanFixes(ctx, snap.project, snap.res, f.rules, f.options, func(*audit.Finding) bool { return true })
	if err == nil {
		snap.fixes = fixes
	} else if !errors.Is(err, context.Canceled) {
		f.s.log.Printf("repairs of %s: %v", f.root, err)
	}
}

// look audits the folder with the open documents.
func (f *folder) look(ctx context.Context, gen int, disk bool) (*snapshot, error) {
	contents, docs := f.s.overlay(f)
	var err error
	if disk || f.project == nil {
		if f.rules, f.options, err = f.s.cfg.Open(f.root); err != nil {
			return nil, err
		}
	}
	opt := f.options
	switch {
	case f.loose:
		f.project = audit.InMemory(contents)
	case disk || f.project == nil:
		opt.Overlay = contents
		if opt.MaxTotalSize == 0 {
			opt.MaxTotalSize = maxProject
		}
		if f.project, err = audit.Load(ctx, f.root, opt); err != nil {
			f.project = nil
			return nil, err
		}
	default:
		for name, data := range contents {
			if old := f.project.File(name); old != nil && string(old.Data) == string(data) {
				delete(contents, name)
			} else if old == nil && !f.wanted(name) {
				delete(contents, name)
			}
		}
		if len(contents) > 0 {
			f.project = f.project.With(contents)
		}
	}
	snap := &snapshot{gen: gen, project: f.project, docs: docs, tried: make(chan struct{}), texts: map[string]*text{}}
	snap.res = audit.Run(ctx, f.project, f.rules, f.options)
	return snap, ctx.Err()
}

// wanted reports whether a document that the last reading of the disk left
// out may be part of the project: what was skipped, a virtual environment for
// one, stays out.
func (f *folder) wanted(name string) bool {
	for _, s := range f.project.Skipped {
		if name == s.Path || strings.HasPrefix(name, s.Path+"/") {
			return false
		}
	}
	return true
}

// uri returns the address of a file as the editor knows it.
func (f *folder) uri(n *snapshot, file string) string {
	if d, ok := n.docs[file]; ok {
		return d.uri
	}
	return fileURI(filepath.Join(f.root, filepath.FromSlash(file)))
}

// publish sends the findings of every file, where they changed, and takes
// back those of files that have none any more.
func (f *folder) publish(n *snapshot) {
	f.s.mu.Lock()
	client := f.s.client
	f.s.mu.Unlock()
	byFile := map[string][]diagnostic{}
	for i := range n.res.Findings {
		x := &n.res.Findings[i]
		if len(byFile[x.Span.File]) < maxShown {
			byFile[x.Span.File] = append(byFile[x.Span.File], f.diagnostic(n, x, client))
		}
	}
	send := map[string]publishParams{}
	for file, list := range byFile {
		p := publishParams{URI: f.uri(n, file), Diagnostics: list}
		if d, ok := n.docs[file]; ok {
			p.Version = &d.version
		}
		send[p.URI] = p
	}
	// An open document hears of its version, with findings or without.
	for file, d := range n.docs {
		if byFile[file] == nil {
			send[d.uri] = publishParams{URI: d.uri, Version: &d.version, Diagnostics: []diagnostic{}}
		}
	}
	f.pubMu.Lock()
	defer f.pubMu.Unlock()
	if f.cleared {
		return
	}
	for uri := range f.published {
		if _, ok := send[uri]; !ok {
			_ = f.s.conn.Notify(f.s.ctx, "textDocument/publishDiagnostics", publishParams{URI: uri, Diagnostics: []diagnostic{}})
			delete(f.published, uri)
		}
	}
	for uri, p := range send {
		b, err := json.Marshal(p)
		if err != nil || f.published[uri] == string(b) {
			continue
		}
		f.published[uri] = string(b)
		_ = f.s.conn.Notify(f.s.ctx, "textDocument/publishDiagnostics", json.RawMessage(b))
	}
}

// clear takes all findings of a closed folder back.
func (f *folder) clear() {
	f.pubMu.Lock()
	defer f.pubMu.Unlock()
	f.cleared = true
	for uri := range f.published {
		_ = f.s.conn.Notify(f.s.ctx, "textDocument/publishDiagnostics", publishParams{URI: uri, Diagnostics: []diagnostic{}})
	}
	clear(f.published)
}

// diagnostic makes a finding one.
func (f *folder) diagnostic(n *snapshot, x *audit.Finding, client clientFacts) diagnostic {
	d := diagnostic{Range: f.spanRange(n, x.Span, client.encoding), Severity: severityInformation, Code: x.Rule.ID, Source: "dewar", Message: x.Message}
	switch {
	case x.Rule.Severity >= audit.High:
		d.Severity = severityError
	case x.Rule.Severity == audit.Medium:
		d.Severity = severityWarning
	}
	if x.Sure() == audit.Possible {
		d.Message += " (possible)"
	}
	if advice := cmp.Or(x.Fix, x.Rule.Fix); advice != "" {
		d.Message += ".\n" + advice
	}
	if href := f.s.cfg.Link(x.Rule.ID); href != "" && client.links {
		d.CodeDescription = &codeLink{href}
	}
	if client.related {
		for i, s := range x.Trace {
			d.RelatedInformation = append(d.RelatedInformation, relatedPlace{f.location(n, s.Span, client.encoding), fmt.Sprintf("%d. %s", i+1, s.Note)})
		}
		for _, s := range x.Related {
			d.RelatedInformation = append(d.RelatedInformation, relatedPlace{f.location(n, s.Span, client.encoding), s.Note})
		}
	}
	return d
}

func (f *folder) spanRange(n *snapshot, s audit.Span, encoding string) textRange {
	if t := n.text(s.File); t != nil {
		return t.span(s, encoding)
	}
	return textRange{}
}

func (f *folder) location(n *snapshot, s audit.Span, encoding string) location {
	return location{f.uri(n, s.File), f.spanRange(n, s, encoding)}
}
