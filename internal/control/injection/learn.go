package injection

import (
	"cmp"
	"context"
	encoding "encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

// Bounds on what is learnt: about 2 MB.
const (
	maxLearnt     = 4000 // fields of all routes
	maxLearntName = 128  // bytes of a field's name
	learntKey     = "injection/learnt"
	learntFor     = 90 * 24 * time.Hour
	learntEvery   = time.Minute // between two writes to the store
)

// learner keeps what real traffic brought: of each field where it stood, how
// often, how long, of what type, and how many clients sent it. No value is
// kept, and no address.
type learner struct {
	store store.Store
	now   guard.Clock

	mu     sync.Mutex
	fields map[learntName]*learntField
	// dropped counts fields for which there was no room.
	dropped int
	saved   time.Time
	swept   time.Time
}

type learntName struct{ Rule, Method, In, Name string }

// learntField is one field of a route.
type learntField struct {
	Requests int  `json:"n"`
	Longest  int  `json:"longest"`
	Repeated bool `json:"repeated,omitempty"`
	// Not are the types that some value was none of.
	NotInt   bool `json:"not_int,omitempty"`
	NotFloat bool `json:"not_float,omitempty"`
	NotUUID  bool `json:"not_uuid,omitempty"`
	Valued   bool `json:"valued,omitempty"` // some value was not empty
	// Clients is a bitmap in which each client sets one bit: by the bits that
	// are not set one can tell how many there were, and nothing else.
	Clients [4]uint64 `json:"clients"`
}

func newLearner(s store.Store, now guard.Clock) *learner {
	if now == nil {
		now = time.Now
	}
	l := &learner{store: s, now: now, fields: map[learntName]*learntField{}, saved: now()}
	if s == nil {
		return l
	}
	data, ok, err := s.Get(context.Background(), learntKey)
	if err != nil || !ok {
		return l // what was learnt before is gone; it will be learnt again
	}
	var rows []learntRow
	if encoding.Unmarshal(data, &rows) == nil {
		for _, r := range rows[:min(len(rows), maxLearnt)] {
			f := r.learntField
			l.fields[r.learntName] = &f
		}
	}
	return l
}

type learntRow struct {
	learntName
	learntField
}

// note learns from one request.
func (l *learner) note(rule, method string, client netip.Addr, fields guard.Fields) {
	h := fnv.New64a()
	addr := client.As16()
	_, _ = h.Write(addr[:])
	sum := h.Sum64()
	sum = (sum ^ sum>>33) * 0xff51afd7ed558ccd // the last byte alone would hardly move the upper bits
	bit := sum >> 56                           // of 256
	type place struct{ in, name string }
	times := make(map[place]int, len(fields)) // counted once: a form may have thousands
	for i := range fields {
		times[place{fields[i].In, fields[i].Name}]++
	}
	l.mu.Lock()
	for i := range fields {
		f := &fields[i]
		if f.Guessed || strings.HasPrefix(f.Name, guard.OwnFieldPrefix) || len(f.Name) > maxLearntName || f.In == policy.JSON && f.Depth != 1 || !utf8.ValidString(f.Name) {
			continue
		}
		name := learntName{rule, method, f.In, f.Name}
		known := l.fields[name]
		if known == nil {
			if len(l.fields) >= maxLearnt && !l.sweep() {
				l.dropped++
				continue
			}
			name.Name = strings.Clone(name.Name) // the request's memory goes with it
			known = &learntField{}
			l.fields[name] = known
		}
		known.Requests++
		known.Longest = max(known.Longest, len(f.Value))
		known.Clients[bit/64] |= 1 << (bit % 64)
		if !known.Repeated && f.In != policy.JSON && times[place{f.In, f.Name}] > 1 {
			known.Repeated = true
		}
		if f.Value != "" && !f.File {
			known.Valued = true
			known.NotInt = known.NotInt || !isInt(f.Value)
			known.NotFloat = known.NotFloat || !isFloat(f.Value)
			known.NotUUID = known.NotUUID || !isUUID(f.Value)
		}
	}
	due := l.now().Sub(l.saved) > learntEvery
	if due {
		l.saved = l.now()
	}
	l.mu.Unlock()
	if due {
		_ = l.save(context.Background()) // the next minute tries again
	}
}

// sweep makes room, once a minute at most: what only one client has sent goes,
// so that nobody who makes names up keeps those of others out for long. It
// reports whether there is room. l.mu is held.
func (l *learner) sweep() bool {
	if now := l.now(); now.Sub(l.swept) < learntEvery {
		return false
	} else {
		l.swept = now
	}
	before := len(l.fields)
	for name, f := range l.fields {
		if f.clients() <= 1 {
			delete(l.fields, name)
		}
	}
	l.dropped += before - len(l.fields)
	return len(l.fields) < maxLearnt
}

// clients estimates how many set a bit (linear counting).
func (f *learntField) clients() int {
	set := 0
	for _, w := range f.Clients {
		set += bits.OnesCount64(w)
	}
	const all = 256
	if set == all {
		return 10 * all // more than can be told
	}
	return int(math.Round(-all * math.Log(1-float64(set)/all)))
}

// kind returns the narrowest type that all values are of.
func (f *learntField) kind() string {
	switch {
	case !f.Valued:
		return ""
	case !f.NotInt:
		return "int"
	case !f.NotFloat:
		return "float"
	case !f.NotUUID:
		return "UUID"
	}
	return "text"
}

// save puts what was learnt into the store.
func (l *learner) save(ctx context.Context) error {
	if l.store == nil {
		return nil
	}
	data, err := encoding.Marshal(l.rows())
	if err != nil {
		return err
	}
	return l.store.Put(ctx, learntKey, data, learntFor)
}

func (l *learner) forget(ctx context.Context) error {
	l.mu.Lock()
	clear(l.fields)
	l.dropped = 0
	l.mu.Unlock()
	if l.store == nil {
		return nil
	}
	return l.store.Delete(ctx, learntKey)
}

// rows returns what was learnt, sorted.
func (l *learner) rows() []learntRow {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]learntRow, 0, len(l.fields))
	for name, f := range l.fields {
		out = append(out, learntRow{name, *f})
	}
	slices.SortFunc(out, func(a, b learntRow) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Method, b.Method), strings.Compare(a.In, b.In), strings.Compare(a.Name, b.Name))
	})
	return out
}

// difference says what of a field the source does not show; "" if nothing.
func difference(p *policy.Policy, l *Parameters, r learntRow) string {
	if p == nil {
		return ""
	}
	m := policy.Match{Routes: slices.DeleteFunc(slices.Clone(p.Routes()), func(x *policy.Route) bool { return x.Rule != r.Rule || !x.Takes(r.Method) })}
	if len(m.Routes) == 0 {
		return "no such route"
	}
	f := guard.Field{In: r.In, Name: r.Name}
	if _, ok := l.setting(m, &f); ok {
		return ""
	}
	if !m.Reads(r.In, r.Name) {
		if ofFramework(m, &f) || r.In == policy.Query {
			return ""
		}
		return "not read"
	}
	typ, known := m.Type(r.In, r.Name)
	switch {
	case !known:
	case typ == "int" && r.NotInt, typ == "float" && r.NotFloat, typ == "UUID" && r.NotUUID:
		return "not always " + typ
	case r.Repeated && typ != "list" && typ != "bool":
		return "several at once"
	}
	return ""
}

// reported is a row of "dewar policy report".
type reported struct {
	Route    string `json:"route"`
	Method   string `json:"method"`
	In       string `json:"in"`
	Field    string `json:"field"`
	Type     string `json:"type"`
	Longest  int    `json:"longest"`
	Requests int    `json:"requests"`
	Clients  int    `json:"clients"`
	Source   string `json:"differs"`
}

func (l *learner) report(p *policy.Policy, of *Parameters, all bool) []reported {
	out := []reported{}
	for _, r := range l.rows() {
		d := difference(p, of, r)
		if d == "" && !all {
			continue
		}
		kind := r.kind()
		if r.Repeated {
			kind = strings.TrimSpace(kind + " (several)")
		}
		out = append(out, reported{r.Rule, r.Method, r.In, r.Name, kind, r.Longest, r.Requests, r.clients(), d})
	}
	return out
}

// propose writes the difference as settings.
func (l *learner) propose(p *policy.Policy, of *Parameters, clients string, lengths bool) (string, error) {
	least := 3
	if clients != "" {
		n, err := strconv.Atoi(clients)
		if err != nil || n < 1 {
			return "", fmt.Errorf("clients: %q is no number from 1", clients)
		}
		least = n
	}
	if p == nil {
		return "", fmt.Errorf("the source's routes are not known: there is nothing to compare with")
	}
	var b strings.Builder
	fewer, n := 0, 0
	merged := map[fieldKey]*learntRow{}
	var order []fieldKey
	differs := map[fieldKey]string{}
	for _, r := range l.rows() {
		key := fieldKey{r.Rule, r.In, r.Name}
		if have := merged[key]; have != nil {
			have.merge(r)
		} else {
			merged[key] = &r
			order = append(order, key)
		}
		if d := difference(p, of, r); d != "" {
			differs[key] = d
		}
	}
	for _, key := range order {
		r := merged[key]
		why := differs[key]
		if why == "" && (!lengths || r.In == policy.File || of.fields[key].Name != "") {
			continue
		}
		if r.clients() < least {
			fewer++
			continue
		}
		n++
		reason := fmt.Sprintf("%d requests of about %d clients", r.Requests, r.clients())
		if why != "" {
			reason += "; by the source: " + why
		}
		fmt.Fprintf(&b, "[[injection.field]]\nroute = %s\nin = %s\nname = %s\n", guard.TOMLString(r.Rule), guard.TOMLString(r.In), guard.TOMLString(r.Name))
		if k := r.kind(); k != "text" && k != "" {
			fmt.Fprintf(&b, "type = %s\n", guard.TOMLString(k))
		}
		if r.Repeated {
			b.WriteString("repeated = true\n")
		}
		if lengths && r.In != policy.File {
			fmt.Fprintf(&b, "max-length = %d\n", headroom(r.Longest))
		}
		fmt.Fprintf(&b, "reason = %s\n\n", guard.TOMLString(reason))
	}
	head := fmt.Sprintf("# %d fields that real traffic needs and the source does not show.\n", n)
	if fewer > 0 {
		head += fmt.Sprintf("# %d more came from fewer than %d clients.\n", fewer, least)
	}
	l.mu.Lock()
	if l.dropped > 0 {
		head += fmt.Sprintf("# There was no room for %d further ones.\n", l.dropped)
	}
	l.mu.Unlock()
	return strings.TrimRight(head+"\n"+b.String(), "\n"), nil
}

// merge adds what another method of the route brought.
func (r *learntRow) merge(o learntRow) {
	r.Requests += o.Requests
	r.Longest = max(r.Longest, o.Longest)
	r.Repeated = r.Repeated || o.Repeated
	r.NotInt, r.NotFloat, r.NotUUID, r.Valued = r.NotInt || o.NotInt, r.NotFloat || o.NotFloat, r.NotUUID || o.NotUUID, r.Valued || o.Valued
	for i := range r.Clients {
		r.Clients[i] |= o.Clients[i]
	}
}

// headroom returns a bound four times what was seen, of at least 64 bytes,
// rounded up to a power of two.
func headroom(longest int) int {
	n := 64
	for n < 4*longest {
		n *= 2
	}
	return n
}
