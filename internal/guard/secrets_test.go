package guard_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// toApp forwards to a real server.
type toApp struct{ target *url.URL }

func (f toApp) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) (err error) {
	p := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(f.target) },
		ModifyResponse: modify,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, e error) { err = e },
	}
	p.ServeHTTP(w, x.Request)
	return err
}

// nosy refuses everything and quotes all of it: the worst layer for a log.
type nosy struct{}

func (nosy) Request(x *guard.Exchange) guard.Decision {
	r := x.Request
	body := ""
	if b, err := x.Buffer(); err == nil {
		body = string(b.Prefix(4096))
	}
	var all strings.Builder
	for name, values := range r.Header {
		fmt.Fprintf(&all, "%s: %s\n", name, strings.Join(values, ", "))
	}
	d := guard.Refuse(403, "nosy", all.String()+r.URL.String()+"\n"+body)
	if strings.HasSuffix(r.URL.Path, "/panic") {
		panic(d.Detail)
	}
	if strings.HasSuffix(r.URL.Path, "/pass") {
		d.Verdict = guard.Observed
	}
	return d
}

// TestNoSecretReachesTheLog sends secrets wherever requests carry them, at
// once, through a layer that quotes them, one that panics with them and one
// that lets them pass, and looks for each of them in all that was written and
// in all that visitors saw of the guard.
func TestNoSecretReachesTheLog(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer app.Close()
	target, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	bus := event.NewBus(event.BusOptions{Sinks: []event.Sink{event.WriterSink(&log)}})
	chain, err := guard.NewChain(guard.Options{
		Layers:  []guard.Bound{{Spec: &guard.Spec{Name: "nosy", Control: "monitoring"}, Layer: nosy{}}},
		Forward: toApp{target}, Publish: bus.Publish, LogAllowed: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(chain)
	defer front.Close()

	const secret = "Zq9canaryXw4"
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeS03LWNhbmFyeQ"
	hidden := []string{secret, "eyJzdWIi", "c2lnbmF0", "4242+4242", "4242424242424242", "kim.canary%40"}
	send := func(method, path, kind, body string, header ...string) {
		r, err := http.NewRequestWithContext(context.Background(), method, front.URL+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		answer, _ := io.ReadAll(res.Body)
		if res.StatusCode >= 400 {
			for _, h := range hidden {
				if strings.Contains(string(answer), h) {
					t.Errorf("the error page shows %q: %s", h, answer)
				}
			}
		}
	}
	requests := 0
	var wg sync.WaitGroup
	for _, end := range []string{"", "/panic", "/pass"} {
		for _, try := range []func(){
			func() { send("GET", "/a"+end, "", "", "Authorization", "Bearer "+secret+"x1") },
			func() {
				send("GET", "/a"+end, "", "", "Cookie", "session="+secret+"; theme=dark; remember_token="+secret)
			},
			func() { send("GET", "/a"+end, "", "", "X-Api-Key", secret, "X-Auth-Token", "Token "+secret) },
			func() {
				send("GET", "/a"+end+"?password="+secret+"&api_key="+secret+"&next=%2Fx%3Ftoken%3D"+secret, "", "")
			},
			func() { send("GET", "/a"+end+"?q=4242+4242+4242+4242&mail=kim.canary%40example.com", "", "") },
			func() { send("GET", "/verify/"+jwt+end, "", "", "User-Agent", "tool token="+secret) },
			func() {
				send("POST", "/login"+end, "application/x-www-form-urlencoded", "user=kim&password="+secret+"&card=4242424242424242")
			},
			func() {
				send("POST", "/login"+end, "application/json", `{"user":"kim","new_password":"`+secret+`","pin":"`+secret+`"}`)
			},
			func() { send("POST", "/soap"+end, "text/xml", "<login><password>"+secret+"</password></login>") },
			func() {
				send("POST", "/key"+end, "text/plain", "-----BEGIN PRIVATE KEY-----\n"+secret+"\n-----END PRIVATE KEY-----")
			},
		} {
			requests++
			wg.Go(try)
		}
	}
	wg.Wait()
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	if n := strings.Count(text, "\n"); n < requests {
		t.Fatalf("%d lines for %d requests", n, requests)
	}
	for _, want := range []string{`"dewar.verdict":"deny"`, `"dewar.verdict":"observe"`, `"dewar.reason":"layer-failed"`, event.Redacted} {
		if !strings.Contains(text, want) {
			t.Errorf("the log holds no %s: the test does not test", want)
		}
	}
	for line := range strings.Lines(text) {
		for _, h := range hidden {
			if strings.Contains(line, h) {
				t.Errorf("the log shows %q: %s", h, line)
			}
		}
	}
}
