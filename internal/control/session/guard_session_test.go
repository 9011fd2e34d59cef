package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/flasksession/flasksessiontest"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

const appKey = "8f42a73054b1749f8f58848be5e6502c"

// app is a Flask app as far as cookies go: the session is in its cookie.
type app struct {
	mu   sync.Mutex
	now  func() time.Time
	seen string // the last Cookie field
	key  string
}

func (a *app) read(h http.Header) map[string]any {
	s := map[string]any{}
	pairs(strings.Join(h["Cookie"], "; "), func(name, value, _ string) {
		if name != "session" || len(s) > 0 {
			return
		}
		if tok, ok := flasksession.Parse(value); ok && tok.VerifiedBy(flasksession.Signer{}, a.key) {
			raw, _ := tok.JSON()
			_ = json.Unmarshal(raw, &s)
		}
	})
	return s
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = strings.Join(r.Header["Cookie"], "; ")
	s := a.read(r.Header)
	save := func() {
		b, _ := json.Marshal(s)
		w.Header().Add("Set-Cookie", "session="+flasksessiontest.Session(a.key, string(b), a.now())+"; HttpOnly; Path=/")
	}
	drop := func(name string) {
		w.Header().Add("Set-Cookie", name+"=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/")
	}
	q := r.URL.Query()
	switch r.URL.Path {
	case "/login":
		s["_user_id"], s["_fresh"] = q.Get("u"), true
		save()
		if q.Get("remember") != "" {
			w.Header().Add("Set-Cookie", "remember_token="+flasksessiontest.Remember(a.key, q.Get("u"))+"; Expires="+a.now().Add(365*24*time.Hour).UTC().Format(http.TimeFormat)+"; HttpOnly; Path=/")
		}
	case "/logout": // as Flask-Login: the rest of the session stays
		delete(s, "_user_id")
		delete(s, "_fresh")
		s["bye"] = 1
		save()
		drop("remember_token")
	case "/clear":
		drop("session")
	case "/set":
		s[q.Get("k")] = q.Get("v")
		save()
	case "/big":
		s["pad"] = strings.Repeat("x", 5000)
		save()
	case "/huge":
		s["pad"] = strings.Repeat("x", 15000)
		save()
	case "/static":
		w.Header().Set("Cache-Control", "public, max-age=3600")
	case "/cached":
		w.Header().Set("Cache-Control", "public, max-age=3600")
		save()
	case "/error":
		s["e"] = 1
		save()
		w.WriteHeader(http.StatusInternalServerError)
	}
	if s["_user_id"] == nil {
		pairs(a.seen, func(name, value, _ string) {
			if name == "remember_token" && flasksession.RememberedWith(value, a.key) {
				id, _ := flasksession.Remembered(value)
				s["_user_id"], s["_fresh"] = id, false
				save()
			}
		})
	}
	fmt.Fprintf(w, "%v", s["_user_id"])
}

// forward hands requests to an app in this process.
type forward struct{ h http.Handler }

func (f forward) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, x.Request)
	res := rec.Result()
	if err := modify(res); err != nil {
		return err
	}
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	_, err := io.Copy(w, res.Body)
	return err
}

// clock is a clock that tests turn.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// site is an app behind the session layer.
type site struct {
	t      testing.TB
	app    *app
	clock  *clock
	store  store.Store
	dir    string
	facts  guard.Facts
	layer  *seal
	chain  *guard.Chain
	mu     sync.Mutex
	events []event.Event
	x      *guard.Exchange // the last
}

// last remembers the exchange after the session layer.
type last struct{ s *site }

func (l last) Request(x *guard.Exchange) guard.Decision { return guard.Pass() }
func (l last) Response(x *guard.Exchange, _ *http.Response) guard.Decision {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.x = x
	return guard.Pass()
}

func newSite(t testing.TB, cfg Config) *site {
	t.Helper()
	c := &clock{t: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	s := &site{t: t, clock: c, app: &app{now: c.now, key: appKey}, dir: t.TempDir()}
	s.store = store.NewMemory(store.MemoryOptions{Now: c.now, Buckets: 8})
	s.facts = guard.Facts{
		Known: true, AppFound: true, SessionCookieName: "session", RememberCookieName: "remember_token", SecretKey: guard.NewSecret(appKey),
		Sessions: guard.SessionFacts{Kind: "cookie", Salt: "cookie-session", Derivation: "hmac", Lifetime: 31 * 24 * time.Hour, Path: "/"},
	}
	s.start(cfg, guard.Enforce)
	return s
}

// config is what the loader makes of an empty file.
func config() Config {
	return Config{
		Seal: SealAuto, Lifetime: guard.Duration(30 * 24 * time.Hour), Renew: guard.Duration(15 * time.Minute), Grace: guard.Duration(10 * time.Second),
		Bind: "observe", HostPrefix: true, RotateKeys: guard.Duration(30 * 24 * time.Hour),
		UserKeys: []string{"_user_id", "user_id"}, PrivilegeKeys: []string{"_fresh", "role"},
	}
}

// start makes the layer, or makes it anew as a restart does.
func (s *site) start(cfg Config, _ guard.Mode) {
	s.t.Helper()
	l, err := NewSession(cfg, false, guard.Env{Store: s.store, Now: s.clock.now, Facts: func() guard.Facts { return s.facts }, DataDir: func() (string, error) { return s.dir, nil }, Secret: func(ref string) (guard.Secret, error) {
		return guard.NewSecret("the secret of " + ref), nil
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.layer = l.(*seal)
	s.t.Cleanup(func() { s.layer.Close() })
	s.chain, err = guard.NewChain(guard.Options{
		Layers:  []guard.Bound{{Spec: sessionSpec, Layer: l, Mode: cfg.SealMode(false)}, {Spec: &guard.Spec{Name: "last", Control: "session"}, Layer: last{s}}},
		Forward: forward{s.app}, Now: s.clock.now, Publish: s.publish,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) publish(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// took returns the events since it was last asked, as "name reason severity".
func (s *site) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.events {
		out = append(out, strings.TrimRight(e.Name+" "+e.Reason, " "))
	}
	s.events = nil
	return out
}

func (s *site) want(events ...string) {
	s.t.Helper()
	if got := s.took(); !slices.Equal(got, events) {
		s.t.Errorf("events %q, want %q", got, events)
	}
}

// browser keeps cookies as one does: by name, with prefixes respected.
type browser struct {
	s      *site
	https  bool
	agent  string
	from   string
	jar    map[string]string
	order  []string
	header http.Header // of the last answer
	status int
}

func (s *site) browser() *browser {
	return &browser{s: s, https: true, agent: "Mozilla/5.0 (X11) Firefox/140.0", from: "203.0.113.7:1000", jar: map[string]string{}}
}

func (b *browser) cookie() string {
	var out []string
	for _, n := range b.order {
		if v, ok := b.jar[n]; ok {
			out = append(out, n+"="+v)
		}
	}
	return strings.Join(out, "; ")
}

// get asks, keeps the cookies and returns the body.
func (b *browser) get(path string) string {
	b.s.t.Helper()
	return b.keep(b.ask(path, b.cookie()))
}

// ask sends exactly this Cookie field, and keeps nothing.
func (b *browser) ask(path, cookie string) *httptest.ResponseRecorder {
	scheme := "http"
	if b.https {
		scheme = "https"
	}
	r := httptest.NewRequest("GET", scheme+"://shop.example"+path, nil)
	r.RemoteAddr = b.from
	r.Header.Set("User-Agent", b.agent)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	b.s.chain.ServeHTTP(w, r)
	return w
}

func (b *browser) keep(w *httptest.ResponseRecorder) string {
	b.s.t.Helper()
	b.header, b.status = w.Header(), w.Code
	for _, line := range w.Header()["Set-Cookie"] {
		c := parseSetCookie(line)
		if strings.HasPrefix(c.name, "__Host-") {
			if path, _ := c.get("path"); !b.https || !c.has("secure") || c.has("domain") || path != "/" {
				b.s.t.Errorf("a browser refuses %s", line)
				continue
			}
		}
		if len(c.pair) > 4096 {
			b.s.t.Errorf("a browser refuses a cookie of %d bytes", len(c.pair))
			continue
		}
		if c.ends(b.s.clock.now()) {
			delete(b.jar, c.name)
			continue
		}
		if !slices.Contains(b.order, c.name) {
			b.order = append(b.order, c.name)
		}
		b.jar[c.name] = c.value()
	}
	return w.Body.String()
}

// session is the cookie as the browser has it.
func (b *browser) session() string {
	for _, n := range []string{"__Host-session", "session"} {
		if v := b.jar[n]; v != "" {
			return n + "=" + v
		}
	}
	return ""
}

// TestSealed: the browser never sees what the app wrote, and the app never
// sees anything else.
func TestSealed(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	if got := b.get("/login?u=alice"); got != "alice" {
		t.Fatal(got)
	}
	s.want("authn_login_success")
	if s.x.Change != guard.LoggedIn {
		t.Errorf("change: %v", s.x.Change)
	}
	if v := b.session(); !strings.HasPrefix(v, "__Host-session=") || strings.Contains(v, ".") || strings.Contains(v, "alice") {
		t.Errorf("the browser has %s", v)
	}
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	if tok, ok := flasksession.Parse(strings.TrimPrefix(s.app.seen, "session=")); !ok || !tok.VerifiedBy(flasksession.Signer{}, appKey) {
		t.Errorf("the app got %q", s.app.seen)
	}
	if x := s.x.Identity; x.Account != "alice" || len(x.Session) != 16 {
		t.Errorf("%+v", x)
	}
	s.want()
	if len(b.header["Set-Cookie"]) != 0 {
		t.Errorf("%q for a request that changes nothing", b.header["Set-Cookie"])
	}
	// Other cookies go on, and come in front of nothing.
	if got := b.keep(b.ask("/me", "theme=dark; "+b.cookie()+"; lang=de")); got != "alice" || !strings.HasSuffix(s.app.seen, "; theme=dark; lang=de") {
		t.Errorf("%q, %q", got, s.app.seen)
	}
	if e := s.layer.Health(); e != nil {
		t.Error(e)
	}
}

// TestWorthless: what an attacker can have is worth nothing behind the seal.
func TestWorthless(t *testing.T) {
	s := newSite(t, config())
	victim := s.browser()
	victim.get("/set?k=cart&v=1")
	before := victim.session()
	victim.get("/login?u=alice")
	during := victim.session()
	s.clock.pass(time.Minute)
	attacker := s.browser()
	forged := func(key, json string) string { return flasksessiontest.Session(key, json, s.clock.now()) }
	s.took()
	for _, c := range []struct {
		name, cookie string
		events       []string
	}{
		{"forged with the real key", "session=" + forged(appKey, `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"under the prefixed name", "__Host-session=" + forged(appKey, `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"forged with a published key", "session=" + forged("dev", `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"forged with another key", "session=" + forged("another", `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"made up", "session=deadbeef", []string{"malicious_session session-forged"}},
		{"quoted", `session="` + forged(appKey, `{"_user_id":"admin"}`) + `"`, []string{"malicious_session session-forged"}},
		{"odd white space", "\u00a0session=" + forged(appKey, `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"within another cookie's quotes", `a="; session=` + forged(appKey, `{"_user_id":"admin"}`) + `; b="`, []string{"malicious_session session-forged"}},
		{"without a value first", "session; session=" + forged(appKey, `{"_user_id":"admin"}`), []string{"malicious_session session-forged"}},
		{"remember token with the real key", "remember_token=" + flasksessiontest.Remember(appKey, "admin"), []string{"malicious_session session-unsealed"}},
		{"the cookie from before the login", before, []string{"session_use_after_expire session-ended"}},
		{"under the name of another cookie", strings.Replace(during, "session=", "remember_token=", 1), []string{"malicious_session session-forged"}},
		{"cut", during[:len(during)-3], []string{"malicious_session session-forged"}},
	} {
		s.clock.pass(61 * time.Second)
		if got := attacker.ask("/me", c.cookie).Body.String(); got != "<nil>" {
			t.Errorf("%s: the app sees %s", c.name, got)
		}
		if strings.Contains(s.app.seen, "session") || strings.Contains(s.app.seen, "remember") {
			t.Errorf("%s: the app got %q", c.name, s.app.seen)
		}
		if got := s.took(); !slices.Equal(got, c.events) {
			t.Errorf("%s: events %q, want %q", c.name, got, c.events)
		}
	}
	for i := range len(during) - len("__Host-session=") {
		b := []byte(during)
		b[i+len("__Host-session=")] ^= 1
		if got := attacker.ask("/me", string(b)).Body.String(); got != "<nil>" {
			t.Fatalf("byte %d: %s", i, got)
		}
	}
	s.took()
	// A copy of the living cookie is as good as the cookie, until the logout.
	if got := attacker.ask("/me", during).Body.String(); got != "alice" {
		t.Errorf("%q", got)
	}
	victim.get("/logout")
	s.want("authn_logout")
	if s.x.Change != guard.LoggedOut {
		t.Errorf("%v", s.x.Change)
	}
	s.clock.pass(time.Minute)
	if got := attacker.ask("/me", during).Body.String(); got != "<nil>" {
		t.Errorf("after the logout a copy is %q", got)
	}
	s.want("session_use_after_expire session-ended")
	// For ever: not only as long as the end is in memory.
	for _, d := range []time.Duration{14 * time.Minute, 20 * time.Minute, 20 * 24 * time.Hour} {
		s.clock.pass(d)
		if got := attacker.ask("/me", during).Body.String(); got != "<nil>" {
			t.Errorf("%v later a copy is %q", d, got)
		}
	}
}

// TestSeverity: what verifies under a key that somebody knows is an alarm.
func TestSeverity(t *testing.T) {
	s := newSite(t, config())
	s.clock.pass(time.Minute)
	b := s.browser()
	for key, want := range map[string]event.Severity{appKey: event.Critical, "dev": event.Critical, "another": event.High} {
		b.ask("/me", "session="+flasksessiontest.Session(key, `{"_user_id":"admin"}`, s.clock.now()))
		if e := s.events[len(s.events)-1]; e.Severity != want || strings.Contains(e.Detail, key) {
			t.Errorf("%s: %v: %s", key, e.Severity, e.Detail)
		}
	}
	// Word lists cost something: not as often as somebody likes.
	for i := range 100 {
		b.ask("/me", "session="+flasksessiontest.Session("dev", fmt.Sprintf(`{"n":%d}`, i), s.clock.now()))
	}
	if e := s.events[len(s.events)-1]; !strings.Contains(e.Detail, "not looked for") {
		t.Errorf("%s", e.Detail)
	}
}

// TestShapes: the log says what a cookie that does not open is.
func TestShapes(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	_, v, _ := strings.Cut(b.session(), "=")
	old := v
	if err := s.layer.ring.rotate(true); err != nil {
		t.Fatal(err)
	}
	b.get("/login?u=alice")
	_, v, _ = strings.Cut(b.session(), "=")
	s.clock.pass(2 * time.Minute)
	flipped := []byte(v)
	if flipped[40]++; flipped[40] == v[40] || strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", flipped[40]) < 0 {
		flipped[40] = 'B'
	}
	for value, want := range map[string]string{
		v[:len(v)-4]: "changed since", string(flipped): "changed since", old: "does not have", strings.Repeat("A", 100): "does not have", "short": "not sealed by this guard",
	} {
		s.events = nil
		b.ask("/me", "session="+value)
		if len(s.events) != 1 || !strings.Contains(s.events[0].Detail, want) {
			t.Errorf("%s: %+v", want, s.events)
		}
	}
}

// TestFixation: what is planted before the login is nobody's afterwards.
func TestFixation(t *testing.T) {
	s := newSite(t, config())
	attacker, victim := s.browser(), s.browser()
	attacker.get("/set?k=csrf_token&v=known")
	maps.Copy(victim.jar, attacker.jar)
	victim.order = attacker.order
	if got := victim.get("/login?u=alice"); got != "alice" {
		t.Fatal(got)
	}
	if victim.session() == attacker.session() {
		t.Error("the cookie is the same after the login")
	}
	// Within the grace it is who it was, and changes nothing.
	s.clock.pass(5 * time.Second)
	w := attacker.ask("/set?k=a&v=b", attacker.cookie())
	if got := w.Body.String(); got != "<nil>" || w.Header()["Set-Cookie"] != nil {
		t.Errorf("%q, %q", got, w.Header()["Set-Cookie"])
	}
	s.clock.pass(6 * time.Second)
	if got := attacker.get("/me"); got != "<nil>" || strings.Contains(s.app.seen, "session") {
		t.Errorf("%q, %q", got, s.app.seen)
	}
	if got := victim.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
}

// TestRotation: other rights are another cookie, and the old one ends.
func TestRotation(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	old := b.session()
	b.get("/set?k=theme&v=dark")
	same := b.session()
	id := s.x.Identity.Session
	b.get("/set?k=role&v=admin")
	s.want("authn_login_success", "session_renewed")
	if s.x.Change != guard.Renewed {
		t.Errorf("%v", s.x.Change)
	}
	b.get("/me")
	if s.x.Identity.Session == id || s.x.Identity.Account != "alice" {
		t.Errorf("%+v", s.x.Identity)
	}
	s.clock.pass(time.Minute)
	for _, c := range []string{old, same} {
		if got := b.ask("/me", c).Body.String(); got != "<nil>" {
			t.Errorf("%q", got)
		}
	}
	// Another account on top: the first one's cookie is dead at once.
	alice := b.session()
	b.get("/login?u=bob")
	if got := b.ask("/me", alice).Body.String(); got != "<nil>" {
		t.Errorf("%q", got)
	}
	if got := b.get("/me"); got != "bob" {
		t.Errorf("%q", got)
	}
}

// TestParallel: answers that were on their way at a login, a logout or a
// change of rights do not overwrite what came of it.
func TestParallel(t *testing.T) {
	s := newSite(t, config())
	for _, steps := range [][3]string{
		{"/set?k=csrf&v=1", "/login?u=alice", "/set?k=late&v=1"},
		{"/login?u=alice", "/set?k=role&v=admin", "/set?k=late&v=1"},
		{"/login?u=alice", "/login?u=bob", "/set?k=late&v=1"},
		{"/login?u=alice", "/clear", "/set?k=late&v=1"},
		{"/login?u=alice", "/logout", "/clear"},
	} {
		b := s.browser()
		b.get(steps[0])
		old := b.cookie()
		b.get(steps[1])
		after := b.session()
		b.keep(b.ask(steps[2], old)) // its answer comes last
		if b.session() != after {
			t.Errorf("%v: the late answer changed the cookie", steps)
		}
	}
}

// TestRaceOnLogout: many requests while the session ends; none brings it back
// (run with -race, too).
func TestRaceOnLogout(t *testing.T) {
	s := newSite(t, config())
	for range 20 {
		b := s.browser()
		b.get("/login?u=alice")
		old := b.cookie()
		var all sync.WaitGroup
		var mu sync.Mutex
		var later []string
		for i := range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				path := "/set?k=late&v=1"
				if i == 3 {
					path = "/logout"
				}
				w := b.ask(path, old)
				mu.Lock()
				defer mu.Unlock()
				for _, line := range w.Header()["Set-Cookie"] {
					later = append(later, parseSetCookie(line).pair)
				}
			}()
		}
		all.Wait()
		s.clock.pass(11 * time.Second)
		for _, c := range append(later, old) {
			if got := b.ask("/me", c).Body.String(); got != "<nil>" {
				t.Fatalf("after the logout %s is %s", c[:20], got)
			}
		}
	}
}

// TestRemember: the token makes a session, ends with the logout, and is no
// way around an operator.
func TestRemember(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice&remember=1")
	s.want("authn_login_success")
	token := "__Host-remember_token=" + b.jar["__Host-remember_token"]
	s.clock.pass(31 * 24 * time.Hour) // the session is too old, the token not
	if got := b.get("/me"); got != "alice" {
		t.Fatalf("%q", got)
	}
	s.want("session_expired session-expired", "session_created")
	s.clock.pass(time.Hour)
	if got := b.ask("/me", token).Body.String(); got != "alice" {
		t.Errorf("%q", got)
	}
	b.get("/logout")
	if b.jar["__Host-remember_token"] != "" {
		t.Error("the token is still in the jar")
	}
	for _, d := range []time.Duration{time.Minute, time.Hour, 100 * 24 * time.Hour} {
		s.clock.pass(d)
		if got := b.ask("/me", token).Body.String(); got != "<nil>" {
			t.Errorf("%v after the logout a copy of the token is %q", d, got)
		}
	}
}

func (s *site) operate(command string, args map[string]string) string {
	s.t.Helper()
	v, err := s.chain.Operate(context.Background(), command, args)
	if err != nil {
		s.t.Fatal(err)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// TestOperator: an account's sessions are listed and ended, everywhere.
func TestOperator(t *testing.T) {
	s := newSite(t, config())
	one, two, other := s.browser(), s.browser(), s.browser()
	one.get("/login?u=alice&remember=1")
	two.get("/login?u=alice")
	other.get("/login?u=bob")
	var list []listed
	if err := json.Unmarshal([]byte(s.operate("session list", map[string]string{"account": "alice"})), &list); err != nil || len(list) != 3 {
		t.Fatalf("%v %+v", err, list)
	}
	for _, l := range list {
		if l.Account != "alice" || l.Client != "203.0.113.7" || !strings.Contains(l.Agent, "Firefox") || len(l.Handle) != 16 {
			t.Errorf("%+v", l)
		}
	}
	s.clock.pass(time.Second)
	if got := s.operate("session end", map[string]string{"account": "alice"}); got != `{"ended":3,"account":"alice"}` {
		t.Error(got)
	}
	s.clock.pass(time.Second)
	for _, b := range []*browser{one, two} {
		if got := b.get("/me"); got != "<nil>" {
			t.Errorf("%q", got)
		}
	}
	if got := other.get("/me"); got != "bob" {
		t.Errorf("%q", got)
	}
	two.get("/login?u=alice")
	if got := two.get("/me"); got != "alice" {
		t.Errorf("a new login is %q", got)
	}
	s.clock.pass(time.Second)
	s.operate("session end-all", nil)
	s.clock.pass(time.Second)
	if a, b := two.get("/me"), other.get("/me"); a != "<nil>" || b != "<nil>" {
		t.Errorf("%q %q", a, b)
	}
	other.get("/login?u=bob")
	was := other.session()
	s.operate("session rotate-keys", nil)
	if got := other.ask("/me", was).Body.String(); got != "<nil>" {
		t.Errorf("sealed with the lost key: %q", got)
	}
	other.get("/login?u=bob")
	if got := other.get("/me"); got != "bob" {
		t.Errorf("%q", got)
	}
	if got := s.operate("session list", map[string]string{"account": "alice"}); got != "[]" {
		t.Error(got)
	}
}

// TestRestart: keys and ends outlive the process when the store does, and the
// keys alone when it does not.
func TestRestart(t *testing.T) {
	s := newSite(t, config())
	b, gone := s.browser(), s.browser()
	b.get("/login?u=alice")
	gone.get("/login?u=bob")
	left := gone.cookie()
	gone.get("/logout")
	s.clock.pass(time.Minute)
	s.start(config(), guard.Enforce)
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	if got := gone.ask("/me", left).Body.String(); got != "<nil>" {
		t.Errorf("%q", got)
	}
	// The store forgets all.
	s.store = store.NewMemory(store.MemoryOptions{Now: s.clock.now, Buckets: 8})
	s.start(config(), guard.Enforce)
	s.clock.pass(20 * time.Minute)
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	if got := s.operate("session list", map[string]string{"account": "alice"}); !strings.Contains(got, "alice") {
		t.Errorf("not recorded anew: %s", got)
	}
	st, err := os.Stat(filepath.Join(s.dir, keyFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

// TestLifetimes: idle and absolute.
func TestLifetimes(t *testing.T) {
	cfg := config()
	cfg.Idle, cfg.Lifetime = guard.Duration(30*time.Minute), guard.Duration(8*time.Hour)
	s := newSite(t, cfg)
	b := s.browser()
	b.get("/login?u=alice")
	for i := range 30 { // seven and a half hours of use
		s.clock.pass(15 * time.Minute)
		if got := b.get("/me"); got != "alice" {
			t.Fatalf("after %d quarters of an hour: %q", i+1, got)
		}
	}
	s.clock.pass(31 * time.Minute)
	if got := b.get("/me"); got != "<nil>" {
		t.Errorf("idle: %q", got)
	}
	b.get("/login?u=alice")
	s.took()
	for range 31 {
		s.clock.pass(15 * time.Minute)
		if got := b.get("/me"); got != "alice" {
			t.Fatal(got)
		}
	}
	s.clock.pass(15*time.Minute + time.Second)
	if got := b.get("/me"); got != "<nil>" {
		t.Errorf("absolute: %q", got)
	}
	s.want("session_expired session-expired")
	// What a cache may keep gets no cookie, and what asks for it is not lost.
	b.get("/login?u=alice")
	for range 3 {
		s.clock.pass(20 * time.Minute)
		b.get("/static")
		if b.header["Set-Cookie"] != nil {
			t.Errorf("%q", b.header["Set-Cookie"])
		}
		b.get("/me")
	}
}

// TestAdopt: cookies from before sealing are taken over where the settings
// say so, and where the key can be trusted.
func TestAdopt(t *testing.T) {
	cfg := config()
	s := newSite(t, cfg)
	old := flasksessiontest.Session(appKey, `{"_user_id":"alice"}`, s.clock.now().Add(-time.Hour))
	s.clock.pass(time.Minute)
	b := s.browser()
	if got := b.ask("/me", "session="+old).Body.String(); got != "<nil>" {
		t.Errorf("taken over without being told to: %q", got)
	}
	s.want("malicious_session session-unsealed")
	cfg.Adopt = guard.Duration(24 * time.Hour)
	s.start(cfg, guard.Enforce)
	b.jar["session"], b.order = old, []string{"session"}
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	s.want()
	if b.jar["session"] != "" || b.session() == "" {
		t.Errorf("the jar holds %v", b.jar)
	}
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	if got := s.operate("session list", map[string]string{"account": "alice"}); !strings.Contains(got, "alice") {
		t.Errorf("not recorded: %s", got)
	}
	// A later one was made by somebody else.
	if got := b.ask("/me", "session="+flasksessiontest.Session(appKey, `{"_user_id":"admin"}`, s.clock.now())).Body.String(); got != "<nil>" {
		t.Errorf("%q", got)
	}
	// One that was left is not taken over again.
	c := s.browser()
	c.jar["session"], c.order = old, []string{"session"}
	c.get("/logout")
	if got := c.ask("/me", "session="+old).Body.String(); got != "<nil>" {
		t.Errorf("after the logout: %q", got)
	}
	s.clock.pass(24 * time.Hour)
	young := flasksessiontest.Session(appKey, `{"_user_id":"carol"}`, s.clock.now().Add(-26*time.Hour))
	if got := b.ask("/me", "session="+young).Body.String(); got != "<nil>" {
		t.Errorf("after the time: %q", got)
	}
	// Not with a key that can be guessed.
	s = newSite(t, cfg)
	s.app.key = "dev"
	s.facts.SecretKey = guard.NewSecret("dev")
	if got := s.browser().ask("/me", "session="+flasksessiontest.Session("dev", `{"_user_id":"alice"}`, s.clock.now().Add(-time.Hour))).Body.String(); got != "<nil>" {
		t.Errorf("%q", got)
	}
}

// TestAdoptAfterEnd: what an operator has ended does not come back as a cookie
// from before sealing. A remember token and an id say nothing of their time.
func TestAdoptAfterEnd(t *testing.T) {
	cfg := config()
	cfg.Adopt = guard.Duration(24 * time.Hour)
	for _, command := range []string{"end", "end-all"} {
		args := map[string]string{"account": "alice"}
		if command == "end-all" {
			args = nil
		}
		s := newSite(t, cfg)
		remember := "remember_token=" + flasksessiontest.Remember(appKey, "alice")
		s.clock.pass(time.Minute)
		if got := s.browser().ask("/me", remember).Body.String(); got != "alice" {
			t.Fatalf("not taken over: %q", got)
		}
		s.clock.pass(time.Minute)
		s.operate("session "+command, args)
		s.clock.pass(time.Minute)
		for name, cookie := range map[string]string{
			"a token": remember, "a session": "session=" + flasksessiontest.Session(appKey, `{"_user_id":"alice"}`, s.clock.now().Add(-time.Hour)),
		} {
			if got := s.browser().ask("/me", cookie).Body.String(); got != "<nil>" {
				t.Errorf("%s, then %s: %q", command, name, got)
			}
		}
		if got := s.browser().ask("/me", "remember_token="+flasksessiontest.Remember(appKey, "bob")).Body.String(); command == "end" && got != "bob" {
			t.Errorf("another's token is not taken over: %q", got)
		}
	}
	// Of an id nobody can tell whose it is.
	for _, command := range []string{"", "end", "end-all"} {
		s := newSite(t, cfg)
		s.facts.Sessions.Kind = "id"
		s.clock.pass(time.Minute)
		switch command {
		case "end":
			s.operate("session end", map[string]string{"account": "alice"})
		case "end-all":
			s.operate("session end-all", nil)
		}
		s.clock.pass(time.Minute)
		s.browser().ask("/me", "session=0123456789abcdef0123456789abcdef")
		if got := s.app.seen; (got == "") != (command != "") {
			t.Errorf("%q: the app got %q", command, got)
		}
	}
}

// TestTossing: of two cookies the guard's own counts, of two own ones neither.
func TestTossing(t *testing.T) {
	s := newSite(t, config())
	a, v := s.browser(), s.browser()
	a.https, v.https = false, false // no prefix to save us
	a.get("/login?u=attacker")
	v.get("/login?u=alice")
	s.took()
	for name, c := range map[string]struct{ cookie, want string }{
		"forged in front":     {"session=" + flasksessiontest.Session(appKey, `{"_user_id":"admin"}`, s.clock.now()) + "; " + v.session(), "alice"},
		"forged behind":       {v.session() + "; session=x", "alice"},
		"the attacker's own":  {a.session() + "; " + v.session(), "<nil>"},
		"behind":              {v.session() + "; " + a.session(), "<nil>"},
		"twice the same":      {v.session() + "; " + v.session(), "alice"},
		"empty in front":      {"session=; " + v.session(), "alice"},
		"name only in front":  {"session; " + v.session(), "alice"},
		"twenty made-up ones": {strings.Repeat("session=x; ", 20) + v.session(), "alice"},
	} {
		s.clock.pass(61 * time.Second)
		if got := v.ask("/me", c.cookie).Body.String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if n := strings.Count(s.app.seen, "session"); n > 1 {
			t.Errorf("%s: the app got %q", name, s.app.seen)
		}
		if got := s.took(); name != "twice the same" && !slices.Equal(got, []string{"malicious_session session-ambiguous"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	// With the prefix nobody else can have set it.
	v = s.browser()
	v.get("/login?u=alice")
	if got := v.ask("/me", a.session()+"; "+v.session()).Body.String(); got != "alice" {
		t.Errorf("%q", got)
	}
}

// TestNames: prefix, paths, domains, deletions.
func TestNames(t *testing.T) {
	s := newSite(t, config())
	l := s.layer
	for _, c := range []struct{ scheme, in, name, attrs string }{
		{"https", "session=V; HttpOnly; Path=/", "__Host-session", "; HttpOnly; Path=/; Secure"},
		{"https", "session=V; Secure; Path=/; SameSite=None; Partitioned", "__Host-session", "; Secure; Path=/; SameSite=None; Partitioned"},
		{"https", "session=V; Path=/; Domain=", "__Host-session", "; Path=/; Secure"},
		{"https", "session=V; Path=/shop", "session", "; Path=/shop"},
		{"https", "session=V", "session", ""},
		{"https", "session=V; Path=/; Domain=shop.example", "session", "; Path=/; Domain=shop.example"},
		{"http", "session=V; HttpOnly; Path=/", "session", "; HttpOnly; Path=/"},
		{"https", "remember_token=V; Path=/; Max-Age=100", "__Host-remember_token", "; Path=/; Max-Age=100; Secure"},
		{"https", " session =V; Path=/", "__Host-session", "; Path=/; Secure"},
	} {
		x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: c.scheme}}
		r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {c.in}}}
		l.Response(x, r)
		got := r.Header["Set-Cookie"]
		if len(got) != 1 {
			t.Errorf("%s: %q", c.in, got)
			continue
		}
		k := parseSetCookie(got[0])
		if k.name != c.name || !strings.HasSuffix(got[0], k.value()+c.attrs) || k.value() == "V" || len(k.value()) < 50 {
			t.Errorf("%s: %q", c.in, got[0])
		}
	}
	for in, want := range map[string][]string{
		"session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/": {"__Host-session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; Secure"},
		"theme=dark; Path=/": {"theme=dark; Path=/"},
		"sessions=x":         {"sessions=x"},
		"Session=x":          {"Session=x"}, // names are told apart by case
	} {
		x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https"}}
		r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {in}}}
		l.Response(x, r)
		if got := r.Header["Set-Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%s: %q", in, got)
		}
	}
	// Both names are accepted: the prefix can be switched on and off.
	b := s.browser()
	b.https = false
	b.get("/login?u=alice")
	b.https = true
	if got := b.get("/set?k=a&v=b"); got != "alice" {
		t.Errorf("%q", got)
	}
	if b.jar["session"] != "" || b.jar["__Host-session"] == "" {
		t.Errorf("%v", b.jar)
	}
	if got := b.get("/clear"); b.session() != "" {
		t.Errorf("%q, %v", got, b.jar)
	}
}

// TestAnswers: errors, caches, sizes, several Set-Cookie of one name.
func TestAnswers(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	if b.get("/error"); b.status != 500 || b.session() == "" || len(b.header["Set-Cookie"]) != 1 {
		t.Errorf("%d %q", b.status, b.header["Set-Cookie"])
	}
	if b.get("/cached"); b.header.Get("Cache-Control") != "private, max-age=3600" {
		t.Errorf("%q", b.header["Cache-Control"])
	}
	if b.get("/big"); len(b.session()) > 4096 || b.session() == "" {
		t.Errorf("%d bytes", len(b.session()))
	}
	if got := b.get("/me"); got != "alice" || len(s.app.seen) < 5000 {
		t.Errorf("%q, the app got %d bytes", got, len(s.app.seen))
	}
	before := b.session()
	if b.get("/huge"); b.session() != before {
		t.Error("a cookie that no browser keeps was sent")
	}
	s.took()
	b.get("/logout")
	x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https"}}
	r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {"a=1", "session=; Max-Age=0; Path=/", "b=2", "session=" + flasksessiontest.Session(appKey, `{"_user_id":"x"}`, s.clock.now()) + "; Path=/"}}}
	s.layer.Response(x, r)
	var names []string
	for _, c := range r.Header["Set-Cookie"] {
		names = append(names, parseSetCookie(c).name)
	}
	if !slices.Equal(names, []string{"a", "b", "__Host-session"}) || x.Change != guard.LoggedIn {
		t.Errorf("%q %v", names, x.Change)
	}
}

// TestBind: graded.
func TestBind(t *testing.T) {
	for mode, want := range map[string][3]string{
		"off": {"alice", "alice", "alice"}, "observe": {"alice", "alice", "alice"},
		"agent": {"alice", "<nil>", "alice"}, "network": {"alice", "<nil>", "<nil>"},
	} {
		cfg := config()
		cfg.Bind = mode
		s := newSite(t, cfg)
		b := s.browser()
		b.get("/login?u=alice")
		s.took()
		thief := s.browser()
		thief.agent = "Mozilla/5.0 (X11) Firefox/141.0.2" // an update
		thief.from = "203.0.113.99:1"                     // the same network
		got := [3]string{thief.ask("/me", b.cookie()).Body.String()}
		if e := s.took(); len(e) != 0 {
			t.Errorf("%s: an update of the browser is %q", mode, e)
		}
		thief.agent = "curl/8.0"
		got[1] = thief.ask("/me", b.cookie()).Body.String()
		thief.agent, thief.from = b.agent, "198.51.100.1:1"
		got[2] = thief.ask("/me", b.cookie()).Body.String()
		if got != want {
			t.Errorf("%s: %q, want %q", mode, got, want)
		}
		if e := s.took(); (len(e) == 0) != (mode == "off") {
			t.Errorf("%s: %q", mode, e)
		}
	}
}

// TestObserve: nothing changes, everything is noticed, and the way there and
// back logs nobody out.
func TestObserve(t *testing.T) {
	cfg := config()
	cfg.Seal = SealObserve
	s := newSite(t, cfg)
	b := s.browser()
	b.get("/login?u=alice")
	s.want("authn_login_success")
	raw := b.jar["session"]
	if tok, ok := flasksession.Parse(raw); !ok || !tok.VerifiedBy(flasksession.Signer{}, appKey) {
		t.Errorf("the cookie was changed: %s", raw)
	}
	if got := b.get("/me"); got != "alice" || s.x.Identity.Account != "alice" {
		t.Errorf("%q %+v", got, s.x.Identity)
	}
	s.want()
	b.ask("/me", "session="+flasksessiontest.Session("dev", `{"_user_id":"admin"}`, s.clock.now()))
	s.want("malicious_session session-forged")
	if s.x.Identity.Account != "" {
		t.Errorf("a forged account is believed: %+v", s.x.Identity)
	}
	b.get("/logout")
	s.want("authn_logout")
	b.get("/login?u=alice")

	on := config()
	on.Adopt = guard.Duration(24 * time.Hour)
	// However long it only observed: the time to adopt begins with sealing.
	s.clock.pass(3 * 24 * time.Hour)
	b.get("/set?k=a&v=b")
	s.start(on, guard.Enforce)
	if got := b.get("/me"); got != "alice" || b.jar["__Host-session"] == "" {
		t.Errorf("observe → enforce: %q %v", got, b.jar)
	}
	s.start(cfg, guard.Enforce)
	if got := b.get("/me"); got != "alice" {
		t.Errorf("enforce → observe: %q", got)
	}
	for _, keys := range []string{"", "env:NODES"} {
		// And again, when sealing was switched off for a while; a restart is no
		// beginning.
		on.Keys, cfg.Keys = keys, keys
		c := s.browser()
		s.start(cfg, guard.Enforce)
		c.get("/login?u=carol")
		s.clock.pass(3 * 24 * time.Hour)
		c.get("/set?k=a&v=b")
		raw := c.jar["session"]
		s.start(on, guard.Enforce)
		if got := c.ask("/me", "session="+raw).Body.String(); got != "carol" {
			t.Errorf("%q: enforce again: %q", keys, got)
		}
		s.clock.pass(25 * time.Hour)
		s.start(on, guard.Enforce)
		if got := c.ask("/me", "session="+raw).Body.String(); got != "<nil>" {
			t.Errorf("%q: the time to adopt begins with every restart: %q", keys, got)
		}
	}
	on.Keys, cfg.Keys = "", ""
	s.start(on, guard.Enforce)
	b.get("/login?u=alice")
	s.start(cfg, guard.Enforce)
	// What the app does counts then, and the old seal is not in its way.
	b.get("/logout")
	if got := b.get("/me"); got != "<nil>" {
		t.Errorf("after a logout while observing: %q", got)
	}
}

// TestUnknown: where nobody knows how the app keeps sessions nothing is
// sealed, and that is said.
func TestUnknown(t *testing.T) {
	s := newSite(t, config())
	s.facts = guard.Facts{Why: "no hook"}
	b := s.browser()
	b.get("/login?u=alice")
	if strings.HasPrefix(b.session(), "__Host-") || s.layer.Health() == nil {
		t.Errorf("%v, %v", b.jar, s.layer.Health())
	}
	if s.x.Change != guard.LoggedIn {
		t.Errorf("%v", s.x.Change)
	}
	// By order it is, under the usual names.
	cfg := config()
	cfg.Seal = SealEnforce
	s.start(cfg, guard.Enforce)
	c := s.browser()
	c.get("/login?u=alice")
	if !strings.HasPrefix(c.session(), "__Host-") || s.layer.Health() != nil {
		t.Errorf("%v, %v", c.jar, s.layer.Health())
	}
	if got := c.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
}

// TestWeakKeySeen: an app that something else runs gives its key away.
func TestWeakKeySeen(t *testing.T) {
	cfg := config()
	cfg.Seal = SealObserve
	s := newSite(t, cfg)
	s.facts, s.app.key = guard.Facts{}, "dev"
	s.browser().get("/set?k=a&v=b")
	s.want("malicious_session session-weak-key")
	s.browser().get("/set?k=a&v=b")
	s.want()
}

// TestServerSide: the app keeps its sessions elsewhere, and the worker says
// whose they are.
func TestServerSide(t *testing.T) {
	s := newSite(t, config())
	s.facts.Sessions = guard.SessionFacts{Kind: "id", Path: "/", Tells: true, Lifetime: 24 * time.Hour}
	who := map[string]string{} // sid → account
	sids := 0
	var asked []string
	s.chain, _ = guard.NewChain(guard.Options{
		Layers: []guard.Bound{{Spec: sessionSpec, Layer: s.layer}, {Spec: &guard.Spec{Name: "last", Control: "session"}, Layer: last{s}}}, Now: s.clock.now,
		Publish: func(e event.Event) { s.events = append(s.events, e) },
		Forward: forward{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sid := ""
			if c, err := r.Cookie("session"); err == nil {
				sid = c.Value
			}
			asked = r.Header[askHeader]
			if sid == "" || r.URL.Path == "/new" {
				sids++
				sid = fmt.Sprintf("sid-%d", sids)
				w.Header().Set("Set-Cookie", "session="+sid+"; Path=/; HttpOnly")
			}
			switch r.URL.Path {
			case "/login":
				who[sid] = r.URL.Query().Get("u") // the id stays, and no cookie is sent
			case "/clear":
				delete(who, sid)
				w.Header().Set("Set-Cookie", "session=; Max-Age=0; Path=/")
			case "/left":
				delete(who, sid)
			}
			word, _, _ := strings.Cut(strings.Join(asked, ""), " ")
			b, _ := json.Marshal(map[string]string{"_user_id": who[sid]})
			w.Header().Set(askHeader, word+" "+base64.URLEncoding.EncodeToString(b))
			fmt.Fprintf(w, "%s", who[sid])
		})},
	})
	attacker, victim := s.browser(), s.browser()
	attacker.get("/")
	maps.Copy(victim.jar, attacker.jar)
	victim.order = attacker.order
	if got := victim.get("/login?u=alice"); got != "alice" {
		t.Fatal(got)
	}
	if victim.header.Get(askHeader) != "" {
		t.Error("the worker's answer leaked")
	}
	if s.x.Change != guard.LoggedIn || victim.session() == attacker.session() {
		t.Errorf("%v", s.x.Change)
	}
	// Not for a moment: the id that it holds is alice's by now.
	for _, d := range []time.Duration{0, time.Second, 11 * time.Second} {
		s.clock.pass(d)
		if w := attacker.ask("/", attacker.session()); w.Body.String() != "" || w.Header()["Set-Cookie"] != nil && d < 10*time.Second {
			t.Errorf("the planted id is %q, %q", w.Body, w.Header()["Set-Cookie"])
		}
	}
	// For as long as the planted cookie lives, not only a day.
	s.clock.pass(23 * time.Hour)
	old := attacker.ask("/", attacker.session()).Body.String()
	if old != "" {
		t.Errorf("%q", old)
	}
	if got := victim.get("/"); got != "alice" || s.x.Identity.Account != "alice" {
		t.Errorf("%q %+v", got, s.x.Identity)
	}
	copied := victim.session()
	victim.get("/left") // a logout that keeps the id
	if s.x.Change != guard.LoggedOut {
		t.Errorf("%v", s.x.Change)
	}
	s.clock.pass(time.Minute)
	if got := victim.ask("/", copied).Body.String(); got != "" {
		t.Errorf("%q", got)
	}
}

// TestNoGrowth: a thousand logins and logouts leave nothing behind once what
// they ended cannot come back.
func TestNoGrowth(t *testing.T) {
	s := newSite(t, config())
	round := func(n int) {
		for range n {
			b := s.browser()
			b.get("/set?k=cart&v=1")
			b.get("/login?u=alice")
			b.get("/logout")
			s.events = nil
		}
	}
	round(10)
	s.clock.pass(25 * time.Hour)
	s.layer.ended.Refresh(context.Background())
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	round(1000)
	if got := s.operate("session list", map[string]string{"account": "alice"}); got != "[]" {
		t.Errorf("records are left: %.100s", got)
	}
	during := heap()
	t.Logf("%d ends in memory, %d bytes for each", s.layer.ended.Len(), (int64(during)-int64(before))/int64(max(s.layer.ended.Len(), 1)))
	s.clock.pass(25 * time.Hour)
	round(2) // what is over is forgotten as others come
	for range 3000 {
		if err := s.store.Put(context.Background(), "other/x", nil, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := s.layer.ended.Put(context.Background(), endedFolder+"x", nil, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	_ = s.store.Scan(context.Background(), endedFolder, func(store.Entry) bool { n++; return true })
	if n > 20 || s.layer.ended.Len() > 20 {
		t.Errorf("%d and %d ends are kept", n, s.layer.ended.Len())
	}
	for i := 0; runtime.NumGoroutine() > goroutines; i++ {
		if i == 6000 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestStoreGone: without the store sessions go on, what ended stays ended, and
// the layer says that it cannot do all it should.
func TestStoreGone(t *testing.T) {
	s := newSite(t, config())
	b, gone := s.browser(), s.browser()
	b.get("/login?u=alice")
	gone.get("/login?u=bob")
	left := gone.cookie()
	gone.get("/logout")
	s.store.Close()
	s.clock.pass(16 * time.Minute)
	if got := b.get("/me"); got != "alice" {
		t.Errorf("%q", got)
	}
	if got := gone.ask("/me", left).Body.String(); got != "<nil>" {
		t.Errorf("%q", got)
	}
	if s.layer.Health() == nil {
		t.Error("nothing is said of the store")
	}
	c := s.browser()
	if got := c.get("/login?u=carol"); got != "carol" {
		t.Errorf("%q", got)
	}
	if got := c.get("/me"); got != "carol" {
		t.Errorf("%q", got)
	}
	c.get("/logout")
	s.clock.pass(time.Minute)
}

func TestOverride(t *testing.T) {
	s := newSite(t, config())
	if err := s.layer.CheckOverride(&guard.Override{Path: "/x", Modes: map[string]guard.Mode{"session": guard.Observe}}); err == nil {
		t.Error("one route cannot have sessions of its own")
	}
}

func BenchmarkSession(b *testing.B) {
	s := newSite(b, config())
	br := s.browser()
	br.get("/login?u=alice")
	cookie := br.cookie()
	x := &guard.Exchange{Client: guard.Client{Scheme: "https"}, Request: httptest.NewRequest("GET", "/", nil)}
	x.Request.Header.Set("User-Agent", br.agent)
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*x = guard.Exchange{Client: x.Client, Request: x.Request}
			x.Request.Header["Cookie"] = []string{cookie}
			s.layer.Request(x)
			if x.Identity.Account != "alice" {
				b.Fatal(x.Identity)
			}
		}
	})
	b.Run("anonymous", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*x = guard.Exchange{Client: x.Client, Request: x.Request}
			x.Request.Header["Cookie"] = []string{"theme=dark; lang=de"}
			s.layer.Request(x)
		}
	})
	b.Run("round", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*x = guard.Exchange{Client: x.Client, Request: x.Request}
			x.Request.Header["Cookie"] = []string{cookie}
			s.layer.Request(x)
			s.layer.Response(x, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}})
		}
	})
	set := "session=" + flasksessiontest.Session(appKey, `{"_user_id":"alice","_fresh":true}`, time.Now()) + "; HttpOnly; Path=/"
	b.Run("set", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			*x = guard.Exchange{Client: x.Client, Request: x.Request}
			x.Request.Header["Cookie"] = []string{cookie}
			s.layer.Request(x)
			s.layer.Response(x, &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {set}}})
		}
	})
}

// TestSizes: the seal costs little, and what does not fit goes to the store
// for those who are known, and for others not without end.
func TestSizes(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	b.get("/set?k=pad&v=" + strings.Repeat("y", 2700)) // 3.7 KB in Flask's cookie
	if n := len(b.session()); n < 3500 || n > 4096 {
		t.Errorf("%d bytes", n)
	}
	n := 0
	_ = s.store.Scan(context.Background(), valueFolder, func(store.Entry) bool { n++; return true })
	if n != 0 {
		t.Error("a value that fits went to the store")
	}
	for range 500 {
		s.browser().get("/big")
	}
	n = 0
	_ = s.store.Scan(context.Background(), valueFolder, func(store.Entry) bool { n++; return true })
	if n == 0 || n > 210 {
		t.Errorf("%d values in the store for visitors that nobody knows", n)
	}
	if got := b.get("/big"); got != "alice" || len(b.session()) > 1000 {
		t.Errorf("%q, %d bytes", got, len(b.session()))
	}
}

// TestNothingForNobody: who comes and goes without a login leaves nothing in
// the store that lasts.
func TestNothingForNobody(t *testing.T) {
	s := newSite(t, config())
	for range 300 {
		b := s.browser()
		b.get("/set?k=cart&v=1")
		b.get("/me")
		b.get("/clear")
	}
	s.clock.pass(2 * time.Minute)
	n := 0
	for _, folder := range []string{endedFolder, recordFolder, valueFolder} {
		_ = s.store.Scan(context.Background(), folder, func(store.Entry) bool { n++; return true })
	}
	if n != 0 {
		t.Errorf("%d entries", n)
	}
}

// TestHandshake: a WebSocket's request carries the session like any other.
func TestHandshake(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	r := httptest.NewRequest("GET", "https://shop.example/ws", nil)
	r.Header.Set("Cookie", b.cookie())
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	s.chain.ServeHTTP(httptest.NewRecorder(), r)
	if !strings.HasPrefix(s.app.seen, "session=") || s.x.Identity.Account != "alice" {
		t.Errorf("%q %+v", s.app.seen, s.x.Identity)
	}
	x := &guard.Exchange{Request: r, Client: guard.Client{Scheme: "https"}}
	res := &http.Response{StatusCode: 101, Header: http.Header{"Set-Cookie": {"session=x; Path=/"}}}
	if s.layer.Response(x, res); !strings.HasPrefix(res.Header.Get("Set-Cookie"), "__Host-session=") {
		t.Errorf("%q", res.Header)
	}
}

// TestJSReadable: what scripts read is not sealed, and a layer that seals
// nothing says so.
func TestJSReadable(t *testing.T) {
	cfg := config()
	cfg.JSReadable = []string{"session", "remember_token"}
	s := newSite(t, cfg)
	b := s.browser()
	b.get("/login?u=alice")
	if tok, ok := flasksession.Parse(b.jar["session"]); !ok || !tok.VerifiedBy(flasksession.Signer{}, appKey) || s.layer.Health() == nil {
		t.Errorf("%v %v", b.jar, s.layer.Health())
	}
}

// TestAlsoSeal: a JWT in a cookie is left alone, or sealed by order.
func TestAlsoSeal(t *testing.T) {
	for _, also := range [][]string{nil, {"access_token_cookie"}} {
		cfg := config()
		cfg.AlsoSeal = also
		s := newSite(t, cfg)
		jwt := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
		x := &guard.Exchange{Request: httptest.NewRequest("GET", "/", nil), Client: guard.Client{Scheme: "https"}}
		res := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {"access_token_cookie=" + jwt + "; Path=/; HttpOnly; Max-Age=900"}}}
		s.layer.Response(x, res)
		got := parseSetCookie(res.Header.Get("Set-Cookie"))
		if (got.value() == jwt) != (also == nil) {
			t.Errorf("%v: %q", also, res.Header)
		}
		x.Request.Header.Set("Cookie", got.name+"="+got.value())
		s.layer.Request(x)
		if c := x.Request.Header.Get("Cookie"); c != "access_token_cookie="+jwt {
			t.Errorf("%v: the app gets %q", also, c)
		}
		s.clock.pass(15*time.Minute + time.Second)
		x.Request.Header.Set("Cookie", got.name+"="+got.value())
		s.layer.Request(x)
		if c := x.Request.Header.Get("Cookie"); (c == "") != (also != nil) {
			t.Errorf("%v: after Max-Age the app gets %q", also, c)
		}
	}
}

// TestTwoNodes: what ends on one node has ended on the other, and cookies are
// good on both.
func TestTwoNodes(t *testing.T) {
	cfg := config()
	cfg.Keys = "env:NODES"
	a := newSite(t, cfg)
	b := newSite(t, cfg)
	b.store, b.clock, b.app = a.store, a.clock, a.app
	b.start(cfg, guard.Enforce)
	v := a.browser()
	v.get("/set?k=cart&v=1")
	before := v.session()
	v.get("/login?u=alice")
	other := b.browser()
	if got := other.ask("/me", v.cookie()).Body.String(); got != "alice" {
		t.Fatalf("on the other node: %q", got)
	}
	sync := func() {
		t.Helper()
		if err := b.layer.ended.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	// An answer on the other node that was on its way overwrites nothing.
	if w := other.ask("/set?k=late&v=1", before); w.Header()["Set-Cookie"] != nil {
		t.Errorf("%q", w.Header())
	}
	copied := v.cookie()
	v.get("/logout")
	sync()
	a.clock.pass(time.Minute)
	if got := other.ask("/me", copied).Body.String(); got != "<nil>" {
		t.Errorf("after the logout, on the other node: %q", got)
	}
	v.get("/login?u=alice")
	a.clock.pass(time.Second)
	a.operate("session end", map[string]string{"account": "alice"})
	sync()
	a.clock.pass(time.Minute)
	if got := other.ask("/me", v.cookie()).Body.String(); got != "<nil>" {
		t.Errorf("after the operator, on the other node: %q", got)
	}
}

// TestAlwaysRefreshed: an app that sets its cookie with every answer, as
// Flask does for permanent sessions, keeps its record alive all the same.
func TestAlwaysRefreshed(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	for range 8 {
		s.clock.pass(10 * time.Minute)
		b.get("/set?k=n&v=1")
	}
	var list []listed
	if err := json.Unmarshal([]byte(s.operate("session list", map[string]string{"account": "alice"})), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v %v", err, list)
	}
	if d := s.clock.now().Sub(list[0].Used); d > 20*time.Minute {
		t.Errorf("last used %v ago", d)
	}
}

// TestAmbiguousHeals: two cookies of ours that contradict each other are taken
// away, and the visitor can log in again.
func TestAmbiguousHeals(t *testing.T) {
	s := newSite(t, config())
	a, v := s.browser(), s.browser()
	a.https, v.https = false, false
	a.get("/login?u=attacker")
	v.get("/login?u=alice")
	w := v.ask("/shop/cart/me", a.session()+"; "+v.session())
	got := map[string]bool{}
	for _, line := range w.Header()["Set-Cookie"] {
		c := parseSetCookie(line)
		path, _ := c.get("path")
		domain, _ := c.get("domain")
		if c.name != "session" || !c.ends(s.clock.now()) {
			t.Errorf("%s", line)
		}
		got[path+" "+domain] = true
	}
	for _, want := range []string{"/ ", "/shop ", "/shop/cart ", "/ shop.example", "/shop shop.example"} {
		if !got[want] {
			t.Errorf("not taken away from %q: %v", want, got)
		}
	}
}

// TestOneEvent: what comes with every request is not an event for each.
func TestOneEvent(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	for range 50 {
		b.ask("/me", "session=of-another-app")
	}
	s.want("malicious_session session-forged")
	s.clock.pass(2 * time.Minute)
	b.ask("/me", "session=of-another-app")
	s.want("malicious_session session-forged")
	for i := range 10000 { // what is remembered for that is bounded
		s.layer.reported.first(s.clock.now(), fmt.Sprint(i))
	}
	if n := len(s.layer.reported.at); n > 4096 {
		t.Errorf("%d", n)
	}
}

// TestForgetfulStore: a logout after the store has forgotten ends the copies
// from before for as long as they could live.
func TestForgetfulStore(t *testing.T) {
	s := newSite(t, config())
	b := s.browser()
	b.get("/login?u=alice")
	copied := b.cookie()
	s.clock.pass(time.Hour)
	s.store = store.NewMemory(store.MemoryOptions{Now: s.clock.now, Buckets: 8})
	s.start(config(), guard.Enforce)
	if got := b.get("/me"); got != "alice" {
		t.Fatalf("%q", got)
	}
	b.get("/logout")
	for _, d := range []time.Duration{time.Minute, time.Hour, 20 * 24 * time.Hour} {
		s.clock.pass(d)
		if got := b.ask("/me", copied).Body.String(); got != "<nil>" {
			t.Errorf("%v after the logout: %q", d, got)
		}
	}
}

// FuzzResponse: whatever the app sets, no browser gets the session's own
// value, and every other cookie goes as it came.
func FuzzResponse(f *testing.F) {
	s := newSite(f, config())
	b := s.browser()
	b.get("/login?u=alice")
	cookie := b.cookie()
	f.Add("session=SECRET; Path=/; HttpOnly", "theme=dark", true)
	f.Add("session=; Max-Age=0; Path=/", "session=SECRET; Path=/x", false)
	f.Add("remember_token=SECRET|a; Expires=Thu, 01 Jan 2037 00:00:00 GMT; Path=/; Domain=", "\x00session=SECRET", true)
	f.Add(" session = SECRET", "session", true)
	f.Fuzz(func(t *testing.T, one, two string, in bool) {
		x := &guard.Exchange{Client: guard.Client{Scheme: "https"}, Request: httptest.NewRequest("GET", "/", nil)}
		if in {
			x.Request.Header.Set("Cookie", cookie)
			s.layer.Request(x)
		}
		r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {one, two}}}
		s.layer.Response(x, r)
		out := r.Header["Set-Cookie"]
		for _, line := range []string{one, two} {
			c := parseSetCookie(line)
			if c.name != "session" && c.name != "remember_token" {
				if !slices.Contains(out, line) {
					t.Errorf("%q is not in %q", line, out)
				}
				continue
			}
			if v := c.value(); !ignored(line) && len(v) > 3 && !c.ends(s.clock.now()) && slices.ContainsFunc(out, func(o string) bool {
				k := parseSetCookie(o)
				return (k.name == c.name || k.name == "__Host-"+c.name) && k.value() == v
			}) {
				t.Errorf("%q leaks in %q", line, out)
			}
		}
		s.mu.Lock()
		s.events = nil
		s.mu.Unlock()
	})
}

// TestTwoApps: two apps below one host have sessions of their own under one
// name, as browsers keep them: by path.
func TestTwoApps(t *testing.T) {
	s := newSite(t, config())
	get := func(cookie, path string) string {
		x := &guard.Exchange{Client: guard.Client{Scheme: "https", Host: "shop.example"}, Path: path, Request: httptest.NewRequest("GET", path, nil)}
		x.Request.Header.Set("Cookie", cookie)
		s.layer.Request(x)
		return x.Request.Header.Get("Cookie")
	}
	set := func(cookie, path, set string) string {
		x := &guard.Exchange{Client: guard.Client{Scheme: "https", Host: "shop.example"}, Path: path, Request: httptest.NewRequest("GET", path, nil)}
		x.Request.Header.Set("Cookie", cookie)
		s.layer.Request(x)
		r := &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {set}}}
		s.layer.Response(x, r)
		if len(r.Header["Set-Cookie"]) != 1 {
			t.Errorf("%s: %q", path, r.Header["Set-Cookie"])
		}
		return parseSetCookie(r.Header["Set-Cookie"][0]).pair
	}
	shop := flasksessiontest.Session(appKey, `{"_user_id":"alice"}`, s.clock.now())
	back := flasksessiontest.Session("the other app's key", `{"_user_id":"root"}`, s.clock.now())
	one := set("", "/login", "session="+shop+"; Path=/")
	two := set(one, "/admin/login", "session="+back+"; Path=/admin")
	for _, c := range []string{one + "; " + two, two + "; " + one} {
		if got := get(c, "/admin/x"); got != "session="+back {
			t.Errorf("below the path: %q", got)
		}
	}
	for _, path := range []string{"/", "/administrators"} {
		if got := get(one, path); got != "session="+shop {
			t.Errorf("%s: the other app's login ended it: %q", path, got)
		}
	}
	// Leaving the one leaves the other.
	set(two+"; "+one, "/admin/logout", "session=; Max-Age=0; Path=/admin")
	s.clock.pass(time.Minute)
	if got := get(two+"; "+one, "/admin/x"); got != "" {
		t.Errorf("%q", got)
	}
	if got := get(one, "/"); got != "session="+shop {
		t.Errorf("%q", got)
	}
}
