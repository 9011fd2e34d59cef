// Package flasksession reads what Flask keeps in cookies: the session that
// itsdangerous signs, Flask-Login's remember token, and the keys behind them.
// It needs no Python and changes nothing.
//
// A session is [.]base64url(payload).base64url(time).base64url(signature): the
// payload is JSON, zlib-compressed after a leading dot, the time is in seconds
// since 1970, the signature an HMAC over everything before its dot, under a key
// derived from SECRET_KEY and a salt. Anybody can read it; only who knows the
// key can write it.
package flasksession

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // itsdangerous signs with it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"
)

// Salt is what Flask derives its session's key with, unless a session
// interface of the app's own says otherwise.
const Salt = "cookie-session"

const (
	// maxValue is the longest value looked at: four times what browsers keep.
	maxValue = 16 << 10
	// maxJSON bounds what a payload may unpack to: a bomb is no session.
	maxJSON = 64 << 10
)

// ErrPayload says that a payload is not what Flask writes.
var ErrPayload = errors.New("not a payload of itsdangerous' URL-safe serializer")

// Token is a value that itsdangerous signed together with a time.
type Token struct {
	// Payload is the value as it stands in the cookie, not decoded.
	Payload string
	// Time is when it was signed, to the second: as true as the signature.
	Time time.Time

	text string // everything before the last dot
	mac  []byte
}

// Parse takes a value apart. ok is false for what itsdangerous' URL-safe timed
// serializer cannot have made; whether the signature is good is another
// question.
func Parse(v string) (t Token, ok bool) {
	if t, ok = split(v); !ok {
		return t, false
	}
	raw, err := t.JSON()
	return t, err == nil && json.Valid(raw)
}

// split is Parse without a look at the payload.
func split(v string) (t Token, ok bool) {
	i := strings.LastIndexByte(v, '.')
	if i <= 0 || len(v) > maxValue {
		return t, false
	}
	mac, err := decode(v[i+1:])
	if err != nil || digestOf(len(mac)) == nil {
		return t, false
	}
	j := strings.LastIndexByte(v[:i], '.')
	if j <= 0 {
		return t, false
	}
	at, err := decode(v[j+1 : i])
	if err != nil || len(at) == 0 || len(at) > 7 { // 56 bits: more is no time
		return t, false
	}
	seconds := int64(0)
	for _, b := range at {
		seconds = seconds<<8 | int64(b)
	}
	return Token{Payload: v[:j], Time: time.Unix(seconds, 0), text: v[:i], mac: mac}, true
}

// decode reads base64 as itsdangerous writes it: URL-safe, padding optional.
// Characters that Python would skip are an error.
func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// JSON returns the payload's JSON text. The error wraps [ErrPayload].
func (t Token) JSON() ([]byte, error) {
	s, packed := strings.CutPrefix(t.Payload, ".")
	raw, err := decode(s)
	if err != nil || len(raw) == 0 {
		return nil, ErrPayload
	}
	if !packed {
		return raw, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, ErrPayload
	}
	if raw, err = io.ReadAll(io.LimitReader(z, maxJSON+1)); err != nil || len(raw) > maxJSON {
		return nil, ErrPayload
	}
	return raw, nil
}

// digestOf returns the hash whose sums have n bytes; nil when Flask apps use
// none such.
func digestOf(n int) func() hash.Hash {
	switch n {
	case sha1.Size:
		return sha1.New
	case sha256.Size224:
		return sha256.New224
	case sha256.Size:
		return sha256.New
	case sha512.Size384:
		return sha512.New384
	case sha512.Size:
		return sha512.New
	}
	return nil
}

// Derivations are the ways in which itsdangerous makes a signing key of a
// secret and a salt: Flask's, its own default, and two more.
var Derivations = []string{"hmac", "django-concat", "concat", "none"}

// SignedWith reports whether key made the signature with one of the salts, by
// any of the [Derivations]. The digest follows from the signature's length:
// what an app's own session interface changed does not matter.
func (t Token) SignedWith(key string, salts ...string) bool {
	for _, salt := range salts {
		for _, how := range Derivations {
			if t.VerifiedBy(Signer{Salt: salt, Derivation: how}, key) {
				return true
			}
		}
	}
	return false
}

// Signer is how an app signs. The zero Signer is Flask's.
type Signer struct {
	Salt       string // empty: [Salt]
	Derivation string // one of [Derivations]; empty: hmac
}

// VerifiedBy reports whether key made the signature in the signer's way.
func (t Token) VerifiedBy(s Signer, key string) bool {
	newHash := digestOf(len(t.mac))
	if newHash == nil {
		return false
	}
	return hmac.Equal(sum(newHash, s.derive(newHash, key), t.text), t.mac)
}

func (s Signer) derive(newHash func() hash.Hash, key string) []byte {
	salt := s.Salt
	if salt == "" {
		salt = Salt
	}
	switch s.Derivation {
	case "", "hmac":
		return sum(newHash, []byte(key), salt)
	case "django-concat":
		salt += "signer"
	case "concat":
	default:
		return []byte(key)
	}
	h := newHash()
	io.WriteString(h, salt)
	io.WriteString(h, key)
	return h.Sum(nil)
}

func sum(newHash func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(newHash, key)
	io.WriteString(m, text)
	return m.Sum(nil)
}

// Remembered returns the user id in Flask-Login's remember token, "id|HMAC":
// ok is false for what is none.
func Remembered(v string) (id string, ok bool) {
	i := strings.LastIndexByte(v, '|')
	if i < 0 || len(v) > maxValue || len(v)-i-1 != 2*sha512.Size {
		return "", false
	}
	if _, err := hex.DecodeString(v[i+1:]); err != nil {
		return "", false
	}
	return v[:i], true
}

// RememberedWith reports whether key signed a remember token.
func RememberedWith(v, key string) bool {
	id, ok := Remembered(v)
	if !ok {
		return false
	}
	mac, _ := hex.DecodeString(v[len(id)+1:])
	return hmac.Equal(sum(sha512.New, []byte(key), id), mac)
}

// Session is the content of a session: the JSON of each of its keys.
type Session map[string]json.RawMessage

// Session decodes the payload. The error wraps [ErrPayload].
func (t Token) Session() (Session, error) {
	raw, err := t.JSON()
	if err != nil {
		return nil, err
	}
	var s Session
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, ErrPayload
	}
	return s, nil
}

// idKeys are the members by which an object in a session names itself.
var idKeys = []string{"id", "_id", "user_id", "uid", "sub", "oid", "username", "login", "email", "name"}

// Text returns what stands under a key, as text: of a scalar its value, of an
// object that describes somebody its id, of one of Flask's tagged values what
// is in it. It is empty for what is missing, null, false, 0, or has no such
// form.
func (s Session) Text(key string) string {
	v, ok := s[key]
	if !ok {
		return ""
	}
	return textOf(v, 3)
}

func textOf(v json.RawMessage, depth int) string {
	v = bytes.TrimSpace(v)
	if len(v) == 0 || depth == 0 {
		return ""
	}
	switch v[0] {
	case '"':
		var s string
		if json.Unmarshal(v, &s) != nil {
			return ""
		}
		return s
	case '{':
		var o map[string]json.RawMessage
		if json.Unmarshal(v, &o) != nil {
			return ""
		}
		if len(o) == 1 {
			for tag, inner := range o {
				if strings.HasPrefix(tag, " ") { // TaggedJSONSerializer: a UUID, Markup, bytes
					return textOf(inner, depth-1)
				}
			}
		}
		for _, k := range idKeys {
			if t := textOf(o[k], depth-1); t != "" {
				return t
			}
		}
		return ""
	case '[', 'n', 'f':
		return ""
	case 't':
		return "true"
	}
	if f, err := strconv.ParseFloat(string(v), 64); err != nil || f == 0 {
		return ""
	}
	return string(v)
}
