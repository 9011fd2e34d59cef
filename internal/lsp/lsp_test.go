package lsp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// testRules finds every call of bad(), which good() repairs, and of worse(),
// for which there is a trace and no repair.
func testRules() []*audit.Rule {
	each := func(p *audit.Pass, name string, found func(f *audit.File, call, fn pysyntax.ID)) {
		for f := range p.Python() {
			for i := range f.Python.Nodes {
				if fn, _, _ := f.Python.Call(pysyntax.ID(i)); f.Python.Name(fn) == name {
					found(f, pysyntax.ID(i), fn)
				}
			}
		}
	}
	return []*audit.Rule{
		{ID: "DW-TEST-001", Control: "settings", Title: "Bad is called", Why: "It *is* bad.", Fix: "Call good().", Severity: audit.High, Confidence: audit.Certain, Check: func(p *audit.Pass) {
			each(p, "bad", func(f *audit.File, call, fn pysyntax.ID) {
				p.Report(audit.Finding{Span: f.NodeSpan(call), Message: "bad is called", Edits: p.ReplaceNode(f, fn, "good")})
			})
		}},
		{ID: "DW-TEST-002", Control: "settings", Title: "Worse", Why: "Worse.", Fix: "Think.", Severity: audit.Medium, Confidence: audit.Likely, Check: func(p *audit.Pass) {
			each(p, "worse", func(f *audit.File, call, _ pysyntax.ID) {
				at := f.NodeSpan(call)
				source := audit.Span{File: f.Path, Line: 1, Column: 1, EndLine: 1, EndColumn: 2}
				p.Report(audit.Finding{Span: at, Trace: []audit.Step{{Span: source, Note: "source: <b>it</b>"}, {Span: at, Note: "sink"}}})
			})
		}},
		{ID: "DW-TEST-003", Control: "settings", Title: "Panics", Severity: audit.Low, Check: func(p *audit.Pass) {
			each(p, "panic", func(*audit.File, pysyntax.ID, pysyntax.ID) { panic("as asked") })
		}},
	}
}

// client is a minimal language client.
type client struct {
	t    testing.TB
	in   io.WriteCloser
	done chan error

	mu          sync.Mutex
	answers     map[string]chan map[string]json.RawMessage
	diagnostics map[string]publishParams
	messages    []string
	calls       []string // of the server
	arrived     chan struct{}
	next        int
}

func start(t testing.TB, cfg Config) *client {
	t.Helper()
	if cfg.Open == nil {
		cfg.Open = func(string) ([]*audit.Rule, audit.Options, error) { return testRules(), audit.Options{}, nil }
	}
	if cfg.Debounce == 0 {
		cfg.Debounce = time.Millisecond
	}
	cfg.Link = func(rule string) string { return "https://docs.example/" + rule }
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &client{t: t, in: inW, done: make(chan error, 1), answers: map[string]chan map[string]json.RawMessage{}, diagnostics: map[string]publishParams{}, arrived: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		c.done <- Serve(ctx, inR, outW, cfg)
		outW.Close()
	}()
	go c.read(outR)
	t.Cleanup(func() {
		cancel()
		inW.Close()
		select {
		case <-c.done:
		case <-time.After(2 * time.Minute):
			t.Error("the server does not end")
		}
	})
	return c
}

func (c *client) read(out io.Reader) {
	r := bufio.NewReader(out)
	for {
		n, err := readHeader(r)
		if err != nil {
			return
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(body, &m); err != nil {
			c.t.Errorf("the server sends no JSON: %q", body)
			return
		}
		c.mu.Lock()
		var method string
		_ = json.Unmarshal(m["method"], &method)
		switch {
		case method == "textDocument/publishDiagnostics":
			var p publishParams
			if err := json.Unmarshal(m["params"], &p); err != nil {
				c.t.Error(err)
			}
			c.diagnostics[p.URI] = p
		case method == "window/showMessage":
			c.messages = append(c.messages, string(m["params"]))
		case method != "" && m["id"] != nil:
			c.calls = append(c.calls, method)
			go c.send(map[string]any{"jsonrpc": "2.0", "id": m["id"], "result": nil})
		default:
			if ch := c.answers[string(m["id"])]; ch != nil {
				ch <- m
			} else {
				c.messages = append(c.messages, string(body))
			}
		}
		c.mu.Unlock()
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}
}

func (c *client) send(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		c.t.Error(err)
	}
	c.raw(fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(b), b))
}

func (c *client) raw(s string) { _, _ = io.WriteString(c.in, s) }

func (c *client) notify(method string, params any) {
	c.send(map[string]any{"jsonrpc": "2.0", "method": method, "params": params})
}

// ask sends a request and returns where its answer comes.
func (c *client) ask(method string, params any) (int, chan map[string]json.RawMessage) {
	c.mu.Lock()
	c.next++
	id := c.next
	ch := make(chan map[string]json.RawMessage, 1)
	c.answers[fmt.Sprint(id)] = ch
	c.mu.Unlock()
	c.send(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	return id, ch
}

func (c *client) await(ch chan map[string]json.RawMessage) map[string]json.RawMessage {
	c.t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(2 * time.Minute):
		c.t.Fatal("no answer")
		return nil
	}
}

// call sends a request and decodes its result.
func call[T any](c *client, method string, params any) (result T) {
	c.t.Helper()
	_, ch := c.ask(method, params)
	m := c.await(ch)
	if e := m["error"]; e != nil {
		c.t.Fatalf("%s: %s", method, e)
	}
	if err := json.Unmarshal(m["result"], &result); err != nil {
		c.t.Fatalf("%s: %v in %s", method, err, m["result"])
	}
	return result
}

func (c *client) code(ch chan map[string]json.RawMessage) int {
	c.t.Helper()
	var e struct {
		Code int `json:"code"`
	}
	_ = json.Unmarshal(c.await(ch)["error"], &e)
	return e.Code
}

// until waits for something that arrives.
func (c *client) until(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		c.mu.Lock()
		yes := ok()
		c.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-c.arrived:
		case <-deadline:
			c.t.Fatalf("this never came: %s", what)
		}
	}
}

// found waits until a document has the given diagnostics: "code line:from-to".
func (c *client) found(uri string, want ...string) {
	c.t.Helper()
	var got []string
	defer func() {
		if c.t.Failed() {
			c.t.Logf("last seen: %q", got)
		}
	}()
	c.until(fmt.Sprintf("%q in %s", want, uri), func() bool {
		got = nil
		p, ok := c.diagnostics[uri]
		for _, d := range p.Diagnostics {
			got = append(got, fmt.Sprintf("%s %d:%d-%d", d.Code, d.Range.Start.Line, d.Range.Start.Character, d.Range.End.Character))
		}
		return ok && slices.Equal(got, want)
	})
}

type m = map[string]any

func (c *client) initialize(caps m, dirs ...string) map[string]json.RawMessage {
	c.t.Helper()
	var folders []m
	for _, d := range dirs {
		folders = append(folders, m{"uri": fileURI(d), "name": "x"})
	}
	r := call[map[string]json.RawMessage](c, "initialize", m{"processId": nil, "rootUri": nil, "capabilities": caps, "workspaceFolders": folders})
	c.notify("initialized", m{})
	return r
}

func (c *client) didOpen(uri, text string) {
	c.notify("textDocument/didOpen", m{"textDocument": m{"uri": uri, "languageId": "python", "version": 1, "text": text}})
}

func (c *client) didChange(uri string, version int, changes ...m) {
	c.notify("textDocument/didChange", m{"textDocument": m{"uri": uri, "version": version}, "contentChanges": changes})
}

func span(l1, c1, l2, c2 int) m {
	return m{"start": m{"line": l1, "character": c1}, "end": m{"line": l2, "character": c2}}
}

func write(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSession(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n", "pkg/b.py": "x = 1\nworse()\n", "ok.py": "pass\n"})
	c := start(t, Config{Version: "1"})
	a, b := fileURI(filepath.Join(dir, "a.py")), fileURI(filepath.Join(dir, "pkg", "b.py"))
	caps := m{"textDocument": m{"publishDiagnostics": m{"relatedInformation": true, "codeDescriptionSupport": true}, "hover": m{"contentFormat": []string{"markdown"}}},
		"workspace": m{"workspaceEdit": m{"documentChanges": true}, "didChangeWatchedFiles": m{"dynamicRegistration": true}}}
	r := c.initialize(caps, dir)
	if !strings.Contains(string(r["capabilities"]), `"positionEncoding":"utf-16"`) {
		t.Errorf("%s", r["capabilities"])
	}

	// Files that are not open have diagnostics, too.
	c.found(a, "DW-TEST-001 0:0-5")
	c.found(b, "DW-TEST-002 1:0-7")
	c.mu.Lock()
	d := c.diagnostics[b].Diagnostics[0]
	sev := c.diagnostics[a].Diagnostics[0]
	c.mu.Unlock()
	if sev.Severity != severityError || d.Severity != severityWarning || d.Source != "dewar" || d.CodeDescription == nil || d.CodeDescription.Href != "https://docs.example/DW-TEST-002" {
		t.Errorf("%+v", d)
	}
	if len(d.RelatedInformation) != 2 || d.RelatedInformation[0].Location.URI != b || !strings.HasPrefix(d.RelatedInformation[0].Message, "1. source") || d.RelatedInformation[1].Location.Range.Start.Line != 1 {
		t.Errorf("the trace: %+v", d.RelatedInformation)
	}
	c.until("a watch on files", func() bool { return slices.Contains(c.calls, "client/registerCapability") })

	// An open document counts instead of the file, and is followed.
	c.didOpen(a, "é = '😀'; bad()\nbad()\n")
	c.found(a, "DW-TEST-001 0:10-15", "DW-TEST-001 1:0-5")
	c.didChange(a, 2, m{"range": span(1, 0, 1, 3), "text": "good"})
	c.found(a, "DW-TEST-001 0:10-15")
	c.didChange(a, 3, m{"range": span(0, 10, 0, 10), "text": "bad(), "}, m{"range": span(2, 0, 2, 0), "text": "worse()\n"})
	c.found(a, "DW-TEST-001 0:10-15", "DW-TEST-001 0:17-22", "DW-TEST-002 2:0-7")
	c.mu.Lock()
	if v := c.diagnostics[a].Version; v == nil || *v != 3 {
		t.Errorf("version %v", v)
	}
	c.mu.Unlock()

	// Hover.
	h := call[*hoverResult](c, "textDocument/hover", m{"textDocument": m{"uri": a}, "position": m{"line": 2, "character": 3}})
	if h == nil || h.Contents.Kind != "markdown" || !strings.Contains(h.Contents.Value, "How it gets there") || !strings.Contains(h.Contents.Value, "1. [a.py:1](<"+a+"#L1>) source: \\<b\\>it") {
		t.Errorf("hover: %+v", h)
	}
	if h := call[*hoverResult](c, "textDocument/hover", m{"textDocument": m{"uri": a}, "position": m{"line": 1, "character": 0}}); h != nil {
		t.Errorf("hover where nothing is: %+v", h)
	}

	// Code actions.
	actions := call[[]codeAction](c, "textDocument/codeAction", m{"textDocument": m{"uri": a}, "range": span(0, 12, 0, 12), "context": m{"diagnostics": []m{}}})
	if len(actions) != 2 || !actions[0].IsPreferred || actions[0].Kind != kindQuickFix || actions[0].Diagnostics[0].Code != "DW-TEST-001" {
		t.Fatalf("actions: %+v", actions)
	}
	e := actions[0].Edit.DocumentChanges
	if len(e) != 1 || e[0].TextDocument.URI != a || *e[0].TextDocument.Version != 3 || len(e[0].Edits) != 1 || e[0].Edits[0] != (textEdit{textRange{position{0, 10}, position{0, 13}}, "good"}) {
		t.Errorf("repair: %+v", e)
	}
	if s := actions[1].Edit.DocumentChanges[0].Edits[0]; s.NewText != "# dewar: ignore[DW-TEST-001] "+acceptable+"\n" || s.Range != (textRange{}) {
		t.Errorf("suppression: %+v", s)
	}
	if all := call[[]codeAction](c, "textDocument/codeAction", m{"textDocument": m{"uri": a}, "range": span(0, 0, 0, 0), "context": m{"diagnostics": []m{}, "only": []string{"source.fixAll"}}}); len(all) != 1 || all[0].Kind != kindFixAll || len(all[0].Edit.DocumentChanges[0].Edits) == 0 || !strings.Contains(all[0].Edit.DocumentChanges[0].Edits[0].NewText, "good(), good()") {
		t.Errorf("all repairs: %+v", all)
	}
	// What has no repair can only be silenced.
	if worse := call[[]codeAction](c, "textDocument/codeAction", m{"textDocument": m{"uri": a}, "range": span(2, 0, 2, 1), "context": m{"diagnostics": []m{}}}); len(worse) != 1 || !strings.HasPrefix(worse[0].Title, "Silence DW-TEST-002") {
		t.Errorf("%+v", worse)
	}

	// Closed, the file on disk counts again; saved elsewhere, it is read.
	c.notify("textDocument/didClose", m{"textDocument": m{"uri": a}})
	c.found(a, "DW-TEST-001 0:0-5")
	write(t, dir, map[string]string{"a.py": "pass\n"})
	c.notify("workspace/didChangeWatchedFiles", m{"changes": []m{{"uri": a, "type": 2}}})
	c.found(a)

	// Another folder comes and goes.
	other := write(t, t.TempDir(), map[string]string{"o.py": "bad()\n"})
	o := fileURI(filepath.Join(other, "o.py"))
	c.notify("workspace/didChangeWorkspaceFolders", m{"event": m{"added": []m{{"uri": fileURI(other)}}, "removed": []m{}}})
	c.found(o, "DW-TEST-001 0:0-5")
	c.notify("workspace/didChangeWorkspaceFolders", m{"event": m{"added": []m{}, "removed": []m{{"uri": fileURI(other)}}}})
	c.found(o)

	// A document outside of every folder is audited alone.
	alone := "file:///nowhere%2Fat/all%20x.py"
	c.didOpen(alone, "worse()\n")
	c.found(alone, "DW-TEST-002 0:0-7")
	c.notify("textDocument/didClose", m{"textDocument": m{"uri": alone}})
	c.found(alone)

	// The end.
	if _, ch := c.ask("shutdown", nil); c.code(ch) != 0 {
		t.Error("shutdown failed")
	}
	if _, ch := c.ask("textDocument/hover", m{}); c.code(ch) != codeInvalidRequest {
		t.Error("a request behind shutdown is answered")
	}
	c.notify("exit", nil)
	if err := <-c.done; err != nil {
		t.Errorf("an orderly end is %v", err)
	}
	c.done <- nil
}

func TestUTF8(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "x = 'é😀'; bad()\n"})
	c := start(t, Config{})
	c.initialize(m{"general": m{"positionEncodings": []string{"utf-32", "utf-8", "utf-16"}}}, dir)
	a := fileURI(filepath.Join(dir, "a.py"))
	c.found(a, "DW-TEST-001 0:14-19")
	c.didOpen(a, "x = 'é😀'; bad()\n")
	c.didChange(a, 2, m{"range": span(0, 0, 0, 12), "text": "''"})
	c.found(a, "DW-TEST-001 0:4-9")
}

// TestPlainClient: no ability is taken for granted.
func TestPlainClient(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n"})
	c := start(t, Config{})
	call[any](c, "initialize", m{"rootPath": dir, "capabilities": m{}})
	a := fileURI(filepath.Join(dir, "a.py"))
	c.found(a, "DW-TEST-001 0:0-5")
	c.mu.Lock()
	if d := c.diagnostics[a].Diagnostics[0]; d.CodeDescription != nil || d.RelatedInformation != nil {
		t.Errorf("%+v", d)
	}
	c.mu.Unlock()
	if h := call[hoverResult](c, "textDocument/hover", m{"textDocument": m{"uri": a}, "position": m{"line": 0, "character": 0}}); h.Contents.Kind != "plaintext" || !strings.Contains(h.Contents.Value, "Fix: Call good()") {
		t.Errorf("%+v", h)
	}
	actions := call[[]codeAction](c, "textDocument/codeAction", m{"textDocument": m{"uri": a}, "range": span(0, 0, 0, 9), "context": m{}})
	if len(actions) != 2 || actions[0].Edit.Changes[a][0].NewText != "good" {
		t.Errorf("%+v", actions)
	}
}

// TestRepairsThatDoNotHold are not offered.
func TestRepairsThatDoNotHold(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n"})
	rules := testRules()
	rules[0].Check = func(p *audit.Pass) {
		for f := range p.Python() {
			p.Report(audit.Finding{Span: f.SpanAt(0, 5), Edits: []audit.Edit{{File: f.Path, Start: 0, End: 5, New: "bad("}}})
		}
	}
	c := start(t, Config{Open: func(string) ([]*audit.Rule, audit.Options, error) { return rules, audit.Options{}, nil }})
	c.initialize(m{}, dir)
	a := fileURI(filepath.Join(dir, "a.py"))
	if actions := call[[]codeAction](c, "textDocument/codeAction", m{"textDocument": m{"uri": a}, "range": span(0, 0, 0, 0), "context": m{}}); len(actions) != 1 || strings.HasPrefix(actions[0].Title, "Repair") {
		t.Errorf("%+v", actions)
	}
}

// TestSettings: a mistake in the settings is shown once, and mending it helps.
func TestSettings(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n"})
	a := fileURI(filepath.Join(dir, "a.py"))
	var mu sync.Mutex
	broken := errors.New("dewar.toml:1: no")
	c := start(t, Config{Open: func(string) ([]*audit.Rule, audit.Options, error) {
		mu.Lock()
		defer mu.Unlock()
		return testRules(), audit.Options{}, broken
	}})
	c.initialize(m{}, dir)
	c.until("the mistake", func() bool { return len(c.messages) == 1 && strings.Contains(c.messages[0], "dewar.toml:1: no") })
	c.didOpen(a, "bad()\n")
	mu.Lock()
	broken = nil
	mu.Unlock()
	c.notify("textDocument/didSave", m{"textDocument": m{"uri": a}})
	c.found(a, "DW-TEST-001 0:0-5")
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.messages) != 1 {
		t.Errorf("shown: %q", c.messages)
	}
}

// TestCancel: what waits for an audit can be called off.
func TestCancel(t *testing.T) {
	release := make(chan struct{})
	rule := &audit.Rule{ID: "DW-TEST-009", Control: "settings", Title: "Slow", Severity: audit.Low, Check: func(p *audit.Pass) {
		select {
		case <-release:
		case <-p.Context().Done():
		}
	}}
	c := start(t, Config{Open: func(string) ([]*audit.Rule, audit.Options, error) { return []*audit.Rule{rule}, audit.Options{}, nil }})
	dir := write(t, t.TempDir(), map[string]string{"a.py": "x\n"})
	c.initialize(m{}, dir)
	a := m{"uri": fileURI(filepath.Join(dir, "a.py"))}
	id, ch := c.ask("textDocument/hover", m{"textDocument": a, "position": m{"line": 0, "character": 0}})
	c.notify("$/cancelRequest", m{"id": id})
	if code := c.code(ch); code != codeCancelled {
		t.Errorf("code %d", code)
	}
	// Not without a bound.
	var last chan map[string]json.RawMessage
	for range maxWaiting + 1 {
		_, last = c.ask("textDocument/codeAction", m{"textDocument": a, "range": span(0, 0, 0, 0), "context": m{}})
	}
	if code := c.code(last); code != codeServerCancelled {
		t.Errorf("code %d", code)
	}
	close(release)
}

// TestAnswersMeanwhile: while another audit runs, what is known about a text
// that did not change is told.
func TestAnswersMeanwhile(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n"})
	a := fileURI(filepath.Join(dir, "a.py"))
	gate := make(chan struct{}, 1)
	var once sync.Once
	block := &audit.Rule{ID: "DW-TEST-009", Control: "settings", Title: "Slow", Severity: audit.Low, Check: func(p *audit.Pass) {
		for f := range p.Python() {
			if strings.Contains(string(f.Data), "slow") {
				select {
				case <-gate:
				case <-p.Context().Done():
				}
			}
		}
	}}
	c := start(t, Config{Open: func(string) ([]*audit.Rule, audit.Options, error) {
		return append(testRules(), block), audit.Options{}, nil
	}})
	t.Cleanup(func() { once.Do(func() { close(gate) }) })
	c.initialize(m{}, dir)
	c.didOpen(a, "bad()\n")
	c.until("the version", func() bool { return c.diagnostics[a].Version != nil })
	c.didOpen(fileURI(filepath.Join(dir, "b.py")), "slow\nbad()\n")
	where := m{"textDocument": m{"uri": a}, "position": m{"line": 0, "character": 1}}
	if h := call[*hoverResult](c, "textDocument/hover", where); h == nil {
		t.Error("nothing is told")
	}
	c.didChange(a, 2, m{"text": "\nbad()\n"})
	_, ch := c.ask("textDocument/hover", where)
	select {
	case answer := <-ch:
		t.Errorf("answered by an audit of another text: %s", answer["result"])
	case <-time.After(50 * time.Millisecond):
	}
	once.Do(func() { close(gate) })
	if answer := c.await(ch); string(answer["result"]) != "null" {
		t.Errorf("the finding is on another line now: %s", answer["result"])
	}
}

// TestHostile: nothing a client sends ends the server or goes unanswered.
func TestHostile(t *testing.T) {
	dir := write(t, t.TempDir(), map[string]string{"a.py": "bad()\n"})
	a := fileURI(filepath.Join(dir, "a.py"))
	var log bytes.Buffer
	c := start(t, Config{Log: &syncWriter{w: &log}})
	for name, want := range map[string]int{"textDocument/hover": codeNotInitialized, "shutdown": codeNotInitialized, "\x00": codeNotInitialized} {
		if _, ch := c.ask(name, m{}); c.code(ch) != want {
			t.Errorf("%q before initialize", name)
		}
	}
	c.notify("textDocument/didOpen", m{"textDocument": m{"uri": a, "text": "worse()"}}) // too early: ignored
	c.initialize(m{"general": m{"positionEncodings": nil}}, dir, dir, "/proc/self/nothing", filepath.Join(dir, ".."))
	if _, ch := c.ask("initialize", m{}); c.code(ch) != codeInvalidRequest {
		t.Error("initialize twice")
	}
	if _, ch := c.ask("no/such", m{}); c.code(ch) != codeNoMethod {
		t.Error("an unknown method")
	}
	for _, params := range []any{nil, []int{1}, "x", m{"textDocument": 1}, m{"textDocument": m{"uri": 5}}, m{"position": m{"line": -1, "character": 1e99}}} {
		_, ch := c.ask("textDocument/hover", params)
		if code := c.code(ch); code != codeInvalidParams && code != 0 {
			t.Errorf("%v: %d", params, code)
		}
	}
	for _, body := range []string{"", "{", "null", "[]", "[1]", "5", `"x"`, "{}", `{"id":1}`, `{"jsonrpc":"2.0","id":{},"method":"x"}`, `{"id":null,"method":null}`, `{"method":5}`, `{"jsonrpc":"2.0","id":77,"result":1}`, strings.Repeat("[", 100000), "\xff\xfe", `[{"jsonrpc":"2.0","id":1,"method":"shutdown"}]`} {
		c.raw(fmt.Sprintf("Content-Length: %d\r\nContent-Type: x\r\n\r\n%s", len(body), body))
	}
	for _, uri := range []string{"", "x", "file:", "file://", "file://host/x.py", "http://x/y", "file:///%00", "file:///../../etc/passwd", "untitled:1", "file:///" + strings.Repeat("a/", 20000), a + "/b.py", fileURI(dir), fileURI("/")} {
		c.didOpen(uri, "bad()\n")
		c.didChange(uri, 2, m{"text": "x"}, m{"range": span(9, 9, 0, 0), "text": "bad()"}, m{"range": span(1<<31, 1<<31, 1<<32-1, 0), "text": "\n"})
		c.notify("textDocument/didClose", m{"textDocument": m{"uri": uri}})
	}
	c.notify("textDocument/didChange", m{"textDocument": m{"uri": fileURI("/never/opened.py")}, "contentChanges": []m{{"text": "x"}}})
	c.notify("textDocument/didClose", m{"textDocument": m{"uri": fileURI("/never/opened.py")}})
	c.notify("$/cancelRequest", m{"id": 12345})
	c.notify("$/cancelRequest", m{"id": []int{}})
	c.notify("workspace/didChangeWorkspaceFolders", m{"event": m{"added": []m{{"uri": "::"}}, "removed": []m{{"uri": "file:///none"}}}})

	// A document beyond the limit is left to the disk.
	c.didOpen(a, "bad()\n"+strings.Repeat("#", maxDocument))
	c.found(a, "DW-TEST-001 0:0-5")
	c.didChange(a, 2, m{"text": "\nbad()\n"})
	c.found(a, "DW-TEST-001 1:0-5")
	changes := make([]m, 40000)
	for i := range changes {
		changes[i] = m{"range": span(0, 0, 0, 0), "text": strings.Repeat("x", 100)}
	}
	begin := time.Now()
	c.didChange(a, 3, changes...)
	c.found(a, "DW-TEST-001 0:0-5")
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("a notification takes %v", d)
	}
	// A rule that panics says so, and the others go on.
	c.didChange(a, 4, m{"text": "panic()\nbad()\n"})
	c.found(a, "DW-TEST-001 1:0-5")
	if _, ch := c.ask("shutdown", nil); c.code(ch) != 0 {
		t.Error("the server is not well any more")
	}
}

type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

// TestNoShutdown: the protocol wants another exit status.
func TestNoShutdown(t *testing.T) {
	for name, in := range map[string]string{"end of stream": "", "exit": "Content-Length: 33\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}"} {
		if err := Serve(t.Context(), strings.NewReader(in), io.Discard, Config{}); !errors.Is(err, ErrNoShutdown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, in := range map[string]string{"no client": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no length": "Content-Type: x\r\n\r\n", "negative": "Content-Length: -1\r\n\r\n", "endless": strings.Repeat("a", 1<<16), "half": "Content-Len"} {
		if err := Serve(t.Context(), strings.NewReader(in), io.Discard, Config{}); err == nil || errors.Is(err, ErrNoShutdown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTooLarge: a message beyond the limit is refused, and the next one read,
// without its bytes being kept.
func TestTooLarge(t *testing.T) {
	var out bytes.Buffer
	in := io.MultiReader(
		strings.NewReader(fmt.Sprintf("Content-Length: %d\r\n\r\n", maxMessage+1)), io.LimitReader(zeros{}, maxMessage+1),
		strings.NewReader("Content-Length: 58\r\n\r\n"+`{"jsonrpc":"2.0","id":7,"method":"shutdown","params":null}`),
		strings.NewReader("Content-Length: 33\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}"))
	err := Serve(t.Context(), in, &out, Config{})
	if !errors.Is(err, ErrNoShutdown) || !strings.Contains(out.String(), "too large") || !strings.Contains(out.String(), `"id":7`) {
		t.Errorf("%v %s", err, out.String())
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestPositions(t *testing.T) {
	tx := newText("aé😀b\r\nc\rd\n")
	for _, c := range []struct {
		p      position
		utf16  int
		utf8   int
		exact  bool // the position of the offset is the position again
		exact8 bool
	}{
		{position{0, 0}, 0, 0, true, true}, {position{0, 1}, 1, 1, true, true}, {position{0, 2}, 3, 1, true, false}, {position{0, 3}, 3, 3, false, true},
		{position{0, 4}, 7, 3, true, false}, {position{0, 5}, 8, 3, true, false}, {position{0, 99}, 8, 8, false, false},
		{position{1, 0}, 10, 10, true, true}, {position{1, 1}, 11, 11, true, true}, {position{2, 0}, 12, 12, true, true}, {position{3, 0}, 14, 14, true, true}, {position{9, 9}, 14, 14, false, false},
	} {
		if got := tx.offset(c.p, "utf-16"); got != c.utf16 || c.exact && tx.position(got, "utf-16") != c.p {
			t.Errorf("%v in UTF-16 is %d, back %v", c.p, got, tx.position(got, "utf-16"))
		}
		if got := tx.offset(c.p, "utf-8"); got != c.utf8 || c.exact8 && tx.position(got, "utf-8") != c.p {
			t.Errorf("%v in UTF-8 is %d, back %v", c.p, got, tx.position(got, "utf-8"))
		}
	}
	if p := newText("\ufeffab").place(1, 2, "utf-16"); p != (position{0, 1}) {
		t.Errorf("behind a byte order mark: %v", p)
	}
}

// FuzzPositions: an offset is its position again, and no position leaves the
// text.
func FuzzPositions(f *testing.F) {
	f.Add("aé😀b\r\nc\rd\n", uint32(0), uint32(3))
	f.Add("\xff\xfe\r\r\n\n", uint32(1), uint32(1))
	f.Fuzz(func(t *testing.T, s string, line, char uint32) {
		if len(s) > 1<<12 {
			return
		}
		tx := newText(s)
		for _, enc := range []string{"utf-8", "utf-16"} {
			at := tx.offset(position{line, char}, enc)
			if at < 0 || at > len(s) {
				t.Fatalf("%d of %d", at, len(s))
			}
			if p := tx.position(at, enc); tx.offset(p, enc) != at {
				t.Fatalf("%s: %d is %v, which is %d in %q", enc, at, p, tx.offset(p, enc), s)
			}
			_ = tx.place(int(line%1000), int(char%1000), enc)
		}
	})
}

// FuzzFraming: no bytes make the server panic, hang or answer with what is no
// message.
func FuzzFraming(f *testing.F) {
	for _, s := range []string{
		"", "Content-Length: 2\r\n\r\n{}", "content-length:2\n\n[]", "Content-Length: 58\r\n\r\n" + `{"jsonrpc":"2.0","id":7,"method":"shutdown","params":null}`,
		"Content-Length: 99999999999999999999\r\n\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx", "Content-Length: 3\r\n\r\nnullContent-Length: 0\r\n\r\n",
		"Content-Length: 60\r\n\r\n" + `{"jsonrpc":"2.0","id":"a","method":"initialize","params":{}}` + "Content-Length: 33\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}",
	} {
		f.Add([]byte(s))
	}
	open := func(string) ([]*audit.Rule, audit.Options, error) { return nil, audit.Options{}, errors.New("no") }
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<12 {
			return
		}
		var out bytes.Buffer
		_ = Serve(t.Context(), bytes.NewReader(in), &out, Config{Open: open, Debounce: time.Nanosecond})
		r := bufio.NewReader(&out)
		for {
			n, err := readHeader(r)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("the answer is no message: %v", err)
			}
			body := make([]byte, n)
			if _, err := io.ReadFull(r, body); err != nil || !json.Valid(body) {
				t.Fatalf("the answer is no JSON: %v %q", err, body)
			}
		}
	})
}
