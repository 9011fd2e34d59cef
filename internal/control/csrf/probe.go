package csrf

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{{
	ID:      "csrf-cross-site-post",
	Control: "csrf",
	Asks:    "Is a POST refused that a browser would mark as another site's?",
	Why:     "A site that answers it lets every page on the web act with its visitors' accounts (CWE-352).",
	Fix:     "Let the guard's csrf layer enforce, or enable CSRFProtect for the whole app.",
	CWE:     []int{352},
	// The pages, and three POSTs: like our own page, like another site's, and
	// the first again.
	Requests: 14,
	Writes:   true,
	Run:      askCrossSite,
}}

// stranger is the origin of a site that cannot exist (RFC 6761 section 6.4).
const stranger = "https://dewar-probe.invalid"

// askCrossSite compares two POSTs that differ in nothing but what a browser
// would say about where they come from. A refusal proves something only if
// our own page's request is not refused in the same way: otherwise the path
// does not take POST at all, or the empty form was the reason.
//
// The form is the login form with its fields empty: it logs nobody in, and
// counts for no account. Without one, POST goes to the front page.
func askCrossSite(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	page, form, login := c.Login(ctx)
	path, own, foreign := "/", "", ""
	token := probe.Field{}
	if login {
		t, ok := c.Target(page, form.Action)
		if !ok {
			return []probe.Answer{{Summary: "could not tell: the login form posts to another site"}}
		}
		path = t
		empty := url.Values{}
		for _, f := range form.Fields {
			if f.Type != "submit" && f.Type != "button" && f.Type != "checkbox" {
				empty.Set(f.Name, "")
			}
		}
		foreign = empty.Encode()
		if f, ok := form.Token(); ok {
			token = f
			empty.Set(f.Name, f.Value)
		}
		own = empty.Encode()
	} else {
		page = home
	}
	cookies, _ := c.Cookies(ctx)
	cookie := probe.Sent(cookies, page)
	if cookie == "" {
		cookie = "session=" + probe.Nonce()
	}
	post := func(site, origin, referer, body string) (*probe.Response, error) {
		return c.Do(ctx, probe.Request{
			Method: http.MethodPost, Path: path, Body: body,
			Header: http.Header{
				"Cookie": {cookie}, "Content-Type": {"application/x-www-form-urlencoded"},
				"Sec-Fetch-Site": {site}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
				"Origin": {origin}, "Referer": {referer},
			},
		})
	}
	ours, err := post("same-origin", c.Origin(), page.URL, own)
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	theirs, err := post("cross-site", stranger, stranger+"/", foreign)
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	again, err := post("same-origin", c.Origin(), page.URL, own)
	if err != nil {
		return []probe.Answer{{Summary: "could not tell: " + err.Error()}}
	}
	seen := fmt.Sprintf("POST %s like our own page: %d, like another site: %d, again like our own: %d", path, ours.Status, theirs.Status, again.Status)
	a := probe.Answer{URL: c.URL(path), Seen: seen}
	switch {
	case ours.Refused() || theirs.Refused() || again.Refused():
		a.Summary = "could not tell: the site limits requests"
	case ours.Status != again.Status:
		a.Summary = "could not tell: the same request is not always answered alike"
	case refusal(theirs.Status) && ours.Status != theirs.Status:
		a.Outcome, a.Summary = evidence.Pass, fmt.Sprintf("a POST that another site's page sent is refused with %d", theirs.Status)
	case !login:
		// 405 for both says that nothing takes POST here.
		a.Summary = "could not tell: no login form was found, and the front page answers every POST alike"
	case theirs.Status >= 400:
		a.Summary = fmt.Sprintf("could not tell: every empty login is answered with %d", theirs.Status)
	case token.Name != "":
		// A form that shows itself again may have noticed the missing token.
		a.Summary = "could not tell: the form carries a token, and its absence changes no status"
	case theirs.Status < 400 && theirs.Status == ours.Status && sameRedirect(ours, theirs):
		a.Outcome = evidence.Fail
		a.Summary = "a POST that another site's page sent, without a token, is answered like one of our own"
	default:
		a.Summary = "could not tell: the two requests are answered differently, and neither is refused"
	}
	return []probe.Answer{a}
}

// refusal lists how guards and libraries say no: net/http, Dewar and Django
// 403, Flask-WTF 400, others 401, 419 (Laravel's) or 421.
func refusal(status int) bool {
	switch status {
	case 400, 401, 403, 419, 421:
		return true
	}
	return false
}

func sameRedirect(a, b *probe.Response) bool {
	return strings.TrimSpace(a.Header.Get("Location")) == strings.TrimSpace(b.Header.Get("Location"))
}
