package settings

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/publicsuffix"

	"github.com/dewar-security/dewar/internal/guard"
)

// corsSpec: not Blocking, because nothing is refused here. What another site
// may read is decided by the browser, on what the answer allows.
var corsSpec = &guard.Spec{
	Name:    "cors",
	Control: "settings",
	Does:    "Takes back permission to read answers with the visitor's cookies when the app gives it to an origin that is neither of this site nor listed.",
	Failure: guard.FailClosed,
}

// cors is the layer that watches over Access-Control-Allow-Origin.
//
// The app decides about cross-origin reading (Flask-CORS or its own header
// fields); this layer takes back the one mistake that gives accounts away:
// credentials for whoever asks, which is what a reflected Origin means
// (CWE-942). Without credentials an answer shows a foreign page no more than
// the whole world can see, so * and the like stay as they are and public APIs
// keep working, preflights included. Those go to the app for the same reason,
// and their answers are held to the same rule.
type cors struct {
	mode    guard.Mode
	origins []guard.Origin
	taken   atomic.Uint64
}

// NewCORS makes the cors layer.
func NewCORS(cfg Config, _ guard.Env) (guard.Layer, error) {
	l := &cors{mode: cfg.CORS}
	for _, s := range cfg.CORSOrigins {
		o, err := guard.ParseOrigin(s)
		if err != nil {
			return nil, fmt.Errorf("settings.cors-origins: %w", err)
		}
		l.origins = append(l.origins, o)
	}
	return l, nil
}

// Request implements [guard.Layer].
func (l *cors) Request(*guard.Exchange) guard.Decision { return guard.Pass() }

const (
	allowOrigin      = "Access-Control-Allow-Origin"
	allowCredentials = "Access-Control-Allow-Credentials"
)

// Response implements [guard.Responder].
func (l *cors) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	values := r.Header[allowOrigin]
	if len(values) == 0 {
		return guard.Pass()
	}
	if len(values) > 1 || values[0] != "*" {
		// The answer depends on who asks. A cache that does not know would
		// give one origin's permission to another.
		varyOrigin(r.Header)
	}
	if l.may(x, r.Header) {
		return guard.Pass()
	}
	mode := l.mode
	if x.Override != nil {
		if m, ok := x.Override.Modes[corsSpec.Name]; ok {
			mode = m
		}
	}
	l.taken.Add(1)
	if mode != guard.Enforce {
		return guard.Pass()
	}
	if len(values) == 1 && values[0] == "*" {
		// Browsers refuse * with credentials; the author meant one of the
		// two, and * alone is the harmless one.
		delete(r.Header, allowCredentials)
		return guard.Pass()
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(r.Header, name)
		}
	}
	return guard.Pass()
}

// may reports whether an answer may allow what it allows.
func (l *cors) may(x *guard.Exchange, h http.Header) bool {
	values := h[allowOrigin]
	if len(values) > 1 || values[0] == "null" {
		// Several values are invalid; "null" is every sandboxed frame.
		return false
	}
	// Browsers compare with "true" byte for byte; any value is meant so.
	if len(h[allowCredentials]) == 0 {
		return true
	}
	return l.trusts(x, values[0])
}

// trusts reports whether an origin may read answers with credentials.
func (l *cors) trusts(x *guard.Exchange, value string) bool {
	o, err := guard.ParseOrigin(value)
	if err != nil {
		return false
	}
	if slices.Contains(l.origins, o) {
		return true
	}
	own, ok := x.Client.Origin()
	return ok && (o == own || sameSite(o, own))
}

// sameSite reports whether two origins are schemefully same-site, as browsers
// see it (HTML standard): same scheme, same registrable domain.
func sameSite(a, b guard.Origin) bool {
	if a.Scheme != b.Scheme {
		return false
	}
	if a.Host == b.Host {
		return true
	}
	if _, err := netip.ParseAddr(a.Host); err == nil {
		return false
	}
	if _, err := netip.ParseAddr(b.Host); err == nil {
		return false
	}
	sa, err := publicsuffix.EffectiveTLDPlusOne(a.Host)
	if err != nil {
		return false
	}
	sb, err := publicsuffix.EffectiveTLDPlusOne(b.Host)
	return err == nil && sa == sb
}

// varyOrigin adds Origin to Vary unless it is there.
func varyOrigin(h http.Header) {
	for _, line := range h["Vary"] {
		for v := range strings.SplitSeq(line, ",") {
			if v = strings.TrimSpace(v); v == "*" || strings.EqualFold(v, "Origin") {
				return
			}
		}
	}
	h.Add("Vary", "Origin")
}

// Health implements [guard.Reporter].
func (l *cors) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *cors) Describe() string {
	return fmt.Sprintf("credentials for this site and %d listed origins; taken back from %d answers so far", len(l.origins), l.taken.Load())
}
