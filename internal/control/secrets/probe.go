package secrets

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/flasksession"
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

func askKey(ctx context.Context, c *probe.Client) []probe.Answer {
	cookies, err := c.Cookies(ctx)
	type signed struct {
		flasksession.Token
		where, url string
		salts      []string
	}
	var found []signed
	for _, k := range cookies {
		if t, ok := flasksession.Parse(strings.Trim(k.Value, `"`)); ok && !slices.ContainsFunc(found, func(f signed) bool { return f.where == "the cookie "+k.Name }) {
			found = append(found, signed{t, "the cookie " + k.Name, k.URL, []string{flasksession.Salt, k.Name, "itsdangerous", "itsdangerous.Signer", "flask-session"}})
		}
	}
	// Flask-WTF signs its tokens with the same key.
	if page, form, ok := c.Login(ctx); ok {
		if f, ok := form.Token(); ok {
			if t, ok := flasksession.Parse(f.Value); ok {
				found = append(found, signed{t, "the CSRF token " + f.Name, page.URL, []string{"wtf-csrf-token", "csrf-token", "itsdangerous"}})
			}
		}
	}
	if len(found) == 0 {
		why := "could not tell: no page seen without logging in sets anything signed as Flask signs (behind the guard's seal nothing is)"
		if err != nil {
			why = "could not tell: " + err.Error()
		}
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	keys := flasksession.Published()
	for _, s := range found {
		if slices.ContainsFunc(keys, func(k string) bool { return s.SignedWith(k, s.salts...) }) {
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
