package audit

import (
	"strings"

	"github.com/dewar-security/dewar/internal/pyflow"
)

// unknown stands for an unknown piece in [Before].
const unknown = "\x00"

// Before returns the text before pieces[i], each unknown piece of it as a
// zero byte.
func Before(pieces []pyflow.Piece, i int) string {
	var b strings.Builder
	for _, p := range pieces[:i] {
		if p.Unknown {
			b.WriteString(unknown)
		} else {
			b.WriteString(p.Literal)
		}
	}
	return b.String()
}

// After returns the known text that directly follows pieces[i].
func After(pieces []pyflow.Piece, i int) string {
	var b strings.Builder
	for _, p := range pieces[i+1:] {
		if p.Unknown {
			break
		}
		b.WriteString(p.Literal)
	}
	return b.String()
}

// HostFixed reports whether pieces[i] of a URL cannot choose the host that is
// connected to. It cannot when scheme and host stand before it, closed by a
// "/", "?" or "#" (https://api.example.com/ + x; without the last slash
// x = "@evil.example" or ".evil.example" would do), when it is a part of a
// host that goes on behind it and has no character that ends one
// (https:// + x + .example.com/), and when it is a port. What is unknown
// before it is taken for a base URL, host included.
func HostFixed(pieces []pyflow.Piece, i int) bool {
	before := strings.TrimLeft(Before(pieces, i), " \t\r\n")
	if before == "" {
		return false
	}
	if strings.HasPrefix(before, unknown) {
		return true
	}
	scheme, rest, ok := splitScheme(before)
	switch {
	case ok && !hierarchical[scheme]:
		return true // mailto:, data: and the like have no host
	case ok:
		rest = strings.TrimLeft(rest, `/\`)
	case strings.HasPrefix(before, "//"), strings.HasPrefix(before, `/\`), strings.HasPrefix(before, `\`):
		rest = strings.TrimLeft(before, `/\`)
	case before[0] == '/', before[0] == '?', before[0] == '#', before[0] == '.':
		return true // a path; "/" alone is the caller's to judge
	default:
		rest = before
	}
	if strings.ContainsAny(rest, `/\?#`) {
		return true
	}
	p := pieces[i]
	if rest != "" && Only(p, pyflow.CharsOf("0123456789-")) {
		return true
	}
	// Inside of the host: what follows has to close it.
	after := After(pieces, i)
	if CanHoldAny(p, `/\?#`) || len(after) < 2 || after[0] != '.' {
		return false
	}
	host := strings.FieldsFunc(after, func(r rune) bool { return strings.ContainsRune(`/\?#:`, r) })
	return len(host) > 0 && strings.Count(host[0], ".") >= 2 && !strings.ContainsRune(host[0], '@')
}

// hierarchical are the schemes whose URLs have a host.
var hierarchical = map[string]bool{"http": true, "https": true, "ftp": true, "ws": true, "wss": true, "file": true, "ldap": true, "ldaps": true, "redis": true, "amqp": true, "sftp": true, "ssh": true, "git": true, "gopher": true, "dict": true}

// splitScheme takes "https" off "https://host".
func splitScheme(s string) (scheme, rest string, ok bool) {
	i := strings.IndexByte(s, ':')
	if i <= 0 {
		return "", s, false
	}
	for j := range i {
		c := s[j] | 0x20
		if (c < 'a' || c > 'z') && (j == 0 || !strings.ContainsRune("0123456789+.-", rune(s[j]))) {
			return "", s, false
		}
	}
	scheme = strings.ToLower(s[:i])
	// host:port is no scheme.
	if !strings.HasPrefix(s[i+1:], "/") && !hierarchical[scheme] && strings.ContainsRune(scheme, '.') {
		return "", s, false
	}
	return scheme, s[i+1:], true
}
