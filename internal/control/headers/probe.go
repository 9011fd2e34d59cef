package headers

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "headers-observatory",
		Control:  "headers",
		Asks:     "How does MDN's HTTP Observatory score the front page, and which header costs points?",
		Why:      "Each missing header leaves the visitor's browser without one of its defences: against injected scripts, frames, guessed types, clear text (CWE-693, CWE-1021).",
		Fix:      "Let the guard's headers layer enforce; test the policy with csp-mode = \"report-only\", then set \"enforce\".",
		CWE:      []int{693, 1021, 319},
		Requests: 20,
		Run:      askScore,
	},
	{
		ID:       "headers-on-errors",
		Control:  "headers",
		Asks:     "Do error pages carry the headers, too?",
		Why:      "An error page repeats what was asked for, and is a page of the site like any other: without headers it is the way around them (CWE-693).",
		Fix:      "Set the headers for every answer: in the guard's headers layer, in an after_request that also runs for errors, or with nginx' \"always\".",
		CWE:      []int{693, 1021},
		Requests: 7,
		Run:      askErrors,
	},
}

// stranger is the origin of a site that cannot exist (RFC 6761 section 6.4).
const stranger = "https://dewar-probe.invalid"

// elsewhere are the tests of the score that other controls speak about.
var elsewhere = []string{"Cookies", "Cross-Origin Resource Sharing", "Redirection"}

func askScore(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	// The observatory takes these for a page; any other status for a site
	// that is down.
	if s := home.Status; s >= 400 && s != http.StatusUnauthorized {
		return []probe.Answer{{Summary: fmt.Sprintf("could not tell: the front page is answered with %d", s)}}
	}
	o := Observation{Header: home.Header, CORSOrigin: stranger, Trusted: !c.Insecure()}
	o.URL, _ = url.Parse(home.URL)
	if home.HTML() {
		o.Page = probe.ParsePage(home.Body)
	}
	if c.Insecure() && home.TLS != nil {
		o.Trusted = c.Verify(home.TLS.PeerCertificates, home.At) == nil
	}
	if cookies, err := c.Cookies(ctx); err == nil {
		for _, k := range cookies {
			o.Cookies = append(o.Cookies, k.Line)
		}
	}
	if r, err := c.Do(ctx, probe.Request{Method: http.MethodOptions, Path: "/", Header: http.Header{"Origin": {stranger}, "Access-Control-Request-Method": {"GET"}}}); err == nil {
		o.CORS = r.Header
	}
	hops, closed, err := c.Route(ctx)
	o.Cleartext = cleartext(hops, closed, err, c.Host())

	g := Score(o)
	total := probe.Answer{Outcome: evidence.Pass, URL: home.URL, Summary: fmt.Sprintf("scores %d (%s) as MDN's observatory scores", g.Score, g.Letter)}
	var (
		out  []probe.Answer
		seen []string
	)
	for _, i := range g.Items {
		seen = append(seen, fmt.Sprintf("%+d %s: %s", i.Modifier, i.Name, i.Result))
		if i.Modifier >= 0 || slices.Contains(elsewhere, i.Name) {
			continue
		}
		if i.Name == "Strict-Transport-Security" && c.HTTPS() && thisMachine(c.Host()) {
			out = append(out, probe.Answer{Outcome: evidence.NotApplicable, URL: home.URL, Summary: "HSTS is for public names: browsers ignore it for addresses, and on localhost it would bind every app of the machine"})
			continue
		}
		total.Outcome = evidence.Fail
		quote := i.Name + ": (not sent)"
		if v := home.Header.Values(i.Name); len(v) > 0 {
			quote = i.Name + ": " + strings.Join(v, "\n"+i.Name+": ")
		}
		out = append(out, probe.Answer{Outcome: evidence.Fail, URL: home.URL, Summary: fmt.Sprintf("%s: %s (%d points)", i.Name, i.Result, i.Modifier), Seen: quote})
	}
	total.Seen = strings.Join(seen, "\n")
	return append([]probe.Answer{total}, out...)
}

// thisMachine reports whether HSTS means nothing for a host: an IP address
// (RFC 6797 section 8.1.1) or a name of this machine (RFC 6761 section 6.3).
func thisMachine(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// cleartext sums the cleartext side's answers up.
func cleartext(hops []probe.Hop, closed bool, err error, host string) string {
	switch {
	case closed:
		return RedirectClosed
	case err != nil || len(hops) == 0:
		return RedirectUnknown
	}
	first, last := hops[0], hops[len(hops)-1]
	u, _ := url.Parse(first.To)
	switch {
	case first.To == "" && first.Status >= 400:
		return RedirectClosed // refuses clear text
	case first.To == "":
		return RedirectNone
	case u != nil && u.Scheme == "https" && strings.EqualFold(u.Hostname(), host):
		return RedirectHTTPS
	case u != nil && u.Scheme == "https":
		return RedirectOffHost
	case strings.HasPrefix(last.To, "https://"):
		return RedirectLate
	}
	return RedirectHTTP
}

func askErrors(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	r, err := c.Get(ctx, probe.Nowhere())
	switch {
	case err != nil:
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	case r.Refused() || r.Status < 400:
		return []probe.Answer{{Summary: fmt.Sprintf("could not tell: a path that cannot exist is answered with %d", r.Status)}}
	}
	u, _ := url.Parse(r.URL)
	o := Observation{URL: u, Header: r.Header, Trusted: true}
	if r.HTML() {
		o.Page = probe.ParsePage(r.Body)
	}
	var missing []string
	for _, i := range Score(o).Items {
		switch i.Name {
		case "X-Content-Type-Options":
		case "Strict-Transport-Security":
			if !c.HTTPS() || thisMachine(c.Host()) {
				continue
			}
		case "Content-Security-Policy", "X-Frame-Options":
			if o.Page == nil {
				continue // neither scripts nor frames
			}
			// Whether the policy is good is the other check's matter.
			if i.Name == "Content-Security-Policy" && r.Header.Get(i.Name) != "" {
				continue
			}
		default:
			continue
		}
		if i.Modifier < 0 {
			missing = append(missing, i.Name)
		}
	}
	a := probe.Answer{Outcome: evidence.Pass, URL: r.URL, Summary: fmt.Sprintf("error pages carry the headers, too (%d)", r.Status), Seen: r.Line()}
	if len(missing) > 0 {
		a.Outcome, a.Summary = evidence.Fail, fmt.Sprintf("error pages (%d) come without %s", r.Status, strings.Join(missing, ", "))
	}
	return []probe.Answer{a}
}
