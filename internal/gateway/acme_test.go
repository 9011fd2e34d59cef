package gateway

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"golang.org/x/crypto/ocsp"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/store/redisstore/redistest"
)

// nameServer answers that every name is this machine, keeps TXT records, and
// takes signed updates of them.
type nameServer struct {
	addr string
	mu   sync.Mutex
	txt  map[string][]string
	// updates counts those that were signed well, refused the others.
	updates, refused int
}

const tsigSecret = "c2VjcmV0IG9mIGF0IGxlYXN0IDMyIGJ5dGVzIGxlbmd0aCE="

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	pc, err := net.ListenPacket("udp", fmt.Sprint("127.0.0.1:", freeport.Take(t)))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: pc.LocalAddr().String(), txt: map[string][]string{}}
	secrets := map[string]string{"dewar.": tsigSecret}
	// Without it a server takes no updates.
	accept := func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
	for _, s := range []*dns.Server{
		{PacketConn: pc, Handler: n, TsigSecret: secrets, MsgAcceptFunc: accept},
		{Listener: ln, Handler: n, TsigSecret: secrets, MsgAcceptFunc: accept},
	} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative = true
	if r.Opcode == dns.OpcodeUpdate {
		if r.IsTsig() == nil || w.TsigStatus() != nil || r.Question[0].Name != "test." {
			n.refused++
			m.SetRcode(r, dns.RcodeNotAuth)
			w.WriteMsg(m)
			return
		}
		n.updates++
		for _, rr := range r.Ns {
			t, ok := rr.(*dns.TXT)
			name := strings.ToLower(rr.Header().Name)
			switch {
			case ok && rr.Header().Class == dns.ClassINET:
				n.txt[name] = append(n.txt[name], t.Txt[0])
			case ok:
				n.txt[name] = slices.DeleteFunc(n.txt[name], func(s string) bool { return s == t.Txt[0] })
			}
		}
		m.SetTsig("dewar.", dns.HmacSHA256, 300, time.Now().Unix())
		w.WriteMsg(m)
		return
	}
	q := r.Question[0]
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	switch q.Qtype {
	case dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(127, 0, 0, 1)})
	case dns.TypeTXT:
		for _, s := range n.txt[strings.ToLower(q.Name)] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: h, Txt: []string{s}})
		}
	case dns.TypeSOA:
		soa := &dns.SOA{Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.test.", Mbox: "root.test."}
		if q.Name == "test." {
			m.Answer = append(m.Answer, soa)
		} else {
			m.Ns = append(m.Ns, soa)
		}
	case dns.TypeNS:
		if q.Name == "test." {
			m.Answer = append(m.Answer, &dns.NS{Hdr: h, Ns: "ns.test."})
		}
	}
	w.WriteMsg(m)
}

// authority is a real ACME server (pebble) in this process.
type authority struct {
	directory string
	root      string // PEM file by which its own address is verified
	issuing   *x509.CertPool
	names     *nameServer
	signer    *x509.Certificate
	key       crypto.Signer
	mu        sync.Mutex
	down      bool
	orders    int
}

// ocsp says that every certificate is good.
func (a *authority) ocsp(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		var q *ocsp.Request
		if q, err = ocsp.ParseRequest(b); err == nil {
			b, err = ocsp.CreateResponse(a.signer, a.signer, ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}, a.key)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(b)
}

func startAuthority(t *testing.T, httpPort, tlsPort int, validity time.Duration) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "10") // a client must cope
	a := &authority{names: startNameServer(t)}
	logger := log.New(io.Discard, "", 0)
	memory := db.NewMemoryStore()
	responder := httptest.NewServer(http.HandlerFunc(a.ocsp))
	t.Cleanup(responder.Close)
	issuer := ca.New(logger, memory, responder.URL, "rsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: uint64(validity / time.Second)}})
	v := va.New(logger, httpPort, tlsPort, false, a.names.addr, memory)
	front := wfe.New(logger, memory, v, issuer, []string{"pebble.test"}, false, false, 1, 1)
	handler := front.Handler()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		down := a.down
		if strings.Contains(r.URL.Path, "order-plz") {
			a.orders++
		}
		a.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	block, _ := pem.Decode(issuer.GetIntermediateCert(0).PEM())
	var err error
	if a.signer, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	a.key = issuer.GetIntermediateKey(0)
	a.directory = s.URL + wfe.DirectoryPath
	a.root = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(a.root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	a.issuing = x509.NewCertPool()
	a.issuing.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	return a
}

func (a *authority) set(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// acmeSite is a gateway in front of an upstream that gets its certificate from
// an authority.
func acmeSite(t *testing.T, httpPort, tlsPort int, a *authority, change func(*Options)) *running {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "from the app") }))
	t.Cleanup(up.Close)
	c := testConfig()
	c.TLS, c.Listen, c.ListenHTTP = "acme", []string{fmt.Sprintf("127.0.0.1:%d", tlsPort)}, []string{fmt.Sprintf("127.0.0.1:%d", httpPort)}
	c.ACME = deployment.ACME{Names: []string{"shop.test"}, Directory: a.directory, TrustedRoot: a.root, Email: "ops@shop.test",
		Challenges: []string{"http-01", "tls-alpn-01"}, Storage: filepath.Join(t.TempDir(), "acme"), DNSAlgorithm: "hmac-sha256"}
	o := Options{Dir: t.TempDir(), Config: c, Upstream: up.URL, Environ: cleanEnviron(t, "TSIG="+tsigSecret), CertificateCheck: time.Second}
	if change != nil {
		change(&o)
	}
	return launch(t, o)
}

// handshake returns the certificate that the site serves for a name.
func handshake(port int, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	d := &net.Dialer{Timeout: 30 * time.Second}
	c, err := tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: name, RootCAs: roots})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func eventually(t *testing.T, r *running, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s\n%s", what, r.steps)
		}
	}
}

// TestACME gets a certificate by each challenge from a real ACME server.
func TestACME(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01", "dns-01"} {
		t.Run(challenge, func(t *testing.T) {
			httpPort, tlsPort := freeport.Take(t), freeport.Take(t)
			a := startAuthority(t, httpPort, tlsPort, 90*24*time.Hour)
			name := "shop.test"
			r := acmeSite(t, httpPort, tlsPort, a, func(o *Options) {
				o.Config.ACME.Challenges = []string{challenge}
				if challenge == "dns-01" {
					name = "any.shop.test"
					o.Config.ACME.Names = []string{"*.shop.test"}
					o.Config.ACME.DNSServer, o.Config.ACME.DNSKey, o.Config.ACME.DNSSecret = a.names.addr, "dewar", "env:TSIG"
				}
			})
			eventually(t, r, "readiness", func() bool { return r.g.Ready() == nil })
			leaf, err := handshake(tlsPort, name, a.issuing)
			if err != nil {
				t.Fatal(err)
			}
			if !r.steps.has(StepDone, "obtained") {
				t.Errorf("not said:\n%s", r.steps)
			}
			if _, err := handshake(tlsPort, "other.test", a.issuing); err == nil {
				t.Error("a certificate for a name that is not ours")
			}
			// Its state is stapled: no browser has to ask (RFC 6066, 8).
			var staple []byte
			eventually(t, r, "a stapled OCSP answer", func() bool {
				c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tlsPort), &tls.Config{ServerName: name, RootCAs: a.issuing})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				staple = c.ConnectionState().OCSPResponse
				return len(staple) > 0
			})
			if res, err := ocsp.ParseResponse(staple, a.signer); err != nil || res.Status != ocsp.Good || res.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
				t.Errorf("stapled: %+v %v", res, err)
			}
			if challenge != "dns-01" {
				// A reload may ask for more names; those that are there stay.
				c := *r.g.config()
				c.ACME.Names = []string{"shop.test", "more.test"}
				if err := r.g.Change(t.Context(), Change{Config: c}); err != nil {
					t.Fatal(err)
				}
				if same, err := handshake(tlsPort, name, a.issuing); err != nil || same.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
					t.Errorf("after a reload: %v", err)
				}
				eventually(t, r, "the second name", func() bool {
					_, err := handshake(tlsPort, "more.test", a.issuing)
					return err == nil && r.g.Ready() == nil
				})
			}
			if challenge == "dns-01" {
				a.names.mu.Lock()
				if left := a.names.txt["_acme-challenge.shop.test."]; len(left) > 0 || a.names.updates < 2 || a.names.refused > 0 {
					t.Errorf("records left: %v; %d updates, %d refused", left, a.names.updates, a.names.refused)
				}
				a.names.mu.Unlock()
			}
			dir := r.g.config().ACME.Storage
			if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v %v", dir, st, err)
			}
			_ = filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
				if err == nil && st.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %04o", p, st.Mode().Perm())
				}
				return err
			})
			if err := r.end(); err != nil {
				t.Error(err)
			}
			// A restart takes what is there, and asks nobody.
			a.set(true)
			o := r.g.o
			o.Progress, o.Handler, o.Listeners = nil, nil, nil
			r = launch(t, o)
			eventually(t, r, "readiness after a restart", func() bool { return r.g.Ready() == nil })
			again, err := handshake(tlsPort, name, a.issuing)
			if err != nil || again.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

// TestACMERenewal: a certificate is renewed while it is valid, and one that
// cannot be renewed stays in use.
func TestACMERenewal(t *testing.T) {
	httpPort, tlsPort := freeport.Take(t), freeport.Take(t)
	a := startAuthority(t, httpPort, tlsPort, 45*time.Second)
	r := acmeSite(t, httpPort, tlsPort, a, nil)
	eventually(t, r, "readiness", func() bool { return r.g.Ready() == nil })
	first, err := handshake(tlsPort, "shop.test", a.issuing)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, r, "a renewal", func() bool {
		c, err := handshake(tlsPort, "shop.test", a.issuing)
		if err != nil {
			t.Fatalf("during the renewal: %v", err)
		}
		return c.SerialNumber.Cmp(first.SerialNumber) != 0
	})
	if !r.steps.has(StepDone, "renewed") {
		t.Errorf("not said:\n%s", r.steps)
	}
	a.set(true)
	eventually(t, r, "a renewal that fails", func() bool { return r.steps.has(StepWarning, "could not be renewed and stays in use") })
	if _, err := handshake(tlsPort, "shop.test", a.issuing); err != nil {
		t.Errorf("the old certificate is not served: %v", err)
	}
	select {
	case err := <-r.done:
		t.Errorf("the site ended: %v", err)
		r.done <- err
	default:
	}
}

// TestACMEFailure: a site whose authority is down, or does not believe it,
// runs, is not ready and says why; nobody gets another certificate.
func TestACMEFailure(t *testing.T) {
	httpPort, tlsPort := freeport.Take(t), freeport.Take(t)
	for _, c := range []struct {
		name string
		// The authority knocks where nobody is.
		wrong int
		down  bool
		want  string
	}{{"down", 0, true, "503"}, {"challenge", 1, false, "shop.test"}} {
		t.Run(c.name, func(t *testing.T) {
			at := [2]int{httpPort, tlsPort}
			if c.wrong > 0 {
				at = [2]int{freeport.Take(t), freeport.Take(t)}
			}
			a := startAuthority(t, at[0], at[1], time.Hour)
			a.set(c.down)
			r := acmeSite(t, httpPort, tlsPort, a, nil)
			eventually(t, r, "the failure", func() bool { return r.steps.has(StepWarning, "no certificate for shop.test") })
			if err := r.g.Ready(); err == nil || !strings.Contains(err.Error(), "no certificate for shop.test yet") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ready: %v", err)
			}
			if e := r.g.Evidence(); !strings.Contains(fmt.Sprint(e), "no certificate for shop.test yet") {
				t.Errorf("evidence: %v", e)
			}
			if _, err := handshake(tlsPort, "shop.test", a.issuing); err == nil {
				t.Error("something is served")
			}
			select {
			case err := <-r.done:
				t.Errorf("the site ended: %v", err)
				r.done <- err
			default:
			}
			// It does not knock again at once.
			a.mu.Lock()
			n := a.orders
			a.mu.Unlock()
			time.Sleep(2 * time.Second)
			a.mu.Lock()
			if a.orders > n+1 {
				t.Errorf("%d orders within two seconds after a failure", a.orders-n)
			}
			a.mu.Unlock()
		})
	}
}

// TestACMEShared: of two nodes with one store, each by a connection of its own
// to a real server, one gets the certificate, and the other takes it.
func TestACMEShared(t *testing.T) {
	server := redistest.Start(t)
	httpPort, tlsPort := freeport.Take(t), freeport.Take(t)
	a := startAuthority(t, httpPort, tlsPort, time.Hour)
	use := func(o *Options) {
		o.Store = redisStore(t, server, "shop")
		o.Config.ACME.Storage, o.Config.ACME.StorageSecret = "shared", "env:TSIG"
	}
	r := acmeSite(t, httpPort, tlsPort, a, use)
	eventually(t, r, "readiness", func() bool { return r.g.Ready() == nil })
	first, err := handshake(tlsPort, "shop.test", a.issuing)
	if err != nil {
		t.Fatal(err)
	}
	a.set(true)
	p2, t2 := freeport.Take(t), freeport.Take(t)
	r2 := acmeSite(t, p2, t2, a, use)
	eventually(t, r2, "readiness of the second node", func() bool { return r2.g.Ready() == nil })
	second, err := handshake(t2, "shop.test", a.issuing)
	if err != nil || second.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Errorf("the second node: %v", err)
	}
}

func TestACMESettings(t *testing.T) {
	private := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(private, []byte("c2VjcmV0\n"), 0o644)
	base := func() deployment.Config {
		c := testConfig()
		c.TLS, c.Listen = "acme", []string{"127.0.0.1:8443"}
		c.ACME = deployment.ACME{Names: []string{"shop.test"}, Directory: "https://ca.test/dir", Challenges: []string{"dns-01"}, DNSServer: "127.0.0.1", DNSKey: "k", DNSSecret: "env:X", DNSAlgorithm: "hmac-sha256", Storage: t.TempDir()}
		return c
	}
	for want, change := range map[string]func(*deployment.Config){
		"$X is not set":               func(*deployment.Config) {},
		"can be read by everybody":    func(c *deployment.Config) { c.ACME.DNSSecret = "file:" + private },
		"acme.storage: \"shared\"":    func(c *deployment.Config) { c.ACME.Storage, c.ACME.StorageSecret = "shared", "env:Y" },
		"can be entered by other":     func(c *deployment.Config) { os.Chmod(c.ACME.Storage, 0o755) },
		"acme.trusted-root":           func(c *deployment.Config) { c.ACME.TrustedRoot = "nowhere.pem" },
		"http-01 wants an address in": func(c *deployment.Config) { c.ACME.Challenges, c.ListenHTTP = []string{"http-01"}, nil },
	} {
		c := base()
		os.Chmod(c.ACME.Storage, 0o700)
		change(&c)
		_, err := newACMECertificates(c, acmeOptions{now: time.Now, progress: func(Step) {}, dir: t.TempDir(), httpPort: challengePort(c.ListenHTTP), tlsPort: challengePort(c.Listen)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
