package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Cache keeps what audits found, so that an audit of a tree that did not
// change reads it and runs nothing.
//
// An entry is named by a hash over everything that its content follows from:
// the program, the rules, the limits, git's index, and the name and content of
// every file that was read or the reason why it was not. The files are read
// and hashed each time; times and sizes are not believed. The baseline and
// --since are applied to what comes from the cache as to what does not.
//
// The folder and its entries have to belong to the user and to be writable by
// nobody else; links are not followed. An entry that is damaged, or that says
// what cannot be, is as good as none.
type Cache struct {
	// Dir is the folder, which is made when first needed.
	Dir string
	// Program names the program so exactly that another one has another name:
	// a hash over the executable. See [ProgramID].
	Program string
	// MaxBytes and MaxEntries bound the folder; the entries not used for
	// longest go first. 0 means 128 MiB and 256.
	MaxBytes   int64
	MaxEntries int
	// Note is told once why the cache could not be used; nil for nobody.
	Note func(string)
}

const (
	cacheFormat   = "dewar audit cache 1\n"
	maxCacheEntry = 64 << 20
)

var cacheName = regexp.MustCompile(`^[0-9a-f]{64}\.audit$`)

// ProgramID returns a hash over the running executable. Version numbers would
// not do: two builds of one version may know different things.
func ProgramID() (string, error) {
	// On Linux this is the file that runs, also when another one has taken
	// its name since.
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		name, err := os.Executable()
		if err != nil {
			return "", err
		}
		if f, err = os.Open(name); err != nil {
			return "", err
		}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Run is [Run] for a tree: it takes the result from the cache where that is
// proven to be the same, and understands the tree where it is not. A nil cache
// holds nothing. The error is that of [Tree.Project].
func (c *Cache) Run(ctx context.Context, t *Tree, rules []*Rule, opt Options) (*Result, error) {
	start := time.Now()
	var key [sha256.Size]byte
	var dir *os.Root
	if c != nil {
		var err error
		if key, err = t.key(c.Program, rules, &opt); err == nil {
			if dir, err = c.open(); err == nil {
				defer dir.Close()
			}
		}
		if err != nil {
			c.note("the cache is not used: " + err.Error())
		}
	}
	if dir != nil {
		l, since, err := c.get(dir, key, t, rules, &opt)
		if err == nil {
			r := l.result(&opt)
			r.Cached = since
			r.Stats.Duration = t.p.took + time.Since(start)
			return r, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errOtherDay) {
			c.note("an entry of the cache is not used: " + err.Error())
		}
	}
	p, err := t.Project(ctx)
	if err != nil {
		return nil, err
	}
	l := look(ctx, p, rules, &opt)
	if dir != nil && ctx.Err() == nil && !l.panicked {
		if err := c.put(dir, key, l, start); err != nil {
			c.note("the result is not kept in the cache: " + err.Error())
		}
	}
	r := l.result(&opt)
	r.Stats.Duration = t.p.took + time.Since(start)
	return r, nil
}

func (c *Cache) note(s string) {
	if c.Note != nil {
		c.Note(s)
	}
}

// key hashes everything that the rules' findings follow from. Every part has
// its length before it, so that no two lists of parts look alike.
func (t *Tree) key(program string, rules []*Rule, opt *Options) (sum [sha256.Size]byte, err error) {
	if t.opt.Tracked != nil {
		return sum, errors.New("what git tracks is told by a function")
	}
	if program == "" {
		return sum, errors.New("the program has no name")
	}
	sums := make([][sha256.Size]byte, len(t.raw))
	var wg sync.WaitGroup
	n := opt.parallel()
	for w := range n {
		wg.Go(func() {
			for i := w; i < len(t.raw); i += n {
				sums[i] = sha256.Sum256(t.raw[i].data)
			}
		})
	}
	wg.Wait()

	h := sha256.New()
	k := keyer{h}
	k.text(cacheFormat, program)
	ids := make([]string, 0, len(rules))
	for _, r := range rules {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	k.list(ids)
	known := slices.Clone(opt.known(rules)) // its order decides which id is suggested
	k.list(known)
	k.list(t.opt.Exclude)
	k.number(t.opt.MaxFileSize, t.opt.MaxTotalSize, int64(t.opt.MaxFiles))
	k.number(int64(len(t.raw)))
	for i, f := range t.raw {
		k.text(f.path)
		h.Write(sums[i][:])
	}
	k.list(t.p.Other)
	k.number(int64(len(t.p.Skipped)))
	for _, s := range t.p.Skipped {
		k.text(s.Path, s.Reason, fmt.Sprint(s.Routine))
	}
	tracked, err := t.p.gitIndex()
	if err != nil {
		k.text("not tracked") // whatever the reason is, no rule is told
		return [sha256.Size]byte(h.Sum(nil)), nil
	}
	k.text("tracked")
	k.list(slices.Sorted(maps.Keys(tracked)))
	return [sha256.Size]byte(h.Sum(nil)), nil
}

type keyer struct{ h hash.Hash }

func (k keyer) number(all ...int64) {
	for _, n := range all {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		k.h.Write(b[:])
	}
}

func (k keyer) text(all ...string) {
	for _, s := range all {
		k.number(int64(len(s)))
		io.WriteString(k.h, s)
	}
}

func (k keyer) list(all []string) {
	k.number(int64(len(all)))
	k.text(all...)
}

// open makes the folder if need be and opens it, unless somebody else could
// have put something there.
func (c *Cache) open() (*os.Root, error) {
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	fi, err := os.Lstat(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := private(c.Dir, fi, fs.ModeDir, 0o022); err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, err
	}
	if now, err := r.Stat("."); err != nil || !os.SameFile(fi, now) {
		r.Close()
		return nil, fmt.Errorf("%s was replaced just now", c.Dir)
	}
	return r, nil
}

// private refuses what is not of the kind, is not the user's own, or has one
// of the bits of others.
func private(name string, fi fs.FileInfo, kind, others fs.FileMode) error {
	switch {
	case fi.Mode().Type() != kind && kind == fs.ModeDir:
		return fmt.Errorf("%s is not a folder: remove it", name)
	case fi.Mode().Type() != kind:
		return fmt.Errorf("%s is not a regular file: remove it", name)
	case !ownFile(fi):
		return fmt.Errorf("%s belongs to somebody else: remove it, or set XDG_CACHE_HOME", name)
	case checksMode && fi.Mode().Perm()&others != 0:
		return fmt.Errorf("%s may be used by others (mode %#o): remove it, or take their rights away", name, fi.Mode().Perm())
	}
	return nil
}

func entryName(key [sha256.Size]byte) string { return hex.EncodeToString(key[:]) + ".audit" }

// errOtherDay means that a suppression has run out, or is back, since the
// entry was made.
var errOtherDay = errors.New("a suppression ended since")

func (c *Cache) get(dir *os.Root, key [sha256.Size]byte, t *Tree, rules []*Rule, opt *Options) (*looked, time.Time, error) {
	name := entryName(key)
	full := filepath.Join(c.Dir, name)
	f, err := dir.OpenFile(name, os.O_RDONLY|plainFile, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := private(full, fi, 0, 0o077); err != nil {
		return nil, time.Time{}, err
	}
	if fi.Size() > maxCacheEntry {
		return nil, time.Time{}, fmt.Errorf("%s is too large", full)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCacheEntry+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	now := opt.Now
	if now.IsZero() {
		now = time.Now()
	}
	l, since, err := decodeLooked(data, key, t, rules, now)
	if err != nil && !errors.Is(err, errOtherDay) {
		err = fmt.Errorf("%s: %w", full, err)
	}
	if err == nil {
		_ = dir.Chtimes(name, time.Now(), time.Now()) // used: see evict
	}
	return l, since, err
}

// put writes an entry whole or not at all, then makes room.
func (c *Cache) put(dir *os.Root, key [sha256.Size]byte, l *looked, now time.Time) error {
	data, err := encodeLooked(l, key, now)
	if err != nil {
		return err
	}
	if len(data) > maxCacheEntry {
		return fmt.Errorf("it is larger than %s", size(maxCacheEntry))
	}
	tmp := fmt.Sprintf("tmp-%d-%d", os.Getpid(), now.UnixNano())
	f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dir.Remove(tmp) // gone already when all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := dir.Rename(tmp, entryName(key)); err != nil {
		return err
	}
	return c.evict(dir, entryName(key))
}

// evict removes the entries not used for longest, down to the bounds, and
// what killed runs left behind. Names that are not ours stay.
func (c *Cache) evict(dir *os.Root, keep string) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := d.Readdir(-1)
	if err != nil {
		return err
	}
	var total int64
	var entries []fs.FileInfo
	for _, fi := range all {
		switch {
		case strings.HasPrefix(fi.Name(), "tmp-") && time.Since(fi.ModTime()) > time.Hour:
			_ = dir.Remove(fi.Name())
		case cacheName.MatchString(fi.Name()):
			total += fi.Size()
			entries = append(entries, fi)
		}
	}
	slices.SortFunc(entries, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	n := len(entries)
	for _, fi := range entries {
		if total <= cmp.Or(c.MaxBytes, 128<<20) && n <= cmp.Or(c.MaxEntries, 256) {
			break
		}
		if fi.Name() != keep {
			if err := dir.Remove(fi.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			total -= fi.Size()
			n--
		}
	}
	return nil
}

// cached is an entry's content: [looked] without the rules' text, which is the
// program's, and without what the tree says.
type cached struct {
	Made     time.Time
	Findings []cachedFinding
	Notices  []Notice
	Problems []Problem
	Outcomes []cachedOutcome
	Stats    Stats
	Holds    []suppressionEnd
}

type cachedFinding struct {
	ID string
	Finding
	Rule       *struct{} `json:",omitempty"` // hides Finding.Rule
	Confidence uint8     // hides Finding.Confidence, whose 0 is no word
}

type cachedOutcome struct {
	ID      string
	Outcome evidence.Outcome
	Reason  string
}

// encodeLooked writes the format's name, the key, a checksum and JSON.
func encodeLooked(l *looked, key [sha256.Size]byte, now time.Time) ([]byte, error) {
	c := cached{Made: now.UTC().Truncate(time.Second), Notices: l.notices, Problems: l.problems, Stats: l.stats, Holds: l.holds}
	for _, f := range l.findings {
		e := cachedFinding{ID: f.Rule.ID, Finding: f, Confidence: uint8(f.Confidence)}
		c.Findings = append(c.Findings, e)
	}
	for _, o := range l.outcomes {
		c.Outcomes = append(c.Outcomes, cachedOutcome{o.Rule.ID, o.Outcome, o.Reason})
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return slices.Concat([]byte(cacheFormat), key[:], sum[:], text), nil
}

// decodeLooked reads an entry. The checksum finds damage; the rest is checked
// against the tree, since the code that shows findings believes them.
func decodeLooked(data []byte, key [sha256.Size]byte, t *Tree, rules []*Rule, now time.Time) (*looked, time.Time, error) {
	bad := errors.New("damaged, so it is made anew")
	rest, ok := bytes.CutPrefix(data, []byte(cacheFormat))
	if !ok || len(rest) < 2*sha256.Size || !bytes.Equal(rest[:sha256.Size], key[:]) {
		return nil, time.Time{}, bad
	}
	want, text := rest[sha256.Size:2*sha256.Size], rest[2*sha256.Size:]
	if got := sha256.Sum256(text); !bytes.Equal(got[:], want) {
		return nil, time.Time{}, bad
	}
	var c cached
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || d.More() {
		return nil, time.Time{}, bad
	}
	for _, h := range c.Holds {
		s := suppression{until: h.Until}
		if s.expired(now) != h.Over {
			return nil, time.Time{}, errOtherDay
		}
	}
	byID := map[string]*Rule{}
	l := &looked{rules: slices.Clone(rules), notices: c.Notices, skips: t.p.Skipped, problems: c.Problems, stats: c.Stats, holds: c.Holds}
	slices.SortStableFunc(l.rules, func(a, b *Rule) int { return strings.Compare(a.ID, b.ID) })
	if len(c.Outcomes) != len(l.rules) {
		return nil, time.Time{}, bad
	}
	for i, o := range c.Outcomes {
		if o.ID != l.rules[i].ID {
			return nil, time.Time{}, bad
		}
		byID[o.ID] = l.rules[i]
		l.outcomes = append(l.outcomes, RuleOutcome{Rule: l.rules[i], Outcome: o.Outcome, Reason: o.Reason})
	}
	for _, e := range c.Findings {
		f := e.Finding
		f.Confidence = Confidence(e.Confidence)
		if f.Rule = byID[e.ID]; f.Rule == nil || !f.sane(t) {
			return nil, time.Time{}, bad
		}
		l.findings = append(l.findings, f)
	}
	return l, c.Made, nil
}

// sane reports whether a finding can be one of t.
func (f *Finding) sane(t *Tree) bool {
	span := func(s Span) bool { return min(s.Line, s.Column, s.EndLine, s.EndColumn) >= 0 }
	ok := span(f.Span) && f.Confidence <= Certain && (f.Suppressed == nil || span(f.Suppressed.Span))
	for _, s := range slices.Concat(f.Related, f.Trace) {
		ok = ok && span(s.Span)
	}
	for _, e := range f.Edits {
		ok = ok && 0 <= e.Start && e.Start <= e.End && e.End <= len(t.File(e.File))
	}
	return ok
}
