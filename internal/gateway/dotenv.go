package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The grammar of python-dotenv 1.2, which Flask uses; a test compares.
var (
	dotenvSpace    = regexp.MustCompile(`^[\s\v\x{85}\p{Z}]*`)
	dotenvInline   = regexp.MustCompile(`^(?:[\t\f\v ]|[\x{85}\p{Z}])*`)
	dotenvExport   = regexp.MustCompile(`^export[\t\f\v ]+`)
	dotenvQuoted   = regexp.MustCompile(`^'([^']+)'`)
	dotenvKey      = regexp.MustCompile(`^([^=#\s\v\x{85}\p{Z}]+)`)
	dotenvSingle   = regexp.MustCompile(`^'((?:\\(?s:.)|[^'\\])*)'`)
	dotenvDouble   = regexp.MustCompile(`^"((?:\\(?s:.)|[^"\\])*)"`)
	dotenvBare     = regexp.MustCompile(`^([^\r\n]*)`)
	dotenvTail     = regexp.MustCompile(`[\s\v\x{85}\p{Z}]+#.*$`)
	dotenvComment  = regexp.MustCompile(`^#[^\r\n]*`)
	dotenvEnd      = regexp.MustCompile(`^(?:\r\n|\n|\r|$)`)
	dotenvRest     = regexp.MustCompile(`^[^\r\n]*(?:\r\n|\n|\r)?`)
	dotenvVariable = regexp.MustCompile(`\$\{([^}:]*)(?::-([^}]*))?\}`)
)

// maxProblems bounds what is said about one dotenv file.
const maxProblems = 20

// variable is one binding of a dotenv file.
type variable struct{ name, value string }

// parseDotenv reads a dotenv file as python-dotenv does: export, comments,
// both kinds of quotes over several lines, escapes. A line that is no binding
// is left out, and problems names it. Names without "=" have no value and are
// left out too.
func parseDotenv(text string) (vars []variable, problems []string) {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n") // as Python's text files
	all := text
	take := func(re *regexp.Regexp) (string, bool) {
		m := re.FindStringSubmatch(text)
		if m == nil {
			return "", false
		}
		text = text[len(m[0]):]
		return m[len(m)-1], true
	}
	binding := func() (v variable, set, ok bool) {
		take(dotenvExport)
		switch {
		case strings.HasPrefix(text, "#"):
		case strings.HasPrefix(text, "'"):
			if v.name, ok = take(dotenvQuoted); !ok {
				return v, false, false
			}
		default:
			if v.name, ok = take(dotenvKey); !ok {
				return v, false, false
			}
		}
		take(dotenvInline)
		if strings.HasPrefix(text, "=") {
			set, text = v.name != "", text[1:]
			before := len(text)
			take(dotenvInline)
			switch {
			case len(text) < before && strings.HasPrefix(text, "#"):
				// Empty, with a comment; "KEY=#x" has a value.
			case strings.HasPrefix(text, "'"):
				if v.value, ok = take(dotenvSingle); !ok {
					return v, false, false
				}
				v.value = unescape(v.value, `\'`)
			case strings.HasPrefix(text, `"`):
				if v.value, ok = take(dotenvDouble); !ok {
					return v, false, false
				}
				v.value = unescape(v.value, `\'"abfnrtv`)
			default:
				v.value, _ = take(dotenvBare)
				v.value = strings.TrimSpace(dotenvTail.ReplaceAllString(v.value, ""))
			}
		}
		take(dotenvInline)
		take(dotenvComment)
		_, ok = take(dotenvEnd)
		return v, set, ok
	}
	for {
		take(dotenvSpace)
		if text == "" {
			return vars, problems
		}
		at := len(all) - len(text)
		v, set, ok := binding()
		if !ok {
			take(dotenvRest)
			if len(problems) < maxProblems {
				problems = append(problems, fmt.Sprintf("line %d is no NAME=value", 1+strings.Count(all[:at], "\n")))
			}
			continue
		}
		if set {
			vars = append(vars, v)
		}
	}
}

// unescape resolves a backslash before one of the characters in which.
func unescape(s, which string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	named := map[byte]byte{'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(which, s[i+1]) >= 0 {
			i++
			if c, ok := named[s[i]]; ok {
				b.WriteByte(c)
			} else {
				b.WriteByte(s[i])
			}
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// environment is what the app will find in os.environ.
type environment map[string]string

func environmentOf(environ []string) environment {
	e := environment{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			e[k] = v
		}
	}
	return e
}

const maxDotenv = 1 << 20

// readDotenv reads .flaskenv and .env as "flask run" does: each searched from
// dir upwards, .env over .flaskenv, and neither over the real environment,
// which env holds. notes says what was left out and why.
func readDotenv(dir string, env environment) (vars map[string]string, notes []string, err error) {
	vars = map[string]string{}
	for _, base := range []string{".flaskenv", ".env"} {
		name, err := findUpwards(dir, base)
		if err != nil {
			return nil, nil, err
		}
		if name == "" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: make it readable for this user, or take it away", err)
		}
		bindings, problems := parseDotenv(string(data))
		for _, p := range problems {
			notes = append(notes, fmt.Sprintf("%s: %s: left out", name, p))
		}
		own := map[string]string{}
		for _, b := range bindings {
			if strings.ContainsRune(b.name+b.value, 0) {
				notes = append(notes, fmt.Sprintf("%s: %q holds a NUL byte: left out", name, b.name))
				continue
			}
			own[b.name] = expand(b.value, own, env)
		}
		for k, v := range own {
			vars[k] = v
		}
	}
	for k := range vars {
		if _, ok := env[k]; ok {
			delete(vars, k)
		}
	}
	return vars, notes, nil
}

// expand resolves ${NAME} and ${NAME:-default}: from the file first, then from
// the environment, as python-dotenv does.
func expand(s string, own map[string]string, env environment) string {
	return dotenvVariable.ReplaceAllStringFunc(s, func(ref string) string {
		m := dotenvVariable.FindStringSubmatch(ref)
		if v, ok := own[m[1]]; ok {
			return v
		}
		if v, ok := env[m[1]]; ok {
			return v
		}
		return m[2]
	})
}

// findUpwards returns base in dir or the nearest folder above it. A file that
// neither this user nor root owns ends the search: /tmp/.env of a stranger
// must not choose our settings (CWE-426).
func findUpwards(dir, base string) (string, error) {
	for {
		name := filepath.Join(dir, base)
		st, err := os.Stat(name)
		switch {
		case err == nil && st.Mode().IsRegular():
			if uid, ok := ownerOf(st); ok && uid != os.Getuid() && uid != 0 {
				return "", nil
			}
			if st.Size() > maxDotenv {
				return "", fmt.Errorf("%s has %d bytes; a dotenv file has at most %d", name, st.Size(), maxDotenv)
			}
			return name, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
			return "", err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", nil
		}
		dir = up
	}
}
