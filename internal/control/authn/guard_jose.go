package authn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json" // refuses an object with a name twice

	"github.com/dewar-security/dewar/internal/guard"
)

// Bounds on what comes from clients and from the issuer.
const (
	maxToken     = 16 << 10 // bytes of a token
	maxKeys      = 100      // keys of an issuer
	maxDocument  = 1 << 20  // bytes of an answer of the issuer
	minRSA       = 2048     // bits (RFC 7518, 3.3)
	keysLifetime = time.Hour
	keysAtLeast  = 5 * time.Minute
	keysAtMost   = 24 * time.Hour
	// keysPause is how long an unknown key waits after the keys were fetched
	// for one that was not there, or could not be fetched: tokens that name
	// keys of fancy must not make the guard flood the issuer. A rotation is
	// seen at once, or after it.
	keysPause = 10 * time.Second
	// keysStale is how long keys are believed after their time while the
	// issuer does not answer.
	keysStale = 24 * time.Hour
)

// errToken wraps everything that is wrong with a token itself. Other errors
// are about the issuer, who could not be asked.
var errToken = errors.New("the token is not valid")

func badToken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errToken, fmt.Sprintf(format, args...))
}

// errUnavailable wraps what keeps the issuer from being asked.
var errUnavailable = errors.New("the issuer does not answer")

// keySet is the set of public keys of one issuer (JWKS, RFC 7517), fetched
// when they are first needed, kept, and fetched again when they are old or a
// token names one that is not there. It implements oidc.KeySet.
type keySet struct {
	url    func(context.Context) (string, error)
	client *http.Client
	now    guard.Clock
	algs   []jose.SignatureAlgorithm
	pause  time.Duration

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time     // when keys came
	expires time.Time     // when they are to be fetched again
	tried   time.Time     // when they were last asked for
	vain    time.Time     // when that was last for a key that was not there
	failure error         // of the last try
	flight  chan struct{} // closed when the fetch that is under way ends
}

func newKeySet(url func(context.Context) (string, error), client *http.Client, now guard.Clock, algs []string) *keySet {
	s := &keySet{url: url, client: client, now: now, pause: keysPause}
	for _, a := range algs {
		if slices.Contains(publicKeyAlgorithms, a) {
			s.algs = append(s.algs, jose.SignatureAlgorithm(a))
		}
	}
	return s
}

// header is what a token says about itself: nothing of it is believed but
// which of the issuer's own keys to try.
type header struct {
	alg jose.SignatureAlgorithm
	kid string
	typ string
}

// parse takes a compact token apart. No member of its header can make the
// guard fetch or take a key: jwk, jku, x5c and x5u are not looked at.
func (s *keySet) parse(raw string) (*jose.JSONWebSignature, header, error) {
	var h header
	if len(raw) > maxToken {
		return nil, h, badToken("%d bytes", len(raw))
	}
	if strings.Count(raw, ".") != 2 {
		return nil, h, badToken("it is no signed JWT")
	}
	first, _, _ := strings.Cut(raw, ".")
	b, err := base64.RawURLEncoding.Strict().DecodeString(first)
	if err != nil {
		return nil, h, badToken("its header is not base64url")
	}
	var fields map[string]any
	if err := josejson.Unmarshal(b, &fields); err != nil {
		return nil, h, badToken("its header: %v", err)
	}
	if _, ok := fields["crit"]; ok {
		return nil, h, badToken("crit: it wants something understood that is not (RFC 7515, 4.1.11)")
	}
	if _, ok := fields["b64"]; ok {
		return nil, h, badToken("b64: no JWT has it (RFC 7797, 7)")
	}
	alg, _ := fields["alg"].(string)
	h.alg = jose.SignatureAlgorithm(alg)
	if !slices.Contains(s.algs, h.alg) {
		return nil, h, badToken("alg %q is not accepted here", clip(alg))
	}
	if v, ok := fields["kid"]; ok {
		if h.kid, ok = v.(string); !ok {
			return nil, h, badToken("kid is no text")
		}
	}
	if v, ok := fields["typ"]; ok {
		if h.typ, ok = v.(string); !ok {
			return nil, h, badToken("typ is no text")
		}
	}
	jws, err := jose.ParseSignedCompact(raw, s.algs)
	if err != nil {
		return nil, h, badToken("%v", err)
	}
	if len(jws.Signatures) != 1 {
		return nil, h, badToken("%d signatures", len(jws.Signatures))
	}
	return jws, h, nil
}

// verify returns the header and the payload of a token that the issuer has
// signed. The error wraps [errToken] or [errUnavailable].
func (s *keySet) verify(ctx context.Context, raw string) (header, []byte, error) {
	jws, h, err := s.parse(raw)
	if err != nil {
		return h, nil, err
	}
	keys, err := s.find(ctx, h)
	if err != nil {
		return h, nil, err
	}
	for i := range keys {
		if payload, err := jws.Verify(&keys[i]); err == nil {
			return h, payload, nil
		}
	}
	return h, nil, badToken("its signature is wrong")
}

// VerifySignature implements oidc.KeySet.
func (s *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	_, payload, err := s.verify(ctx, raw)
	return payload, err
}

// maxTries bounds how many keys with one kid are tried.
const maxTries = 4

// keysWait is how long a token of an unknown key waits for the issuer while
// the keys of others are at hand.
const keysWait = time.Second

// find returns the keys that may have made a signature.
func (s *keySet) find(ctx context.Context, h header) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	now := s.now()
	keys, fresh, believed := s.keys, now.Before(s.expires), now.Before(s.expires.Add(keysStale))
	old := !fresh && s.flight == nil && !s.resting(now)
	s.mu.Unlock()
	if believed {
		if found, err := candidates(keys, h); err == nil {
			if old {
				go func() { _, _ = s.refresh(context.WithoutCancel(ctx)) }() // ends within askTimeout
			}
			return found, nil
		}
	}
	if believed {
		// Anybody can name a key that there is not: an issuer that hangs must
		// not hold whoever does for as long as it is asked.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, keysWait)
		defer cancel()
	}
	keys, err := s.refresh(ctx)
	if err != nil {
		return nil, err
	}
	found, err := candidates(keys, h)
	if err != nil {
		s.mu.Lock()
		s.vain = s.now()
		s.mu.Unlock()
	}
	return found, err
}

// resting reports whether the keys are not to be fetched now. s.mu is held.
func (s *keySet) resting(now time.Time) bool {
	return now.Sub(s.vain) < s.pause || s.failure != nil && now.Sub(s.tried) < s.pause
}

// candidates returns the keys for h: those with its kid, or the only one that
// can make such a signature when it names none (OpenID Connect Core, 10.1).
func candidates(keys []jose.JSONWebKey, h header) ([]jose.JSONWebKey, error) {
	var out []jose.JSONWebKey
	for _, k := range keys {
		if (h.kid == "" || k.KeyID == h.kid) && fits(k, h.alg) {
			out = append(out, k)
		}
	}
	switch {
	case len(out) == 0 && h.kid != "":
		return nil, badToken("the issuer has no key %q for %s", clip(h.kid), h.alg)
	case len(out) == 0:
		return nil, badToken("the issuer has no key for %s", h.alg)
	case h.kid == "" && len(out) > 1:
		return nil, badToken("it names no key, and the issuer has %d for %s", len(out), h.alg)
	}
	return out[:min(len(out), maxTries)], nil
}

// fits reports whether a key makes signatures by alg.
func fits(k jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if k.Algorithm != "" && k.Algorithm != string(alg) {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// usable reports whether a key may be used at all: a public one that signs and
// is long enough. A symmetric one that an issuer publishes is everybody's.
func usable(k jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.Valid() || !k.IsPublic() {
		return false
	}
	if r, ok := k.Key.(*rsa.PublicKey); ok {
		return r.N.BitLen() >= minRSA
	}
	return true
}

// refresh returns the issuer's keys, asked for anew unless that was only a
// moment ago.
func (s *keySet) refresh(ctx context.Context) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	if now := s.now(); s.flight == nil && !s.resting(now) {
		s.flight, s.tried = make(chan struct{}), now
		// Whoever waits for it must not lose it because another has left.
		go s.fly(context.WithoutCancel(ctx), s.flight, now)
	}
	flight := s.flight
	s.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: its keys: %w", errUnavailable, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil && (s.keys == nil || s.now().After(s.expires.Add(keysStale))) {
		return nil, fmt.Errorf("%w: its keys: %w", errUnavailable, s.failure)
	}
	if s.keys == nil {
		return nil, fmt.Errorf("%w: its keys could not be read yet", errUnavailable)
	}
	return s.keys, nil
}

// fly fetches the keys for all who wait on flight.
func (s *keySet) fly(ctx context.Context, flight chan struct{}, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	keys, life, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight = nil
	close(flight)
	if s.failure = err; err == nil {
		s.keys, s.fetched, s.expires = keys, now, now.Add(life)
	}
}

// fetch reads the keys and how long they may be kept.
func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, time.Duration, error) {
	at, err := s.url(ctx)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	body, head, err := ask(s.client, req)
	if err != nil {
		return nil, 0, err
	}
	var set struct {
		Keys []josejson.RawMessage `json:"keys"`
	}
	if err := josejson.Unmarshal(body, &set); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", at, err)
	}
	if len(set.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("%s: %d keys", at, len(set.Keys))
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		// A key of a kind that is not known here is somebody else's.
		if k.UnmarshalJSON(raw) == nil && usable(k) {
			keys = append(keys, k)
		}
	}
	life := keysLifetime
	for part := range strings.SplitSeq(head.Get("Cache-Control"), ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(strings.ToLower(part)), "max-age="); ok {
			if n, err := strconv.Atoi(v); err == nil {
				life = min(max(time.Duration(n)*time.Second, keysAtLeast), keysAtMost)
			}
		}
	}
	return keys, life, nil
}

// health says whether there are keys to verify with.
func (s *keySet) health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil && s.failure != nil {
		return s.failure
	}
	return nil
}

// askTimeout bounds one question to the issuer.
const askTimeout = 10 * time.Second

// newClient returns the client for the issuer. It follows no redirect: an
// address that leads elsewhere is not the one that the operator named.
func newClient(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// limited bounds what an answer of the issuer can hold.
type limited struct{ http.RoundTripper }

// CloseIdleConnections lets the client pass the call on.
func (l limited) CloseIdleConnections() {
	if t, ok := l.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// RoundTrip implements [http.RoundTripper].
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxDocument)
	}
	return res, err
}

// ask sends a request to the issuer and returns the body of a 200.
func ask(c *http.Client, r *http.Request) ([]byte, http.Header, error) {
	res, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return nil, nil, err
	case res.StatusCode != http.StatusOK:
		return body, res.Header, &statusError{r.URL.Redacted(), res.StatusCode}
	}
	return body, res.Header, nil
}

// statusError is an answer that is not 200.
type statusError struct {
	url    string
	status int
}

// Error implements error.
func (e *statusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.url, e.status, http.StatusText(e.status))
}

// claims are the members of a token's payload, or of a UserInfo or
// introspection answer. Names are compared exactly.
type claims map[string]any

// parseClaims reads an object in which no name stands twice: two readers would
// take different ones (CWE-436).
func parseClaims(b []byte) (claims, error) {
	var c claims
	d := josejson.NewDecoder(strings.NewReader(string(b)))
	d.SetNumberType(josejson.UnmarshalJSONNumber)
	if err := d.Decode(&c); err != nil {
		return nil, badToken("its claims: %v", err)
	}
	if d.More() || c == nil {
		return nil, badToken("its claims are no object")
	}
	return c, nil
}

// text returns a claim that is text; "" when it is not there or is none.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// time returns a NumericDate (RFC 7519, 2). ok is false when it is not there;
// an error says that it is no date.
func (c claims) time(name string) (t time.Time, ok bool, err error) {
	v, ok := c[name]
	if !ok {
		return t, false, nil
	}
	n, isNumber := v.(josejson.Number)
	f, err := strconv.ParseFloat(string(n), 64)
	if !isNumber || err != nil || math.Abs(f) > 1e11 || math.IsNaN(f) {
		return t, true, badToken("%s is no date", name)
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), true, nil
}

// audience returns aud, which is one text or a list.
func (c claims) audience() ([]string, error) {
	switch v := c["aud"].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, badToken("aud holds something that is no text")
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, badToken("aud is no text")
}

// at follows a path of names, as realm_access.roles. A claim whose own name
// has dots (a URL, as some providers want it) is found first.
func (c claims) at(path string) any {
	if v, ok := c[path]; ok {
		return v
	}
	var v any = map[string]any(c)
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// maxList bounds how many groups or scopes count, maxName how long one is.
const (
	maxList = 1000
	maxName = 255
)

// list returns a claim that is a list of texts, or one text.
func (c claims) list(path string) []string {
	var out []string
	switch v := c.at(path).(type) {
	case string:
		if v != "" && len(v) <= maxName {
			out = append(out, v)
		}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok && s != "" && len(s) <= maxName && len(out) < maxList {
				out = append(out, s)
			}
		}
	}
	return out
}

// scopes returns the scopes of a token: scope as RFC 8693 and 9068 have it, a
// text with spaces; scp as some providers have it, a text or a list.
func (c claims) scopes() []string {
	out := strings.Fields(c.text("scope"))
	for _, name := range []string{"scope", "scp"} {
		if list, ok := c[name].([]any); ok {
			for _, e := range list {
				if s, ok := e.(string); ok {
					out = append(out, s)
				}
			}
		}
	}
	if len(out) == 0 {
		out = strings.Fields(c.text("scp"))
	}
	return out[:min(len(out), maxList)]
}

// times checks exp, which must be there, nbf and iat against the clock, with
// skew between the clocks.
func (c claims) times(now time.Time, skew time.Duration, wantIssued bool) (expires time.Time, err error) {
	expires, ok, err := c.time("exp")
	switch {
	case err != nil:
		return expires, err
	case !ok:
		return expires, badToken("it never expires: it has no exp")
	case !now.Before(expires.Add(skew)):
		return expires, badToken("it expired at %s", expires.UTC().Format(time.RFC3339))
	}
	if t, ok, err := c.time("nbf"); err != nil {
		return expires, err
	} else if ok && now.Add(skew).Before(t) {
		return expires, badToken("it is not valid before %s", t.UTC().Format(time.RFC3339))
	}
	issued, ok, err := c.time("iat")
	switch {
	case err != nil:
		return expires, err
	case !ok && wantIssued:
		return expires, badToken("it has no iat")
	case ok && now.Add(skew).Before(issued):
		return expires, badToken("it was issued in the future, at %s", issued.UTC().Format(time.RFC3339))
	}
	return expires, nil
}

// clip shortens what a client sent, for a detail.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// isForm reports whether a request's body is a urlencoded form.
func isForm(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}
