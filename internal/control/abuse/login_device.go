package abuse

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/store"
)

// Names of the login layer's cookies; over HTTPS they have the prefix that
// keeps sibling domains and clear text from setting them (RFC 6265bis, 4.1.3).
const (
	deviceCookie = "dewar-device"
	proofCookie  = "dewar-proof"
	hostPrefix   = "__Host-"
)

const (
	// deviceFor is how long a browser counts as known after a login.
	deviceFor = 180 * 24 * time.Hour
	// deviceAccounts is how many accounts one browser is known for, each under
	// two names: a family's, not a farm's.
	deviceAccounts = 8
	keyFolder      = "login-key/"
	keyFor         = 366 * 24 * time.Hour
)

// keys are the secrets of the login layer. All nodes on one store share them,
// and they outlive a restart where the store does.
type keys struct {
	account []byte // names of accounts in the store and the log
	device  cipher.AEAD
	proof   []byte // puzzles
}

func deriveKeys(root []byte) *keys {
	part := func(info string) []byte {
		k, err := hkdf.Key(sha256.New, root, nil, "dewar login "+info, 32)
		if err != nil {
			panic(err) // 32 bytes are never too many
		}
		return k
	}
	block, err := aes.NewCipher(part("device"))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &keys{account: part("account"), device: aead, proof: part("proof")}
}

// keyring gets the root key from the store, or makes it there. While the store
// does not answer it uses one of this process's own.
type keyring struct {
	store store.Store
	now   func() time.Time

	mu     sync.Mutex
	keys   *keys
	shared bool
	tried  time.Time
}

func (k *keyring) get() *keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.keys != nil && (k.shared || now.Sub(k.tried) < refreshEvery) {
		return k.keys
	}
	k.tried = now
	own := make([]byte, 32)
	rand.Read(own)
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var root []byte
	err := k.store.Update(ctx, keyFolder+"root", func(old []byte, ok bool) ([]byte, time.Duration, error) {
		if ok && len(old) == 32 {
			root = slices.Clone(old)
			return nil, 0, store.ErrKeep
		}
		root = own
		return own, keyFor, nil
	})
	if err == nil && len(root) == 32 {
		k.keys, k.shared = deriveKeys(root), true
	} else if k.keys == nil {
		k.keys = deriveKeys(own)
	}
	return k.keys
}

// device is what a known-device cookie says: for which accounts this browser
// has logged in, and until when that counts.
type device struct {
	id       [8]byte
	accounts []deviceAccount
}

type deviceAccount struct {
	handle [16]byte
	until  uint32 // hours since 1970
}

// seal writes the device as a cookie's value.
func (d *device) seal(k *keys) string {
	b := make([]byte, 0, 8+20*len(d.accounts))
	b = append(b, d.id[:]...)
	for _, a := range d.accounts {
		b = append(b, a.handle[:]...)
		b = binary.BigEndian.AppendUint32(b, a.until)
	}
	nonce := make([]byte, k.device.NonceSize(), k.device.NonceSize()+len(b)+k.device.Overhead())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(k.device.Seal(nonce, nonce, b, []byte(deviceCookie)))
}

// openDevice reads a cookie's value; nil for what is none of ours.
func openDevice(k *keys, v string) *device {
	if len(v) > 300 {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(v)
	if err != nil || len(b) < k.device.NonceSize() {
		return nil
	}
	n := k.device.NonceSize()
	if b, err = k.device.Open(nil, b[:n], b[n:], []byte(deviceCookie)); err != nil || len(b) < 8 || (len(b)-8)%20 != 0 {
		return nil
	}
	d := &device{id: [8]byte(b)}
	for b = b[8:]; len(b) > 0; b = b[20:] {
		d.accounts = append(d.accounts, deviceAccount{[16]byte(b), binary.BigEndian.Uint32(b[16:])})
	}
	return d
}

// knows reports whether the browser has logged in to the account before.
func (d *device) knows(account string, now time.Time) bool {
	if d == nil {
		return false
	}
	h := handleBytes(account)
	return slices.ContainsFunc(d.accounts, func(a deviceAccount) bool {
		return a.handle == h && int64(a.until)*3600 > now.Unix()
	})
}

// learn adds an account, before all others; d may be nil.
func (d *device) learn(account string, now time.Time) *device {
	out := &device{}
	if d != nil {
		out.id = d.id
	} else {
		rand.Read(out.id[:])
	}
	h := handleBytes(account)
	out.accounts = append(out.accounts, deviceAccount{h, uint32(now.Add(deviceFor).Unix() / 3600)})
	if d != nil {
		for _, a := range d.accounts {
			if a.handle != h && int64(a.until)*3600 > now.Unix() && len(out.accounts) < deviceAccounts {
				out.accounts = append(out.accounts, a)
			}
		}
	}
	return out
}

func handleBytes(account string) (h [16]byte) {
	b, err := base64.RawURLEncoding.DecodeString(account)
	if err == nil && len(b) == 16 {
		h = [16]byte(b)
	}
	return h
}

// takeCookie returns a cookie of the layer's and takes it out of the request:
// the app has no business with it. With two of them none counts.
func takeCookies(h http.Header, secure bool) (deviceValue, proof string) {
	lines := h["Cookie"]
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, deviceCookie) || strings.Contains(l, proofCookie) }) {
		return "", ""
	}
	prefix := ""
	if secure {
		prefix = hostPrefix
	}
	n := map[string]int{}
	out := lines[:0:0]
	for _, line := range lines {
		var kept []string
		for part := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			plain := strings.TrimPrefix(name, hostPrefix)
			if plain != deviceCookie && plain != proofCookie {
				kept = append(kept, part)
				continue
			}
			if name != prefix+plain {
				continue
			}
			n[plain]++
			if plain == deviceCookie {
				deviceValue = value
			} else {
				proof = value
			}
		}
		if rest := strings.TrimSpace(strings.Join(kept, ";")); rest != "" {
			out = append(out, rest)
		}
	}
	if len(out) == 0 {
		delete(h, "Cookie")
	} else {
		h["Cookie"] = out
	}
	if n[deviceCookie] > 1 {
		deviceValue = ""
	}
	if n[proofCookie] > 1 {
		proof = ""
	}
	return deviceValue, proof
}

// setCookie writes one of the layer's cookies into an answer.
func setCookie(h http.Header, name, value string, secure bool, age time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(age / time.Second)}
	if secure {
		c.Name, c.Secure = hostPrefix+name, true
	}
	h.Add("Set-Cookie", c.String())
}
