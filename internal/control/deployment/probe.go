package deployment

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "certificate",
		Control:  "deployment",
		Asks:     "Is the certificate valid for this host, and for two weeks more?",
		Why:      "With a certificate that browsers refuse, visitors learn to click warnings away, and then anybody can stand in between (CWE-295).",
		Fix:      "Renew the certificate for this very host name, with its whole chain, and let something renew it by itself.",
		CWE:      []int{295, 298},
		Requests: 1,
		Run:      askCertificate,
	},
	{
		ID:       "tls-versions",
		Control:  "deployment",
		Asks:     "Are TLS 1.0, TLS 1.1 and broken cipher suites refused?",
		Why:      "Old versions and suites let whoever sits on the line read or change traffic (RFC 8996, RFC 9325, CWE-326, CWE-327).",
		Fix:      "Allow TLS 1.2 and 1.3 only, and of TLS 1.2 the ECDHE suites with AES-GCM or ChaCha20.",
		CWE:      []int{326, 327},
		Requests: 4,
		Run:      askTLS,
	},
	{
		ID:       "https-redirect",
		Control:  "deployment",
		Asks:     "Does the cleartext side do nothing but send visitors to HTTPS on the same host?",
		Why:      "Whatever is answered in clear text can be read and changed on the way (CWE-319).",
		Fix:      "Answer every request in clear text with 308 to https:// on the same host, first of all; the guard does.",
		CWE:      []int{319},
		Requests: 4,
		Run:      askRedirect,
	},
	{
		ID:       "odd-methods",
		Control:  "deployment",
		Asks:     "Are TRACE and methods that nobody knows refused?",
		Why:      "TRACE gives back headers that scripts must not see; a method that rules do not know but the app serves slips past them (CWE-650).",
		Fix:      "List the methods of each view, and let the guard refuse the rest (deployment.methods).",
		CWE:      []int{650, 749},
		Requests: 6,
		Writes:   true,
		Run:      askMethods,
	},
	{
		ID:       "server-banner",
		Control:  "deployment",
		Asks:     "Does the site tell the versions of its software?",
		Why:      "A version tells which published holes fit (CWE-200), and \"Werkzeug\" that the development server is in production.",
		Fix:      "Serve with gunicorn behind the guard, and remove Server and X-Powered-By or their versions.",
		CWE:      []int{200, 489},
		Requests: 7,
		Run:      askBanner,
	},
	{
		ID:       "host-header",
		Control:  "deployment",
		Asks:     "Does the site answer to a host name that is not its own?",
		Why:      "A forged Host ends up in password-reset links and caches, and is how DNS rebinding reaches a local app (CWE-644, CWE-350).",
		Fix:      "Set deployment.allowed-hosts (the guard), TRUSTED_HOSTS (Flask 3.1), or a default server that refuses (nginx).",
		CWE:      []int{644, 350},
		Requests: 7,
		Run:      askHost,
	},
	{
		ID:       "forwarded-host",
		Control:  "deployment",
		Asks:     "Does the site believe a forwarding header that the visitor made up?",
		Why:      "Links and redirects then lead where an attacker wants: password resets, poisoned caches (CWE-348).",
		Fix:      "Let the outermost proxy overwrite every forwarding header, and tell ProxyFix how many proxies there really are; the guard does both.",
		CWE:      []int{348, 644},
		Requests: 16,
		Run:      askForwarded,
	},
	{
		ID:       "script-name-header",
		Control:  "deployment",
		Asks:     "Can a request header move the app (SCRIPT_NAME)?",
		Why:      "gunicorn takes a header SCRIPT_NAME literally from peers it trusts: with it, /x/admin is the app's /admin, past every rule for /admin (CWE-444).",
		Fix:      "Let the proxy drop header names with underscores; the guard does. Set forwarder_headers = \"\" in gunicorn's settings.",
		CWE:      []int{444, 348},
		Requests: 8,
		Run:      askScriptName,
	},
}

// expiry is how soon a certificate must not end.
const expiry = 14 * 24 * time.Hour

func askCertificate(ctx context.Context, c *probe.Client) []probe.Answer {
	if !c.HTTPS() {
		return []probe.Answer{{Outcome: evidence.NotApplicable, Summary: "the site was named without TLS", URL: c.URL("/")}}
	}
	st, err := c.Handshake(ctx, 0, 0)
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	now := time.Now()
	bad := certificateFlaw(c, st.PeerCertificates, now)
	leaf := st.PeerCertificates[0]
	a := probe.Answer{
		Outcome: evidence.Pass, URL: c.URL("/"),
		Summary: fmt.Sprintf("the certificate is valid for %s and %d days more", c.Host(), int(leaf.NotAfter.Sub(now).Hours()/24)),
		Seen:    fmt.Sprintf("names %s; issuer %s; from %s to %s", strings.Join(namesOf(leaf), ", "), leaf.Issuer.CommonName, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly)),
	}
	switch {
	case bad != "" && c.Insecure():
		a.Outcome, a.Summary = evidence.Error, "could not tell: certificates are not verified in this run ("+bad+")"
	case bad != "":
		a.Outcome, a.Summary = evidence.Fail, bad
	}
	return []probe.Answer{a}
}

func namesOf(c *x509.Certificate) []string {
	out := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// certificateFlaw says what is wrong with a chain, "" for nothing.
func certificateFlaw(c interface {
	Verify([]*x509.Certificate, time.Time) error
}, chain []*x509.Certificate, now time.Time) string {
	if err := c.Verify(chain, now); err != nil {
		return "the certificate does not verify: " + err.Error()
	}
	leaf := chain[0]
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return fmt.Sprintf("the certificate's RSA key has only %d bits", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return fmt.Sprintf("the certificate's key is on a curve of only %d bits", k.Curve.Params().BitSize)
		}
	}
	if left := leaf.NotAfter.Sub(now); left < expiry {
		return fmt.Sprintf("the certificate ends on %s, in %d days", leaf.NotAfter.Format(time.DateOnly), int(left.Hours()/24))
	}
	return ""
}

// brokenSuites are RC4, 3DES and suites without forward secrecy or with CBC
// and SHA-256 (RFC 9325 section 4).
func brokenSuites() []uint16 {
	var out []uint16
	for _, s := range tls.InsecureCipherSuites() {
		out = append(out, s.ID)
	}
	return out
}

func askTLS(ctx context.Context, c *probe.Client) []probe.Answer {
	if !c.HTTPS() {
		return []probe.Answer{{Outcome: evidence.NotApplicable, Summary: "the site was named without TLS", URL: c.URL("/")}}
	}
	now, err := c.Handshake(ctx, 0, 0)
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	seen := fmt.Sprintf("%s, %s, %s", tls.VersionName(now.Version), tls.CipherSuiteName(now.CipherSuite), now.CurveID)
	var out []probe.Answer
	var silent *probe.DialError
	for _, t := range []struct {
		low, high uint16
		suites    []uint16
		what      string
	}{
		{tls.VersionTLS10, tls.VersionTLS10, nil, "TLS 1.0"},
		{tls.VersionTLS11, tls.VersionTLS11, nil, "TLS 1.1"},
		{tls.VersionTLS12, tls.VersionTLS12, brokenSuites(), ""},
	} {
		st, err := c.Handshake(ctx, t.low, t.high, t.suites...)
		switch {
		case errors.As(err, &silent) || errors.Is(err, probe.ErrBudget) || ctx.Err() != nil:
			out = append(out, probe.Answer{Summary: "could not tell: " + err.Error()})
		case err == nil && t.what != "":
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: t.what + " is accepted", URL: c.URL("/"), Seen: tls.VersionName(st.Version) + ", " + tls.CipherSuiteName(st.CipherSuite)})
		case err == nil:
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "the broken cipher suite " + tls.CipherSuiteName(st.CipherSuite) + " is accepted", URL: c.URL("/"), Seen: tls.VersionName(st.Version)})
		}
	}
	if len(out) == 0 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "TLS 1.0, TLS 1.1 and broken cipher suites are refused", URL: c.URL("/"), Seen: seen})
	}
	return out
}

func askRedirect(ctx context.Context, c *probe.Client) []probe.Answer {
	hops, closed, err := c.Route(ctx)
	switch {
	case errors.Is(err, probe.ErrNoCleartext):
		return []probe.Answer{{Summary: "could not tell: say on which port the site answers in clear text"}}
	case closed:
		return []probe.Answer{{Outcome: evidence.Pass, Summary: "nothing answers in clear text", URL: c.ClearURL("/")}}
	case err != nil:
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	first := hops[0]
	a := probe.Answer{URL: first.URL, Seen: fmt.Sprintf("%d, Location: %s", first.Status, first.To), Outcome: evidence.Fail}
	u, _ := url.Parse(first.To)
	switch {
	case first.Status == http.StatusTooManyRequests || first.Status == http.StatusServiceUnavailable:
		a.Outcome, a.Summary = evidence.Error, fmt.Sprintf("could not tell: clear text is answered with %d", first.Status)
	case first.To == "" && first.Status >= 400:
		a.Outcome, a.Summary = evidence.Pass, fmt.Sprintf("clear text is refused with %d", first.Status)
	case first.To == "":
		a.Summary, a.Seen = fmt.Sprintf("pages are served in clear text (%d)", first.Status), fmt.Sprint(first.Status)
	case u == nil || !strings.EqualFold(u.Scheme, "https"):
		a.Summary = "clear text redirects to clear text first"
	case !strings.EqualFold(u.Hostname(), c.Host()):
		a.Summary = "clear text redirects to another host first, so this host never gets to say HSTS"
	default:
		a.Outcome, a.Summary = evidence.Pass, fmt.Sprintf("clear text redirects to HTTPS on the same host with %d", first.Status)
	}
	return []probe.Answer{a}
}

func askMethods(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out   []probe.Answer
		asked []string
	)
	mark := probe.Nonce()
	for _, m := range []string{http.MethodTrace, "DEWAR"} {
		r, err := c.Raw(ctx, probe.RawRequest{Method: m, Target: "/", Header: []string{"X-Dewar-Mark: " + mark}})
		switch {
		case err != nil || r.Refused():
			continue
		case m == http.MethodTrace && r.Status/100 == 2 && bytes.Contains(r.Body, []byte(mark)):
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "TRACE gives the request back, headers included", URL: c.URL("/"), Seen: r.Line()})
		case m != http.MethodTrace && r.Status/100 == 2 && home.Status/100 == 2:
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "the method DEWAR, which does not exist, is served", URL: c.URL("/"), Seen: r.Line()})
		default:
			asked = append(asked, fmt.Sprintf("%s: %d", m, r.Status))
		}
	}
	if r, err := c.Do(ctx, probe.Request{Method: http.MethodOptions, Path: "/"}); err == nil {
		for m := range strings.SplitSeq(r.Header.Get("Allow"), ",") {
			if m = strings.TrimSpace(m); strings.EqualFold(m, "TRACE") || strings.EqualFold(m, "CONNECT") {
				out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "the site says that it allows " + m, URL: c.URL("/"), Seen: "Allow: " + r.Header.Get("Allow")})
			}
		}
	}
	if len(out) == 0 && len(asked) == 2 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "TRACE and an unknown method are not served", URL: c.URL("/"), Seen: strings.Join(asked, ", ")})
	}
	return out
}

// versioned matches a product with its version: nginx/1.22.1, Python/3.11.
var versioned = regexp.MustCompile(`[A-Za-z][A-Za-z._-]*[/ ]v?\d+(?:\.\d+)+|\bPHP/\d|\bPython/\d`)

func askBanner(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	asked := 0
	seen := map[string]bool{}
	for _, ask := range []func() (*probe.Response, error){
		func() (*probe.Response, error) { return c.Visit(ctx, "/") },
		func() (*probe.Response, error) { return c.Get(ctx, probe.Nowhere()) },
		// Servers put their own page there.
		func() (*probe.Response, error) { return c.Raw(ctx, probe.RawRequest{Target: "/%"}) },
	} {
		r, err := ask()
		if err != nil {
			continue
		}
		asked++
		for _, name := range []string{"Server", "X-Powered-By", "X-Generator", "Via", "X-Runtime-Version"} {
			v := r.Header.Get(name)
			summary := ""
			switch {
			case strings.Contains(v, "Werkzeug/"):
				summary = "Flask's development server answers"
			case versioned.MatchString(v):
				summary = "the header " + name + " tells a version"
			}
			if summary != "" && !seen[summary] {
				seen[summary] = true
				out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: summary, URL: r.URL, Seen: name + ": " + v})
			}
		}
		if r.Status >= 400 && r.HTML() {
			if m := errorFooter.FindSubmatch(r.Body); m != nil && !seen["footer"] {
				seen["footer"] = true
				out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "an error page tells a version", URL: r.URL, Seen: string(m[1])})
			}
		}
	}
	if len(out) == 0 && asked > 0 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "no header and no error page tells a version", URL: c.URL("/")})
	}
	return out
}

// errorFooter matches the signature below nginx' and Apache's own pages.
var errorFooter = regexp.MustCompile(`(?i)(?:<hr>\s*<center>|<address>)((?:nginx|apache|openresty|caddy|litespeed)/\d[^<]{0,60})`)

// stranger is a host that cannot exist (RFC 6761 section 6.4).
const stranger = "dewar-probe.invalid"

// mentions reports where an answer uses the stranger's name.
func mentions(r *probe.Response) string {
	if l := r.Header.Get("Location"); strings.Contains(l, stranger) {
		return "Location: " + l
	}
	if i := bytes.Index(r.Body, []byte(stranger)); i >= 0 {
		return "… " + string(r.Body[max(0, i-40):min(len(r.Body), i+len(stranger)+20)]) + " …"
	}
	return ""
}

func askHost(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var out []probe.Answer
	// The same request under the right name is the control: over HTTP/1.1 and
	// on a connection of its own, both.
	own, err := c.Raw(ctx, probe.RawRequest{Target: "/"})
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	r, err := c.Raw(ctx, probe.RawRequest{Target: "/", Host: stranger})
	a := probe.Answer{URL: c.URL("/")}
	switch {
	case err != nil && !timeout(err):
		a.Outcome, a.Summary = evidence.Pass, "a request for a foreign host is cut off"
	case err != nil:
		a.Summary = "could not tell: " + err.Error()
	case r.Refused() || own.Refused():
		a.Summary = fmt.Sprintf("could not tell: answered %d", r.Status)
	case mentions(r) != "" && r.Status < 400:
		a.Outcome, a.Summary, a.Seen = evidence.Fail, "a foreign host name is taken over into the answer", "Host: "+stranger+"\n"+mentions(r)
	case r.Status >= 400 && own.Status < 400:
		a.Outcome, a.Summary, a.Seen = evidence.Pass, fmt.Sprintf("a foreign host name is refused with %d", r.Status), r.Line()
	case r.Status >= 300 && r.Status < 400 && r.Location() != nil && strings.EqualFold(r.Location().Hostname(), c.Host()) && !relative(r):
		a.Outcome, a.Summary, a.Seen = evidence.Pass, "a foreign host name is redirected to the site's own", r.Line()
	case r.Status < 400:
		a.Outcome, a.Summary, a.Seen = evidence.Fail, "the site answers to any host name", "Host: "+stranger+"\n"+r.Line()
	default:
		a.Summary = fmt.Sprintf("could not tell: the site's own name is answered with %d, too", own.Status)
	}
	return append(out, a)
}

// relative reports a redirect without a host, which goes to wherever the
// visitor believes to be.
func relative(r *probe.Response) bool {
	u, err := url.Parse(r.Header.Get("Location"))
	return err != nil || u.Host == ""
}

func timeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "no answer within") || errors.Is(err, probe.ErrBudget)
}

func askForwarded(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	paths := []string{"/"}
	if page, _, ok := c.Login(ctx); ok {
		paths = append(paths, strings.TrimPrefix(page.URL, c.Origin()))
	}
	var out []probe.Answer
	asked := 0
	for _, p := range paths {
		for _, h := range []string{"X-Forwarded-Host: " + stranger, "X_Forwarded_Host: " + stranger, "Forwarded: host=" + stranger, "X-Forwarded-Server: " + stranger} {
			r, err := c.Raw(ctx, probe.RawRequest{Target: p, Header: []string{h}})
			if err != nil || r.Refused() {
				continue
			}
			asked++
			if m := mentions(r); m != "" && r.Status < 400 {
				out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "a made-up " + strings.SplitN(h, ":", 2)[0] + " is believed", URL: c.URL(p), Seen: h + "\n" + m})
			}
		}
	}
	if len(out) == 0 && asked > 0 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("no made-up forwarding header shows in %d answers", asked), URL: c.URL("/")})
	}
	return out
}

// askScriptName asks for /<word><front page>, which does not exist unless a
// header SCRIPT_NAME: /<word> is obeyed.
func askScriptName(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	page := strings.TrimPrefix(home.URL, c.Origin())
	prefix := probe.Nowhere()
	without, err := c.Raw(ctx, probe.RawRequest{Target: prefix + page})
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	with, err := c.Raw(ctx, probe.RawRequest{Target: prefix + page, Header: []string{"SCRIPT_NAME: " + prefix}})
	a := probe.Answer{URL: c.URL(page)}
	switch {
	case err != nil && timeout(err):
		a.Summary = "could not tell: " + err.Error()
	case err != nil:
		a.Outcome, a.Summary = evidence.Pass, "a header SCRIPT_NAME gets the connection closed"
	case with.Refused() || without.Refused():
		a.Summary = "could not tell: the site limits requests"
	case without.Status == home.Status:
		a.Summary = "could not tell: the site answers every path alike"
	case with.Status == home.Status:
		a.Outcome, a.Summary = evidence.Fail, "a header SCRIPT_NAME moves the app: rules about paths can be passed by"
		a.Seen = fmt.Sprintf("GET %s: %d; with SCRIPT_NAME: %s: %d", prefix+page, without.Status, prefix, with.Status)
	default:
		a.Outcome, a.Summary, a.Seen = evidence.Pass, "a header SCRIPT_NAME is not obeyed", with.Line()
	}
	return []probe.Answer{a}
}
