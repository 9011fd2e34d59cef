package redisstore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/freeport"
	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/redisstore/redistest"
	"github.com/dewar-security/dewar/internal/store/storetest"
)

var ctx = context.Background()

const secret = "0123456789abcdef0123456789abcdef"

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Secret == "" {
		o.Secret = secret
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second // what is slow here is the machine
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func contract(t *testing.T, o Options) {
	n := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		n++
		o := o
		o.Prefix = fmt.Sprint("test", n)
		c := &clock{now: time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)}
		o.Now = c.Now
		return storetest.Subject{
			Store: open(t, o), AdvanceRates: c.Advance,
			// The server's clock counts in milliseconds and expires what is
			// older than its time, not what is as old.
			Advance: func(d time.Duration) { time.Sleep(d + 3*time.Millisecond) },
		}
	})
}

func TestContract(t *testing.T) {
	for _, program := range redistest.Installed(t) {
		t.Run(program, func(t *testing.T) {
			contract(t, Options{Addresses: []string{redistest.StartProgram(t, program).Address}})
		})
	}
}

func TestContractCluster(t *testing.T) {
	nodes := redistest.StartCluster(t)
	contract(t, Options{Addresses: []string{nodes[0].Address}, Cluster: true})
	for _, n := range nodes {
		if keys := n.MustDo("DBSIZE"); keys == ":0" {
			t.Errorf("%s has nothing: the test is of one server", n.Address)
		}
	}
}

// TestSentinel: the master dies, and the store goes on with the one that
// Sentinel promotes: bans are there, followers are not lost.
func TestSentinel(t *testing.T) {
	master := redistest.Start(t)
	replica := redistest.Start(t, "replicaof", fmt.Sprint("127.0.0.1 ", master.Port))
	for range 2400 {
		if strings.Contains(replica.Info("replication"), "master_link_status:up") {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	sentinel := redistest.StartSentinel(t, "main", master, 1)
	for range 1200 {
		if out, _ := sentinel.Do("SENTINEL CKQUORUM main"); strings.HasPrefix(out, "+OK") && strings.Contains(master.Info("replication"), "connected_slaves:1") && strings.Contains(sentinel.Info("sentinel"), "slaves=1") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	s := open(t, Options{Addresses: []string{sentinel.Address}, Master: "main"})
	if warnings, err := s.Check(ctx); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	r := store.Follow(s, "ban/", store.FollowOptions{Every: -1})
	defer r.Close()
	if err := r.Put(ctx, "ban/a", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if replica.MustDo("DBSIZE") == master.MustDo("DBSIZE") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	master.Kill()
	failed, err := 0, error(nil)
	for range 1200 {
		if err = s.Put(ctx, "ban/b", []byte("2"), time.Hour); err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("while there is no master: %v", err)
		}
		failed++
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("no new master was found: %v", err)
	}
	if failed == 0 {
		t.Error("the master's death was not noticed: the test shows nothing")
	}
	if v, ok, err := s.Get(ctx, "ban/a"); string(v) != "1" || !ok || err != nil {
		t.Errorf("after the failover: %q %v %v", v, ok, err)
	}
	if err := r.Refresh(ctx); err != nil || !r.Has("ban/a") || !r.Has("ban/b") {
		t.Errorf("the follower: %v, %d known", err, r.Len())
	}
}

// TestNothingPersonal: neither names, keys nor values can be read in the
// server, and values cannot be moved to another key or read with another
// secret.
func TestNothingPersonal(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, Options{Addresses: []string{server.Address}})
	client := "198.51.100.77"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Put(ctx, "ban/"+client, []byte("alice guessed"), time.Hour))
	must(s.Delete(ctx, "ban/"+client))
	must(s.Put(ctx, "ban/"+client, []byte("alice guessed"), time.Hour))
	must(s.Put(ctx, "Alice/"+client, []byte("alice guessed"), time.Hour))
	must(s.Put(ctx, client, []byte("alice guessed"), time.Hour))
	_, err := s.Once(ctx, "token of alice "+client, time.Hour)
	must(err)
	_, err = s.Allow(ctx, "rate:alice:"+client, store.Rate{Requests: 5, Per: time.Hour}, 1)
	must(err)
	keys, _, err := s.client.Scan(ctx, 0, "*", 1000).Result()
	must(err)
	if len(keys) < 8 {
		t.Fatalf("only %d keys", len(keys))
	}
	var values []string
	for _, k := range keys {
		if d, err := s.client.PTTL(ctx, k).Result(); err != nil || d <= 0 {
			t.Errorf("%q lives for ever: %v %v", k, d, err)
		}
		dump, err := s.client.Dump(ctx, k).Result()
		must(err)
		for _, word := range []string{client, "lice", "token", "guess"} {
			if strings.Contains(k, word) || strings.Contains(dump, word) {
				t.Errorf("%q can be read at %q", word, k)
			}
		}
		if v, err := s.client.Get(ctx, k).Result(); err == nil && strings.Contains(k, ":v:") {
			values = append(values, k, v)
		}
	}
	// A value put in another's place is refused.
	must(s.client.Set(ctx, values[0], values[3], time.Hour).Err())
	bad := 0
	for _, key := range []string{"ban/" + client, "Alice/" + client, client} {
		if _, _, err := s.Get(ctx, key); errors.Is(err, store.ErrUnavailable) {
			bad++
		}
	}
	if bad != 1 {
		t.Errorf("%d values are refused, want the one that was moved", bad)
	}
	other := open(t, Options{Addresses: []string{server.Address}, Secret: "another secret of ours, and as long"})
	if _, ok, err := other.Get(ctx, "ban/"+client); ok || err != nil {
		t.Errorf("with another secret: %v %v", ok, err)
	}
	if s := fmt.Sprint(open(t, Options{Addresses: []string{"h:1"}, Password: "hunter2", Username: "u"})); strings.Contains(s, "hunter2") {
		t.Error("the password is shown")
	}
}

// TestServerForgot: a server that comes back empty gets the bans again from
// those who know them, and scripts are loaded again.
func TestServerForgot(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, Options{Addresses: []string{server.Address}})
	a := store.Follow(s, "ban/", store.FollowOptions{Every: -1})
	defer a.Close()
	if err := a.Put(ctx, "ban/x", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Put(ctx, "ban/y", nil, time.Hour), a.Delete(ctx, "ban/y"), a.Refresh(ctx)); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := a.Refresh(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a dead server: %v", err)
	}
	if !a.Has("ban/x") {
		t.Error("the ban ended with the server")
	}
	server.Run()
	if err := retry(func() error { return a.Refresh(ctx) }); err != nil {
		t.Fatal(err)
	}
	if !a.Has("ban/x") {
		t.Error("the ban ended with the server's memory")
	}
	b := store.Follow(s, "ban/", store.FollowOptions{Every: -1})
	defer b.Close()
	if !b.Has("ban/x") || b.Has("ban/y") {
		t.Error("the server was not told again")
	}
}

func retry(do func() error) (err error) {
	for range 600 {
		if err = do(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// TestNodes: three nodes on one server never allow more than the limit in
// sum, however their clocks differ, alone and in an AllowMany.
func TestNodes(t *testing.T) {
	server := redistest.Start(t)
	var passed, both atomic.Int64
	var wg sync.WaitGroup
	rate := store.Rate{Requests: 5, Per: time.Hour, Burst: 250}
	for range 3 {
		s := open(t, Options{Addresses: []string{server.Address}})
		for range 4 {
			wg.Go(func() {
				for range 100 {
					r, err := s.Allow(ctx, "client", rate, 1)
					if err != nil {
						t.Error(err)
						return
					}
					if r.Allowed {
						passed.Add(1)
					}
					rs, err := s.AllowMany(ctx, []store.Take{{Key: "account", Rate: rate, Cost: 1}, {Key: "network", Rate: rate, Cost: 1}})
					if err != nil {
						t.Error(err)
						return
					}
					if rs[0].Allowed && rs[1].Allowed {
						both.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if passed.Load() != 250 {
		t.Errorf("%d passed, the limit is 250", passed.Load())
	}
	if both.Load() > 250 || both.Load() < 200 {
		t.Errorf("%d passed two limits of 250", both.Load())
	}
}

// TestFull: a server whose memory is full refuses what is new, says so, and
// still answers.
func TestFull(t *testing.T) {
	server := redistest.Start(t, "maxmemory", "4mb", "maxmemory-policy", "noeviction")
	s := open(t, Options{Addresses: []string{server.Address}})
	if warnings, err := s.Check(ctx); len(warnings) > 0 || err != nil {
		t.Fatal(warnings, err)
	}
	if err := s.Put(ctx, "ban/a", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		err = s.Put(ctx, fmt.Sprint("session/", i), make([]byte, 4000), time.Hour)
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a full server: %v", err)
	}
	if v, ok, err := s.Get(ctx, "ban/a"); string(v) != "1" || !ok || err != nil {
		t.Errorf("reading from a full server: %q %v %v", v, ok, err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Errorf("a full server counts as gone: %v", err)
	}
	server.MustDo("CONFIG SET maxmemory-policy allkeys-lru")
	if warnings, err := s.Check(ctx); len(warnings) != 1 || !strings.Contains(warnings[0], "noeviction") || err != nil {
		t.Errorf("a server that evicts: %v %v", warnings, err)
	}
}

// dialler counts connections.
type dialler struct{ n atomic.Int64 }

func (d *dialler) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.n.Add(1)
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// TestStalled: a server that is there and does not answer costs a call its
// time-out and no more, whatever the call; behind store.Resilient it costs a
// few calls that and then none.
func TestStalled(t *testing.T) {
	server := redistest.Start(t)
	d := &dialler{}
	s := open(t, Options{Addresses: []string{server.Address}, Timeout: 500 * time.Millisecond, Dial: d.dial})
	rate := store.Rate{Requests: 100, Per: time.Hour}
	if err := retry(func() error { _, err := s.Allow(ctx, "k", rate, 1); return err }); err != nil {
		t.Fatal(err)
	}
	server.Stall()
	defer server.Resume()
	for name, do := range map[string]func() error{
		"Allow": func() error { _, err := s.Allow(ctx, "k", rate, 1); return err },
		"Get":   func() error { _, _, err := s.Get(ctx, "k"); return err },
		"Put":   func() error { return s.Put(ctx, "ban/k", nil, time.Hour) },
		"Once":  func() error { _, err := s.Once(ctx, "k", time.Hour); return err },
		"Update": func() error {
			return s.Update(ctx, "k", func([]byte, bool) ([]byte, time.Duration, error) { return nil, time.Hour, nil })
		},
	} {
		begin := time.Now()
		if err := do(); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s on a stalled server: %v", name, err)
		}
		// Not a measurement: go-redis waits for 10 s here by default.
		if took := time.Since(begin); took > 7*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	dialled := d.n.Load()
	calls := &counter{Store: s}
	r := store.Resilient(calls, store.ResilientOptions{Cool: time.Hour})
	defer r.Close()
	for range 1000 {
		if res, err := r.Allow(ctx, "k", rate, 1); err != nil || res.Limit != 100 {
			t.Fatalf("the limiter answers %+v %v", res, err)
		}
	}
	if n := calls.n.Load(); n != 3 {
		t.Errorf("%d of 1000 calls waited for the server, want 3", n)
	}
	if n := d.n.Load() - dialled; n > 6 {
		t.Errorf("%d connections were made meanwhile", n)
	}
	server.Resume()
}

// counter counts what reaches a store.
type counter struct {
	store.Store
	n atomic.Int64
}

func (c *counter) Allow(ctx context.Context, key string, r store.Rate, cost int) (store.Result, error) {
	c.n.Add(1)
	return c.Store.Allow(ctx, key, r, cost)
}

func (c *counter) AllowMany(ctx context.Context, takes []store.Take) ([]store.Result, error) {
	c.n.Add(1)
	return c.Store.AllowMany(ctx, takes)
}

// TestKilledAndBack: behind store.Resilient a server that dies costs no
// answer, and is used again when it is back, without a storm of dials.
func TestKilledAndBack(t *testing.T) {
	server := redistest.Start(t)
	d := &dialler{}
	s := open(t, Options{Addresses: []string{server.Address}, Dial: d.dial})
	r := store.Resilient(s, store.ResilientOptions{Cool: 20 * time.Millisecond})
	defer r.Close()
	rate := store.Rate{Requests: 1000, Per: time.Hour}
	allow := func() store.Result {
		t.Helper()
		res, err := r.Allow(ctx, "k", rate, 1)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := allow(); !res.Allowed || res.Remaining != 999 {
		t.Fatalf("%+v", res)
	}
	server.Kill()
	before := d.n.Load()
	for range 500 {
		if res := allow(); !res.Allowed {
			t.Fatalf("%+v", res)
		}
	}
	if err := r.Health(); err == nil {
		t.Error("a dead server is no trouble")
	}
	if n := d.n.Load() - before; n > 60 {
		t.Errorf("%d dials while 500 requests came", n)
	}
	server.Run()
	if err := retry(r.Health); err != nil {
		t.Fatalf("the server is back: %v", err)
	}
	if res := allow(); !res.Allowed || res.Remaining != 999 {
		t.Errorf("not counted by the new server: %+v", res)
	}
}

// TestSlow: a server that is busy for longer than the time-out is left alone
// and used again afterwards.
func TestSlow(t *testing.T) {
	server := redistest.Start(t)
	calls := &counter{Store: open(t, Options{Addresses: []string{server.Address}, Timeout: 300 * time.Millisecond})}
	r := store.Resilient(calls, store.ResilientOptions{Cool: 5 * time.Millisecond})
	defer r.Close()
	rate := store.Rate{Requests: 1000, Per: time.Hour}
	if err := retry(func() error {
		if _, err := r.Allow(ctx, "k", rate, 1); err != nil {
			return err
		}
		return r.Health()
	}); err != nil {
		t.Fatal(err)
	}
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		_, _ = server.Do("DEBUG SLEEP 5")
	}()
	for !hangs(server) {
	}
	before := calls.n.Load()
	for range 2000 {
		if _, err := r.Allow(ctx, "k", rate, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := calls.n.Load() - before; n != 3 {
		t.Errorf("%d of 2000 calls waited for a busy server, want 3", n)
	}
	<-busy
	if err := retry(r.Health); err != nil {
		t.Errorf("after it had time again: %v", err)
	}
}

// hangs reports whether a server does not answer for a while.
func hangs(s *redistest.Server) bool {
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	fmt.Fprint(c, "PING\r\n")
	_, err = c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestClusterNodeStalled: one of three masters hangs. A few calls wait, then
// none; the others' keys and its own are served again when it goes on.
func TestClusterNodeStalled(t *testing.T) {
	nodes := redistest.StartCluster(t)
	s := open(t, Options{Addresses: []string{nodes[0].Address, nodes[1].Address}, Cluster: true, Timeout: 300 * time.Millisecond})
	r := store.Resilient(s, store.ResilientOptions{Cool: 50 * time.Millisecond})
	defer r.Close()
	rate := store.Rate{Requests: 1000, Per: time.Hour}
	all := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := r.Allow(ctx, fmt.Sprint("client", i), rate, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := retry(func() error { all(100); return r.Health() }); err != nil {
		t.Fatal(err)
	}
	before := r.Status().Failed
	nodes[2].Stall()
	all(3000)
	if n := r.Status().Failed - before; n < 3 || n > 40 {
		t.Errorf("%d of 3000 calls waited for a node that hangs", n)
	}
	nodes[2].Resume()
	if err := retry(r.Health); err != nil {
		t.Fatalf("after it went on: %v", err)
	}
	before = r.Status().Failed
	all(300)
	if n := r.Status().Failed - before; n > 2 {
		t.Errorf("%d of 300 calls fail after it went on", n)
	}
}

// certificates makes an authority, and a certificate of it for 127.0.0.1, as
// files in a folder.
func certificates(t *testing.T) (dir string, pool *x509.CertPool) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return dir, pool
}

// TestTLS: the connection is encrypted, the server is verified, and shows who
// it asks that we are.
func TestTLS(t *testing.T) {
	dir, pool := certificates(t)
	port := freeport.Take(t)
	redistest.Start(t, "tls-port", fmt.Sprint(port), "tls-cert-file", filepath.Join(dir, "cert.pem"), "tls-key-file", filepath.Join(dir, "key.pem"), "tls-ca-cert-file", filepath.Join(dir, "cert.pem"), "tls-auth-clients", "yes")
	o, err := ParseURL(fmt.Sprint("rediss://127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	o.TLS.RootCAs, o.TLS.Certificates = pool, []tls.Certificate{own}
	s := open(t, o)
	if err := s.Put(ctx, "ban/a", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	_, other := certificates(t)
	for name, change := range map[string]func(*tls.Config){
		"another authority":  func(c *tls.Config) { c.RootCAs = other },
		"the system's":       func(c *tls.Config) { c.RootCAs = nil },
		"no own certificate": func(c *tls.Config) { c.Certificates = nil },
	} {
		bad := o
		bad.TLS = o.TLS.Clone()
		change(bad.TLS)
		if _, _, err := open(t, bad).Get(ctx, "ban/a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGroupedRoundTrips: what is asked together is one round trip.
func TestGroupedRoundTrips(t *testing.T) {
	server := redistest.Start(t)
	trips := atomic.Int64{}
	s := open(t, Options{Addresses: []string{server.Address}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &countingConn{c, &trips}, err
	}})
	takes := []store.Take{}
	keys := []string{}
	for i := range 5 {
		takes = append(takes, store.Take{Key: fmt.Sprint(i), Rate: store.Rate{Requests: 5, Per: time.Hour}, Cost: 1})
		keys = append(keys, fmt.Sprint("ban/", i))
	}
	for range 2 { // connections are made and scripts loaded
		if _, err := s.AllowMany(ctx, takes); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond) // and the spare connections, too
	before := trips.Load()
	if _, err := s.AllowMany(ctx, takes); err != nil {
		t.Fatal(err)
	}
	if n := trips.Load() - before; n != 1 {
		t.Errorf("five limits took %d writes to the server", n)
	}
	before = trips.Load()
	if _, err := s.GetMany(ctx, keys); err != nil {
		t.Fatal(err)
	}
	if n := trips.Load() - before; n != 1 {
		t.Errorf("five values took %d writes to the server", n)
	}
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(b)
}

func TestPosition(t *testing.T) {
	p := position{epoch: "abc"}
	p.at[3] = id{5, 1<<64 - 1}
	if q, err := parsePosition(p.String()); err != nil || q != p {
		t.Errorf("%v %v", q, err)
	}
}

func FuzzOpenValue(f *testing.F) {
	s, err := New(Options{Addresses: []string{"127.0.0.1:1"}, Secret: secret})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("k"), []byte("v"), 3)
	f.Fuzz(func(t *testing.T, key, value []byte, flip int) {
		sealed := []byte(s.sealValue("at", string(key), value))
		k, v, err := s.openValue("at", string(sealed))
		if err != nil || k != string(key) || !bytes.Equal(v, value) {
			t.Fatalf("%q %q %v", k, v, err)
		}
		sealed[uint(flip)%uint(len(sealed))] ^= 1
		if _, _, err := s.openValue("at", string(sealed)); err == nil {
			t.Fatal("a changed value is taken")
		}
		_, _, _ = s.openValue("at", string(value))
		_, _ = parsePosition(string(value))
	})
}

func BenchmarkStore(b *testing.B) {
	s := open(b, Options{Addresses: []string{redistest.Start(b).Address}})
	rate := store.Rate{Requests: 100, Per: time.Minute}
	b.Run("Allow", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("AllowMany of 4", func(b *testing.B) {
		takes := []store.Take{{Key: "a", Rate: rate, Cost: 1}, {Key: "b", Rate: rate, Cost: 1}, {Key: "c", Rate: rate, Cost: 1}, {Key: "d", Rate: rate, Cost: 1}}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.AllowMany(ctx, takes); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Allow from 64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("Allow over the limit, behind Resilient", func(b *testing.B) {
		r := store.Resilient(s, store.ResilientOptions{}) // not closed: s goes on
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Allow(ctx, "rate:g:192.0.2.1/32", rate, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Get", func(b *testing.B) {
		_ = s.Put(ctx, "session/a", make([]byte, 200), time.Hour)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := s.Get(ctx, "session/a"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Put(ctx, "session/a", make([]byte, 200), time.Hour); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestUpdatesAtOnce: one client whose requests all change one value does not
// make the server look gone, and when it is gone those who wait for one another
// do not wait for it one after the other.
func TestUpdatesAtOnce(t *testing.T) {
	server := redistest.Start(t)
	const many = 2000
	r := store.Resilient(open(t, Options{Addresses: []string{server.Address}, Timeout: 500 * time.Millisecond}), store.ResilientOptions{})
	defer r.Close()
	add := func(old []byte, _ bool) ([]byte, time.Duration, error) {
		return append(bytes.Clone(old), 'x'), time.Hour, nil
	}
	if err := r.Update(ctx, "session/a", add); err != nil {
		t.Fatal(err)
	}
	all := func() (failed int, took time.Duration) {
		var wg sync.WaitGroup
		var n atomic.Int64
		begin := time.Now()
		for range many {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				if r.Update(ctx, "session/a", add) != nil {
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return int(n.Load()), time.Since(begin)
	}
	failed, _ := all()
	v, _, err := r.Get(ctx, "session/a")
	if err != nil || len(v) != 1+many-failed || failed > many/10 || r.Status().Opened > 0 {
		t.Errorf("%d of %d failed, %d are there, %v, %+v", failed, many, len(v)-1, err, r.Status())
	}
	server.Stall()
	defer server.Resume()
	if failed, took := all(); failed != many || took > 50*time.Second {
		t.Errorf("with a server that hangs: %d of %d failed within %s", failed, many, took)
	}
}
