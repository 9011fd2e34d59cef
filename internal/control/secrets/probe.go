package secrets

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "secret-file-served",
		Control:  "secrets",
		Asks:     "Are files that hold secrets served: .env, the repository, backups, keys?",
		Why:      "Bots ask every site for /.env and /.git within minutes; the answer is the database password, or the whole history (CWE-538).",
		Fix:      "Serve only a folder made for it, never the project's; let the guard's never-public layer enforce; rotate every secret that was reachable.",
		CWE:      []int{538, 530, 552},
		Requests: 20,
		Run:      func(ctx context.Context, c *probe.Client) []probe.Answer { return c.Exposed(ctx, secretFiles) },
	},
	{
		ID:       "session-key-published",
		Control:  "secrets",
		Asks:     "Is a session cookie or CSRF token signed with a key out of a word list?",
		Why:      "Whoever knows SECRET_KEY writes any user's session; word lists of tutorial keys are tried offline at half a million a second (CWE-321, CWE-1391).",
		Fix:      "Set SECRET_KEY to the output of: python -c 'import secrets; print(secrets.token_hex(32))', and do not keep the old one in SECRET_KEY_FALLBACKS.",
		CWE:      []int{321, 798, 1391},
		Requests: 14,
		Run:      askKey,
	},
}

func matches(expr string) func([]byte) bool {
	re := regexp.MustCompile(expr)
	return func(b []byte) bool {
		head := bytes.ToLower(bytes.TrimSpace(b[:min(len(b), 512)]))
		return re.Match(b) && !bytes.HasPrefix(head, []byte("<!doctype")) && !bytes.HasPrefix(head, []byte("<html"))
	}
}

func starts(prefixes ...string) func([]byte) bool {
	return func(b []byte) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return bytes.HasPrefix(b, []byte(p)) })
	}
}

const environment = `(?m)^(?:export )?[A-Z][A-Z0-9_]{2,}\s*=`

var secretFiles = []probe.File{
	{Path: "/.env", What: "environment variables", Looks: matches(environment)},
	{Path: "/.flaskenv", What: "Flask's environment variables", Looks: matches(environment)},
	{Path: "/.env.production", What: "environment variables", Looks: matches(environment)},
	{Path: "/.git/HEAD", What: "the repository", Looks: matches(`^(?:ref: refs/|[0-9a-f]{40}\s*$)`)},
	{Path: "/.git/config", What: "the repository's settings", Looks: matches(`(?m)^\[core\]`)},
	{Path: "/instance/config.py", What: "the instance's settings", Looks: matches(`(?m)^[A-Z][A-Z0-9_]+\s*=`)},
	{Path: "/instance/app.db", What: "a database", Looks: starts("SQLite format 3\x00")},
	{Path: "/app.db", What: "a database", Looks: starts("SQLite format 3\x00")},
	{Path: "/backup.sql", What: "a database dump", Looks: matches(`(?mi)^(?:CREATE TABLE|INSERT INTO|-- (?:MySQL|PostgreSQL|MariaDB|SQLite)|BEGIN TRANSACTION|PRAGMA )`)},
	{Path: "/backup.zip", What: "an archive", Looks: starts("PK\x03\x04")},
	{Path: "/config.json", What: "settings with secrets", Looks: matches(`(?i)"[a-z_]*(?:secret_?key|password|api_?key)[a-z_]*"\s*:\s*"[^"]{6,}`)},
	{Path: "/.htpasswd", What: "password hashes", Looks: matches(`(?m)^[^:\s]+:(?:\$(?:apr1|2[aby]|5|6)\$|\{SHA\})`)},
	{Path: "/server.key", What: "a private key", Looks: matches(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)},
}

// signed is a value that itsdangerous signed: payload.timestamp.signature.
type signed struct {
	where string // "the cookie session"
	url   string
	text  string // everything before the last dot
	mac   []byte
	salts []string
}

// parseSigned takes a value apart. ok is false for what itsdangerous cannot
// have made.
func parseSigned(v string) (s signed, ok bool) {
	v = strings.Trim(v, `"`)
	i := strings.LastIndexByte(v, '.')
	if i <= 0 || len(v) > 16<<10 {
		return s, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(v[i+1:])
	if err != nil || len(mac) != sha1.Size && len(mac) != sha256.Size && len(mac) != sha512.Size {
		return s, false
	}
	j := strings.LastIndexByte(v[:i], '.')
	if j < 0 {
		return s, false
	}
	if ts, err := base64.RawURLEncoding.DecodeString(v[j+1 : i]); err != nil || len(ts) == 0 || len(ts) > 8 {
		return s, false
	}
	if !payload(v[:j]) {
		return s, false
	}
	s.text, s.mac = v[:i], mac
	return s, true
}

// payload reports whether s is base64 of JSON, or of compressed JSON after a
// dot, as itsdangerous.URLSafeSerializer writes it.
func payload(s string) bool {
	s, packed := strings.CutPrefix(s, ".")
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) == 0 {
		return false
	}
	if packed {
		z, err := zlib.NewReader(bytes.NewReader(raw))
		if err != nil {
			return false
		}
		// A bomb is no session.
		if raw, err = io.ReadAll(io.LimitReader(z, 64<<10)); err != nil {
			return false
		}
	}
	return json.Valid(raw)
}

// signedWith reports whether key made the signature, by any of the key
// derivations that itsdangerous offers.
func (s signed) signedWith(key string) bool {
	var newHash func() hash.Hash
	switch len(s.mac) {
	case sha1.Size:
		newHash = sha1.New
	case sha256.Size:
		newHash = sha256.New
	default:
		newHash = sha512.New
	}
	sum := func(parts ...string) []byte {
		h := newHash()
		for _, p := range parts {
			io.WriteString(h, p)
		}
		return h.Sum(nil)
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(newHash, key)
		io.WriteString(m, text)
		return m.Sum(nil)
	}
	for _, salt := range s.salts {
		for _, derived := range [...][]byte{
			mac([]byte(key), salt),   // "hmac": Flask's sessions
			sum(salt, "signer", key), // "django-concat": itsdangerous' own default, Flask-WTF
			sum(salt, key),           // "concat"
			[]byte(key),              // "none"
		} {
			if hmac.Equal(mac(derived, s.text), s.mac) {
				return true
			}
		}
	}
	return false
}

// candidates are the published keys in the spellings in which people copy
// them.
var candidates = sync.OnceValue(func() []string {
	seen := map[string]bool{}
	var out []string
	add := func(k string) {
		if k != "" && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	for line := range strings.Lines(weakKeys) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		add(line)
		add(strings.Trim(line, `"'`))
		for _, s := range []string{line, strings.TrimSuffix(strings.TrimPrefix(line, "b'"), "'")} {
			if text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`); err == nil {
				add(text)
			}
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '-' || r == '_' })
		for _, sep := range []string{" ", "-", "_", ""} {
			joined := strings.Join(words, sep)
			for _, k := range []string{joined, strings.ToLower(joined), strings.ToUpper(joined), capital(joined)} {
				add(k)
				add(k + "!")
			}
		}
		title := make([]string, len(words))
		for i, w := range words {
			title[i] = capital(w)
		}
		for _, sep := range []string{" ", "", "_"} {
			add(strings.Join(title, sep))
		}
	}
	return out
})

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func askKey(ctx context.Context, c *probe.Client) []probe.Answer {
	cookies, err := c.Cookies(ctx)
	var found []signed
	for _, k := range cookies {
		if s, ok := parseSigned(k.Value); ok && !slices.ContainsFunc(found, func(f signed) bool { return f.where == "the cookie "+k.Name }) {
			s.where, s.url = "the cookie "+k.Name, k.URL
			s.salts = []string{"cookie-session", k.Name, "itsdangerous", "itsdangerous.Signer", "flask-session"}
			found = append(found, s)
		}
	}
	// Flask-WTF signs its tokens with the same key.
	if page, form, ok := c.Login(ctx); ok {
		if f, ok := form.Token(); ok {
			if s, ok := parseSigned(f.Value); ok {
				s.where, s.url, s.salts = "the CSRF token "+f.Name, page.URL, []string{"wtf-csrf-token", "csrf-token", "itsdangerous"}
				found = append(found, s)
			}
		}
	}
	if len(found) == 0 {
		why := "could not tell: no page seen without logging in sets anything signed as Flask signs"
		if err != nil {
			why = "could not tell: " + err.Error()
		}
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	keys := candidates()
	for _, s := range found {
		if slices.ContainsFunc(keys, s.signedWith) {
			// The key itself stays out of the report.
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: s.where + " is signed with a published key, so anybody can write a session", URL: s.url})
		}
	}
	if len(out) == 0 {
		var where []string
		for _, s := range found {
			where = append(where, s.where)
		}
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("none of %d spellings of published keys signed %s", len(keys), strings.Join(slices.Compact(where), " and ")), URL: found[0].url})
	}
	return out
}
