// Package console is the guard's private listener: health, readiness and
// metrics for the machine it runs on, and the checklist, its evidence and the
// latest events for whoever runs the guard.
//
//	GET /healthz    the process answers                          open
//	GET /readyz     upstream and layers work, or 503 and why     open
//	GET /metrics    Prometheus text format                       open
//	GET /checklist  the folded checklist, JSON                   bearer token
//	GET /evidence   what the guard knows about itself, JSON      bearer token
//	GET /events     the latest events, JSON (?n=100)             bearer token
//	POST /reload    settings are read again (?app=1: the app's   bearer token
//	                code as well); the answer says what came
//	                of it, JSON
//	POST /operate/GROUP/VERB?ARG=VALUE                               bearer token
//	                a command of a layer ("ban add"), answer as JSON
//	POST /upgrade   the program is started anew and takes over   bearer token
//
// It listens on loopback or a unix socket and nowhere else. Loopback is not
// private on a machine with several users, so what could help an attacker
// needs the token in run.json, which only the guard's user can read. Health
// and metrics are open: load balancers and scrapers carry no token, and they
// name no address, no path and no secret.
//
// A web page in the operator's browser can reach loopback too. Requests whose
// Host is not this machine are refused (DNS rebinding, CWE-350), and so are
// those that the browser marks as coming from another site.
package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// Options says what the console shows. Every function may be called from
// several goroutines at once; a nil one answers 404.
type Options struct {
	// Address is deployment.console: loopback or unix:/path.
	Address string
	// Token opens what is not for everybody on this machine; see [NewToken].
	// It must not be empty.
	Token string
	// Ready returns nil when requests can be answered, or says why not.
	Ready func() error
	// Layers returns the state of every layer, by name: nil when it works.
	Layers func() map[string]error
	// Checklist and Evidence return what is encoded as JSON.
	Checklist, Evidence func(context.Context) (any, error)
	// Events returns the latest n events or fewer, redacted, newest first.
	Events func(n int) []event.Event
	// Listeners opens the address; nil inherits nothing.
	Listeners *gateway.Listeners
	// Upgrade starts the guard's program anew and hands over to it. What it
	// returns is encoded as JSON.
	Upgrade func(context.Context) (any, error)
	// Reload reads the settings again, and loads the app's code anew if app
	// is set. It returns what is encoded as JSON.
	Reload func(ctx context.Context, app bool) (any, error)
	// Operate runs a command of a layer; see [guard.Command]. It returns what
	// is encoded as JSON.
	Operate func(ctx context.Context, command string, args map[string]string) (any, error)
	// Metrics is what /metrics shows.
	Metrics *Metrics
}

// Server is an open console.
type Server struct {
	ln   net.Listener
	http *http.Server
	url  string

	handedOver atomic.Bool
}

// NewToken returns 256 random bits.
func NewToken() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Listen opens the console's address. An address that other machines can
// reach, or that is taken, is an error that names the setting.
func Listen(ctx context.Context, o Options) (*Server, error) {
	network, address, err := deployment.ParseListen(o.Address)
	if err != nil {
		return nil, fmt.Errorf("deployment.console: %w", err)
	}
	if !deployment.IsPrivateListen(network, address) {
		return nil, fmt.Errorf("deployment.console: %q can be reached from other machines: the console is for loopback (127.0.0.1:9180) or unix:/path", o.Address)
	}
	if len(o.Token) < 16 {
		return nil, errors.New("console: no token")
	}
	if o.Listeners == nil {
		o.Listeners = &gateway.Listeners{}
	}
	ln, err := o.Listeners.Listen(ctx, "console", o.Address)
	if err != nil {
		return nil, err
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		ln.Close() // "localhost" that resolves to something else
		return nil, fmt.Errorf("deployment.console: %q is %s here, which other machines can reach", o.Address, a)
	}
	s := &Server{ln: ln, url: "unix:" + address}
	if network == "tcp" {
		s.url = "http://" + ln.Addr().String()
	} else if err := os.Chmod(address, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("deployment.console: %w", err)
	}
	s.http = &http.Server{
		Handler:           handler(o, network == "unix"),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      5 * time.Minute, // a reload waits for the app
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    8 << 10,
	}
	return s, nil
}

// URL returns the address: http://127.0.0.1:9180 or unix:/path.
func (s *Server) URL() string { return s.url }

// Actor returns the pair that serves and stops, for gateway.Options.Actors.
func (s *Server) Actor() gateway.Actor {
	return gateway.Actor{
		Name: "console",
		Run: func(ctx context.Context) error {
			err := s.http.Serve(s.ln)
			if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				return err
			}
			if s.handedOver.Load() { // another process answers now: that ends nothing
				<-ctx.Done()
			}
			return nil
		},
		Stop: s.Close,
	}
}

// HandOver lets another process answer on the console's address: requests
// that are here are answered, no more are taken.
func (s *Server) HandOver() {
	s.handedOver.Store(true)
	if u, ok := s.ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	_ = s.ln.Close()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.http.Shutdown(ctx)
	}()
}

// Close stops the console at once. It may be called without Run.
func (s *Server) Close() {
	_ = s.http.Close()
	_ = s.ln.Close()
}

func handler(o Options, unix bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, o) })
	if o.Metrics != nil {
		mux.Handle("/metrics", o.Metrics.handler(o))
	}
	private := func(path string, h http.HandlerFunc) { mux.Handle(path, bearer(o.Token, h)) }
	show := func(path string, get func(context.Context) (any, error)) {
		if get == nil {
			return
		}
		private(path, func(w http.ResponseWriter, r *http.Request) {
			v, err := get(r.Context())
			if err != nil {
				text(w, http.StatusInternalServerError, err.Error()+"\n")
				return
			}
			writeJSON(w, v)
		})
	}
	show("/checklist", o.Checklist)
	show("/evidence", o.Evidence)
	if o.Events != nil {
		private("/events", func(w http.ResponseWriter, r *http.Request) {
			n := 100
			if q := r.URL.Query().Get("n"); q != "" {
				var err error
				if n, err = strconv.Atoi(q); err != nil || n < 1 || n > 1000 {
					text(w, http.StatusBadRequest, "n is a number from 1 to 1000\n")
					return
				}
			}
			events := o.Events(n)
			if events == nil {
				events = []event.Event{}
			}
			writeJSON(w, events)
		})
	}
	act := func(path string, do func(*http.Request) (any, error)) {
		private(path, func(w http.ResponseWriter, r *http.Request) {
			v, err := do(r)
			if err != nil {
				text(w, http.StatusInternalServerError, err.Error()+"\n")
				return
			}
			writeJSON(w, v)
		})
	}
	if o.Reload != nil {
		act("/reload", func(r *http.Request) (any, error) { return o.Reload(r.Context(), r.URL.Query().Get("app") == "1") })
	}
	if o.Operate != nil {
		private("/operate/{group}/{verb}", func(w http.ResponseWriter, r *http.Request) {
			args := map[string]string{}
			for name, v := range r.URL.Query() {
				if len(v) != 1 {
					text(w, http.StatusBadRequest, name+" is given twice\n")
					return
				}
				args[name] = v[0]
			}
			v, err := o.Operate(r.Context(), r.PathValue("group")+" "+r.PathValue("verb"), args)
			switch {
			case errors.Is(err, guard.ErrNoCommand):
				text(w, http.StatusNotFound, err.Error()+"\n")
			case err != nil:
				text(w, http.StatusUnprocessableEntity, err.Error()+"\n")
			default:
				writeJSON(w, v)
			}
		})
	}
	if o.Upgrade != nil {
		act("/upgrade", func(r *http.Request) (any, error) { return o.Upgrade(r.Context()) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		acts := r.URL.Path == "/reload" || r.URL.Path == "/upgrade" || strings.HasPrefix(r.URL.Path, "/operate/")
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !unix && !localHost(r.Host):
			text(w, http.StatusMisdirectedRequest, "this console answers to the loopback address only\n")
		case site != "" && site != "same-origin" && site != "none":
			text(w, http.StatusForbidden, "not for other sites\n")
		case acts && r.Method != http.MethodPost:
			h.Set("Allow", "POST")
			text(w, http.StatusMethodNotAllowed, "POST only\n")
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !acts:
			h.Set("Allow", "GET, HEAD")
			text(w, http.StatusMethodNotAllowed, "GET only\n")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// localHost reports whether a Host header names this machine by itself. A
// name an attacker made resolve to 127.0.0.1 does not.
func localHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// bearer asks for the token (RFC 6750). Comparing digests takes the same time
// whatever was sent (CWE-208).
func bearer(token string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(given))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="dewar"`)
			text(w, http.StatusUnauthorized, "needs the token in run.json: Authorization: Bearer …\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func ready(w http.ResponseWriter, o Options) {
	var problems []string
	if o.Ready != nil {
		if err := o.Ready(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if o.Layers != nil {
		for name, err := range o.Layers() {
			// A store that is gone is gone for every node that shares it: to take
			// them all away would be the outage that their limits are not.
			if err != nil && !errors.Is(err, guard.ErrDegraded) && !errors.Is(err, store.ErrUnavailable) {
				problems = append(problems, "layer "+name+": "+err.Error())
			}
		}
	}
	if len(problems) == 0 {
		text(w, http.StatusOK, "ready\n")
		return
	}
	sort.Strings(problems)
	text(w, http.StatusServiceUnavailable, strings.Join(problems, "\n")+"\n")
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s))
}

// writeJSON encodes first and answers then: half a document is no answer.
func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		text(w, http.StatusInternalServerError, "cannot be encoded: "+err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}
