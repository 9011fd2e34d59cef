package deployment

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

var clientCertSpec = &guard.Spec{
	Name:     "client-certificate",
	Control:  "deployment",
	Does:     "Asks for a client certificate on the paths that want one, and tells the app whose it is.",
	Blocking: true,
	Failure:  guard.FailClosed,
	Event:    "authz_fail",
	Reasons: []guard.Reason{
		{
			Name: "client-certificate-missing",
			Why:  "The path is for clients with a certificate by deployment.client-ca (mutual TLS), and this one showed none: a stolen password alone opens nothing here.",
			Fix:  "Give the client a certificate by that authority with the usage clientAuth, or take the path out of deployment.client-certificates.",
		},
		{
			Name: "client-certificate-expired",
			Why:  "The certificate was valid when the connection was opened and has expired since.",
			Fix:  "Renew the client's certificate.",
		},
	},
}

// clientCert is the layer that asks for client certificates. TLS itself has
// verified the chain, in the handshake.
type clientCert struct {
	paths []string
	ca    string
	now   guard.Clock
}

// NewClientCert makes the client-certificate layer.
func NewClientCert(cfg Config, env guard.Env) (guard.Layer, error) {
	l := &clientCert{paths: cfg.ClientCertPaths, ca: cfg.ClientCA, now: env.Now}
	if l.now == nil {
		l.now = time.Now
	}
	for _, p := range l.paths {
		if err := guard.CheckPattern(p); err != nil {
			return nil, fmt.Errorf("deployment.client-certificates: %w", err)
		}
	}
	return l, nil
}

// Request implements [guard.Layer].
func (l *clientCert) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	want := slices.ContainsFunc(l.paths, func(p string) bool { return guard.MatchPattern(p, x.Path) })
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		if want {
			return guard.Refuse(http.StatusForbidden, "client-certificate-missing", "no client certificate for "+clip(x.Path))
		}
		return guard.Pass()
	}
	c := r.TLS.PeerCertificates[0]
	if l.now().After(c.NotAfter) {
		if want {
			return guard.Refuse(http.StatusForbidden, "client-certificate-expired", fmt.Sprintf("serial %x expired on %s", c.SerialNumber, c.NotAfter.Format(time.DateTime)))
		}
		return guard.Pass()
	}
	x.Client.Certificate = c
	// RFC 9440; the client layer has taken away what the client wrote there.
	sum := sha256.Sum256(c.Raw)
	r.Header["Client-Cert"] = []string{":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"}
	r.Header["X-Client-Cert-Sha256"] = []string{hex.EncodeToString(sum[:])}
	return guard.Pass()
}

// Describe implements [guard.Reporter].
func (l *clientCert) Describe() string {
	switch {
	case l.ca == "":
		return "no client authority is set (deployment.client-ca): no certificate is asked for"
	case len(l.paths) == 0:
		return "certificates by " + l.ca + " are told to the app; no path wants one"
	}
	return fmt.Sprintf("%d paths want a certificate by %s", len(l.paths), l.ca)
}

// Health implements [guard.Reporter].
func (*clientCert) Health() error { return nil }

// clientCertProblems reports settings that contradict each other.
func (c *Config) clientCertProblems() []guard.Problem {
	var out []guard.Problem
	bad := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for _, p := range c.ClientCertPaths {
		if err := guard.CheckPattern(p); err != nil {
			bad("client-certificates", "%v", err)
		}
	}
	if len(c.ClientCertPaths) > 0 && c.ClientCA == "" {
		bad("client-certificates", "by which authority? Set client-ca to its PEM file")
	}
	if len(c.ClientCertPaths) > 0 && c.ClientCert == guard.Off {
		bad("client-certificate", "off, so that nobody asks for the certificates that client-certificates wants: write \"enforce\" or \"observe\", or take the paths away")
	}
	if c.ClientCA != "" && c.TLS == "off" {
		bad("client-ca", "with tls = \"off\" something in front ends TLS: let it ask for client certificates")
	}
	return out
}
