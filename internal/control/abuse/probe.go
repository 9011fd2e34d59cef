package abuse

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "login-burst",
		Control:  "abuse",
		Asks:     "Is guessing at the login form slowed down?",
		Why:      "A login form without a limit is tried with millions of leaked passwords (CWE-307).",
		Fix:      "Let the guard's rate-limit layer enforce abuse.sensitive-rate, or limit the login view (Flask-Limiter) to some ten tries a minute.",
		CWE:      []int{307, 799},
		Requests: 12 + guesses,
		Writes:   true,
		Last:     true,
		Run:      askLogin,
	},
	{
		ID:       "request-burst",
		Control:  "abuse",
		Asks:     "Does a flood of requests from one client get 429?",
		Why:      "Without a limit one client takes every worker of the app (CWE-770).",
		Fix:      "Let the guard's rate-limit layer enforce abuse.rate.",
		CWE:      []int{770, 400},
		Requests: 1 + flood,
		Last:     true,
		Run:      askFlood,
	},
}

const (
	// guesses is how many empty logins are sent at most: above what people
	// need, below what wakes anybody.
	guesses = 30
	// flood is from how many requests without a refusal one can say that
	// there is no limit; fewer prove nothing against a limit made for whole
	// offices.
	flood = 1000
)

func limited(r *probe.Response) bool { return r.Status == http.StatusTooManyRequests }

// askLogin sends the login form with its fields empty, as its own page would.
// No account is named, so none can be locked.
func askLogin(ctx context.Context, c *probe.Client) []probe.Answer {
	page, form, ok := c.Login(ctx)
	if !ok {
		return []probe.Answer{{Summary: "could not tell: no login form was found"}}
	}
	path, ok := c.Target(page, form.Action)
	if !ok {
		return []probe.Answer{{Summary: "could not tell: the login form posts to another site"}}
	}
	body := url.Values{}
	for _, f := range form.Fields {
		if f.Type != "submit" && f.Type != "button" && f.Type != "checkbox" {
			body.Set(f.Name, "")
		}
	}
	if f, ok := form.Token(); ok {
		body.Set(f.Name, f.Value)
	}
	cookies, _ := c.Cookies(ctx)
	h := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {c.Origin()}, "Referer": {page.URL},
		"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
	}
	if s := probe.Sent(cookies, page); s != "" {
		h.Set("Cookie", s)
	}
	all, err := c.Repeat(ctx, guesses, probe.Request{Method: http.MethodPost, Path: path, Body: body.Encode(), Header: h}, limited)
	a := verdict(all, err, "logins")
	a.URL = c.URL(path)
	if a.Outcome == evidence.Error && err == nil && len(all) >= guesses {
		a.Outcome = evidence.Fail
		a.Summary = fmt.Sprintf("%d logins in a row are answered, none with 429", len(all))
		// Refusals of another kind may be a limit, too; or the reason why no
		// login was tried at all.
		for _, r := range all {
			if r.Status == http.StatusBadRequest || r.Status == http.StatusForbidden || r.Status >= 500 {
				a.Outcome, a.Summary = evidence.Error, fmt.Sprintf("could not tell: empty logins are answered with %d", r.Status)
				break
			}
		}
	}
	return []probe.Answer{a}
}

// askFlood asks for a path that does not exist, which costs the app least.
func askFlood(ctx context.Context, c *probe.Client) []probe.Answer {
	path := probe.Nowhere()
	all, err := c.Repeat(ctx, flood, probe.Request{Path: path}, limited)
	a := verdict(all, err, "requests")
	a.URL = c.URL(path)
	if a.Outcome == evidence.Error && err == nil && len(all) >= flood {
		a.Outcome, a.Summary = evidence.Fail, fmt.Sprintf("%d requests in a row are answered, none with 429", len(all))
	}
	return []probe.Answer{a}
}

// verdict is a pass when a 429 came, otherwise an error that says how far it
// went.
func verdict(all []*probe.Response, err error, what string) probe.Answer {
	for i, r := range all {
		if !limited(r) {
			continue
		}
		a := probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("after %d %s comes 429", i, what), Seen: r.Line()}
		if w := r.Header.Get("Retry-After"); w != "" {
			a.Summary += " with Retry-After"
			a.Seen += "\nRetry-After: " + w
		} else {
			a.Summary += ", without Retry-After"
		}
		if i == 0 {
			a.Summary = "the site answers the first of " + what + " with 429 already"
		}
		return a
	}
	if err != nil {
		return probe.Answer{Summary: fmt.Sprintf("could not tell after %d %s: %v", len(all), what, err)}
	}
	return probe.Answer{Summary: fmt.Sprintf("could not tell: no 429 within %d %s, and the limit may be above that", len(all), what)}
}
