package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// Change is what a running gateway shall be like from now on.
type Change struct {
	// Config are the new settings. Those that need a restart must be the ones
	// in force: see [deployment.Config.Differs].
	Config deployment.Config
	// Handler takes the place of the chain; nil leaves it. It is closed, if
	// it has a Close method, when another has taken its place and its last
	// request has ended.
	Handler http.Handler
	// App, when not nil, is loaded anew: a second gunicorn starts beside the
	// first, is looked at by Options.Trial and gets all new requests; the
	// first ends when its requests have. nil does the same with the app as it
	// was found before, if Config has other settings for gunicorn, and
	// nothing otherwise.
	App *App
}

// ErrNotNow says that a guard that is starting or stopping changes nothing.
var ErrNotNow = errors.New("the guard is starting or stopping: try again")

// Change puts c into force, all of it or nothing, without dropping a request.
// Everything that can fail is done before anything is replaced; an error says
// why all stays as it was.
func (g *Gateway) Change(ctx context.Context, c Change) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	if !g.open.Load() || g.stopping.Load() {
		return ErrNotNow
	}
	old, now := *g.config(), c.Config
	if err := settle(&now, g.o.Dir); err != nil {
		return err
	}
	if keys := now.Differs(old, deployment.ByRestart); len(keys) > 0 {
		return fmt.Errorf("deployment.%s cannot change while the guard runs", keys[0])
	}

	var certs certificates
	var err error
	if k := g.certs.Load(); k != nil && needsCertificates(k.certificates, old, now) {
		if certs, err = g.openCertificates(now); err != nil {
			return err
		}
	}
	var tls *policy
	if tls, err = g.newPolicy(now); err != nil {
		return err
	}
	if was := g.policy.Load(); now.TicketSecret == old.TicketSecret && bytes.Equal(was.authority, tls.authority) {
		// Sessions go on.
		tls.tickets = was.tickets
		tls.config.SetSessionTicketKeys(tls.tickets.list())
	}
	var next *generation
	if g.o.Upstream == "" && (c.App != nil || len(now.Differs(old, deployment.ByNewApp)) > 0) {
		app := g.o.App
		if c.App != nil {
			app = *c.App
		}
		if next, err = g.loadAgain(ctx, app, now); err != nil {
			return err
		}
		g.o.App = app
	}

	// From here on nothing fails.
	if certs != nil {
		serial := g.certs.Load().current()
		g.setCertificates(certs)
		if n := certs.current(); serial != nil && n != nil && !bytes.Equal(serial.Certificate[0], n.Certificate[0]) {
			g.o.Progress(Step{Kind: StepDone, Name: "tls", Text: certs.describe()})
		}
	}
	g.policy.Store(tls)
	g.cfg.Store(&now)
	if len(now.Differs(old, deployment.ByNewConnection)) > 0 || now.MaxHeader != old.MaxHeader {
		g.setFront(g.newFront(now))
	}
	if c.Handler != nil {
		g.setHandler(c.Handler)
	}
	if next != nil {
		ok := g.apps.replace(next, time.Duration(old.Grace), func(n int64) {
			g.o.Progress(Step{Kind: StepWarning, Name: "app", Text: fmt.Sprintf("%d requests to the app as it was did not finish within %s (deployment.grace) and were cut", n, old.Grace)})
		})
		if !ok {
			next.retire(0)
			return ErrNotNow
		}
		if err := g.o.Preflight(g.Facts()); err != nil { // for the evidence: Trial has passed
			g.o.Progress(Step{Kind: StepWarning, Name: "app", Text: err.Error()})
		}
	}
	return nil
}

// loadAgain starts a second gunicorn and looks at the app in it. Nothing of it
// is left after an error.
func (g *Gateway) loadAgain(ctx context.Context, app App, cfg deployment.Config) (*generation, error) {
	n, err := g.newGeneration(ctx, app, cfg)
	if err != nil {
		return nil, err
	}
	if err := n.supervisor.launch(ctx); err != nil {
		n.supervisor.cleanup()
		return nil, err
	}
	f := g.factsOf(n.supervisor)
	if err := g.o.Trial(f); err != nil {
		n.supervisor.Stop(time.Duration(cfg.Grace))
		return nil, err
	}
	g.o.Progress(Step{Kind: StepDone, Name: "app", Text: "loaded anew: " + describeApp(app, f)})
	return n, nil
}

// needsCertificates reports whether a change wants the certificates opened
// anew. Files are always read again: that is what a reload is asked for.
func needsCertificates(in certificates, old, now deployment.Config) bool {
	switch in.(type) {
	case *fileCertificates:
		return true
	case *acmeCertificates:
		return !slices.Equal(old.ACMENames(), now.ACMENames()) || !reflect.DeepEqual(old.ACME, now.ACME)
	case *localCertificates:
		return !slices.Equal(old.AllowedHosts, now.AllowedHosts)
	}
	return false
}
