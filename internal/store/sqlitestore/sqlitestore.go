// Package sqlitestore is the [store.Store] of one node: bans, sessions and
// lockouts outlive the process, in one SQLite file.
//
// All values are in memory ([store.Memory], bounded as it is) and requests
// read them there. A change is made in memory and in the file within one
// transaction, several at once, and answered when that is committed; when it
// cannot be, it is taken back in memory, where others may have read it for that
// moment. Rate-limit buckets are in memory only: a restart forgives what a
// minute would have forgiven.
//
// What a crash costs: of the process, nothing that was answered. Of the
// machine (power), at most the last second, and nothing that [Store.Sync]
// waited for; bans and ended sessions are waited for. The file is never in
// between two states.
//
// Two processes may have the file open while one takes over from the other:
// each sees the other's changes, in order, within a tenth of a second, and
// before each change of its own. A file that is damaged is set aside and said
// so, and the store begins anew: it never stops the guard from starting.
//
// SQLite and not bbolt, because of those two processes (bbolt locks its file
// as a whole) and because of the cost: a change that is synced costs 0.09 ms
// of CPU and 0.15 ms of waiting against 0.19 and 1.8 ms (measured on one
// machine with 200-byte values). One in a batch of a hundred costs 3 µs against
// 11 µs, which is not the same thing: SQLite has written it there and syncs it
// within the second, as is enough for what nobody waits for, and bbolt syncs
// every transaction. It makes the program 4 MB larger.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"modernc.org/sqlite"

	"github.com/dewar-security/dewar/internal/store"
)

// Options say where the store is. Path is required.
type Options struct {
	// Path is the file. Its folder must exist and be private: whoever can
	// write there can end bans, whoever can read it sees who is banned.
	Path string
	// Memory bounds what is kept.
	Memory store.MemoryOptions
	// TakingOver says that another process has the file open and is about to
	// end. Without it a file that is open elsewhere is an error.
	TakingOver bool
	// Warn is told what the operator has to know: that a damaged file was set
	// aside. It may be called at any time; nil means nobody is.
	Warn func(message string)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ErrInUse reports that another process has the file.
var ErrInUse = errors.New("another process has the store's file open")

// A Store keeps its values in a file. Make one with [Open].
type Store struct {
	*store.Memory
	o    Options
	lock *os.File // nil while another process has it

	calls  chan *call
	closed chan struct{} // closed when Close is called
	done   chan struct{} // closed when the writer has ended
	once   sync.Once
	err    error // of closing
	failed atomic.Pointer[error]

	// The writer's own.
	db       *sql.DB
	conn     *sql.Conn
	insert   *sql.Stmt
	seen     int64 // number of the last row known
	version  int64 // of the data as this connection knows it
	unsynced bool
	swept    int64 // how far the search for expired rows is
	broken   error // why the file cannot be used
}

var _ store.Store = (*Store)(nil)

// call is one change on its way to the file.
type call struct {
	ctx context.Context
	// do says what shall be, and keep when all stays as it is. It sees what
	// the calls before it did.
	do   func() (r store.Record, keep bool, err error)
	sync bool // wait until the disk has it
	done chan error

	mu       sync.Mutex // held while do runs
	gone     bool       // nobody waits any more: do must not run
	panicked any
}

// run calls do, unless its caller has gone: what do writes to may be in use
// again.
func (c *call) run() (r store.Record, keep bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.ctx.Err() != nil {
		return r, true, fmt.Errorf("%w: %w", store.ErrUnavailable, context.Cause(c.ctx))
	}
	if c.do == nil {
		return r, true, nil
	}
	defer func() {
		if p := recover(); p != nil {
			// It is the caller's, and goes on there.
			c.panicked, keep, err = p, true, errPanicked
		}
	}()
	return c.do()
}

var errPanicked = errors.New("the change panicked")

// leave returns the error of a caller that cannot wait longer.
func (c *call) leave() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	return fmt.Errorf("%w: %w", store.ErrUnavailable, context.Cause(c.ctx))
}

const (
	batch     = 256
	syncEvery = time.Second
	lookEvery = 100 * time.Millisecond
	// tombLife is how long a deletion stays in the file, for the other
	// process to see it.
	tombLife = time.Minute
	// sweepRows is how many rows one search for expired ones looks at.
	sweepRows = 2000
	// keepDamaged is how many damaged files are kept: a disk that damages one
	// after the other must not be filled with them, too.
	keepDamaged = 3
)

// FileName is what the file is best called. It says the version of its layout:
// another layout is another file, so that an upgrade can be undone.
const FileName = "store-1.sqlite"

// Open opens the store, or makes it.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	o.Memory.Now = o.Now
	s := &Store{Memory: store.NewMemory(o.Memory), o: o, calls: make(chan *call, batch), closed: make(chan struct{}), done: make(chan struct{})}
	if err := s.claim(); err != nil {
		return nil, err
	}
	if s.lock == nil && !o.TakingOver {
		return nil, fmt.Errorf("%s: %w", o.Path, ErrInUse)
	}
	err := s.load()
	if damaged(err) {
		err = s.startAnew(err)
	}
	if err != nil {
		s.shut()
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	go s.write()
	return s, nil
}

// claim tries to lock the file against other processes.
func (s *Store) claim() error {
	if s.lock != nil {
		return nil
	}
	f, err := os.OpenFile(s.o.Path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil
		}
		return fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	s.lock = f
	return nil
}

// damaged reports whether an error says that the file is none of SQLite's, or
// not a whole one.
func damaged(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	const corrupt, notADB, ioShortRead = 11, 26, 522
	return e.Code()&0xff == corrupt || e.Code()&0xff == notADB || e.Code() == ioShortRead
}

var errDamaged = errors.New("damaged")

// open opens the file and makes what is missing in it.
func (s *Store) open() error {
	// SQLite gives its other files the mode of this one. A file that is there
	// is only looked at: closing it would end the locks of another
	// connection of this process (POSIX).
	f, err := os.OpenFile(s.o.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(s.o.Path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("other users can read it, or it is no file (%v): chmod 600 it, or take it away", st.Mode())
	}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: s.o.Path}).EscapedPath(), RawQuery: url.Values{
		"_pragma": {"busy_timeout(2000)", "journal_mode(WAL)", "synchronous(NORMAL)", "trusted_schema(OFF)", "cell_size_check(ON)"},
	}.Encode()}).String()
	if s.db, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	ctx := context.Background()
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	var mode, check string
	if err := s.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system cannot do write-ahead logging (journal mode %s)", mode)
	}
	if err := s.conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&check); err != nil {
		return err
	}
	if check != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, check)
	}
	for _, q := range []string{
		// A row is never changed: what is put again is a new one, so that
		// the numbers tell what is new.
		`CREATE TABLE IF NOT EXISTS entries (
			number  INTEGER PRIMARY KEY AUTOINCREMENT,
			once    INTEGER NOT NULL,
			key     BLOB NOT NULL,
			value   BLOB NOT NULL,
			gone    INTEGER NOT NULL,
			expires INTEGER NOT NULL,
			UNIQUE (once, key) ON CONFLICT REPLACE)`,
		`CREATE TABLE IF NOT EXISTS synced (id INTEGER PRIMARY KEY, at INTEGER NOT NULL)`,
	} {
		if _, err := s.conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	s.insert, err = s.conn.PrepareContext(ctx, "INSERT INTO entries (once, key, value, gone, expires) VALUES (?, ?, ?, ?, ?)")
	return err
}

// load opens the file and reads all of it.
func (s *Store) load() error {
	if err := s.open(); err != nil {
		return err
	}
	s.seen = 0
	return s.learn(true)
}

// learn reads the rows that this process does not know.
func (s *Store) learn(all bool) error {
	ctx := context.Background()
	if err := s.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&s.version); err != nil {
		return err
	}
	rows, err := s.conn.QueryContext(ctx, "SELECT number, once, key, value, gone, expires FROM entries WHERE number > ? ORDER BY number", s.seen)
	if err != nil {
		return err
	}
	defer rows.Close()
	now, lost := s.o.Now(), 0
	for rows.Next() {
		var number, expires int64
		var once, gone bool
		var key, value []byte
		if err := rows.Scan(&number, &once, &key, &value, &gone, &expires); err != nil {
			return err
		}
		s.seen = max(s.seen, number)
		r := store.Record{Once: once, Key: string(key), Value: value}
		if !gone {
			r.Expires = time.Unix(0, expires)
		}
		if all && !now.Before(r.Expires) {
			continue
		}
		if err := s.Memory.Apply(r); err != nil {
			lost++
		}
	}
	if lost > 0 {
		s.o.Warn(fmt.Sprintf("%s holds %d values more than fit into memory: they do not count", s.o.Path, lost))
	}
	return rows.Err()
}

// shut closes the file.
func (s *Store) shut() {
	if s.insert != nil {
		s.insert.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.db != nil {
		s.db.Close()
	}
	s.insert, s.conn, s.db = nil, nil, nil
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// startAnew sets a damaged file aside and makes a new one with what is in
// memory.
func (s *Store) startAnew(why error) error {
	if s.lock == nil {
		return why // another process has it, too: it is not ours to move
	}
	lock := s.lock
	s.lock = nil
	s.shut()
	s.lock = lock
	aside := s.o.Path + ".damaged-" + s.o.Now().UTC().Format("20060102-150405.000000000")
	if err := os.Rename(s.o.Path, aside); err != nil {
		return errors.Join(why, err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Rename(s.o.Path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(why, err)
		}
	}
	if old, _ := filepath.Glob(globQuote(s.o.Path) + ".damaged-*[0-9]"); len(old) > keepDamaged {
		slices.Sort(old)
		for _, name := range old[:len(old)-keepDamaged] {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(name + suffix)
			}
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	records := s.Memory.Records()
	err := s.transaction(true, func(put func(store.Record) error) error {
		for _, r := range records {
			if err := put(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	what := "bans, sessions and lockouts that were in it are gone"
	if len(records) > 0 {
		what = fmt.Sprintf("it was written anew from memory (%d values)", len(records))
	}
	s.o.Warn(fmt.Sprintf("the store's file was damaged (%v): it is set aside as %s, and %s", why, aside, what))
	return nil
}

// globQuote takes the meaning from the letters that have one in a pattern.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// transaction runs do within one transaction, and waits for the disk if
// synced.
func (s *Store) transaction(synced bool, do func(put func(store.Record) error) error) (err error) {
	ctx := context.Background()
	if synced {
		// Within a transaction it would not count.
		if _, err := s.conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		defer func() {
			_, back := s.conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL")
			err = errors.Join(err, back)
		}()
	}
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			_, _ = s.conn.ExecContext(ctx, "ROLLBACK")
		}
	}()
	// Whatever another process wrote comes first.
	if err := s.look(); err != nil {
		return err
	}
	last := s.seen
	err = do(func(r store.Record) error {
		expires, gone := r.Expires, r.Expires.IsZero()
		if gone {
			expires = s.o.Now().Add(tombLife)
		}
		res, err := s.insert.ExecContext(ctx, r.Once, append([]byte{}, r.Key...), append([]byte{}, r.Value...), gone, expires.UnixNano())
		if err != nil {
			return err
		}
		last, err = res.LastInsertId()
		return err
	})
	if err != nil {
		return err
	}
	if synced {
		// What was written before is synced with this, and a transaction that
		// writes nothing syncs nothing.
		if _, err := s.conn.ExecContext(ctx, "INSERT OR REPLACE INTO synced VALUES (1, ?)", s.o.Now().UnixNano()); err != nil {
			return err
		}
	}
	if _, err := s.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return err
	}
	committed = true
	s.unsynced = !synced && (s.unsynced || last != s.seen)
	s.seen = last
	return nil
}

// look reads what another process wrote, if one did.
func (s *Store) look() error {
	var v int64
	if err := s.conn.QueryRowContext(context.Background(), "PRAGMA data_version").Scan(&v); err != nil {
		return err
	}
	if v == s.version {
		return nil
	}
	return s.learn(false)
}

// write is the one goroutine that uses the file.
func (s *Store) write() {
	defer close(s.done)
	look, tick := time.NewTicker(lookEvery), time.NewTicker(syncEvery)
	defer look.Stop()
	defer tick.Stop()
	for {
		select {
		case c := <-s.calls:
			calls := []*call{c}
			for len(calls) < batch && len(s.calls) > 0 {
				calls = append(calls, <-s.calls)
			}
			s.commit(calls)
		case <-look.C:
			// Nobody waits for an answer here; a call that comes meets the
			// same trouble and says so.
			if s.broken == nil {
				_ = s.look()
			}
			if s.lock == nil && s.o.TakingOver {
				_ = s.claim()
			}
		case <-tick.C:
			if s.broken == nil && s.unsynced {
				_ = s.transaction(true, func(func(store.Record) error) error { return nil })
			}
			s.sweep()
		case <-s.closed:
			for len(s.calls) > 0 {
				s.commit([]*call{<-s.calls})
			}
			if s.broken == nil && s.unsynced {
				s.err = s.transaction(true, func(func(store.Record) error) error { return nil })
			}
			s.shut()
			return
		}
	}
}

// commit makes the changes of some calls, all or none, and answers them.
func (s *Store) commit(calls []*call) {
	answers := make([]error, len(calls))
	err := s.try(calls, answers)
	if damaged(err) {
		if anew := s.startAnew(err); anew == nil {
			clear(answers)
			err = s.try(calls, answers)
		} else {
			s.broken = anew
		}
	}
	if err == nil {
		s.failed.Store(nil)
	} else {
		s.failed.Store(&err)
	}
	for i, c := range calls {
		if err != nil {
			answers[i] = fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.o.Path, err)
		}
		c.done <- answers[i]
	}
}

func (s *Store) try(calls []*call, answers []error) error {
	if s.broken != nil {
		return s.broken
	}
	var undo []store.Record
	synced := slices.ContainsFunc(calls, func(c *call) bool { return c.sync })
	err := s.transaction(synced, func(put func(store.Record) error) error {
		for i, c := range calls {
			r, keep, err := c.run()
			if err != nil || keep {
				answers[i] = err
				continue
			}
			old, _ := s.Memory.Record(r.Once, r.Key)
			if err := s.Memory.Apply(r); err != nil {
				answers[i] = err
				continue
			}
			undo = append(undo, old)
			if err := put(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, r := range slices.Backward(undo) {
			_ = s.Memory.Apply(r)
		}
	}
	return err
}

// sweep deletes some of what has expired.
func (s *Store) sweep() {
	if s.broken != nil || s.lock == nil {
		return
	}
	ctx := context.Background()
	res, err := s.conn.ExecContext(ctx, "DELETE FROM entries WHERE number > ? AND number <= (SELECT max(number) FROM (SELECT number FROM entries WHERE number > ? ORDER BY number LIMIT ?)) AND expires <= ?",
		s.swept, s.swept, sweepRows, s.o.Now().UnixNano())
	if err != nil {
		return
	}
	if n, _ := res.RowsAffected(); n > 0 {
		s.unsynced = true
	}
	var next sql.NullInt64
	_ = s.conn.QueryRowContext(ctx, "SELECT max(number) FROM (SELECT number FROM entries WHERE number > ? ORDER BY number LIMIT ?)", s.swept, sweepRows).Scan(&next)
	s.swept = next.Int64 // 0, from the beginning, when there is nothing after it
}

// change queues a call and waits for its answer.
func (s *Store) change(c *call) error {
	c.done = make(chan error, 1)
	gone := func() error { return fmt.Errorf("%w: closed", store.ErrUnavailable) }
	select {
	case <-s.closed:
		return gone()
	default:
	}
	select {
	case s.calls <- c:
	case <-s.closed:
		return gone()
	case <-c.ctx.Done():
		return c.leave()
	}
	var err error
	select {
	case err = <-c.done:
	case <-s.done:
		select {
		case err = <-c.done:
		default:
			return gone()
		}
	case <-c.ctx.Done():
		return c.leave()
	}
	if errors.Is(err, errPanicked) {
		panic(c.panicked)
	}
	return err
}

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("store: put %q: the lifetime %v is not positive", key, ttl)
	}
	r := store.Record{Key: key, Value: slices.Clone(value), Expires: s.o.Now().Add(ttl)}
	return s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) { return r, false, nil }})
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) {
		_, ok := s.Memory.Record(false, key)
		return store.Record{Key: key}, !ok, nil
	}})
}

// Update implements [store.Store]. change runs while nobody else can change
// anything.
func (s *Store) Update(ctx context.Context, key string, change func(old []byte, ok bool) ([]byte, time.Duration, error)) error {
	return s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) {
		old, ok := s.Memory.Record(false, key)
		value, ttl, err := change(old.Value, ok)
		switch {
		case errors.Is(err, store.ErrKeep):
			return old, true, nil
		case err != nil:
			return old, true, err
		case ttl < 0:
			return old, true, fmt.Errorf("store: update %q: the lifetime %v is negative", key, ttl)
		case ttl == 0:
			return store.Record{Key: key}, !ok, nil
		}
		return store.Record{Key: key, Value: slices.Clone(value), Expires: s.o.Now().Add(ttl)}, false, nil
	}})
}

// Once implements [store.Store].
func (s *Store) Once(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	if ttl <= 0 {
		return false, fmt.Errorf("store: once %q: the lifetime %v is not positive", key, ttl)
	}
	first := false
	err := s.change(&call{ctx: ctx, do: func() (store.Record, bool, error) {
		_, ok := s.Memory.Record(true, key)
		first = !ok
		return store.Record{Once: true, Key: key, Expires: s.o.Now().Add(ttl)}, ok, nil
	}})
	return err == nil && first, err
}

// Health returns why the last change could not be written, nil when it was.
func (s *Store) Health() error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("%w: %s cannot be written: %w", store.ErrUnavailable, s.o.Path, *err)
	}
	return nil
}

// Sync implements [store.Store]: it waits for the disk.
func (s *Store) Sync(ctx context.Context) error { return s.change(&call{ctx: ctx, sync: true}) }

// Close writes what is left and lets go of the file.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.closed) })
	<-s.done
	return errors.Join(s.err, s.Memory.Close())
}
