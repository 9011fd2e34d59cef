package deployment

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

// maxHops bounds how many proxies X-Forwarded-For may lead through.
const maxHops = 32

var clientSpec = &guard.Spec{
	Name:    "client",
	Control: "deployment",
	Does:    "Finds out who asks: believes forwarding header fields from trusted proxies only, takes away every other one, and tells the app the truth in X-Forwarded-For, -Proto, -Host and X-Real-IP.",
	Failure: guard.FailClosed,
}

// forwardingHeaders say where a request came from or who sent it. They mean
// something only when a trusted proxy set them: a client could otherwise be
// any address (CWE-348) or any user (CWE-290).
var forwardingHeaders = setOf(
	"Forwarded", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Originating-Ip", "X-Remote-Ip",
	"X-Remote-Addr", "X-Proxyuser-Ip", "Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6",
	"Fastly-Client-Ip", "Fly-Client-Ip", "X-Appengine-User-Ip", "X-Azure-Clientip", "X-Azure-Socketip",
	"X-Nf-Client-Connection-Ip", "X-Envoy-External-Address", "X-Original-Forwarded-For",
	// Scheme, host and mount point, as gunicorn's secure_scheme_headers and
	// the ReverseProxied snippet in many Flask apps read them.
	"X-Scheme", "X-Url-Scheme", "Front-End-Https", "X-Script-Name", "X-Host", "X-Original-Host", "X-Http-Host-Override",
	// The user, as authenticating proxies say it.
	"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups",
	"X-Remote-User", "X-Remote-Name", "X-Remote-Email", "X-Remote-Group", "X-Remote-Groups",
	"X-Auth-User", "X-Auth-Username", "X-Auth-Userid", "X-Auth-Name", "X-Auth-Group", "X-Auth-Groups", "X-Auth-Roles", "X-Auth-Subject",
	"X-Authenticated-User", "X-Authenticated-Userid", "X-Authenticated-Email", "X-Authenticated-Groups", "X-Authenticated-Scope",
	"X-Proxy-User", "X-Proxy-Remote-User", "X-Vouch-User", "X-Consumer-Username", "X-Consumer-Id", "X-Consumer-Custom-Id", "X-Credential-Identifier",
	"Cf-Access-Authenticated-User-Email", "Cf-Access-Jwt-Assertion", "X-Goog-Iap-Jwt-Assertion",
	"X-Ms-Client-Principal", "X-Client-Dn", "X-Client-Verify", "X-Arr-Clientcert", "X-Forwarded-Client-Cert",
	"Client-Cert", "Client-Cert-Chain", // RFC 9440
)

// forwardingPrefixes are the families of such fields. X-Auth- is not among
// them: X-Auth-Token and X-Auth-Key are credentials that API clients send.
var forwardingPrefixes = []string{
	"X-Forwarded-", "X-Dewar-", "X-Auth-Request-", "X-Webauth-", "X-Authentik-", "X-Pomerium-", "X-Amzn-Oidc-", "X-Amzn-Mtls-",
	"X-Goog-Authenticated-User-", "X-Ms-Client-Principal-", "X-Ms-Token-", "X-Ssl-", "Ssl-Client-", "X-Client-Cert", "X-Tailscale-", "Tailscale-User-",
}

// client is the layer that knows who asks.
type client struct {
	trusted []netip.Prefix
	// keep are the identity fields that trusted proxies may set.
	keep map[string]bool
}

// NewClient makes the client layer.
func NewClient(cfg Config, _ guard.Env) (guard.Layer, error) {
	l := &client{keep: setOf(cfg.TrustedHeader...)}
	for _, s := range cfg.TrustedHeader {
		if err := checkTrustedHeader(s); err != nil {
			return nil, fmt.Errorf("deployment.trusted-headers: %w", err)
		}
	}
	for _, s := range cfg.TrustedProxy {
		p, err := parseProxy(s)
		if err != nil {
			return nil, fmt.Errorf("deployment.trusted-proxies: %w", err)
		}
		l.trusted = append(l.trusted, p)
	}
	return l, nil
}

// checkTrustedHeader reports why a field cannot be left to trusted proxies.
func checkTrustedHeader(s string) error {
	name := http.CanonicalHeaderKey(s)
	switch name {
	case "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-Ip":
		return fmt.Errorf("%s is always read from trusted proxies and set anew: remove it", s)
	}
	switch {
	case strings.ContainsRune(s, '_'):
		return fmt.Errorf("%q has an underscore, which never reaches the app: let the proxy send %q", s, strings.ReplaceAll(s, "_", "-"))
	case !fieldName(s):
		return fmt.Errorf("%q is not the name of a header field", s)
	case strings.HasPrefix(name, "X-Dewar-"):
		return fmt.Errorf("%s is what the guard itself tells the app: nobody else may send it", s)
	case strayHeaders[name]:
		return fmt.Errorf("%s would change what was asked for after the guard has looked: it never reaches the app", s)
	case !forwarding(name):
		return fmt.Errorf("%s reaches the app anyway, from anyone: remove it", s)
	}
	return nil
}

// parseProxy reads an address or a network that may speak for clients.
func parseProxy(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network: write 10.0.0.5 or 10.0.0.0/24", s)
		}
		a = a.Unmap()
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network written as IPv6: write it as IPv4", s)
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%q believes the whole internet: name the networks of your proxies", s)
	}
	return p.Masked(), nil
}

// Trusts reports whether a is among the addresses and networks of a
// trusted-proxies setting.
func Trusts(proxies []string, a netip.Addr) bool {
	for _, s := range proxies {
		if p, err := parseProxy(s); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}

// trusts reports whether a may speak for clients.
func (l *client) trusts(a netip.Addr) bool {
	for _, p := range l.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Request implements [guard.Layer].
func (l *client) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	c := guard.Client{Peer: peer(r.RemoteAddr), Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		c.Scheme = "https"
	}
	c.Addr = c.Peer
	if c.Peer.IsValid() && len(l.trusted) > 0 && l.trusts(c.Peer) {
		c.TrustedPeer = true
		var hops int
		c.Addr, hops = l.walk(c.Peer, r.Header["X-Forwarded-For"])
		// The outermost trusted proxy is hops entries from the right: what
		// stands further left came from the client.
		if v := fromRight(r.Header["X-Forwarded-Proto"], hops); strings.EqualFold(v, "https") {
			c.Scheme = "https"
		} else if strings.EqualFold(v, "http") {
			c.Scheme = "http"
		}
		if v := fromRight(r.Header["X-Forwarded-Host"], hops); v != "" {
			if _, _, err := guard.SplitAuthority(v); err == nil {
				c.Host = v
			}
		}
	}
	if host, port, err := guard.SplitAuthority(c.Host); err == nil {
		c.Host = guard.JoinAuthority(host, port)
	} else {
		c.Host = "" // the request layer observes only: no host is better than this one
	}
	x.Client = c
	l.rewrite(r, c)
	return guard.Pass()
}

// rewrite takes away what clients and proxies said and sets what is known.
// Each field has one value, so that ProxyFix(x_for=1, x_proto=1, x_host=1),
// gunicorn's secure_scheme_headers and flask-login's first element all read
// the same.
func (l *client) rewrite(r *http.Request, c guard.Client) {
	for name := range r.Header {
		plain := name
		if strings.IndexByte(name, '_') >= 0 {
			// The request layer takes these away, unless it is off. CGI makes
			// one variable of X-Forwarded-User and X_Forwarded_User.
			plain = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		}
		if forwarding(plain) && !(c.TrustedPeer && l.keep[name]) {
			delete(r.Header, name)
		}
	}
	if c.Addr.IsValid() {
		addr := c.Addr.String()
		r.Header["X-Forwarded-For"] = []string{addr}
		r.Header["X-Real-Ip"] = []string{addr}
	}
	r.Header["X-Forwarded-Proto"] = []string{c.Scheme}
	if c.Host != "" {
		r.Header["X-Forwarded-Host"] = []string{c.Host}
		r.Host = c.Host
	}
}

// forwarding reports whether a field, by its canonical name, speaks about
// where a request came from or who sent it.
func forwarding(name string) bool {
	if forwardingHeaders[name] {
		return true
	}
	if len(name) < 8 || name[0] != 'X' && name[0] != 'S' && name[0] != 'T' {
		return false
	}
	for _, p := range forwardingPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// peer reads the address of [http.Request.RemoteAddr]; the zero Addr for a
// unix socket.
func peer(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// walk follows X-Forwarded-For from the right, as long as the address that
// vouches for the next one is trusted. It returns the first address that is
// not (or the last one there is) and how many proxies vouched.
//
// What a client wrote stands at the left end and is never reached: its own
// proxy's address, appended by us or by a trusted proxy, is not trusted and
// stops the walk. An entry that is no address stops it too; the proxy that
// sent it is then all we know.
func (l *client) walk(from netip.Addr, lines []string) (addr netip.Addr, hops int) {
	addr, hops = from, 1
	for i := len(lines) - 1; i >= 0; i-- {
		rest, more := lines[i], true
		for more {
			entry := rest
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				more = false
			}
			next, ok := forwardedAddr(entry)
			if !ok {
				return addr, hops
			}
			addr = next
			if !l.trusts(addr) || hops == maxHops {
				return addr, hops
			}
			hops++
		}
	}
	if hops > 1 {
		hops-- // the last trusted address vouched for nobody
	}
	return addr, hops
}

// forwardedAddr reads one entry of X-Forwarded-For: an address, perhaps with
// a port, an IPv6 address perhaps in brackets (Azure, HAProxy), perhaps
// quoted. Zones are dropped: they mean nothing on another machine.
func forwardedAddr(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if s == "" || len(s) > 80 {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if s[0] == '[' && s[len(s)-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil && a.Is6() {
			return a.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

// fromRight returns the nth entry of a comma-separated field from the right,
// or the leftmost when there are fewer: most proxies replace the field rather
// than append to it.
func fromRight(lines []string, n int) string {
	last := ""
	for i := len(lines) - 1; i >= 0; i-- {
		rest, more := lines[i], true
		for more {
			entry := rest
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				more = false
			}
			last = strings.Trim(entry, " \t")
			if n--; n <= 0 {
				return last
			}
		}
	}
	return last
}

// Health implements [guard.Reporter].
func (l *client) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *client) Describe() string {
	if len(l.trusted) == 0 {
		return "forwarding headers are believed from nobody"
	}
	return fmt.Sprintf("forwarding headers are believed from %d networks", len(l.trusted))
}
