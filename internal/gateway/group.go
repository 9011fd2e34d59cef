package gateway

import (
	"context"
	"fmt"
	"sync"
)

// Actor is something that runs as long as the guard does: a pair of run and
// stop.
type Actor struct {
	Name string
	// Run works until ctx is done or Stop is called, then returns nil. An
	// error, or returning early, ends all actors.
	Run func(ctx context.Context) error
	// Stop, if not nil, asks Run to finish in an orderly way before its
	// context is cancelled. It may take as long as the actor needs.
	Stop func()
}

// runActors runs all actors until one of them returns or ctx is done. Then it
// stops them one after the other, the last first: what was started on top of
// something ends before it. It returns the first error.
func runActors(ctx context.Context, actors []Actor) error {
	type ending struct {
		i   int
		err error
	}
	var (
		ended   = make(chan ending, len(actors))
		cancels = make([]context.CancelFunc, len(actors))
		done    = make([]chan struct{}, len(actors))
		first   error
		mu      sync.Mutex
	)
	for i, a := range actors {
		// Not a child of ctx: the order of stopping is ours.
		actx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], done[i] = cancel, make(chan struct{})
		go func() {
			defer close(done[i])
			err := a.Run(actx)
			if err != nil {
				mu.Lock()
				if first == nil {
					first = fmt.Errorf("%s: %w", a.Name, err)
				}
				mu.Unlock()
			}
			ended <- ending{i, err}
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	for i := len(actors) - 1; i >= 0; i-- {
		if actors[i].Stop != nil {
			actors[i].Stop()
		}
		cancels[i]()
		<-done[i]
	}
	mu.Lock()
	defer mu.Unlock()
	return first
}
