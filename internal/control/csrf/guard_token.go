package csrf

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/markup"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/waf"
)

const (
	// tokenField is the name of the hidden field.
	tokenField = guard.OwnFieldPrefix + "csrf"
	// tokenCookie is the other half. Over https it is __Host-, so that no
	// sibling subdomain can set it.
	tokenCookie = "dewar-csrf"
	// maxTokenPage and maxTokenBody bound pages that are changed and bodies
	// that are read for a token, in bytes.
	maxTokenPage = 2 << 20
	maxTokenBody = 1 << 20
	// tokenKey is where the key is kept, for tokenKeyFor after the last start.
	tokenKey    = "csrf:token-key"
	tokenKeyFor = 90 * 24 * time.Hour
)

// token puts signed double-submit tokens into forms and judges them (OWASP
// CSRF Prevention Cheat Sheet, "Signed Double-Submit Cookie"). A token is
//
//	salt || HMAC-SHA256(key, cookie || salt)
//
// so two pages never have the same, and compression tells nothing about it
// (BREACH).
type token struct {
	store store.Store
	key   atomic.Pointer[tokenSecret]
	tried atomic.Int64 // when the store was last asked for the key, Unix
	pages atomic.Int64
}

// tokenSecret is the key, and whether it is the one of all nodes and starts.
type tokenSecret struct {
	key    []byte
	shared bool
}

// keyPause is how long a store that gave no key is left alone, keyWait how
// long one question to it may take.
const (
	keyPause = 10 * time.Second
	keyWait  = 2 * time.Second
)

func newToken(s store.Store) (*token, error) {
	if s == nil {
		return nil, errors.New("csrf.token needs a store")
	}
	t := &token{store: s}
	own := make([]byte, 32)
	rand.Read(own)
	t.key.Store(&tokenSecret{key: own})
	t.share()
	return t, nil
}

// share agrees with the other nodes, and the starts before, on a key. A store
// that is gone keeps no guard from starting: until it is back tokens count on
// this node alone.
func (t *token) share() {
	t.tried.Store(time.Now().Unix())
	ctx, cancel := context.WithTimeout(context.Background(), keyWait)
	defer cancel()
	var key []byte
	err := t.store.Update(ctx, tokenKey, func(old []byte, ok bool) ([]byte, time.Duration, error) {
		if key = bytes.Clone(old); !ok || len(key) != 32 {
			key = t.key.Load().key
		}
		return key, tokenKeyFor, nil
	})
	if err == nil && len(key) == 32 {
		t.key.Store(&tokenSecret{key, true})
	}
}

// secret returns the key.
func (t *token) secret() []byte {
	k := t.key.Load()
	if k.shared {
		return k.key
	}
	last := t.tried.Load()
	if now := time.Now().Unix(); now-last >= int64(keyPause/time.Second) && t.tried.CompareAndSwap(last, now) {
		t.share()
	}
	return t.key.Load().key
}

// health says whether tokens count everywhere.
func (t *token) health() error {
	if t.secret(); t.key.Load().shared {
		return nil
	}
	return fmt.Errorf("%w: the store gave no key, so tokens in forms count on this node and until its end only", guard.ErrDegraded)
}

// cookieName returns the cookie's name for a request.
func cookieName(x *guard.Exchange) string {
	if x.Client.Scheme == "https" {
		return "__Host-" + tokenCookie
	}
	return tokenCookie
}

// take takes our cookie out of what the app gets, and keeps it.
func (t *token) take(x *guard.Exchange) {
	lines := x.Request.Header["Cookie"]
	if len(lines) == 0 || !strings.Contains(strings.Join(lines, ";"), tokenCookie) {
		return
	}
	var kept []string
	found := 0
	value := ""
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			name, v, _ := strings.Cut(pair, "=")
			switch name {
			case cookieName(x):
				value = v
				found++
			case tokenCookie, "__Host-" + tokenCookie:
			case "":
			default:
				kept = append(kept, pair)
			}
		}
	}
	if len(kept) == 0 {
		delete(x.Request.Header, "Cookie")
	} else {
		x.Request.Header["Cookie"] = []string{strings.Join(kept, "; ")}
	}
	if found == 1 && validCookie(value) { // two of them are nobody's
		x.SetValue(cookieKey{}, value)
	}
}

// cookieKey is the key of our cookie's value among those of an exchange.
type cookieKey struct{}

// cookieOf returns our cookie's value, or "".
func cookieOf(x *guard.Exchange) string {
	v, _ := x.Value(cookieKey{}).(string)
	return v
}

func validCookie(v string) bool {
	b, err := base64.RawURLEncoding.DecodeString(v)
	return err == nil && len(b) == 16
}

func (t *token) sign(cookie string, salt []byte) []byte {
	m := hmac.New(sha256.New, t.secret())
	m.Write([]byte(cookie))
	m.Write(salt)
	return append(salt[:len(salt):len(salt)], m.Sum(nil)[:16]...)
}

func (t *token) valid(cookie, v string) bool {
	b, err := base64.RawURLEncoding.DecodeString(v)
	return err == nil && len(b) == 24 && hmac.Equal(b, t.sign(cookie, b[:8]))
}

// check says what is wrong with the token of a request; "" if nothing is.
func (t *token) check(x *guard.Exchange) string {
	cookie := cookieOf(x)
	if cookie == "" {
		return "no token cookie"
	}
	if x.Request.ContentLength < 0 || x.Request.ContentLength > maxTokenBody {
		return "the body is too large to look for a token in, or has no length"
	}
	if _, err := x.Buffer(); err != nil {
		return "the body did not arrive"
	}
	fields, err := x.Fields()
	if err != nil {
		return "the body cannot be read: " + err.Error()
	}
	n := 0
	for _, f := range fields {
		if f.Name == tokenField && f.In == policy.Form && !f.File {
			n++
			if !t.valid(cookie, f.Value) {
				return "the token is not this visitor's"
			}
		}
	}
	if n != 1 {
		return fmt.Sprintf("%d tokens in the form", n)
	}
	return ""
}

// Response implements [guard.Responder]: it puts a token into the forms of a
// page that change state here.
func (l *protection) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	if l.token != nil {
		l.token.inject(x, r)
	}
	return guard.Pass()
}

func (t *token) inject(x *guard.Exchange, r *http.Response) {
	if waf.MediaType(r.Header.Get("Content-Type")) != "text/html" || x.Request.Method == http.MethodHead ||
		r.StatusCode == http.StatusNotModified || r.StatusCode == http.StatusPartialContent || r.ContentLength <= 0 || r.ContentLength > maxTokenPage || shared(r.Header) {
		return
	}
	page, err := guard.PeekBody(r, maxTokenPage+1)
	if err != nil || len(page) > maxTokenPage {
		return
	}
	var at []int
	away := false
	markup.Each(page, func(tag *markup.Tag) {
		switch {
		case tag.Is("base"):
			// It turns addresses of ours into somebody else's.
			if href, ok := tag.Get("href"); ok && !ownAddress(x, href) {
				away = true
			}
			return
		case tag.Is("button"), tag.Is("input"):
			// A button may send any form of the page elsewhere, or in an address.
			if action, ok := tag.Get("formaction"); ok && !ownAddress(x, action) {
				away = true
			}
			if method, ok := tag.Get("formmethod"); ok && !strings.EqualFold(strings.TrimSpace(method), "post") && !strings.EqualFold(strings.TrimSpace(method), "dialog") {
				away = true
			}
			return
		case !tag.Is("form"):
			return
		}
		if method, _ := tag.Get("method"); !strings.EqualFold(strings.TrimSpace(method), "post") {
			return
		}
		if action, _ := tag.Get("action"); ownAddress(x, action) {
			at = append(at, tag.End)
		}
	})
	if len(at) == 0 || away {
		return
	}
	cookie := cookieOf(x)
	if cookie == "" {
		b := make([]byte, 16)
		rand.Read(b)
		cookie = base64.RawURLEncoding.EncodeToString(b)
		set := cookieName(x) + "=" + cookie + "; Path=/; HttpOnly; SameSite=Lax"
		if x.Client.Scheme == "https" {
			set += "; Secure"
		}
		r.Header.Add("Set-Cookie", set)
	}
	var out bytes.Buffer
	out.Grow(len(page) + len(at)*100)
	last := 0
	for _, i := range at {
		var salt [8]byte
		rand.Read(salt[:])
		out.Write(page[last:i])
		out.WriteString(`<input type="hidden" name="` + tokenField + `" value="` + base64.RawURLEncoding.EncodeToString(t.sign(cookie, salt[:])) + `">`)
		last = i
	}
	out.Write(page[last:])
	guard.ReplaceAnswer(r, out.Bytes())
	if list := strings.Join(r.Header["Cache-Control"], ", "); list == "" {
		r.Header.Set("Cache-Control", "private")
	} else if !directiveOf(list, "private", "no-store") {
		// With max-age alone a shared cache may keep it, the cookie included,
		// and give one visitor's token to all.
		r.Header.Set("Cache-Control", list+", private")
	}
	r.Header.Add("Vary", "Cookie")
	t.pages.Add(1)
}

// shared reports whether caches may give an answer to several visitors, as the
// app says.
func shared(h http.Header) bool {
	return directiveOf(strings.Join(h["Cache-Control"], ","), "public", "s-maxage")
}

// directiveOf reports whether a Cache-Control has one of some directives,
// without arguments that limit it ("private=\"set-cookie\"" is not private).
func directiveOf(list string, names ...string) bool {
	for d := range strings.SplitSeq(list, ",") {
		name, _, limited := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
		if slices.Contains(names, name) && (!limited || name == "s-maxage") {
			return true
		}
	}
	return false
}

// ownAddress reports whether a form's address is on this site.
func ownAddress(x *guard.Exchange, action string) bool {
	// As browsers read an address: white space around it and line breaks and
	// tabs in it do not count, a backslash is a slash (URL standard, 4.4).
	action = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(strings.Trim(action, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f "))
	u, err := url.Parse(action)
	if err != nil {
		return false
	}
	if u.Scheme == "" && u.Host == "" && !strings.HasPrefix(action, "//") {
		return true
	}
	own, known := x.Client.Origin()
	if u.Scheme == "" {
		u.Scheme = x.Client.Scheme
	}
	if !known || u.Opaque != "" || u.User != nil {
		return false
	}
	o, err := guard.ParseOrigin(u.Scheme + "://" + u.Host)
	return err == nil && o == own
}
