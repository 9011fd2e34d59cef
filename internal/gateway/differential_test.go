package gateway

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/guard"
)

// hostile makes requests from a grammar of what clients and attackers send.
// The same seed makes the same requests.
type hostile struct{ *rand.Rand }

func (h hostile) one(of ...string) string { return of[h.IntN(len(of))] }

// rarely is one of a few oddities now and then, otherwise usual.
func (h hostile) rarely(percent int, usual string, odd ...string) string {
	if h.IntN(100) < percent {
		return h.one(odd...)
	}
	return usual
}

func (h hostile) path() string {
	var b strings.Builder
	for range 1 + h.IntN(4) {
		b.WriteString(h.rarely(5, "/", "//", "/./", "/../", "/..;/", "/%2e%2e/", "/.%2e/", "/;/", "/...", "%2f", "%5c", "\\", "/%00/", "/%0a", "/\t", "/\x00", "/%c0%ae%c0%ae/", "/%e0%80%af", "/%252e%252e%252f", "/%", "/%zz", "/%u002f", "/\xc3\xa4", "/#", "/ ", "/?#", "http://127.0.0.1/", "*"))
		b.WriteString(h.one("a", "admin", "b.c", "x;y=z", "%C3%A4", "a+b", "a%20b", "%41", "a:b@c", "~u", "!$&'()*,=", "%25", "1", "", "a%2Bb", "[x]", "|", "^`{}", "\"q\""))
	}
	return b.String()
}

func (h hostile) query() string {
	if h.IntN(2) == 0 {
		return ""
	}
	q := "?"
	for range h.IntN(4) {
		q += h.one("a=1", "&", ";", "b=%zz", "c", "=d", "e=%00", "f=a%2Fb", "g=http://x/?y#", "h=a b", "i=\xe4", "j=%C3%A4", "?", "k[]=1", "l=\"<>\"", "%", "+")
	}
	return q
}

func (h hostile) target() string {
	t := h.path() + h.query()
	return h.rarely(4, t, "http://127.0.0.1"+t, "http://127.0.0.1", "http://other"+t, "HTTP://127.0.0.1/", "*", "127.0.0.1:80", "ftp://127.0.0.1/", "/"+strings.Repeat("a", 9000), "", "//127.0.0.1/x", "http://u@127.0.0.1/")
}

func (h hostile) field() string {
	return h.rarely(12, h.one(
		"Accept: text/html, */*;q=0.1", "X-Thing: a", "X-Thing: b", "x-thing:c", "X-Empty:", "X-Spaces:  \t a b \t ", "Cookie: a=b; c=d", "Cookie: e=f",
		"User-Agent: test/1 (x; y)", "Referer: http://127.0.0.1/?a=b", "X-Latin: \xe4\xf6", "X-Utf: \xc3\xa4", "X-Odd!#$%&'*+.^`|~: v", "Accept-Encoding: gzip, br",
		"X-Quoted: \"a, b\"", "If-None-Match: \"x\"", "Authorization: Basic eDp5", "Content-Language: de", "X-Colon: a:b:c", "Range: bytes=0-1", "Via: 1.1 x"),
		"X_Forwarded_For: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X_Forwarded_Proto: https", "Forwarded: for=6.6.6.6;proto=https", "SCRIPT_NAME: /admin", "Script-Name: /admin", "PATH_INFO: /admin",
		"Remote-User: root", "REMOTE_USER: root", "Proxy: http://6.6.6.6", "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-HTTP-Method-Override: DELETE",
		"Connection: X-Forwarded-For, Cookie", "Connection: close, Host", "Keep-Alive: 5", "TE: trailers", "TE: chunked", "Trailer: X-Thing", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMAAABkAAQAAP__",
		"Expect: 100-continue", "Expect: 200", "Content_Length: 7", "Transfer_Encoding: chunked", "Content-Length : 7", "Transfer-Encoding : chunked", "Transfer-Encoding\x0b: chunked", "X\x00: a", "X Y: a", " X: a", "\tX: a", ": a", "X", "X: a\r\n folded",
		"X: a\x00b", "X: a\x01b", "X: a\rb", "X: a\nContent-Length: 7", "X: a\r\r", "X-Long: "+strings.Repeat("a", 9000), "Content-Type: a/b", "Content-Type: c/d", "Host: other", "host: 127.0.0.1", "H\xf6st: other", "Content-Encoding: gzip",
		"X-Smuggle: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: 127.0.0.1", "Origin: null", "User-Agent: again", "Authorization: again", "Range: bytes="+strings.Repeat("0-1,", 50)+"0-1")
}

// body returns the fields that frame a body, and the body.
func (h hostile) body() (fields []string, body string) {
	text := h.one("", "x", "a=1&b=2", "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "0\r\n\r\n", "\x00\r\n\xff", strings.Repeat("long ", 5000))
	length := "Content-Length: " + strconv.Itoa(len(text))
	chunked := func() string {
		var b strings.Builder
		rest := text
		for rest != "" {
			n := min(1+h.IntN(20000), len(rest))
			size := strconv.FormatInt(int64(n), 16)
			b.WriteString(h.rarely(6, size, "0"+size, strings.ToUpper(size), size+";a=b", size+";a=\"b;c\"", size+" ;x", "0x"+size, "+"+size, " "+size, size+" ", size+";a\rb", size+";\n", strings.Repeat("0", 20)+size, "-"+size, size+"g", "", "ffffffffffffffff", size+";"+strings.Repeat("x", 400)))
			b.WriteString(h.rarely(3, "\r\n", "\n", "\r", "\r\r\n", "", "\n\r\n"))
			b.WriteString(rest[:n])
			b.WriteString(h.rarely(3, "\r\n", "\n", "", "\r\n\r\n", "x\r\n", "\r"))
			rest = rest[n:]
		}
		b.WriteString(h.rarely(5, "0", "00", "0;a", "", "0x0", "-0", "000000000000000000"))
		b.WriteString(h.rarely(3, "\r\n", "\n", ""))
		b.WriteString(h.rarely(12, "", "X-Trailer: a\r\n", "X-Forwarded-For: 6.6.6.6\r\n", "Content-Length: 7\r\n", "folded\r\n", "X: a\n", "Host: other\r\n"))
		b.WriteString(h.rarely(3, "\r\n", "\n", ""))
		return b.String()
	}
	switch n := h.IntN(100); {
	case n < 35:
		return nil, h.rarely(4, "", "x", "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	case n < 60:
		return []string{length}, text
	case n < 80:
		return []string{"Transfer-Encoding: chunked"}, chunked()
	}
	te := h.one("Transfer-Encoding: chunked", "transfer-encoding: Chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;x", "Transfer-Encoding:", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunk\xe9d")
	cl := "Content-Length: " + h.one("+"+strconv.Itoa(len(text)), "-1", "0x5", "1_0", "1e1", "5, 5", "5,6", " 5", "5 ", "005", "", "99999999999999999999", strconv.Itoa(len(text)+5), strconv.Itoa(max(0, len(text)-1)), "5\x00", "٥")
	switch h.IntN(5) {
	case 0:
		return []string{te}, chunked()
	case 1:
		return []string{cl}, text
	case 2:
		return []string{length, length}, text
	case 3:
		return []string{length, te}, chunked()
	}
	return []string{te, cl}, chunked()
}

func (h hostile) request() string {
	fields, body := h.body()
	method := h.rarely(5, h.one("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"), "TRACE", "CONNECT", "PRI", "get", "G\x00T", "GE T", "POST\t", "FOO", "", "X-Y", strings.Repeat("A", 40))
	line := method + h.rarely(2, " ", "  ", "\t", "\x0b", "\x00", "\r") + h.target() + h.rarely(2, " ", "  ", "\t", "") +
		h.rarely(5, "HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/01.1", "HTTP/1.10", "", "XTTP/1.1")
	fields = append(fields, "Connection: close")
	host := h.rarely(8, "Host: 127.0.0.1", "Host: 127.0.0.1:80", "Host: 127.0.0.1:", "Host: 127.0.0.1:99999", "Host: a b", "Host: a,b", "Host:", "Host: 127.0.0.1/x", "Host: u@127.0.0.1", "Host: [::1]", "Host: 127.0.0.1\r\nHost: 127.0.0.1", "Host: 127.0.0.1\x00", "X-No-Host: 1", "Host : 127.0.0.1", "HOST: 127.0.0.1", "Host: 127.0.0.1.", "Host: \xe4")
	for range h.IntN(5) {
		fields = append(fields, h.field())
	}
	h.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	fields = slices.Insert(fields, h.IntN(len(fields)+1), host)
	raw := h.rarely(1, "", "\r\n", "\n", " ", "\x00") + line + h.rarely(1, "\r\n", "\n", "\r", "\r\r\n", "\n\r")
	for _, f := range fields {
		raw += f + h.rarely(1, "\r\n", "\n", "\r", "\r\r\n", "\r\n\t")
	}
	raw += h.rarely(1, "\r\n", "\n", "\r", "") + body
	if h.IntN(100) < 8 { // and a slip of the finger
		i := h.IntN(min(len(raw), 300))
		c := string([]byte{byte(h.IntN(256))})
		switch h.IntN(3) {
		case 0:
			raw = raw[:i] + c + raw[i:]
		case 1:
			raw = raw[:i] + raw[i+1:]
		default:
			raw = raw[:i] + c + raw[i+1:]
		}
	}
	if h.IntN(100) < 5 { // a second request behind it
		raw += "GET /second HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
	}
	return raw
}

// understood is what Dewar gave to its forwarder.
type understood struct {
	method, path, query, host string
	header                    http.Header
	body                      []byte
}

// watcher keeps what passes, by request id.
type watcher struct {
	guard.Forwarder
	mu   sync.Mutex
	seen map[string]*understood
}

func (w *watcher) wrap(f guard.Forwarder) guard.Forwarder { w.Forwarder = f; return w }

func (w *watcher) Forward(rw http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	b, err := x.Buffer()
	if err != nil {
		return err
	}
	body, err := io.ReadAll(b.Reader())
	if err != nil {
		return err
	}
	r := x.Request
	w.mu.Lock()
	w.seen[x.ID] = &understood{r.Method, x.Path, r.URL.RawQuery, r.Host, r.Header.Clone(), body}
	w.mu.Unlock()
	return w.Forwarder.Forward(rw, x, modify)
}

// answers sends raw and reads the answers, until the connection ends or
// nothing more comes.
func answers(t *testing.T, addr, raw string) (out [][]byte, ids []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go io.WriteString(c, raw)
	br := bufio.NewReader(c)
	for {
		if len(out) > 0 {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return out, ids
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return out, ids
		}
		if res.StatusCode == http.StatusContinue {
			continue
		}
		out = append(out, append([]byte(res.Status[:3]+" "), b...))
		ids = append(ids, res.Header.Get("X-Request-Id"))
	}
}

// backends are the app's servers under test: the names of environments that
// scripts/backends.sh makes, and how each is started.
var backends = []struct {
	name    string
	command func(bin, addr string) []string
}{
	{"gunicorn-20.1.0", gunicornCommand}, {"gunicorn-22.0.0", gunicornCommand}, {"gunicorn-23.0.0", gunicornCommand}, {"gunicorn-27.0.1", gunicornCommand},
	{"uwsgi-2.0.30", func(bin, addr string) []string {
		return []string{bin + "/uwsgi", "--http-socket", addr, "--wsgi", "recorder:application", "--buffer-size", "65535", "--disable-logging", "--need-app"}
	}},
	{"waitress-3.0.2", func(bin, addr string) []string {
		return []string{bin + "/waitress-serve", "--listen=" + addr, "--threads=1", "--no-clear-untrusted-proxy-headers", "recorder:application"}
	}},
}

func gunicornCommand(bin, addr string) []string {
	return []string{bin + "/python", "-m", "gunicorn", "--bind", addr, "--workers", "1", "--keep-alive", "5", "recorder:application"}
}

// startBackend starts one of them and returns its address.
func startBackend(t *testing.T, name string, command func(bin, addr string) []string) string {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/backends/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/bin"); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatalf("needs scripts/backends.sh: %v", err)
		}
		t.Skipf("SKIPPED: needs scripts/backends.sh (%v)", err)
	}
	addr := fmt.Sprint("127.0.0.1:", freeport.Take(t))
	args := command(dir+"/bin", addr)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = "testdata/backends", append(cleanEnviron(t), "PYTHONDONTWRITEBYTECODE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s", log.Bytes()[:min(log.Len(), 4000)])
		}
	})
	up := false
	<-waitFor(func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			up = true
		}
		return up
	})
	if !up {
		t.Fatalf("%s does not listen: %s", name, log.Bytes())
	}
	return addr
}

// differentialRequests is how many requests are made for each server;
// DEWAR_DIFFERENTIAL names another number, DEWAR_SEED another seed.
func differentialRequests() (n int, seed uint64) {
	n, seed = 1200, 1
	if testing.Short() {
		n = 200
	}
	if v, err := strconv.Atoi(os.Getenv("DEWAR_DIFFERENTIAL")); err == nil {
		n = v
	}
	if v, err := strconv.ParseUint(os.Getenv("DEWAR_SEED"), 10, 64); err == nil {
		seed = v
	}
	return n, seed
}

// TestDifferential: what Dewar understood of a request is what the app's
// server behind it understood, to the byte, or the server never heard of it.
func TestDifferential(t *testing.T) {
	for _, back := range backends {
		t.Run(back.name, func(t *testing.T) {
			t.Parallel()
			differential(t, back.name, back.command, guard.Enforce)
		})
	}
	// A layer that only observes lets more pass, and still nothing that
	// Dewar's own server reads otherwise.
	for _, back := range backends[:4] {
		t.Run(back.name+"/observe", func(t *testing.T) {
			t.Parallel()
			differential(t, back.name, back.command, guard.Observe)
		})
	}
}

func differential(t *testing.T, name string, command func(bin, addr string) []string, mode guard.Mode) {
	n, seed := differentialRequests()
	if mode != guard.Enforce {
		n /= 3
	}
	addr := startBackend(t, name, command)
	cfg := testConfig()
	cfg.Methods = []string{"GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
	cfg.HeaderTimeout, cfg.BodyTimeout = seconds(1), seconds(1)
	w := &watcher{seen: map[string]*understood{}}
	r := start(t, Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: "http://" + addr, Environ: cleanEnviron(t), Handler: layered(t, cfg, mode, &events{}, w.wrap)})
	front := strings.TrimPrefix(r.url, "http://")

	var mu sync.Mutex
	passed, refused, silent, last := 0, 0, 0, 0
	var first theirView // the server has been asked before, at the start
	got, _ := answers(t, front, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
	if len(got) != 1 || json.Unmarshal(got[0][4:], &first) != nil {
		t.Fatalf("%q", got)
	}
	clear(w.seen)
	work := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for raw := range work {
				got, ids := answers(t, front, raw)
				mu.Lock()
				if len(got) == 0 {
					silent++
				}
				for i, b := range got {
					w.mu.Lock()
					dewar := w.seen[ids[i]]
					delete(w.seen, ids[i])
					w.mu.Unlock()
					if dewar == nil {
						refused++
						if b[0] != '4' && b[0] != '5' {
							t.Errorf("%q\nwas answered %.100s, and never forwarded", raw, b)
						}
						continue
					}
					if mode != guard.Enforce && b[0] == '4' {
						refused++ // by the server itself: as good
						continue
					}
					passed++
					var theirs theirView
					if err := json.Unmarshal(b[4:], &theirs); err != nil {
						t.Errorf("%q\nDewar passed it on, and the server says %.200s", raw, b)
						continue
					}
					last = max(last, theirs.N)
					for _, d := range theirs.differences(dewar) {
						t.Errorf("%.2000q\n%s", raw, d)
					}
				}
				mu.Unlock()
			}
		})
	}
	h := hostile{rand.New(rand.NewPCG(seed, 0))}
	for range n {
		work <- h.request()
	}
	close(work)
	wg.Wait()
	w.mu.Lock()
	lost := len(w.seen) // forwarded, and the client saw no answer
	w.mu.Unlock()
	if first.N+passed != last && lost == 0 {
		t.Errorf("Dewar passed %d requests on, the server saw %d", passed, last-first.N)
	}
	if passed < n/6 || refused < n/6 {
		t.Errorf("the requests are one-sided: %d passed, %d refused", passed, refused)
	}
	t.Logf("%d requests: %d passed and understood alike, %d refused, %d without an answer, %d answers lost", n, passed, refused, silent, lost)
}

// theirView is what recorder.py answers.
type theirView struct {
	N                                                 int
	Method, Script, Path, Query, Scheme, Length, Type string
	Headers                                           map[string]string
	Body                                              string
}

func (v *theirView) differences(d *understood) (out []string) {
	differ := func(what string, theirs, ours any) {
		if theirs != ours {
			out = append(out, fmt.Sprintf("%s: the server has %.300q, Dewar %.300q", what, theirs, ours))
		}
	}
	text := func(s string) string { b, _ := hex.DecodeString(s); return string(b) }
	differ("method", v.Method, d.method)
	differ("script name", v.Script, "")
	differ("path", text(v.Path), d.path)
	differ("query", text(v.Query), d.query)
	differ("scheme", v.Scheme, "http")
	differ("body", text(v.Body), string(d.body))
	if v.Length != "" || len(d.body) > 0 {
		differ("length", v.Length, strconv.Itoa(len(d.body)))
	}
	want := map[string]string{"HOST": d.host}
	for name, values := range d.header {
		name = strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if name == "CONTENT_TYPE" {
			differ("type", v.Type, oneLine(values))
			continue
		}
		if name != "CONTENT_LENGTH" && len(values) > 0 {
			want[name] = oneLine(values)
		}
	}
	delete(v.Headers, "CONNECTION") // between Dewar and the server
	for name := range v.Headers {
		if _, ok := want[name]; !ok {
			differ("header "+name, text(v.Headers[name]), "")
		}
	}
	for name, value := range want {
		got, ok := v.Headers[name]
		if !ok {
			got = hex.EncodeToString([]byte("nothing"))
		}
		differ("header "+name, text(got), value)
	}
	return out
}

// oneLine is how a field with several lines goes to the server.
func oneLine(values []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" }), ", ")
}

// TestRefusedByTheByte: of a generated request that was not passed on, not one
// byte reached the app's server.
func TestRefusedByTheByte(t *testing.T) {
	n, seed := differentialRequests()
	rec := newRecorder(t)
	cfg := testConfig()
	cfg.HeaderTimeout, cfg.BodyTimeout = seconds(1), seconds(1)
	w := &watcher{seen: map[string]*understood{}}
	r := start(t, Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: "http://" + rec.ln.Addr().String(), Environ: cleanEnviron(t), Handler: layered(t, cfg, guard.Enforce, &events{}, w.wrap)})
	front := strings.TrimPrefix(r.url, "http://")
	time.Sleep(50 * time.Millisecond)
	rec.take()
	h := hostile{rand.New(rand.NewPCG(seed, 1))}
	refused := 0
	for range n {
		raw := h.request()
		answers(t, front, raw)
		conns, got := rec.take()
		w.mu.Lock()
		passed := len(w.seen)
		clear(w.seen)
		w.mu.Unlock()
		if passed > 0 {
			// What the server has not read yet is not the next one's.
			for range 100 {
				time.Sleep(5 * time.Millisecond)
				if _, late := rec.take(); late == "" {
					break
				}
			}
			continue
		}
		refused++
		if got != "" { // a connection without a byte is that of Forwarder.watch
			t.Errorf("%.2000q\nwas refused, and %d connections and %q reached the server", raw, conns, got)
		}
	}
	if refused < n/5 {
		t.Errorf("only %d of %d were refused", refused, n)
	}
	t.Logf("%d of %d requests refused, not a byte of them passed", refused, n)
}
