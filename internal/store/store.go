// Package store is the state that requests share: rate limits, short-lived
// values, things that may happen only once.
//
// One node keeps it in memory ([Memory]); several nodes will keep it in
// Redis or Valkey behind the same interface. storetest holds the contract
// suite that every implementation passes.
//
// A key is "folder/rest". The folder, up to and including the first slash, is
// a word of the program's ("ban/", "session/"), never of a client's; whatever
// follows may be personal, and no store shows it to those who can read its
// server. A folder can be listed ([Store.Scan]) and followed ([Store.Changes],
// [Follow]); keys without a slash can be neither.
//
// What has to be known at every request without asking (bans, sessions that
// were ended) is kept in a [Replica]. What belongs together at one request is
// asked together ([Store.GetMany], [Store.AllowMany]): one round trip.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrUnavailable reports that the store cannot answer now. The caller follows
// its own declared failure mode; the store never guesses an answer.
var ErrUnavailable = errors.New("store unavailable")

// ErrLost reports that a position of [Store.Changes] is too old, or of another
// store: changes since then are not known one by one any more.
var ErrLost = errors.New("the changes since then are not known any more")

// ErrReset reports, as an [ErrLost], that the store itself is another one than
// it was: it began anew, or lost what was written last.
var ErrReset = fmt.Errorf("%w: the store is not what it was", ErrLost)

// ErrFull reports, as an [ErrUnavailable], that the store answers and cannot
// take more. What is there can be read and deleted.
var ErrFull = fmt.Errorf("%w: full", ErrUnavailable)

// ErrContended says that so many change one value at once that this change
// had to be given up. It wraps [ErrUnavailable] and says nothing about the
// store: [Resilient] does not take it for one that is gone.
var ErrContended = fmt.Errorf("%w: too many change the same value at once", ErrUnavailable)

// ErrKeep is what the function given to [Store.Update] returns to leave the
// value as it is.
var ErrKeep = errors.New("keep the value")

// A Store keeps shared state. Implementations are safe for concurrent use,
// bounded in memory, and return an error wrapping [ErrUnavailable] rather than
// block past the context's deadline. After that error a change may have
// happened or not; it has not happened in part.
type Store interface {
	// Allow takes cost units from the bucket named key, which refills at
	// rate, and reports whether they were there. Cost 0 peeks; a negative
	// cost gives units back, never beyond a full bucket. It follows GCRA
	// (ITU-T I.371): one timestamp per key, no window edges. A refused call
	// takes nothing. A cost over the burst could never pass and is an error,
	// as is a rate that is none.
	Allow(ctx context.Context, key string, rate Rate, cost int) (Result, error)
	// AllowMany is Allow for each of takes, in one round trip. Each is on its
	// own: one that is refused does not undo the others. When one of them is
	// an error of the caller's, nothing is taken.
	AllowMany(ctx context.Context, takes []Take) ([]Result, error)

	// Get returns the value put under key, or ok == false when there is none
	// or it has expired.
	Get(ctx context.Context, key string) (value []byte, ok bool, err error)
	// GetMany is Get for each of keys, in one round trip. A value that is not
	// there is nil, one that is empty is not.
	GetMany(ctx context.Context, keys []string) (values [][]byte, err error)
	// Put stores value under key until ttl has passed. ttl must be positive:
	// nothing here lives for ever.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Update changes the value under key in one step, whoever else does the
	// same at once. change gets what is there (ok == false: nothing) and
	// returns what shall be there until ttl has passed; a ttl of 0 deletes
	// the key, the error [ErrKeep] leaves all as it is, and any other error
	// does so, too, and is what Update returns. change may be called several
	// times, must have no effect of its own, must not call the store, and
	// must neither change nor keep old.
	Update(ctx context.Context, key string, change func(old []byte, ok bool) (value []byte, ttl time.Duration, err error)) error
	// Delete removes key; a missing key is no error.
	Delete(ctx context.Context, key string) error
	// Once reports whether this is the first call with key within ttl: the
	// primitive behind one-time tokens. Its keys are apart from those of Put.
	// A store that is full says so; it never forgets a key early.
	Once(ctx context.Context, key string, ttl time.Duration) (first bool, err error)

	// Scan calls visit for the values whose key begins with prefix, until it
	// returns false. The prefix holds a whole folder at least. What is there
	// during the whole call is visited once; what comes, goes or changes
	// meanwhile may be visited or not. It is for an operator's lists and the
	// start of a [Replica]: it may take time in proportion to all that is
	// stored, and visit may call the store.
	Scan(ctx context.Context, prefix string, visit func(Entry) bool) error
	// Changes returns what was put or deleted in folder after the position
	// after, at most a few hundred at once and each key once, as it is now,
	// and the position to go on from. With after == "" it returns the present
	// position only. That something expired is no change. [ErrLost] says to
	// scan the folder anew, from a position that was asked for before.
	Changes(ctx context.Context, folder, after string) (changes []Entry, next string, err error)

	// Sync returns when all that was changed before is as safe from a crash
	// as this store makes anything: on the disk, where there is one.
	Sync(ctx context.Context) error
	// Close releases what the store holds. It is safe to call twice; every
	// other call after it returns an error wrapping ErrUnavailable.
	Close() error
}

// A Take is one call of [Store.AllowMany].
type Take struct {
	Key  string
	Rate Rate
	Cost int
	// Gone is what counts while the store is gone; see [Resilient].
	Gone Gone
}

// An Entry is a value with its key. From [Store.Changes], an entry with a TTL
// of 0 says that the key is gone.
type Entry struct {
	Key   string
	Value []byte
	TTL   time.Duration // what is left of its life
}

// Folder returns the folder that key is in, with its slash, or "" when it is
// in none.
func Folder(key string) string { return key[:strings.IndexByte(key, '/')+1] }

func checkFolder(what, prefix string) (string, error) {
	f := Folder(prefix)
	if f == "" {
		return "", fmt.Errorf("store: %s: %q holds no folder", what, prefix)
	}
	return f, nil
}

// Rate is how much is allowed in how much time: Requests per Per on average,
// and Burst at once (0 means Requests). The zero Rate means "no limit".
type Rate struct {
	Requests int
	Per      time.Duration
	Burst    int
}

// IsZero reports whether r sets no limit.
func (r Rate) IsZero() bool { return r.Requests == 0 }

// Limit is a [Rate] as GCRA counts it: a bucket is Full away from empty, and
// each unit takes an Interval of that.
type Limit struct {
	Interval, Full time.Duration
	Burst          int
}

// IsZero reports whether l sets no limit.
func (l Limit) IsZero() bool { return l.Full == 0 }

// Limit returns r as GCRA counts it, or the error of a caller whose rate is
// none or whose cost could never pass.
func (r Rate) Limit(cost int) (Limit, error) {
	if r.IsZero() {
		return Limit{}, nil
	}
	if r.Requests < 0 || r.Per <= 0 || r.Burst < 0 {
		return Limit{}, fmt.Errorf("store: %v is no rate", r)
	}
	l := Limit{Burst: r.Burst, Interval: max(r.Per/time.Duration(r.Requests), 1)}
	if l.Burst == 0 {
		l.Burst = r.Requests
	}
	if int64(l.Burst) > math.MaxInt64/4/int64(l.Interval) {
		return Limit{}, fmt.Errorf("store: %v is out of range", r)
	}
	l.Full = l.Interval * time.Duration(l.Burst)
	if int64(cost) > int64(l.Burst) || int64(cost) < -math.MaxInt64/4/int64(l.Interval) {
		return Limit{}, fmt.Errorf("store: a cost of %d is out of range for %v", cost, r)
	}
	return l, nil
}

// Result is the answer to [Store.Allow], with what the RateLimit header
// fields (draft-ietf-httpapi-ratelimit-headers) need.
type Result struct {
	Allowed    bool
	Limit      int           // units at most at once
	Remaining  int           // units left now
	RetryAfter time.Duration // when a refused call would pass; 0 if allowed
	ResetAfter time.Duration // when the bucket is full again
}

var units = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour,
}

// ParseRate reads "100/m", "5/30s" or "100/m burst 20". "off" is the zero
// Rate.
func ParseRate(s string) (Rate, error) {
	fail := func() (Rate, error) {
		return Rate{}, fmt.Errorf("%q is not a rate: write requests per time, such as \"100/m\", \"5/30s\" or \"100/m burst 20\", or \"off\"", s)
	}
	text := strings.TrimSpace(s)
	if text == "off" {
		return Rate{}, nil
	}
	text, burst, hasBurst := strings.Cut(text, " burst ")
	n, per, ok := strings.Cut(strings.TrimSpace(text), "/")
	if !ok {
		return fail()
	}
	var r Rate
	var err error
	if r.Requests, err = strconv.Atoi(strings.TrimSpace(n)); err != nil || r.Requests <= 0 || r.Requests > 1e9 {
		return fail()
	}
	per = strings.TrimSpace(per)
	if d, ok := units[per]; ok {
		r.Per = d
	} else if r.Per, err = time.ParseDuration(per); err != nil || r.Per <= 0 {
		return fail()
	}
	if hasBurst {
		if r.Burst, err = strconv.Atoi(strings.TrimSpace(burst)); err != nil || r.Burst <= 0 || r.Burst > 1e9 {
			return fail()
		}
	}
	// A bucket that takes lifetimes to refill is a slip of the pen, and its
	// arithmetic would leave 64 bits.
	if r.Per > 366*24*time.Hour || float64(r.Per)/float64(r.Requests)*float64(max(r.Burst, 1)) > float64(366*24*time.Hour) {
		return Rate{}, fmt.Errorf("%q is not a usable rate: it takes more than a year to refill", s)
	}
	return r, nil
}

// String writes r as [ParseRate] reads it.
func (r Rate) String() string {
	if r.IsZero() {
		return "off"
	}
	per := r.Per.String()
	for _, u := range []string{"s", "m", "h", "d"} {
		if units[u] == r.Per {
			per = u
		}
	}
	s := fmt.Sprintf("%d/%s", r.Requests, per)
	if r.Burst > 0 {
		s += fmt.Sprintf(" burst %d", r.Burst)
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler].
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}
