package authn

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{{
	ID:      "identity-header",
	Control: "authn",
	Asks:    "Does the site believe a header field that says who is asking?",
	Why:     "An app behind a login proxy reads the user's name from a field such as X-Forwarded-User or Remote-User; when visitors can send it themselves, they are whom they like (CWE-290).",
	Fix:     "Let nothing but the proxy reach the app, and let the proxy take these fields out of every request first, in every spelling; the guard's client layer does.",
	CWE:     []int{290, 306},
	Partial: true,
	// The front page is everybody's; each page is asked for without and with.
	Requests: 12,
	Run:      askIdentityHeader,
}}

// named are the fields by which proxies tell apps who asks.
var named = []string{
	"X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Email", "Remote-User", "X-Remote-User", "X-Auth-User", "X-Auth-Request-User",
	"X-Authenticated-User", "X-Webauth-User", "X-User", "X-Username", "X-Authentik-Username", "Cf-Access-Authenticated-User-Email",
}

// closedPages are where sites keep what is not for everybody.
var closedPages = []string{"/admin", "/account", "/profile", "/dashboard"}

func askIdentityHeader(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	asked := 0
	for _, path := range append([]string{"/"}, closedPages...) {
		before := home
		if path != "/" {
			r, err := c.Get(ctx, path)
			if err != nil || r.Refused() || r.Status == http.StatusNotFound || r.Status >= 500 {
				continue
			}
			before = r
		}
		who, echo := probe.Nonce(), probe.Nonce()
		h := http.Header{"X-Probe-Echo": {echo}}
		for _, name := range named {
			h[name] = []string{who}
			if strings.Contains(name, "Email") {
				h[name] = []string{who + "@example.com"}
			}
		}
		after, err := c.Do(ctx, probe.Request{Path: path, Header: h})
		if err != nil || after.Refused() || after.Status == http.StatusForbidden && before.Status != http.StatusForbidden {
			continue // a firewall in front: it says nothing about the app
		}
		if bytes.Contains(after.Body, []byte(echo)) {
			continue // a page that shows every field says nothing about these
		}
		asked++
		seen := fmt.Sprintf("%s without the fields, %s with them", before.Line(), after.Line())
		switch {
		case bytes.Contains(after.Body, []byte(who)) || strings.Contains(strings.Join(after.Header["Set-Cookie"], "\n"), who):
			return []probe.Answer{{Outcome: evidence.Fail, Summary: "the page takes the visitor for the user whom a header field named", URL: after.URL, Seen: seen}}
		case before.Status != http.StatusOK && after.Status == http.StatusOK:
			return []probe.Answer{{Outcome: evidence.Fail, Summary: "a page that is closed to others opens for the user whom a header field named", URL: after.URL, Seen: seen}}
		}
	}
	if asked == 0 {
		return []probe.Answer{{Summary: "could not tell: no page answered a request with such fields", URL: home.URL}}
	}
	return []probe.Answer{{Outcome: evidence.Pass, Summary: fmt.Sprintf("header fields that name a user change nothing on %d pages", asked), URL: home.URL}}
}
