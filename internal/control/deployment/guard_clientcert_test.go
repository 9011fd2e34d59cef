package deployment

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

func TestClientCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l, err := NewClientCert(Config{ClientCertPaths: []string{"/admin/**"}, ClientCA: "ca.pem"}, guard.Env{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(until time.Time) *x509.Certificate {
		return &x509.Certificate{Raw: []byte("der"), SerialNumber: big.NewInt(7), NotAfter: until}
	}
	verified := func(c *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	}
	good := leaf(now.Add(time.Hour))
	for _, c := range []struct {
		path   string
		tls    *tls.ConnectionState
		reason string
		told   bool
	}{
		{"/", nil, "", false},
		{"/admin", nil, "client-certificate-missing", false},
		{"/admin/x", &tls.ConnectionState{}, "client-certificate-missing", false},
		// One that nobody verified proves nothing.
		{"/admin/x", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{good}}, "client-certificate-missing", false},
		{"/administrator", &tls.ConnectionState{}, "", false},
		{"/admin/x", verified(good), "", true},
		{"/", verified(good), "", true},
		{"/admin/x", verified(leaf(now.Add(-time.Second))), "client-certificate-expired", false},
		{"/", verified(leaf(now.Add(-time.Second))), "", false},
	} {
		r := httptest.NewRequest("GET", "http://shop.example"+c.path, nil)
		r.TLS = c.tls
		x := &guard.Exchange{Request: r, Path: c.path}
		d := l.Request(x)
		documented(t, clientCertSpec, d)
		if d.Reason != c.reason || (x.Client.Certificate != nil) != c.told || (r.Header.Get("Client-Cert") != "") != c.told {
			t.Errorf("%s %+v: %q, told %v", c.path, c.tls, d.Reason, x.Client.Certificate != nil)
		}
		if c.told && (r.Header.Get("Client-Cert") != ":ZGVy:" || len(r.Header.Get("X-Client-Cert-Sha256")) != 64) {
			t.Errorf("%v", r.Header)
		}
	}
	// What the client itself writes there is taken away before.
	r := get(t, "/admin/x", "Client-Cert: :ZGVy:", "X-Client-Cert-Sha256: 00")
	who, err := NewClient(Config{}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	who.Request(&guard.Exchange{Request: r})
	if r.Header.Get("Client-Cert") != "" || r.Header.Get("X-Client-Cert-Sha256") != "" {
		t.Errorf("forged: %v", r.Header)
	}
	for want, c := range map[string]Config{
		"client-certificates": {ClientCertPaths: []string{"/x"}}, "client-ca": {ClientCA: "x", TLS: "off"},
	} {
		if p := c.clientCertProblems(); len(p) != 1 || p[0].Key != want {
			t.Errorf("%s: %v", want, p)
		}
	}
}

// TestSNI: what the client asked TLS for is what it asks HTTP for.
func TestSNI(t *testing.T) {
	l, err := NewHTTPS(Config{AllowedHosts: []string{".shop.example"}, TrustedProxy: []string{"10.0.0.1"}}, guard.Env{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sni, host string
		proxy     bool
		reason    string
	}{
		{"shop.example", "shop.example", false, ""},
		{"SHOP.example", "shop.example:8443", false, ""},
		{"", "shop.example", false, ""}, // no name was asked for
		{"a.shop.example", "shop.example", false, "https-sni"},
		{"shop.example", "a.shop.example", false, "https-sni"},
		{"inside.example", "shop.example", true, ""}, // the proxy's own way to us
	} {
		r := httptest.NewRequest("GET", "https://"+c.host+"/", nil)
		r.Host, r.TLS = c.host, &tls.ConnectionState{ServerName: c.sni}
		d := l.Request(&guard.Exchange{Request: r, Client: guard.Client{Scheme: "https", Host: c.host, TrustedPeer: c.proxy}})
		documented(t, httpsSpec, d)
		if d.Reason != c.reason || c.reason != "" && d.Status != 421 {
			t.Errorf("%+v: %q %d", c, d.Reason, d.Status)
		}
	}
}
