package abuse

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// basicSite is an app with one place behind HTTP Basic and others for everybody.
func basicSite(t *testing.T) (do func(addr, method, target, name, password, body string) int, tries *int) {
	t.Helper()
	tries = new(int)
	clock := newClock()
	st := store.NewMemory(store.MemoryOptions{Buckets: 1 << 12, Now: clock.Now})
	t.Cleanup(func() { st.Close() })
	l, err := NewLogin(noChallenge(t), guard.Env{Store: st, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.(*loginLayer).Close() })
	chain, err := guard.NewChain(guard.Options{Now: clock.Now, Layers: []guard.Bound{addressed, {Spec: loginSpec, Layer: l, Mode: guard.Enforce}},
		Forward: forwarder(func(x *guard.Exchange) *http.Response {
			h := http.Header{"Content-Type": {"text/plain"}}
			status := 200
			if x.Path == "/admin" {
				*tries++
				if name, password, _ := x.Request.BasicAuth(); name != "kim" || password != "right" {
					status = 401
					h.Set("Www-Authenticate", `Basic realm="admin"`)
				}
			} else if x.Path == "/missing" {
				status = 404
			}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("hello"))}
		})})
	if err != nil {
		t.Fatal(err)
	}
	return func(addr, method, target, name, password, body string) int {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		if body == "" {
			r.Body, r.ContentLength = http.NoBody, 0
		} else {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		r.Header.Set("Test-Client", addr)
		r.SetBasicAuth(name, password)
		rec := httptest.NewRecorder()
		chain.ServeHTTP(rec, r)
		return rec.Code
	}, tries
}

// TestBasicElsewhere: a place that is for everybody answers a wrong pair like
// a right one. That must neither free the pair from the count where it is
// asked for, nor give failures back.
func TestBasicElsewhere(t *testing.T) {
	for _, public := range []string{"/", "/missing"} {
		for _, first := range []bool{true, false} {
			do, tries := basicSite(t)
			for i := range 60 {
				password := fmt.Sprint("guess", i)
				if first {
					do("203.0.113.7", "GET", public, "kim", password, "")
				}
				do("203.0.113.7", "GET", "/admin", "kim", password, "")
				if !first {
					do("203.0.113.7", "GET", public, "kim", password, "")
				}
			}
			if *tries > 10 {
				t.Errorf("%d guesses with %s asked, too (before: %v)", *tries, public, first)
			}
		}
	}
}

// TestBasicBesideForm: a form that names somebody else does not hide the pair
// in the header.
func TestBasicBesideForm(t *testing.T) {
	do, tries := basicSite(t)
	for i := range 60 {
		do(fmt.Sprintf("203.0.%d.7", i), "POST", "/admin", "kim", fmt.Sprint("guess", i), fmt.Sprintf("username=decoy%d&password=x", i))
	}
	if *tries > 10 {
		t.Errorf("%d guesses beside a form", *tries)
	}
}

// TestBasicClients: a program that sends the right pair with every request is
// let in, however many it makes and whatever else it asks for.
func TestBasicClients(t *testing.T) {
	do, tries := basicSite(t)
	for i := range 300 {
		for _, target := range []string{"/", fmt.Sprint("/item/", i), "/admin"} {
			if code := do("203.0.113.7", "GET", target, "kim", "right", ""); code != 200 {
				t.Fatalf("request %d of %s: %d", i, target, code)
			}
		}
	}
	for i := range 60 { // forms of an app that stands behind a pair for all testers
		do(fmt.Sprintf("203.0.%d.8", i), "GET", "/admin", "kim", "right", "")
		if code := do(fmt.Sprintf("203.0.%d.8", i), "POST", "/admin", "kim", "right", fmt.Sprintf("username=u%d&password=x", i)); code != 200 {
			t.Fatalf("form %d behind a pair: %d", i, code)
		}
	}
	_ = tries
}
