package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/store"
	"github.com/dewar-security/dewar/internal/store/redisstore"
	"github.com/dewar-security/dewar/internal/store/sqlitestore"
)

// sharedStore is the store of one running guard, with what the guard can say
// about it.
type sharedStore struct {
	store.Store
	kind string // memory, file, redis
	what string // for people
	// resilient is the same store if it may be gone, file if it is one.
	resilient *store.ResilientStore
	file      *sqlitestore.Store
	warnings  []string
}

// nodes returns the store if other nodes share it, else nil.
func (s *sharedStore) nodes() store.Store {
	if s.kind != "redis" {
		return nil
	}
	return s.Store
}

// withSharedSecrets returns the settings in which nodes that share a store
// open each other's sessions: what a layer makes its keys of is the store's
// secret unless it has one of its own. Each derives keys of its own from it.
func withSharedSecrets(cfg *catalog.Config) *catalog.Config {
	if cfg.Store.URL == "" {
		return cfg
	}
	c := *cfg
	if c.Session.Keys == "" {
		c.Session.Keys = c.Store.Secret
	}
	if len(c.Authn.Secrets) == 0 {
		c.Authn.Secrets = []string{c.Store.Secret}
	}
	return &c
}

// health says what is wrong with the store now.
func (s *sharedStore) health() error {
	switch {
	case s.resilient != nil:
		return s.resilient.Health()
	case s.file != nil:
		return s.file.Health()
	}
	return nil
}

// evidence says what is kept where, and whether it is.
func (s *sharedStore) evidence(now time.Time) evidence.Evidence {
	e := evidence.Evidence{Control: "deployment", Face: evidence.Guard, Check: "store", Time: now}
	switch err := s.health(); {
	case err != nil:
		e.Summary = "the store for bans, sessions, lockouts and limits: " + err.Error()
		e.Fix = "see that it can be reached and written; the guard goes on by itself when it can"
	case len(s.warnings) > 0:
		e.Summary = strings.Join(s.warnings, "; ")
		e.Fix = "see to what is named there"
	default:
		e.Outcome, e.Summary = evidence.Pass, "bans, sessions and lockouts are kept in "+s.what
		if s.kind == "memory" {
			e.Summary += ": a restart forgets them"
		}
	}
	return e
}

// openStore opens the store of the settings. What it has to say later it
// says as an event and on the screen.
func (a *app) openStore(ctx context.Context, loaded *catalog.Loaded, dir string, listeners *gateway.Listeners, publish func(event.Event)) (*sharedStore, error) {
	c := loaded.Config.Store
	kind := c.Kind
	auto := kind == "auto" || kind == ""
	if auto {
		if kind = "file"; c.URL != "" {
			kind = "redis"
		}
	}
	warn := func(text string) {
		a.progress().step(gateway.Step{Kind: gateway.StepWarning, Name: "store", Text: text})
	}
	switch kind {
	case "redis":
		s, err := a.openRedis(ctx, &c, dir, publish, warn)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		return s, nil
	case "file":
		s, err := a.openFile(&c, dir, listeners, publish, warn)
		if err == nil || !auto || errors.Is(err, sqlitestore.ErrInUse) {
			return s, err
		}
		text := fmt.Sprintf("bans, sessions and lockouts are in memory and end with the guard: %v", err)
		warn(text)
		return &sharedStore{Store: store.NewMemory(store.MemoryOptions{}), kind: "memory", what: "memory", warnings: []string{text}}, nil
	}
	return &sharedStore{Store: store.NewMemory(store.MemoryOptions{}), kind: "memory", what: "memory"}, nil
}

func (a *app) openFile(c *catalog.Store, dir string, listeners *gateway.Listeners, publish func(event.Event), warn func(string)) (*sharedStore, error) {
	folder, err := c.Path, error(nil)
	switch {
	case folder == "":
		folder, err = gateway.DataDir(dir, a.environ)
	case !filepath.IsAbs(folder):
		folder = filepath.Join(dir, folder)
		fallthrough
	default:
		err = gateway.PrivateDir(folder)
	}
	if err != nil {
		return nil, fmt.Errorf("store.path: %w", err)
	}
	file := filepath.Join(folder, sqlitestore.FileName)
	out := &sharedStore{kind: "file", what: file}
	s, err := sqlitestore.Open(sqlitestore.Options{
		Path: file, TakingOver: listeners.TakingOver(),
		Warn: func(text string) {
			warn(text)
			publish(event.Event{Time: time.Now(), Name: "dewar_store_damaged", Severity: event.Critical, Control: "deployment", Message: "the store's file was damaged", Detail: text})
		},
	})
	if errors.Is(err, sqlitestore.ErrInUse) {
		if state, serr := gateway.StateDir(dir, a.environ); serr == nil {
			if other, rerr := gateway.ReadState(state); rerr == nil {
				return nil, fmt.Errorf("a guard already runs for %s (process %d, %s): stop it first: %w", dir, other.PID, strings.Join(other.URLs, ", "), sqlitestore.ErrInUse)
			}
		}
		return nil, fmt.Errorf("store: %w: stop it first, or give this guard a store.path of its own", err)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	out.Store, out.file = s, s
	return out, nil
}

// storeStart is how long the start waits for a store to answer.
const storeStart = 5 * time.Second

func (a *app) openRedis(ctx context.Context, c *catalog.Store, dir string, publish func(event.Event), warn func(string)) (*sharedStore, error) {
	o, err := redisstore.ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	o.Username, o.Prefix, o.Timeout = c.Username, c.Prefix, time.Duration(c.Timeout)
	for _, s := range []struct {
		key, ref string
		to       *string
	}{{"password", c.Password, &o.Password}, {"sentinel-password", c.SentinelPassword, &o.SentinelPassword}, {"secret", c.Secret, &o.Secret}} {
		if s.ref == "" {
			continue
		}
		if *s.to, err = deployment.Secret(s.ref, a.environ, dir); err != nil {
			return nil, fmt.Errorf("store.%s: %w", s.key, err)
		}
	}
	if c.CA != "" || c.Certificate != "" {
		if o.TLS == nil {
			return nil, errors.New("store.ca: the connection is not encrypted: write rediss:// in store.url")
		}
		if err := clientTLS(o.TLS, c, dir); err != nil {
			return nil, err
		}
	}
	s, err := redisstore.New(o)
	if err != nil {
		return nil, err
	}
	out := &sharedStore{kind: "redis", what: s.String()}
	within, cancel := context.WithTimeout(ctx, storeStart)
	out.warnings, err = s.Check(within)
	cancel()
	switch {
	case redisstore.Refused(err):
		s.Close()
		return nil, err
	case err != nil:
		// The site is not down because its store is.
		warn(fmt.Sprintf("it does not answer, the guard starts without it: %v", err))
	}
	for _, w := range out.warnings {
		warn(w)
	}
	out.resilient = store.Resilient(s, store.ResilientOptions{Nodes: c.Nodes, Failed: err, OnChange: func(err error) {
		e := event.Event{Time: time.Now(), Name: "dewar_store_back", Severity: event.Info, Control: "deployment", Message: "the shared store answers again"}
		if err != nil {
			e.Name, e.Severity, e.Message, e.Detail = "dewar_store_gone", event.High, "the shared store is gone", err.Error()
		}
		publish(e)
	}})
	out.Store = out.resilient
	return out, nil
}

// clientTLS sets what the server is verified by and what it is shown.
func clientTLS(t *tls.Config, c *catalog.Store, dir string) error {
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	if c.CA != "" {
		b, err := os.ReadFile(at(c.CA))
		if err != nil {
			return fmt.Errorf("store.ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return fmt.Errorf("store.ca: %s holds no certificate", c.CA)
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(at(c.Certificate), at(c.Key))
		if err != nil {
			return fmt.Errorf("store.certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return nil
}
