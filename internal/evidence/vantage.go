package evidence

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// The probe signs each request with a key that the running guard made and
// left in a file of this user; the guard answers with a signature of its own.
// Both prove knowledge of the key to somebody who already has it and tell
// nobody else anything: to a request without a valid signature the guard
// says nothing.
const (
	// ProbeHeader carries the probe's signature:
	// v1.<unix seconds>.<nonce>.<hmac>.
	ProbeHeader = "Dewar-Probe"
	// GuardHeader carries the guard's answer to it.
	GuardHeader = "Dewar-Guard"

	// signatureAge is how far the two clocks may be apart.
	signatureAge = 2 * time.Minute
	nonceBytes   = 16
)

// SignProbe returns the value of [ProbeHeader] for one request and the value
// of [GuardHeader] that proves that a guard with the same key answered. host
// is the Host field as sent, path the request target up to its query, byte
// for byte as it goes over the wire.
func SignProbe(key []byte, now time.Time, host, path string) (header, answer string) {
	var raw [nonceBytes]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	nonce := base64.RawURLEncoding.EncodeToString(raw[:])
	unix := strconv.FormatInt(now.Unix(), 10)
	return "v1." + unix + "." + nonce + "." + probeMAC(key, unix, nonce, host, path), answerMAC(key, nonce)
}

// VerifyProbe checks the value of [ProbeHeader] that came with a request for
// path at host (as in [SignProbe]) and returns the value of [GuardHeader] to
// answer with. ok is false for a signature that is malformed, older or newer
// than two minutes, or made with another key, and for an empty key.
//
// A signature may be repeated within its time: it grants nothing.
func VerifyProbe(key []byte, now time.Time, header, host, path string) (answer string, ok bool) {
	if len(key) == 0 || len(header) > 200 {
		return "", false
	}
	p := strings.Split(header, ".")
	if len(p) != 4 || p[0] != "v1" {
		return "", false
	}
	unix, err := strconv.ParseInt(p[1], 10, 64)
	if err != nil {
		return "", false
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(p[2]); err != nil || len(raw) != nonceBytes {
		return "", false
	}
	if age := now.Sub(time.Unix(unix, 0)); age > signatureAge || age < -signatureAge {
		return "", false
	}
	if !hmac.Equal([]byte(p[3]), []byte(probeMAC(key, p[1], p[2], host, path))) {
		return "", false
	}
	return answerMAC(key, p[2]), true
}

func probeMAC(key []byte, unix, nonce, host, path string) string {
	return mac(key, "dewar-probe\n"+unix+"\n"+nonce+"\n"+strings.ToLower(host)+"\n"+path)
}

func answerMAC(key []byte, nonce string) string { return mac(key, "dewar-guard\n"+nonce) }

func mac(key []byte, text string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
