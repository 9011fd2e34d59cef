package headers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

// observe makes an observation of https://shop.example/ from header lines and
// a body.
func observe(t testing.TB, body string, lines ...string) Observation {
	t.Helper()
	u, _ := url.Parse("https://shop.example/")
	o := Observation{URL: u, Trusted: true, Header: http.Header{}, CORSOrigin: stranger, Cleartext: RedirectHTTPS, CORS: http.Header{}, Page: probe.ParsePage([]byte(body))}
	for _, l := range lines {
		name, v, ok := strings.Cut(l, ": ")
		if !ok {
			t.Fatalf("bad line %q", l)
		}
		switch {
		case name == "Set-Cookie":
			o.Cookies = append(o.Cookies, v)
		case strings.HasPrefix(name, "Access-Control"):
			o.CORS.Add(name, v)
		default:
			o.Header.Add(name, v)
		}
	}
	return o
}

var strong = []string{
	"Content-Security-Policy: default-src 'none'; script-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
	"Strict-Transport-Security: max-age=31536000", "X-Content-Type-Options: nosniff", "X-Frame-Options: DENY", "Referrer-Policy: same-origin",
	"Cross-Origin-Resource-Policy: same-origin", "Cross-Origin-Opener-Policy: same-origin", "Cross-Origin-Embedder-Policy: require-corp",
	"Set-Cookie: session=x; Secure; HttpOnly; SameSite=Lax",
}

func TestScore(t *testing.T) {
	const csp, cookie, cors, sri, hsts = "Content-Security-Policy", "Cookies", "Cross-Origin Resource Sharing", "Subresource Integrity", "Strict-Transport-Security"
	for _, x := range []struct {
		item string
		want int
		body string
		line []string
	}{
		{csp, -25, "", nil},
		{csp, -25, "", []string{"Content-Security-Policy-Report-Only: default-src 'self'"}},
		{csp, -25, "", []string{csp + ": "}},
		{csp, -25, "", []string{csp + ": default-src 'self', "}},
		{csp, -25, "", []string{csp + ": default-src 'self'; default-src 'none'"}},
		{csp, -25, "", []string{csp + ": script-src 'strict-dynamic'; object-src 'none'"}},
		{csp, -25, `<meta http-equiv="Content-Security-Policy" content="frame-ancestors 'none'">`, nil},
		{csp, -20, "", []string{csp + ": frame-ancestors 'none'; base-uri 'self'; object-src 'none'"}}, // scripts from anywhere
		{csp, -20, "", []string{csp + ": default-src 'self' 'unsafe-inline'"}},
		{csp, -20, "", []string{csp + ": default-src 'self'; script-src data:"}},
		{csp, -20, "", []string{csp + ": default-src https:"}},
		{csp, -20, "", []string{csp + ": script-src 'self'"}}, // plugins from anywhere
		{csp, -20, "", []string{csp + ": default-src 'self'; connect-src http://api.example"}},
		{csp, -10, "", []string{csp + ": default-src 'self'; script-src 'self' 'unsafe-eval'"}},
		{csp, -10, "", []string{csp + ": default-src 'self'; img-src http:"}},
		{csp, 0, "", []string{csp + ": default-src 'self'; style-src 'self' 'unsafe-inline'"}},
		{csp, 0, "", []string{csp + ": default-src 'none'; report-uri /a; report-uri /b"}},
		{csp, 5, "", []string{csp + ": DEFAULT-SRC 'SELF'"}},
		{csp, 5, "", []string{csp + ": default-src 'self'; script-src 'nonce-abc' 'unsafe-inline'"}},
		{csp, 5, "", []string{csp + ": default-src 'self'; script-src 'nonce-abc' 'strict-dynamic' https: 'unsafe-inline'; object-src 'none'"}},
		{csp, 5, "", []string{csp + ": default-src 'self' 'unsafe-inline'", csp + ": default-src 'self'"}}, // both in force
		{csp, 5, `<meta http-equiv="content-security-policy" content="default-src 'self'">`, nil},
		{csp, 10, "", []string{csp + ": default-src 'none'; script-src 'self'"}},
		{csp, 10, "", []string{csp + ": default-src"}}, // nothing listed is 'none'

		{cookie, 0, "", nil},
		{cookie, 5, "", []string{"Set-Cookie: session=x; Secure; HttpOnly; SameSite=Lax"}},
		{cookie, 0, "", []string{"Set-Cookie: session=x; Secure; HttpOnly"}},
		{cookie, -20, "", []string{"Set-Cookie: a=x"}},
		{cookie, -5, "", []string{"Set-Cookie: a=x", hsts + ": max-age=31536000"}},
		{cookie, -40, "", []string{"Set-Cookie: session=x; HttpOnly"}},
		{cookie, -10, "", []string{"Set-Cookie: session=x; HttpOnly", hsts + ": max-age=31536000"}},
		{cookie, -30, "", []string{"Set-Cookie: session=x; Secure"}},
		{cookie, -20, "", []string{"Set-Cookie: a=x; Secure; SameSite=Maybe"}},
		{cookie, -20, "", []string{"Set-Cookie: csrf=x; Secure"}},
		{cookie, 0, "", []string{"Set-Cookie: session=; Max-Age=0"}},
		{cookie, 0, "", []string{"Set-Cookie: __Host-session=x"}}, // no browser keeps it
		{cookie, 0, "", []string{"Set-Cookie: __Host-session=x; Secure; Path=/; Domain=shop.example"}},
		{cookie, -30, "", []string{"Set-Cookie: __Host-session=x; Secure; Path=/"}},

		{cors, 0, "", []string{"Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true"}},
		{cors, 0, "", []string{"Access-Control-Allow-Origin: https://a.example"}},
		{cors, 0, "", []string{"Access-Control-Allow-Origin: " + stranger}},
		{cors, -50, "", []string{"Access-Control-Allow-Origin: " + stranger, "Access-Control-Allow-Credentials: TRUE"}},

		{"Referrer-Policy", 0, "", nil},
		{"Referrer-Policy", 5, "", []string{"Referrer-Policy: no-referrer"}},
		{"Referrer-Policy", 5, "", []string{"Referrer-Policy: unsafe-url, Strict-Origin, future-value"}},
		{"Referrer-Policy", -5, "", []string{"Referrer-Policy: unsafe-url"}},
		{"Referrer-Policy", -5, "", []string{"Referrer-Policy: never"}},
		{"Referrer-Policy", -5, `<meta http-equiv=referrer-policy content=origin>`, []string{"Referrer-Policy: no-referrer"}},

		{hsts, -20, "", nil},
		{hsts, 0, "", []string{hsts + ": max-age=15552000; includeSubDomains"}},
		{hsts, -10, "", []string{hsts + ": max-age=300"}},
		{hsts, -20, "", []string{hsts + ": includeSubDomains"}},
		{hsts, -20, "", []string{hsts + ": max-age=31536000, max-age=0"}},

		{sri, 0, "", nil},
		{sri, 0, `<script src=/a.js></script><script>1</script>`, nil},
		{sri, 5, `<script src=/a.js integrity=sha384-x></script>`, nil},
		{sri, 5, `<script src=https://cdn.example/a.js integrity=sha384-x></script>`, nil},
		{sri, -5, `<script src=https://cdn.example/a.js></script>`, nil},
		{sri, 0, `<script src=https://static.shop.example/a.js></script>`, nil},
		{sri, -20, `<script src=//cdn.example/a.js integrity=sha384-x></script>`, nil},
		{sri, -50, `<script src=http://cdn.example/a.js></script>`, nil},
		{sri, -5, `<script src=//cdn.example/a.js integrity=sha384-x></script><script src=https://cdn.example/a.js></script>`, nil},

		{"X-Content-Type-Options", -5, "", nil},
		{"X-Content-Type-Options", -5, "", []string{"X-Content-Type-Options: sniff"}},
		{"X-Content-Type-Options", 0, "", []string{"X-Content-Type-Options: NoSniff"}},

		{"X-Frame-Options", -20, "", nil},
		{"X-Frame-Options", -20, "", []string{"X-Frame-Options: ALLOWALL"}},
		{"X-Frame-Options", 0, "", []string{"X-Frame-Options: ALLOW-FROM https://a.example"}},
		{"X-Frame-Options", 5, "", []string{"X-Frame-Options: sameorigin"}},
		{"X-Frame-Options", 5, "", []string{csp + ": frame-ancestors 'self'"}},
		{"X-Frame-Options", -20, `<meta http-equiv=content-security-policy content="frame-ancestors 'self'">`, nil},

		{"Cross-Origin-Resource-Policy", 0, "", nil},
		{"Cross-Origin-Resource-Policy", 10, "", []string{"Cross-Origin-Resource-Policy: same-site"}},
		{"Cross-Origin-Resource-Policy", 0, "", []string{"Cross-Origin-Resource-Policy: cross-origin"}},
		{"Cross-Origin-Resource-Policy", -5, "", []string{"Cross-Origin-Resource-Policy: all"}},
		{"Cross-Origin-Embedder-Policy", 10, "", []string{"Cross-Origin-Embedder-Policy: credentialless"}},
		{"Cross-Origin-Embedder-Policy", -5, "", []string{`Cross-Origin-Embedder-Policy: "require-corp"`}},
		{"Cross-Origin-Opener-Policy", 10, "", []string{`Cross-Origin-Opener-Policy: same-origin; report-to="x"`}},
		{"Cross-Origin-Opener-Policy", 0, "", []string{"Cross-Origin-Opener-Policy: unsafe-none"}},
		{"Cross-Origin-Opener-Policy", -5, "", []string{"Cross-Origin-Opener-Policy: same-origin", "Cross-Origin-Opener-Policy: same-origin"}},
	} {
		g := Score(observe(t, x.body, x.line...))
		i := slices.IndexFunc(g.Items, func(i Item) bool { return i.Name == x.item })
		if i < 0 || g.Items[i].Modifier != x.want {
			t.Errorf("%s %q %q: %+v, want %d", x.item, x.line, x.body, g.Items[i], x.want)
		}
	}
}

func TestGrade(t *testing.T) {
	for _, x := range []struct {
		name   string
		o      Observation
		score  int
		letter string
	}{
		// What the observatory itself gives such a site is 160 (5 more are
		// for being preloaded).
		{"everything", observe(t, `<script src=/a.js integrity=sha384-x></script>`, strong...), 160, "A+"},
		// Below 90 no bonus counts.
		{"all but HSTS", observe(t, "", append(slices.Clone(strong[2:]), strong[0])...), 80, "B+"},
		{"nothing", observe(t, ""), 30, "D"},
		{"nothing at all", Observation{}, 30, "D"},
		{"worse than nothing", observe(t, `<script src=http://a.example/a.js></script>`, "Set-Cookie: session=x", "Access-Control-Allow-Origin: "+stranger, "Access-Control-Allow-Credentials: true"), 0, "F"},
	} {
		if g := Score(x.o); g.Score != x.score || g.Letter != x.letter || len(g.Items) != 12 {
			t.Errorf("%s: %d %s, want %d %s\n%+v", x.name, g.Score, g.Letter, x.score, x.letter, g.Items)
		}
	}
	for score, want := range map[int]string{165: "A+", 100: "A+", 99: "A", 90: "A", 89: "A-", 80: "B+", 79: "B", 65: "B-", 60: "C+", 59: "C", 45: "C-", 40: "D+", 39: "D", 25: "D-", 24: "F", 0: "F"} {
		if got := letter(score); got != want {
			t.Errorf("%d is %s, want %s", score, got, want)
		}
	}
	for cleartext, want := range map[string]int{RedirectHTTPS: 0, RedirectClosed: 0, RedirectUnknown: 0, RedirectOffHost: -5, RedirectLate: -10, RedirectHTTP: -20, RedirectNone: -20} {
		if got := scoreRedirect(Observation{Cleartext: cleartext}).Modifier; got != want {
			t.Errorf("%q: %d, want %d", cleartext, got, want)
		}
	}
}

func TestCleartext(t *testing.T) {
	hop := func(status int, to string) probe.Hop { return probe.Hop{Status: status, To: to} }
	for _, x := range []struct {
		hops   []probe.Hop
		closed bool
		err    error
		want   string
	}{
		{nil, true, nil, RedirectClosed},
		{nil, false, probe.ErrNoCleartext, RedirectUnknown},
		{[]probe.Hop{hop(308, "https://shop.example/")}, false, nil, RedirectHTTPS},
		{[]probe.Hop{hop(308, "https://SHOP.example/")}, false, nil, RedirectHTTPS},
		{[]probe.Hop{hop(308, "https://www.shop.example/")}, false, nil, RedirectOffHost},
		{[]probe.Hop{hop(301, "http://shop.example/x"), hop(301, "https://shop.example/")}, false, nil, RedirectLate},
		{[]probe.Hop{hop(301, "http://shop.example/x"), hop(200, "")}, false, nil, RedirectHTTP},
		{[]probe.Hop{hop(200, "")}, false, nil, RedirectNone},
		{[]probe.Hop{hop(403, "")}, false, nil, RedirectClosed},
	} {
		if got := cleartext(x.hops, x.closed, x.err, "shop.example"); got != x.want {
			t.Errorf("%+v: %q, want %q", x, got, x.want)
		}
	}
}

func FuzzParsePolicies(f *testing.F) {
	f.Add("default-src 'none'; script-src 'self', img-src *")
	f.Add(";;,, \t'")
	f.Add("script-src\x00; a b; a b")
	f.Fuzz(func(t *testing.T, s string) {
		all, _, err := parsePolicies([]string{s})
		if err != nil {
			if !errors.Is(err, errPolicy) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		// Printing what was read and reading it again changes nothing, and a
		// policy in force twice is the policy in force once.
		for _, p := range all {
			var text []string
			for name, sources := range p {
				text = append(text, name+" "+strings.Join(sources, " "))
			}
			again, _, err := parsePolicies([]string{strings.Join(text, ";")})
			if len(p) == 0 {
				continue
			}
			if err != nil && len(strings.TrimSpace(strings.Join(text, ";"))) >= 6 || err == nil && fmt.Sprint(again[0]) != fmt.Sprint(p) {
				t.Errorf("%q: %v, then %v (%v)", s, p, again, err)
			}
			if one, two := intersect([]policy{p}), intersect([]policy{p, p}); !slices.Equal(one.sources("script-src"), two.sources("script-src")) && len(p["script-src"])+len(p["default-src"]) > 0 {
				t.Errorf("%q: twice in force is %v", s, two)
			}
		}
		u, _ := url.Parse("https://shop.example/")
		g := Score(Observation{URL: u, Header: http.Header{"Content-Security-Policy": {s}}})
		if g.Score < 0 || g.Score > 165 {
			t.Errorf("%d", g.Score)
		}
	})
}

func FuzzParseServed(f *testing.F) {
	f.Add("session=x; Secure; HttpOnly; SameSite=Lax; Max-Age=-1")
	f.Add("=;=;;samesite=;secure=no")
	f.Fuzz(func(t *testing.T, s string) {
		c := parseServed(s)
		if strings.ContainsAny(c.name, ";=") || c.badSameSite && c.sameSite != "" && !strings.Contains(strings.ToLower(s), "samesite") {
			t.Errorf("%q: %+v", s, c)
		}
		i := scoreCookies(Observation{Cookies: []string{s}}, false)
		if i.Modifier > 5 || i.Modifier < -40 {
			t.Errorf("%q: %+v", s, i)
		}
	})
}

func TestProbes(t *testing.T) {
	site := func(onError bool, lines ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" || onError {
				for _, l := range lines {
					name, v, _ := strings.Cut(l, ": ")
					w.Header().Add(name, v)
				}
			}
			w.Header().Set("Content-Type", "text/html")
			if r.URL.Path != "/" {
				w.WriteHeader(404)
			}
			fmt.Fprint(w, "<h1>Shop</h1>")
		})
	}
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	for _, x := range []struct {
		check, name string
		site        http.Handler
		want        evidence.Outcome
		says        string
	}{
		{"headers-observatory", "strong", site(true, strong...), evidence.Pass, "(A+)"},
		{"headers-observatory", "bare", site(true), evidence.Fail, "(D)"},
		{"headers-observatory", "no CSP", site(true, strong[1:]...), evidence.Fail, "scores 75 (B)"},
		// Another control's fault is not this one's, but it shows in the score.
		{"headers-observatory", "session without flags", site(true, append(slices.Clone(strong[:8]), "Set-Cookie: session=x")...), evidence.Pass, "scores 70 (B)"},
		// On an address HSTS means nothing; the score is the observatory's all
		// the same.
		{"headers-observatory", "no HSTS", site(true, append(slices.Clone(strong[2:]), strong[0])...), evidence.Pass, "scores 80 (B+)"},
		{"headers-observatory", "down", down, evidence.Error, "500"},
		{"headers-on-errors", "everywhere", site(true, strong...), evidence.Pass, "404"},
		{"headers-on-errors", "front page only", site(false, strong...), evidence.Fail, "Content-Security-Policy, X-Content-Type-Options, X-Frame-Options"},
		{"headers-on-errors", "down", down, evidence.Error, "500"},
		{"headers-on-errors", "no errors", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), evidence.Error, "200"},
	} {
		t.Run(x.check+"/"+x.name, func(t *testing.T) {
			all := probetest.Ask(t, probetest.Find(t, checks, x.check), x.site, true)
			probetest.Want(t, all, x.want)
			if !strings.Contains(all[0].Summary, x.says) {
				t.Errorf("%q does not say %q", all[0].Summary, x.says)
			}
		})
	}
}

func TestThisMachine(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "203.0.113.7": true, "::1": true, "localhost": true, "shop.localhost": true, "shop.example": false, "localhost.example": false} {
		if got := thisMachine(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}
