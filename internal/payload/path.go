package payload

import (
	"net/netip"
	"strconv"
	"strings"
)

// The judge of paths asks whether a text climbs out of the folder it is put
// into, names a file that only an attack asks for, or is a URL of a scheme
// that reads files or runs something.

func judgePath(text string, place Place, _ []string) string {
	t := strings.TrimSpace(text)
	if strings.Contains(t, "0x2") || strings.ContainsAny(t, "\uff0e\u2215\u2216\uff0f\uf025") || strings.Contains(t, "..2f") || strings.IndexByte(t, 0xC0) >= 0 {
		t = pathLookalikes.Replace(t)
	}
	l := strings.ToLower(t)
	for _, p := range []string{"file:///", "file://localhost/", "php://", "expect://", "phar://", "zip://", "gopher://", "dict://", "ldap://127", "netdoc:", "jar:http", "data://text", "compress.zlib://", "glob://", "ogg://", "ssh2.", "local_file:"} {
		if strings.HasPrefix(l, p) || place == Text && strings.Contains(l, "="+p) {
			return "scheme that reads"
		}
	}
	if metadataURL(l) {
		return "metadata address"
	}
	climbs, longest := 0, 0
	for i := 0; i+2 < len(t); i++ {
		if t[i] != '.' || t[i+1] != '.' || i > 0 && (t[i-1] == '.' || isAlnum(t[i-1])) {
			continue
		}
		j := i + 2
		if t[j] == ';' || t[j] == 0 {
			j++
		}
		if j < len(t) && (t[j] == '/' || t[j] == '\\') {
			climbs++
			k := j
			for k < len(t) && (t[k] == '/' || t[k] == '\\' || t[k] == '.' && k+1 < len(t) && (t[k+1] == '/' || t[k+1] == '\\')) {
				k++
			}
			if i > 0 && (t[i-1] == '/' || t[i-1] == '\\') || i == 0 || longest == 0 {
				longest++
			}
			if t[j-1] == ';' {
				return "traversal" // ..;/ is read as .. by servers behind proxies only
			}
		}
	}
	sensitive := sensitivePath(l)
	switch {
	case climbs > 0 && sensitive:
		return "traversal"
	case climbs == 2 && place == Text && strings.IndexByte(t, 0) < 0 && assetPath(l):
		// A page's link to its own style sheet, which everybody may read.
	case climbs >= 2 && strings.IndexByte(t, ' ') < 0 && strings.IndexByte(t, '\n') < 0 && (climbs >= 3 || place == Segment || strings.HasPrefix(t, "..") || strings.HasPrefix(t, "/") || strings.HasPrefix(t, `\`)):
		return "traversal"
	case climbs >= 1 && strings.IndexByte(t, 0) >= 0:
		return "traversal"
	case strings.Contains(t, "....//") || strings.Contains(t, `....\\`) || strings.Contains(t, `....\/`) || strings.Contains(t, `..././`):
		return "traversal"
	case strings.IndexByte(t, ' ') < 0 && (strings.HasPrefix(l, "/etc/") || strings.HasPrefix(l, "/proc/") || strings.HasPrefix(l, "/root/") || strings.HasPrefix(l, "/var/log/")) && place == Text:
		return "system file"
	case strings.HasPrefix(t, `\\`) && (strings.Contains(l, `c$`) || strings.Contains(l, `admin$`) || strings.Contains(l, `ipc$`)):
		return "network path"
	case sensitive && strings.IndexByte(t, ' ') < 0 && strings.IndexByte(t, '\n') < 0 && !strings.HasPrefix(l, "http"):
		return "system file"
	}
	// ..%c0%af and the like: overlong UTF-8 of a slash or a dot.
	if strings.Contains(t, "..") && (strings.Contains(t, "\xc0\xaf") || strings.Contains(t, "\xc1\x9c") || strings.Contains(t, "\xe0\x80\xaf")) || strings.Contains(t, "\xc0\xae") {
		return "overlong encoding"
	}
	return ""
}

// assetPath says that a relative path, in small letters, is one by which pages
// link to what browsers load beside them: ../../static/site.css.
func assetPath(s string) bool {
	s, _, _ = strings.Cut(s, "?")
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 || !assetTypes[s[dot+1:]] {
		return false
	}
	for s = s[:dot]; strings.HasPrefix(s, "../"); {
		s = s[3:]
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '/' && c != '-' && c != '_' && c != '.' || c == '.' && i > 0 && s[i-1] == '.' {
			return false
		}
	}
	return s != ""
}

var assetTypes = set("css", "js", "mjs", "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "woff", "woff2", "ttf")

// metadataURL says that a text, in small letters, is as a whole a URL of the
// address at which clouds tell a machine its credentials (CWE-918), however it
// is written. No page has a reason to link there.
func metadataURL(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "//")
		scheme = "http"
	}
	if !ok || scheme != "http" && scheme != "https" && scheme != "ftp" && scheme != "url:http" || strings.ContainsAny(rest, " \t\r\n") {
		return false
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if inner, found := strings.CutPrefix(rest, "["); found {
		inner, _, _ = strings.Cut(inner, "]")
		inner, _, _ = strings.Cut(inner, "%")
		a, err := netip.ParseAddr(inner)
		return err == nil && (metadataAddr(a.Unmap()) || a == netip.MustParseAddr("fd00:ec2::254"))
	}
	host, _, _ := strings.Cut(rest, ":")
	host = strings.TrimSuffix(host, ".")
	switch host {
	case "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal":
		return true
	}
	// 169.254.169.254.nip.io and the like lead there, too.
	if strings.HasPrefix(host, "169.254.169.254.") || strings.HasPrefix(host, "169-254-169-254.") {
		return true
	}
	a, ok := looseIPv4(host)
	return ok && metadataAddr(a)
}

// Link says that a text, if an app fetched it as an address, would lead to
// another site, as people paste them: a name of the public DNS, without a user,
// a port or a name that stands for an address. A text that begins with a word
// is no address at all.
func Link(text string) bool {
	text = strings.TrimSpace(text)
	first := firstWord(text)
	if first == "" || len(text) > maxInert {
		return false
	}
	if i := strings.IndexByte(first, ':'); i < 0 || i == len(first)-1 || strings.ContainsAny(first[:i], "([<\"'`*_.") {
		return len(first) < len(text) && !strings.HasPrefix(first, "//") && !strings.HasPrefix(first, `\\`) || i > 0 && strings.ContainsAny(first[:i], "([<\"'`*_")
	}
	rest, ok := strings.CutPrefix(first, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(first, "http://")
	}
	if !ok || len(first) > 2048 || strings.ContainsAny(first, "\\<>\"'`{}|^") {
		return false
	}
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
	}
	labels := strings.Split(host, ".")
	if len(labels) < 2 || len(host) > 253 {
		return false
	}
	for _, l := range labels {
		if l == "" || strings.Trim(strings.ToLower(l), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	top := strings.ToLower(labels[len(labels)-1])
	if len(top) < 2 || strings.Trim(top, "abcdefghijklmnopqrstuvwxyz") != "" || privateDomains[top] || privateDomains[strings.ToLower(labels[len(labels)-2])+"."+top] {
		return false
	}
	// 10-0-0-1.example.com and 127.0.0.1.example.com may lead inside.
	digits := 0
	for _, l := range strings.FieldsFunc(host, func(r rune) bool { return r == '.' || r == '-' }) {
		if strings.Trim(l, "0123456789") == "" {
			digits++
		}
	}
	return digits < 4 && !metadataURL(strings.ToLower(first))
}

// privateDomains are ends of names that lead into a network, or to an address
// that stands in the name.
var privateDomains = set("local", "internal", "localhost", "localdomain", "lan", "home", "corp", "intranet", "private", "test", "invalid", "onion", "arpa",
	"nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com", "traefik.me", "backname.io", "burpcollaborator.net", "rbndr.us", "1u.ms", "requestrepo.com", "oastify.com", "interact.sh")

// metadataAddr says that an address is link-local, where the metadata services
// of nearly all clouds are (RFC 3927), or that of another one's.
func metadataAddr(a netip.Addr) bool {
	return a.Is4() && (a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{100, 100, 100, 200}) || a == netip.AddrFrom4([4]byte{192, 0, 0, 192}))
}

// looseIPv4 reads an IPv4 address as inet_aton does: one to four parts, each
// decimal, octal or hexadecimal, the last one filling what is left.
func looseIPv4(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 64)
		if err != nil || strings.Contains(p, "_") {
			return netip.Addr{}, false
		}
		most := uint64(255)
		if i == len(parts)-1 {
			most = 1<<(8*(4-i)) - 1
			if n <= most {
				sum |= n
			}
		} else {
			sum |= n << (8 * (3 - i))
		}
		if n > most {
			return netip.Addr{}, false
		}
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}), true
}

// pathLookalikes are other spellings of dots and slashes that some decoder
// folds into them.
var pathLookalikes = strings.NewReplacer("0x2e", ".", "0x2f", "/", "0x5c", "/", "\uff0e", ".", "\uff0f", "/", "\u2215", "/", "\u2216", "/", "\uf025", "/",
	"..2f", "../", "..5c", "../", "\xc0.", ".", "\xc0/", "/", "\xc0\\", "/")
