package gateway

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/dewar-security/dewar/internal/store"
)

// sharedStorage keeps certificates, their keys and the account in the store
// that several nodes share. It implements [certmagic.Storage].
//
// Values are sealed (AES-256-GCM under a key derived from the operator's
// secret, bound to their name): whoever reads the store alone cannot be the
// site. The store forgets everything some day, so values are put again when
// they are read and half of their time is over. It cannot list its keys, so
// an index is kept, changed only under a lock.
type sharedStorage struct {
	store store.Store
	seal  cipher.AEAD
	now   func() time.Time
}

var _ certmagic.Storage = (*sharedStorage)(nil)

const (
	sharedPrefix   = "acme/"
	sharedLifetime = 400 * 24 * time.Hour
	sharedIndex    = "index"
	// lockLifetime is when a lock is taken for one whose holder has died. It
	// is longer than an order may take.
	lockLifetime = 10 * time.Minute
	lockPoll     = 250 * time.Millisecond
)

// newSharedStorage returns the storage. The secret is of at least 16 bytes.
func newSharedStorage(s store.Store, secret string, now func() time.Time) (*sharedStorage, error) {
	if len(secret) < 16 {
		return nil, errors.New("at least 16 characters: private keys are sealed with it")
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "dewar acme storage", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sharedStorage{store: s, seal: seal, now: now}, nil
}

// put seals a value: eight bytes of time, then the value.
func (s *sharedStorage) put(ctx context.Context, key string, value []byte) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.now().UnixNano()))
	return s.store.Put(ctx, sharedPrefix+key, s.seal.Seal(nil, nil, append(b, value...), []byte(key)), sharedLifetime)
}

func (s *sharedStorage) get(ctx context.Context, key string) (value []byte, at time.Time, err error) {
	b, ok, err := s.store.Get(ctx, sharedPrefix+key)
	if err != nil {
		return nil, at, err
	}
	if !ok {
		return nil, at, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	b, err = s.seal.Open(nil, nil, b, []byte(key))
	if err != nil || len(b) < 8 {
		return nil, at, fmt.Errorf("%s in the shared store is not sealed with this secret", key)
	}
	return b[8:], time.Unix(0, int64(binary.BigEndian.Uint64(b))), nil
}

// clean is the one spelling of a key.
func cleanKey(key string) string { return strings.Trim(path.Clean("/"+key), "/") }

// Store implements [certmagic.Storage].
func (s *sharedStorage) Store(ctx context.Context, key string, value []byte) error {
	key = cleanKey(key)
	if err := s.put(ctx, "v/"+key, value); err != nil {
		return err
	}
	return s.changeIndex(ctx, func(keys []string) []string {
		if slices.Contains(keys, key) {
			return keys
		}
		return append(keys, key)
	})
}

// Load implements [certmagic.Storage].
func (s *sharedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	key = cleanKey(key)
	v, at, err := s.get(ctx, "v/"+key)
	if err == nil && s.now().Sub(at) > sharedLifetime/2 {
		if err := s.Store(ctx, key, v); err != nil {
			return nil, err
		}
	}
	return v, err
}

// Delete implements [certmagic.Storage].
func (s *sharedStorage) Delete(ctx context.Context, key string) error {
	key = cleanKey(key)
	var gone []string
	err := s.changeIndex(ctx, func(keys []string) []string {
		return slices.DeleteFunc(keys, func(k string) bool {
			hit := k == key || strings.HasPrefix(k, key+"/")
			if hit {
				gone = append(gone, k)
			}
			return hit
		})
	})
	for _, k := range append(gone, key) {
		err = errors.Join(err, s.store.Delete(ctx, sharedPrefix+"v/"+k))
	}
	return err
}

// Exists implements [certmagic.Storage].
func (s *sharedStorage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements [certmagic.Storage].
func (s *sharedStorage) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	dir = cleanKey(dir)
	keys, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		rest, ok := strings.CutPrefix(k, dir+"/")
		if dir == "" {
			rest, ok = k, true
		}
		if !ok {
			continue
		}
		// Folders are listed, too, as a file system has them.
		at := dir
		for part := range strings.SplitSeq(rest, "/") {
			at = path.Join(at, part)
			if !slices.Contains(out, at) {
				out = append(out, at)
			}
			if !recursive {
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	slices.Sort(out)
	return out, nil
}

// Stat implements [certmagic.Storage].
func (s *sharedStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	key = cleanKey(key)
	v, at, err := s.get(ctx, "v/"+key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: at, Size: int64(len(v)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	if _, lerr := s.List(ctx, key, false); lerr == nil {
		return certmagic.KeyInfo{Key: key}, nil
	}
	return certmagic.KeyInfo{}, err
}

func (s *sharedStorage) index(ctx context.Context) ([]string, error) {
	b, _, err := s.get(ctx, sharedIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []string
	return keys, json.Unmarshal(b, &keys)
}

func (s *sharedStorage) changeIndex(ctx context.Context, change func([]string) []string) error {
	if err := s.Lock(ctx, "\x00index"); err != nil {
		return err
	}
	defer func() { _ = s.Unlock(context.WithoutCancel(ctx), "\x00index") }()
	keys, err := s.index(ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(change(slices.Clone(keys)))
	if err != nil {
		return err
	}
	return s.put(ctx, sharedIndex, b)
}

// A lock is a row of rounds. Whoever is the first to claim the present round
// ([store.Store.Once]) has the lock; letting go makes the next one the
// present. A round whose holder died is claimable again after lockLifetime.

func (s *sharedStorage) round(ctx context.Context, name string) (uint64, error) {
	b, ok, err := s.store.Get(ctx, sharedPrefix+"round/"+name)
	if err != nil || !ok || len(b) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// Lock implements [certmagic.Locker].
func (s *sharedStorage) Lock(ctx context.Context, name string) error {
	for {
		ok, err := s.TryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jitter(lockPoll)):
		}
	}
}

// jitter spreads the nodes that wait for one lock.
func jitter(d time.Duration) time.Duration {
	var b [1]byte
	rand.Read(b[:])
	return d/2 + d*time.Duration(b[0])/256
}

// TryLock implements [certmagic.TryLocker].
func (s *sharedStorage) TryLock(ctx context.Context, name string) (bool, error) {
	n, err := s.round(ctx, name)
	if err != nil {
		return false, err
	}
	first, err := s.store.Once(ctx, fmt.Sprintf("%slock/%s/%d", sharedPrefix, name, n), lockLifetime)
	if !first || err != nil {
		return false, err
	}
	// The round may have ended between the two: then this is a claim on the
	// past, and somebody else has the present.
	again, err := s.round(ctx, name)
	return err == nil && again == n, err
}

// Unlock implements [certmagic.Locker].
func (s *sharedStorage) Unlock(ctx context.Context, name string) error {
	n, err := s.round(ctx, name)
	if err != nil {
		return err
	}
	return s.store.Put(ctx, sharedPrefix+"round/"+name, binary.BigEndian.AppendUint64(nil, n+1), sharedLifetime)
}
