package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/store"
)

// acmeCertificates gets certificates from an authority that speaks ACME (RFC
// 8555) and renews them in time, by CertMagic. A name without a certificate
// is refused in the handshake until there is one; one that cannot be renewed
// is served until it is; failures are tried again ever more slowly.
type acmeCertificates struct {
	names    []string
	progress func(Step)
	now      func() time.Time
	cache    *certmagic.Cache
	config   *certmagic.Config
	issuer   *certmagic.ACMEIssuer
	// serving is closed when the addresses are open: the authority knocks.
	serving <-chan struct{}
	where   string

	mu     sync.Mutex
	failed map[string]acmeFailure // by name
}

type acmeFailure struct {
	at  time.Time
	err string
}

// acmeOptions are what the settings do not say. Tests shorten the times.
type acmeOptions struct {
	now      func() time.Time
	progress func(Step)
	environ  []string
	dir      string // of the project
	serving  <-chan struct{}
	shared   store.Store // nil when only this node is there
	// check is how often certificates are looked at; 0 means ten minutes.
	check time.Duration
	// httpPort and tlsPort are where challenges arrive on this machine; 0
	// when they cannot.
	httpPort, tlsPort int
}

// challengePort returns the port of the first address that has one.
func challengePort(addrs []string) int {
	for _, a := range addrs {
		if network, address, err := deployment.ParseListen(a); err == nil && network == "tcp" {
			_, port, _ := net.SplitHostPort(address)
			if n, _ := strconv.Atoi(port); n > 0 {
				return n
			}
		}
	}
	return 0
}

// newACMECertificates reads what is in the storage already. The authority is
// asked later, by run.
func newACMECertificates(c deployment.Config, o acmeOptions) (*acmeCertificates, error) {
	a := &acmeCertificates{names: c.ACMENames(), progress: o.progress, now: o.now, serving: o.serving, failed: map[string]acmeFailure{}}
	if len(a.names) == 0 {
		return nil, errors.New("deployment.acme.names: no name to get a certificate for: list them there or in deployment.allowed-hosts")
	}
	storage, where, err := acmeStorage(c.ACME, o)
	if err != nil {
		return nil, err
	}
	a.where = where
	logger := zap.New(acmeLog{o.progress})
	check := o.check
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		RenewCheckInterval: check,
		Logger:             logger,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:           storage,
		Logger:            logger,
		OnEvent:           a.event,
		DefaultServerName: a.names[0], // a client without SNI
	})
	template := certmagic.ACMEIssuer{
		CA:                      c.ACME.Directory,
		Email:                   c.ACME.Email,
		Agreed:                  true,
		Profile:                 c.ACME.Profile,
		DisableHTTPChallenge:    !slices.Contains(c.ACME.Challenges, "http-01") || o.httpPort == 0,
		DisableTLSALPNChallenge: !slices.Contains(c.ACME.Challenges, "tls-alpn-01") || o.tlsPort == 0,
		// Our own listeners answer: on these ports CertMagic finds somebody
		// there already.
		AltHTTPPort:    o.httpPort,
		AltTLSALPNPort: o.tlsPort,
		Logger:         logger,
	}
	fail := func(err error) (*acmeCertificates, error) {
		a.cache.Stop()
		return nil, err
	}
	if name := c.ACME.TrustedRoot; name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(o.dir, name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return fail(fmt.Errorf("deployment.acme.trusted-root: %w", err))
		}
		template.TrustedRoots = x509.NewCertPool()
		if !template.TrustedRoots.AppendCertsFromPEM(b) {
			return fail(fmt.Errorf("deployment.acme.trusted-root: %s has no PEM certificate", name))
		}
	}
	if slices.Contains(c.ACME.Challenges, "dns-01") {
		if template.DNS01Solver, err = newDNSUpdate(c.ACME, o); err != nil {
			return fail(err)
		}
	} else if template.DisableHTTPChallenge && template.DisableTLSALPNChallenge {
		return fail(errors.New("deployment.acme.challenges: http-01 wants an address in listen-http, tls-alpn-01 one in listen, and neither is there"))
	}
	if id := c.ACME.EABKey; id != "" {
		key, err := deployment.Secret(c.ACME.EABSecret, o.environ, o.dir)
		if err != nil {
			return fail(fmt.Errorf("deployment.acme.eab-secret: %w", err))
		}
		template.ExternalAccount = &acme.EAB{KeyID: id, MACKey: key}
	}
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	for _, n := range a.names {
		if _, err := a.config.CacheManagedCertificate(context.Background(), n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(fmt.Errorf("the certificate for %s in %s cannot be read: %w", n, where, err))
		}
	}
	return a, nil
}

// event hears what came of CertMagic's work.
func (a *acmeCertificates) event(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		a.mu.Lock()
		delete(a.failed, name)
		a.mu.Unlock()
		verb := "obtained"
		if r, _ := data["renewal"].(bool); r {
			verb = "renewed"
		}
		a.progress(Step{Kind: StepDone, Name: "tls", Text: fmt.Sprintf("certificate for %s %s from %v", name, verb, data["issuer"])})
	case "cert_failed":
		err := fmt.Sprint(data["error"])
		a.mu.Lock()
		a.failed[name] = acmeFailure{a.now(), clean(err)}
		a.mu.Unlock()
		text := fmt.Sprintf("no certificate for %s: %s; it is tried again, ever more slowly", name, clean(err))
		if a.find(name) != nil {
			text = fmt.Sprintf("the certificate for %s could not be renewed and stays in use: %s", name, clean(err))
		}
		a.progress(Step{Kind: StepWarning, Name: "tls", Text: text})
	}
	return nil
}

// find returns the certificate for a name, or nil.
func (a *acmeCertificates) find(name string) *tls.Certificate {
	for _, c := range a.cache.AllMatchingCertificates(name) {
		return &c.Certificate
	}
	return nil
}

func (a *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.config.GetCertificate(hello)
}

func (a *acmeCertificates) current() *tls.Certificate {
	for _, n := range a.names {
		if c := a.find(n); c != nil {
			return c
		}
	}
	return nil
}

func (a *acmeCertificates) covers() []string { return a.names }

func (a *acmeCertificates) missing() error {
	return a.problems(func(c *tls.Certificate) string {
		if c == nil {
			return "no certificate for %s yet"
		}
		return ""
	})
}

func (a *acmeCertificates) state() error {
	return a.problems(func(c *tls.Certificate) string {
		switch {
		case c == nil:
			return "no certificate for %s yet"
		case a.now().After(c.Leaf.NotAfter):
			return "the certificate for %s has expired"
		}
		return ""
	})
}

// problems lists what is wrong by name, with what the last try met.
func (a *acmeCertificates) problems(look func(*tls.Certificate) string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, n := range a.names {
		what := look(a.find(n))
		if what == "" {
			continue
		}
		what = fmt.Sprintf(what, n)
		if f, ok := a.failed[n]; ok {
			what += fmt.Sprintf(" (last try %s: %s)", f.at.Format(time.TimeOnly), f.err)
		}
		out = append(out, what)
	}
	if len(out) == 0 {
		return nil
	}
	return errors.New(strings.Join(out, "; "))
}

func (a *acmeCertificates) describe() string {
	var have, want []string
	for _, n := range a.names {
		if c := a.find(n); c != nil {
			have = append(have, fmt.Sprintf("%s until %s", n, c.Leaf.NotAfter.Format(time.DateOnly)))
		} else {
			want = append(want, n)
		}
	}
	s := "certificates by ACME from " + a.issuer.CA + ", kept in " + a.where
	if len(have) > 0 {
		s += ": " + strings.Join(have, ", ")
	}
	if len(want) > 0 {
		s += "; to be obtained: " + strings.Join(want, ", ")
	}
	return s
}

func (a *acmeCertificates) run(ctx context.Context) {
	defer a.cache.Stop()
	select {
	case <-a.serving:
	case <-ctx.Done():
		return
	}
	if err := a.config.ManageAsync(ctx, a.names); err != nil {
		a.progress(Step{Kind: StepWarning, Name: "tls", Text: "certificates: " + clean(err.Error())})
	}
	<-ctx.Done()
}

// challenge answers a request of the authority (HTTP-01), if it is one.
func (a *acmeCertificates) challenge(w http.ResponseWriter, r *http.Request) bool {
	return a.issuer.HandleHTTPChallenge(w, r)
}

// acmeStorage opens where certificates, their keys and the account are kept.
func acmeStorage(c deployment.ACME, o acmeOptions) (certmagic.Storage, string, error) {
	if c.Storage == "shared" {
		if o.shared == nil {
			return nil, "", errors.New("deployment.acme.storage: \"shared\" wants a store that several nodes share, and there is none: give a folder, or leave it out")
		}
		secret, err := deployment.Secret(c.StorageSecret, o.environ, o.dir)
		if err != nil {
			return nil, "", fmt.Errorf("deployment.acme.storage-secret: %w", err)
		}
		s, err := newSharedStorage(o.shared, secret, o.now)
		if err != nil {
			return nil, "", fmt.Errorf("deployment.acme.storage-secret: %w", err)
		}
		return s, "the shared store", nil
	}
	dir := c.Storage
	env := environmentOf(o.environ)
	switch {
	case dir != "" && !filepath.IsAbs(dir):
		dir = filepath.Join(o.dir, dir)
	case dir != "":
	case env["STATE_DIRECTORY"] != "":
		first, _, _ := strings.Cut(env["STATE_DIRECTORY"], ":")
		dir = filepath.Join(first, "acme")
	case filepath.IsAbs(env["XDG_DATA_HOME"]):
		dir = filepath.Join(env["XDG_DATA_HOME"], "dewar", "acme")
	case filepath.IsAbs(env["HOME"]):
		dir = filepath.Join(env["HOME"], ".local", "share", "dewar", "acme")
	default:
		return nil, "", errors.New("deployment.acme.storage: no folder for keys and certificates: give one (neither $STATE_DIRECTORY, $XDG_DATA_HOME nor $HOME is set)")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("deployment.acme.storage: %w", err)
	}
	if err := checkPrivate(dir); err != nil {
		return nil, "", fmt.Errorf("deployment.acme.storage: %w", err)
	}
	return &certmagic.FileStorage{Path: dir}, dir, nil
}

// acmeLog hands CertMagic's warnings on; what it informs about comes as an
// event.
type acmeLog struct{ progress func(Step) }

func (l acmeLog) Enabled(z zapcore.Level) bool      { return z >= zapcore.ErrorLevel }
func (l acmeLog) With([]zapcore.Field) zapcore.Core { return l }
func (l acmeLog) Sync() error                       { return nil }
func (l acmeLog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return c.AddCore(e, l)
	}
	return c
}

// Write implements [zapcore.Core]. Handshakes are the clients' doing, and the
// listener reports those that fail.
func (l acmeLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if strings.Contains(e.Message, "tls-alpn challenge") || strings.Contains(e.Message, "will retry") || strings.Contains(e.Message, "could not get certificate from issuer") {
		return nil // said by the listener, and by the events
	}
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	var parts []string
	for k, v := range m.Fields {
		if k == "error" || k == "identifier" || k == "subjects" {
			parts = append(parts, fmt.Sprintf("%v", v))
		}
	}
	sort.Strings(parts)
	l.progress(Step{Kind: StepWarning, Name: "tls", Text: clean(strings.Join(append([]string{"acme: " + e.Message}, parts...), ": "))})
	return nil
}

// alpnProtocol is what the authority negotiates to validate (RFC 8737).
const alpnProtocol = acmez.ACMETLS1Protocol

// pemCertificates reads all certificates of a PEM file.
func pemCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block of type %q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
}
