package gateway

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/injection"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/waf/crssuite"
	"github.com/dewar-security/dewar/internal/wire"
)

// numbered gives every request a client of its own: the budget that one client
// has of Coraza is not what is compared.
type numbered struct{ n uint32 }

func (l *numbered) Request(x *guard.Exchange) guard.Decision {
	l.n++
	x.Client.Addr = netip.AddrFrom4([4]byte{10, byte(l.n >> 16), byte(l.n >> 8), byte(l.n)})
	return guard.Pass()
}

// crsSite is the proxy as the gateway makes it, in front of the suite's own kind
// of server, for one client at a time.
type crsSite struct {
	address string
	mu      sync.Mutex
	events  []event.Event
	close   func()
}

func (s *crsSite) publish(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// reflecting answers as the suite's server does: /reflect with what the
// request says, everything else with 200.
func reflecting(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	b, _ := io.ReadAll(r.Body)
	if r.URL.Path != "/reflect" {
		return
	}
	var say struct {
		Status      int               `json:"status"`
		Headers     map[string]string `json:"headers"`
		Body        string            `json:"body"`
		EncodedBody string            `json:"encodedBody"`
	}
	if json.Unmarshal(b, &say) != nil {
		return
	}
	for k, v := range say.Headers {
		w.Header().Set(k, v)
	}
	if say.Status >= 200 && say.Status < 600 {
		w.WriteHeader(say.Status)
	}
	if raw, err := base64.StdEncoding.DecodeString(say.EncodedBody); err == nil && len(raw) > 0 {
		say.Body = string(raw)
	}
	io.WriteString(w, say.Body)
}

func newCRSSite(t *testing.T, upstream string, layer guard.Layer) *crsSite {
	t.Helper()
	s := &crsSite{}
	f, err := NewForwarder(upstream, ForwarderOptions{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	env := guard.Env{Now: time.Now, CertificateNames: func() []string { return nil }, Facts: func() guard.Facts { return guard.Facts{} }}
	request, err := deployment.NewRequest(deployment.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	body, err := uploads.NewBody(uploads.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	spec := func(list []*guard.Spec, name string) *guard.Spec {
		return list[slices.IndexFunc(list, func(s *guard.Spec) bool { return s.Name == name })]
	}
	bounds := []guard.Bound{
		// It observes: what it would refuse shall come to the rules.
		{Spec: spec(deployment.Control.Layers, "request"), Layer: request, Mode: guard.Observe},
		{Spec: &guard.Spec{Name: "numbered", Control: "deployment"}, Layer: &numbered{}},
		{Spec: spec(uploads.Control.Layers, "body"), Layer: body, Mode: guard.Observe},
		{Spec: spec(injection.Control.Layers, "waf"), Layer: layer},
	}
	chain, err := guard.NewChain(guard.Options{Layers: bounds, Forward: f, Publish: s.publish})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = ln.Addr().String()
	srv := &http.Server{
		Handler: timeBodies(insideTLS(chain), time.Second), ConnState: wire.Track, ConnContext: wire.Context, DisableGeneralOptionsHandler: true,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	limits := wire.Limits{Head: 128 << 10, Line: 64 << 10, Target: 64 << 10, Fields: 1000, HeadTime: time.Second}
	go srv.Serve(wire.NewListener(boundedListener{ln, 10 * time.Second}, wire.Options{Limits: func() wire.Limits { return limits }}))
	s.close = func() { srv.Close(); f.Close() }
	return s
}

// ask sends the bytes of one request and returns what came of it: the status,
// and who refused or observed it for which rules.
func (s *crsSite) ask(raw []byte) (outcome string, ids []int) {
	s.mu.Lock()
	s.events = s.events[:0]
	s.mu.Unlock()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return err.Error(), nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = c.Write(raw)
	status, id := 0, ""
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		status, id = res.StatusCode, res.Header.Get("X-Request-Id")
		// To the end: the events are written behind the answer.
		res.Close = true
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	for range 400 { // the events come a moment after the answer
		if s.mu.Lock(); status < 400 || len(s.events) > 0 {
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	outcome = strconv.Itoa(status)
	for _, e := range s.events {
		if id != "" && e.RequestID != id {
			continue // bytes behind the request, which make another one
		}
		if e.Layer == "waf" {
			outcome += fmt.Sprintf(" %s %s", e.Verdict, e.Reason)
			for m := range strings.FieldsSeq(e.Attributes["waf.matches"]) {
				id, _, _ := strings.Cut(m, "@")
				n, _ := strconv.Atoi(id)
				ids = append(ids, n)
				outcome += " " + id
			}
		} else {
			outcome += fmt.Sprintf(" %s %s %s", e.Layer, e.Verdict, e.Reason)
		}
	}
	return outcome, ids
}

// TestCoreRuleSetThroughTheProxy sends the regression tests of the Core Rule
// Set, as bytes over sockets, to two proxies that differ in one thing: the
// waf layer runs the compiled rules, or Coraza alone. Status, verdict, reason
// and the ids of all rules must be the same. The threshold is 1, so that a
// single rule, however harmless, shows.
//
// DEWAR_CRS_PARANOIA is the paranoia level; without it the level is 1, and one
// test of four is sent (all take a minute).
func TestCoreRuleSetThroughTheProxy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	cases, err := crssuite.Load()
	if err != nil {
		t.Fatal(err)
	}
	cfg, step := injection.Config{Paranoia: 1, Threshold: 1, Responses: true}, 4
	if level := os.Getenv("DEWAR_CRS_PARANOIA"); level != "" {
		if cfg.Paranoia, err = strconv.Atoi(level); err != nil {
			t.Fatal(err)
		}
		step = 1
	} else if raced {
		step = 32
	}
	compiled, err := injection.NewWAF(cfg, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	coraza, err := injection.NewReference(cfg, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(reflecting), ErrorLog: log.New(io.Discard, "", 0)}
	go app.Serve(ln)
	t.Cleanup(func() { app.Shutdown(context.Background()) })

	var mu sync.Mutex
	run, denied, passed, passedCoraza, raw, differ := 0, 0, 0, 0, 0, 0
	next := make(chan *crssuite.Case)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		a, b := newCRSSite(t, "unix:"+socket, compiled), newCRSSite(t, "unix:"+socket, coraza)
		wg.Go(func() {
			defer a.close()
			defer b.close()
			for c := range next {
				got, ids := a.ask(c.Raw)
				want, wantIDs := b.ask(c.Raw)
				for n := 0; got != want && n < 8; n++ { // Coraza keeps arguments in maps: see package waf
					want, wantIDs = b.ask(c.Raw)
				}
				mu.Lock()
				run++
				if strings.Contains(got, "waf deny") || strings.Contains(got, " deny waf-") {
					denied++
				}
				if c.Request == nil {
					raw++
				}
				if c.Passed(ids) {
					passed++
				}
				if c.Passed(wantIDs) {
					passedCoraza++
				}
				if got != want {
					if differ++; differ <= 20 {
						t.Errorf("%s\ncompiled: %s\ncoraza:   %s\n%.600q", c.Name, got, want, c.Raw)
					}
				}
				mu.Unlock()
			}
		})
	}
	for i := 0; i < len(cases); i += step {
		next <- &cases[i]
	}
	close(next)
	wg.Wait()
	t.Logf("paranoia level %d: %d tests sent, %d of them raw bytes that net/http does not read, %d refused by rules, %d differ; as the suite expects: %d with the compiled rules, %d with Coraza",
		cfg.Paranoia, run, raw, denied, differ, passed, passedCoraza)
	if run < len(cases)/step || denied < run/3 || passed != passedCoraza {
		t.Errorf("%d sent, %d refused; %d and %d as expected", run, denied, passed, passedCoraza)
	}
}
