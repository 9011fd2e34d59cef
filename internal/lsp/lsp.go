// Package lsp serves the findings of the audit to an editor: the Language
// Server Protocol 3.17 over a pair of streams.
//
//	err := lsp.Serve(ctx, os.Stdin, os.Stdout, lsp.Config{Open: …, Link: …})
//
// The server audits each workspace folder as a whole, as dewar audit does,
// with the documents as the editor shows them in place of what is on disk.
// It publishes diagnostics, for files that are not open as well; answers
// hovers with the reason, the trace step by step and the advice; and offers
// as code actions the repairs that hold (see [audit.PlanFixes]) and a comment
// that silences the finding. A document outside of every folder is audited
// alone.
//
// # Order and bounds
//
// Messages are handled one at a time in the order they come; only what waits
// for an audit waits beside, and can be cancelled. Audits run in the
// background, one at a time, a short while after the last change; a further
// change calls the running one off. A client that sends faster than the
// server reads is made to wait. Messages, documents, folders and waiting
// requests are bounded; what is beyond a bound is refused or left out and
// said in the log, and nothing a client sends ends the server but the end of
// its stream and a header that cannot be read.
package lsp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"github.com/dewar-security/dewar/internal/audit"
)

// Bounds on what a client can make the server keep.
const (
	maxMessage   = 64 << 20  // bytes of one message
	maxDocument  = 8 << 20   // bytes of one document; see audit.DefaultMaxFileSize
	maxDocuments = 2_000     // open at once
	maxOpen      = 256 << 20 // bytes of all open documents
	maxFolders   = 16
	maxWaiting   = 32      // requests that wait for an audit
	maxShown     = 1_000   // diagnostics of one file
	maxWork      = 1 << 30 // bytes moved by the changes of one notification
	maxProject   = 256 << 20
)

// ErrNoShutdown is returned by [Serve] when the client ends without having
// asked for a shutdown, which the protocol wants to be an exit status of 1.
var ErrNoShutdown = errors.New("the editor ended without a shutdown")

// Config is what the server is given by its caller.
type Config struct {
	// Version is told to the client.
	Version string
	// Open reads the settings of a folder and says how to audit it. It is
	// called again whenever the folder is read again. Its error is shown to
	// the user.
	Open func(dir string) ([]*audit.Rule, audit.Options, error)
	// Link returns the address of a rule's documentation, or "".
	Link func(rule string) string
	// Debounce is how long to wait after a change; 0 means 250 ms.
	Debounce time.Duration
	// Log is where remarks go that are of no interest to the user. May be
	// nil.
	Log io.Writer
}

// Serve speaks to a client until it ends or ctx does. It returns nil after an
// orderly shutdown, [ErrNoShutdown] without one, and another error for a
// stream that cannot be understood.
//
// Both streams are closed if they can be.
func Serve(ctx context.Context, in io.Reader, out io.Writer, cfg Config) error {
	if cfg.Debounce <= 0 {
		cfg.Debounce = 250 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if cfg.Link == nil {
		cfg.Link = func(string) string { return "" }
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		cfg: cfg, ctx: ctx, end: cancel,
		log:   log.New(cfg.Log, "dewar lsp: ", 0),
		docs:  map[string]*document{},
		waits: map[jsonrpc2.ID]context.CancelFunc{},
		turn:  make(chan struct{}, 1),
	}
	st := newStream(in, out)
	s.stream = st
	s.mu.Lock() // Handle waits until conn is there
	s.conn = jsonrpc2.NewConn(ctx, st, s, jsonrpc2.SetLogger(s.log))
	s.mu.Unlock()
	<-s.conn.DisconnectNotify()
	cancel()
	s.mu.Lock()
	s.closed = true // nothing begins any more
	s.mu.Unlock()
	s.background.Wait()
	if err := st.err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shutdown {
		return ErrNoShutdown
	}
	return nil
}

// server is one client's session.
type server struct {
	cfg    Config
	ctx    context.Context
	end    context.CancelFunc
	log    *log.Logger
	conn   *jsonrpc2.Conn
	stream *stream
	turn   chan struct{} // held by the audit that runs

	background sync.WaitGroup

	mu       sync.Mutex
	ready    bool // initialize was answered
	shutdown bool
	closed   bool
	client   clientFacts
	folders  []*folder
	docs     map[string]*document // by the path on disk
	open     int                  // bytes of docs
	waits    map[jsonrpc2.ID]context.CancelFunc
}

// Error codes of JSON-RPC 2.0 and LSP 3.17.
const (
	codeParse           = -32700
	codeInvalidRequest  = -32600
	codeNoMethod        = -32601
	codeInvalidParams   = -32602
	codeInternal        = -32603
	codeNotInitialized  = -32002
	codeCancelled       = -32800
	codeServerCancelled = -32802
)

func failure(code int64, format string, args ...any) *jsonrpc2.Error {
	return &jsonrpc2.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Handle implements [jsonrpc2.Handler]. It is called for one message after
// the other.
func (s *server) Handle(ctx context.Context, conn *jsonrpc2.Conn, req *jsonrpc2.Request) {
	if req.Notif {
		s.guard(req.Method, func() { s.notified(req) })
		return
	}
	s.mu.Lock()
	ready, shutdown := s.ready, s.shutdown
	s.mu.Unlock()
	var result any
	var err error = failure(codeInternal, "the server failed, and goes on: see its log")
	switch {
	case shutdown:
		err = failure(codeInvalidRequest, "the server is shutting down")
	case req.Method == "initialize" && ready:
		err = failure(codeInvalidRequest, "initialize was sent twice")
	case req.Method != "initialize" && !ready:
		err = failure(codeNotInitialized, "initialize comes first")
	default:
		switch req.Method {
		case "initialize":
			s.guard(req.Method, func() { result, err = s.initialize(req) })
		case "shutdown":
			s.mu.Lock()
			s.shutdown = true
			for _, f := range s.folders {
				f.cancel()
			}
			s.mu.Unlock()
			err = nil
		case "textDocument/hover":
			s.later(req, s.hover)
			return
		case "textDocument/codeAction":
			s.later(req, s.codeActions)
			return
		default:
			err = failure(codeNoMethod, "the method %.100q is not known", req.Method)
		}
	}
	s.reply(req.ID, result, err)
}

// guard keeps a mistake of ours, or of a rule, from ending the session.
func (s *server) guard(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Printf("%.100q failed: %v\n%s", what, r, debug.Stack())
		}
	}()
	f()
}

func (s *server) reply(id jsonrpc2.ID, result any, err error) {
	resp := &jsonrpc2.Response{ID: id}
	if err == nil {
		err = resp.SetResult(result)
	}
	if err != nil {
		var e *jsonrpc2.Error
		switch {
		case errors.As(err, &e):
		case errors.Is(err, context.Canceled):
			e = failure(codeCancelled, "cancelled")
		default:
			e = failure(codeInternal, "%v", err)
		}
		resp.Result, resp.Error = nil, e
	}
	// A client that is gone needs no answer.
	_ = s.conn.SendResponse(s.ctx, resp)
}

// later answers a request that waits for an audit, beside the others.
func (s *server) later(req *jsonrpc2.Request, answer func(context.Context, json.RawMessage) (any, error)) {
	s.mu.Lock()
	_, twice := s.waits[req.ID]
	if s.closed {
		s.mu.Unlock()
		return
	}
	if twice || len(s.waits) >= maxWaiting {
		s.mu.Unlock()
		if twice {
			s.reply(req.ID, nil, failure(codeInvalidRequest, "a request with this id is still open"))
		} else {
			s.reply(req.ID, nil, failure(codeServerCancelled, "too many requests wait for the audit"))
		}
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.waits[req.ID] = cancel
	s.background.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.background.Done()
		defer cancel()
		var result any
		var err error = failure(codeInternal, "the server failed, and goes on: see its log")
		s.guard(req.Method, func() {
			var params json.RawMessage
			if req.Params != nil {
				params = *req.Params
			}
			result, err = answer(ctx, params)
		})
		s.mu.Lock()
		delete(s.waits, req.ID)
		s.mu.Unlock()
		s.reply(req.ID, result, err)
	}()
}

// decode reads parameters, where a field of another type than the protocol
// says is the client's mistake.
func decode(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return failure(codeInvalidParams, "the parameters are not understood: %v", err)
	}
	return nil
}

func (s *server) notified(req *jsonrpc2.Request) {
	var params json.RawMessage
	if req.Params != nil {
		params = *req.Params
	}
	s.mu.Lock()
	ready, shutdown := s.ready, s.shutdown
	s.mu.Unlock()
	var err error
	switch {
	case req.Method == "exit":
		s.end()
		return
	case !ready || shutdown:
		return
	}
	switch req.Method {
	case "initialized":
		s.watch()
	case "$/cancelRequest":
		var p struct {
			ID jsonrpc2.ID `json:"id"`
		}
		if err = decode(params, &p); err == nil {
			s.mu.Lock()
			if cancel := s.waits[p.ID]; cancel != nil {
				cancel()
			}
			s.mu.Unlock()
		}
	case "textDocument/didOpen":
		err = s.didOpen(params)
	case "textDocument/didChange":
		err = s.didChange(params)
	case "textDocument/didClose":
		err = s.didClose(params)
	case "textDocument/didSave", "workspace/didChangeWatchedFiles", "workspace/didChangeConfiguration":
		s.readAgain()
	case "workspace/didChangeWorkspaceFolders":
		err = s.didChangeFolders(params)
	}
	if err != nil {
		s.log.Printf("%s: %v", req.Method, err)
	}
}

// initialize takes the client's abilities and folders.
func (s *server) initialize(req *jsonrpc2.Request) (any, error) {
	var params json.RawMessage
	if req.Params != nil {
		params = *req.Params
	}
	var p initializeParams
	if err := decode(params, &p); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = p.facts()
	s.ready = true
	folders := p.WorkspaceFolders
	if len(folders) == 0 && p.RootURI != "" {
		folders = []workspaceFolder{{URI: p.RootURI}}
	}
	if len(folders) == 0 && p.RootPath != "" {
		folders = []workspaceFolder{{URI: fileURI(p.RootPath)}}
	}
	for _, f := range folders {
		s.addFolder(f.URI)
	}
	type m = map[string]any
	return m{
		"serverInfo": m{"name": "dewar", "version": s.cfg.Version},
		"capabilities": m{
			"positionEncoding":   s.client.encoding,
			"textDocumentSync":   m{"openClose": true, "change": 2, "save": m{"includeText": false}},
			"hoverProvider":      true,
			"codeActionProvider": m{"codeActionKinds": []string{kindQuickFix, kindFixAll}},
			"workspace":          m{"workspaceFolders": m{"supported": true, "changeNotifications": true}},
		},
	}, nil
}

// watch asks the client to tell of changes on disk.
func (s *server) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.client.watch || s.closed {
		return
	}
	type m = map[string]any
	s.background.Go(func() {
		err := s.conn.Call(s.ctx, "client/registerCapability", m{"registrations": []m{{
			"id": "dewar-files", "method": "workspace/didChangeWatchedFiles",
			"registerOptions": m{"watchers": []m{{"globPattern": "**/*.{py,pyw,wsgi,html,htm,jinja,jinja2,j2,toml,yaml,yml,json,env,cfg,ini,txt,conf,lock,service}"},
				{"globPattern": "**/{Dockerfile,Procfile,.env,.flaskenv}"}}},
		}}}, nil)
		if err != nil && s.ctx.Err() == nil {
			s.log.Printf("the editor does not tell of changes on disk: %v", err)
		}
	})
}

// tell shows a message to the user.
func (s *server) tell(kind int, text string) {
	_ = s.conn.Notify(s.ctx, "window/showMessage", map[string]any{"type": kind, "message": text})
}

// didChangeFolders follows the folders of the editor.
func (s *server) didChangeFolders(params json.RawMessage) error {
	var p struct {
		Event struct {
			Added   []workspaceFolder `json:"added"`
			Removed []workspaceFolder `json:"removed"`
		} `json:"event"`
	}
	if err := decode(params, &p); err != nil {
		return err
	}
	s.mu.Lock()
	var gone []*folder
	for _, r := range p.Event.Removed {
		dir, err := filePath(r.URI)
		if err != nil {
			continue
		}
		for i, f := range s.folders {
			if f.root == dir && !f.loose {
				gone = append(gone, f)
				s.folders = append(s.folders[:i:i], s.folders[i+1:]...)
				break
			}
		}
	}
	for _, a := range p.Event.Added {
		s.addFolder(a.URI)
	}
	s.mu.Unlock()
	for _, f := range gone {
		f.cancel()
		f.clear()
	}
	// Documents may belong to another folder now.
	s.readAgain()
	return nil
}

// readAgain has every folder read from disk again.
func (s *server) readAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.folders {
		f.touch(true)
	}
}

// addFolder begins to audit a folder. s.mu is held.
func (s *server) addFolder(uri string) {
	dir, err := filePath(uri)
	if err != nil {
		s.log.Printf("folder: %v", err)
		return
	}
	n := 0
	for _, f := range s.folders {
		if !f.loose {
			n++
			if f.root == dir {
				return
			}
		}
	}
	if n >= maxFolders {
		s.log.Printf("folder %s is left out: there are more than %d", dir, maxFolders)
		return
	}
	s.start(dir, false)
}

// start begins to audit a folder, or, loose, the documents in it that are
// open. s.mu is held.
func (s *server) start(dir string, loose bool) {
	ctx, cancel := context.WithCancel(s.ctx)
	f := &folder{
		s: s, root: dir, loose: loose, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), changed: make(chan struct{}), published: map[string]string{},
	}
	if !s.closed {
		s.folders = append(s.folders, f)
		s.background.Go(f.work)
		f.touch(true)
	}
}

// folderOf returns the folder a file belongs to, and its path there: the
// innermost one. s.mu is held.
func (s *server) folderOf(path string) (*folder, string) {
	var best *folder
	var rel string
	for _, f := range s.folders {
		if r, ok := f.relative(path); ok && (best == nil || best.loose && !f.loose || best.loose == f.loose && len(f.root) > len(best.root)) {
			best, rel = f, r
		}
	}
	return best, rel
}

// escapeMarkdown makes text of a project safe to show as Markdown.
func escapeMarkdown(s string) string {
	var b strings.Builder
	s = strings.ReplaceAll(s, "\x00", "")
	for _, r := range strings.ReplaceAll(s, "://", "\x00://") { // no link by itself
		switch {
		case r == 0:
			b.WriteByte('\\')
			continue
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
			continue
		case r < 0x20 || r == 0x7f:
			continue
		case strings.ContainsRune("\\`*_{}[]<>#!|~&$", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
