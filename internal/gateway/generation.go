package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// users counts who works with something that may be replaced while they do:
// a chain, a generation of the app. What was replaced is let go when its last
// user is done.
type users struct{ n atomic.Int64 }

// take returns what p points to and counts the caller as its user; counter
// finds the count. Whoever is counted on something that was replaced in the
// same moment gives it back and looks again, so that a count of zero after a
// replacement stays zero for all that matters.
func take[T any](p *atomic.Pointer[T], counter func(*T) *users) *T {
	for {
		v := p.Load()
		counter(v).n.Add(1)
		if p.Load() == v {
			return v
		}
		counter(v).n.Add(-1)
	}
}

func (u *users) done() { u.n.Add(-1) }

// wait waits until nobody is counted any more, at most for most, and returns
// how many are left.
func (u *users) wait(most time.Duration) int64 {
	deadline := time.Now().Add(most)
	for {
		n := u.n.Load()
		if n <= 0 || !time.Now().Before(deadline) {
			return max(n, 0)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// generation is the app as it was loaded once: its server, and the way there.
// A reload of the app's code makes a second one beside the first, and the
// first ends when its requests have.
type generation struct {
	users
	forwarder  *Forwarder
	supervisor *supervisor // nil when something else runs the app
	retired    atomic.Bool
}

// retire lets the generation's requests finish, at most for grace, and ends
// its server. It returns how many requests were cut.
func (n *generation) retire(grace time.Duration) (cut int64) {
	n.retired.Store(true)
	cut = n.wait(grace)
	if n.supervisor != nil {
		// What ran out of time has run out of it in gunicorn, too.
		n.supervisor.Stop(2 * time.Second)
	}
	n.forwarder.Close()
	return cut
}

// apps holds the generations and forwards to the newest. It implements
// [guard.Forwarder].
type apps struct {
	current atomic.Pointer[generation]
	ended   chan ending
	quit    chan struct{}

	mu       sync.Mutex
	all      []*generation // alive, the newest last
	stopping bool
	wg       sync.WaitGroup // watchers and retirements
}

type ending struct {
	n   *generation
	err error
}

var _ guard.Forwarder = (*apps)(nil)

func newApps(first *generation) *apps {
	a := &apps{ended: make(chan ending), quit: make(chan struct{}), all: []*generation{first}}
	a.current.Store(first)
	return a
}

// Forward implements [guard.Forwarder].
func (a *apps) Forward(w http.ResponseWriter, x *guard.Exchange, modify func(*http.Response) error) error {
	n := take(&a.current, func(n *generation) *users { return &n.users })
	defer n.done()
	return n.forwarder.Forward(w, x, modify)
}

// watch keeps a generation's server running until it is stopped.
func (a *apps) watch(n *generation) {
	a.wg.Go(func() {
		err := n.supervisor.Run(context.Background())
		select {
		case a.ended <- ending{n, err}:
		case <-a.quit:
		}
	})
}

// run watches all generations. It returns nil after stop, and the error of the
// newest generation when its server cannot be kept running.
func (a *apps) run(context.Context) error {
	a.watch(a.current.Load())
	for {
		select {
		case e := <-a.ended:
			if !e.n.retired.Load() {
				return e.err
			}
		case <-a.quit:
			return nil
		}
	}
}

// replace makes n the generation that new requests go to. The one before it
// ends in the background; cut is told how many requests it could not finish.
// It returns false when the guard is about to end: n is the caller's then.
func (a *apps) replace(n *generation, grace time.Duration, cut func(int64)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return false
	}
	old := a.current.Swap(n)
	old.retired.Store(true) // before its end can be seen
	a.all = append(a.all, n)
	a.watch(n)
	a.wg.Go(func() {
		if left := old.retire(grace); left > 0 {
			cut(left)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for i, m := range a.all {
			if m == old {
				a.all = append(a.all[:i:i], a.all[i+1:]...)
				break
			}
		}
	})
	return true
}

// stop ends every generation.
func (a *apps) stop(grace time.Duration) {
	a.mu.Lock()
	a.stopping = true
	all := append([]*generation(nil), a.all...)
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range all {
		if n.supervisor != nil {
			wg.Go(func() { n.supervisor.Stop(grace) })
		}
	}
	wg.Wait()
	close(a.quit)
	a.wg.Wait()
	for _, n := range all {
		n.forwarder.Close()
	}
}

// site is what answers requests: the chain, with those who are in it.
type site struct {
	users
	handler http.Handler
}

// challengePath is where an authority asks for the answer to HTTP-01 (RFC
// 8555, 8.3), in clear text; no layer has a say in that.
const challengePath = "/.well-known/acme-challenge/"

// newestHandler hands every request to the handler that is in force when it
// comes.
func (g *Gateway) newestHandler(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil && strings.HasPrefix(r.URL.Path, challengePath) {
		if k := g.certs.Load(); k != nil {
			if a, ok := k.certificates.(*acmeCertificates); ok && a.challenge(w, r) {
				return
			}
		}
	}
	s := take(&g.site, func(s *site) *users { return &s.users })
	defer s.done()
	if g.draining.Load() {
		lastAnswer(w, r)
	} else if g.quic != nil && r.TLS != nil && r.ProtoMajor < 3 {
		g.quic.altSvc(w, r)
	}
	s.handler.ServeHTTP(w, r)
}

// setHandler puts a handler into force. One that was in force before is
// closed, if it can be, when its last request has ended.
func (g *Gateway) setHandler(h http.Handler) {
	old := g.site.Swap(&site{handler: h})
	if old == nil {
		return
	}
	if c, ok := old.handler.(interface{ Close() error }); ok {
		g.background.Go(func() {
			old.wait(time.Hour) // a WebSocket may be in it for long
			if err := c.Close(); err != nil {
				g.o.Progress(Step{Kind: StepWarning, Name: "layers", Text: fmt.Sprintf("the layers that were replaced: %v", err)})
			}
		})
	}
}
