package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

const token = "test-token-0123456789"

func open(t *testing.T, o Options) *Server {
	t.Helper()
	o.Token = token
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	s, err := Listen(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Actor().Run(context.Background()) }()
	t.Cleanup(func() {
		s.Actor().Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func ask(t *testing.T, s *Server, method, path string, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	q, err := http.NewRequest(method, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(q)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res, string(b)
}

func full() Options {
	return Options{
		Checklist: func(context.Context) (any, error) { return map[string]string{"check": "list"}, nil },
		Evidence:  func(context.Context) (any, error) { return nil, errors.New("no evidence today") },
		Events: func(n int) []event.Event {
			if n > 2 {
				return nil
			}
			return make([]event.Event, n)
		},
		Operate: func(_ context.Context, command string, args map[string]string) (any, error) {
			switch command {
			case "ban add":
				return struct {
					Command string            `json:"command"`
					Args    map[string]string `json:"args"`
				}{command, args}, nil
			case "ban lift":
				return nil, errors.New("no address")
			}
			return nil, guard.ErrNoCommand
		},
		Metrics: NewMetrics("test", nil, nil),
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := open(t, full())
	with := func(name, v string) func(*http.Request) {
		return func(r *http.Request) {
			if name == "Host" {
				r.Host = v
			} else {
				r.Header.Set(name, v)
			}
		}
	}
	bearer := with("Authorization", "Bearer "+token)
	for _, c := range []struct {
		name, method, path string
		edit               func(*http.Request)
		status             int
		body               string
	}{
		{"health", "GET", "/healthz", nil, 200, "ok"},
		{"health HEAD", "HEAD", "/healthz", nil, 200, ""},
		{"metrics", "GET", "/metrics", nil, 200, `dewar_build_info{goversion="go`},
		{"ready without facts", "GET", "/readyz", nil, 200, "ready"},
		{"checklist", "GET", "/checklist", bearer, 200, `{"check":"list"}`},
		{"lower-case scheme", "GET", "/checklist", with("Authorization", "bearer "+token), 200, "list"},
		{"no token", "GET", "/checklist", nil, 401, "run.json"},
		{"wrong token", "GET", "/checklist", with("Authorization", "Bearer "+token+"x"), 401, ""},
		{"empty token", "GET", "/checklist", with("Authorization", "Bearer "), 401, ""},
		{"basic", "GET", "/evidence", with("Authorization", "Basic "+token), 401, ""},
		{"token in the query", "GET", "/events?token=" + token, nil, 401, ""},
		{"evidence fails", "GET", "/evidence", bearer, 500, "no evidence today"},
		{"events", "GET", "/events?n=2", bearer, 200, "[{"},
		{"no events", "GET", "/events", bearer, 200, "[]"},
		{"too many events", "GET", "/events?n=1001", bearer, 400, ""},
		{"events nonsense", "GET", "/events?n=x", bearer, 400, ""},
		{"a command", "POST", "/operate/ban/add?address=203.0.113.9", bearer, 200, `{"command":"ban add","args":{"address":"203.0.113.9"}}`},
		{"a command that fails", "POST", "/operate/ban/lift?address=x", bearer, 422, "no address"},
		{"a command nobody has", "POST", "/operate/no/such", bearer, 404, "no such command"},
		{"an argument twice", "POST", "/operate/ban/add?address=a&address=b", bearer, 400, "address is given twice"},
		{"a command by GET", "GET", "/operate/ban/add?address=a", bearer, 405, ""},
		{"a command without token", "POST", "/operate/ban/add?address=a", nil, 401, ""},
		{"unknown", "GET", "/nothing", bearer, 404, ""},
		{"post", "POST", "/healthz", bearer, 405, ""},
		{"delete", "DELETE", "/checklist", bearer, 405, ""},
		{"rebinding", "GET", "/metrics", with("Host", "attacker.example"), 421, ""},
		{"rebinding with the port", "GET", "/metrics", with("Host", "attacker.example:9180"), 421, ""},
		{"rebinding by a name with localhost in it", "GET", "/metrics", with("Host", "localhost.attacker.example"), 421, ""},
		{"another address of ours", "GET", "/metrics", with("Host", "192.168.1.1"), 421, ""},
		{"localhost", "GET", "/healthz", with("Host", "localhost:1"), 200, ""},
		{"v6", "GET", "/healthz", with("Host", "[::1]:1"), 200, ""},
		{"another site", "GET", "/metrics", with("Sec-Fetch-Site", "cross-site"), 403, ""},
		{"the same site", "GET", "/metrics", with("Sec-Fetch-Site", "same-site"), 403, ""},
		{"typed", "GET", "/metrics", with("Sec-Fetch-Site", "none"), 200, ""},
	} {
		res, body := ask(t, s, c.method, c.path, c.edit)
		if res.StatusCode != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %.200s, want %d %s", c.name, res.StatusCode, body, c.status, c.body)
		}
		for h, v := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Access-Control-Allow-Origin": "",
		} {
			if res.Header.Get(h) != v {
				t.Errorf("%s: %s: %q", c.name, h, res.Header.Get(h))
			}
		}
	}
}

func TestReady(t *testing.T) {
	var up error
	layers := map[string]error{"waf": nil, "rate-limit": nil}
	s := open(t, Options{Ready: func() error { return up }, Layers: func() map[string]error { return layers }, Metrics: NewMetrics("test", nil, nil)})
	if res, b := ask(t, s, "GET", "/readyz", nil); res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, b)
	}
	layers["authn"] = fmt.Errorf("%w: the provider is down", guard.ErrDegraded)
	if res, b := ask(t, s, "GET", "/readyz", nil); res.StatusCode != 200 {
		t.Errorf("a layer that refuses all it should: %d %s", res.StatusCode, b)
	}
	up = errors.New("the app's server does not run")
	layers = map[string]error{"waf": nil, "rate-limit": errors.New("store unavailable")}
	res, b := ask(t, s, "GET", "/readyz", nil)
	if res.StatusCode != 503 || b != "layer rate-limit: store unavailable\nthe app's server does not run\n" {
		t.Errorf("%d %q", res.StatusCode, b)
	}
	if _, b := ask(t, s, "GET", "/metrics", nil); !strings.Contains(b, "dewar_ready 0") || !strings.Contains(b, `dewar_layer_healthy{layer="rate-limit"} 0`) || !strings.Contains(b, `dewar_layer_healthy{layer="waf"} 1`) {
		t.Errorf("%s", b)
	}
}

func TestListenIsPrivate(t *testing.T) {
	for _, bad := range []string{":9180", "0.0.0.0:9180", "[::]:9180", "192.0.2.1:9180", "example.com:9180", "9180", "unix:rel", ""} {
		if s, err := Listen(context.Background(), Options{Address: bad, Token: token}); err == nil || !strings.Contains(err.Error(), "deployment.console") {
			t.Errorf("%q: %v", bad, err)
			if s != nil {
				s.Close()
			}
		}
	}
	if _, err := Listen(context.Background(), Options{Address: "127.0.0.1:0"}); err == nil {
		t.Error("opened without a token")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := Listen(context.Background(), Options{Address: ln.Addr().String(), Token: token}); err == nil || !strings.Contains(err.Error(), "deployment.console: "+ln.Addr().String()+" is in use by") {
		t.Errorf("%v", err)
	}
	sock := filepath.Join(t.TempDir(), "console.sock")
	s := open(t, Options{Address: "unix:" + sock})
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o600 || s.URL() != "unix:"+sock {
		t.Errorf("%v %v %s", st.Mode(), err, s.URL())
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", sock)
	}}}
	res, err := c.Get("http://dewar/healthz")
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%v %v", res, err)
	}
	if a, b := NewToken(), NewToken(); a == b || len(a) < 40 {
		t.Error("weak tokens")
	}
}

// TestMetricsAreBounded: whatever clients send, the number of series stays.
func TestMetricsAreBounded(t *testing.T) {
	lost := uint64(3)
	m := NewMetrics("1.0", []*guard.Spec{{Name: "csrf", Reasons: []guard.Reason{{Name: "csrf-cross-site"}}}}, func() uint64 { return lost })
	for i := range 1000 {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method = fmt.Sprintf("M%d", i)
		m.Request(&guard.Exchange{Request: r}, 200+i, 1, time.Millisecond)
		m.Decision(guard.Decision{Layer: "csrf", Verdict: guard.Deny, Reason: fmt.Sprintf("r%d", i)})
		m.Decision(guard.Decision{Layer: fmt.Sprintf("l%d", i), Verdict: guard.Deny, Reason: "x"})
	}
	m.Request(&guard.Exchange{Request: httptest.NewRequest("POST", "/", nil)}, 403, 1, time.Second)
	m.Decision(guard.Decision{Layer: "csrf", Verdict: guard.Observed, Reason: "csrf-cross-site"})
	m.Decision(guard.Decision{Layer: "upstream", Verdict: guard.Deny, Reason: "upstream-down"})
	m.Restarted()
	m.WorkerStarted()
	m.Workers(func() (int, int) { return 1, 2 })
	m.ConnectionError()
	s := open(t, Options{Metrics: m})
	_, b := ask(t, s, "GET", "/metrics", nil)
	n := 0
	for line := range strings.Lines(b) {
		if strings.HasPrefix(line, "dewar_") {
			n++
		}
	}
	if n > 60 {
		t.Errorf("%d series", n)
	}
	for _, want := range []string{
		`dewar_http_requests_total{class="4xx",method="POST"} 1`, `dewar_http_requests_total{class="other",method="other"} 600`,
		`dewar_decisions_total{layer="csrf",reason="other",verdict="deny"} 1000`, `dewar_decisions_total{layer="other",reason="other",verdict="deny"} 1000`,
		`dewar_decisions_total{layer="csrf",reason="csrf-cross-site",verdict="observe"} 1`,
		`dewar_decisions_total{layer="upstream",reason="upstream-down",verdict="deny"} 1`,
		"dewar_http_request_duration_seconds_count 1001", "dewar_app_restarts_total 1", "dewar_app_workers_total 1", "dewar_app_workers_serving 1", "dewar_app_workers_wanted 2",
		"dewar_connection_errors_total 1", "dewar_events_lost_total 3", `version="1.0"`,
	} {
		if !strings.Contains(b, want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

// TestMetricsKnowTheChain: what the chain itself says is counted by its name.
func TestMetricsKnowTheChain(t *testing.T) {
	m := NewMetrics("test", []*guard.Spec{{Name: "headers"}}, nil)
	m.Decision(guard.Decision{Layer: "headers", Verdict: guard.Observed, Reason: "would-change"})
	m.Decision(guard.Decision{Layer: "upstream", Verdict: guard.Deny, Reason: "answer-cut"})
	m.Decision(guard.Decision{Layer: "headers", Verdict: guard.Deny, Reason: "what a client made up"})
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range all {
		if f.GetName() == "dewar_decisions_total" {
			for _, s := range f.GetMetric() {
				for _, l := range s.GetLabel() {
					if l.GetName() == "reason" {
						got = append(got, l.GetValue())
					}
				}
			}
		}
	}
	slices.Sort(got)
	if want := []string{"answer-cut", "other", "would-change"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
