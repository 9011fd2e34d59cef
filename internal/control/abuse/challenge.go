package abuse

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"html"
	"math/bits"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/guard"
)

// A puzzle is what a browser solves before it may try again: find n such that
// SHA-256(puzzle "." n) begins with so many zero bits. It holds its end and its
// difficulty, under a MAC that binds both to the client's network, so nothing
// is kept for puzzles that nobody solves. What is solved counts once.
const (
	puzzleFor   = 5 * time.Minute
	puzzleBytes = 4 + 1 + 8 // end, bits, salt
	puzzleMAC   = 16
	maxSolution = 12 // digits of n
)

//go:embed challenge.js
var challengeScript string

const challengeStyle = "body{font-family:system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem;line-height:1.5}"

// challengeCSP lets the page run its one script and its one style, and nothing
// else.
var challengeCSP = "default-src 'none'; script-src '" + csp.Hash(challengeScript) + "'; style-src '" + csp.Hash(challengeStyle) +
	"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// newPuzzle makes a puzzle for a client.
func newPuzzle(key []byte, client netip.Prefix, difficulty int, now time.Time) string {
	b := make([]byte, puzzleBytes, puzzleBytes+puzzleMAC)
	binary.BigEndian.PutUint32(b, uint32(now.Add(puzzleFor).Unix()))
	b[4] = byte(difficulty)
	rand.Read(b[5:])
	return base64.RawURLEncoding.EncodeToString(append(b, puzzleTag(key, client, b)...))
}

func puzzleTag(key []byte, client netip.Prefix, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	m.Write([]byte(client.String()))
	return m.Sum(nil)[:puzzleMAC]
}

// solved checks a solution, "puzzle.n", and returns the name under which it is
// spent. least is the difficulty asked for now.
func solved(key []byte, client netip.Prefix, least int, v string, now time.Time) (name string, ok bool) {
	puzzle, n, found := strings.Cut(v, ".")
	if !found || len(n) == 0 || len(n) > maxSolution || len(puzzle) != base64.RawURLEncoding.EncodedLen(puzzleBytes+puzzleMAC) {
		return "", false
	}
	for _, c := range []byte(n) {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(puzzle)
	if err != nil || !hmac.Equal(puzzleTag(key, client, b[:puzzleBytes]), b[puzzleBytes:]) {
		return "", false
	}
	if now.Unix() > int64(binary.BigEndian.Uint32(b)) || int(b[4]) < least {
		return "", false
	}
	sum := sha256.Sum256([]byte(v))
	if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) < int(b[4]) {
		return "", false
	}
	return puzzle, true
}

// A verifier sends people to a page of the operator's instead, and believes what
// that page signed. Its ticket is a puzzle of no difficulty: bound to the
// client, with an end, good for one try.
type verifier struct {
	page   url.URL
	secret []byte
}

// proofParam is where the operator's page puts what it signed.
const proofParam = "dewar-proof"

// address is where people are sent. back is the way to come back, on this site.
func (h *verifier) address(ticket string, origin guard.Origin, back string) string {
	u := h.page
	q := u.Query()
	q.Set("ticket", ticket)
	q.Set("back", origin.String()+back)
	u.RawQuery = q.Encode()
	return u.String()
}

// signed checks "ticket.tag" and returns the ticket, under which it is spent.
func (h *verifier) signed(key []byte, client netip.Prefix, v string, now time.Time) (name string, ok bool) {
	ticket, tag, found := strings.Cut(v, ".")
	b, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if !found || err != nil || len(b) != puzzleBytes+puzzleMAC || b[4] != 0 || !hmac.Equal(puzzleTag(key, client, b[:puzzleBytes]), b[puzzleBytes:]) ||
		now.Unix() > int64(binary.BigEndian.Uint32(b)) {
		return "", false
	}
	m := hmac.New(sha256.New, h.secret)
	m.Write([]byte(ticket))
	if !hmac.Equal([]byte(base64.RawURLEncoding.EncodeToString(m.Sum(nil))), []byte(tag)) {
		return "", false
	}
	return ticket, true
}

// returned is the answer to somebody who comes back from the operator's page:
// what it signed goes into the cookie, the address is clean again.
func (l *loginLayer) returned(x *guard.Exchange) (guard.Decision, bool) {
	r := x.Request
	if l.verifier == nil || r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, proofParam+"=") {
		return guard.Decision{}, false
	}
	q := r.URL.Query()
	v := q.Get(proofParam)
	if len(q[proofParam]) != 1 {
		return guard.Decision{}, false
	}
	if _, ok := l.verifier.signed(l.keys.get().proof, l.network(x.Client.Addr.Unmap().WithZone("")), v, l.now()); !ok {
		return guard.Decision{}, false // the app gets a parameter that it does not know
	}
	q.Del(proofParam)
	target := localPath(r.URL.EscapedPath())
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	d := guard.Decision{Verdict: guard.Answer, Status: http.StatusSeeOther, Reason: "login-challenge", Detail: "back from the operator's page", Event: "dewar_challenge", Header: http.Header{"Location": {target}}}
	setCookie(d.Header, proofCookie, v, x.Client.Scheme == "https", puzzleFor)
	return d, true
}

// localPath returns a path that no browser takes for another site's address.
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.HasPrefix(p, "/\\") {
		return "/"
	}
	return p
}

// challengePage is the page that a person sees. It works without anything from
// elsewhere, and says what to do where no script runs.
func challengePage(puzzle string, difficulty int, secure bool, back string, wait time.Duration, id string) []byte {
	cookie := proofCookie
	if secure {
		cookie = hostPrefix + proofCookie
	}
	return fmt.Appendf(nil, `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><meta name="robots" content="noindex"><title>One moment</title><style>%s</style></head>
<body>
<main id="challenge" data-puzzle="%s" data-bits="%d" data-cookie="%s" data-age="%d">
<h1>One moment</h1>
<p>There have been many failed logins, so this site asks your browser to do a little work before it looks at another password. Your password was not looked at.</p>
<p id="state" role="status">Working…</p>
<p><a id="go" href="%s" hidden>Log in again</a></p>
<noscript><p>Scripts are off in this browser, and the work needs one. Allow scripts for this page, use a browser in which you have logged in before, or wait %d minutes and try again.</p></noscript>
<p>Request <code>%s</code></p>
</main>
<script>%s</script>
</body>
</html>
`, challengeStyle, html.EscapeString(puzzle), difficulty, cookie, int(puzzleFor/time.Second), html.EscapeString(back), max(int(wait.Minutes()+0.999), 1), html.EscapeString(id), challengeScript)
}

// verifierCSP lets the page do nothing; it only leads on.
const verifierCSP = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// verifierPage leads to the operator's page, by itself and without a script.
func verifierPage(to, id string) []byte {
	to = html.EscapeString(to)
	return fmt.Appendf(nil, `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><meta name="robots" content="noindex"><meta http-equiv="refresh" content="1;url=%s"><title>One moment</title></head>
<body>
<h1>One moment</h1>
<p>There have been many failed logins, so this site asks you to confirm that you are a person before it looks at another password. Your password was not looked at.</p>
<p><a href="%s">Go on</a></p>
<p>Request <code>%s</code></p>
</body>
</html>
`, to, to, html.EscapeString(id))
}

// navigates reports whether a page of HTML would be shown to a person: a
// browser says so (Fetch Metadata), an old one by what it accepts.
func navigates(r *http.Request) bool {
	if mode := r.Header["Sec-Fetch-Mode"]; len(mode) > 0 {
		return len(mode) == 1 && mode[0] == "navigate"
	}
	return strings.Contains(strings.ToLower(r.Header.Get("Accept")), "text/html")
}
