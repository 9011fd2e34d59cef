package deployment

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

// issue makes a certificate for names, signed by an authority of the test.
func issue(t *testing.T, days int, names ...string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, _ = x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	// RSA, so that old versions and suites have a chance.
	leafKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().AddDate(0, -2, 0), NotAfter: time.Now().Add(time.Duration(days) * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), key); err != nil {
		t.Fatal(err)
	}
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}
}

func serveTLS(t *testing.T, cert tls.Certificate, change func(*tls.Config)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

var quick = probe.Options{Rate: 1e6, Timeout: 30 * time.Second, Writes: true}

func TestCertificateProbe(t *testing.T) {
	k := probetest.Find(t, checks, "certificate")
	for _, x := range []struct {
		name  string
		days  int
		names []string
		other bool // another authority is trusted
		blind bool // certificates are not verified
		want  evidence.Outcome
		says  string
	}{
		{"good", 90, []string{"127.0.0.1"}, false, false, evidence.Pass, "89 days"},
		{"ends soon", 10, []string{"127.0.0.1"}, false, false, evidence.Fail, "ends on"},
		{"has ended", -3, []string{"127.0.0.1"}, false, false, evidence.Fail, "expired"},
		{"for another host", 90, []string{"shop.example"}, false, false, evidence.Fail, "127.0.0.1"},
		{"by an unknown authority", 90, []string{"127.0.0.1"}, true, false, evidence.Fail, "unknown authority"},
		{"not verified", 90, []string{"127.0.0.1"}, true, true, evidence.Error, "not verified"},
		{"good although not verified", 90, []string{"127.0.0.1"}, false, true, evidence.Pass, "89 days"},
	} {
		t.Run(x.name, func(t *testing.T) {
			pool, cert := issue(t, x.days, x.names...)
			o := quick
			o.RootCAs, o.Insecure = pool, x.blind
			if x.other {
				o.RootCAs, _ = issue(t, 90, "127.0.0.1")
			}
			all := probetest.AskURL(t, k, serveTLS(t, cert, nil), o)
			probetest.Want(t, all, x.want)
			if !strings.Contains(all[0].Summary, x.says) {
				t.Errorf("%q does not say %q", all[0].Summary, x.says)
			}
		})
	}
}

func TestTLSProbe(t *testing.T) {
	k := probetest.Find(t, checks, "tls-versions")
	pool, cert := issue(t, 90, "127.0.0.1")
	o := quick
	o.RootCAs = pool
	for _, x := range []struct {
		name   string
		change func(*tls.Config)
		want   evidence.Outcome
		says   string
	}{
		{"modern", nil, evidence.Pass, "refused"},
		{"only 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, evidence.Pass, "refused"},
		{"1.0", func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }, evidence.Fail, "TLS 1.0 is accepted"},
		{"1.1", func(c *tls.Config) { c.MinVersion = tls.VersionTLS11 }, evidence.Fail, "TLS 1.1 is accepted"},
		{"RSA key exchange", func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, evidence.Fail, "TLS_RSA_WITH_AES_128_GCM_SHA256"},
		{"3DES", func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, evidence.Fail, "3DES"},
	} {
		t.Run(x.name, func(t *testing.T) {
			all := probetest.AskURL(t, k, serveTLS(t, cert, x.change), o)
			probetest.Want(t, all, x.want)
			if !strings.Contains(all[0].Summary, x.says) {
				t.Errorf("%q does not say %q", all[0].Summary, x.says)
			}
		})
	}
}

func TestRedirectProbe(t *testing.T) {
	k := probetest.Find(t, checks, "https-redirect")
	pool, cert := issue(t, 90, "127.0.0.1")
	site := serveTLS(t, cert, nil)
	to := func(l string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Location", l); w.WriteHeader(status) }
	}
	for _, x := range []struct {
		name string
		h    http.Handler // nil: nothing listens
		want evidence.Outcome
	}{
		{"308 to itself", to(site+"/", 308), evidence.Pass},
		{"301 to itself", to(site+"/", 301), evidence.Pass},
		{"refused", http.NotFoundHandler(), evidence.Pass},
		{"closed", nil, evidence.Pass},
		{"served", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), evidence.Fail},
		{"to another host", to("https://www.shop.example/", 301), evidence.Fail},
		{"to clear text", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				http.Redirect(w, r, site, http.StatusMovedPermanently)
				return
			}
			http.Redirect(w, r, "http://"+r.Host+"/x", http.StatusMovedPermanently)
		}), evidence.Fail},
		{"relative", to("/login", 302), evidence.Fail},
		{"location without redirect", to(site+"/", 200), evidence.Fail},
		{"busy", to("", 503), evidence.Error},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := httptest.NewServer(x.h)
			_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
			n, _ := strconv.ParseUint(port, 10, 16)
			if x.h == nil {
				s.Close()
			} else {
				defer s.Close()
			}
			o := quick
			o.RootCAs, o.Cleartext = pool, uint16(n)
			probetest.Want(t, probetest.AskURL(t, k, site, o), x.want)
		})
	}
	t.Run("port not known", func(t *testing.T) {
		o := quick
		o.RootCAs = pool
		probetest.Want(t, probetest.AskURL(t, k, site, o), evidence.Error)
	})
	t.Run("named without TLS", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer s.Close()
		probetest.Want(t, probetest.AskURL(t, k, s.URL, quick), evidence.Fail)
	})
}

// raw serves answers that net/http would not give: f gets each request's head.
func raw(t *testing.T, f func(r *http.Request, head string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				var head strings.Builder
				b := bufio.NewReader(io.TeeReader(c, &head))
				r, err := http.ReadRequest(b)
				if err != nil {
					io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n<hr><center>nginx/1.22.1</center>")
					return
				}
				io.WriteString(c, f(r, head.String()))
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func plain(status int, body string, header ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), strings.Join(append(header, ""), "\r\n"), body)
}

func TestServerProbes(t *testing.T) {
	notFound := func(r *http.Request, ok string) string {
		if r.URL.Path == "/" {
			return ok
		}
		return plain(404, "no")
	}
	for _, x := range []struct {
		check, name string
		f           func(r *http.Request, head string) string
		want        evidence.Outcome
	}{
		{"odd-methods", "refused", func(r *http.Request, _ string) string {
			if r.Method != "GET" {
				return plain(405, "", "Allow: GET, HEAD")
			}
			return plain(200, "hi")
		}, evidence.Pass},
		{"odd-methods", "TRACE echoes", func(r *http.Request, head string) string {
			if r.Method == "TRACE" {
				return plain(200, head)
			}
			if r.Method != "GET" {
				return plain(405, "")
			}
			return plain(200, "hi")
		}, evidence.Fail},
		{"odd-methods", "anything goes", func(r *http.Request, _ string) string { return plain(200, "hi") }, evidence.Fail},
		{"odd-methods", "Allow names TRACE", func(r *http.Request, _ string) string {
			if r.Method == "GET" {
				return plain(200, "hi")
			}
			return plain(405, "", "Allow: GET, TRACE")
		}, evidence.Fail},

		{"server-banner", "version", func(r *http.Request, _ string) string { return plain(200, "hi", "Server: nginx/1.22.1") }, evidence.Fail},
		{"server-banner", "development server", func(r *http.Request, _ string) string {
			return plain(200, "hi", "Server: Werkzeug/3.1.3 Python/3.12.3")
		}, evidence.Fail},
		{"server-banner", "on the error page only", func(r *http.Request, _ string) string { return notFound(r, plain(200, "hi", "Server: nginx")) }, evidence.Fail}, // the test server's own 400

		{"host-header", "answers to all", func(r *http.Request, _ string) string { return plain(200, "hi") }, evidence.Fail},
		{"host-header", "takes over", func(r *http.Request, _ string) string {
			return plain(302, "", "Location: http://"+r.Host+"/home")
		}, evidence.Fail},
		{"host-header", "421", func(r *http.Request, _ string) string {
			if strings.HasPrefix(r.Host, "127.0.0.1") {
				return plain(200, "hi")
			}
			return plain(421, "")
		}, evidence.Pass},
		{"host-header", "names it in the refusal", func(r *http.Request, _ string) string {
			if strings.HasPrefix(r.Host, "127.0.0.1") {
				return plain(200, "hi")
			}
			return plain(400, "Host "+r.Host+" is not allowed")
		}, evidence.Pass},
		{"host-header", "hangs up", func(r *http.Request, _ string) string {
			if strings.HasPrefix(r.Host, "127.0.0.1") {
				return plain(200, "hi")
			}
			return ""
		}, evidence.Pass},
		{"host-header", "redirects home", func(r *http.Request, _ string) string {
			if strings.HasPrefix(r.Host, "127.0.0.1") {
				return plain(200, "hi")
			}
			return plain(301, "", "Location: http://127.0.0.1/")
		}, evidence.Pass},

		{"forwarded-host", "believed", func(r *http.Request, _ string) string {
			return plain(200, "<a href=http://"+r.Header.Get("X-Forwarded-Host")+"/reset>")
		}, evidence.Fail},
		{"forwarded-host", "underscore believed", func(r *http.Request, head string) string {
			if strings.Contains(head, "X_Forwarded_Host: ") {
				return plain(302, "", "Location: http://dewar-probe.invalid/")
			}
			return plain(200, "hi")
		}, evidence.Fail},
		{"forwarded-host", "ignored", func(r *http.Request, _ string) string { return plain(200, "hi") }, evidence.Pass},

		{"script-name-header", "obeyed", func(r *http.Request, head string) string {
			path := r.URL.Path
			for l := range strings.Lines(head) {
				if v, ok := strings.CutPrefix(l, "SCRIPT_NAME: "); ok {
					path = strings.TrimPrefix(path, strings.TrimSpace(v))
				}
			}
			if path == "/" {
				return plain(200, "hi")
			}
			return plain(404, "no")
		}, evidence.Fail},
		{"script-name-header", "ignored", func(r *http.Request, _ string) string { return notFound(r, plain(200, "hi")) }, evidence.Pass},
		{"script-name-header", "hangs up", func(r *http.Request, head string) string {
			if strings.Contains(head, "SCRIPT_NAME") {
				return ""
			}
			return notFound(r, plain(200, "hi"))
		}, evidence.Pass},
		{"script-name-header", "one page for all", func(r *http.Request, _ string) string { return plain(200, "hi") }, evidence.Error},
	} {
		t.Run(x.check+"/"+x.name, func(t *testing.T) {
			probetest.Want(t, probetest.AskURL(t, probetest.Find(t, checks, x.check), raw(t, x.f), quick), x.want)
		})
	}
	t.Run("server-banner/none", func(t *testing.T) {
		k := probetest.Find(t, checks, "server-banner")
		probetest.Want(t, probetest.Ask(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "gunicorn")
			if r.URL.Path != "/" {
				http.NotFound(w, r)
			}
		}), false), evidence.Pass)
	})
}

// TestServerProbesOverTLS: raw requests work over TLS as well.
func TestServerProbesOverTLS(t *testing.T) {
	for _, id := range []string{"odd-methods", "host-header", "script-name-header", "forwarded-host"} {
		all := probetest.Ask(t, probetest.Find(t, checks, id), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method != http.MethodGet:
				w.WriteHeader(405)
			case strings.HasPrefix(r.Host, "dewar"):
				w.WriteHeader(421)
			case r.URL.Path != "/":
				http.NotFound(w, r)
			}
		}), true)
		probetest.Want(t, all, evidence.Pass)
	}
}
