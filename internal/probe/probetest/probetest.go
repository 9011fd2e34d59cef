// Package probetest asks one probe check of a site made for a test.
package probetest

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

// Find returns the check of that id.
func Find(t testing.TB, checks []*probe.Check, id string) *probe.Check {
	t.Helper()
	for _, k := range checks {
		if k.ID == id {
			return k
		}
	}
	t.Fatalf("no check %s", id)
	return nil
}

// Ask starts h in clear text on loopback, or over TLS, and returns what the
// check finds there. It fails the test for evidence that is not valid, and
// when the check sent more than it declares.
func Ask(t testing.TB, k *probe.Check, h http.Handler, tls bool, change ...func(*probe.Options)) []evidence.Evidence {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	o := probe.Options{Rate: 1e6, Budget: 5000, Burst: 2000, Writes: true, Timeout: 30 * time.Second}
	if tls {
		s.EnableHTTP2 = true
		s.StartTLS()
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	defer s.Close()
	for _, f := range change {
		f(&o)
	}
	return AskURL(t, k, s.URL, o)
}

// AskURL is Ask for a site that runs already.
func AskURL(t testing.TB, k *probe.Check, site string, o probe.Options) []evidence.Evidence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := probe.Run(ctx, site, []*probe.Check{k}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Evidence() {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
		if e.Outcome == evidence.Fail && e.Fix == "" {
			t.Errorf("%s fails without a fix", e.Check)
		}
		t.Logf("%-14s %s  [%s]  %s", e.Outcome, e.Summary, e.URL, strings.ReplaceAll(e.Seen, "\n", " | "))
	}
	if n := r.Results[0].Requests; n > k.Requests {
		t.Errorf("%s sent %d requests and declares %d", k.ID, n, k.Requests)
	}
	return r.Evidence()
}

// Want fails the test unless the evidence sums up to want.
func Want(t testing.TB, all []evidence.Evidence, want evidence.Outcome) {
	t.Helper()
	if got, _ := evidence.Worst(all); got != want {
		t.Errorf("outcome %s, want %s: %+v", got, want, all)
	}
}
