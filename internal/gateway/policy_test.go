package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
)

// clientAuthority signs client certificates.
type clientAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newClientAuthority(t *testing.T) *clientAuthority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	a := &clientAuthority{key: k, file: filepath.Join(t.TempDir(), "clients.pem")}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *clientAuthority) sign(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "robot"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// tlsSite is a gateway with a certificate for shop.example that says what it
// saw of a connection.
func tlsSite(t *testing.T, change func(*Options)) (r *running, base tls.Config) {
	t.Helper()
	up := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(up.Close)
	c := testConfig()
	c.TLS, c.Listen, c.ListenHTTP = "files", []string{fmt.Sprint("127.0.0.1:", freeport.Take(t))}, nil // UDP is free there, too
	c.Certificate, c.Key = writePair(t, t.TempDir(), nil)
	o := Options{Dir: t.TempDir(), Config: c, Upstream: up.URL, Environ: cleanEnviron(t, "TICKETS=a secret of all nodes", "OTHER=another secret of others")}
	o.Handler = func(*Gateway) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s resumed=%v client=%d", r.Proto, r.TLS.DidResume, len(r.TLS.VerifiedChains))
		}), nil
	}
	if change != nil {
		change(&o)
	}
	r = start(t, o)
	roots := x509.NewCertPool()
	b, err := os.ReadFile(c.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(b)
	return r, tls.Config{RootCAs: roots, ServerName: "shop.example"}
}

func (r *running) address() string { return strings.TrimPrefix(r.url, "https://") }

// tlsGet asks over a connection of its own.
func tlsGet(r *running, c *tls.Config) (string, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	res, err := client.Get(r.url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestTLSPolicy(t *testing.T) {
	r, base := tlsSite(t, nil)
	dial := func(change func(*tls.Config)) (tls.ConnectionState, error) {
		c := base.Clone()
		change(c)
		k, err := tls.Dial("tcp", r.address(), c)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer k.Close()
		return k.ConnectionState(), nil
	}
	s, err := dial(func(*tls.Config) {})
	if err != nil || s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 {
		t.Errorf("by default: %x, curve %v, %v", s.Version, s.CurveID, err)
	}
	s, err = dial(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} })
	if err != nil || s.CurveID != tls.X25519 {
		t.Errorf("without post-quantum: curve %v, %v", s.CurveID, err)
	}
	if s, err = dial(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err != nil || s.Version != tls.VersionTLS12 {
		t.Errorf("1.2: %v", err)
	}
	for name, change := range map[string]func(*tls.Config){
		"1.1": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"CBC": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		},
		"RSA key exchange": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		},
		"unknown protocol": func(c *tls.Config) { c.NextProtos = []string{"acme-tls/1"} }, // not without ACME
	} {
		if _, err := dial(change); err == nil {
			t.Errorf("%s is spoken", name)
		}
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("SKIPPED: no openssl")
	}
	for _, c := range []struct {
		args string
		want string // "" when no connection may come about
	}{
		{"-tls1_3", "TLSv1.3"}, {"-tls1_2", "TLSv1.2"}, {"-tls1_1", ""}, {"-tls1_2 -cipher AES128-SHA", ""}, {"-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, openssl, append([]string{"s_client", "-connect", r.address(), "-servername", "shop.example"}, strings.Fields(c.args)...)...)
		out, err := cmd.CombinedOutput() // standard input is empty: it hangs up
		cancel()
		ok := err == nil && !strings.Contains(string(out), "Cipher is (NONE)")
		if ok != (c.want != "") || !strings.Contains(string(out), c.want) {
			t.Errorf("openssl s_client %s: %v\n%s", c.args, err, out)
		}
	}
}

func TestSessionTickets(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	withCache := func(base *tls.Config) *tls.Config {
		c := base.Clone()
		c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		return c
	}
	resumed := func(r *running, c *tls.Config, want bool, what string) {
		t.Helper()
		s, err := tlsGet(r, c)
		if err != nil || strings.Contains(s, "resumed=true") != want {
			t.Errorf("%s: %q %v, want resumed=%v", what, s, err, want)
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r, base := tlsSite(t, func(o *Options) { o.Now = clock })
		base.MaxVersion = version
		c := withCache(&base)
		resumed(r, c, false, "first")
		resumed(r, c, true, "second")
		// A reload keeps the keys.
		if err := r.g.Change(t.Context(), Change{Config: *r.g.config()}); err != nil {
			t.Fatal(err)
		}
		resumed(r, c, true, "after a reload")
		// One period later the old key still opens, and gives a new ticket.
		now = now.Add(ticketPeriod)
		r.g.rotateTickets()
		resumed(r, c, true, "one period later")
		for range ticketPeriods {
			now = now.Add(ticketPeriod)
			r.g.rotateTickets()
		}
		resumed(r, c, false, "when the key is gone")
	}
	// Nodes with one secret.
	secret := func(s string) func(*Options) {
		return func(o *Options) { o.Config.TicketSecret = s }
	}
	r, base := tlsSite(t, secret("env:TICKETS"))
	same, _ := tlsSite(t, secret("env:TICKETS"))
	other, _ := tlsSite(t, secret("env:OTHER"))
	base.InsecureSkipVerify = true // three certificates for one name
	c := withCache(&base)
	c.ServerName = "shop.example"
	resumed(r, c, false, "first node")
	// The cache is kept by server name.
	resumed(same, c, true, "second node with the same secret")
	resumed(other, c, false, "a node with another secret")
	// Keys follow the authority of client certificates.
	a := newTicketKeys("a secret of all nodes", []byte("one"))
	b := newTicketKeys("a secret of all nodes", []byte("two"))
	a.rotate(now)
	b.rotate(now)
	if a.list()[0] == b.list()[0] {
		t.Error("tickets outlive a change of the client authority")
	}
}

// TestClientCertificates: who shows none gets in, without being anybody; who
// shows a wrong one does not get in.
func TestClientCertificates(t *testing.T) {
	ours, theirs := newClientAuthority(t), newClientAuthority(t)
	r, base := tlsSite(t, func(o *Options) { o.Config.ClientCA = ours.file })
	for _, c := range []struct {
		name  string
		certs []tls.Certificate
		want  string // "" when the connection is refused
	}{
		{"none", nil, "client=0"},
		{"ours", []tls.Certificate{ours.sign(t, x509.ExtKeyUsageClientAuth)}, "client=1"},
		{"theirs", []tls.Certificate{theirs.sign(t, x509.ExtKeyUsageClientAuth)}, ""},
		{"for servers", []tls.Certificate{ours.sign(t, x509.ExtKeyUsageServerAuth)}, ""},
	} {
		k := base.Clone()
		k.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(c.certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &c.certs[0], nil
		}
		s, err := tlsGet(r, k)
		if (err == nil) != (c.want != "") || !strings.Contains(s, c.want) {
			t.Errorf("%s: %q %v", c.name, s, err)
		}
	}
	// A reload changes the authority.
	cfg := *r.g.config()
	cfg.ClientCA = theirs.file
	if err := r.g.Change(t.Context(), Change{Config: cfg}); err != nil {
		t.Fatal(err)
	}
	k := base.Clone()
	k.Certificates = []tls.Certificate{theirs.sign(t, x509.ExtKeyUsageClientAuth)}
	if s, err := tlsGet(r, k); err != nil || !strings.Contains(s, "client=1") {
		t.Errorf("after the change: %q %v", s, err)
	}
	for want, name := range map[string]string{"no such file": "/nowhere.pem", "is no authority": r.g.config().Certificate, `a block of type "PRIVATE KEY"`: r.g.config().Key} {
		cfg.ClientCA = name
		if err := r.g.Change(t.Context(), Change{Config: cfg}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "deployment.client-ca") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
