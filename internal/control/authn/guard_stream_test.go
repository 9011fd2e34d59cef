package authn

import (
	"bufio"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// endless answers with an event stream that goes on until somebody ends it.
type endless struct{}

func (endless) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	res := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(nil), Request: x.Request}
	if err := modify(res); err != nil {
		return err
	}
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	_, _ = io.WriteString(w, "data: 0\n\n")
	w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http.Flusher).Flush()
	<-x.Context().Done()
	return context.Cause(x.Context())
}

// TestStreamEndsWithItsLogin: an event stream ends when its login does,
// wherever that was ended, and another user's goes on (CWE-613).
func TestStreamEndsWithItsLogin(t *testing.T) {
	for name, end := range map[string]func(one *site, c *clock, ann *browser){
		"logout on the other node": func(one *site, _ *clock, ann *browser) {
			ann.stop("").visit(one.URL+"/_dewar/auth/logout", "Sec-Fetch-Site: same-origin")
		},
		"login end": func(one *site, _ *clock, _ *browser) {
			if _, err := one.layer.Operate(t.Context(), "login end", map[string]string{"subject": "u-1"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			o := newHostileOP(t, c)
			one := newSite(t, siteConfig(o), c)
			two := newSite(t, siteConfig(o), c, func(e *guard.Env) { e.Store = one.store })
			chain, err := guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: layers[0], Layer: two.layer}}, Forward: endless{}, Now: c.now})
			if err != nil {
				t.Fatal(err)
			}
			live := httptest.NewUnstartedServer(chain)
			live.Config.ErrorLog = log.New(io.Discard, "", 0)
			live.StartTLS()
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(func() { cancel(); live.Close() })
			open := func(b *browser) chan error {
				r, _ := http.NewRequestWithContext(ctx, "GET", live.URL+"/account/events", nil)
				b.Transport = live.Client().Transport
				res, err := b.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				b.Transport = one.Client().Transport
				br := bufio.NewReader(res.Body)
				if line, err := br.ReadString('\n'); line != "data: 0\n" {
					t.Fatalf("%d %q %v", res.StatusCode, line, err)
				}
				ended := make(chan error, 1)
				go func() {
					defer res.Body.Close()
					_, err := io.Copy(io.Discard, br)
					ended <- err
				}()
				return ended
			}
			ann, bob := one.browser(), one.browser()
			ann.visit(one.URL + "/account/")
			o.change(func() { o.subject = "u-2" })
			bob.visit(one.URL + "/account/")
			anns, bobs := open(ann), open(bob)
			if n := two.layer.streams.Len(); n != 2 {
				t.Fatalf("%d streams", n)
			}
			end(one, c, ann)
			select {
			case err := <-anns:
				if err == nil {
					t.Error("ann's stream ended as if it were whole")
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("ann's stream goes on")
			}
			if len(bobs) > 0 {
				t.Error("bob's stream ended, too")
			}
			cancel()
			<-bobs
			empty := make(chan bool)
			two.layer.streams.WhenEmpty(func() { close(empty) })
			<-empty // or the test never ends
		})
	}
}
