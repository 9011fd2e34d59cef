package secrets

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/flasksession"
)

var rules = []*audit.Rule{
	{
		ID: "DW-SECRETS-001", Control: "secrets",
		Title:    "A signing key stands in the source",
		Why:      "Whoever can read the repository, today or in its history, forges any user's session, token and reset link.",
		Fix:      "Read it from the environment without a default, os.environ[\"SECRET_KEY\"], and rotate the key: it is known now.",
		Severity: audit.Critical, Confidence: audit.Certain, CWE: []int{798, 321}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\napp.secret_key = \"you-will-never-guess\"\n",
		Good: "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\n",
		Check: func(p *audit.Pass) {
			for _, s := range keySettings(p) {
				if v := s.Value; v.FromEnv == "" && isLiteral(v) {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: fmt.Sprintf("%s is a literal of %d characters", s.Key, len(v.Text))})
				}
			}
		},
	},
	{
		ID: "DW-SECRETS-002", Control: "secrets",
		Title:    "A signing key has a default in the source",
		Why:      "When the variable is missing the app starts all the same, with a key that everybody can read: nobody notices until somebody forges a session.",
		Fix:      "Let the app fail instead: os.environ[\"SECRET_KEY\"].",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{798, 1188}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		MitigatedBy: nil,
		Bad:         "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.config[\"SECRET_KEY\"] = os.getenv(\"SECRET_KEY\", \"dev\")\n",
		Good:        "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.config[\"SECRET_KEY\"] = os.environ[\"SECRET_KEY\"]\n",
		Check: func(p *audit.Pass) {
			for _, s := range keySettings(p) {
				v := s.Value
				if v.FromEnv != "" && v.Default != nil && isLiteral(*v.Default) {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: fmt.Sprintf("%s falls back to a literal when %s is not set", s.Key, v.FromEnv)})
				} else if slices.ContainsFunc(v.Choices, isLiteral) {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: s.Key + " can become a literal"})
				}
			}
		},
	},
	{
		ID: "DW-SECRETS-003", Control: "secrets",
		Title:    "The signing key is another one in every worker",
		Why:      "A key drawn when the module is imported differs between workers and restarts: sessions break at random, and people then put a fixed key into the source.",
		Fix:      "Make one key once and give it to every worker through the environment.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{1188}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		Bad:  "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.urandom(32)\n",
		Good: "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.secret_key = os.environ[\"SECRET_KEY\"]\n",
		Check: func(p *audit.Pass) {
			for _, s := range keySettings(p) {
				v := s.Value
				if v.Default != nil {
					v = *v.Default
				}
				if v.Kind == flask.Random {
					p.Report(audit.Finding{Span: p.Span(s.Position), Message: s.Key + " is drawn anew whenever the app is imported"})
				}
			}
		},
	},
	{
		ID: "DW-SECRETS-004", Control: "secrets",
		Title:    "A key or password is committed in an environment file",
		Why:      "The file is in the repository, and so in every clone, fork and backup of it.",
		Fix:      "Take it out of version control (git rm --cached), add it to .gitignore, commit a .env.example without values, and rotate what was in it.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{540, 798}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		File: ".env",
		Bad:  "SECRET_KEY=9f1c2ab0d54e77f1\n",
		Good: "FLASK_APP=wsgi:app\n",
		Check: func(p *audit.Pass) {
			files := 0
			for f := range p.Files(audit.Env) {
				if f.Example {
					continue
				}
				files++
				tracked, known := p.Project.Tracked(f.Path)
				if known && !tracked {
					continue
				}
				for _, v := range p.Flask.Env {
					if v.Position.File != f.Path || !secretName(v.Name) || placeholder(v.Value) || keptElsewhere.MatchString(v.Value) {
						continue
					}
					message := fmt.Sprintf("%s has a value in %s, which is under version control", v.Name, f.Path)
					if !known {
						message = fmt.Sprintf("%s has a value in %s, and nothing says that the file stays out of version control", v.Name, f.Path)
					}
					p.Report(audit.Finding{Span: p.Span(v.Position), Message: message})
				}
			}
			if files == 0 {
				p.NotApplicable("the project has no environment file")
			}
		},
	},
	{
		ID: "DW-SECRETS-005", Control: "secrets",
		Title:    "A credential of a known service stands in the project",
		Why:      "Such keys are recognised by their form and tried within minutes of becoming public.",
		Fix:      "Revoke it at the service, then read the new one from the environment or a secret store.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{798, 540}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		Bad:  "TOKEN = \"gh" + "p_9fK2mQ7xV4bT1zR8sW3nY6cJ5hL0dPaE2gUx\"\n",
		Good: "import os\nTOKEN = os.environ[\"GITHUB_TOKEN\"]\n",
		Check: func(p *audit.Pass) {
			for f := range p.Files() {
				if f.Kind == audit.Lock || f.Example {
					continue
				}
				for _, k := range findCredentials(f.Data) {
					p.Report(audit.Finding{Span: f.SpanAt(k.start, k.end), Message: k.what + " stands in the file", Label: k.what})
				}
			}
		},
	},
	{
		ID: "DW-SECRETS-006", Control: "secrets",
		Title:    "A database address carries a password",
		Why:      "Everybody with the source connects to the database as the app does.",
		Fix:      "Read the address from the environment: os.environ[\"DATABASE_URL\"].",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{798}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		Bad:  "from flask import Flask\napp = Flask(__name__)\napp.config[\"SQLALCHEMY_DATABASE_URI\"] = \"postgresql://shop:hunter2x@db/shop\"\n",
		Good: "import os\nfrom flask import Flask\napp = Flask(__name__)\napp.config[\"SQLALCHEMY_DATABASE_URI\"] = os.environ[\"DATABASE_URL\"]\n",
		Check: func(p *audit.Pass) {
			for _, s := range p.Flask.Settings {
				if s.Profile == "testing" || s.Source == flask.FromEnvFile {
					continue
				}
				for _, v := range append([]flask.Value{s.Value}, defaultOf(s.Value)...) {
					for _, text := range v.Strings() {
						u, err := url.Parse(text)
						if err != nil || u.User == nil || u.Host == "" {
							continue
						}
						if pw, ok := u.User.Password(); ok && !placeholder(pw) {
							p.Report(audit.Finding{Span: p.Span(s.Position), Message: fmt.Sprintf("%s holds the password of %s", s.Key, u.User.Username())})
						}
					}
				}
			}
		},
	},
	{
		ID: "DW-SECRETS-007", Control: "secrets",
		Title:    "A secret stands in the Dockerfile or Compose file",
		Why:      "Everybody who may read the repository has it; what is given as ENV or ARG stays in the image's layers, too, for all who can pull the image.",
		Fix:      "Give the value at run time (a secret of the orchestrator, an env file outside the image), or RUN --mount=type=secret while building.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{798, 538}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		File: "Dockerfile",
		Bad:  "FROM python:3.13-slim\nENV SECRET_KEY=9f1c2ab0d54e77f1\n",
		Good: "FROM python:3.13-slim\nENV PYTHONUNBUFFERED=1\n",
		Check: func(p *audit.Pass) {
			looked := false
			for f := range p.Files(audit.Dockerfile, audit.Compose) {
				looked = true
				for n := 1; n <= f.LineCount(); n++ {
					re := imageSecret
					if f.Kind == audit.Compose {
						re = composeSecret
					}
					m := re.FindStringSubmatch(f.Line(n))
					if m == nil || !secretName(m[1]) || placeholder(strings.Trim(m[2], `"'`)) {
						continue
					}
					out := audit.Finding{Span: f.LineSpan(n), Message: fmt.Sprintf("%s has a value in %s", m[1], f.Path)}
					if forCI.MatchString(f.Path) {
						out.Confidence, out.Label = audit.Possible, "unless it only opens what the build starts and throws away"
					}
					p.Report(out)
				}
			}
			if !looked {
				p.NotApplicable("the project builds no image")
			}
		},
	},
}

// keyNames are the settings whose value signs or encrypts something.
var keyNames = []string{
	"SECRET_KEY", "WTF_CSRF_SECRET_KEY", "JWT_SECRET_KEY", "SECURITY_PASSWORD_SALT", "SECRET_KEY_FALLBACKS",
	"MAIL_PASSWORD", "REDIS_PASSWORD", "OAUTH_CLIENT_SECRET",
}

// keySettings returns the places where production gets a key.
func keySettings(p *audit.Pass) []*flask.Setting {
	var out []*flask.Setting
	for _, s := range p.Flask.Settings {
		if slices.Contains(keyNames, s.Key) && s.Profile != "testing" && s.Profile != "development" && s.Source != flask.FromEnvFile {
			if f := p.Project.File(s.Position.File); f != nil && f.Test {
				continue
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		p.NotApplicable("no code sets a key")
	}
	return out
}

// isLiteral reports whether a value is text that stands in the source. The
// empty string is no key: Flask refuses to sign with it.
func isLiteral(v flask.Value) bool {
	if v.Known && v.Kind == flask.List {
		return slices.ContainsFunc(v.Items, isLiteral)
	}
	return v.Known && (v.Kind == flask.String || v.Kind == flask.Bytes) && v.Text != ""
}

func defaultOf(v flask.Value) []flask.Value {
	if v.Default != nil {
		return []flask.Value{*v.Default}
	}
	return nil
}

var (
	imageSecret   = regexp.MustCompile(`(?i)^\s*(?:ENV|ARG)\s+([A-Z][A-Z0-9_]*)[= ]\s*(\S+)`)
	composeSecret = regexp.MustCompile(`(?i)^\s*-?\s*["']?([A-Z][A-Z0-9_]*)["']?\s*[:=]\s*(\S+)`)
	secretWord    = regexp.MustCompile(`(?i)(?:^|_)(SECRET|SECRETS|PASSWORD|PASSWD|TOKEN|APIKEY|API_KEY|PRIVATE_KEY|ACCESS_KEY|SALT|CREDENTIALS?)(?:_|$)|(?:^|_)KEY$`)
	publicWord    = regexp.MustCompile(`(?i)PUBLIC|_FILE$|_PATH$|_URL$|_NAME$|_HEADER$|_TTL$|_AGE$|_EXPIR|_LIFETIME$|_LENGTH$|_MIN|_MAX|_ENABLED$|_FIELD|_PREFIX$|ACCESS_KEY_ID$|SITE_KEY$`)
)

// secretName reports whether a variable's name says that its value is one.
func secretName(name string) bool {
	return secretWord.MatchString(name) && !publicWord.MatchString(name)
}

// forCI matches the folders of what build servers and editors start.
var forCI = regexp.MustCompile(`(?:^|/)(?:\.?ci|\.circleci|\.github|\.gitlab|\.buildkite|\.devcontainer|e2e|cypress)/`)

// keptElsewhere matches values that say where a secret is kept: the names of
// AWS, Google and Azure for keys, the addresses of vaults, a file.
var keptElsewhere = regexp.MustCompile(`^(?:alias/[\w/-]+|arn:aws[\w-]*:\S+|projects/[\w-]+/(?:secrets|locations)/\S+|https://[\w-]+\.vault\.azure\.net/\S*|(?:vault|op|ssm|secretsmanager|file):\S+|(?:\.{0,2}|~)(?:/[\w.-]+){2,}|/[\w.-]+\.(?:pem|key|crt|txt|json))$`)

// placeholder reports whether a value says by its form that it is none.
func placeholder(v string) bool {
	v = strings.TrimSpace(v)
	low := strings.ToLower(v)
	if v == "" || strings.ContainsAny(v, "${<>}") && (strings.HasPrefix(v, "$") || strings.HasPrefix(v, "<") || strings.HasPrefix(v, "{") || strings.HasPrefix(v, "%")) {
		return true
	}
	for _, w := range []string{"changeme", "change-me", "change_me", "your", "example", "xxxx", "****", "....", "placeholder", "replace", "todo", "insert", "none", "null", "true", "false"} {
		if low == w || len(w) > 5 && strings.Contains(low, w) || w == "xxxx" && strings.Contains(low, w) {
			return true
		}
	}
	return strings.HasPrefix(low, "your") || distinct(v) <= 2
}

func distinct(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// credential is a key that its service gave a recognisable form.
type credential struct {
	what   string
	prefix string // literal that every match begins with or holds, for a cheap first look
	re     *regexp.Regexp
	bits   float64 // least Shannon entropy per character of the variable part
}

var credentials = []credential{
	{"an AWS access key", "AKIA", regexp.MustCompile(`\b(?:AKIA)([A-Z2-7]{16})\b`), 3},
	{"an AWS temporary access key", "ASIA", regexp.MustCompile(`\b(?:ASIA)([A-Z2-7]{16})\b`), 3},
	{"a GitHub token", "ghp_", regexp.MustCompile(`\bghp_([A-Za-z0-9]{36,251})\b`), 3.5},
	{"a GitHub token", "gho_", regexp.MustCompile(`\bgho_([A-Za-z0-9]{36,251})\b`), 3.5},
	{"a GitHub token", "ghu_", regexp.MustCompile(`\bghu_([A-Za-z0-9]{36,251})\b`), 3.5},
	{"a GitHub token", "ghs_", regexp.MustCompile(`\bghs_([A-Za-z0-9]{36,251})\b`), 3.5},
	{"a GitHub token", "ghr_", regexp.MustCompile(`\bghr_([A-Za-z0-9]{36,251})\b`), 3.5},
	{"a GitHub token", "github_pat_", regexp.MustCompile(`\bgithub_pat_([A-Za-z0-9_]{82})\b`), 3.5},
	{"a GitLab token", "glpat-", regexp.MustCompile(`\bglpat-([A-Za-z0-9_-]{20,})\b`), 3.2},
	{"a Slack token", "xox", regexp.MustCompile(`\bxox[abprs]-([A-Za-z0-9-]{20,})\b`), 3},
	{"a Stripe secret key", "k_live_", regexp.MustCompile(`\b[sr]k_live_([A-Za-z0-9]{20,})\b`), 3.2},
	{"a Google API key", "AIza", regexp.MustCompile(`\bAIza([A-Za-z0-9_-]{35})\b`), 3.5},
	{"a SendGrid key", "SG.", regexp.MustCompile(`\bSG\.([A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})\b`), 3.5},
	{"an npm token", "npm_", regexp.MustCompile(`\bnpm_([A-Za-z0-9]{36})\b`), 3.5},
	{"a PyPI token", "pypi-AgEI", regexp.MustCompile(`\bpypi-AgEI([A-Za-z0-9_-]{50,})`), 3.5},
	{"a Twilio key", "SK", regexp.MustCompile(`\bSK([0-9a-f]{32})\b`), 3},
	{"an Anthropic key", "sk-ant-", regexp.MustCompile(`\bsk-ant-([A-Za-z0-9_-]{40,})\b`), 3.5},
	{"an OpenAI key", "sk-proj-", regexp.MustCompile(`\bsk-proj-([A-Za-z0-9_-]{40,})\b`), 3.5},
	{"a private key", "PRIVATE KEY-----", regexp.MustCompile(`-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*(?:\\n|\s)*([A-Za-z0-9+/=\\\s]{40,})`), 3},
}

type found struct {
	what       string
	start, end int
}

const (
	// credentialBefore and credentialAfter are how far from its literal part a
	// credential is looked for, in bytes: regular expressions over whole
	// files, minified scripts among them, would cost more than all else.
	credentialBefore = 64
	credentialAfter  = 4096
	maxCredentials   = 100 // of one kind in one file
)

// matches returns where the credential stands, as
// [regexp.Regexp.FindAllSubmatchIndex] does.
func (c *credential) matches(data []byte) [][]int {
	var out [][]int
	prefix := []byte(c.prefix)
	for from, end := 0, 0; len(out) < maxCredentials; {
		i := bytes.Index(data[from:], prefix)
		if i < 0 {
			break
		}
		i += from
		start := max(end, i-credentialBefore)
		m := c.re.FindSubmatchIndex(data[start:min(len(data), i+credentialAfter)])
		from = i + len(prefix)
		if m == nil || start+m[0] > i || start+m[1] < from {
			continue // of another place, which has its turn
		}
		for k := range m {
			m[k] += start
		}
		out = append(out, m)
		from, end = max(from, m[1]), m[1]
	}
	return out
}

// findCredentials returns the credentials in a text, in order.
func findCredentials(data []byte) []found {
	var out []found
	for _, c := range credentials {
		for _, m := range c.matches(data) {
			variable := string(data[m[2]:m[3]])
			if flasksession.Entropy(variable) < c.bits*float64(len(variable)) || strings.HasSuffix(variable, "EXAMPLE") || placeholderKey(variable) {
				continue
			}
			end := m[1]
			if nl := bytes.IndexByte(data[m[0]:m[1]], '\n'); nl > 0 {
				end = m[0] + nl
			}
			out = append(out, found{c.what, m[0], end})
		}
	}
	slices.SortFunc(out, func(a, b found) int { return a.start - b.start })
	return out
}

func placeholderKey(v string) bool {
	low := strings.ToLower(v)
	for _, w := range []string{"xxxxx", "00000", "12345678", "abcdefgh", "example", "placeholder", "yourtoken", "redacted"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	return false
}
