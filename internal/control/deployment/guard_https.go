package deployment

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

var httpsSpec = &guard.Spec{
	Name:     "https",
	Control:  "deployment",
	Does:     "Answers only for the hosts it serves, redirects reading requests from HTTP to HTTPS and refuses writing ones.",
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    "input_validation_fail",
	Reasons: []guard.Reason{
		{
			Name: "https-host",
			Why:  "The host is none that this site serves: a forged Host ends up in password-reset links, caches and redirects (CWE-644), and is how DNS rebinding reaches a local app.",
			Fix:  "Add the name to deployment.allowed-hosts; load balancers should check health on the console's address.",
		},
		{
			Name: "https-sni",
			Why:  "TLS was asked for one name and HTTP for another: what was decided for the first would count for the second (RFC 9110, 7.4). Browsers ask again on a connection of its own.",
			Fix:  "Let the client ask TLS (SNI) for the name in Host; behind a proxy that ends TLS and encrypts anew, list it in deployment.trusted-proxies.",
		},
		{
			Name: "https-redirect",
			Why:  "The request came in clear text and can safely be asked again over HTTPS.",
			Fix:  "Nothing: this is an answer, not a refusal. Set deployment.public-port when the redirect names the wrong port.",
		},
		{
			Name: "https-cleartext-write",
			Why:  "A request with a body or side effects came in clear text. What it carried is already exposed; a redirect would hide that and let the client go on doing so.",
			Fix:  "Let the client use https from the start. Behind a proxy that ends TLS, list it in deployment.trusted-proxies and let it set X-Forwarded-Proto.",
		},
	},
}

// https is the layer that knows the site's names and its scheme.
type https struct {
	hosts []string // lower case; a leading dot covers the name and all below
	names func() []string
	local bool // localhost is one of our names
	clear bool // clear text is what this site serves
	// port stands in redirects; public is what the settings say it is, for
	// redirects that a proxy in front asked for: our own port is private.
	port, public uint16
}

// NewHTTPS makes the https layer. It fails when nobody could say which hosts
// are served or whether a request came over TLS.
func NewHTTPS(cfg Config, env guard.Env) (guard.Layer, error) {
	dev := env.Profile == guard.Development
	l := &https{names: env.CertificateNames, local: dev, clear: cfg.TLS == "off" && dev}
	for _, s := range cfg.AllowedHosts {
		h, err := parseAllowedHost(s)
		if err != nil {
			return nil, fmt.Errorf("deployment.allowed-hosts: %w", err)
		}
		l.hosts = append(l.hosts, h)
	}
	if cfg.TLS == "off" && !dev && cfg.HTTPS != guard.Off {
		if len(l.hosts) == 0 {
			return nil, fmt.Errorf("deployment.allowed-hosts: with tls = \"off\" there is no certificate to take the host names from: list them")
		}
		if len(cfg.TrustedProxy) == 0 {
			return nil, fmt.Errorf("deployment.trusted-proxies: with tls = \"off\" something in front must end TLS: list its address, and let it set X-Forwarded-Proto")
		}
	}
	if cfg.PublicPort < 0 || cfg.PublicPort > 65535 {
		return nil, fmt.Errorf("deployment.public-port: %d is no port: write 1 to 65535", cfg.PublicPort)
	}
	l.public = uint16(cfg.PublicPort)
	l.port = l.public
	if l.port == 0 && cfg.TLS != "off" && len(cfg.Listen) > 0 {
		i := strings.LastIndexByte(cfg.Listen[0], ':')
		if n, err := strconv.ParseUint(cfg.Listen[0][i+1:], 10, 16); err == nil {
			l.port = uint16(n)
		}
	}
	if l.port == 443 {
		l.port = 0
	}
	if l.public == 443 {
		l.public = 0
	}
	return l, nil
}

// parseAllowedHost reads one entry of allowed-hosts.
func parseAllowedHost(s string) (string, error) {
	name, dot := strings.CutPrefix(strings.TrimSpace(s), ".")
	if strings.Contains(s, "*") {
		return "", fmt.Errorf("%q: write .example.com for every name below example.com; any host at all cannot be allowed", s)
	}
	if strings.Count(name, ":") > 1 && name[0] != '[' {
		name = "[" + name + "]"
	}
	host, port, err := guard.SplitAuthority(name)
	if err != nil {
		return "", fmt.Errorf("%q is not a host name: %w", s, err)
	}
	if port != 0 {
		return "", fmt.Errorf("%q: leave the port out, every port counts", s)
	}
	if dot {
		return "." + host, nil
	}
	return host, nil
}

// Request implements [guard.Layer].
func (l *https) Request(x *guard.Exchange) guard.Decision {
	// The host first: a redirect built from a forged one leads anywhere.
	host, _, err := guard.SplitAuthority(x.Client.Host)
	if err != nil || !l.serves(host) {
		return guard.Refuse(http.StatusMisdirectedRequest, "https-host", "host "+clip(x.Request.Host))
	}
	if t := x.Request.TLS; t != nil && t.ServerName != "" && !x.Client.TrustedPeer && !strings.EqualFold(t.ServerName, host) {
		return guard.Refuse(http.StatusMisdirectedRequest, "https-sni", "TLS for "+clip(t.ServerName)+", Host "+clip(x.Request.Host))
	}
	if x.Client.Scheme == "https" || l.clear {
		return guard.Pass()
	}
	if x.Request.Method != http.MethodGet && x.Request.Method != http.MethodHead {
		return guard.Refuse(http.StatusForbidden, "https-cleartext-write", x.Request.Method+" in clear text")
	}
	port := l.port
	if x.Client.TrustedPeer && x.Request.TLS == nil {
		port = l.public
	}
	return guard.Decision{
		Verdict: guard.Answer,
		Status:  http.StatusPermanentRedirect,
		Reason:  "https-redirect",
		Header:  http.Header{"Location": {"https://" + guard.JoinAuthority(host, port) + x.Request.URL.RequestURI()}},
	}
}

// serves reports whether host, canonical, is one of ours.
func (l *https) serves(host string) bool {
	if l.local && (host == "localhost" || host == "127.0.0.1" || host == "::1" || strings.HasSuffix(host, ".localhost")) {
		return true
	}
	for _, h := range l.hosts {
		if h == host || h[0] == '.' && (h[1:] == host || strings.HasSuffix(host, h)) {
			return true
		}
	}
	if len(l.hosts) > 0 || l.names == nil {
		return false
	}
	for _, n := range l.names() {
		// A wildcard stands for exactly one label (RFC 9525 section 6.3).
		if base, ok := strings.CutPrefix(n, "*."); ok {
			if _, parent, ok := strings.Cut(host, "."); ok && strings.EqualFold(parent, base) {
				return true
			}
			continue
		}
		if strings.EqualFold(strings.Trim(n, "[]"), host) {
			return true
		}
	}
	return false
}

// Health implements [guard.Reporter]: without a name to answer to, every
// request is refused, and that is no state to call enforced.
func (l *https) Health() error {
	if len(l.hosts) == 0 && !l.local && (l.names == nil || len(l.names()) == 0) {
		return fmt.Errorf("no host is allowed: the certificate has no name and deployment.allowed-hosts is empty")
	}
	return nil
}

// Describe implements [guard.Reporter].
func (l *https) Describe() string {
	hosts := l.hosts
	if len(hosts) == 0 && l.names != nil {
		hosts = l.names()
	}
	if l.local {
		hosts = append([]string{"localhost"}, hosts...)
	}
	redirect := "HTTP redirects to HTTPS"
	if l.clear {
		redirect = "clear text is served (development)"
	}
	return fmt.Sprintf("answers to %s; %s", strings.Join(hosts, ", "), redirect)
}
