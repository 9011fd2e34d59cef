package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Origin is where a web page comes from (RFC 6454), in one canonical form, so
// that two of them are the same origin exactly if they are ==.
type Origin struct {
	Scheme string // "http" or "https"
	Host   string // lower case, without trailing dot; IPv6 without brackets
	Port   uint16 // the scheme's own when none was written
}

// ErrOpaqueOrigin is what ParseOrigin returns for "null": a sandboxed frame,
// a local file, a redirect across origins. It is never the same as any
// origin, not even itself.
var ErrOpaqueOrigin = errors.New(`origin "null" is opaque`)

// ParseOrigin reads the value of an Origin header or of a setting:
// scheme://host[:port] and nothing else. User names, paths, white space and
// lists are errors: net/http once let https://evil@shop.example pass for
// shop.example (golang/go#78563).
func ParseOrigin(s string) (Origin, error) {
	if s == "null" {
		return Origin{}, ErrOpaqueOrigin
	}
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok {
		return Origin{}, fmt.Errorf("%q is not an origin: write it as https://shop.example", s)
	}
	o := Origin{}
	switch {
	case strings.EqualFold(scheme, "https"):
		o.Scheme, o.Port = "https", 443
	case strings.EqualFold(scheme, "http"):
		o.Scheme, o.Port = "http", 80
	default:
		return Origin{}, fmt.Errorf("%q is not a web origin: its scheme must be https or http", s)
	}
	host, port, err := SplitAuthority(authority)
	if err != nil {
		return Origin{}, fmt.Errorf("%q is not an origin: %w", s, err)
	}
	o.Host = host
	if port != 0 {
		o.Port = port
	}
	return o, nil
}

// String writes o as browsers do, without the scheme's own port.
func (o Origin) String() string {
	if o.Scheme == "https" && o.Port == 443 || o.Scheme == "http" && o.Port == 80 {
		return o.Scheme + "://" + JoinAuthority(o.Host, 0)
	}
	return o.Scheme + "://" + JoinAuthority(o.Host, o.Port)
}

// Origin returns the origin that the client asked for; ok is false when its
// scheme or host is unknown.
func (c Client) Origin() (o Origin, ok bool) {
	switch c.Scheme {
	case "https":
		o.Scheme, o.Port = "https", 443
	case "http":
		o.Scheme, o.Port = "http", 80
	default:
		return Origin{}, false
	}
	host, port, err := SplitAuthority(c.Host)
	if err != nil {
		return Origin{}, false
	}
	o.Host = host
	if port != 0 {
		o.Port = port
	}
	return o, true
}

var (
	errEmptyHost = errors.New("the host is empty")
	errHostChars = errors.New("the host may only contain letters, digits, - . and _")
	errHostName  = errors.New("the host name has an empty or too long label")
	errHostIP    = errors.New("the host in brackets is not an IPv6 address")
	errPort      = errors.New("the port is not a number from 1 to 65535")
)

// SplitAuthority reads a Host header or the host and port of a URL (RFC 9112
// section 3.2), more strictly than the RFC: host names consist of letters,
// digits, hyphens, underscores and dots, and user names, percent-encoding and
// IPv6 zones are errors. host comes back in lower case, without brackets and
// without a trailing dot; port is 0 when none was written.
func SplitAuthority(s string) (host string, port uint16, err error) {
	if len(s) > 270 { // a name of 253, brackets or a dot, and a port
		return "", 0, errHostName
	}
	rest := ""
	if strings.HasPrefix(s, "[") {
		var ok bool
		if host, rest, ok = strings.Cut(s[1:], "]"); !ok {
			return "", 0, errHostIP
		}
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", 0, errHostIP
		}
		host = a.String()
	} else {
		host = s
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, rest = s[:i], s[i:]
		}
		if host, err = canonicalName(host); err != nil {
			return "", 0, err
		}
	}
	if rest == "" {
		return host, 0, nil
	}
	if rest[0] != ':' || len(rest) < 2 || len(rest) > 6 {
		return "", 0, errPort
	}
	for _, c := range []byte(rest[1:]) {
		if c < '0' || c > '9' { // strconv also takes a sign
			return "", 0, errPort
		}
	}
	n, err := strconv.ParseUint(rest[1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, errPort
	}
	return host, uint16(n), nil
}

// canonicalName checks a host name and returns it in lower case without the
// trailing dot of a fully qualified one.
func canonicalName(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", errEmptyHost
	}
	if len(s) > 253 {
		return "", errHostName
	}
	label, upper := 0, false
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case 'A' <= c && c <= 'Z':
			label++
			upper = true
		case c == '.':
			if label == 0 {
				return "", errHostName
			}
			label = 0
			continue
		default:
			return "", errHostChars
		}
		if label > 63 {
			return "", errHostName
		}
	}
	if label == 0 {
		return "", errHostName
	}
	if upper {
		s = strings.ToLower(s)
	}
	return s, nil
}

// JoinAuthority is the inverse of SplitAuthority: it adds brackets to IPv6
// addresses, and the port unless it is 0.
func JoinAuthority(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}
