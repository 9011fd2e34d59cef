package headers

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/dewar-security/dewar/internal/probe"
)

// Observation is what a site's front page says, the input of [Score].
type Observation struct {
	URL     *url.URL
	Trusted bool // the certificate verifies
	Header  http.Header
	Page    *probe.Page // nil when the answer is no HTML
	// Cookies are all Set-Cookie lines on the way to the front page.
	Cookies []string
	// CORS is the answer to a preflight with the origin CORSOrigin.
	CORS       http.Header
	CORSOrigin string
	// Cleartext is what the cleartext side does, one of the Redirect constants.
	Cleartext string
}

// What a site does with visitors who come in clear text.
const (
	RedirectUnknown = ""         // nobody asked
	RedirectHTTPS   = "https"    // goes to HTTPS on the same host first
	RedirectClosed  = "closed"   // nothing answers in clear text
	RedirectOffHost = "off-host" // goes to HTTPS on another host first
	RedirectLate    = "late"     // goes to clear text first, to HTTPS later
	RedirectHTTP    = "http"     // redirects, but never to HTTPS
	RedirectNone    = "none"     // serves pages
	mdnSixMonths    = 15_552_000 // 180 days in seconds; what the observatory takes for six months
	extraFrom       = 90         // bonuses count from this score on
)

// Item is one test of the score.
type Item struct {
	Name     string // "Content-Security-Policy"
	Result   string // what was found, in a few words
	Modifier int    // what it adds to the score
}

// Grade is the score of a site and how it came about.
type Grade struct {
	// Score starts at 100; at least 0, at most 165.
	Score  int
	Letter string // "A+" to "F"
	Items  []Item
}

// Score rates a front page as MDN's HTTP Observatory does (algorithm 6 of
// mdn-http-observatory: 12 tests from 100 down and up; bonuses count only if
// the score without them is 90 or more).
//
// It differs on purpose where the observatory is more generous than browsers:
// frame-ancestors in a meta element counts for nothing, a directive that only
// a second policy has keeps its sources instead of becoming 'none', and a
// max-age that is no number is no max-age. Nobody counts as preloaded, because
// the list is not asked. A cleartext side that nobody could ask changes
// nothing.
func Score(o Observation) Grade {
	if o.Header == nil {
		o.Header = http.Header{}
	}
	hsts, hstsOK := scoreHSTS(o)
	csp, framed := scoreCSP(o)
	g := Grade{Items: []Item{
		csp,
		scoreCookies(o, hstsOK),
		scoreCORS(o),
		scoreRedirect(o),
		scoreReferrer(o),
		hsts,
		scoreSRI(o),
		scoreNosniff(o),
		scoreFraming(o, framed),
		scoreResource(o),
		scoreToken(o.Header, "Cross-Origin-Embedder-Policy", "require-corp", "credentialless"),
		scoreToken(o.Header, "Cross-Origin-Opener-Policy", "same-origin", "same-origin-allow-popups", "noopener-allow-popups"),
	}}
	base, bonus := 100, 0
	for _, i := range g.Items {
		if i.Modifier < 0 {
			base += i.Modifier
		} else {
			bonus += i.Modifier
		}
	}
	g.Score = max(base, 0)
	if base >= extraFrom {
		g.Score += bonus
	}
	g.Letter = letter(g.Score)
	return g
}

func letter(score int) string {
	for _, g := range []struct {
		from int
		name string
	}{{100, "A+"}, {90, "A"}, {85, "A-"}, {80, "B+"}, {70, "B"}, {65, "B-"}, {60, "C+"}, {50, "C"}, {45, "C-"}, {40, "D+"}, {30, "D"}, {25, "D-"}} {
		if score >= g.from {
			return g.name
		}
	}
	return "F"
}

// meta returns what the page's meta elements say in place of a header.
func (o Observation) meta(name string) []string {
	if o.Page == nil {
		return nil
	}
	var out []string
	for _, m := range o.Page.Meta {
		if strings.EqualFold(m.Name, name) {
			out = append(out, m.Content)
		}
	}
	return out
}

var (
	broad       = []string{"ftp:", "http:", "https:", "*", "http://*", "http://*.*", "https://*", "https://*.*"}
	broadInline = append([]string{"'unsafe-inline'", "data:"}, broad...)
)

func anyOf(sources, set []string) bool {
	return slices.ContainsFunc(sources, func(s string) bool { return slices.Contains(set, s) })
}

func anyPrefix(sources []string, prefixes ...string) bool {
	return slices.ContainsFunc(sources, func(s string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
	})
}

func scoreCSP(o Observation) (i Item, framed bool) {
	i = Item{Name: "Content-Security-Policy"}
	fields := o.Header.Values(i.Name)
	header, doubled, err := parsePolicies(fields)
	if err != nil {
		i.Result, i.Modifier = "cannot be parsed ("+err.Error()+")", -25
		return i, false
	}
	meta, doubledMeta, err := parsePolicies(o.meta(i.Name))
	if err != nil {
		i.Result, i.Modifier = "in the page cannot be parsed ("+err.Error()+")", -25
		return i, false
	}
	for _, p := range meta {
		// HTML: "http-equiv content-security-policy" removes them.
		delete(p, "frame-ancestors")
		delete(p, "report-uri")
		delete(p, "sandbox")
	}
	_, framed = intersect(header)["frame-ancestors"]
	p := intersect(append(header, meta...))
	if len(p) == 0 {
		i.Result, i.Modifier = "missing", -25
		if o.Header.Get("Content-Security-Policy-Report-Only") != "" {
			i.Result = "only reported, not enforced"
		}
		return i, framed
	}

	script, style, object := p.sources("script-src"), p.sources("style-src"), p.sources("object-src")
	const nonces, sha = "'nonce-", "'sha"
	drop := func(list []string, bad func(string) bool) []string { return slices.DeleteFunc(slices.Clone(list), bad) }
	inline := func(s string) bool { return s == "'unsafe-inline'" }
	// A browser that knows nonces ignores 'unsafe-inline' beside them.
	if anyPrefix(script, nonces, sha) {
		script = drop(script, inline)
	}
	if anyPrefix(style, nonces, sha) {
		style = drop(style, inline)
	}
	if slices.Contains(script, "'strict-dynamic'") {
		if !anyPrefix(script, nonces, sha) {
			i.Result, i.Modifier = "has 'strict-dynamic' without nonce or hash", -25
			return i, framed
		}
		script = drop(script, func(s string) bool { return s == "'self'" || anyPrefix([]string{s}, broad...) })
	}
	active := slices.Clone(script)
	for name, s := range p {
		if name != "img-src" && name != "media-src" && name != "script-src" {
			active = append(active, s...)
		}
	}
	var passive []string
	for _, name := range []string{"img-src", "media-src"} {
		if s, ok := p[name]; ok {
			passive = append(passive, s...)
		} else {
			passive = append(passive, p["default-src"]...)
		}
	}
	https := o.URL != nil && o.URL.Scheme == "https"
	switch {
	case anyOf(script, broadInline) || anyOf(object, broad):
		i.Result, i.Modifier = "lets inline scripts run, or scripts or plugins from anywhere", -20
	case https && anyPrefix(active, "http:", "ftp:"):
		i.Result, i.Modifier = "allows sources in clear text", -20
	case slices.Contains(script, "'unsafe-eval'") || slices.Contains(style, "'unsafe-eval'"):
		i.Result, i.Modifier = "allows 'unsafe-eval'", -10
	case https && anyPrefix(passive, "http:", "ftp:"):
		i.Result, i.Modifier = "allows images or media in clear text", -10
	case anyOf(style, broadInline):
		i.Result = "in force; styles are not restricted"
	case doubled || doubledMeta:
		i.Result = "in force; a reporting directive is doubled"
	case slices.Equal(p["default-src"], []string{"'none'"}):
		i.Result, i.Modifier = "in force, starting from default-src 'none'", 10
	default:
		i.Result, i.Modifier = "in force", 5
	}
	return i, framed
}

// served is one Set-Cookie line as browsers read it.
type served struct {
	name                      string
	secure, httpOnly, removed bool
	refused                   bool   // its name's prefix promises what it does not keep
	sameSite                  string // "" for none or an invalid one
	badSameSite               bool
}

func parseServed(line string) served {
	pair, rest, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(pair, "=")
	c := served{name: strings.TrimSpace(name)}
	domain, path := false, ""
	for a := range strings.SplitSeq(rest, ";") {
		k, v, _ := strings.Cut(a, "=")
		v = strings.TrimSpace(v)
		switch strings.ToLower(strings.TrimSpace(k)) {
		case "secure":
			c.secure = true
		case "httponly":
			c.httpOnly = true
		case "max-age":
			c.removed = v == "0" || strings.HasPrefix(v, "-")
		case "domain":
			domain = v != ""
		case "path":
			path = v
		case "samesite":
			c.sameSite = strings.ToLower(v)
			if c.sameSite != "lax" && c.sameSite != "strict" && c.sameSite != "none" {
				c.sameSite, c.badSameSite = "", true
			}
		}
	}
	// RFC 6265bis section 4.1.3.
	lower := strings.ToLower(c.name)
	c.refused = strings.HasPrefix(lower, "__secure-") && !c.secure || strings.HasPrefix(lower, "__host-") && (!c.secure || domain || path != "/")
	return c
}

func scoreCookies(o Observation, hsts bool) Item {
	i := Item{Name: "Cookies", Result: "none set"}
	// From best to worst; the worst of all cookies counts.
	worst := -1
	levels := []Item{
		{Result: "without Secure, though HSTS keeps them off clear text", Modifier: -5},
		{Result: "without Secure", Modifier: -20},
		{Result: "a session without Secure, though HSTS keeps it off clear text", Modifier: -10},
		{Result: "with an invalid SameSite", Modifier: -20},
		{Result: "a CSRF token without SameSite", Modifier: -20},
		{Result: "a session without HttpOnly", Modifier: -30},
		{Result: "a session without Secure", Modifier: -40},
	}
	last := map[string]served{} // a cookie set twice counts as set last
	for _, line := range o.Cookies {
		c := parseServed(line)
		if c.badSameSite {
			worst = max(worst, 3)
		}
		if c.name == "" || c.refused || c.name == "heroku-session-affinity" {
			continue
		}
		last[c.name] = c
		if c.removed {
			delete(last, c.name)
		}
	}
	all, missing := len(last), false
	for _, c := range last {
		name := strings.ToLower(c.name)
		session := strings.Contains(name, "login") || strings.Contains(name, "sess")
		level := func(bad bool, n int) {
			if bad {
				worst = max(worst, n)
			}
		}
		level(!c.secure && c.sameSite == "none", 3)
		level(!c.secure && hsts, 0)
		level(!c.secure && !hsts, 1)
		level(strings.Contains(name, "csrf") && c.sameSite == "", 4)
		level(session && !c.secure && hsts, 2)
		level(session && !c.secure && !hsts, 6)
		level(session && !c.httpOnly, 5)
		missing = missing || c.sameSite == ""
	}
	switch {
	case all == 0:
	case worst >= 0:
		i.Result, i.Modifier = levels[worst].Result, levels[worst].Modifier
	case missing:
		i.Result = "Secure and HttpOnly, some without SameSite"
	default:
		i.Result, i.Modifier = "Secure, HttpOnly and SameSite", 5
	}
	return i
}

func scoreCORS(o Observation) Item {
	i := Item{Name: "Cross-Origin Resource Sharing", Result: "not offered"}
	allow := o.CORS.Get("Access-Control-Allow-Origin")
	switch {
	case allow == "":
	case strings.TrimSpace(allow) == "*":
		i.Result = "public"
	case allow == o.CORSOrigin && strings.EqualFold(strings.TrimSpace(o.CORS.Get("Access-Control-Allow-Credentials")), "true"):
		i.Result, i.Modifier = "open to every site, with the visitor's cookies", -50
	default:
		i.Result = "restricted"
	}
	return i
}

func scoreRedirect(o Observation) Item {
	i := Item{Name: "Redirection"}
	switch o.Cleartext {
	case RedirectUnknown:
		i.Result = "not asked: no cleartext port is known"
	case RedirectHTTPS:
		i.Result = "to HTTPS on the same host"
	case RedirectClosed:
		i.Result = "not needed: nothing answers in clear text"
	case RedirectOffHost:
		i.Result, i.Modifier = "to another host first", -5
	case RedirectLate:
		i.Result, i.Modifier = "to clear text first", -10
	case RedirectHTTP:
		i.Result, i.Modifier = "never to HTTPS", -20
	default:
		i.Result, i.Modifier = "missing: pages are served in clear text", -20
	}
	return i
}

func scoreReferrer(o Observation) Item {
	i := Item{Name: "Referrer-Policy", Result: "missing"}
	all := append(slices.Clone(o.Header.Values(i.Name)), o.meta(i.Name)...)
	if len(all) == 0 {
		return i
	}
	i.Result, i.Modifier = "not a policy", -5
	// The last one that is known counts.
	for p := range strings.SplitSeq(strings.Join(all, ","), ",") {
		switch strings.ToLower(strings.TrimSpace(p)) {
		case "no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin":
			i.Result, i.Modifier = "private", 5
		case "origin", "origin-when-cross-origin", "unsafe-url", "no-referrer-when-downgrade":
			i.Result, i.Modifier = "tells other sites, or clear text, where visitors come from", -5
		}
	}
	return i
}

func scoreHSTS(o Observation) (Item, bool) {
	i := Item{Name: "Strict-Transport-Security", Modifier: -20}
	all := o.Header.Values(i.Name)
	switch {
	case o.URL == nil || o.URL.Scheme != "https":
		i.Result = "impossible without HTTPS"
		return i, false
	case !o.Trusted:
		i.Result = "without effect: the certificate is not trusted"
		return i, false
	case len(all) == 0:
		i.Result = "missing"
		return i, false
	}
	if len(all) > 1 || strings.Contains(all[0], ",") {
		i.Result = "sent twice"
		return i, false
	}
	// maxAge is the guard's own reading, which is RFC 6797's.
	age, ok := maxAge(all[0])
	switch {
	case !ok:
		i.Result = "without a valid max-age"
		return i, false
	case age < mdnSixMonths:
		i.Result, i.Modifier = "for only "+strconv.FormatInt(age, 10)+" seconds", -10
		return i, false
	}
	i.Result, i.Modifier = "for six months or more", 0
	return i, true
}

func scoreSRI(o Observation) Item {
	i := Item{Name: "Subresource Integrity", Result: "not needed: no scripts"}
	if o.Page == nil {
		i.Result = "not needed: no HTML"
		return i
	}
	if len(o.Page.Scripts) == 0 {
		return i
	}
	https := o.URL != nil && o.URL.Scheme == "https"
	worst, own, foreign := 0, false, false
	for _, s := range o.Page.Scripts {
		if s.Src == "" {
			continue
		}
		lower := strings.ToLower(s.Src)
		noScheme := strings.HasPrefix(s.Src, "//")
		full := strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")
		secure := strings.HasPrefix(lower, "https://") || !noScheme && !full && https
		if !noScheme && (!full || o.URL != nil && sameSite(s.Src, o.URL)) {
			own = own || s.Integrity != "" && secure
			continue
		}
		foreign = true
		// The order of badness is the observatory's own.
		switch {
		case s.Integrity != "" && !secure:
			worst = max(worst, 1)
		case s.Integrity == "" && secure:
			worst = max(worst, 2)
		case s.Integrity == "":
			worst = 3
		}
	}
	switch {
	case worst == 3:
		i.Result, i.Modifier = "missing, and scripts of other sites come in clear text or by //", -50
	case worst == 2:
		i.Result, i.Modifier = "missing on scripts of other sites", -5
	case worst == 1:
		i.Result, i.Modifier = "present, but scripts of other sites come in clear text or by //", -20
	case foreign:
		i.Result, i.Modifier = "on all scripts of other sites", 5
	case own:
		i.Result, i.Modifier = "even on the site's own scripts", 5
	default:
		i.Result = "not needed: only the site's own scripts"
	}
	return i
}

// sameSite reports whether a script's URL has the page's registrable domain.
func sameSite(src string, page *url.URL) bool {
	u, err := url.Parse(src)
	if err != nil {
		return false
	}
	a, b := strings.ToLower(u.Hostname()), strings.ToLower(page.Hostname())
	if a == b {
		return true
	}
	if _, err := netip.ParseAddr(a); err == nil {
		return false
	}
	x, errX := publicsuffix.EffectiveTLDPlusOne(a)
	y, errY := publicsuffix.EffectiveTLDPlusOne(b)
	return errX == nil && errY == nil && x == y
}

func scoreNosniff(o Observation) Item {
	i := Item{Name: "X-Content-Type-Options", Result: "nosniff"}
	switch v := o.Header.Get(i.Name); {
	case v == "":
		i.Result, i.Modifier = "missing", -5
	case !strings.EqualFold(strings.TrimSpace(v), "nosniff"):
		i.Result, i.Modifier = "not nosniff", -5
	}
	return i
}

func scoreFraming(o Observation, framed bool) Item {
	i := Item{Name: "X-Frame-Options"}
	v := strings.ToLower(strings.TrimSpace(o.Header.Get(i.Name)))
	switch {
	case framed:
		i.Result, i.Modifier = "by frame-ancestors", 5
	case v == "deny" || v == "sameorigin":
		i.Result, i.Modifier = v, 5
	case strings.HasPrefix(v, "allow-from"):
		i.Result = "allow-from, which browsers ignore"
	case v == "":
		i.Result, i.Modifier = "missing, and no frame-ancestors: any site may frame the pages", -20
	default:
		i.Result, i.Modifier = "not a value that browsers know", -20
	}
	return i
}

func scoreResource(o Observation) Item {
	i := Item{Name: "Cross-Origin-Resource-Policy", Result: "missing"}
	all := o.Header.Values(i.Name)
	if len(all) == 0 {
		all = o.meta(i.Name)
		all = all[max(0, len(all)-1):]
	}
	if len(all) == 0 {
		return i
	}
	switch v := strings.ToLower(strings.TrimSpace(strings.Join(all, ", "))); v {
	case "":
	case "same-origin", "same-site":
		i.Result, i.Modifier = v, 10
	case "cross-origin":
		i.Result = v
	default:
		i.Result, i.Modifier = "not a policy", -5
	}
	return i
}

// scoreToken rates a header whose value is a structured-field token.
func scoreToken(h http.Header, name string, good ...string) Item {
	i := Item{Name: name, Result: "missing"}
	all := h.Values(name)
	if len(all) == 0 || len(all) == 1 && all[0] == "" {
		return i
	}
	v, _, _ := strings.Cut(strings.TrimSpace(all[0]), ";")
	v = strings.TrimSpace(v)
	switch {
	case len(all) > 1:
		i.Result, i.Modifier = "sent twice", -5
	case slices.Contains(good, v):
		i.Result, i.Modifier = v, 10
	case v == "unsafe-none":
		i.Result = v
	default:
		i.Result, i.Modifier = "not a policy", -5
	}
	return i
}
