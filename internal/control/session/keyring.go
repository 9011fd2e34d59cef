package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A keyring seals cookies with the newest key and opens them with every key
// that can still be in use. The keys lie in a file that only this user can
// read, and a new one is made from time to time; or they follow from a secret
// that several nodes share, with a number that counts the same time.
//
// A sealed cookie is base64url(key id, nonce, ciphertext, tag): AES-256-GCM
// with a random nonce of 96 bits, which is good for 2³² cookies under one key.
type keyring struct {
	now    func() time.Time
	every  time.Duration // a new key this often
	keep   time.Duration // how long a key opens after it was replaced
	secret string        // of the nodes; empty: file
	file   string        // empty and no secret: keys of this process

	set     atomic.Pointer[keyset]
	looking sync.Mutex // held while the file is read or written
	looked  atomic.Int64
}

type keyset struct {
	current *sealKey
	byID    map[uint32]*sealKey
	all     []*sealKey // newest first
	since   time.Time  // when sealing began here
}

type sealKey struct {
	id   uint32
	made time.Time
	raw  []byte // for the file
	aead cipher.AEAD
}

func newSealKey(id uint32, raw []byte, made time.Time) (*sealKey, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealKey{id: id, made: made, raw: raw, aead: aead}, err
}

func randomSealKey(now time.Time) *sealKey {
	raw := make([]byte, 32)
	rand.Read(raw)
	k, err := newSealKey(idOf(raw), raw, now)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return k
}

// idOf names a key without saying anything about it.
func idOf(raw []byte) uint32 {
	sum := sha256.Sum256(append([]byte("dewar session key id\x00"), raw...))
	return binary.BigEndian.Uint32(sum[:])
}

const (
	keyFile    = "session.keys"
	keyFileTop = "# Keys that seal the app's session cookies: whoever has them is any user.\n# Deleting this file logs everybody out.\n"
	maxKeys    = 64
)

// openKeyring returns the keys of a secret (16 characters at least), of a
// file in a folder, or of this process when both are empty.
func openKeyring(secret, dir string, every, keep time.Duration, now func() time.Time) (*keyring, error) {
	r := &keyring{now: now, every: every, keep: keep, secret: secret}
	switch {
	case secret != "":
		if len(secret) < 16 {
			return nil, errors.New("the secret has less than 16 characters: whoever guesses it is any user")
		}
		r.set.Store(&keyset{byID: map[uint32]*sealKey{}})
		_, err := r.numbered(r.number(now()))
		return r, err
	case dir == "":
		k := randomSealKey(now())
		r.set.Store(&keyset{current: k, byID: map[uint32]*sealKey{k.id: k}, all: []*sealKey{k}})
		return r, nil
	}
	r.file = filepath.Join(dir, keyFile)
	return r, r.load(nil)
}

// lasting says whether a restart keeps the keys.
func (r *keyring) lasting() bool { return r.secret != "" || r.file != "" }

// stale reports whether a new key is long due and could not be made.
func (r *keyring) stale() bool {
	return r.secret == "" && r.now().Sub(r.set.Load().current.made) > r.every+time.Hour
}

// sealing keeps and returns since when cookies are sealed, over restarts: on
// says whether they are now. When they are not the time is forgotten, so that
// it begins anew. For the keys of a shared secret it is not kept here: false.
func (r *keyring) sealing(on bool) (since time.Time, ok bool, err error) {
	if r.secret != "" {
		return since, false, nil
	}
	change := func(s *keyset) *keyset {
		n := *s
		switch {
		case on && s.since.IsZero():
			n.since = r.now()
		case !on && !s.since.IsZero():
			n.since = time.Time{}
		default:
			return s
		}
		return &n
	}
	if r.file != "" {
		err = r.load(change)
	} else {
		r.looking.Lock()
		r.set.Store(change(r.set.Load()))
		r.looking.Unlock()
	}
	return r.set.Load().since, true, err
}

// number counts the keys of a shared secret.
func (r *keyring) number(at time.Time) uint32 { return uint32(at.Unix() / int64(r.every/time.Second)) }

// numbered returns the key of a shared secret with a number, if it can be in
// use: one before its time is a forgery, one long after opens nothing any
// more.
func (r *keyring) numbered(n uint32) (*sealKey, error) {
	now := r.number(r.now())
	if n > now+1 || uint64(n)+uint64(r.keep/r.every)+2 < uint64(now) {
		return nil, errors.New("not a key of now")
	}
	s := r.set.Load()
	if k := s.byID[n]; k != nil {
		return k, nil
	}
	raw, err := hkdf.Key(sha256.New, []byte(r.secret), nil, "dewar session seal "+strconv.FormatUint(uint64(n), 10), 32)
	if err != nil {
		return nil, err
	}
	k, err := newSealKey(n, raw, time.Unix(int64(n)*int64(r.every/time.Second), 0))
	if err != nil {
		return nil, err
	}
	r.looking.Lock()
	defer r.looking.Unlock()
	old := r.set.Load()
	next := &keyset{current: k, byID: map[uint32]*sealKey{n: k}, since: old.since}
	for id, other := range old.byID {
		if uint64(id)+uint64(r.keep/r.every)+2 >= uint64(now) {
			next.byID[id] = other
		}
	}
	r.set.Store(next)
	return k, nil
}

// key returns the key to seal with.
func (r *keyring) key() (*sealKey, error) {
	if r.secret != "" {
		return r.numbered(r.number(r.now()))
	}
	s := r.set.Load()
	if r.now().Sub(s.current.made) < r.every {
		return s.current, nil
	}
	if err := r.rotate(false); err != nil {
		return s.current, nil // an old key is better than none; Health says so
	}
	return r.set.Load().current, nil
}

// byID returns the key to open with, or nil.
func (r *keyring) byID(id uint32) *sealKey {
	if r.secret != "" {
		k, _ := r.numbered(id)
		return k
	}
	if k := r.set.Load().byID[id]; k != nil {
		return k
	}
	// Another process of this project may have made one: look, but not for
	// every cookie that somebody makes up.
	last := r.looked.Load()
	if now := r.now().UnixNano(); r.file != "" && now-last > int64(time.Second) && r.looked.CompareAndSwap(last, now) {
		if r.load(nil) == nil {
			return r.set.Load().byID[id]
		}
	}
	return nil
}

// rotate makes a new key. With drop the old ones open nothing any more.
func (r *keyring) rotate(drop bool) error {
	if r.secret != "" {
		return errors.New("the keys follow from session.keys: change that secret on every node, then dewar reload")
	}
	change := func(s *keyset) *keyset {
		if !drop && r.now().Sub(s.current.made) < r.every {
			return s // another process did it meanwhile
		}
		return r.next(s, drop)
	}
	if r.file != "" {
		return r.load(change)
	}
	r.looking.Lock()
	defer r.looking.Unlock()
	r.set.Store(change(r.set.Load()))
	return nil
}

// next returns s with a new key in front.
func (r *keyring) next(s *keyset, drop bool) *keyset {
	now := r.now()
	k := randomSealKey(now)
	n := &keyset{current: k, byID: map[uint32]*sealKey{k.id: k}, all: []*sealKey{k}, since: s.since}
	if drop {
		return n
	}
	replaced := now
	for _, old := range s.all {
		if now.Sub(replaced) > r.keep || len(n.all) == maxKeys {
			break
		}
		replaced = old.made
		n.all, n.byID[old.id] = append(n.all, old), old
	}
	return n
}

// load reads the file, makes it if there is none, and writes what change makes
// of it. A lock keeps two processes from doing so at once.
func (r *keyring) load(change func(*keyset) *keyset) error {
	r.looking.Lock()
	defer r.looking.Unlock()
	lock, err := os.OpenFile(r.file+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("%s.lock: %w", r.file, err)
	}
	was, err := r.read()
	s := was
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k := randomSealKey(r.now())
		s = &keyset{current: k, byID: map[uint32]*sealKey{k.id: k}, all: []*sealKey{k}}
	case err != nil:
		return err
	case change != nil:
		s = change(was)
	}
	if s != was {
		if err := r.write(s); err != nil {
			return err
		}
	}
	r.set.Store(s)
	return nil
}

func (r *keyring) read() (*keyset, error) {
	st, err := os.Lstat(r.file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds the keys of every session and is no file that only you can read (mode %04o): chmod 600 it, or delete it, which logs everybody out", r.file, st.Mode().Perm())
	}
	if st.Size() > 64<<10 {
		return nil, fmt.Errorf("%s is too large for a list of keys", r.file)
	}
	b, err := os.ReadFile(r.file)
	if err != nil {
		return nil, err
	}
	return parseKeys(string(b), r.file)
}

// parseKeys reads lines "since SECONDS" and "key SECONDS BASE64", newest key
// first. No error quotes a line: it may hold a key.
func parseKeys(text, name string) (*keyset, error) {
	s := &keyset{byID: map[uint32]*sealKey{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		bad := func() (*keyset, error) {
			return nil, fmt.Errorf("%s:%d is damaged: delete the line, or the file, which logs everybody out", name, n)
		}
		if len(f) < 2 {
			return bad()
		}
		at, err := strconv.ParseInt(f[1], 10, 62)
		if err != nil || at < 0 {
			return bad()
		}
		switch {
		case f[0] == "since" && len(f) == 2:
			s.since = time.Unix(at, 0)
		case f[0] == "key" && len(f) == 3:
			raw, err := base64.RawURLEncoding.DecodeString(f[2])
			if err != nil || len(raw) != 32 || len(s.all) == maxKeys {
				return bad()
			}
			k, err := newSealKey(idOf(raw), raw, time.Unix(at, 0))
			if err != nil {
				return bad()
			}
			s.all, s.byID[k.id] = append(s.all, k), k
		default:
			return bad()
		}
	}
	if len(s.all) == 0 {
		return nil, fmt.Errorf("%s holds no key: delete it, which logs everybody out", name)
	}
	s.current = s.all[0]
	return s, nil
}

// write replaces the file in one step.
func (r *keyring) write(s *keyset) error {
	var b strings.Builder
	b.WriteString(keyFileTop)
	if !s.since.IsZero() {
		fmt.Fprintf(&b, "since %d\n", s.since.Unix())
	}
	for _, k := range s.all {
		fmt.Fprintf(&b, "key %d %s\n", k.made.Unix(), base64.RawURLEncoding.EncodeToString(k.raw))
	}
	f, err := os.CreateTemp(filepath.Dir(r.file), keyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(b.String())
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), r.file)
	}
	return err
}

// keyIDSize stands before the nonce.
const keyIDSize = 4

// seal returns the value of a cookie for a ticket, bound to the name that the
// app knows the cookie by.
func (r *keyring) seal(name string, t *ticket) (string, error) {
	k, err := r.key()
	if err != nil {
		return "", err
	}
	plain := t.append(make([]byte, 0, 96+len(t.account)+len(t.attrs)+len(t.value)))
	out := binary.BigEndian.AppendUint32(make([]byte, 0, keyIDSize+k.aead.Overhead()+len(plain)), k.id)
	out = k.aead.Seal(out, nil, plain, []byte(name))
	return base64.RawURLEncoding.EncodeToString(out), nil
}

// open is the inverse of seal: false for everything that this ring did not
// seal under that name.
func (r *keyring) open(name, value string, t *ticket) bool {
	n := base64.RawURLEncoding.DecodedLen(len(value))
	if n < keyIDSize+28+2+len(t.id) || n > maxSealed {
		return false
	}
	room := openRooms.Get().(*openRoom)
	defer openRooms.Put(room)
	n, err := strictURL.Decode(room.raw[:], room.text[:copy(room.text[:], value)])
	if err != nil {
		return false
	}
	b := room.raw[:n]
	k := r.byID(binary.BigEndian.Uint32(b))
	if k == nil {
		return false
	}
	plain, err := k.aead.Open(b[keyIDSize:keyIDSize], nil, b[keyIDSize:], []byte(name))
	return err == nil && t.read(plain) == nil
}

// looks says what a value that does not open looks like.
func (r *keyring) looks(value string) shape {
	b, err := strictURL.DecodeString(value)
	if err != nil || len(b) < keyIDSize+28+2+len(lineage{}) {
		return noSeal
	}
	if r.byID(binary.BigEndian.Uint32(b)) != nil {
		return ourKey
	}
	return someKey
}

type shape uint8

const (
	noSeal  shape = iota
	someKey       // long enough, and of the right characters
	ourKey        // under the id of one of our keys
)

// maxSealed bounds what is decrypted: what browsers keep is half as large.
const maxSealed = 9 << 10

type openRoom struct {
	text [maxSealed * 4 / 3]byte
	raw  [maxSealed]byte
}

var openRooms = sync.Pool{New: func() any { return new(openRoom) }}
