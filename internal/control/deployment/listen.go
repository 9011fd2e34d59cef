package deployment

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// ParseListen reads an address to listen on: "host:port", ":port" or
// "unix:/path". The network is "tcp" or "unix", as [net.Listen] wants it.
func ParseListen(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			return "", "", fmt.Errorf("%q: the path of a unix socket must be absolute: write unix:/run/dewar/site.sock", s)
		}
		if len(path) > 103 { // room in sockaddr_un
			return "", "", fmt.Errorf("%q: the path of a unix socket has at most 103 bytes", s)
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, e := strconv.Atoi(s); e == nil {
			return "", "", fmt.Errorf("%q is no address: write \":%s\" for all addresses or \"127.0.0.1:%s\"", s, s, s)
		}
		return "", "", fmt.Errorf("%q is no address: write \"host:port\", \":port\" or \"unix:/path\"", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", "", fmt.Errorf("%q: the port must be a number from 0 to 65535", s)
	}
	if strings.ContainsAny(host, " /\x00") {
		return "", "", fmt.Errorf("%q: %q is no host", s, host)
	}
	return "tcp", s, nil
}

// IsPrivateListen reports whether an address read by [ParseListen] can be
// reached from this machine only: loopback or a unix socket. Host names other
// than localhost are not believed.
func IsPrivateListen(network, address string) bool {
	if network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Problems returns what cannot work, with keys of this section. Package catalog
// prints them with the place of the setting.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	bad := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for _, l := range []struct {
		key   string
		addrs []string
	}{{"listen", c.Listen}, {"listen-http", c.ListenHTTP}} {
		for _, a := range l.addrs {
			if _, _, err := ParseListen(a); err != nil {
				bad(l.key, "%v", err)
			}
		}
	}
	if c.TLS == "off" && len(c.ListenHTTP) == 0 {
		bad("listen-http", "with tls = \"off\" this is where the app is served: give an address")
	}
	if c.TLS != "off" && len(c.Listen) == 0 {
		bad("listen", "no address to serve HTTPS on")
	}
	if c.Console != "" {
		if network, address, err := ParseListen(c.Console); err != nil {
			bad("console", "%v", err)
		} else if !IsPrivateListen(network, address) {
			bad("console", "%q can be reached from other machines: the console is for loopback (127.0.0.1:9180) or unix:/path", c.Console)
		}
	}
	for _, d := range []struct {
		key string
		v   guard.Duration
	}{
		{"timeout", c.Timeout}, {"header-timeout", c.HeaderTimeout}, {"body-timeout", c.BodyTimeout}, {"idle-timeout", c.IdleTimeout}, {"grace", c.Grace},
	} {
		if d.v < guard.Duration(time.Second) {
			bad(d.key, "%s: at least 1s; no limit would let one slow client hold a connection for ever", d.v)
		}
	}
	if c.MaxHeader < 1<<10 || c.MaxHeader > 1<<20 {
		bad("max-header", "%s: from 1 KiB to 1 MiB", c.MaxHeader)
	}
	for _, a := range c.ProxyProtocol {
		if _, err := parseProxy(a); err != nil {
			bad("proxy-protocol", "%v", err)
		}
	}
	if c.HTTP3 && c.TLS == "off" {
		bad("http3", "HTTP/3 is always encrypted: with tls = \"off\" there is none")
	}
	if c.HTTP3 && len(c.ProxyProtocol) > 0 {
		bad("http3", "the PROXY protocol is for TCP: clients of HTTP/3 would come past the balancers in proxy-protocol, whose addresses they would have. Leave one of the two out, or let the balancer speak HTTP/3")
	}
	if c.MaxPerClient > c.MaxConns && c.MaxConns > 0 {
		bad("max-connections-per-client", "%d: no address can have more than the %d of max-connections, so this limits nobody: write less, or 0 for no limit", c.MaxPerClient, c.MaxConns)
	}
	out = append(out, c.acmeProblems()...)
	out = append(out, c.clientCertProblems()...)
	return append(out, c.layerProblems()...)
}
