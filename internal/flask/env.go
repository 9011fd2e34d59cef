package flask

import (
	"path"
	"strings"
	"unicode/utf8"
)

// readEnv reads KEY=value lines as python-dotenv does: an optional "export",
// quotes with escapes, comments after a space.
func (a *analyzer) readEnv(f Source) {
	profile := profileOf(strings.TrimPrefix(strings.TrimPrefix(path.Base(f.Path), ".env"), ".flaskenv"))
	for _, v := range parseEnv(string(f.Data)) {
		a.m.Env = append(a.m.Env, EnvVar{Name: v.name, Value: v.value, Profile: profile, Example: f.Example, Position: Position{
			File: f.Path, Line: v.line, Column: v.col, EndLine: v.line, EndColumn: v.end}})
	}
}

type envLine struct {
	name, value    string
	line, col, end int
}

func parseEnv(data string) []envLine {
	var out []envLine
	data = strings.TrimPrefix(data, "\ufeff")
	lines := strings.Split(data, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\r")
		text := strings.TrimLeft(line, " \t")
		col := utf8.RuneCountInString(line[:len(line)-len(text)]) + 1
		if strings.HasPrefix(text, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(text, "export "); ok {
			text = strings.TrimLeft(rest, " \t")
		}
		name, value, ok := strings.Cut(text, "=")
		name = strings.Trim(strings.TrimSpace(name), "'\"")
		if !ok || name == "" || strings.ContainsAny(name, " \t#") {
			continue
		}
		at := i + 1
		value = strings.TrimLeft(value, " \t")
		if value != "" && (value[0] == '"' || value[0] == '\'') {
			q := value[0]
			body := value[1:]
			for !closed(body, q) && i+1 < len(lines) && i-at < 200 { // a value may span lines
				i++
				body += "\n" + strings.TrimRight(lines[i], "\r")
			}
			value = unquoteEnv(body, q)
		} else {
			if j := strings.Index(value, " #"); j >= 0 {
				value = value[:j]
			}
			if strings.HasPrefix(value, "#") {
				value = ""
			}
			value = strings.TrimSpace(value)
		}
		out = append(out, envLine{name, value, at, col, utf8.RuneCountInString(strings.TrimRight(line, " \t")) + 1})
	}
	return out
}

func closed(s string, q byte) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case q:
			return true
		}
	}
	return false
}

func unquoteEnv(s string, q byte) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == q {
			break
		}
		if c == '\\' && i+1 < len(s) {
			i++
			switch {
			case s[i] == q || s[i] == '\\':
				c = s[i]
			case q == '"' && s[i] == 'n':
				c = '\n'
			case q == '"' && s[i] == 't':
				c = '\t'
			default:
				b.WriteByte('\\')
				c = s[i]
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// profileOf reads a profile out of a name: ProductionConfig, settings_dev,
// .env.staging.
func profileOf(name string) string {
	words := splitWords(name)
	for _, w := range words {
		switch w {
		case "production", "prod", "live":
			return "production"
		case "staging", "stage", "preprod", "uat":
			return "staging"
		case "development", "dev", "develop", "devel", "local", "debug":
			return "development"
		case "testing", "test", "tests", "ci", "unittest":
			return "testing"
		}
	}
	return ""
}

// splitWords splits snake_case, kebab-case, dotted and CamelCase into lower
// case words.
func splitWords(s string) []string {
	var words []string
	start := 0
	flush := func(end int) {
		if end > start {
			words = append(words, strings.ToLower(s[start:end]))
		}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '_' || c == '-' || c == '.' || c == '/' || c == ' ':
			flush(i)
			start = i + 1
		case c >= 'A' && c <= 'Z' && i > start && (s[i-1] < 'A' || s[i-1] > 'Z' || i+1 < len(s) && s[i+1] >= 'a' && s[i+1] <= 'z'):
			flush(i)
			start = i
		}
	}
	flush(len(s))
	return words
}
