// Package flasksessiontest writes what Flask apps write into cookies, for
// tests: by the description of the format, not with the code that reads it.
package flasksessiontest

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // itsdangerous signs with it
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"time"
)

// Session returns the session cookie that Flask writes for JSON text, signed
// with key at a time.
func Session(key, json string, at time.Time) string {
	var b []byte
	for s := at.Unix(); s > 0; s >>= 8 {
		b = append([]byte{byte(s)}, b...)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + base64.RawURLEncoding.EncodeToString(b)
	derived := hmac.New(sha1.New, []byte(key))
	derived.Write([]byte("cookie-session"))
	mac := hmac.New(sha1.New, derived.Sum(nil))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Remember returns Flask-Login's remember token for a user id.
func Remember(key, id string) string {
	mac := hmac.New(sha512.New, []byte(key))
	mac.Write([]byte(id))
	return id + "|" + hex.EncodeToString(mac.Sum(nil))
}
