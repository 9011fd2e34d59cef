package abuse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/sqlitestore"
)

// loginDefaults are the settings that users get, without the delay.
func loginDefaults(t testing.TB) Config {
	t.Helper()
	c := defaults(t)
	typ := reflect.TypeFor[Config]()
	tag := func(name string) string {
		f, _ := typ.FieldByName(name)
		return f.Tag.Get("default")
	}
	for name, r := range map[string]*store.Rate{"LoginAccount": &c.LoginAccount, "LoginClient": &c.LoginClient} {
		if err := r.UnmarshalText([]byte(tag(name))); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range map[string]*int{"Spraying": &c.Spraying, "Stuffing": &c.Stuffing, "ChallengeBits": &c.ChallengeBits} {
		var err error
		if *n, err = strconv.Atoi(tag(name)); err != nil {
			t.Fatal(err)
		}
	}
	c.Challenge = tag("Challenge")
	return c
}

// style is how an app says what came of a login.
type style struct {
	yes, no func(h http.Header) (status int, body string)
}

const loginPage = `<!doctype html><form method=post><input name=username><input type="password" name=password></form>`

var styles = map[string]style{
	"200 re-render": {
		func(h http.Header) (int, string) {
			h.Set("Location", "/")
			h.Add("Set-Cookie", flaskSession)
			return 302, ""
		},
		func(h http.Header) (int, string) { h.Set("Content-Type", "text/html"); return 200, loginPage },
	},
	"302 back": {
		func(h http.Header) (int, string) {
			h.Set("Location", "/")
			h.Add("Set-Cookie", flaskSession)
			return 302, ""
		},
		func(h http.Header) (int, string) { h.Set("Location", "/login"); return 302, "" },
	},
	"JSON": {
		func(h http.Header) (int, string) {
			h.Set("Content-Type", "application/json")
			return 200, `{"access_token": "eyJhbGciOiJIUzI1NiJ9.e30.x"}`
		},
		func(h http.Header) (int, string) {
			h.Set("Content-Type", "application/json")
			return 401, `{"msg": "Bad username or password"}`
		},
	},
	"no sign at all": {
		func(h http.Header) (int, string) {
			h.Set("Content-Type", "text/plain")
			return 200, strings.Repeat("hello ", 500)
		},
		func(h http.Header) (int, string) {
			h.Set("Content-Type", "text/plain")
			return 200, strings.Repeat("hello ", 500)
		},
	},
}

// flaskSession is a session of Flask's that names a user; nobody checks its
// signature here: the app has just made it.
const flaskSession = "session=eyJfdXNlcl9pZCI6IjciLCJfZnJlc2giOnRydWV9.aSn3YQ.3q2-7wAAAAAAAAAAAAAAAAAAAAA; HttpOnly; Path=/"

// site is a guarded app with a login.
type site struct {
	t     testing.TB
	clock *clock
	login *loginLayer
	chain *guard.Chain
	log   *journal
	tries int // that the app saw
}

func newSite(t testing.TB, cfg Config, st store.Store, s style, accounts map[string]string) *site {
	t.Helper()
	w := &site{t: t, clock: newClock(), log: &journal{}}
	if st == nil {
		m := store.NewMemory(store.MemoryOptions{Buckets: 1 << 14, Now: w.clock.Now})
		t.Cleanup(func() { m.Close() })
		st = m
	}
	l, err := NewLogin(cfg, guard.Env{Store: st, Now: w.clock.Now, Publish: w.log.publish, Secret: func(ref string) (guard.Secret, error) {
		return guard.NewSecret("0123456789abcdef0123456789abcdef"), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.(*loginLayer).Close() })
	w.login = l.(*loginLayer)
	w.chain, err = guard.NewChain(guard.Options{
		Publish: w.log.publish, Now: w.clock.Now, Layers: []guard.Bound{addressed, {Spec: loginSpec, Layer: l, Mode: cfg.Login}},
		Forward: forwarder(func(x *guard.Exchange) *http.Response {
			h := http.Header{}
			if x.Request.Method != "POST" || !strings.HasSuffix(x.Path, "/login") {
				h.Set("Content-Type", "text/html")
				return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(strings.NewReader(loginPage))}
			}
			w.tries++
			if c := x.Request.Header.Get("Cookie"); strings.Contains(c, "dewar-") {
				t.Errorf("the app sees %s", c)
			}
			if err := x.Request.ParseForm(); err != nil {
				t.Error(err)
			}
			name := x.Request.PostForm.Get("username")
			if want, ok := accounts[strings.ToLower(strings.TrimSpace(name))]; ok && want == x.Request.PostForm.Get("password") {
				status, body := s.yes(h)
				return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
			}
			status, body := s.no(h)
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
		})})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// try logs in from an address; jar is the browser's cookies and may be nil.
func (w *site) try(addr, name, password string, jar map[string]string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/login", strings.NewReader(url.Values{"username": {name}, "password": {password}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Test-Client", addr)
	for k, v := range jar {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.chain.ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		if jar != nil {
			jar[c.Name] = c.Value
		}
	}
	return rec
}

func noChallenge(t testing.TB) Config {
	c := loginDefaults(t)
	c.Challenge = "off"
	return c
}

// TestLoginHold: whatever the app's style, one account cannot be guessed at
// from many addresses; its owner's browser is let in; it ends by itself.
func TestLoginHold(t *testing.T) {
	for name, s := range styles {
		t.Run(name, func(t *testing.T) {
			w := newSite(t, noChallenge(t), nil, s, map[string]string{"kim": "right"})
			owner := map[string]string{}
			if rec := w.try("198.51.100.1", "kim", "right", owner); rec.Code >= 400 {
				t.Fatalf("the owner's first login: %d", rec.Code)
			}
			seen := w.tries
			for i := range 100 {
				w.try(fmt.Sprintf("203.0.%d.7", i), "Kim ", fmt.Sprintf("guess%d", i), nil)
			}
			if got := w.tries - seen; got < 10 || got > 11 {
				t.Errorf("%d of 100 guesses reached the app", got)
			}
			if rec := w.try("192.0.2.9", "kim", "right", nil); rec.Code != 429 || rec.Header().Get("Retry-After") == "" {
				t.Errorf("an unknown browser with the right password: %d", rec.Code)
			}
			if name != "no sign at all" {
				if rec := w.try("192.0.2.10", "kim", "right", owner); rec.Code >= 400 {
					t.Errorf("the owner is locked out: %d", rec.Code)
				}
				if len(w.log.named("authn_login_lock")) == 0 || len(w.log.named("authn_login_fail")) < 10 {
					t.Error("no events")
				}
			}
			w.clock.add(10*time.Minute + time.Second)
			if rec := w.try("192.0.2.11", "kim", "right", nil); rec.Code >= 400 {
				t.Errorf("not released: %d", rec.Code)
			}
		})
	}
}

// TestNoOracle: an account that exists and one that does not are told apart
// by nothing: status, header, body, number of tries.
func TestNoOracle(t *testing.T) {
	for name, s := range styles {
		run := func(account string) string {
			w := newSite(t, loginDefaults(t), nil, s, map[string]string{"kim": "right", "max": "right"})
			// The owner logs in and mistypes now and then.
			w.try("198.51.100.1", "max", "right", nil)
			var b strings.Builder
			for i := range 40 {
				rec := w.try(fmt.Sprintf("203.0.%d.7", i%5), account, fmt.Sprintf("guess%d", i), nil, "Accept", []string{"text/html", "application/json", "*/*"}[i%3])
				h := rec.Header()
				body := rec.Body.String()
				body = strings.ReplaceAll(body, h.Get("X-Request-Id"), "ID")
				if i := strings.Index(body, `data-puzzle="`); i >= 0 {
					body = body[:i] + body[i+60:]
				}
				h.Del("X-Request-Id")
				fmt.Fprintf(&b, "%d %v %s\n", rec.Code, h, body)
				w.clock.add(7 * time.Second)
			}
			return b.String()
		}
		if a, b := run("kim"), run("nobody"); a != b {
			t.Errorf("%s: told apart:\n%s\n%s", name, a, b)
		}
	}
}

// TestSharedAddress: fifty people behind one address log in within three
// minutes, mistype sometimes, and nobody is refused; nor in the hour after.
func TestSharedAddress(t *testing.T) {
	accounts := map[string]string{}
	for i := range 50 {
		accounts[fmt.Sprintf("user%d", i)] = fmt.Sprintf("secret-%d-x", i)
	}
	for name, s := range styles {
		w := newSite(t, loginDefaults(t), nil, s, accounts)
		cfg := loginDefaults(t)
		rl, err := NewRateLimit(cfg, guard.Env{Store: w.login.store})
		if err != nil {
			t.Fatal(err)
		}
		seed := uint32(7)
		random := func(n uint32) uint32 { seed = seed*1664525 + 1013904223; return seed >> 16 % n }
		refused, mistyped, n := 0, 0, 0
		for range 4 { // four times that hour
			for i := range 50 {
				jar := map[string]string{}
				u := fmt.Sprintf("user%d", i)
				for k := 0; k < 3 && random(100) < 20; k++ { // a fifth mistypes, some twice
					mistyped++
					n++
					if rec := w.try("203.0.113.7", u, fmt.Sprintf("secrte-%d-%d", i, k), jar, "Accept", "text/html"); rec.Code == 429 {
						refused++
					}
					w.clock.add(2 * time.Second)
				}
				n++
				if d := ask(t, rl, "POST", "/login", "203.0.113.7"); d.Verdict != guard.Allow {
					refused++
				}
				if rec := w.try("203.0.113.7", u, accounts[u], jar, "Accept", "text/html"); rec.Code == 429 {
					refused++
				}
				w.clock.add(3 * time.Second)
			}
			w.clock.add(12 * time.Minute)
		}
		t.Logf("%s: %d logins, %d mistyped, %d refused", name, n, mistyped, refused)
		if refused > 0 || mistyped < 20 {
			t.Errorf("%s: %d of %d logins refused (%d mistyped)", name, refused, n, mistyped)
		}
	}
}

// TestStuffing: pairs of names and passwords, each tried once, from a thousand
// addresses.
func TestStuffing(t *testing.T) {
	accounts := map[string]string{}
	for i := range 1000 {
		accounts[fmt.Sprintf("user%d", i)] = "right"
	}
	w := newSite(t, loginDefaults(t), nil, styles["302 back"], accounts)
	owner := map[string]string{}
	w.try("192.0.2.1", "user500", "right", owner)
	before := w.tries
	stopped := 0
	for i := range 1000 {
		rec := w.try(fmt.Sprintf("2001:db8:%x:%x::1", i/16, i), fmt.Sprintf("user%d", i), fmt.Sprintf("leaked-%d", i), nil)
		if rec.Code == 429 {
			stopped++
		}
		w.clock.add(100 * time.Millisecond)
	}
	if got := w.tries - before; got > 120 || len(w.log.named("malicious_credential_stuffing")) == 0 {
		t.Errorf("%d of 1000 pairs reached the app, %d stopped, %d events", got, stopped, len(w.log.named("malicious_credential_stuffing")))
	}
	if rec := w.try("192.0.2.1", "user500", "right", owner); rec.Code >= 400 {
		t.Errorf("a known browser during the attack: %d", rec.Code)
	}
	if rec := w.try("192.0.2.77", "user501", "right", nil, "Sec-Fetch-Mode", "navigate"); rec.Code != 429 || !strings.Contains(rec.Body.String(), "One moment") {
		t.Errorf("an unknown browser during the attack: %d %.80s", rec.Code, rec.Body)
	}
	w.clock.add(11 * time.Minute)
	// After days the name is only a name again, and the browser is known still.
	w.clock.add(aliasFor + time.Hour)
	if w.try("203.0.113.99", "user500", "bad", owner); len(w.log.named("authn_login_fail")) == 0 {
		t.Error("no event")
	} else if e := w.log.named("authn_login_fail"); e[len(e)-1].Attributes["device"] != "known" {
		t.Errorf("the owner's browser is forgotten: %+v", e[len(e)-1].Attributes)
	}
	if rec := w.try("192.0.2.78", "user501", "right", nil); rec.Code >= 400 {
		t.Errorf("after the attack: %d", rec.Code)
	}
}

// TestStuffingOnABusySite: where thousands log in, the share of failures stays
// small, and still five times as many as usual are noticed; a busy hour with
// its usual failures is not.
func TestStuffingOnABusySite(t *testing.T) {
	c := newClock()
	w := newWatch(0, 100, c.Now)
	window := func(failures, successes int, name string) (begun int) {
		for i := range successes {
			w.succeeded()
			if i%5 == 0 {
				c.add(50 * time.Millisecond)
			}
		}
		for i := range failures {
			begun += len(w.tried(fmt.Sprintf("%s%d", name, i), mustPrefix(fmt.Sprintf("203.0.%d.%d/32", i/250, i%250)), fmt.Sprint(i)))
		}
		c.add(10 * time.Minute)
		return begun
	}
	for i := range 12 {
		if n := window(120+10*(i%3), 2000, fmt.Sprint(i)); n != 0 {
			t.Fatalf("window %d: usual failures are called an attack", i)
		}
	}
	if n := window(300, 4000, "busy"); n != 0 {
		t.Error("a busy hour is called an attack")
	}
	if n := window(1200, 2000, "attack"); n != 1 {
		t.Errorf("%d alarms for ten times the usual failures", n)
	}
}

// TestSpraying: one password on many accounts, from many addresses, slowly.
// With the challenge off the password itself is what is turned away.
func TestSpraying(t *testing.T) {
	cfg := noChallenge(t)
	cfg.Stuffing = 0
	w := newSite(t, cfg, nil, styles["JSON"], map[string]string{"user77": "Summer2026!"})
	for i := range 200 {
		w.try(fmt.Sprintf("2001:db8:%x::1", i), fmt.Sprintf("user%d", i), "Summer2026!", nil)
		w.clock.add(2 * time.Second)
	}
	if w.tries < 14 || w.tries > 18 {
		t.Errorf("%d of 200 reached the app", w.tries)
	}
	if e := w.log.named("malicious_password_spraying"); len(e) == 0 {
		t.Error("no event")
	}
	if rec := w.try("192.0.2.1", "user3", "another", nil); rec.Code == 429 {
		t.Errorf("another password: %d", rec.Code)
	}
}

// TestParallel: guesses that race the count.
func TestParallel(t *testing.T) {
	w := newSite(t, noChallenge(t), nil, styles["JSON"], nil)
	l := w.login
	var all []*tried
	for i := range 20 {
		tr := &tried{names: []string{"x"}, client: mustPrefix(fmt.Sprintf("203.0.113.%d/32", i))}
		if l.enter(tr) {
			all = append(all, tr)
		}
	}
	if len(all) != perAccount {
		t.Errorf("%d at once", len(all))
	}
	for _, tr := range all {
		tr.release()
		tr.release()
	}
	if len(l.inFlight) != 0 {
		t.Errorf("left: %v", l.inFlight)
	}
}

// TestBasic: a program that authenticates every request, many at once, is not
// taken for a guesser; one that guesses is held.
func TestBasic(t *testing.T) {
	w := newSite(t, noChallenge(t), nil, styles["JSON"], nil)
	ask := func(addr, password string) (*guard.Exchange, guard.Decision) {
		r := httptest.NewRequest("GET", "/api/orders", nil)
		r.SetBasicAuth("robot", password)
		x := &guard.Exchange{Request: r, Path: "/api/orders"}
		x.Client.Addr = netip.MustParseAddr(addr)
		return x, w.login.Request(x)
	}
	answer := func(x *guard.Exchange, status int) {
		w.login.Response(x, &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: x.Request})
	}
	var all []*guard.Exchange
	for i := range 20 {
		x, d := ask("203.0.113.7", "right")
		if d.Verdict != guard.Allow {
			t.Fatalf("request %d of many at once: %+v", i, d)
		}
		all = append(all, x)
	}
	for _, x := range all {
		answer(x, 200)
	}
	for i := range 200 {
		x, d := ask("203.0.113.7", "right")
		if d.Verdict != guard.Allow || x.Value(triedKey{}) != nil {
			t.Fatalf("request %d: %+v, counted: %v", i, d, x.Value(triedKey{}) != nil)
		}
		w.clock.add(time.Minute)
	}
	tried := 0
	for i := range 50 {
		x, d := ask(fmt.Sprintf("198.51.%d.7", i), fmt.Sprint(i))
		if d.Verdict == guard.Allow {
			tried++
			answer(x, 401)
		}
	}
	if tried != 10 {
		t.Errorf("%d guesses", tried)
	}
	if _, d := ask("203.0.113.7", "right"); d.Verdict != guard.Allow {
		t.Errorf("the program is held for what others guess: %+v", d)
	}
}

// TestSessionWithoutName: a session that says only that somebody is logged in
// does not make one account of all.
func TestSessionWithoutName(t *testing.T) {
	st := style{func(h http.Header) (int, string) {
		h.Set("Location", "/")
		h.Add("Set-Cookie", "session=eyJsb2dnZWRfaW4iOnRydWV9.aSn3YQ.3q2-7wAAAAAAAAAAAAAAAAAAAAA; HttpOnly; Path=/")
		return 302, ""
	}, styles["302 back"].no}
	w := newSite(t, noChallenge(t), nil, st, map[string]string{"kim": "right", "lee": "other"})
	w.try("203.0.113.1", "kim", "right", nil)
	w.try("203.0.113.2", "lee", "other", nil)
	for i := range 30 {
		w.try(fmt.Sprintf("198.51.%d.7", i), "kim", fmt.Sprint(i), nil)
	}
	if w.tries != 12 {
		t.Errorf("%d tries reached the app", w.tries)
	}
	if rec := w.try("203.0.113.3", "lee", "other", nil); rec.Code != 302 {
		t.Errorf("another account is held: %d", rec.Code)
	}
}

// TestStoreGoneForLogins: without the store the limits are half, and stand.
func TestStoreGoneForLogins(t *testing.T) {
	m := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10})
	w := newSite(t, noChallenge(t), m, styles["JSON"], nil)
	m.Close()
	for i := range 50 {
		w.try(fmt.Sprintf("203.0.%d.7", i), "kim", fmt.Sprint(i), nil)
	}
	if w.tries != 5 {
		t.Errorf("%d guesses reached the app, want half of ten", w.tries)
	}
	if w.login.Health() == nil {
		t.Error("the health says nothing")
	}
}

// TestPasswordsLeaveNoTrace: nothing of a password is in any event, any key or
// any value, and no name either.
func TestPasswordsLeaveNoTrace(t *testing.T) {
	const canary, name = "canary-5f2d-Pa55", "canary-kim@shop.example"
	spy := &spyStore{Store: store.NewMemory(store.MemoryOptions{Buckets: 1 << 10})}
	for _, s := range styles {
		w := newSite(t, loginDefaults(t), spy, s, map[string]string{name: canary + "1"})
		for i := range 30 {
			w.try(fmt.Sprintf("203.0.%d.7", i), name, fmt.Sprintf("%s%d", canary, i), nil)
		}
		w.log.mu.Lock()
		text := fmt.Sprintf("%+v %s", w.log.events, w.login.Describe())
		w.log.mu.Unlock()
		if len(text) < 1000 || strings.Contains(text, canary) || strings.Contains(text, "canary-kim") {
			t.Error("an event shows a password or a name")
		}
	}
	if len(spy.text) < 1000 || strings.Contains(spy.text, canary) || strings.Contains(spy.text, "canary-kim") {
		t.Error("the store shows a password or a name")
	}
}

// TestAliases: a user name and an address of the same account share a count
// once they were seen to be one.
func TestAliases(t *testing.T) {
	w := newSite(t, noChallenge(t), nil, styles["200 re-render"], map[string]string{"kim": "right", "kim@shop.example": "right"})
	for _, n := range []string{"kim", "kim@shop.example"} {
		if rec := w.try("192.0.2.1", n, "right", nil); rec.Code != 302 {
			t.Fatal(rec.Code)
		}
	}
	before := w.tries
	for i := range 40 {
		w.try(fmt.Sprintf("203.0.%d.7", i), []string{"kim", "KIM@shop.example"}[i%2], fmt.Sprint(i), nil)
	}
	if got := w.tries - before; got != 10 {
		t.Errorf("%d guesses under two names", got)
	}
}

// TestLockoutsOutliveTheProcess: a restart releases no account and no banned
// client, and an operator can.
func TestLockoutsOutliveTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), sqlitestore.FileName)
	clock := newClock()
	open := func() *sqlitestore.Store {
		s, err := sqlitestore.Open(sqlitestore.Options{Path: file, Memory: store.MemoryOptions{Buckets: 1 << 10}, Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	st := open()
	w := newSite(t, noChallenge(t), st, styles["JSON"], map[string]string{"kim": "right"})
	for i := range 12 {
		w.try(fmt.Sprintf("203.0.%d.7", i), "Kim", fmt.Sprint(i), nil)
	}
	if n := len(w.log.named("authn_login_lock")); n != 1 {
		t.Errorf("%d events about one lockout", n)
	}
	b := newBans(t, Config{BanFor: guard.Duration(time.Hour)}, guard.Env{Store: st, Now: clock.Now})
	if _, err := b.Operate(t.Context(), "ban add", map[string]string{"network": "203.0.113.7"}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	w.login.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	st = open()
	defer st.Close()
	w = newSite(t, noChallenge(t), st, styles["JSON"], map[string]string{"kim": "right"})
	rec := w.try("192.0.2.1", "kim", "right", nil)
	if n, _ := strconv.Atoi(rec.Header().Get("Retry-After")); rec.Code != 429 || n < 500 || n > 601 {
		t.Errorf("after the restart: %d, Retry-After %d", rec.Code, n)
	}
	if d := at(newBans(t, Config{}, guard.Env{Store: st, Now: clock.Now}), "203.0.113.7"); d.Reason != "banned" {
		t.Errorf("the ban after the restart: %+v", d)
	}
	run := func(command, account string) (any, error) {
		args := map[string]string{}
		if account != "" {
			args["account"] = account
		}
		return w.login.Operate(t.Context(), command, args)
	}
	v, err := run("lockout list", "")
	rows, _ := v.([]lockRow)
	if err != nil || len(rows) != 1 || rows[0].Kind != "login" || strings.Contains(rows[0].Account, "kim") {
		t.Fatalf("%+v %v", v, err)
	}
	if v, _ := run("lockout list", " KIM"); len(v.([]lockRow)) != 1 {
		t.Errorf("by name: %+v", v)
	}
	if _, err := run("lockout lift", "max"); err == nil {
		t.Error("an account that is not held is lifted")
	}
	if _, err := run("lockout lift", rows[0].Account); err != nil {
		t.Fatal(err)
	}
	if rec := w.try("192.0.2.1", "kim", "right", nil); rec.Code != 200 {
		t.Errorf("lifted: %d", rec.Code)
	}
}

// TestAlarm: an attack that one node saw is one for the others, and after a
// reload.
func TestAlarm(t *testing.T) {
	m := store.NewMemory(store.MemoryOptions{Buckets: 1 << 10})
	defer m.Close()
	cfg := loginDefaults(t)
	cfg.Spraying = 3
	one := newSite(t, cfg, m, styles["JSON"], nil)
	for i := range 4 {
		one.try(fmt.Sprintf("203.0.%d.7", i), fmt.Sprintf("user%d", i), "Summer2026!", nil)
	}
	other := newSite(t, cfg, m, styles["JSON"], nil)
	if rec := other.try("192.0.2.1", "kim", "x", nil); rec.Code != 429 || other.tries != 0 {
		t.Errorf("another node lets a form that no browser sent pass: %d", rec.Code)
	}
}

// TestLoggedIn: who is logged in may create users and save settings; what the
// app answers to that is no failed login.
func TestLoggedIn(t *testing.T) {
	w := newSite(t, loginDefaults(t), nil, styles["JSON"], nil)
	for i := range 60 {
		r := httptest.NewRequest("POST", "/admin/users", strings.NewReader(fmt.Sprintf("username=new%d&password=p%d", i, i)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		x := &guard.Exchange{Request: r, Path: "/admin/users", Identity: guard.Identity{Account: "7"}}
		x.Client.Addr = netip.MustParseAddr("203.0.113.7")
		if d := w.login.Request(x); d.Verdict != guard.Allow {
			t.Fatalf("%d: %+v", i, d)
		}
		w.login.Response(x, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(loginPage))})
	}
}

// TestPendingAccount: between two factors the app's signed session says whose
// code is guessed at, however many clients share the work.
func TestPendingAccount(t *testing.T) {
	w := newSite(t, noChallenge(t), nil, styles["302 back"], nil)
	// {"tf_user_id": "7"}
	const pending = "eyJ0Zl91c2VyX2lkIjoiNyJ9.aSn3YQ.3q2-7wAAAAAAAAAAAAAAAAAAAAA"
	passed := 0
	for i := range 40 {
		r := httptest.NewRequest("POST", "/2fa", strings.NewReader(fmt.Sprintf("code=%06d", i)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.AddCookie(&http.Cookie{Name: "session", Value: pending})
		x := &guard.Exchange{Request: r, Path: "/2fa"}
		x.Client.Addr = netip.MustParseAddr(fmt.Sprintf("203.0.%d.7", i))
		if w.login.Request(x).Verdict == guard.Allow {
			passed++
			w.login.Response(x, &http.Response{StatusCode: 302, Header: http.Header{"Location": {"/2fa"}}, Body: http.NoBody})
		}
	}
	if passed != 10 {
		t.Errorf("%d codes from 40 clients were looked at", passed)
	}
}

// TestDecoys: a field that the app does not read, or a name given twice, frees
// nobody from the count of the account that is guessed at; and who logs in to
// an account of his own beside it is not known to another's.
func TestDecoys(t *testing.T) {
	w := newSite(t, noChallenge(t), nil, styles["200 re-render"], map[string]string{"kim": "right", "mine": "mine"})
	post := func(i int, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/login", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Test-Client", fmt.Sprintf("203.0.%d.7", i))
		rec := httptest.NewRecorder()
		w.chain.ServeHTTP(rec, r)
		return rec
	}
	for i := range 60 {
		post(i, []string{
			fmt.Sprintf("username=kim&username=decoy%d&password=%d", i, i),
			fmt.Sprintf("username=kim&email=decoy%d&password=%d", i, i),
			fmt.Sprintf("email=decoy%d&username=kim&password=%d&password=right", i, i),
			fmt.Sprintf("username=kim&password=%d&new_password=x&confirm=x", i),
		}[i%4])
	}
	if w.tries != 10 {
		t.Errorf("%d guesses with decoys reached the app", w.tries)
	}
	rec := post(200, "username=mine&email=kim&password=mine")
	for _, c := range rec.Result().Cookies() {
		if c.Name == deviceCookie {
			t.Error("a browser is known that named two accounts")
		}
	}
	// A list of users that somebody sends to a place that is no login is not
	// refused for its length.
	r := httptest.NewRequest("POST", "/import", strings.NewReader(`[{"username":"a","password":"1"},{"username":"b","password":"1"},{"username":"c","password":"1"},{"username":"d","password":"1"},{"username":"e","password":"1"},{"username":"f","password":"1"},{"username":"g","password":"1"},{"username":"h","password":"1"}]`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Test-Client", "198.51.100.77")
	imported := httptest.NewRecorder()
	w.chain.ServeHTTP(imported, r)
	if imported.Code != 200 {
		t.Errorf("a list of users: %d", imported.Code)
	}
	if rec := post(201, "username=a&username=b&username=c&username=d&username=e&username=f&username=kim&password=right"); rec.Code != 400 {
		t.Errorf("seven names: %d", rec.Code)
	}
}

func TestDetect(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version":1,"routes":[
		{"rule":"/enter","methods":["POST"],"answers":["POST"],"kind":"login","kinds":["login"],"fields":[{"in":"form","name":"badge"},{"in":"form","name":"password"}]},
		{"rule":"/read","methods":["POST"],"answers":["POST"],"kind":"login","fields":[{"in":"form","name":"email"},{"in":"form","name":"password"}]},
		{"rule":"/values","methods":["POST"],"answers":["POST"],"kind":"login","fields":[{"in":"form","name":"email"},{"in":"form","name":"password"},{"in":"query","name":"email"},{"in":"query","name":"password"}]},
		{"rule":"/short","methods":["POST"],"answers":["POST"],"kind":"login","fields":[{"in":"form","name":"email"},{"in":"form","name":"pw"},{"in":"form","name":"remember_me"}]},
		{"rule":"/change","methods":["POST"],"answers":["POST"],"kind":"page","kinds":["page","login"]},
		{"rule":"/reset","methods":["POST"],"answers":["POST"],"kind":"reset"},
		{"rule":"/join","methods":["POST"],"answers":["POST"],"kind":"register"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	cfg := loginDefaults(t)
	st := store.NewMemory(store.MemoryOptions{Buckets: 8})
	defer st.Close()
	l, err := NewLogin(cfg, guard.Env{Store: st, Policy: func() *policy.Policy { return p }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, target, kind, body, header string
		want                               attemptKind
		account, secret                    string
	}{
		{"POST", "/login", "form", "username=Kim&password=x", "", login, "kim", "x"},
		{"POST", "/login", "form", "email=%20KIM@Shop.example&password=x&csrf_token=1", "", login, "kim@shop.example", "x"},
		{"POST", "/anything", "form", "user=kim&pwd=x", "", login, "kim", "x"},
		{"POST", "/enter", "form", "badge=A7&password=x", "", login, "a7", "x"},
		{"POST", "/api/v1/session", "json", `{"user": {"login": "kim", "password": "x"}}`, "", login, "kim", "x"},
		{"POST", "/api/v1/session", "text", `{"login": "kim", "password": "x"}`, "", login, "kim", "x"},
		{"POST", "/login", "form", "user%5Bemail%5D=a@b&user%5Bpassword%5D=x", "", login, "a@b", "x"},
		{"POST", "/login", "multipart", "username=kim&password=x", "", login, "kim", "x"},
		{"POST", "/login", "form", "username=a&username=b&email=c&password=x", "", login, "a b c", "x"},
		{"POST", "/api/v1/session", "json", `{"login": "decoy", "login": "kim", "password": "x"}`, "", login, "decoy kim", "x"},
		{"POST", "/enter", "form", "username=decoy&badge=A7&password=x", "", login, "a7 decoy", "x"},
		{"POST", "/read", "form", "username=decoy&email=kim&password=x", "", login, "kim", "x"},
		{"POST", "/change", "form", "current_password=x&new_password=y&new_password2=y", "", login, "", "x"},
		{"POST", "/register", "form", "email=a&password=x", "", newPassword, "a", "x"},
		{"POST", "/join", "form", "email=a&password=x", "", newPassword, "a", "x"},
		{"POST", "/reset", "form", "email=a&code=1234&password=y", "", resetCode, "a", "1234"},
		{"POST", "/2fa", "form", "otp=123456", "", secondFactor, "", "123456"},
		{"POST", "/backoffice/door", "form", "password=x", "", login, "", "x"},
		{"POST", "/cart", "form", "quantity=2&csrf_token=x", "", noAttempt, "", ""},
		{"POST", "/comment", "form", "name=kim&text=my+password+is", "", noAttempt, "", ""},
		{"GET", "/login", "", "", "", noAttempt, "", ""},
		{"GET", "/search?q=password", "", "", "", noAttempt, "", ""},
		{"GET", "/api/me", "", "", "Basic S2ltOng=", basicAuth, "kim", "x"},
		{"GET", "/api/me", "", "", "Bearer S2ltOng=", noAttempt, "", ""},
		{"POST", "/login?username=victim&password=zz", "form", "username=decoy&password=x", "", login, "decoy victim", "x"},
		{"POST", "/values?email=victim&password=zz", "form", "email=decoy&password=x", "", login, "decoy victim", "zz"},
		{"POST", "/read?email=victim&password=zz", "form", "email=kim&password=x", "", login, "kim", "x"},
		{"POST", "/short", "form", "email=kim&pw=x&remember_me=y&csrf_token=1", "", login, "kim", "x"},
		{"POST", "/short", "form", "email=kim&pw=&other=x", "", noAttempt, "", ""},
		{"POST", "/login?next=/&password=zz", "form", "username=kim&password=x", "", login, "kim", "x"},
		{"POST", "/login", "form", "username=%EF%BC%AB%EF%BD%89%EF%BD%8D&password=x", "", login, "kim", "x"}, // full width
		{"POST", "/login", "form", "username=k%C3%ADm%E2%80%8B&password=x", "", login, "kim", "x"},           // an accent, and what does not show
	} {
		body, kind := c.body, map[string]string{"form": "application/x-www-form-urlencoded", "json": "application/json", "text": "text/plain"}[c.kind]
		if c.kind == "multipart" {
			kind = "multipart/form-data; boundary=bb"
			v, _ := url.ParseQuery(c.body)
			body = ""
			for k := range v {
				body += "--bb\r\nContent-Disposition: form-data; name=\"" + k + "\"\r\n\r\n" + v.Get(k) + "\r\n"
			}
			body += "--bb--\r\n"
		}
		r := httptest.NewRequest(c.method, c.target, strings.NewReader(body))
		if body == "" {
			r.Body, r.ContentLength = http.NoBody, 0
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		a := l.(*loginLayer).detect(&guard.Exchange{Request: r, Path: r.URL.Path})
		if a.kind != c.want || c.want.guesses() && (strings.Join(a.accounts, " ") != c.account || a.password != c.secret) || c.want == newPassword && a.password != c.secret {
			t.Errorf("%s %s %s: %s %q %q, want %s %q %q", c.method, c.target, c.body, a.kind, a.accounts, a.password, c.want, c.account, c.secret)
		}
	}
}

// spyStore writes down all that the layer tells a store.
type spyStore struct {
	store.Store
	text string
}

func (s *spyStore) AllowMany(ctx context.Context, takes []store.Take) ([]store.Result, error) {
	s.text += fmt.Sprintln(takes)
	return s.Store.AllowMany(ctx, takes)
}

func (s *spyStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.text += fmt.Sprintf("%s %q\n", key, value)
	return s.Store.Put(ctx, key, value, ttl)
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
