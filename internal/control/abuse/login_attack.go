package abuse

import (
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"sync"
	"time"
)

// watch recognises guessing that no client and no account shows alone:
// spraying, which tries one password on many accounts, and stuffing, which
// tries many pairs of which few are right. It holds counts, never passwords,
// in a fixed 1.6 MB, and forgets all of it, with the key under which they were
// hashed, at the end of each window.
type watch struct {
	spraying int           // accounts per password
	stuffing int           // failures in a window
	window   time.Duration // 10 minutes
	now      func() time.Time

	mu    sync.Mutex
	key   maphash.Seed
	begin time.Time
	// seen is a Bloom filter of pairs of password and account, so that one
	// account counts once for a password; rows is a count-min sketch of how
	// many accounts a password was tried on.
	seen  []uint64
	rows  [sketchRows][]uint16
	pairs int

	failures, successes int
	// usual is how many fail in a window, as a moving average over windows.
	usual             float64
	windows           int
	accounts, sources hyperLogLog

	until [attacks]time.Time // an attack of the kind is on until then
}

// usualAfter is how many windows it takes to know what is usual.
const usualAfter = 6

const (
	sketchRows  = 4
	sketchWidth = 1 << 16
	seenBits    = 1 << 23
)

// attack is a kind of attack on many accounts at once.
type attack int

const (
	spraying attack = iota
	stuffing
	attacks
)

func (a attack) String() string { return [...]string{"spraying", "stuffing"}[a] }

func newWatch(spraying, stuffing int, now func() time.Time) *watch {
	w := &watch{spraying: spraying, stuffing: stuffing, window: 10 * time.Minute, now: now, seen: make([]uint64, seenBits/64)}
	for i := range w.rows {
		w.rows[i] = make([]uint16, sketchWidth)
	}
	w.reset(now())
	return w
}

// reset begins a window; w.mu is held, or w is new.
func (w *watch) reset(now time.Time) {
	w.key, w.begin, w.pairs, w.failures, w.successes = maphash.MakeSeed(), now, 0, 0, 0
	clear(w.seen)
	for i := range w.rows {
		clear(w.rows[i])
	}
	w.accounts, w.sources = hyperLogLog{}, hyperLogLog{}
}

// hashes returns the hash of a password and that of the pair.
func (w *watch) hashes(password, account string) (p, pair uint64) {
	var h maphash.Hash
	h.SetSeed(w.key)
	h.WriteString(password)
	p = h.Sum64()
	h.WriteByte(0)
	h.WriteString(account)
	return p, h.Sum64()
}

// turn begins a new window when the old one has ended. Half a window of an
// attack that goes on is enough to see it again.
func (w *watch) turn(now time.Time) {
	d := now.Sub(w.begin)
	if d < w.window && d >= 0 {
		return
	}
	if !now.Before(w.until[stuffing].Add(w.window)) { // an attack is not usual
		w.usual = 0.8*w.usual + 0.2*float64(w.failures)
		for range min(int(d/w.window)-1, 50) { // windows in which nothing failed
			w.usual *= 0.8
		}
		w.windows++
	}
	w.reset(now)
}

// tried counts an attempt that failed: on which account, by whom, with what. It
// returns the attacks that it showed to have begun.
func (w *watch) tried(account string, client netip.Prefix, password string) (begun []attack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.turn(now)
	w.failures++
	w.accounts.add(maphash.String(w.key, account))
	w.sources.add(maphash.Comparable(w.key, client))
	if w.spraying > 0 && password != "" && account != "" {
		p, pair := w.hashes(password, account)
		if w.add(pair) {
			w.pairs++
			n := w.count(p, true)
			// What the others' counts add to this one's by collisions, on
			// average, is not its own.
			if n-w.pairs/sketchWidth >= w.spraying && w.on(spraying, now) {
				begun = append(begun, spraying)
			}
		}
	}
	// Few are right; or, on a busy site where many others log in meanwhile,
	// far more fail than did in the hours before.
	few := w.failures >= 3*w.successes
	jump := w.windows >= usualAfter && float64(w.failures) >= 5*max(w.usual, float64(w.stuffing)/10)
	if w.stuffing > 0 && w.failures >= w.stuffing && (few || jump) && w.accounts.count() >= float64(w.stuffing)/3 && w.on(stuffing, now) {
		begun = append(begun, stuffing)
	}
	return begun
}

// on notes that an attack is on, and reports whether that is news.
func (w *watch) on(a attack, now time.Time) bool {
	news := !now.Before(w.until[a])
	w.until[a] = now.Add(w.window)
	return news
}

// succeeded counts a login.
func (w *watch) succeeded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn(w.now())
	w.successes++
}

// active returns which attacks are on, and whether password is one that is
// being sprayed.
func (w *watch) active(password string) (on [attacks]bool, sprayed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	any := false
	for a := range w.until {
		on[a] = now.Before(w.until[a])
		any = any || on[a]
	}
	if on[spraying] && password != "" {
		p, _ := w.hashes(password, "")
		sprayed = w.count(p, false)-w.pairs/sketchWidth >= w.spraying
	}
	return on, sprayed
}

// add puts a pair into the filter and reports whether it is new.
func (w *watch) add(h uint64) bool {
	fresh := false
	a, b := uint32(h), uint32(h>>32)|1
	for range 4 {
		i := a % seenBits
		if w.seen[i/64]&(1<<(i%64)) == 0 {
			fresh = true
			w.seen[i/64] |= 1 << (i % 64)
		}
		a += b
	}
	return fresh
}

// count returns the estimate for a password, after counting it once more when
// more is set. Only the lowest counters grow (conservative update).
func (w *watch) count(h uint64, more bool) int {
	var at [sketchRows]*uint16
	least := uint16(math.MaxUint16)
	for i := range at {
		at[i] = &w.rows[i][uint16(h>>(16*i))]
		least = min(least, *at[i])
	}
	if more && least < math.MaxUint16 {
		for _, c := range at {
			*c = max(*c, least+1)
		}
		least++
	}
	return int(least)
}

// bytes is what the watch takes.
func (w *watch) bytes() int { return len(w.seen)*8 + sketchRows*sketchWidth*2 + 512 }

// String says what is going on, for evidence.
func (w *watch) String() string {
	on, _ := w.active("")
	s := ""
	for a := range on {
		if on[a] {
			s += fmt.Sprintf(", %s is going on", attack(a))
		}
	}
	return s
}

// hyperLogLog estimates how many different values were added, within a tenth
// (Flajolet and others, 2007; 256 registers).
type hyperLogLog [256]uint8

func (h *hyperLogLog) add(v uint64) {
	r := uint8(bits.LeadingZeros64(v<<8|1<<7) + 1)
	h[v>>56] = max(h[v>>56], r)
}

func (h *hyperLogLog) count() float64 {
	sum, empty := 0.0, 0
	for _, r := range h {
		sum += math.Ldexp(1, -int(r))
		if r == 0 {
			empty++
		}
	}
	const m = 256
	e := 0.7213 / (1 + 1.079/m) * m * m / sum
	if e <= 2.5*m && empty > 0 {
		return m * math.Log(m/float64(empty))
	}
	return e
}

// variety remembers of accounts which passwords were tried last, as 16 bits of
// a hash under a key of this process: enough to tell that a second one was
// tried. It takes a fixed megabyte; of two accounts in one place the later one
// is remembered.
type variety struct {
	mu    sync.Mutex
	seed  maphash.Seed
	salt  [8]byte
	slots []varietySlot
}

type varietySlot struct {
	tag    uint32
	minute uint32
	last   [4]uint16
}

const varietySlots = 1 << 16

func newVariety() *variety {
	v := &variety{seed: maphash.MakeSeed(), slots: make([]varietySlot, varietySlots)}
	rand.Read(v.salt[:])
	return v
}

// another reports whether account was tried with other passwords than this one
// within the last hour, and remembers this one. Of two different passwords at
// most one was right, whatever the app answered.
func (v *variety) another(account, password string, now time.Time) bool {
	var h maphash.Hash
	h.SetSeed(v.seed)
	h.WriteString(account)
	where := h.Sum64()
	h.Reset()
	h.Write(v.salt[:])
	h.WriteString(password)
	p := uint16(h.Sum64()>>48) | 1 // 0 is nothing
	minute := uint32(now.Unix() / 60)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &v.slots[where%varietySlots]
	if tag := uint32(where >> 32); s.tag != tag || minute-s.minute > 60 {
		*s = varietySlot{tag: tag}
	}
	s.minute = minute
	other := false
	for _, o := range s.last {
		if o == p {
			return false // tried before: nothing new is learnt by it
		}
		other = other || o != 0
	}
	copy(s.last[1:], s.last[:3])
	s.last[0] = p
	return other
}
