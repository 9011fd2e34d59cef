package abuse

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"html"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/csp"
	"github.com/dewar-security/dewar/internal/guard"
)

// solve is the page's script, in Go.
func solve(puzzle string, difficulty int) string {
	for n := 0; ; n++ {
		v := fmt.Sprintf("%s.%d", puzzle, n)
		sum := sha256.Sum256([]byte(v))
		if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) >= difficulty {
			return v
		}
	}
}

func TestPuzzle(t *testing.T) {
	key, now := []byte("key"), time.Unix(1.8e9, 0)
	client := mustPrefix("203.0.113.7/32")
	p := newPuzzle(key, client, 10, now)
	v := solve(p, 10)
	if _, ok := solved(key, client, 10, v, now.Add(time.Minute)); !ok {
		t.Fatal("a right solution is refused")
	}
	wrong := p + ".1"
	for wrong == v {
		wrong += "1"
	}
	other := newPuzzle(key, client, 5, now)
	for name, ok := range map[string]bool{
		"another client":    second(solved(key, mustPrefix("203.0.113.8/32"), 10, v, now)),
		"another key":       second(solved([]byte("kex"), client, 10, v, now)),
		"too late":          second(solved(key, client, 10, v, now.Add(puzzleFor+time.Second))),
		"easier than asked": second(solved(key, client, 10, solve(other, 5), now)),
		"not solved":        second(solved(key, client, 10, wrong, now)) && strings.HasPrefix(wrong, p+".1"),
		"with a sign":       second(solved(key, client, 10, strings.Replace(v, ".", ".+", 1), now)),
		"empty":             second(solved(key, client, 10, "", now)),
		"no number":         second(solved(key, client, 10, p+".", now)),
		"another spelling":  second(solved(key, client, 10, strings.Replace(v, ".", "=.", 1), now)),
	} {
		if ok {
			t.Errorf("%s: passes", name)
		}
	}
}

func second(_ string, ok bool) bool { return ok }

func FuzzSolved(f *testing.F) {
	key, now, client := []byte("key"), time.Unix(1.8e9, 0), mustPrefix("203.0.113.7/32")
	p := newPuzzle(key, client, 8, now)
	f.Add(solve(p, 8), p)
	f.Fuzz(func(t *testing.T, v, device string) {
		// Whatever counts is one puzzle of ours and digits: no second spelling
		// of a solution is spent apart.
		if name, ok := solved(key, client, 8, v, now); ok && (!strings.HasPrefix(v, name+".") || len(name) != len(p)) {
			t.Fatalf("%q counts as %q", v, name)
		}
		openDevice(deriveKeys(make([]byte, 32)), device)
	})
}

var puzzleIn = regexp.MustCompile(`data-puzzle="([^"]+)"`)

// TestChallenge: a person's browser solves a puzzle for each try once failures
// were many; a program gets 429; a solution counts once and for one client.
func TestChallenge(t *testing.T) {
	cfg := loginDefaults(t)
	cfg.ChallengeBits = 8
	w := newSite(t, cfg, nil, styles["200 re-render"], map[string]string{"kim": "right"})
	browser := []string{"Sec-Fetch-Mode", "navigate", "Accept", "text/html", "Referer", "http://example.com/account/login?next=/x"}
	for i := range 5 {
		if rec := w.try("203.0.113.7", "kim", fmt.Sprint(i), nil, browser...); rec.Code != 200 {
			t.Fatalf("try %d: %d", i, rec.Code)
		}
	}
	before := w.tries
	rec := w.try("203.0.113.7", "kim", "right", nil, browser...)
	page := rec.Body.String()
	m := puzzleIn.FindStringSubmatch(page)
	if rec.Code != 429 || m == nil || w.tries != before {
		t.Fatalf("no challenge: %d %s", rec.Code, page)
	}
	policy := rec.Header().Get("Content-Security-Policy")
	script := page[strings.Index(page, "<script>")+8 : strings.Index(page, "</script>")]
	style := page[strings.Index(page, "<style>")+7 : strings.Index(page, "</style>")]
	if !strings.Contains(policy, "script-src '"+csp.Hash(script)+"'") || !strings.Contains(policy, "style-src '"+csp.Hash(style)+"'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy does not let the page work, or more: %s", policy)
	}
	for _, bad := range []string{" onclick", " onload", "style=", "javascript:", "innerHTML", "eval("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if !strings.Contains(page, `href="/account/login"`) || !strings.Contains(page, "<noscript>") || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v\n%s", rec.Header(), page)
	}
	proof := solve(m[1], 8)
	if rec := w.try("203.0.113.8", "kim", "wrong", map[string]string{"dewar-proof": proof}, browser...); rec.Code != 429 {
		t.Errorf("another client's solution: %d", rec.Code)
	}
	if rec := w.try("203.0.113.7", "kim", "right", map[string]string{"dewar-proof": proof}, browser...); rec.Code != 302 {
		t.Errorf("with a solution: %d", rec.Code)
	}
	for range 5 {
		w.try("203.0.113.9", "max", fmt.Sprint(w.tries), nil, browser...)
	}
	if rec := w.try("203.0.113.9", "max", "guess", map[string]string{"dewar-proof": proof}, browser...); rec.Code != 429 {
		t.Errorf("a solution that was used: %d", rec.Code)
	}
	// A script's request is no navigation: it is not shown a page, and is
	// held when the count is used up.
	last := 0
	for i := range 12 {
		rec := w.try("203.0.113.10", "eve", fmt.Sprint(i), nil, "Accept", "application/json", "Sec-Fetch-Mode", "cors")
		if last = rec.Code; strings.Contains(rec.Body.String(), "One moment") {
			t.Error("a page for a program")
		}
	}
	if last != 429 {
		t.Errorf("a program: %d", last)
	}
	// Where the address of the page is not ours, the way back is.
	for _, referer := range []string{"https://evil.example/x", "http://example.com//evil.example/", "javascript:alert(1)", "http://example.com/\"><script>"} {
		rec := w.try("203.0.113.7", "kim2", "x", nil, append(browser[:4:4], "Referer", referer)...)
		for range 6 {
			rec = w.try("203.0.113.7", "kim2", fmt.Sprint(w.tries), nil, append(browser[:4:4], "Referer", referer)...)
		}
		if b := rec.Body.String(); strings.Contains(b, "evil") || strings.Contains(b, `"><script>`) || strings.Contains(b, "javascript:") {
			t.Errorf("%s: %s", referer, b)
		}
	}
}

// TestVerifier: people are sent to the operator's page, and what that signed
// for this client counts for one try.
func TestVerifier(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	cfg := loginDefaults(t)
	cfg.Challenge, cfg.ChallengePage, cfg.ChallengeKey = "page", "https://check.example/captcha?site=7", "env:CHECK"
	for _, bad := range []Config{
		{Challenge: "page", ChallengePage: "javascript:alert(1)", ChallengeKey: "env:X"}, {Challenge: "page", ChallengePage: "https://a.example/", ChallengeKey: "secret itself"},
		{Challenge: "captcha"},
	} {
		if len(bad.Problems()) == 0 {
			t.Errorf("%+v has no problem", bad)
		}
	}
	w := newSite(t, cfg, nil, styles["200 re-render"], map[string]string{"kim": "right"})
	browser := []string{"Sec-Fetch-Mode", "navigate", "Accept", "text/html", "Referer", "http://example.com/login?next=/x"}
	var rec *httptest.ResponseRecorder
	for i := range 6 {
		rec = w.try("203.0.113.7", "kim", fmt.Sprint(i), nil, browser...)
	}
	m := regexp.MustCompile(`href="([^"]+)"`).FindStringSubmatch(rec.Body.String())
	if rec.Code != 429 || m == nil {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	to, err := url.Parse(html.UnescapeString(m[1]))
	if err != nil || to.Host != "check.example" || to.Query().Get("site") != "7" || to.Query().Get("back") != "http://example.com/login" {
		t.Fatalf("%v %v", to, err)
	}
	// What the operator's page does.
	ticket := to.Query().Get("ticket")
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(ticket))
	signed := ticket + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))

	back := func(addr, proof string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/login?next=%2Fx&dewar-proof="+url.QueryEscape(proof), nil)
		r.Header.Set("Test-Client", addr)
		rec := httptest.NewRecorder()
		w.chain.ServeHTTP(rec, r)
		return rec
	}
	for name, rec := range map[string]*httptest.ResponseRecorder{
		"forged": back("203.0.113.7", ticket+"."+strings.Repeat("A", 43)), "another client's": back("203.0.113.8", signed), "none": back("203.0.113.7", ""),
	} {
		if rec.Code == 303 || rec.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", name, rec.Code, rec.Header())
		}
	}
	rec = back("203.0.113.7", signed)
	if rec.Code != 303 || rec.Header().Get("Location") != "/login?next=%2Fx" || len(rec.Result().Cookies()) != 1 {
		t.Fatalf("back: %d %v", rec.Code, rec.Header())
	}
	jar := map[string]string{"dewar-proof": rec.Result().Cookies()[0].Value}
	if rec := w.try("203.0.113.7", "kim", "wrong again", jar, browser...); rec.Code != 200 {
		t.Errorf("with the proof: %d", rec.Code)
	}
	if rec := w.try("203.0.113.7", "kim", "wrong again 2", jar, browser...); rec.Code != 429 {
		t.Errorf("the proof a second time: %d", rec.Code)
	}
	if _, err := NewLogin(cfg, guard.Env{Store: w.login.store, Secret: func(string) (guard.Secret, error) { return guard.NewSecret("short"), nil }}); err == nil {
		t.Error("a short secret is taken")
	}
}

// TestChallengeScript runs the page's own script in Node, with just enough of
// a document, and checks what it puts into the cookie.
func TestChallengeScript(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatalf("needs node: %v", err)
		}
		t.Skip("SKIPPED: needs node")
	}
	key, now, client := []byte("key"), time.Now(), mustPrefix("2001:db8::/64")
	for range 3 {
		p := newPuzzle(key, client, 14, now)
		file := filepath.Join(t.TempDir(), "run.js")
		text := fmt.Sprintf(`
const root = {dataset: {puzzle: %q, bits: "14", cookie: "__Host-dewar-proof", age: "300"}}, state = {textContent: ""};
const go = {hidden: true, focus() {}};
let jar = "";
globalThis.document = {getElementById: (id) => ({challenge: root, state, go})[id], get cookie() { return jar; }, set cookie(v) { jar = v; }};
globalThis.location = {protocol: "https:"};
%s
process.on("exit", () => console.log(jar + "\n" + state.textContent + "\n" + go.hidden));
`, p, challengeScript)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(node, file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		sc := bufio.NewScanner(strings.NewReader(string(out)))
		sc.Scan()
		c, err := http.ParseSetCookie(sc.Text())
		if err != nil || c.Name != "__Host-dewar-proof" || !c.Secure || c.Path != "/" || c.MaxAge != 300 {
			t.Fatalf("%v: %s", err, out)
		}
		if _, ok := solved(key, client, 14, c.Value, now); !ok {
			t.Fatalf("the script's solution is wrong: %s", c.Value)
		}
		if !strings.Contains(string(out), "Done.") || !strings.Contains(string(out), "false") {
			t.Errorf("%s", out)
		}
	}
}

func TestTakeCookies(t *testing.T) {
	for _, c := range []struct {
		secure                  bool
		in, device, proof, left string
	}{
		{true, "a=1; __Host-dewar-device=D; b=2", "D", "", "a=1; b=2"},
		{true, "dewar-device=forged; a=1", "", "", "a=1"},
		{false, "dewar-device=D; dewar-proof=P", "D", "P", ""},
		{true, "__Host-dewar-device=D; __Host-dewar-device=E", "", "", ""},
		{true, "session=x", "", "", "session=x"},
		{true, "x=__Host-dewar-device", "", "", "x=__Host-dewar-device"},
	} {
		h := http.Header{"Cookie": {c.in}}
		d, p := takeCookies(h, c.secure)
		if d != c.device || p != c.proof || h.Get("Cookie") != c.left {
			t.Errorf("%q: %q %q %q", c.in, d, p, h.Get("Cookie"))
		}
	}
}

func TestDevice(t *testing.T) {
	k, now := deriveKeys(make([]byte, 32)), time.Unix(1.8e9, 0)
	name := func(i int) string { return handle(k.account, "name", fmt.Sprint(i)) }
	var d *device
	for i := range 10 {
		d = d.learn(name(i), now)
	}
	got := openDevice(k, d.seal(k))
	if got == nil || got.id != d.id || !got.knows(name(9), now) || !got.knows(name(2), now) || got.knows(name(1), now) || got.knows(name(9), now.Add(deviceFor+2*time.Hour)) {
		t.Errorf("%+v", got)
	}
	if len(d.seal(k)) > 290 {
		t.Errorf("%d bytes of cookie", len(d.seal(k)))
	}
	other := deriveKeys([]byte(strings.Repeat("x", 32)))
	v := d.seal(k)
	for _, bad := range []string{"", "x", v[:len(v)-1], v + "A", strings.ToUpper(v)} {
		if openDevice(k, bad) != nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if openDevice(other, v) != nil {
		t.Error("another key's cookie is taken")
	}
	rec := httptest.NewRecorder()
	setCookie(rec.Header(), deviceCookie, v, true, deviceFor)
	if c := rec.Header().Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-dewar-device=") || !strings.Contains(c, "Secure") || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || !strings.Contains(c, "Path=/") || strings.Contains(c, "Domain") {
		t.Error(c)
	}
	_ = guard.Pass()
}
