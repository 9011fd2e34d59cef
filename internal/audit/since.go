package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" // git's name of a file's content; no security hangs on it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"
)

// Changes are the lines of a project that are not as they were at a revision.
type Changes struct {
	Revision string // as asked for
	Base     string // the commit compared with: the merge base of Revision and HEAD

	lines map[string][][2]int // changed lines of files, first and last; nil for the whole file
	known map[string]bool     // files that were compared
}

// maxOld bounds what is read of one revision's list of files, and of one file.
const (
	maxOldTree = 256 << 20
	maxOldFile = 32 << 20
	maxRenames = 300 // files on either side that are compared for a rename
)

// Since compares the files of a tree, read from root, with where the branch
// left rev. What git has no older version of is changed as a whole: new,
// untracked and ignored files. A file that moved is compared with what it was
// called before: the same content, or half of its lines.
//
// Only git's objects are asked for, by commands that read no work tree: the
// filters, hooks, monitors and diff programs that a hostile repository could
// name are never run, and nothing is fetched.
func Since(ctx context.Context, root, rev string, file func(string) []byte, names []string) (*Changes, error) {
	if rev == "" || strings.HasPrefix(rev, "-") || strings.ContainsAny(rev, "\x00\r\n") {
		return nil, fmt.Errorf("--since: %q is no revision: write a branch, a tag or a commit, such as origin/main", rev)
	}
	g := &git{ctx: ctx, root: root}
	var err error
	if g.exe, err = exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("--since needs git, which is not to be found: install it, or leave --since out (%w)", err)
	}
	prefix, err := g.line("rev-parse", "--show-prefix")
	if err != nil {
		return nil, fmt.Errorf("--since: %s is not in the work tree of a git repository that git would use: %w", root, err)
	}
	shallow := ""
	if s, err := g.line("rev-parse", "--is-shallow-repository"); err == nil && s == "true" {
		shallow = "; the clone is shallow: fetch the rest with git fetch --unshallow (in GitHub's checkout action: fetch-depth: 0)"
	}
	commit, err := g.line("rev-parse", "--verify", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("--since: git knows no commit %q: write a branch, a tag or a commit that is here (git fetch brings others)%s", rev, shallow)
	}
	head, err := g.line("rev-parse", "--verify", "--end-of-options", "HEAD^{commit}")
	if err != nil {
		return nil, errors.New("--since: the branch has no commit yet: leave --since out")
	}
	base, err := g.line("merge-base", "--end-of-options", commit, head)
	if err != nil {
		return nil, fmt.Errorf("--since: %q and HEAD have no commit in common%s", rev, shallow)
	}
	out, err := g.run(nil, maxOldTree, "ls-tree", "-r", "-z", "--full-tree", "--end-of-options", base)
	if err != nil {
		return nil, fmt.Errorf("--since: the files of %s cannot be listed: %w", base, err)
	}
	old := map[string]string{} // object by path relative to root
	for entry := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(entry, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 3 || f[1] != "blob" || f[0] == "120000" {
			continue
		}
		if in, ok := strings.CutPrefix(name, prefix); ok {
			old[in] = f[2]
		}
	}
	c := &Changes{Revision: rev, Base: base, lines: map[string][][2]int{}, known: map[string]bool{}}
	var changed, added []string
	ids := map[string]string{}
	present := map[string]bool{}
	for _, name := range names {
		present[name] = true
		c.known[name] = true
		ids[name] = blobID(file(name), len(base) == 64)
		switch id, ok := old[name]; {
		case !ok:
			added = append(added, name)
		case id != ids[name]:
			changed = append(changed, name)
		}
	}
	// What went away may have moved.
	var gone []string
	byID := map[string]string{}
	for name, id := range old {
		if present[name] {
			continue
		}
		if _, err := os.Lstat(root + string(os.PathSeparator) + name); err == nil {
			continue // there, but not read
		}
		gone = append(gone, name)
		byID[id] = name
	}
	slices.Sort(gone)
	// One file moves to one place: others like it are copies, and new.
	added = slices.DeleteFunc(added, func(name string) bool {
		was, moved := byID[ids[name]]
		if moved = moved && len(file(name)) > 0; moved {
			delete(byID, ids[name])
			gone = slices.DeleteFunc(gone, func(g string) bool { return g == was })
		}
		return moved
	})
	var want []string
	for _, name := range changed {
		want = append(want, old[name])
	}
	if len(gone) <= maxRenames && len(added) <= maxRenames {
		for _, name := range gone {
			want = append(want, old[name])
		}
	} else {
		gone = nil
	}
	before, err := g.blobs(want)
	if err != nil {
		return nil, fmt.Errorf("--since: the files of %s cannot be read: %w%s", base, err, shallow)
	}
	for _, name := range changed {
		if was, ok := before[old[name]]; ok {
			c.lines[name] = changedLines(was, file(name))
		} else {
			c.lines[name] = nil
		}
	}
	for _, name := range added {
		c.lines[name] = nil
		if was := movedFrom(name, file(name), gone, old, before); was != "" {
			c.lines[name] = changedLines(before[old[was]], file(name))
			gone = slices.DeleteFunc(gone, func(g string) bool { return g == was })
		}
	}
	return c, nil
}

// movedFrom returns the name that a new file went by, if one that is gone
// shares half of its lines; "" otherwise.
func movedFrom(name string, now []byte, gone []string, old map[string]string, before map[string][]byte) (best string) {
	count := map[string]int{}
	n := 0
	for line := range bytes.Lines(now) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			count[string(line)]++
			n++
		}
	}
	score := 0
	for _, g := range gone {
		was, there := before[old[g]]
		if !there || path.Ext(g) != path.Ext(name) {
			continue
		}
		left, m, same := map[string]int{}, 0, 0
		for line := range bytes.Lines(was) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				m++
				if left[string(line)] < count[string(line)] {
					left[string(line)]++
					same++
				}
			}
		}
		if same*2 >= max(n, m) && same > score {
			best, score = g, same
		}
	}
	return best
}

// changedLines returns the lines of now that are not in was. Where lines went
// away, those before and after them count: what guarded them may be gone.
func changedLines(was, now []byte) [][2]int {
	plain := func(b []byte) string { return strings.ReplaceAll(string(b), "\r\n", "\n") }
	before := plain(was)
	out := [][2]int{} // not nil, which is the whole file
	moved, at, line := 0, 0, 1
	for _, e := range udiff.Lines(before, plain(now)) {
		line += strings.Count(before[at:e.Start], "\n")
		n := strings.Count(e.New, "\n")
		if e.New != "" && !strings.HasSuffix(e.New, "\n") {
			n++
		}
		first := line + moved
		last := first + n - 1
		if e.End > e.Start && n == 0 {
			first, last = first-1, first
		}
		out = append(out, [2]int{first, last})
		lost := strings.Count(before[e.Start:e.End], "\n")
		moved += strings.Count(e.New, "\n") - lost
		line += lost
		at = e.End
	}
	return out
}

// Touches reports whether a finding's own place, or a step of its trace, lies
// on a changed line. A finding about a whole file counts if the file changed,
// one about the project always.
func (c *Changes) Touches(f *Finding) bool {
	if !c.known[f.Span.File] || c.span(f.Span) { // not known: the project, or what could not be compared
		return true
	}
	for _, s := range f.Trace {
		if c.span(s.Span) {
			return true
		}
	}
	return false
}

func (c *Changes) span(s Span) bool {
	lines, changed := c.lines[s.File]
	switch {
	case !changed:
		return false
	case lines == nil || s.Line == 0:
		return true
	}
	last := max(s.EndLine, s.Line)
	if s.EndColumn == 1 && last > s.Line {
		last-- // the end is exclusive
	}
	for _, l := range lines {
		if l[0] <= last && s.Line <= l[1] {
			return true
		}
	}
	return false
}

// Only leaves the findings that c touches, and returns how many others there
// were that count. The outcomes of the rules stay those of the whole project.
func (r *Result) Only(c *Changes) (elsewhere int) {
	keep := func(in []Finding) (out []Finding) {
		for i := range in {
			if c.Touches(&in[i]) {
				out = append(out, in[i])
			}
		}
		return out
	}
	n := len(r.Findings)
	r.Findings, r.Suppressed = keep(r.Findings), keep(r.Suppressed)
	return n - len(r.Findings)
}

// Names returns the files that were read, sorted.
func (t *Tree) Names() []string {
	out := make([]string, len(t.raw))
	for i, f := range t.raw {
		out[i] = f.path
	}
	return out
}

func blobID(data []byte, wide bool) string {
	head := "blob " + strconv.Itoa(len(data)) + "\x00"
	if wide {
		h := sha256.New()
		io.WriteString(h, head)
		h.Write(data)
		return hex.EncodeToString(h.Sum(nil))
	}
	h := sha1.New()
	io.WriteString(h, head)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// git runs git's plumbing in a repository that is not trusted.
type git struct {
	ctx       context.Context
	root, exe string
}

func (g *git) line(args ...string) (string, error) {
	out, err := g.run(nil, 1<<20, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// run returns what a command writes, at most limit bytes.
func (g *git) run(stdin []byte, limit int64, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(g.ctx, 2*time.Minute)
	defer cancel()
	safe := []string{"--no-pager", "--literal-pathspecs", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=" + os.DevNull, "-c", "protocol.allow=never"}
	cmd := exec.CommandContext(ctx, g.exe, append(safe, args...)...)
	cmd.Dir = g.root
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(stdin)
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		// A hook's environment speaks of its own repository; settings that
		// the user gives stay (safe.directory).
		if !strings.HasPrefix(name, "GIT_") || strings.HasPrefix(name, "GIT_CONFIG") || name == "GIT_EXEC_PATH" || name == "GIT_CEILING_DIRECTORIES" {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1", "GIT_NO_REPLACE_OBJECTS=1",
		"GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0")
	var said bytes.Buffer
	cmd.Stderr = &said
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(pipe, limit+1))
	if err == nil && int64(len(out)) > limit {
		err = fmt.Errorf("git %s writes more than %s", args[0], size(limit))
	}
	if err != nil {
		cancel()
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		text := strings.Join(strings.Fields(said.String()), " ")
		err = fmt.Errorf("git %s: %w: %q", args[0], werr, text[:min(len(text), 500)])
	}
	return out, err
}

// blobs returns the contents of objects. Those too large are left out.
func (g *git) blobs(ids []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	if len(ids) == 0 {
		return out, nil
	}
	data, err := g.run([]byte(strings.Join(ids, "\n")+"\n"), 2*maxOldTree, "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(bytes.NewReader(data))
	for range ids {
		head, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("git cat-file ended too early: %w", err)
		}
		f := strings.Fields(head)
		if len(f) != 3 || f[1] != "blob" {
			return nil, fmt.Errorf("git has no object %q: fetch it (a partial clone leaves files out)", strings.TrimSpace(head))
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || n < 0 || n > int64(len(data)) {
			return nil, fmt.Errorf("git cat-file: %q is not understood", strings.TrimSpace(head))
		}
		b := make([]byte, n+1)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("git cat-file ended too early: %w", err)
		}
		if n <= maxOldFile {
			out[f[0]] = b[:n]
		}
	}
	return out, nil
}
