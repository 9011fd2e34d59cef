package payload

import "strings"

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

// pathLookalikes are other spellings of dots and slashes that some decoder
// folds into them.
var pathLookalikes = strings.NewReplacer("0x2e", ".", "0x2f", "/", "0x5c", "/", "\uff0e", ".", "\uff0f", "/", "\u2215", "/", "\u2216", "/", "\uf025", "/",
	"..2f", "../", "..5c", "../", "\xc0.", ".", "\xc0/", "/", "\xc0\\", "/")
