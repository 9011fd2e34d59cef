package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
)

// real returns the repository's root, or skips loudly when the virtual
// environment with Flask and gunicorn is missing.
func real(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, ".venv", "bin", "gunicorn")); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatalf("the virtual environment is missing: make venv (%v)", err)
		}
		t.Skip("SKIPPED: needs real Flask and gunicorn: make venv")
	}
	return root
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// site is a running "dewar run".
type site struct {
	t          *testing.T
	dir        string
	environ    []string
	https      string
	http       string
	consoleURL string
	log        string
	cert       string
	out        *buffer
	stop       func() int
	ca         *x509.CertPool
}

func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		out = append(out, fmt.Sprint(freeport.Take(t)))
	}
	return out
}

// start runs "dewar run" on a project and waits until it is ready.
func start(t *testing.T, dir string, environ []string, more ...string) *site {
	t.Helper()
	root := real(t)
	work := t.TempDir()
	run := filepath.Join(work, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	s := &site{t: t, dir: dir, out: &buffer{}, log: filepath.Join(work, "events.jsonl"),
		https: "https://localhost:" + ports[0], http: "http://localhost:" + ports[1], consoleURL: "http://127.0.0.1:" + ports[2]}
	s.environ = append([]string{
		"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"),
		"HOME=" + work, "XDG_DATA_HOME=" + filepath.Join(work, "data"), "XDG_RUNTIME_DIR=" + run, "TMPDIR=" + os.TempDir(),
	}, environ...)
	cert, key := selfSigned(t)
	s.cert = cert
	args := append([]string{"run", dir, "--profile", "production", "--log", s.log, "--set", "deployment.certificate=" + cert, "--set", "deployment.key=" + key,
		"--set", "deployment.listen=127.0.0.1:" + ports[0], "--set", "deployment.listen-http=127.0.0.1:" + ports[1],
		"--set", "deployment.console=127.0.0.1:" + ports[2], "--set", "deployment.workers=2", "--set", "deployment.grace=5s"}, more...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- execute(ctx, args, s.environ, strings.NewReader(""), s.out, s.out) }()
	var once sync.Once
	code := -1
	s.stop = func() int {
		once.Do(func() {
			cancel()
			select {
			case code = <-done:
			case <-time.After(90 * time.Second):
				t.Error("dewar run did not end")
			}
		})
		return code
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("dewar run said:\n%s", s.out)
		}
	})
	for deadline := time.Now().Add(120 * time.Second); ; {
		res, err := http.Get(s.consoleURL + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("dewar run ended with %d:\n%s", code, s.out)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready:\n%s", s.out)
		}
	}
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	s.ca = x509.NewCertPool()
	s.ca.AppendCertsFromPEM(pem)
	return s
}

// client is a browser of a kind: it keeps cookies and verifies certificates.
func (s *site) client() *http.Client {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca}, ForceAttemptHTTP2: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Jar: jar, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answer struct {
	*http.Response
	text string
}

func (s *site) ask(c *http.Client, method, target string, body string, header ...string) answer {
	s.t.Helper()
	if !strings.Contains(target, "://") {
		target = s.https + target
	}
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1])
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	}
	res, err := c.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{res, string(b)}
}

func (s *site) want(a answer, status int, what string) {
	s.t.Helper()
	if a.StatusCode != status {
		s.t.Errorf("%s: %s %s gave %d, want %d\n%.600s", what, a.Request.Method, a.Request.URL, a.StatusCode, status, a.text)
	}
}

var tokenField = regexp.MustCompile(`name="csrf_token"[^>]*value="([^"]+)"|<meta name="csrf-token" content="([^"]+)"`)

func (s *site) token(page string) string {
	s.t.Helper()
	m := tokenField.FindStringSubmatch(page)
	if m == nil {
		s.t.Fatalf("no CSRF token in:\n%.800s", page)
	}
	return m[1] + m[2]
}

const (
	shopKey      = "e2e-secret-key-0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c"
	shopPassword = "e2e-Passw0rd-honest-kim"
)

// startShop runs "dewar run" on the example shop, stocked.
func startShop(t *testing.T, more ...string) *site {
	t.Helper()
	root := real(t)
	shop := filepath.Join(root, "examples", "shop")
	environ := []string{"SECRET_KEY=" + shopKey, "INSTANCE_PATH=" + t.TempDir(), "PROXY_HOPS=1", "SEED_ADMIN_PASSWORD=" + shopPassword + "-admin", "SEED_USER_PASSWORD=" + shopPassword}
	seed := exec.Command(filepath.Join(root, ".venv", "bin", "flask"), "--app", "wsgi", "seed")
	seed.Dir, seed.Env = shop, append(os.Environ(), environ...)
	if out, err := seed.CombinedOutput(); err != nil {
		t.Fatalf("flask seed: %v\n%s", err, out)
	}
	return start(t, shop, environ, more...)
}

// TestShop drives the example shop behind the guard as people and attackers
// do, checks it, and then looks for every secret it sent in everything that
// was written.
func TestShop(t *testing.T) {
	const key, password = shopKey, shopPassword
	s := startShop(t)
	c := s.client()

	// An honest visit.
	home := s.ask(c, "GET", "/", "")
	s.want(home, 200, "home page")
	if home.ProtoMajor != 2 {
		t.Errorf("HTTP/%d, want HTTP/2", home.ProtoMajor)
	}
	for name, part := range map[string]string{
		"Strict-Transport-Security": "max-age=", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "origin", "Cross-Origin-Opener-Policy": "same-origin", "X-Request-Id": "0",
	} {
		if v := home.Header[http.CanonicalHeaderKey(name)]; len(v) != 1 || !strings.Contains(v[0], part) {
			t.Errorf("%s: %q, want one with %q", name, v, part)
		}
	}
	// The app's own policy stays as it is; ours stands beside it.
	if v := home.Header.Values("Content-Security-Policy"); len(v) != 2 || !strings.Contains(v[0], "frame-ancestors 'none'") || v[1] != "upgrade-insecure-requests" {
		t.Errorf("Content-Security-Policy: %q", v)
	}
	if v := home.Header.Get("Server"); v != "" {
		t.Errorf("Server: %s", v)
	}
	login := s.ask(c, "GET", "/login", "")
	s.want(login, 200, "login page")
	own := []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", s.https, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Referer", s.https + "/login"}
	form := url.Values{"csrf_token": {s.token(login.text)}, "email": {"user@shop.example"}, "password": {password}}
	in := s.ask(c, "POST", "/login", form.Encode(), own...)
	s.want(in, 302, "login")
	session := ""
	for _, ck := range in.Cookies() {
		if strings.Contains(ck.Name, "session") {
			session = ck.Value
			if !ck.Secure || !ck.HttpOnly || ck.SameSite != http.SameSiteLaxMode {
				t.Errorf("session cookie as served: %s", ck.Raw)
			}
		}
	}
	if session == "" {
		t.Errorf("no session cookie: %v", in.Header["Set-Cookie"])
	}
	s.want(s.ask(c, "GET", "/account", ""), 200, "account, signed in")
	s.want(s.ask(c, "GET", "/?q=a+select+union+of+%26+friends%3A+50%25+off", ""), 200, "an honest search")
	s.want(s.ask(c, "GET", "/healthz", ""), 200, "health")

	// Attacks, each with the layer that must stop it.
	forged := []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}
	s.want(s.ask(c, "POST", "/logout", form.Encode(), forged...), 403, "csrf")
	s.want(s.ask(c, "GET", "/?q=1%27%20UNION%20SELECT%20password%20FROM%20users--", ""), 403, "waf: SQL injection")
	s.want(s.ask(c, "GET", "/?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E", ""), 403, "waf: XSS")
	for _, p := range []string{"/console", "/.git/HEAD", "/.env", "/static/shop.db.bak", "/?__debugger__=yes&cmd=resource&f=style.css"} {
		s.want(s.ask(c, "GET", p, ""), 404, "never-public")
	}
	s.want(s.ask(c, "GET", "/static/..%2f..%2fwsgi.py", ""), 400, "path trick")
	s.want(s.ask(c, "TRACE", "/", ""), 405, "method")
	s.want(s.ask(c, "POST", "/login", strings.Repeat("a", 12<<20), own...), 413, "body too large")
	s.want(s.ask(c, "GET", s.http+"/account?x=1", ""), 308, "HTTP to HTTPS")
	s.want(s.ask(c, "POST", "/login", "{", "Content-Type", "application/json", "Content-Encoding", "gzip", "Origin", s.https, "Sec-Fetch-Site", "same-origin"), 415, "compressed body")
	page := s.ask(c, "GET", "/.git/config", "", "Accept", "application/json")
	var problem map[string]any
	if err := json.Unmarshal([]byte(page.text), &problem); err != nil || problem["request_id"] == "" || page.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("error for a program: %v %s", err, page.text)
	}

	// Secrets in every place where people and apps put them.
	secrets := map[string]string{
		"SECRET_KEY": key, "password": password, "session cookie": session,
		"query token": "e2eQueryToken0123456789", "bearer": "e2eBearer.0123456789abcdefXYZ", "basic": "a2ltOmUyZS1iYXNpYy1zZWNyZXQ=",
		"card": "4242424242424242", "wrong password": "e2e-wrong-password", "api key": "e2e-api-key-99", "reset link": "E2eResetLinkToken0123456789AbCd",
		"csrf token": form.Get("csrf_token"),
	}
	s.ask(c, "GET", "/?token="+secrets["query token"]+"&card="+secrets["card"], "", "Authorization", "Bearer "+secrets["bearer"])
	s.ask(c, "GET", "/api/products?api_key="+secrets["api key"]+"&q=%27%20OR%201=1--", "", "Authorization", "Basic "+secrets["basic"], "X-Api-Key", secrets["api key"])
	s.ask(c, "GET", "/reset/"+secrets["reset link"], "")
	s.ask(c, "GET", "/?pan=4242+4242+4242+4242", "")
	wrong := url.Values{"csrf_token": {s.token(s.ask(s.client(), "GET", "/login", "").text)}, "email": {"user@shop.example"}, "password": {secrets["wrong password"] + "' UNION SELECT 1--"}}
	s.ask(s.client(), "POST", "/login", wrong.Encode(), own...)

	// A client that sends half a request and goes.
	half, err := tls.Dial("tcp", strings.TrimPrefix(s.https, "https://"), &tls.Config{RootCAs: s.ca})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(half, "POST /login HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nhalf", strings.TrimPrefix(s.https, "https://"))
	half.Close()

	// The checklist of the whole: every face spoke.
	var out, errs bytes.Buffer
	code := execute(t.Context(), []string{"check", s.dir, "--profile", "production", "--url", s.https, "--ca", s.cert, "--format", "json"}, s.environ, nil, &out, &errs)
	if code != exitOK && code != exitFindings {
		t.Fatalf("dewar check ended with %d: %s", code, &errs)
	}
	var list struct {
		Controls []struct {
			ID, Status, Because string
			Faces               []struct{ Face, State string }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	state := map[string]string{}
	for _, row := range list.Controls {
		for _, f := range row.Faces {
			state[row.ID+"/"+f.Face] = f.State
		}
		if row.Status == "failed" {
			t.Errorf("%s failed: %s", row.ID, row.Because)
		}
	}
	for _, want := range []string{"settings/audit", "settings/guard", "settings/probe", "csrf/audit", "csrf/guard", "csrf/probe", "headers/guard", "headers/probe", "session/audit", "session/guard", "deployment/guard", "deployment/probe", "monitoring/guard", "abuse/guard"} {
		if state[want] != "pass" {
			t.Errorf("%s: %q, want pass", want, state[want])
		}
	}

	if code := s.stop(); code != exitOK {
		t.Errorf("dewar run ended with %d", code)
	}
	if left := processesOf(t, "unix:"); len(left) > 0 {
		t.Errorf("left running: %q", left)
	}

	// Nothing secret in the log, and nothing lost.
	events, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []struct{ name, text string }{{"security log", string(events)}, {"terminal", s.out.String()}, {"checklist", out.String()}} {
		for what, secret := range secrets {
			if secret != "" && strings.Contains(text.text, secret) {
				t.Errorf("the %s holds the %s: %s", text.name, what, around(text.text, secret))
			}
		}
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(events)) {
		var e struct {
			Name   string `json:"event.name"`
			Layer  string `json:"dewar.layer"`
			Reason string `json:"dewar.reason"`
			ID     string `json:"id"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Name == "" || len(e.ID) != 26 {
			t.Fatalf("a line that is no event: %v %s", err, line)
		}
		seen[e.Layer]++
		seen[e.Name]++
	}
	for _, layer := range []string{"csrf", "waf", "never-public", "request", "body", "https", "sys_startup", "sys_shutdown", "http_request"} {
		if seen[layer] == 0 {
			t.Errorf("no event of %s in the log: %v", layer, seen)
		}
	}
	if seen["dewar_gap"] > 0 {
		t.Error("events were lost")
	}
}

func around(text, part string) string {
	i := strings.Index(text, part)
	return text[max(0, i-120):min(len(text), i+len(part)+60)]
}

// processesOf returns the command lines of gunicorns whose parent is this
// process or gone, as /proc has them.
func processesOf(t *testing.T, part string) []string {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		cmd := strings.ReplaceAll(string(b), "\x00", " ")
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(d), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if err != nil || !strings.Contains(cmd, "gunicorn") || !strings.Contains(cmd, part) || len(fields) < 2 {
			continue
		}
		if fields[1] == fmt.Sprint(os.Getpid()) || fields[1] == "1" {
			out = append(out, cmd)
		}
	}
	return out
}

// TestForgedHeaders: what a client writes about itself, its path and its user
// never reaches the app, by whatever spelling.
func TestForgedHeaders(t *testing.T) {
	s := start(t, "testdata/echo", []string{"SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c"})
	c := s.client()
	raw := func(path string, header ...string) map[string]string {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.https, "https://"), &tls.Config{RootCAs: s.ca, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nConnection: close\r\n%s\r\n\r\n", path, strings.TrimPrefix(s.https, "https://"), strings.Join(header, "\r\n"))
		b, _ := io.ReadAll(conn)
		_, body, _ := strings.Cut(string(b), "\r\n\r\n")
		env := map[string]string{}
		if i, j := strings.IndexByte(body, '{'), strings.LastIndexByte(body, '}'); i >= 0 && j > i {
			if err := json.Unmarshal([]byte(body[i:j+1]), &env); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
		} else {
			t.Fatalf("no environment in: %s", b)
		}
		return env
	}
	env := raw("/foo/admin?a=1;b=2&c=%zz&d", "SCRIPT_NAME: /foo", "Script-Name: /foo", "PATH_INFO: /admin", "Path-Info: /admin",
		"X_Auth_User: evil", "X-Auth-User: evil", "X_Forwarded_For: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example",
		"Forwarded: for=6.6.6.6", "X-Real-Ip: 6.6.6.6", "Remote-User: root", "Remote_User: root", "X-Original-Url: /admin", "X-Rewrite-Url: /admin",
		"X-Http-Method-Override: DELETE", "Proxy: http://evil.example", "X-Forwarded-Prefix: /foo", "X-Forwarded-Ssl: off", "X-Request-Id: evil", "Honest-Header: stays")
	if env["PATH_INFO"] != "/foo/admin" || env["SCRIPT_NAME"] != "" {
		t.Errorf("PATH_INFO %q, SCRIPT_NAME %q: the path can be forged", env["PATH_INFO"], env["SCRIPT_NAME"])
	}
	if env["QUERY_STRING"] != "a=1;b=2&c=%zz&d" {
		t.Errorf("the app got the query %q", env["QUERY_STRING"])
	}
	if env["wsgi.url_scheme"] != "https" || env["HTTP_X_FORWARDED_PROTO"] != "https" || env["HTTP_X_FORWARDED_FOR"] != "127.0.0.1" {
		t.Errorf("scheme %q, proto %q, for %q", env["wsgi.url_scheme"], env["HTTP_X_FORWARDED_PROTO"], env["HTTP_X_FORWARDED_FOR"])
	}
	if env["HTTP_HONEST_HEADER"] != "stays" {
		t.Error("an honest header was taken away")
	}
	if len(env["HTTP_X_REQUEST_ID"]) != 26 {
		t.Errorf("request id %q", env["HTTP_X_REQUEST_ID"])
	}
	for k, v := range env {
		if strings.Contains(v, "evil") || strings.Contains(v, "6.6.6.6") || v == "root" || strings.HasPrefix(k, "HTTP_SCRIPT") || strings.HasPrefix(k, "HTTP_PATH") || k == "HTTP_PROXY" {
			t.Errorf("%s=%q reached the app", k, v)
		}
	}

	// The answer's way.
	a := s.ask(c, "GET", "/cookie", "")
	want := []string{"__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax", "theme=dark; Path=/; Partitioned; Future=1; Secure; SameSite=Lax"}
	for i, got := range a.Header["Set-Cookie"] {
		if strings.Contains(got, "session=x") {
			t.Errorf("the session is not sealed: %q", got)
		}
		for part := range strings.SplitSeq(want[min(i, 1)], "; ") {
			if strings.Count(got, part) != 1 {
				t.Errorf("cookie %q: %q stands there %d times", got, part, strings.Count(got, part))
			}
		}
	}
	if len(a.Header["Set-Cookie"]) != 2 {
		t.Errorf("cookies %q", a.Header["Set-Cookie"])
	}
	if st := s.ask(c, "GET", "/stream", ""); st.text != "data: 0\n\ndata: 1\n\ndata: 2\n\n" {
		t.Errorf("event stream: %q", st.text)
	}
}

// TestMaskAndOverrides: tracebacks are replaced, observing lets pass, and a
// route can be different.
func TestMaskAndOverrides(t *testing.T) {
	real(t)
	dir := t.TempDir()
	app, err := os.ReadFile("testdata/echo/app.py")
	if err != nil {
		t.Fatal(err)
	}
	settings := `
[settings]
mask = "enforce"
[[route]]
path = "/hooks/**"
methods = ["POST"]
reason = "the payment provider signs its own requests"
modes = { csrf = "off", waf = "observe" }
rate = "3/m"
[[route]]
path = "/big"
reason = "imports"
max-body = "15 MB"
`
	for name, text := range map[string]string{"app.py": string(app), "dewar.toml": settings} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, dir, []string{"SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c"})
	c := s.client()
	crash := s.ask(c, "GET", "/crash", "", "Accept", "text/html")
	s.want(crash, 500, "traceback")
	if strings.Contains(crash.text, "Traceback") || strings.Contains(crash.text, "hunter2") || crash.Header.Get("Server") != "" {
		t.Errorf("a traceback got out: %v %s", crash.Header, crash.text)
	}
	forged := []string{"Content-Type", "text/plain", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Cookie", "session=x"}
	s.want(s.ask(c, "POST", "/elsewhere", "x", forged...), 403, "csrf elsewhere")
	s.want(s.ask(c, "POST", "/hooks/pay", "x", forged...), 200, "csrf off on the route")
	s.want(s.ask(c, "POST", "/hooks/pay?q=1%27%20UNION%20SELECT%20password%20FROM%20users--", "x", forged...), 200, "waf observes on the route")
	s.want(s.ask(c, "POST", "/hooks/pay", "x", forged...), 200, "third")
	limited := s.ask(c, "POST", "/hooks/pay", "x", forged...)
	s.want(limited, 429, "rate of the route")
	if limited.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	s.want(s.ask(c, "POST", "/big", strings.Repeat("\x00\x01", 6<<20), "Content-Type", "application/octet-stream", "Origin", s.https), 200, "a big body where it is allowed")
	s.want(s.ask(c, "POST", "/small", strings.Repeat("\x00\x01", 6<<20), "Content-Type", "application/octet-stream", "Origin", s.https), 413, "a big body elsewhere")
	s.stop()
	events, _ := os.ReadFile(s.log)
	if !strings.Contains(string(events), `"dewar.verdict":"observe"`) || !strings.Contains(string(events), "mask-traceback") {
		t.Errorf("the log does not tell:\n%s", events)
	}
}

// TestRefusals: what must not start does not start, and says why in one
// message.
func TestRefusals(t *testing.T) {
	root := real(t)
	echo, err := os.ReadFile("testdata/echo/app.py")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	werkzeug := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server", "Werkzeug/3.1.9 Python/3.11.7") }))
	defer werkzeug.Close()
	good := "SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c"
	tests := []struct {
		name    string
		files   map[string]string
		environ []string
		args    []string
		want    []string
	}{
		{"debug mode in production", map[string]string{"app.py": string(echo) + "\napp.debug = True\n"}, []string{good}, nil, []string{"refusing to start in profile production", "debug-off", "fix:"}},
		{"a weak key in production", map[string]string{"app.py": string(echo)}, []string{"SECRET_KEY=dev"}, nil, []string{"refusing to start", "secret-key"}},
		{"an import error", map[string]string{"app.py": "from flask import Flask\nimport fnord\napp = Flask(__name__)\n"}, nil, []string{"--profile", "development"}, []string{"fnord", "app.py", "line 2"}},
		{"no app", map[string]string{"readme.txt": "nothing"}, nil, []string{"--profile", "development"}, []string{"no Flask app found", "--app"}},
		{"no certificate in production", map[string]string{"app.py": string(echo)}, []string{good}, []string{"--set", "deployment.certificate="}, []string{"certificate"}},
		{"unreachable upstream", map[string]string{}, nil, []string{"--profile", "development", "--upstream", "ftp://x"}, []string{"app.upstream", "ftp://x"}},
		{"a development server as upstream", map[string]string{}, nil, []string{"--upstream", werkzeug.URL}, []string{"refusing to start", "not-development-server", "Werkzeug"}},
		// gevent itself is not among the tests' packages: what it tells of itself is.
		{"patched threads under gthread", map[string]string{"app.py": "import sys, types\nm = types.ModuleType('gevent.monkey')\nm.is_module_patched = lambda name: name == 'threading'\nsys.modules['gevent.monkey'] = m\n" + string(echo)}, []string{good}, []string{"--profile", "development"}, []string{"refusing to start", "worker-class", "gevent", "class gthread", "gunicorn.conf.py"}},
		{"unknown key", map[string]string{"app.py": string(echo), "dewar.toml": "[csrf]\nmod = 1\n"}, []string{good}, nil, []string{"dewar.toml:2", "csrf.mode"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, work := t.TempDir(), t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ports := freePorts(t, 2)
			environ := append([]string{"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"), "HOME=" + work,
				"XDG_DATA_HOME=" + work, "TMPDIR=" + work}, tt.environ...)
			args := append([]string{"run", dir, "--set", "deployment.listen=127.0.0.1:" + ports[0], "--set", "deployment.listen-http=127.0.0.1:" + ports[1], "--set", "deployment.console=",
				"--set", "deployment.certificate=" + cert, "--set", "deployment.key=" + key}, tt.args...)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			out := &buffer{}
			if code := execute(ctx, args, environ, strings.NewReader(""), out, out); code != exitError {
				t.Errorf("ended with %d, want %d", code, exitError)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in:\n%s", w, out)
				}
			}
		})
	}
}

// selfSigned writes a certificate for localhost and returns its files.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestDevelopmentRelaxesAndSaysSo: what production refuses starts in
// development, with a warning, and the checklist still says that it is broken.
func TestDevelopmentRelaxesAndSaysSo(t *testing.T) {
	s := start(t, "testdata/echo", []string{"SECRET_KEY=dev"}, "--profile", "development", "--set", "deployment.tls=files")
	s.want(s.ask(s.client(), "GET", "/", ""), 200, "home")
	if out := s.out.String(); !strings.Contains(out, "relaxed") || !strings.Contains(out, "secret-key") {
		t.Errorf("nothing says what was relaxed:\n%s", out)
	}
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"check", "testdata/echo", "--profile", "development"}, s.environ, nil, &out, &errs); code != exitFindings {
		t.Errorf("dewar check ended with %d: %s", code, &errs)
	}
	if !strings.Contains(out.String(), "✗ failed         secrets") {
		t.Errorf("a weak key is no failure:\n%s", &out)
	}
}

// TestUpstream: an app that something else runs is guarded, too; one that is
// not there is said to be missing, and readiness waits for it.
func TestUpstream(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "up ", r.URL.Path) }))
	defer up.Close()
	s := start(t, t.TempDir(), nil, "--upstream", up.URL)
	if a := s.ask(s.client(), "GET", "/x", ""); a.text != "up /x" {
		t.Errorf("%d %q", a.StatusCode, a.text)
	}
	s.want(s.ask(s.client(), "GET", "/.git/HEAD", ""), 404, "never-public")
	up.Close()
	s.want(s.ask(s.client(), "GET", "/x", ""), 503, "upstream gone")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		res, err := http.Get(s.consoleURL + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusServiceUnavailable {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("still ready without its upstream")
		}
	}
	// What cannot be known about a foreign app is unproven, not fine.
	var out, errs bytes.Buffer
	execute(t.Context(), []string{"check", s.dir, "--all"}, s.environ, nil, &out, &errs)
	if !strings.Contains(out.String(), "preflight debug-off could not look") {
		t.Errorf("an upstream's debug mode is said to be known:\n%s%s", &out, &errs)
	}
}
