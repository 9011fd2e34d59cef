package attack

import (
	"bufio"
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
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
)

// root is the repository, dewar the binary that the tests run.
var root, dewar string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if root, err = filepath.Abs("../.."); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if _, err := os.Stat(filepath.Join(root, ".venv", "bin", "gunicorn")); err != nil {
			if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
				fmt.Fprintln(os.Stderr, "the virtual environment is missing: make venv")
				return 1
			}
			fmt.Println("SKIPPED, NOTHING WAS ATTACKED: needs real Flask and gunicorn: make venv")
			return 0
		}
		dir, err := os.MkdirTemp("", "dewar-attack-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		dewar = filepath.Join(dir, "dewar")
		build := exec.Command("go", "build", "-trimpath", "-o", dewar, "./cmd/dewar")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// target is an app that can be attacked.
type target struct {
	t testing.TB
	// url is its origin, without a slash at the end.
	url string
	// guarded says whether Dewar stands before it.
	guarded bool
	// work is a folder that the app can write to.
	work string
	ca   *x509.CertPool
	log  string // the guard's security log
	dir  string // the project
	env  []string
	out  *output
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer
	done chan struct{} // closed when the process has ended
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func freePort(t testing.TB) string { return fmt.Sprint(freeport.Take(t)) }

// run starts a process that the test ends.
func run(t testing.TB, dir string, env []string, name string, args ...string) *output {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out := &output{done: make(chan struct{})}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := out.done
	go func() { _ = c.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Errorf("%s did not end", name)
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if t.Failed() {
			t.Logf("%s said:\n%.6000s", filepath.Base(name), out)
		}
	})
	return out
}

// project copies an example, so that what attacks leave behind goes with the
// test.
func project(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func environ(t testing.TB, extra ...string) (env []string, work string) {
	t.Helper()
	work = t.TempDir()
	runtime := filepath.Join(work, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	return append([]string{
		"PATH=" + filepath.Join(root, ".venv", "bin") + ":" + os.Getenv("PATH"), "VIRTUAL_ENV=" + filepath.Join(root, ".venv"),
		"HOME=" + work, "XDG_DATA_HOME=" + filepath.Join(work, "data"), "XDG_RUNTIME_DIR=" + runtime, "TMPDIR=" + os.TempDir(),
		"INSTANCE_PATH=" + filepath.Join(work, "instance"), "PYTHONDONTWRITEBYTECODE=1",
	}, extra...), work
}

// bare starts the example under gunicorn alone, on a loopback port.
func bare(t testing.TB, extra ...string) *target {
	t.Helper()
	dir := project(t, "leaky")
	env, work := environ(t, extra...)
	port := freePort(t)
	x := &target{t: t, url: "http://127.0.0.1:" + port, work: work, dir: dir, env: env}
	x.out = run(t, dir, env, filepath.Join(root, ".venv", "bin", "gunicorn"), "--bind", "127.0.0.1:"+port, "--limit-request-line", "0", "--worker-class", "gthread", "--threads", "4", "wsgi:app")
	x.ready(x.url + "/healthz")
	return x
}

// look looks at what the binary is made of, so that "go test" does not take a
// result from its cache when any of it has changed: it knows what a test looks
// at, and nothing of a compiler that it runs.
func look(t testing.TB) {
	t.Helper()
	for _, part := range []string{"cmd", "internal", "examples"} {
		if err := filepath.WalkDir(filepath.Join(root, part), func(name string, d os.DirEntry, err error) error {
			switch {
			case err == nil && d.IsDir() && d.Name() == "__pycache__":
				return filepath.SkipDir
			case err == nil && !d.IsDir():
				_, err = os.Stat(name)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// guarded starts the same behind Dewar, with settings in TOML.
func guarded(t testing.TB, settings string, extra ...string) *target {
	t.Helper()
	look(t)
	dir := project(t, "leaky")
	env, work := environ(t, extra...)
	port, console := freePort(t), freePort(t)
	cert, key, pool := certificate(t, work)
	x := &target{t: t, url: "https://localhost:" + port, guarded: true, work: work, dir: dir, env: env, ca: pool, log: filepath.Join(work, "events.jsonl")}
	head := fmt.Sprintf("profile = \"development\"\n[app]\ntarget = \"wsgi:app\"\n[deployment]\nlisten = [\"127.0.0.1:%s\"]\nlisten-http = []\ntls = \"files\"\ncertificate = %q\nkey = %q\nconsole = \"127.0.0.1:%s\"\ngrace = \"3s\"\n[monitoring]\nlog = %q\nrequests = true\n",
		port, cert, key, console, x.log)
	if err := os.WriteFile(filepath.Join(dir, "dewar.toml"), []byte(head+settings), 0o600); err != nil {
		t.Fatal(err)
	}
	x.out = run(t, dir, env, dewar, "run", dir)
	x.ready("http://127.0.0.1:" + console + "/readyz")
	return x
}

func (x *target) ready(address string) {
	x.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		q, _ := http.NewRequestWithContext(ctx, "GET", address, nil)
		res, err := http.DefaultClient.Do(q)
		if err == nil {
			res.Body.Close()
		}
		cancel()
		if err == nil && res.StatusCode == 200 {
			return
		}
		select {
		case <-x.out.done:
			x.t.Fatal("it ended") // what it said is told at the end
		default:
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("not ready:\n%s", x.out)
		}
	}
}

func certificate(t testing.TB, dir string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(chain)
	return cert, key, pool
}

// browser is a client that keeps cookies and speaks as a browser does.
type browser struct {
	x    *target
	http *http.Client
	jar  *cookiejar.Jar
}

func (x *target) browser() *browser {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x.ca}, ForceAttemptHTTP2: true}
	x.t.Cleanup(tr.CloseIdleConnections)
	return &browser{x: x, jar: jar, http: &http.Client{Transport: tr, Jar: jar, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	*http.Response
	text string
}

// do sends a request. Header is names and values by turns; a browser's own
// are added: Origin and Sec-Fetch-Site, unless given.
func (b *browser) do(method, path, body string, header ...string) answer {
	b.x.t.Helper()
	a, err := b.try(method, path, body, header...)
	if err != nil {
		b.x.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (b *browser) try(method, path, body string, header ...string) (answer, error) {
	if !strings.Contains(path, "://") {
		path = b.x.url + path
	}
	q, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header[header[i]] = append(q.Header[header[i]], header[i+1])
	}
	set := func(name, v string) {
		if _, ok := q.Header[name]; !ok {
			q.Header[name] = []string{v}
		}
	}
	set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	set("Sec-Fetch-Site", "same-origin")
	if method != "GET" && method != "HEAD" {
		set("Origin", b.x.url)
		if body != "" {
			set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for name, v := range q.Header {
		if len(v) == 1 && v[0] == "" {
			delete(q.Header, name) // given as empty: not sent
		}
	}
	res, err := b.http.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		return answer{}, err
	}
	return answer{res, string(text)}, nil
}

func (b *browser) get(path string, header ...string) answer {
	b.x.t.Helper()
	return b.do("GET", path, "", header...)
}

// form posts values, given as names and values by turns.
func (b *browser) form(path string, values ...string) answer {
	b.x.t.Helper()
	return b.do("POST", path, query(values...))
}

// query encodes names and values by turns.
func query(values ...string) string {
	var out []string
	for i := 0; i+1 < len(values); i += 2 {
		out = append(out, url.QueryEscape(values[i])+"="+url.QueryEscape(values[i+1]))
	}
	return strings.Join(out, "&")
}

// login logs in as one of leaky's own accounts.
func (b *browser) login(email, password string) answer {
	b.x.t.Helper()
	return b.form("/login", "email", email, "password", password)
}

// cookies returns the cookies that the browser would send to a path.
func (b *browser) cookies(path string) []*http.Cookie {
	u, _ := url.Parse(b.x.url + path)
	return b.jar.Cookies(u)
}

// entry is what the tests need of a line of the security log.
type entry struct {
	ID      string `json:"http.request.id"`
	Name    string `json:"event.name"`
	Layer   string `json:"dewar.layer"`
	Verdict string `json:"dewar.verdict"`
	Reason  string `json:"dewar.reason"`
	Detail  string `json:"dewar.detail"`
	Path    string `json:"url.path"`
}

// events returns the log's lines from an offset on, and where it ends now.
func (x *target) events(from int64) (all []entry, end int64) {
	x.t.Helper()
	f, err := os.Open(x.log)
	if err != nil {
		return nil, from
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		x.t.Fatal(err)
	}
	end = from
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return all, end
		}
		end += int64(len(line))
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			x.t.Fatalf("the log has a line that is no JSON: %v\n%s", err, line)
		}
		all = append(all, e)
	}
}

// attack is one weakness and one way to use it.
type attack struct {
	// weakness names it: CWE and the control that should hold.
	weakness string
	// way says how it is tried.
	way string
	// stoppedBy are the layers one of which must have refused, or, with
	// "changed", a layer that does not refuse but changes what passes.
	stoppedBy []string
	// run attacks, and reports whether it got what it was after.
	run func(t *testing.T, x *target) bool
}

// suite runs attacks against the bare app, where each must succeed, and
// behind the guard, where none may.
func suite(t *testing.T, settings string, env []string, all []attack) {
	t.Helper()
	open := bare(t, env...)
	closed := guarded(t, settings, env...)
	for _, a := range all {
		name := a.weakness + "/" + a.way
		t.Run("bare/"+name, func(t *testing.T) {
			open.t = t
			if !a.run(t, open) {
				t.Error("the attack does not work on the bare app: it shows nothing")
			}
		})
		t.Run("guarded/"+name, func(t *testing.T) {
			closed.t = t
			_, from := closed.events(0)
			if a.run(t, closed) {
				t.Error("the attack works behind the guard")
			}
			if slices.Contains(a.stoppedBy, "changed") {
				return
			}
			var seen []string
			for range 1000 {
				all, _ := closed.events(from)
				seen = seen[:0]
				for _, e := range all {
					// The session layer refuses nothing: it keeps a cookie
					// from the app, and says why.
					if (e.Verdict == "deny" || e.Verdict == "note" && e.Reason != "") && slices.Contains(a.stoppedBy, e.Layer) {
						return
					}
					seen = append(seen, fmt.Sprintf("%s %s %s %s %s", e.Path, e.Verdict, e.Layer, e.Reason, e.Detail))
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Errorf("no layer of %v refused; the log says:\n%s", a.stoppedBy, strings.Join(seen, "\n"))
		})
	}
	open.t, closed.t = t, t
}
