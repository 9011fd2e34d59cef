// Package redisstore is the [store.Store] that several nodes share, in Redis
// (6.2 or later) or Valkey: one server, a group that Sentinel watches, or a
// Cluster.
//
// Limits are one script each (GCRA), run by the server with the server's
// clock, so that nodes whose clocks differ agree. Values with a folder are
// written together with the folder's index and log in one script, too: what
// is there can be listed and followed. Everything expires.
//
// The server learns nothing personal: keys are HMACs, values and the names in
// the log are sealed (AES-256-GCM), both under keys made from a secret that
// all nodes have and the server does not. Whoever can write there can forget
// or bring back what was there, but make nothing up.
//
// A call waits no longer than [Options.Timeout], tries once, and dials once.
// It does not notice by itself that a server is gone for good: that is
// [store.Resilient], in which it belongs.
package redisstore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/dewar-security/dewar/internal/store"
)

// Options say where the server is. Addresses and Secret are required.
type Options struct {
	// Addresses are host:port, or the path of a unix socket; of a Sentinel
	// group, those of the Sentinels; of a Cluster, those of some nodes.
	Addresses []string
	// Master is the name of the group that Sentinels watch; with it,
	// Addresses are Sentinels.
	Master string
	// Cluster says that Addresses are nodes of a Cluster.
	Cluster bool
	// DB is the number of the database; a Cluster has only 0.
	DB                 int
	Username, Password string
	SentinelPassword   string
	// TLS is how the connection is encrypted; nil means it is not.
	TLS *tls.Config
	// Secret is what keys and values are hidden with, of 32 bytes at least.
	// All nodes have the same.
	Secret string
	// Prefix is what all keys begin with; "" means "dewar".
	Prefix string
	// Timeout is how long a call that a request waits for may take; 0 means
	// 20 ms.
	Timeout time.Duration
	// Now replaces the server's clock for limits, in tests; nil means the
	// server's.
	Now func() time.Time
	// Dial replaces how connections are made, in tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Store is a store in Redis. Make one with [New].
type Store struct {
	o      Options
	client redis.UniversalClient
	seal   cipher.AEAD
	macs   sync.Pool // of hash.Hash
	closed atomic.Bool
	stop   chan struct{}
	flying atomic.Int64
	lanes  [lanes]lane
	queue  chan *batched // nil in a Cluster: one node that hangs would hold up the others' calls
}

// batched are the jobs of one caller on their way to a pipeline with those of
// others: at load, most of what a call costs is the system calls around it.
type batched struct {
	jobs []*job
	done chan error
}

var _ store.Store = (*Store)(nil)

const (
	// shards is into how many slots of a Cluster one folder goes.
	shards = 8
	// logLength is how many changes a shard of a folder remembers.
	logLength = 4096
	// logRead is how many of them one answer has.
	logRead = 64
	// slowTimeout bounds what no request waits for.
	slowTimeout = 5 * time.Second
	// updateTries bounds how often an update meets others.
	updateTries = 1000
	// pipes is how many pipelines are on their way at most, pipeLength how
	// many calls are in one.
	pipes      = 2
	pipeLength = 128
	// direct is how many calls go on their own.
	direct = 2
)

// New returns the store. It does not connect: a server that is not there yet
// is one that may come. [Store.Check] looks.
func New(o Options) (*Store, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("no address of a server")
	}
	if len(o.Secret) < 32 {
		return nil, errors.New("the secret needs at least 32 characters, such as \"openssl rand -base64 32\" makes: keys and values are hidden with it")
	}
	if o.Prefix == "" {
		o.Prefix = "dewar"
	}
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Millisecond
	}
	derive := func(what string) ([]byte, error) {
		return hkdf.Key(sha256.New, []byte(o.Secret), nil, "dewar store "+what, 32)
	}
	sealKey, err := derive("values")
	if err != nil {
		return nil, err
	}
	macKey, err := derive("keys")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealKey)
	if err != nil {
		return nil, err
	}
	quiet()
	s := &Store{o: o, stop: make(chan struct{})}
	if s.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	s.macs.New = func() any { return hmac.New(sha256.New, macKey) }
	s.client = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: o.Addresses, MasterName: o.Master, IsClusterMode: o.Cluster, DB: o.DB, Dialer: o.Dial,
		Username: o.Username, Password: o.Password, SentinelPassword: o.SentinelPassword, TLSConfig: o.TLS,
		// One try each: a request does not wait for the second. How long is
		// the context's affair, dialling and the wait for a connection
		// included; the client's own times are for what no request waits for.
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: max(10*o.Timeout, time.Second), ReadTimeout: slowTimeout, WriteTimeout: slowTimeout, PoolTimeout: slowTimeout,
		MinIdleConns: 2, ConnMaxIdleTime: 5 * time.Minute,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if !o.Cluster {
		s.queue = make(chan *batched)
		for range pipes {
			go s.pipe()
		}
	}
	return s, nil
}

// pipe sends what has come while others were on their way.
func (s *Store) pipe() {
	for {
		var all []*batched
		select {
		case b := <-s.queue:
			all = append(all, b)
		case <-s.stop:
			return
		}
		for more := true; more && len(all) < pipeLength; {
			select {
			case b := <-s.queue:
				all = append(all, b)
			default:
				more = false
			}
		}
		var jobs []*job
		for _, b := range all {
			jobs = append(jobs, b.jobs...)
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
		_ = s.run(ctx, jobs...)
		for _, b := range all {
			var err error
			for _, j := range b.jobs {
				if err == nil {
					err = j.result.Err()
				}
			}
			b.done <- s.failure(ctx, err)
		}
		cancel()
	}
}

// together runs jobs of one caller, in a pipeline with those of others.
func (s *Store) together(ctx context.Context, jobs ...*job) error {
	// Few calls at once are quicker on their own.
	defer s.flying.Add(-1)
	if s.flying.Add(1) <= direct || s.queue == nil {
		return s.run(ctx, jobs...)
	}
	b := &batched{jobs, make(chan error, 1)}
	select {
	case s.queue <- b:
	case <-s.stop:
		return errClosed
	case <-ctx.Done():
		return s.failure(ctx, ctx.Err())
	}
	select {
	case err := <-b.done:
		return err
	case <-ctx.Done():
		return s.failure(ctx, ctx.Err())
	}
}

// quiet keeps the client from writing to the standard error by itself: what
// fails is an error of the call it failed, and one that nobody waits for is
// tried again.
var quiet = sync.OnceFunc(func() { redis.SetLogger(silence{}) })

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// String says where the store is, without what is secret.
func (s *Store) String() string {
	what := "redis"
	if s.o.Master != "" {
		what += " group " + s.o.Master + " by sentinel"
	} else if s.o.Cluster {
		what += " cluster"
	}
	return what + " " + strings.Join(s.o.Addresses, ",")
}

// mac hides parts of a key: 16 bytes of HMAC-SHA-256.
func (s *Store) mac(kind byte, key string, more ...int64) (out [16]byte) {
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	var b [256]byte
	buf := append(b[:0], kind)
	for _, n := range more {
		buf = binary.BigEndian.AppendUint64(buf, uint64(n))
	}
	buf = append(buf, key...)
	h.Write(buf)
	copy(out[:], h.Sum(b[:0]))
	return out
}

// place is where a value is: the value's own key and, if it is in a folder,
// the folder's index and log in the same slot.
type place struct {
	keys   []string
	member string
}

func (s *Store) place(key string) place {
	m := s.mac('v', key)
	member := string(m[:])
	folder := store.Folder(key)
	if folder == "" {
		return place{[]string{s.o.Prefix + ":v:" + member}, member}
	}
	base := s.base(folder, int(m[0])%shards)
	return place{[]string{base + "v:" + member, base + "i", base + "c"}, member}
}

// base is what the keys of one shard of a folder begin with.
func (s *Store) base(folder string, shard int) string {
	name := strings.TrimSuffix(folder, "/")
	plain := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }
	if name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		m := s.mac('f', folder)
		name = fmt.Sprintf("%x", m)
	}
	return s.o.Prefix + ":{" + name + "." + strconv.Itoa(shard) + "}:"
}

// sealValue hides a value together with its key.
func (s *Store) sealValue(at, key string, value []byte) string {
	b := binary.AppendUvarint(make([]byte, 0, len(key)+len(value)+3), uint64(len(key)))
	b = append(append(b, key...), value...)
	return string(s.seal.Seal(nil, nil, b, []byte(at)))
}

// openValue is the inverse.
func (s *Store) openValue(at, sealed string) (key string, value []byte, err error) {
	b, err := s.seal.Open(nil, nil, []byte(sealed), []byte(at))
	n, size := binary.Uvarint(b)
	if err != nil || size <= 0 || n > uint64(len(b)-size) {
		return "", nil, fmt.Errorf("%w: a value there is not sealed with this secret: all nodes need the same", store.ErrUnavailable)
	}
	b = b[size:]
	return string(b[:n]), b[n:], nil
}

// gcra takes from a bucket. The clock is the server's; it is shifted so that
// a 64-bit float counts it in nanoseconds.
var gcra = redis.NewScript(`
local interval, full, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now
if ARGV[4] then
	now = tonumber(ARGV[4])
else
	local t = redis.call('TIME')
	now = (t[1] - 1767225600) * 1000000 + t[2]
end
local tat = now
local had = redis.call('GET', KEYS[1])
if had then tat = math.max(tonumber(had), now) end
local after = math.max(tat + cost * interval, now)
local allowed, retry = 0, 0
if after - now <= full + 0.01 then
	allowed = 1
	tat = after
	if cost ~= 0 then
		if after > now then
			redis.call('SET', KEYS[1], string.format('%.4f', after), 'PX', math.ceil((after - now) / 1000) + 1000)
		elseif had then
			redis.call('DEL', KEYS[1])
		end
	end
else
	retry = math.ceil(after - now - full)
end
return {allowed, math.floor((full - (tat - now) + 0.01) / interval), retry, math.ceil(tat - now - 0.01)}
`)

// change puts or deletes a value, always or if the old one is as expected.
// KEYS: the value and, in a folder, its index and its log. ARGV: "if" and the
// expected old value ("" is none), or "" twice; the new value and its life in
// milliseconds (0 deletes); the member of the index; the entry of the log and
// the log's length.
var change = redis.NewScript(`
if ARGV[1] == 'if' then
	local have = redis.call('GET', KEYS[1]) or ''
	if have ~= ARGV[2] then return {0, have} end
end
local life = tonumber(ARGV[4])
if life == 0 then
	if redis.call('DEL', KEYS[1]) == 0 then return {1, ''} end
	if #KEYS > 1 then redis.call('ZREM', KEYS[2], ARGV[5]) end
else
	redis.call('SET', KEYS[1], ARGV[3], 'PX', life)
end
if #KEYS > 1 then
	if life > 0 then
		local t = redis.call('TIME')
		local now = t[1] * 1000 + math.floor(t[2] / 1000)
		redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 1)
		redis.call('ZADD', KEYS[2], now + life, ARGV[5])
	end
	redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[7], '*', 'k', ARGV[6])
	for i = 2, 3 do
		local left = redis.call('PTTL', KEYS[i])
		if left ~= -2 and left < life + 3600000 then redis.call('PEXPIRE', KEYS[i], life + 3600000) end
	end
end
return {1, ''}
`)

// tail returns the last position of a log.
var tail = redis.NewScript(`
local e = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if e[1] then return e[1][1] end
local t = redis.call('TIME')
return string.format('%.0f-18446744073709551615', t[1] * 1000 + math.floor(t[2] / 1000) - 1)
`)

// since returns a log's length, first and last position, and what follows a
// position, as position and entry in turn.
var since = redis.NewScript(`
local out = {redis.call('XLEN', KEYS[1]), '', ''}
if out[1] == 0 then return out end
out[2] = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
out[3] = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
for _, e in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
	out[#out + 1] = e[1]
	out[#out + 1] = e[2][2]
end
return out
`)

// read returns values of one slot and what is left of their lives.
var read = redis.NewScript(`
local out = {}
for i, k in ipairs(KEYS) do
	out[2 * i - 1] = redis.call('GET', k) or ''
	out[2 * i] = redis.call('PTTL', k)
end
return out
`)

// job is one call of a script in a pipeline.
type job struct {
	script *redis.Script
	keys   []string
	args   []any
	result *redis.Cmd
}

// run runs the jobs in one round trip, or two when a server has never seen a
// script (or has forgotten it).
func (s *Store) run(ctx context.Context, jobs ...*job) error {
	if len(jobs) == 1 {
		j := jobs[0]
		j.result = j.script.EvalSha(ctx, s.client, j.keys, j.args...)
		if redis.HasErrorPrefix(j.result.Err(), "NOSCRIPT") {
			j.result = j.script.Eval(ctx, s.client, j.keys, j.args...)
		}
		return s.failure(ctx, j.result.Err())
	}
	pipe := s.client.Pipeline()
	for _, j := range jobs {
		j.result = j.script.EvalSha(ctx, pipe, j.keys, j.args...)
	}
	_, _ = pipe.Exec(ctx) // the error is that of one of the commands
	var again []*job
	for _, j := range jobs {
		if redis.HasErrorPrefix(j.result.Err(), "NOSCRIPT") {
			again = append(again, j)
		}
	}
	if len(again) > 0 {
		pipe := s.client.Pipeline()
		for _, j := range again {
			j.result = j.script.Eval(ctx, pipe, j.keys, j.args...)
		}
		_, _ = pipe.Exec(ctx)
	}
	for _, j := range jobs {
		if err := j.result.Err(); err != nil {
			return s.failure(ctx, err)
		}
	}
	return nil
}

// failure makes an error of the server or the way to it one of the store.
func (s *Store) failure(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return errClosed
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("%w: %s: %w", store.ErrFull, s, err)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = errors.Join(err, ctx.Err())
	}
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s, err)
}

var errClosed = fmt.Errorf("%w: closed", store.ErrUnavailable)

// within bounds a call that a request waits for.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.closed.Load() {
		return ctx, func() {}, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	return ctx, cancel, nil
}

// slowly bounds a call that none does.
func (s *Store) slowly(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.closed.Load() {
		return ctx, func() {}, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, slowTimeout)
	return ctx, cancel, nil
}

// unlimited is the answer under the zero rate.
var unlimited = store.Result{Allowed: true, Limit: math.MaxInt, Remaining: math.MaxInt}

func (s *Store) take(t store.Take) (*job, store.Limit, error) {
	l, err := t.Rate.Limit(t.Cost)
	if err != nil || l.IsZero() {
		return nil, l, err
	}
	m := s.mac('l', t.Key, int64(l.Interval), int64(l.Full))
	micro := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e3, 'f', -1, 64) }
	j := &job{script: gcra, keys: []string{s.o.Prefix + ":l:" + string(m[:])}, args: []any{micro(l.Interval), micro(l.Full), t.Cost}}
	if s.o.Now != nil {
		j.args = append(j.args, strconv.FormatInt(s.o.Now().UnixMicro()-1767225600e6, 10))
	}
	return j, l, nil
}

func taken(j *job, l store.Limit) (store.Result, error) {
	v, err := j.result.Int64Slice()
	if err != nil || len(v) != 4 {
		return store.Result{}, fmt.Errorf("%w: an answer of the limit's script: %v %w", store.ErrUnavailable, v, err)
	}
	return store.Result{
		Allowed: v[0] == 1, Limit: l.Burst, Remaining: int(v[1]),
		RetryAfter: time.Duration(v[2]) * time.Microsecond, ResetAfter: time.Duration(v[3]) * time.Microsecond,
	}, nil
}

// Allow implements [store.Store].
func (s *Store) Allow(ctx context.Context, key string, rate store.Rate, cost int) (store.Result, error) {
	r, err := s.AllowMany(ctx, []store.Take{{Key: key, Rate: rate, Cost: cost}})
	if err != nil {
		return store.Result{}, err
	}
	return r[0], nil
}

// AllowMany implements [store.Store].
func (s *Store) AllowMany(ctx context.Context, takes []store.Take) ([]store.Result, error) {
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	var jobs []*job
	all := make([]*job, len(takes))
	limits := make([]store.Limit, len(takes))
	for i, t := range takes {
		if all[i], limits[i], err = s.take(t); err != nil {
			return nil, err
		}
		if all[i] != nil {
			jobs = append(jobs, all[i])
		}
	}
	if len(jobs) > 0 {
		if err := s.together(ctx, jobs...); err != nil {
			return nil, err
		}
	}
	out := make([]store.Result, len(takes))
	for i, j := range all {
		if out[i] = unlimited; j != nil {
			if out[i], err = taken(j, limits[i]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, bool, error) {
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return nil, false, err
	}
	at := s.place(key).keys[0]
	sealed, err := s.client.Get(ctx, at).Result()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.failure(ctx, err)
	}
	_, value, err := s.openValue(at, sealed)
	return value, err == nil, err
}

// GetMany implements [store.Store].
func (s *Store) GetMany(ctx context.Context, keys []string) ([][]byte, error) {
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	at := make([]string, len(keys))
	got := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		at[i] = s.place(key).keys[0]
		got[i] = pipe.Get(ctx, at[i])
	}
	_, _ = pipe.Exec(ctx)
	out := make([][]byte, len(keys))
	for i, c := range got {
		sealed, err := c.Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, s.failure(ctx, err)
		}
		_, value, err := s.openValue(at[i], sealed)
		if err != nil {
			return nil, err
		}
		out[i] = append([]byte{}, value...)
	}
	return out, nil
}

// changing is the job that puts or deletes a value.
func (s *Store) changing(p place, key, sealed string, ttl time.Duration, only string, old string) *job {
	life := int64(0)
	if ttl > 0 {
		life = max(int64((ttl+time.Millisecond-1)/time.Millisecond), 1)
	}
	j := &job{script: change, keys: p.keys, args: []any{only, old, sealed, life}}
	if len(p.keys) > 1 {
		j.args = append(j.args, p.member, s.sealValue(p.keys[2], key, nil), logLength)
	}
	return j
}

// Put implements [store.Store].
func (s *Store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("store: put: the lifetime %v is not positive", ttl)
	}
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	p := s.place(key)
	return s.run(ctx, s.changing(p, key, s.sealValue(p.keys[0], key, value), ttl, "", ""))
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return s.run(ctx, s.changing(s.place(key), key, "", 0, "", ""))
}

// lane lets one update of a value at a time go to the server: what this node's
// requests do to one another is settled here. Hundreds that compare and set at
// once would keep the server so busy that it looks gone.
type lane struct {
	once  sync.Once
	token chan struct{}
	// row is how many updates the server has failed one after the other, failed
	// and err are the last. Those who waited meanwhile share them: they do not
	// wait for it one after the other. Whoever has the token reads and writes
	// them.
	row    int
	failed time.Time
	err    error
}

// laneTries is how many try a server that fails before the others share that.
const laneTries = 3

// lanes is how many lanes there are. Values share them by chance.
const lanes = 256

// enter waits for the lane. After an error it is not to be left.
func (l *lane) enter(ctx context.Context) error {
	l.once.Do(func() { l.token = make(chan struct{}, 1) })
	began := time.Now()
	select {
	case l.token <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrContended, ctx.Err())
	}
	if l.row >= laneTries && l.failed.After(began) {
		err := l.err
		<-l.token
		return fmt.Errorf("%w: those before failed: %w", store.ErrContended, err)
	}
	return nil
}

func (l *lane) leave(ctx context.Context, err error) {
	switch {
	case !errors.Is(err, store.ErrUnavailable):
		l.row, l.err = 0, nil
	case ctx.Err() == nil && !errors.Is(err, store.ErrContended):
		l.row, l.failed, l.err = l.row+1, time.Now(), err
	}
	<-l.token
}

// Update implements [store.Store]: it compares and sets until nobody came
// between. Values are sealed with a nonce each, so that the same value put
// twice is not taken for one that nobody touched.
func (s *Store) Update(ctx context.Context, key string, change func(old []byte, ok bool) ([]byte, time.Duration, error)) (err error) {
	l := &s.lanes[s.mac('u', key)[0]]
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer func() { l.leave(ctx, err) }()
	return s.update(ctx, key, change)
}

func (s *Store) update(ctx context.Context, key string, change func(old []byte, ok bool) ([]byte, time.Duration, error)) error {
	first, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	p := s.place(key)
	sealed, err := s.client.Get(first, p.keys[0]).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return s.failure(first, err)
	}
	for try := range updateTries {
		var old []byte
		if sealed != "" {
			if _, old, err = s.openValue(p.keys[0], sealed); err != nil {
				return err
			}
		}
		value, ttl, err := change(old, sealed != "")
		switch {
		case errors.Is(err, store.ErrKeep):
			return nil
		case err != nil:
			return err
		case ttl < 0:
			return fmt.Errorf("store: update: the lifetime %v is negative", ttl)
		}
		next := ""
		if ttl > 0 {
			next = s.sealValue(p.keys[0], key, value)
		}
		j := s.changing(p, key, next, ttl, "if", sealed)
		one, cancel, err := s.within(ctx)
		if err == nil {
			err = s.run(one, j)
		}
		cancel()
		if err != nil {
			return err
		}
		answer, err := j.result.Slice()
		if err != nil || len(answer) != 2 {
			return fmt.Errorf("%w: an answer of the change's script: %v %w", store.ErrUnavailable, answer, err)
		}
		if n, _ := answer[0].(int64); n == 1 {
			return nil
		}
		sealed, _ = answer[1].(string)
		if try > 2 {
			select { // many want the same: spread them
			case <-time.After(time.Duration(binary.BigEndian.Uint16(random(2))%uint16(min(try, 32))) * 100 * time.Microsecond):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", store.ErrContended, ctx.Err())
		}
	}
	return fmt.Errorf("%w: %d times", store.ErrContended, updateTries)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Once implements [store.Store].
func (s *Store) Once(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	if ttl <= 0 {
		return false, fmt.Errorf("store: once: the lifetime %v is not positive", ttl)
	}
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return false, err
	}
	m := s.mac('o', key)
	err = s.client.SetArgs(ctx, s.o.Prefix+":o:"+string(m[:]), "1", redis.SetArgs{Mode: "NX", TTL: max((ttl+time.Millisecond-1)/time.Millisecond*time.Millisecond, time.Millisecond)}).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, s.failure(ctx, err)
}

// Scan implements [store.Store], by the folder's index.
func (s *Store) Scan(ctx context.Context, prefix string, visit func(store.Entry) bool) error {
	folder := store.Folder(prefix)
	if folder == "" {
		return fmt.Errorf("store: scan: %q holds no folder", prefix)
	}
	for shard := range shards {
		base := s.base(folder, shard)
		seen := map[string]bool{}
		for cursor := uint64(0); ; {
			one, cancel, err := s.slowly(ctx)
			if err != nil {
				return err
			}
			found, next, err := s.client.ZScan(one, base+"i", cursor, "", 500).Result()
			if err = s.failure(one, err); err != nil {
				cancel()
				return err
			}
			var keys []string
			for i := 0; i < len(found); i += 2 { // member and score in turn
				if !seen[found[i]] {
					seen[found[i]] = true
					keys = append(keys, base+"v:"+found[i])
				}
			}
			entries, err := s.read(one, keys)
			cancel()
			if err != nil {
				return err
			}
			for _, e := range entries {
				if strings.HasPrefix(e.Key, prefix) && !visit(e) {
					return nil
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// read returns what is there of some keys of one slot.
func (s *Store) read(ctx context.Context, keys []string) (out []store.Entry, err error) {
	for chunk := range slices.Chunk(keys, 500) {
		j := &job{script: read, keys: chunk}
		if err := s.run(ctx, j); err != nil {
			return nil, err
		}
		got, err := j.result.Slice()
		if err != nil || len(got) != 2*len(chunk) {
			return nil, fmt.Errorf("%w: an answer of the reading script: %d values %w", store.ErrUnavailable, len(got), err)
		}
		for i, at := range chunk {
			sealed, _ := got[2*i].(string)
			left, _ := got[2*i+1].(int64)
			if sealed == "" || left <= 0 {
				continue
			}
			key, value, err := s.openValue(at, sealed)
			if err != nil {
				return nil, err
			}
			out = append(out, store.Entry{Key: key, Value: value, TTL: time.Duration(left) * time.Millisecond})
		}
	}
	return out, nil
}

// position is a place in all logs of a folder.
type position struct {
	epoch string // of the data in the server
	at    [shards]id
}

// id is a position in a stream.
type id struct{ ms, n uint64 }

func (i id) String() string {
	return strconv.FormatUint(i.ms, 10) + "-" + strconv.FormatUint(i.n, 10)
}

func (i id) before(o id) bool { return i.ms < o.ms || i.ms == o.ms && i.n < o.n }

func parseID(s string) (i id, err error) {
	ms, n, ok := strings.Cut(s, "-")
	if !ok {
		return i, errors.New("no position")
	}
	var err2 error
	i.ms, err = strconv.ParseUint(ms, 10, 64)
	i.n, err2 = strconv.ParseUint(n, 10, 64)
	return i, errors.Join(err, err2)
}

func (p position) String() string {
	s := p.epoch
	for _, i := range p.at {
		s += "," + i.String()
	}
	return s
}

func parsePosition(s string) (p position, err error) {
	f := strings.Split(s, ",")
	if len(f) != shards+1 || f[0] == "" {
		return p, errors.New("no position")
	}
	p.epoch = f[0]
	for i := range p.at {
		if p.at[i], err = parseID(f[i+1]); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Changes implements [store.Store], by the folder's logs.
func (s *Store) Changes(ctx context.Context, folder, after string) ([]store.Entry, string, error) {
	if folder == "" || store.Folder(folder) != folder {
		return nil, "", fmt.Errorf("store: changes: %q is no folder", folder)
	}
	ctx, cancel, err := s.slowly(ctx)
	defer cancel()
	if err != nil {
		return nil, "", err
	}
	epochKey := s.o.Prefix + ":epoch"
	epoch, err := s.client.Get(ctx, epochKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", s.failure(ctx, err)
	}
	if after == "" {
		if epoch == "" {
			if err := s.client.SetNX(ctx, epochKey, fmt.Sprintf("%x", random(8)), 0).Err(); err != nil {
				return nil, "", s.failure(ctx, err)
			}
			if epoch, err = s.client.Get(ctx, epochKey).Result(); err != nil {
				return nil, "", s.failure(ctx, err)
			}
		}
		p := position{epoch: epoch}
		jobs := make([]*job, shards)
		for i := range jobs {
			jobs[i] = &job{script: tail, keys: []string{s.base(folder, i) + "c"}}
		}
		if err := s.run(ctx, jobs...); err != nil {
			return nil, "", err
		}
		for i, j := range jobs {
			text, err := j.result.Text()
			if err == nil {
				p.at[i], err = parseID(text)
			}
			if err != nil {
				return nil, "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
			}
		}
		return nil, p.String(), nil
	}
	p, err := parsePosition(after)
	if err != nil || p.epoch != epoch {
		return nil, "", fmt.Errorf("changes of %s: %w", folder, store.ErrReset)
	}
	jobs := make([]*job, shards)
	for i := range jobs {
		jobs[i] = &job{script: since, keys: []string{s.base(folder, i) + "c"}, args: []any{p.at[i].String(), logRead}}
	}
	if err := s.run(ctx, jobs...); err != nil {
		return nil, "", err
	}
	var out []store.Entry
	for i, j := range jobs {
		got, err := j.result.Slice()
		if err != nil || len(got) < 3 {
			return nil, "", fmt.Errorf("%w: an answer of the log's script: %d values %w", store.ErrUnavailable, len(got), err)
		}
		if n, _ := got[0].(int64); n == 0 {
			continue // all of it has expired, and so has what it was about
		} else {
			text := func(v any) string { s, _ := v.(string); return s }
			first, err1 := parseID(text(got[1]))
			last, err2 := parseID(text(got[2]))
			if err := errors.Join(err1, err2); err != nil {
				return nil, "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
			}
			if last.before(p.at[i]) && last.ms+1 < p.at[i].ms {
				// What is known here has not happened there: the server lost
				// its last writes (a failover).
				return nil, "", fmt.Errorf("changes of %s: %w", folder, store.ErrReset)
			}
			if n >= logLength && p.at[i].before(first) {
				return nil, "", fmt.Errorf("changes of %s: %w", folder, store.ErrLost)
			}
		}
		base := s.base(folder, i)
		names := map[string]string{} // of values, by where they are
		var places []string
		for k := 3; k+1 < len(got); k += 2 {
			at, _ := got[k].(string)
			entry, _ := got[k+1].(string)
			if p.at[i], err = parseID(at); err != nil {
				return nil, "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
			}
			name, _, err := s.openValue(base+"c", entry)
			if err != nil {
				return nil, "", err
			}
			where := s.place(name).keys[0]
			if _, twice := names[where]; !twice {
				names[where] = name
				places = append(places, where)
			}
		}
		there, err := s.read(ctx, places)
		if err != nil {
			return nil, "", err
		}
		for _, e := range there {
			delete(names, s.place(e.Key).keys[0])
			out = append(out, e)
		}
		for _, name := range names {
			out = append(out, store.Entry{Key: name})
		}
	}
	return out, p.String(), nil
}

// Sync implements [store.Store]: it asks every server that takes writes
// whether it is there. How safe what they have is from a crash of theirs is
// their own setting (appendfsync).
func (s *Store) Sync(ctx context.Context) error {
	ctx, cancel, err := s.within(ctx)
	defer cancel()
	if err != nil {
		return err
	}
	if c, ok := s.client.(*redis.ClusterClient); ok {
		return s.failure(ctx, c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }))
	}
	return s.failure(ctx, s.client.Ping(ctx).Err())
}

// Check looks at the servers: whether they are there, let us in, are new
// enough, and keep what they are given. It takes its time.
func (s *Store) Check(ctx context.Context) (warnings []string, err error) {
	ctx, cancel, err := s.slowly(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	look := func(ctx context.Context, c *redis.Client) error {
		info, err := c.Info(ctx, "server", "memory", "persistence").Result()
		if err != nil {
			return err
		}
		facts := map[string]string{}
		for line := range strings.Lines(info) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			facts[k] = v
		}
		mu.Lock()
		defer mu.Unlock()
		var major, minor int
		if _, err := fmt.Sscanf(facts["redis_version"], "%d.%d", &major, &minor); err == nil && (major < 6 || major == 6 && minor < 2) {
			return fmt.Errorf("version %s is too old: 6.2 at least", facts["redis_version"])
		}
		if p := facts["maxmemory_policy"]; facts["maxmemory"] != "0" && p != "" && p != "noeviction" {
			warnings = append(warnings, fmt.Sprintf("%s throws away what it likes when its memory is full (maxmemory-policy %s): a ban or an ended session may come back; set noeviction", s, p))
		}
		return nil
	}
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, c)
	}
	return warnings, s.failure(ctx, err)
}

// Refused reports whether err says that the server is there and will not do
// what is asked of it, now or later: a wrong password, too old a version.
func Refused(err error) bool {
	return redis.HasErrorPrefix(err, "WRONGPASS") || redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "NOPERM") || err != nil && strings.Contains(err.Error(), "is too old")
}

// Close implements [store.Store].
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.stop)
	return s.client.Close()
}
