package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// Limits that hold when [Options] does not name others.
const (
	DefaultMaxFileSize  = 8 << 20
	DefaultMaxTotalSize = 512 << 20
	DefaultMaxFiles     = 100_000
)

// Options says what to read and how to judge. The zero value reads the whole
// project within the default limits and accepts nothing silently.
type Options struct {
	// Exclude lists patterns of files and folders, relative to the root, not
	// to read: path.Match on the whole path or on the last element, or the
	// name of a folder.
	Exclude []string
	// MaxFileSize and MaxTotalSize are bytes, MaxFiles a number; 0 means the
	// default. What lies beyond is a [Skip].
	MaxFileSize  int64
	MaxTotalSize int64
	MaxFiles     int
	// Parallel bounds the files read and the rules run at once; 0 means one
	// for each CPU.
	Parallel int
	// Flow says that [Project.Flow] will be asked for: it begins as soon as
	// the files are read, beside all else.
	Flow bool
	// Overlay holds contents, by path relative to the root, that count instead
	// of what is on disk: documents an editor has not saved. A file that is
	// only here is read as if it were there, unless the settings exclude it.
	Overlay map[string][]byte
	// Tracked replaces the question to git whether a file is under version
	// control. See [Project.Tracked].
	Tracked func(path string) (tracked, known bool)

	// Baseline holds the findings somebody decided to live with; nil is none.
	Baseline *Baseline
	// KnownRules are the ids of every rule there is, so that a suppression
	// can be told from a misspelling when [Run] is given only some of them.
	// Nil means the rules given.
	KnownRules []string
	// Now decides which suppressions have run out; zero means time.Now.
	Now time.Time

	// Progress, if set, is told how far the audit is: phase, and how many of
	// its parts are done; total is 0 where nobody knows. It is called from
	// several goroutines, often, and must not wait.
	Progress func(phase Phase, done, total int)
}

// Phase is a part of an audit's life, for [Options.Progress].
type Phase uint8

// The phases, in their order.
const (
	Reading      Phase = iota // files
	Parsing                   // files
	Interpreting              // see [Project.Flow]; the rules that need it wait
	Judging                   // rules
)

var phaseNames = [...]string{"reading", "parsing", "interpreting", "judging"}

// String returns the phase as a word.
func (p Phase) String() string { return word(phaseNames[:], uint8(p)) }

func (o *Options) progress(phase Phase, done, total int) {
	if o.Progress != nil {
		o.Progress(phase, done, total)
	}
}

func (o *Options) parallel() int {
	if o.Parallel > 0 {
		return o.Parallel
	}
	return runtime.GOMAXPROCS(0)
}

// Project is everything an audit knows about a source tree. It does not
// change after [Load].
type Project struct {
	Root  string
	Files []*File // sorted by path
	// Other are the files that were not read because they are not text, such
	// as images. Sorted.
	Other []string
	// Flask is what the project's Python says about its apps.
	Flask *flask.Model
	// Skipped is what was not read, and why.
	Skipped []Skip
	// NotUnderstood are the places where a parser gave up. The rest of the
	// file was read.
	NotUnderstood []Problem

	byPath  map[string]*File
	tracked func(string) (bool, bool)
	// gitIndex is what tracked answers from; nil where Options.Tracked does.
	gitIndex func() (map[string]bool, error)
	took     time.Duration

	progress      func(Phase, int, int)
	names         *pysyntax.Interner // of its Python
	flowOnce      sync.Once
	understood    chan struct{} // closed when Flask is there, for what runs beside that
	templatesOnce sync.Once
	templates     map[string][]templateFile // by name, set by templatesOnce
	flowDone      atomic.Bool
	flow          *pyflow.Result
}

// File is one text file.
type File struct {
	Path    string // relative to the root, with slashes
	Kind    Kind
	Test    bool // test code, where a password in the source is no secret
	Example bool // a pattern to be copied, such as .env.example
	Data    []byte
	Python  *pysyntax.File // nil unless the file is Python

	linesOnce sync.Once
	lines     []int // offsets of line starts in Data; see starts
	tree      treeIndex
}

// Skip is something that was not read.
type Skip struct {
	Path   string
	Reason string
	// Routine is set for what never holds the project's own code, such as
	// .git or a virtual environment, and for what the settings exclude.
	Routine bool
}

// Problem is a place that a parser did not understand.
type Problem struct {
	Span    Span
	Message string
}

// routineDirs are never the project's own code.
var routineDirs = map[string]string{
	".git": "version control", ".hg": "version control", ".svn": "version control",
	"node_modules": "installed packages", "site-packages": "installed packages", "__pypackages__": "installed packages",
	".eggs": "installed packages", "bower_components": "installed packages",
	"__pycache__": "compiled code",
	".tox":        "test environments", ".nox": "test environments",
	".mypy_cache": "cache", ".pytest_cache": "cache", ".ruff_cache": "cache", ".cache": "cache", ".hypothesis": "cache",
	".ipynb_checkpoints": "cache", ".idea": "editor", ".vscode-test": "editor", ".terraform": "installed packages",
}

// Load reads the project below root: [Open] and [Tree.Project] in one.
func Load(ctx context.Context, root string, opt Options) (*Project, error) {
	t, err := Open(ctx, root, opt)
	if err != nil {
		return nil, err
	}
	return t.Project(ctx)
}

// Tree is a project that has been read and not yet understood: names and
// bytes. It does not change.
type Tree struct {
	p    *Project // what needs no parser
	raw  []rawFile
	opt  Options
	data map[string][]byte
}

type rawFile struct {
	path string
	data []byte
}

// File returns the content of a file that was read, by its path relative to
// the root; nil if there is none.
func (t *Tree) File(name string) []byte { return t.data[name] }

// Project parses what was read. It is for one call: the project takes over
// what the tree holds.
func (t *Tree) Project(ctx context.Context) (*Project, error) {
	start := time.Now()
	p := &Project{names: pysyntax.NewInterner(), Root: t.p.Root, Other: t.p.Other, Skipped: t.p.Skipped, tracked: t.p.tracked, progress: t.opt.Progress}
	p.Files = make([]*File, len(t.raw))
	problems := make([][]Problem, len(t.raw))
	var next, done atomic.Int64
	var wg sync.WaitGroup
	for range min(t.opt.parallel(), max(len(t.raw), 1)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(t.raw) {
					return
				}
				p.Files[i] = newFile(t.raw[i].path, t.raw[i].data)
				problems[i] = p.Files[i].parse(p.names)
				t.opt.progress(Parsing, int(done.Add(1)), len(t.raw))
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.NotUnderstood = slices.Concat(problems...)
	p.sort()
	p.index()
	p.understood = make(chan struct{})
	if t.opt.Flow {
		go p.Flow(ctx)
	}
	p.understand()
	close(p.understood)
	p.took = t.p.took + time.Since(start)
	return p, ctx.Err()
}

// Open reads the files below root. A file that cannot be read is noted in the
// result; the error is for a root that cannot be read at all, and for ctx.
//
// Nothing outside root is opened, whatever symbolic links say, except git's
// index.
func Open(ctx context.Context, root string, opt Options) (*Tree, error) {
	start := time.Now()
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("cannot read the project: %w", err)
	}
	defer r.Close()
	for _, x := range opt.Exclude {
		if _, err := path.Match(x, ""); err != nil {
			return nil, fmt.Errorf("exclude pattern %q: %w", x, err)
		}
	}

	p := &Project{names: pysyntax.NewInterner(), Root: root}
	l := &loader{root: r, dir: root, opt: &opt, p: p}
	if l.maxSize = opt.MaxFileSize; l.maxSize <= 0 {
		l.maxSize = DefaultMaxFileSize
	}
	if l.maxTotal = opt.MaxTotalSize; l.maxTotal <= 0 {
		l.maxTotal = DefaultMaxTotalSize
	}
	if l.maxFiles = opt.MaxFiles; l.maxFiles <= 0 {
		l.maxFiles = DefaultMaxFiles
	}
	if l.real, err = filepath.EvalSymlinks(root); err != nil {
		return nil, fmt.Errorf("cannot read the project: %w", err)
	}
	if l.real, err = filepath.Abs(l.real); err != nil {
		return nil, fmt.Errorf("cannot read the project: %w", err)
	}
	if err := l.walk(ctx, "."); err != nil {
		return nil, err
	}
	l.overlay()
	t := &Tree{p: p, opt: opt}
	if t.raw, err = l.read(ctx); err != nil {
		return nil, err
	}
	p.sort()
	slices.SortFunc(t.raw, func(a, b rawFile) int { return strings.Compare(a.path, b.path) })
	t.data = make(map[string][]byte, len(t.raw))
	for _, f := range t.raw {
		t.data[f.path] = f.data
	}
	p.trackedBy(opt.Tracked)
	p.took = time.Since(start)
	return t, nil
}

// understand fills in what follows from the files: everything that [Load] and
// [Project.With] share.
func (p *Project) understand() {
	var sources []flask.Source
	// Documents of an API only say who answers where Connexion reads them.
	api := slices.ContainsFunc(p.Files, func(f *File) bool { return f.Python != nil && bytes.Contains(f.Data, []byte("connexion")) })
	for _, f := range p.Files {
		if f.Python != nil || f.Kind == Env || api && flask.IsOpenAPI(f.Path, f.Data) {
			sources = append(sources, flask.Source{Path: f.Path, Python: f.Python, Data: f.Data, Test: f.Test, Example: f.Example})
		}
	}
	p.Flask = flask.Analyze(sources)
	p.retypeTemplates()
}

// With returns the project as it is with other contents for the named files,
// which may be new. Nothing is read from disk, and what did not change is not
// parsed again. p stays as it is.
//
// Names that are no paths below the root, and contents that are no text, are
// left out; their size is the caller's business.
func (p *Project) With(contents map[string][]byte) *Project {
	start := time.Now()
	n := &Project{names: p.names, Root: p.Root, Other: p.Other, tracked: p.tracked, progress: p.progress}
	changed := func(name string) bool { _, ok := contents[name]; return ok }
	for _, f := range p.Files {
		if changed(f.Path) {
			continue
		}
		if f.Kind == Template { // as the settings of before had it
			f = &File{
				Path: f.Path, Kind: classify(f.Path, f.Data[:min(len(f.Data), 4096)]), Test: f.Test, Example: f.Example,
				Data: f.Data, Python: f.Python,
			}
		}
		n.Files = append(n.Files, f)
	}
	for _, q := range p.NotUnderstood {
		if !changed(q.Span.File) {
			n.NotUnderstood = append(n.NotUnderstood, q)
		}
	}
	for _, s := range p.Skipped {
		if !changed(s.Path) {
			n.Skipped = append(n.Skipped, s)
		}
	}
	for name, data := range contents {
		if !fs.ValidPath(name) || notText[strings.ToLower(path.Ext(name))] {
			continue
		}
		if looksBinary(data) {
			n.Skipped = append(n.Skipped, Skip{Path: name, Reason: "binary, in spite of its name"})
			continue
		}
		f := newFile(name, data)
		n.NotUnderstood = append(n.NotUnderstood, f.parse(n.names)...)
		n.Files = append(n.Files, f)
	}
	n.sort()
	n.index()
	n.understood = make(chan struct{})
	n.understand()
	close(n.understood)
	n.took = time.Since(start)
	return n
}

// sort puts every list of files into its fixed order.
func (p *Project) sort() {
	slices.Sort(p.Other)
	slices.SortFunc(p.Skipped, func(a, b Skip) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(p.Files, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(p.NotUnderstood, func(a, b Problem) int { return compareSpans(a.Span, b.Span) })
}

// InMemory returns a project of the given files that is nowhere on disk. See
// [Project.With] for what is left out.
func InMemory(contents map[string][]byte) *Project {
	p := &Project{names: pysyntax.NewInterner()}
	p.trackedBy(func(string) (bool, bool) { return false, false })
	return p.With(contents)
}

type candidate struct {
	path string
	link bool
}

type loader struct {
	root     *os.Root
	dir      string
	real     string
	opt      *Options
	p        *Project
	maxSize  int64
	maxTotal int64
	maxFiles int
	found    []candidate
	total    atomic.Int64
}

func (l *loader) skip(name, reason string, routine bool) {
	l.p.Skipped = append(l.p.Skipped, Skip{Path: name, Reason: reason, Routine: routine})
}

// walk collects the files below dir in the order of their names.
func (l *loader) walk(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := l.root.Open(dir)
	if err != nil {
		if dir == "." {
			return fmt.Errorf("cannot read the project: %w", err)
		}
		l.skip(dir, reason(err), false)
		return nil
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		if dir == "." {
			return fmt.Errorf("cannot read the project: %w", err)
		}
		l.skip(dir, reason(err), false) // what was listed is still read
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if pat, ok := l.excluded(name); ok {
			l.skip(name, fmt.Sprintf("excluded by the settings (%s)", pat), true)
			continue
		}
		switch t := e.Type(); {
		case t.IsDir():
			if why, ok := l.routine(name, e.Name(), names); ok {
				l.skip(name, why, true)
			} else if err := l.walk(ctx, name); err != nil {
				return err
			}
		case t&fs.ModeSymlink != 0:
			l.link(name)
		case t.IsRegular():
			l.add(candidate{path: name})
		default:
			// Opening a named pipe would wait for ever, a device may do worse.
			l.skip(name, "not a regular file", false)
		}
	}
	return nil
}

func (l *loader) add(c candidate) {
	switch {
	case notText[strings.ToLower(path.Ext(c.path))]:
		l.p.Other = append(l.p.Other, c.path)
	case len(l.found) >= l.maxFiles:
		l.skip(c.path, fmt.Sprintf("the project has more than %d files", l.maxFiles), false)
	default:
		l.found = append(l.found, c)
	}
}

// overlay adds the files that exist only in the overlay.
func (l *loader) overlay() {
	known := map[string]bool{}
	for _, c := range l.found {
		known[c.path] = true
	}
	for _, s := range l.p.Skipped {
		known[s.Path] = true
	}
	for _, name := range slices.Sorted(maps.Keys(l.opt.Overlay)) {
		if known[name] || name == "." || !fs.ValidPath(name) {
			continue
		}
		out := false
		for dir := name; dir != "." && !out; dir = path.Dir(dir) {
			_, out = l.excluded(dir)
			if dir != name && !out {
				_, out = l.routine(dir, path.Base(dir), nil)
			}
			out = out || known[dir] // a link, or not readable
		}
		if !out {
			l.add(candidate{path: name})
		}
	}
}

func (l *loader) excluded(name string) (string, bool) {
	for _, x := range l.opt.Exclude {
		pat := strings.TrimSuffix(strings.TrimPrefix(x, "./"), "/")
		if ok, _ := path.Match(pat, name); ok {
			return x, true
		}
		if !strings.Contains(pat, "/") {
			if ok, _ := path.Match(pat, path.Base(name)); ok {
				return x, true
			}
		}
		if base, ok := strings.CutSuffix(pat, "/**"); ok {
			if ok, _ := path.Match(base, name); ok {
				return x, true
			}
		}
	}
	return "", false
}

// routine reports whether a directory never holds the project's own code.
func (l *loader) routine(name, base string, siblings map[string]bool) (string, bool) {
	if why, ok := routineDirs[base]; ok {
		return why, true
	}
	if strings.HasSuffix(base, ".egg-info") || strings.HasSuffix(base, ".dist-info") {
		return "package metadata", true
	}
	if _, err := l.root.Lstat(path.Join(name, "pyvenv.cfg")); err == nil {
		return "virtual environment", true
	}
	// "build" and "dist" are output beside a build file, and ordinary
	// packages anywhere else.
	if (base == "build" || base == "dist") && (siblings["setup.py"] || siblings["pyproject.toml"] || siblings["package.json"]) {
		if _, err := l.root.Lstat(path.Join(name, "__init__.py")); err != nil {
			return "build output", true
		}
	}
	return "", false
}

// link decides about a symbolic link. What it points at inside the project
// is read where it lives, which also ends every loop; only a file that the
// link's name makes something else (.env -> settings.prod) is read again.
func (l *loader) link(name string) {
	to, err := filepath.EvalSymlinks(filepath.Join(l.dir, filepath.FromSlash(name)))
	if err == nil {
		to, err = filepath.Abs(to)
	}
	switch {
	case errors.Is(err, syscall.ELOOP) || err != nil && strings.Contains(err.Error(), "too many links"):
		l.skip(name, "a symbolic link that leads to itself", false)
		return
	case errors.Is(err, fs.ErrNotExist):
		l.skip(name, "a symbolic link to nothing", false)
		return
	case err != nil:
		l.skip(name, reason(err), false)
		return
	}
	rel, err := filepath.Rel(l.real, to)
	if err != nil || !filepath.IsLocal(rel) {
		l.skip(name, "a symbolic link that leaves the project", false)
		return
	}
	rel = filepath.ToSlash(rel)
	fi, err := os.Stat(to)
	switch {
	case err != nil:
		l.skip(name, reason(err), false)
	case fi.Mode().IsRegular() && classify(name, nil) != classify(rel, nil):
		l.add(candidate{path: name, link: true})
	default:
		l.skip(name, "a symbolic link to "+rel, true)
	}
}

// read reads the files found, several at once, and keeps their order.
func (l *loader) read(ctx context.Context) ([]rawFile, error) {
	type result struct {
		data  []byte
		skip  *Skip
		other bool
	}
	results := make([]result, len(l.found))
	var next, done atomic.Int64
	var wg sync.WaitGroup
	for range min(l.opt.parallel(), max(len(l.found), 1)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(l.found) {
					return
				}
				c := l.found[i]
				res := &results[i]
				l.opt.progress(Reading, int(done.Add(1)), len(l.found))
				data, why := l.content(c.path)
				if why == "" && looksBinary(data) {
					if classify(c.path, nil) == Text {
						res.other = true
						continue
					}
					why = "binary, in spite of its name"
				}
				if why != "" {
					res.skip = &Skip{Path: c.path, Reason: why}
					continue
				}
				res.data = data
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var files []rawFile
	for i, r := range results {
		switch {
		case r.other:
			l.p.Other = append(l.p.Other, l.found[i].path)
		case r.skip != nil:
			l.p.Skipped = append(l.p.Skipped, *r.skip)
		default:
			files = append(files, rawFile{l.found[i].path, r.data})
		}
	}
	return files, nil
}

// content returns the file's bytes, or why it was not read. The file may
// have changed into anything since it was listed: it is opened through the
// root, without waiting, and judged again.
func (l *loader) content(name string) ([]byte, string) {
	if data, ok := l.opt.Overlay[name]; ok {
		n := int64(len(data))
		if n > l.maxSize {
			return nil, fmt.Sprintf("%s is larger than the limit of %s", size(n), size(l.maxSize))
		}
		if l.total.Add(n) > l.maxTotal {
			l.total.Add(-n)
			return nil, fmt.Sprintf("the project is larger than the limit of %s", size(l.maxTotal))
		}
		return data, ""
	}
	f, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, reason(err)
	case !fi.Mode().IsRegular():
		return nil, "not a regular file"
	case fi.Size() > l.maxSize:
		return nil, fmt.Sprintf("%s is larger than the limit of %s", size(fi.Size()), size(l.maxSize))
	}
	if l.total.Add(fi.Size()) > l.maxTotal {
		l.total.Add(-fi.Size())
		return nil, fmt.Sprintf("the project is larger than the limit of %s", size(l.maxTotal))
	}
	var b bytes.Buffer
	b.Grow(int(fi.Size()) + bytes.MinRead)
	n, err := io.Copy(&b, io.LimitReader(f, l.maxSize+1))
	if err != nil {
		return nil, reason(err)
	}
	if n > l.maxSize {
		return nil, "grew beyond the limit while it was read"
	}
	return b.Bytes(), ""
}

func newFile(name string, data []byte) *File {
	f := &File{Path: name, Data: data, Test: isTest(name), Example: isExample(name)}
	f.Kind = classify(name, data[:min(len(data), 4096)])
	return f
}

// starts returns where the lines begin.
func (f *File) starts() []int {
	f.linesOnce.Do(func() {
		f.lines = append(make([]int, 0, bytes.Count(f.Data, []byte{'\n'})+1), 0)
		for i, c := range f.Data {
			if c == '\n' {
				f.lines = append(f.lines, i+1)
			}
		}
	})
	return f.lines
}

// parse parses Python and returns what it did not understand. The parser is
// built not to panic; should it, one bad file must not end the run.
func (f *File) parse(names *pysyntax.Interner) (problems []Problem) {
	if f.Kind != Python && f.Kind != GunicornConf {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			f.Python = nil
			problems = []Problem{{Span: Span{File: f.Path}, Message: fmt.Sprintf("the parser failed (%v): please report this file", r)}}
		}
	}()
	f.Python = names.Parse(f.Path, f.Data)
	for _, e := range f.Python.Errors {
		problems = append(problems, Problem{Span: Span{File: f.Path, Line: e.Line, Column: e.Col}, Message: e.Msg})
	}
	return problems
}

func (p *Project) index() {
	p.byPath = make(map[string]*File, len(p.Files))
	for _, f := range p.Files {
		p.byPath[f.Path] = f
	}
}

// File returns the file with a path relative to the root, or nil.
func (p *Project) File(name string) *File { return p.byPath[name] }

// Tracked reports whether git keeps path under version control. known is
// false where there is no repository or its index is not understood; a rule
// must not take that for an answer.
func (p *Project) Tracked(path string) (tracked, known bool) { return p.tracked(path) }

func (p *Project) trackedBy(f func(string) (bool, bool)) {
	if f != nil {
		p.tracked = f
		return
	}
	p.gitIndex = sync.OnceValues(func() (map[string]bool, error) { return gitTracked(p.Root) })
	p.tracked = func(name string) (bool, bool) {
		all, err := p.gitIndex()
		return all[name], err == nil
	}
}

// retypeTemplates finds the templates that live in a folder only the app's
// own settings name.
func (p *Project) retypeTemplates() {
	for _, dir := range p.Flask.TemplateFolders() {
		i := sort.Search(len(p.Files), func(i int) bool { return p.Files[i].Path >= dir+"/" })
		for ; i < len(p.Files) && strings.HasPrefix(p.Files[i].Path, dir+"/"); i++ {
			if p.Files[i].Kind == HTML {
				p.Files[i].Kind = Template
			}
		}
	}
}

// reason turns an error into words without the path, which stands beside it.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return "cannot be read: " + err.Error()
}

func size(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// ---- places in a file ----

// LineCount returns the number of lines.
func (f *File) LineCount() int {
	n := bytes.Count(f.Data, []byte{'\n'})
	if len(f.Data) > 0 && f.Data[len(f.Data)-1] == '\n' {
		return n
	}
	return n + 1
}

// Line returns the text of a line, counted from 1, without its end; empty
// for a line that does not exist.
func (f *File) Line(n int) string {
	if n < 1 || n > len(f.starts()) {
		return ""
	}
	end := len(f.Data)
	if n < len(f.starts()) {
		end = f.starts()[n]
	}
	return strings.TrimRight(string(f.Data[f.starts()[n-1]:end]), "\r\n")
}

// Position returns the line and the column, in characters, of a byte offset
// into Data.
func (f *File) Position(offset int) (line, column int) {
	offset = max(0, min(offset, len(f.Data)))
	line = sort.SearchInts(f.starts(), offset+1)
	return line, 1 + utf8.RuneCount(f.Data[f.starts()[line-1]:offset])
}

// SpanAt returns the span of a range of bytes in Data.
func (f *File) SpanAt(start, end int) Span {
	s := Span{File: f.Path}
	s.Line, s.Column = f.Position(start)
	s.EndLine, s.EndColumn = f.Position(max(start, end))
	return s
}

// LineSpan returns the span of the text on a line, without its indentation.
func (f *File) LineSpan(n int) Span {
	if n < 1 || n > len(f.starts()) {
		return Span{File: f.Path}
	}
	text := f.Line(n)
	trimmed := strings.TrimLeft(text, " \t")
	start := f.starts()[n-1] + len(text) - len(trimmed)
	return f.SpanAt(start, start+len(strings.TrimRight(trimmed, " \t")))
}

func compareSpans(a, b Span) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		cmp.Compare(a.EndLine, b.EndLine), cmp.Compare(a.EndColumn, b.EndColumn))
}
