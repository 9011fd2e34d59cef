package gateway

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
)

// TestTLSEvidence: what the checklist hears about TLS, and that an expired
// certificate is no reason to be taken out of service.
func TestTLSEvidence(t *testing.T) {
	now := time.Now()
	r, _ := tlsSite(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Config.Certificate, o.Config.Key = writePair(t, t.TempDir(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	})
	look := func(outcome evidence.Outcome, text string) {
		t.Helper()
		e := r.g.Evidence()[0]
		if e.Outcome != outcome || !strings.Contains(e.Summary, text) || outcome != evidence.Pass && e.Fix == "" {
			t.Errorf("%v, want %v with %q", e, outcome, text)
		}
	}
	look(evidence.Pass, "X25519MLKEM768")
	now = now.Add(2 * time.Hour)
	look(evidence.Fail, "expired on")
	if err := r.g.Ready(); err != nil {
		t.Errorf("not ready for an expired certificate: %v", err)
	}
}
