package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/guard"
)

// writePair writes a self-signed pair; edit changes the certificate.
func writePair(t *testing.T, dir string, edit func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"shop.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kd}} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Rename(name+".new", name)
	}
	return cert, key
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := writePair(t, dir, nil)
	var st steps
	f, err := newFileCertificates(deployment.Config{Certificate: cert, Key: key}, time.Now, st.progress)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string { return f.current().Leaf.SerialNumber.String() }
	first := serial()
	f.poll()
	if serial() != first || len(st.all) != 0 {
		t.Errorf("changed by itself: %s", &st)
	}
	// Half of a renewal: the new certificate with the old key.
	oldKey, _ := os.ReadFile(key)
	writePair(t, dir, func(c *x509.Certificate) { c.DNSNames = []string{"new.example"} })
	newKey, _ := os.ReadFile(key)
	os.WriteFile(key, oldKey, 0o600)
	f.poll()
	f.poll()
	if serial() != first || !st.has(StepWarning, "in use is kept") || len(st.all) != 1 {
		t.Errorf("half a renewal: %s", &st)
	}
	os.WriteFile(key, append(newKey, '\n'), 0o600)
	f.poll()
	if serial() == first || namesOf(f.current())[0] != "new.example" || !st.has(StepDone, "read again") {
		t.Errorf("the renewal was not seen: %s", &st)
	}
	second := serial()
	os.Remove(cert)
	f.poll()
	if serial() != second || !st.has(StepWarning, "no such file") {
		t.Errorf("missing file: %s", &st)
	}
	writePair(t, dir, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(50 * time.Hour) })
	os.Chmod(key, 0o644)
	f.poll()
	if serial() == second || !st.has(StepWarning, "expires in 2 days") || !st.has(StepWarning, "can be read by other users") {
		t.Errorf("%s", &st)
	}
}

func TestCertificateErrors(t *testing.T) {
	dir := t.TempDir()
	cert, key := writePair(t, dir, nil)
	other, _ := writePair(t, t.TempDir(), nil)
	expired, expiredKey := writePair(t, t.TempDir(), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	nameless, namelessKey := writePair(t, t.TempDir(), func(c *x509.Certificate) { c.DNSNames = nil })
	for _, c := range []struct{ cert, key, want string }{
		{"", "", "deployment.certificate is not set"},
		{cert, "", "deployment.key is not set"},
		{"/nowhere", key, "deployment.certificate: "},
		{dir, key, "no PEM file"},
		{other, key, "are no pair"},
		{key, key, "are no pair"},
		{expired, expiredKey, "expired on"},
		{nameless, namelessKey, "names no host"},
	} {
		_, err := newFileCertificates(deployment.Config{Certificate: c.cert, Key: c.key}, time.Now, func(Step) {})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil && strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("key material in %v", err)
		}
	}
}

func TestLocalAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dewar", "ca")
	var st steps
	now := time.Now()
	clock := func() time.Time { return now }
	l, err := newLocalCertificates(dir, []string{"shop.localhost", "SHOP.test:8443", ".sub.test", "shop.example.com", "127.0.0.2"}, clock, st.progress)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"localhost", "shop.localhost", "shop.test", "*.sub.test", "127.0.0.1", "::1", "127.0.0.2"}
	if got := namesOf(l.current()); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("names %v, want %v", got, want)
	}
	if !st.has(StepNote, "does not cover shop.example.com") || !st.has(StepNote, "to trust it") {
		t.Errorf("%s", &st)
	}
	roots := x509.NewCertPool()
	roots.AddCert(l.ca)
	for _, name := range want {
		if _, err := l.current().Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: strings.Replace(name, "*", "a", 1), CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A thief of the key cannot sign for a real site.
	forged := &localCertificates{dir: dir, now: clock, ca: l.ca, caKey: l.caKey, names: []string{"bank.example"}}
	if err := forged.renew(); err != nil {
		t.Fatal(err)
	}
	if _, err := forged.current().Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "bank.example", CurrentTime: now}); err == nil {
		t.Error("the authority may sign for anybody")
	}
	forged.names = []string{"10.0.0.1"}
	if err := forged.renew(); err != nil {
		t.Fatal(err)
	}
	if _, err := forged.current().Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.0.0.1", CurrentTime: now}); err == nil {
		t.Error("the authority may sign for any address")
	}
	for name, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, l.keyFile(): 0o600, l.file(): 0o600} {
		if s, err := os.Stat(name); err != nil || s.Mode() != mode {
			t.Errorf("%s: %v %v", name, s.Mode(), err)
		}
	}
	// Made once, and another start uses it.
	again, err := newLocalCertificates(dir, nil, clock, func(Step) {})
	if err != nil || !again.ca.Equal(l.ca) {
		t.Errorf("another authority: %v", err)
	}
	now = now.AddDate(10, 0, -5)
	renewed, err := newLocalCertificates(dir, nil, clock, func(Step) {})
	if err != nil || renewed.ca.Equal(l.ca) {
		t.Errorf("an authority that expires is not replaced: %v", err)
	}
	os.Chmod(l.keyFile(), 0o644)
	if _, err := newLocalCertificates(dir, nil, clock, func(Step) {}); err == nil || !strings.Contains(err.Error(), "can be read by other users") {
		t.Errorf("%v", err)
	}
	os.Chmod(l.keyFile(), 0o600)
	os.WriteFile(l.file(), []byte("nonsense"), 0o600)
	if _, err := newLocalCertificates(dir, nil, clock, func(Step) {}); err == nil || !strings.Contains(err.Error(), "delete") {
		t.Errorf("%v", err)
	}
	os.Chmod(dir, 0o755)
	if _, err := newLocalCertificates(dir, nil, clock, func(Step) {}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("%v", err)
	}
}

// TestHTTPS serves a plain handler over real TLS connections.
func TestHTTPS(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "up") })
	cfg := testConfig()
	cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
	cfg.HeaderTimeout, cfg.BodyTimeout = seconds(3), seconds(3)
	env := cleanEnviron(t)
	o := Options{Dir: t.TempDir(), Profile: guard.Development, Config: cfg, Upstream: up, Environ: env}
	o.Handler = func(g *Gateway) (http.Handler, error) {
		forward, _ := bare(g)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/proto":
				fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
			case "/body":
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "%d %v", n, err)
			case "/late":
				// Longer than the body's time: the deadline must be gone.
				io.Copy(io.Discard, r.Body)
				select {
				case <-time.After(4 * time.Second):
					fmt.Fprint(w, "late")
				case <-r.Context().Done():
					fmt.Fprint(w, "cancelled")
				}
			default:
				forward.ServeHTTP(w, r)
			}
		}), nil
	}
	r := start(t, o)
	if !strings.HasPrefix(r.url, "https://127.0.0.1:") || len(r.g.URLs()) != 1 {
		t.Fatalf("URLs %v", r.g.URLs())
	}
	addr := strings.TrimPrefix(r.url, "https://")
	ca, _ := LocalCADir(env)
	b, err := os.ReadFile(filepath.Join(ca, "dewar-local-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	for _, h2 := range []bool{true, false} {
		c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: roots}}}
		res, err := c.Get(r.url + "/proto")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		if want := map[bool]string{true: "HTTP/2.0 true", false: "HTTP/1.1 true"}[h2]; string(b) != want {
			t.Errorf("%s, want %s", b, want)
		}
		if res.TLS.Version != tls.VersionTLS13 || res.TLS.CurveID != tls.X25519MLKEM768 {
			t.Errorf("version %x curve %v", res.TLS.Version, res.TLS.CurveID)
		}
		if res, err = c.Post(r.url+"/late", "text/plain", strings.NewReader("body")); err != nil {
			t.Error(err)
		} else if b, _ := io.ReadAll(res.Body); string(b) != "late" {
			t.Errorf("h2 %v: %s", h2, b)
		}
		// A body that does not come costs its time and no more.
		pr, pw := io.Pipe()
		begin := time.Now()
		go func() { pw.Write([]byte("abc")) }()
		if res, err = c.Post(r.url+"/body", "text/plain", pr); err == nil {
			b, _ := io.ReadAll(res.Body)
			if !strings.Contains(string(b), "timeout") && !strings.Contains(string(b), "deadline") {
				t.Errorf("h2 %v: body answered %q", h2, b)
			}
		}
		pw.Close()
		if d := time.Since(begin); d > 30*time.Second {
			t.Errorf("h2 %v: a slow body was waited for %s", h2, d)
		}
		c.CloseIdleConnections()
	}
	for _, c := range []struct {
		name string
		conf *tls.Config
		ok   bool
	}{
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"cbc", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
	} {
		c.conf.RootCAs = roots
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", addr, c.conf)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	// Half a request, and half a handshake.
	for _, half := range []string{"", "\x16\x03\x01"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, half)
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("half a handshake %q was kept", half)
		}
		conn.Close()
	}
	// Clear text is served by the same handler, with HTTP/1.1 only.
	var plain string
	for _, l := range r.g.o.Config.ListenHTTP {
		plain = l
	}
	if plain != "127.0.0.1:0" {
		t.Error(plain)
	}
}

func TestLocalIsForDevelopment(t *testing.T) {
	cfg := testConfig()
	cfg.TLS, cfg.Listen = "local", []string{"127.0.0.1:0"}
	err := Run(context.Background(), Options{Dir: t.TempDir(), Config: cfg, Upstream: "http://127.0.0.1:1", Environ: cleanEnviron(t), StateDir: stateDir(t), Handler: bare})
	if err == nil || !strings.Contains(err.Error(), "development") {
		t.Errorf("%v", err)
	}
}
