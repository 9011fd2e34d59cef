package abuse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Bounds on what an operator's files may take.
const (
	maxListFile  = 256 << 20
	maxListLines = 4_000_000
	maxLists     = math.MaxUint16
)

// lists is what the operator's files say: networks and autonomous systems
// that are refused. Files that change are read again; one that cannot be read
// any more leaves the last good state and a failed health.
type lists struct {
	files    []string
	database string
	asns     map[uint32]bool // from the settings

	now  atomic.Pointer[listed]
	fail atomic.Pointer[error]
	seen []stamp // of the files and the database, as last read; owned by the one who refreshes
}

// listed is one state of the files. It is only read.
type listed struct {
	nets *networks
	asns map[uint32]bool
	asn  *maxminddb.Reader
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	mod  time.Time
}

func stampOf(name string) (stamp, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return stamp{}, err
	}
	return stamp{fi.Size(), fi.ModTime()}, nil
}

func newLists(files []string, database string, asns []int) (*lists, error) {
	l := &lists{files: files, database: database, asns: map[uint32]bool{}}
	for _, n := range asns {
		l.asns[uint32(n)] = true
	}
	l.now.Store(&listed{})
	if len(files) == 0 && database == "" {
		return l, nil
	}
	return l, l.refresh()
}

// refresh reads the files again if one has changed. It must not be called
// twice at once.
func (l *lists) refresh() (err error) {
	defer func() {
		if err != nil {
			l.fail.Store(&err)
		} else {
			l.fail.Store(nil)
		}
	}()
	var stamps []stamp
	all := l.files
	if l.database != "" {
		all = append(slices.Clone(all), l.database)
	}
	for _, name := range all {
		s, err := stampOf(name)
		if err != nil {
			return err
		}
		stamps = append(stamps, s)
	}
	if slices.Equal(stamps, l.seen) && l.seen != nil {
		return nil
	}
	next := &listed{asns: map[uint32]bool{}}
	for n := range l.asns {
		next.asns[n] = true
	}
	var nets []owned
	for i, name := range l.files {
		if nets, err = readListFile(name, uint16(i), nets, next.asns); err != nil {
			return err
		}
	}
	next.nets = makeNetworks(nets)
	if l.database != "" {
		if next.asn, err = openASN(l.database); err != nil {
			return err
		}
	} else if len(next.asns) > 0 {
		return errors.New("an autonomous system is listed, and there is no abuse.asn-database to look addresses up in")
	}
	l.seen = stamps
	l.now.Store(next)
	return nil
}

// readListFile adds the lines of one file.
func readListFile(name string, owner uint16, nets []owned, asns map[uint32]bool) ([]owned, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() || fi.Size() > maxListFile {
		return nil, fmt.Errorf("%s: not a file of at most %d MiB", name, maxListFile>>20)
	}
	err = readList(f, func(p netip.Prefix) { nets = append(nets, owned{p, owner}) }, func(n uint32) { asns[n] = true })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return nets, nil
}

// readList reads one network, address or autonomous system (AS64500) a line;
// what follows a space, # or ; is a comment, as in the lists of Spamhaus and
// FireHOL. The error names the line.
func readList(r io.Reader, network func(netip.Prefix), system func(uint32)) error {
	sc := bufio.NewScanner(r)
	n := 0
	for sc.Scan() {
		n++
		if n > maxListLines {
			return fmt.Errorf("more than %d lines", maxListLines)
		}
		line := bytes.TrimSpace(sc.Bytes())
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if i := bytes.IndexAny(line, "#; \t"); i >= 0 {
			line = line[:i]
		}
		if len(line) == 0 {
			continue
		}
		if len(line) > 2 && (line[0]|0x20) == 'a' && (line[1]|0x20) == 's' {
			v, err := strconv.ParseUint(string(line[2:]), 10, 32)
			if err != nil || v == 0 {
				return fmt.Errorf("line %d: %q is no autonomous system: write AS64500", n, clip(string(line), 60))
			}
			system(uint32(v))
			continue
		}
		p, err := parseNetwork(string(line))
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if p.Bits() == 0 {
			return fmt.Errorf("line %d: %s is everybody", n, p)
		}
		network(p)
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

// openASN reads a database in MaxMind's format whole: mapped into memory, it
// would take the process with it when somebody cuts the file short.
func openASN(name string) (*maxminddb.Reader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxListFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxListFile {
		return nil, fmt.Errorf("%s: more than %d MiB", name, maxListFile>>20)
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return db, nil
}

// find says why an address is listed: the file, or the system.
func (l *lists) find(a netip.Addr) (why string, system uint32, ok bool) {
	s := l.now.Load()
	if i, ok := s.nets.find(a); ok {
		return l.files[i], 0, true
	}
	if s.asn != nil && len(s.asns) > 0 {
		if n := asnOf(s.asn, a); n != 0 && s.asns[n] {
			return "AS" + strconv.FormatUint(uint64(n), 10), n, true
		}
	}
	return "", 0, false
}

// asnOf returns the autonomous system that announces an address, 0 when the
// database does not know it.
func asnOf(db *maxminddb.Reader, a netip.Addr) uint32 {
	r := db.Lookup(a)
	if r.Err() != nil || !r.Found() {
		return 0
	}
	var n uint32
	if r.DecodePath(&n, "autonomous_system_number") != nil {
		return 0
	}
	return n
}

func (l *lists) health() error {
	if err := l.fail.Load(); err != nil {
		return fmt.Errorf("abuse.lists: what was read last stays in force: %w", *err)
	}
	return nil
}

func (l *lists) describe() string {
	s := l.now.Load()
	if s.nets.size() == 0 && len(s.asns) == 0 {
		return "no lists"
	}
	out := fmt.Sprintf("%d networks of %d lists", s.nets.size(), len(l.files))
	if len(s.asns) > 0 {
		out += fmt.Sprintf(", %d autonomous systems", len(s.asns))
	}
	return out
}

// clip cuts a text for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
