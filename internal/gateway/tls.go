package gateway

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// policy is how TLS is spoken now: one is made when the settings change.
type policy struct {
	config  *tls.Config
	tickets *ticketKeys
	// authority is the client certificates' file, as it was read.
	authority []byte
}

// newPolicy returns TLS 1.2 with forward secrecy and authenticated encryption
// only, and 1.3. Curves are Go's own choice: X25519MLKEM768 first.
func (g *Gateway) newPolicy(c deployment.Config) (*policy, error) {
	p := &policy{}
	protocols := []string{"h2", "http/1.1"}
	if c.TLS == "acme" {
		protocols = append(protocols, alpnProtocol)
	}
	p.config = &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of 1.2; those of 1.3 cannot be chosen
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:     protocols,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certs.Load().get(h) },
	}
	if name := c.ClientCA; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(g.o.Dir, name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("deployment.client-ca: %w", err)
		}
		list, err := pemCertificates(b)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("no PEM certificate in it")
		}
		pool := x509.NewCertPool()
		for _, c := range list {
			if err == nil && !c.IsCA {
				err = fmt.Errorf("%q is no authority: it may not sign certificates", c.Subject)
			}
			pool.AddCert(c)
		}
		if err != nil {
			return nil, fmt.Errorf("deployment.client-ca: %s: %w", name, err)
		}
		// Which paths want one the layer knows; a wrong one is refused here.
		p.config.ClientAuth, p.config.ClientCAs = tls.VerifyClientCertIfGiven, pool
		p.authority = b
	}
	secret := ""
	if c.TicketSecret != "" {
		var err error
		if secret, err = deployment.Secret(c.TicketSecret, g.o.Environ, g.o.Dir); err == nil && len(secret) < 16 {
			err = fmt.Errorf("at least 16 characters")
		}
		if err != nil {
			return nil, fmt.Errorf("deployment.ticket-secret: %w", err)
		}
	}
	p.tickets = newTicketKeys(secret, p.authority)
	p.tickets.rotate(g.o.Now())
	p.config.SetSessionTicketKeys(p.tickets.list())
	return p, nil
}

// tlsConfig is what listeners are made with: each handshake asks for the
// policy in force.
func (g *Gateway) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.policy.Load().config, nil },
		// Never used: GetConfigForClient goes before.
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certs.Load().get(h) },
	}
}

// ticketPeriod is how long tickets are made with one key; they are accepted
// for ticketPeriods of them.
const (
	ticketPeriod  = 8 * time.Hour
	ticketPeriods = 3
)

// ticketKeys are the keys of session tickets (RFC 8446, 4.6.1). A key that
// lives for ever would open every recorded TLS 1.2 connection that was
// resumed by it.
//
// With a secret the keys follow from it and the time: all nodes that know it
// resume each other's sessions, without asking anybody. Without, they are
// random. In both cases they are bound to the authority of client
// certificates: who was believed under another one is asked again.
type ticketKeys struct {
	secret, bound []byte
	mu            sync.Mutex
	slot          int64
	keys          [][32]byte // the one in use first
}

func newTicketKeys(secret string, authority []byte) *ticketKeys {
	sum := sha256.Sum256(authority)
	return &ticketKeys{secret: []byte(secret), bound: sum[:], slot: -1}
}

// rotate brings the keys to a time and reports whether they changed.
func (k *ticketKeys) rotate(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	slot := now.Unix() / int64(ticketPeriod/time.Second)
	if slot == k.slot {
		return false
	}
	if len(k.secret) > 0 {
		k.keys = nil
		// The next one, too: another node's clock may be ahead.
		for _, s := range []int64{slot, slot + 1, slot - 1, slot - 2} {
			b, err := hkdf.Key(sha256.New, k.secret, k.bound, fmt.Sprintf("dewar session ticket %d", s), 32)
			if err != nil {
				panic(err) // only for lengths that this is not
			}
			k.keys = append(k.keys, [32]byte(b))
		}
	} else {
		var key [32]byte
		rand.Read(key[:])
		k.keys = append([][32]byte{key}, k.keys...)
		k.keys = k.keys[:min(len(k.keys), ticketPeriods)]
	}
	k.slot = slot
	return true
}

func (k *ticketKeys) list() [][32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([][32]byte(nil), k.keys...)
}

// keepTickets rotates the keys until ctx ends.
func (g *Gateway) keepTickets(ctx context.Context) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			g.rotateTickets()
		}
	}
}

func (g *Gateway) rotateTickets() {
	if p := g.policy.Load(); p.tickets.rotate(g.o.Now()) {
		p.config.SetSessionTicketKeys(p.tickets.list())
	}
}
