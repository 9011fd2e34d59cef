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
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	caYears   = 10
	leafDays  = 30
	renewDays = 10
)

// localCertificates signs with a certificate authority that is made once on
// this machine, for development. The authority is constrained to loopback
// names (RFC 5280, 4.2.1.10): whoever steals its key cannot impersonate a
// real site to a browser that trusts it.
type localCertificates struct {
	dir      string
	names    []string
	now      func() time.Time
	progress func(Step)
	loaded   atomic.Pointer[tls.Certificate]
	ca       *x509.Certificate
	caKey    *ecdsa.PrivateKey
}

// LocalCADir returns where the local authority is kept:
// $XDG_DATA_HOME/dewar/ca, by default ~/.local/share/dewar/ca.
func LocalCADir(environ []string) (string, error) {
	env := environmentOf(environ)
	if d := env["XDG_DATA_HOME"]; filepath.IsAbs(d) {
		return filepath.Join(d, "dewar", "ca"), nil
	}
	if d := env["HOME"]; filepath.IsAbs(d) {
		return filepath.Join(d, ".local", "share", "dewar", "ca"), nil
	}
	return "", errors.New("deployment.tls = \"local\" keeps its certificate authority below $XDG_DATA_HOME or $HOME, and neither is set")
}

// newLocalCertificates makes or opens the authority in dir and a certificate
// for loopback and those of hosts that the authority may sign for.
func newLocalCertificates(dir string, hosts []string, now func() time.Time, progress func(Step)) (*localCertificates, error) {
	l := &localCertificates{dir: dir, now: now, progress: progress, names: []string{"localhost", "127.0.0.1", "::1"}}
	var left []string
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimSpace(h))
		if name, ok := strings.CutPrefix(h, "."); ok { // every name below
			h = "*." + name
		}
		if i := strings.LastIndexByte(h, ':'); i > 0 && strings.Count(h, ":") == 1 {
			h = h[:i]
		}
		switch ip := net.ParseIP(strings.Trim(h, "[]")); {
		case h == "" || h == "*" || h == "localhost":
		case ip != nil && ip.IsLoopback():
			l.names = append(l.names, ip.String())
		case ip == nil && (strings.HasSuffix(h, ".localhost") || strings.HasSuffix(h, ".test")):
			l.names = append(l.names, h)
		default:
			left = append(left, h)
		}
	}
	if len(left) > 0 {
		progress(Step{Kind: StepNote, Name: "tls", Text: fmt.Sprintf("the local certificate does not cover %s: the authority signs for localhost, .localhost, .test and loopback only", strings.Join(left, ", "))})
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("local certificate authority: %w", err)
	}
	if err := l.renew(); err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	return l, nil
}

// File returns the authority's certificate: what a browser is told to trust.
func (l *localCertificates) file() string { return filepath.Join(l.dir, "dewar-local-ca.pem") }

func (l *localCertificates) keyFile() string { return filepath.Join(l.dir, "dewar-local-ca.key") }

func (l *localCertificates) current() *tls.Certificate { return l.loaded.Load() }

func (l *localCertificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return l.current(), nil
}

func (l *localCertificates) covers() []string { return namesOf(l.current()) }

func (*localCertificates) missing() error { return nil }

func (*localCertificates) state() error { return nil }

func (l *localCertificates) describe() string {
	return "certificate by the local authority " + l.file()
}

// open reads the authority, or makes it. Two starts at once agree on one.
func (l *localCertificates) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	if err := checkPrivate(l.dir); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	cert, certErr := os.ReadFile(l.file())
	key, keyErr := os.ReadFile(l.keyFile())
	switch {
	case certErr == nil && keyErr == nil:
		if st, err := os.Stat(l.keyFile()); err == nil && st.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s can be read by other users (mode %04o): its key may be known to them; delete %s and trust the new authority", l.keyFile(), st.Mode().Perm(), l.dir)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err == nil {
			l.ca, err = x509.ParseCertificate(pair.Certificate[0])
		}
		k, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if err != nil || !ok || !l.ca.IsCA {
			return fmt.Errorf("%s and its key are not the authority that dewar made: delete %s to make a new one", l.file(), l.dir)
		}
		l.caKey = k
		if l.now().AddDate(0, 0, leafDays).Before(l.ca.NotAfter) {
			return nil
		}
		l.progress(Step{Kind: StepWarning, Name: "tls", Text: "the local authority expires: a new one is made, trust it as the old one"})
	case errors.Is(certErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist):
	case certErr != nil:
		return certErr
	default:
		return keyErr
	}
	return l.make()
}

// make writes a new authority.
func (l *localCertificates) make() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Dewar local authority (" + host + ")", Organization: []string{"Dewar development"}},
		NotBefore:             l.now().Add(-time.Hour),
		NotAfter:              l.now().AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost", "test"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePrivate(l.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	if err := writePrivate(l.file(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return err
	}
	if l.ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	l.caKey = key
	l.progress(Step{Kind: StepNote, Name: "tls", Text: "made a local certificate authority; to trust it: " + trustCommand(l.file())})
	return nil
}

// trustCommand says how this system is told to trust a certificate.
func trustCommand(file string) string {
	for _, s := range []struct{ dir, command string }{
		{"/usr/local/share/ca-certificates", "sudo cp %s /usr/local/share/ca-certificates/dewar-local-ca.crt && sudo update-ca-certificates"},
		{"/etc/pki/ca-trust/source/anchors", "sudo cp %s /etc/pki/ca-trust/source/anchors/ && sudo update-ca-trust"},
		{"/Library/Keychains", "sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain %s"},
	} {
		if exists(s.dir) {
			return fmt.Sprintf(s.command, file) + " (browsers with a store of their own: import the file)"
		}
	}
	return "import " + file + " into your browser, or curl --cacert " + file
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// renew signs a new certificate; its key never touches the disk.
func (l *localCertificates) renew() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "localhost", Organization: []string{"Dewar development"}},
		NotBefore:    l.now().Add(-time.Hour),
		NotAfter:     l.now().AddDate(0, 0, leafDays),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range l.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, l.ca, key.Public(), l.caKey)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	l.loaded.Store(&tls.Certificate{Certificate: [][]byte{der, l.ca.Raw}, PrivateKey: key, Leaf: leaf})
	return nil
}

func (l *localCertificates) run(ctx context.Context) {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if l.now().AddDate(0, 0, renewDays).After(l.current().Leaf.NotAfter) {
				if err := l.renew(); err != nil {
					l.progress(Step{Kind: StepWarning, Name: "tls", Text: "the local certificate cannot be renewed: " + err.Error()})
				}
			}
		}
	}
}

// writePrivate writes a file that only we can read, whole or not at all.
func writePrivate(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".dewar-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
