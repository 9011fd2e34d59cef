package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/event"
)

// logins copies the app with the logins, in all their styles.
func logins(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(root, "internal", "cli", "testdata", "logins", "app.py"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "app.py"), string(text))
	return dir
}

// events reads the security log, as far as it has been written.
func (s *site) events() []event.Event {
	s.t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []event.Event
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var e event.Event
		if err := json.Unmarshal(line, &e); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		out = append(out, e)
	}
	return out
}

// logged waits until the log has told of requests, each by its id. Without
// monitoring.requests it tells only of those that a layer had something to say
// about.
func (s *site) logged(ids []string) {
	s.t.Helper()
	missing := map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	eventually(s.t, "the requests' events", func() bool {
		for _, e := range s.events() {
			if e.Verdict != "note" && e.Verdict != "observe" { // the last of its request
				delete(missing, e.RequestID)
			}
		}
		return len(missing) == 0
	})
}

// TestLoginOutcomes: what came of a login is seen in the answers of a real
// Flask app, whatever its style, without a setting. Every attempt comes from
// its own address, by a proxy.
func TestLoginOutcomes(t *testing.T) {
	root := real(t)
	s := start(t, logins(t, root), nil, "--set", "deployment.trusted-proxies=127.0.0.1,::1", "--set", "abuse.login-delay=0s", "--set", "abuse.stuffing=0", "--set", "monitoring.requests=true")
	var ids []string // of the logins
	n := 0
	// try logs in with a fresh browser and reports whether the guard made it
	// a known one.
	try := func(path, account, password string) (status int, known bool) {
		n++
		c := s.client()
		from := []string{"X-Forwarded-For", fmt.Sprintf("203.0.%d.%d", n/200, n%200+1), "X-Forwarded-Proto", "https", "X-Forwarded-Host", strings.TrimPrefix(s.https, "https://")}
		var a answer
		switch path {
		case "/basic":
			req, _ := http.NewRequest("GET", s.https+path, nil)
			req.SetBasicAuth(account, password)
			a = s.ask(c, "GET", path, "", append(from, "Authorization", req.Header.Get("Authorization"))...)
		case "/api/login", "/security/login JSON":
			field := map[bool]string{true: "username", false: "email"}[path == "/api/login"]
			path = strings.TrimSuffix(path, " JSON")
			a = s.ask(c, "POST", path, fmt.Sprintf(`{%q: %q, "password": %q}`, field, account, password), append(from, "Content-Type", "application/json")...)
		default:
			s.ask(c, "GET", path, "", from...)
			fields := map[string][2]string{"/security/login": {"email", "password"}, "/plain/signin": {"user", "pwd"}}
			f, ok := fields[path]
			if !ok {
				f = [2]string{"username", "password"}
			}
			a = s.ask(c, "POST", path, url.Values{f[0]: {account}, f[1]: {password}}.Encode(), append(from, "Content-Type", "application/x-www-form-urlencoded", "Origin", s.https, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin")...)
		}
		for _, c := range a.Cookies() {
			known = known || c.Name == "__Host-dewar-device"
		}
		ids = append(ids, a.Header.Get("X-Request-Id"))
		return a.StatusCode, known
	}
	styles := []string{"/render/login", "/flash/login", "/api/login", "/fl/login", "/security/login", "/security/login JSON", "/plain/signin", "/elsewhere/login", "/basic"}
	const each = 10
	type result struct{ wrongKnown, rightKnown, refused int }
	results := map[string]*result{}
	fails := func() int {
		s.logged(ids)
		ids = ids[:0]
		k := 0
		for _, e := range s.events() {
			if e.Name == "authn_login_fail" {
				k++
			}
		}
		return k
	}
	truePositive, falsePositive, missed := 0, 0, 0
	for i, path := range styles {
		r := &result{}
		results[path] = r
		before := fails()
		for k := range each {
			u := 10*i + k
			status, known := try(path, fmt.Sprintf("user%d", u), fmt.Sprintf("wrong-%d", u))
			if known {
				r.wrongKnown++
			}
			if status == 429 {
				r.refused++
			}
		}
		wrong := fails() - before
		for k := range each {
			u := 10*i + k + 100
			status, known := try(path, fmt.Sprintf("user%d", u), fmt.Sprintf("right-%d-pa55", u))
			if known {
				r.rightKnown++
			}
			if status == 429 {
				r.refused++
			}
		}
		falsely := fails() - before - wrong
		truePositive, falsePositive, missed = truePositive+wrong, falsePositive+falsely, missed+each-wrong
		t.Logf("%-22s %d of %d failures seen, %d successes taken for one, %d of %d successes remembered", path, wrong, each, falsely, r.rightKnown, each)
		if falsely > 0 || r.wrongKnown > 0 || r.refused > 0 {
			t.Errorf("%s: %d successes count as failures, %d failures as successes, %d refused", path, falsely, r.wrongKnown, r.refused)
		}
		// What sends everybody to the same place with a cookie of its own
		// says no more by one failure alone.
		if path != "/elsewhere/login" && wrong != each {
			t.Errorf("%s: only %d of %d failures seen", path, wrong, each)
		}
		if path != "/basic" && r.rightKnown != each {
			t.Errorf("%s: only %d of %d successes seen", path, r.rightKnown, each)
		}
	}
	// Once it has been seen where its logins lead, a failure tells itself.
	before := fails()
	for k := range each {
		try("/elsewhere/login", fmt.Sprintf("user%d", 200+k), fmt.Sprintf("wrong-%d", k))
	}
	if got := fails() - before; got != each {
		t.Errorf("/elsewhere/login: %d of %d failures seen after its successes", got, each)
	}
	t.Logf("failures: precision %d/%d, recall %d/%d", truePositive, truePositive+falsePositive, truePositive, truePositive+missed)

	// Guessing at one account from forty addresses ends after ten, in every
	// style, the silent one included.
	for i, path := range styles {
		through := 0
		for k := range 40 {
			if status, _ := try(path, fmt.Sprintf("user%d", 280+i), fmt.Sprintf("guess-%d", k)); status != 429 {
				through++
			}
		}
		if through > 12 {
			t.Errorf("%s: %d of 40 guesses at one account reached the app", path, through)
		}
	}
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "guess-") || strings.Contains(string(log), "pa55") {
		t.Error("the log holds passwords")
	}

	// An operator's ban holds for who asks by a proxy.
	banned := []string{"X-Forwarded-For", "198.51.100.9", "X-Forwarded-Proto", "https", "X-Forwarded-Host", strings.TrimPrefix(s.https, "https://")}
	s.want(s.ask(s.client(), "GET", "/", "", banned...), 200, "before the ban")
	s.command(0, "ban", "add", "198.51.100.0/24", "--dir", s.dir, "--for", "1h", "--reason", "a test")
	s.want(s.ask(s.client(), "GET", "/", "", banned...), 403, "banned")
	if out := s.command(0, "ban", "list", "--dir", s.dir); !strings.Contains(out, "198.51.100.0/24") || !strings.Contains(out, "a test") || !strings.Contains(out, "operator") {
		t.Errorf("ban list: %s", out)
	}
	s.command(0, "ban", "lift", "198.51.100.0/24", "--dir", s.dir)
	s.want(s.ask(s.client(), "GET", "/", "", banned...), 200, "lifted")
}

// TestHydra: a guessing tool that people use finds the password of the bare
// app, and not behind the guard.
func TestHydra(t *testing.T) {
	root := real(t)
	hydra, err := exec.LookPath("hydra")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" && os.Getenv("CI") != "" {
			t.Fatalf("needs hydra: %v", err)
		}
		t.Skip("SKIPPED: needs hydra")
	}
	dir := logins(t, root)
	list := filepath.Join(t.TempDir(), "list")
	var words []string
	for i := range 60 {
		words = append(words, fmt.Sprintf("guess%d", i))
	}
	words[47] = "right-7-pa55"
	writeFile(t, list, strings.Join(words, "\n")+"\n")
	run := func(service, port string) (found bool, out string) {
		cmd := exec.CommandContext(t.Context(), hydra, "-I", "-l", "user7", "-P", list, "-t", "4", "-s", port, "localhost", service, "/render/login:username=^USER^&password=^PASS^:S=home of user")
		cmd.Dir = t.TempDir()
		b, err := cmd.CombinedOutput()
		if err != nil && len(b) == 0 {
			t.Fatal(err)
		}
		return strings.Contains(string(b), "password: right-7-pa55"), string(b)
	}

	port := freePorts(t, 1)[0]
	bare := exec.CommandContext(t.Context(), filepath.Join(root, ".venv", "bin", "gunicorn"), "-b", "127.0.0.1:"+port, "--threads", "4", "app:app")
	bare.Dir, bare.Env = dir, append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if err := bare.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { bare.Process.Signal(os.Interrupt); bare.Wait() }()
	eventually(t, "the bare app", func() bool {
		res, err := http.Get("http://127.0.0.1:" + port + "/")
		if err != nil {
			return false
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return true
	})
	if found, out := run("http-post-form", port); !found {
		t.Fatalf("hydra does not find the password of the bare app: this test says nothing\n%s", out)
	}

	// As people run it, and with nothing between hydra and the layers of this
	// control: the WAF knows the tool's name.
	s := start(t, dir, nil)
	guarded, _ := url.Parse(s.https)
	if found, out := run("https-post-form", guarded.Port()); found {
		t.Errorf("hydra finds the password behind the guard\n%s", out)
	}
	s.stop()
	s = start(t, dir, nil, "--set", "injection.mode=off", "--set", "csrf.mode=off", "--set", "abuse.rate-limit=off")
	guarded, _ = url.Parse(s.https)
	if found, out := run("https-post-form", guarded.Port()); found {
		t.Errorf("hydra finds the password behind the login layer\n%s", out)
	}
	s.stop() // the log is whole
	tried := 0
	for _, e := range s.events() {
		if e.Name == "authn_login_fail" {
			tried++
		}
	}
	t.Logf("hydra: %d of %d guesses reached the app", tried, len(words))
	if tried < 3 || tried > 14 {
		t.Errorf("%d guesses reached the app", tried)
		for i, e := range s.events() {
			if i < 20 {
				t.Logf("%s %s %s %s %s", e.Name, e.Reason, e.Detail, e.Method, e.Path)
			}
		}
	}
}

// TestGuessingLeaky guesses at the example that limits nothing: a login, a
// token of its API, a reset code, each from many addresses. With the layers of
// the control off every guess is looked at and the right one comes through;
// with them on some ten are.
func TestGuessingLeaky(t *testing.T) {
	root := real(t)
	for _, mode := range []string{"off", "enforce"} {
		s := start(t, filepath.Join(root, "examples", "leaky"), []string{"INSTANCE_PATH=" + t.TempDir(), "SECRET_KEY=e2e-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c1d"}, "--profile", "development",
			"--set", "abuse.login="+mode, "--set", "abuse.bans="+mode, "--set", "abuse.rate-limit="+mode, "--set", "abuse.login-delay=0s", "--set", "deployment.trusted-proxies=127.0.0.1,::1", "--set", "injection.virtual-patches=off")
		for _, e := range s.environ {
			if data, ok := strings.CutPrefix(e, "XDG_DATA_HOME="); ok {
				pem, err := os.ReadFile(filepath.Join(data, "dewar", "ca", "dewar-local-ca.pem"))
				if err != nil {
					t.Fatal(err)
				}
				s.ca.AppendCertsFromPEM(pem)
			}
		}
		n := 0
		post := func(path, kind, body string) answer {
			n++
			return s.ask(s.client(), "POST", path, body, "Content-Type", kind, "Origin", s.https, "Sec-Fetch-Site", "same-origin", "Accept", "text/html",
				"X-Forwarded-For", fmt.Sprintf("127.1.%d.%d", n/200, n%200+1) /* leaky answers to this machine only */, "X-Forwarded-Proto", "https", "X-Forwarded-Host", strings.TrimPrefix(s.https, "https://"))
		}
		const form = "application/x-www-form-urlencoded"
		post("/reset", form, "email=admin%40leaky.example")
		for what, guess := range map[string]func(i int) answer{
			"login": func(i int) answer {
				word := fmt.Sprintf("guess%d", i)
				if i == 40 {
					word = "password"
				}
				return post("/login", form, "email=user%40leaky.example&password="+word)
			},
			"token": func(i int) answer {
				word := fmt.Sprintf("guess%d", i)
				if i == 40 {
					word = "admin"
				}
				return post("/api/token", "application/json", fmt.Sprintf(`{"email": "admin@leaky.example", "password": %q}`, word))
			},
			"reset code": func(i int) answer {
				return post("/reset", form, fmt.Sprintf("email=admin%%40leaky.example&code=%d&password=new", 1000+i))
			},
		} {
			through, right := 0, false
			for i := range 50 {
				a := guess(i)
				if a.StatusCode != 429 {
					through++
				} else if csp := a.Header.Get("Content-Security-Policy"); strings.Contains(a.text, "One moment") && (!strings.Contains(csp, "script-src 'sha256-") || strings.Contains(csp, "unsafe")) {
					t.Errorf("%s: the challenge's policy is %q", what, csp)
				}
				right = right || what == "login" && a.StatusCode == 302 && a.Header.Get("Location") == "/" || what == "token" && strings.Contains(a.text, `"token"`)
			}
			t.Logf("%s, layers %s: %d of 50 guesses looked at, the right one found: %v", what, mode, through, right)
			switch {
			case mode == "off" && (through != 50 || what != "reset code" && !right):
				t.Errorf("%s: %d of 50 guesses are looked at without the layers: the test says nothing", what, through)
			case mode == "enforce" && (through > 12 || right):
				t.Errorf("%s: %d of 50 guesses are looked at, found %v", what, through, right)
			}
		}
		s.stop()
	}
}

// TestStuffingSite tries a thousand leaked pairs, each from an address of its
// own, at a real app, as curl would. Bare, every right pair is found; guarded,
// few are tried before all unknown clients must show that they are browsers.
// People log in meanwhile: those whose browser is known at once, the others
// after a puzzle.
func TestStuffingSite(t *testing.T) {
	root := real(t)
	for _, mode := range []string{"off", "enforce"} {
		s := start(t, logins(t, root), nil, "--set", "deployment.trusted-proxies=127.0.0.1,::1", "--set", "abuse.login-delay=0s", "--set", "abuse.challenge-bits=10",
			"--set", "abuse.login="+mode, "--set", "abuse.bans="+mode)
		shared := s.client()
		shared.Jar = nil
		from := func(addr string) []string {
			return []string{"X-Forwarded-For", addr, "X-Forwarded-Proto", "https", "X-Forwarded-Host", strings.TrimPrefix(s.https, "https://"), "Content-Type", "application/x-www-form-urlencoded", "Origin", s.https}
		}
		navigate := func(addr string) []string {
			return append(from(addr), "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Accept", "text/html")
		}
		in := func(a answer) bool { return a.StatusCode == 302 && a.Header.Get("Location") == "/" }
		pair := func(i int, password string) string {
			return url.Values{"username": {fmt.Sprintf("user%d", i)}, "password": {password}}.Encode()
		}
		owner := s.client()
		if a := s.ask(owner, "POST", "/flash/login", pair(290, "right-290-pa55"), navigate("198.51.100.1")...); !in(a) {
			t.Fatalf("the owner's login: %d", a.StatusCode)
		}
		found, tried := 0, 0
		for i := range 1000 {
			password := fmt.Sprintf("leaked-%d", i)
			if i%25 == 24 && i < 280 || i > 900 && i%25 == 24 {
				password = fmt.Sprintf("right-%d-pa55", i%280)
			}
			a := s.ask(shared, "POST", "/flash/login", pair(i%280, password), from(fmt.Sprintf("2001:db8:%x:%x::1", i/200, i))...)
			if a.StatusCode != 429 {
				tried++
			}
			if in(a) {
				found++
			}
			if i == 600 {
				if a := s.ask(owner, "POST", "/flash/login", pair(290, "right-290-pa55"), navigate("198.51.100.2")...); !in(a) {
					t.Errorf("layer %s: a known browser is turned away during the attack: %d", mode, a.StatusCode)
				}
				visitor := s.client()
				a := s.ask(visitor, "POST", "/flash/login", pair(291, "right-291-pa55"), navigate("198.51.100.3")...)
				if mode == "enforce" {
					if a.StatusCode != 429 || !strings.Contains(a.text, "One moment") {
						t.Fatalf("an unknown browser during the attack: %d %.200s", a.StatusCode, a.text)
					}
					_, rest, _ := strings.Cut(a.text, `data-puzzle="`)
					puzzle, _, _ := strings.Cut(rest, `"`)
					n := 0
					for sum := sha256.Sum256([]byte(puzzle + ".0")); sum[0] != 0 || sum[1]>>6 != 0; sum = sha256.Sum256(fmt.Appendf(nil, "%s.%d", puzzle, n)) {
						n++
					}
					a = s.ask(visitor, "POST", "/flash/login", pair(291, "right-291-pa55"), append(navigate("198.51.100.3"), "Cookie", fmt.Sprintf("__Host-dewar-proof=%s.%d", puzzle, n))...)
				}
				if !in(a) {
					t.Errorf("layer %s: an unknown browser with its puzzle: %d", mode, a.StatusCode)
				}
			}
		}
		t.Logf("layer %s: %d of 1000 pairs looked at, %d right ones found", mode, tried, found)
		s.stop() // the log is whole
		alarm := false
		for _, e := range s.events() {
			alarm = alarm || e.Name == "malicious_credential_stuffing"
		}
		switch {
		case mode == "off" && (found < 10 || tried != 1000):
			t.Errorf("%d pairs looked at, %d found without the layer: the test says nothing", tried, found)
		case mode == "enforce" && (tried > 130 || found > 6 || !alarm):
			t.Errorf("%d pairs looked at, %d found, alarm %v", tried, found, alarm)
		}
	}
}
