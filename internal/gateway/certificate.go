package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// certificates is where the certificate comes from: fileCertificates,
// localCertificates or acmeCertificates.
type certificates interface {
	// get returns the certificate for a client.
	get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// current returns the certificate in use; nil when there is none yet.
	current() *tls.Certificate
	// covers returns the names and addresses that visitors may use.
	covers() []string
	// missing returns for which names there is no certificate, or nil: they
	// cannot be served.
	missing() error
	// state returns what visitors are told is wrong, or nil.
	state() error
	// run keeps it current until ctx ends.
	run(ctx context.Context)
	// describe says in half a sentence where it comes from.
	describe() string
}

// keptCertificates is where the certificate comes from now, and what ends the
// goroutine that keeps it current when another takes its place.
type keptCertificates struct {
	certificates
	replaced chan struct{}
}

func keep(c certificates) *keptCertificates {
	return &keptCertificates{c, make(chan struct{})}
}

// keepCertificates keeps the certificate current until ctx ends, wherever it
// comes from meanwhile.
func (g *Gateway) keepCertificates(ctx context.Context) error {
	for ctx.Err() == nil {
		k := g.certs.Load()
		kctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.run(kctx)
		}()
		select {
		case <-ctx.Done():
		case <-k.replaced:
		}
		cancel()
		<-done
	}
	return nil
}

// setCertificates changes where the certificate comes from.
func (g *Gateway) setCertificates(c certificates) {
	close(g.certs.Swap(keep(c)).replaced)
}

// namesOf returns the DNS names and addresses that a certificate covers.
func namesOf(c *tls.Certificate) []string {
	if c == nil || c.Leaf == nil {
		return nil
	}
	names := slices.Clone(c.Leaf.DNSNames)
	for _, ip := range c.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// fileCertificates reads the operator's files, and reads them again when they
// change.
type fileCertificates struct {
	cert, key string
	now       func() time.Time
	progress  func(Step)
	every     time.Duration

	loaded atomic.Pointer[tls.Certificate]
	seen   [2]fileStamp
	// refused is the last message about a pair that could not be used, so
	// that it is said once and not at every look.
	refused string
	expiry  string
}

// fileStamp changes when a file is written or replaced.
type fileStamp struct {
	modified time.Time
	size     int64
	id       fs.FileInfo
}

func (a fileStamp) same(b fileStamp) bool {
	return a.size == b.size && a.modified.Equal(b.modified) && (a.id == nil) == (b.id == nil) && (a.id == nil || os.SameFile(a.id, b.id))
}

func stampOf(name string) fileStamp {
	st, err := os.Stat(name) // follows links: Kubernetes swaps one
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{st.ModTime(), st.Size(), st}
}

// Stamps tells whether files changed, by what the file system says about them.
type Stamps struct {
	names  []string
	stamps []fileStamp
}

// StampFiles looks at files as they are now. One that is not there is one
// that may come.
func StampFiles(names []string) Stamps {
	s := Stamps{names: names}
	for _, n := range names {
		s.stamps = append(s.stamps, stampOf(n))
	}
	return s
}

// Changed lists the files of s that are not as they were in old, or that old
// did not look at.
func (s Stamps) Changed(old Stamps) []string {
	var out []string
	for i, n := range s.names {
		j := slices.Index(old.names, n)
		if j < 0 || !s.stamps[i].same(old.stamps[j]) {
			out = append(out, n)
		}
	}
	return out
}

// Of returns what s says about names; files that it did not look at are looked
// at now.
func (s Stamps) Of(names []string) Stamps {
	out := StampFiles(names)
	for i, n := range names {
		if j := slices.Index(s.names, n); j >= 0 {
			out.stamps[i] = s.stamps[j]
		}
	}
	return out
}

const maxPEM = 1 << 20

// newFileCertificates loads the pair; an unusable one is an error that names
// the setting.
func newFileCertificates(cfg deployment.Config, now func() time.Time, progress func(Step)) (*fileCertificates, error) {
	f := &fileCertificates{cert: cfg.Certificate, key: cfg.Key, now: now, progress: progress, every: 3 * time.Second}
	f.seen = [2]fileStamp{stampOf(f.cert), stampOf(f.key)}
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	f.loaded.Store(c)
	f.warn(c)
	return f, nil
}

func (f *fileCertificates) current() *tls.Certificate { return f.loaded.Load() }

func (f *fileCertificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current(), nil
}

func (f *fileCertificates) covers() []string { return namesOf(f.current()) }

func (*fileCertificates) missing() error { return nil }

func (f *fileCertificates) state() error {
	if t := f.current().Leaf.NotAfter; f.now().After(t) {
		return fmt.Errorf("the certificate %s expired on %s", f.cert, t.Format(time.DateOnly))
	}
	return nil
}

func (f *fileCertificates) describe() string {
	return fmt.Sprintf("certificate %s, valid until %s", f.cert, f.current().Leaf.NotAfter.Format(time.DateOnly))
}

func (f *fileCertificates) load() (*tls.Certificate, error) {
	read := func(setting, name string) ([]byte, error) {
		if name == "" {
			return nil, fmt.Errorf("deployment.%s is not set: give the PEM file, or set deployment.tls to \"local\" (development) or \"off\" (a proxy in front ends TLS)", setting)
		}
		st, err := os.Stat(name)
		if err == nil && (!st.Mode().IsRegular() || st.Size() > maxPEM) {
			err = fmt.Errorf("%s is no PEM file of at most %d bytes", name, maxPEM)
		}
		if err != nil {
			return nil, fmt.Errorf("deployment.%s: %w", setting, err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("deployment.%s: %w", setting, err)
		}
		return b, nil
	}
	cert, err := read("certificate", f.cert)
	if err != nil {
		return nil, err
	}
	key, err := read("key", f.key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// The error names types and PEM blocks, never key material.
		return nil, fmt.Errorf("deployment.certificate %s and deployment.key %s are no pair: %w", f.cert, f.key, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("deployment.certificate %s: %w", f.cert, err)
		}
	}
	if len(namesOf(&pair)) == 0 {
		return nil, fmt.Errorf("deployment.certificate %s names no host (no subject alternative name): browsers refuse it", f.cert)
	}
	if t := pair.Leaf.NotAfter; f.now().After(t) {
		return nil, fmt.Errorf("deployment.certificate %s expired on %s: renew it", f.cert, t.Format(time.DateOnly))
	}
	return &pair, nil
}

// warn says once per certificate what is about to go wrong.
func (f *fileCertificates) warn(c *tls.Certificate) {
	if st, err := os.Stat(f.key); err == nil && st.Mode().Perm()&0o044 != 0 {
		f.progress(Step{Kind: StepWarning, Name: "tls", Text: fmt.Sprintf("the private key %s can be read by other users (mode %04o): chmod 600 it", f.key, st.Mode().Perm())})
	}
	if t := c.Leaf.NotBefore; f.now().Before(t) {
		f.progress(Step{Kind: StepWarning, Name: "tls", Text: fmt.Sprintf("the certificate %s is valid only from %s", f.cert, t.Format(time.DateTime))})
	}
	f.warnExpiry(c)
}

func (f *fileCertificates) warnExpiry(c *tls.Certificate) {
	left := c.Leaf.NotAfter.Sub(f.now())
	text := ""
	switch {
	case left <= 0:
		text = fmt.Sprintf("the certificate %s has expired: browsers refuse it", f.cert)
	case left < 14*24*time.Hour:
		text = fmt.Sprintf("the certificate %s expires in %d days", f.cert, int(left.Hours()/24))
	}
	if text != "" && text != f.expiry {
		f.progress(Step{Kind: StepWarning, Name: "tls", Text: text})
	}
	f.expiry = text
}

func (f *fileCertificates) run(ctx context.Context) {
	t := time.NewTicker(f.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f.poll()
		}
	}
}

// poll loads the pair again when a file changed. A pair that cannot be used
// leaves the old one in place: often it is half of a renewal.
func (f *fileCertificates) poll() {
	f.warnExpiry(f.current())
	now := [2]fileStamp{stampOf(f.cert), stampOf(f.key)}
	if now[0].same(f.seen[0]) && now[1].same(f.seen[1]) {
		return
	}
	c, err := f.load()
	if err != nil {
		if err.Error() != f.refused {
			f.refused = err.Error()
			f.progress(Step{Kind: StepWarning, Name: "tls", Text: "the certificate in use is kept: " + err.Error()})
		}
		// A missing file is looked for again; a bad one until it changes.
		if !errors.Is(err, fs.ErrNotExist) {
			f.seen = now
		}
		return
	}
	f.seen, f.refused = now, ""
	if bytes.Equal(c.Certificate[0], f.current().Certificate[0]) {
		return
	}
	f.loaded.Store(c)
	f.progress(Step{Kind: StepDone, Name: "tls", Text: "certificate read again: " + f.describe()})
	f.warn(c)
}
