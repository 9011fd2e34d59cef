package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/gateway"
)

func (a *app) upgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade [DIR]",
		Short: "Let a new version of dewar take over from the running guard, without dropping a request",
		Long: `Upgrade tells the guard that runs for the project to start the program at the
path it was started from, with the same arguments, and to hand it the listening
sockets. The new guard reads the settings, loads the app and looks at it as at
every start; when it serves, the old one lets each connection end with its next
answer, for at most deployment.grace, and ends. When the new one does not come
up, the old one goes on as if nothing had been. SIGUSR2 to "dewar run" does the
same.

Bans, sessions and lockouts are known to both while both serve. Rate limits begin
anew, unless nodes share them (store.url). Connections of WebSockets end with the
old guard.

It ends with 1 when the new version did not take over.` + exitHelp,
		Example: `  install -m 755 dewar-new /usr/local/bin/dewar && dewar upgrade`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			state, err := a.running(dir)
			if err != nil {
				return err
			}
			if state.Console == "" {
				return fmt.Errorf("the guard runs (process %d) without a console (deployment.console): kill -USR2 %d upgrades it; what came of it is in its output", state.PID, state.PID)
			}
			var u upgraded
			if err := askConsole(c.Context(), state, http.MethodPost, "/upgrade", upgradeWithin+time.Minute, &u); err != nil {
				return err
			}
			if u.Error != "" {
				fmt.Fprintf(a.stdout, "not upgraded: %s\nprocess %d goes on\n", u.Error, state.PID)
				return exitStatus(exitFindings)
			}
			fmt.Fprintf(a.stdout, "process %d took over from %d in %s\n", u.PID, state.PID, u.Took.Round(time.Millisecond))
			return nil
		},
	}
}

// upgradeWithin is how long a new version may take until it serves.
const upgradeWithin = 3 * time.Minute

// upgraded says what came of an upgrade.
type upgraded struct {
	PID   int           `json:"pid,omitempty"`
	Error string        `json:"error,omitempty"`
	Took  time.Duration `json:"took"`
}

// upgrade hands over to a new process, or says why not.
func (r *guardRun) upgrade(ctx context.Context, by string) upgraded {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.mu.Lock()
	g := r.gw
	r.mu.Unlock()
	begin := time.Now()
	err := gateway.ErrNotNow
	var u upgraded
	if g != nil {
		u.PID, err = g.Upgrade(ctx, upgradeWithin)
	}
	u.Took = time.Since(begin)
	e := event.Event{Time: begin, Name: "dewar_upgrade", Severity: event.Info, Control: "deployment", Message: "another process serves now: " + by}
	switch {
	case errors.Is(err, gateway.ErrNotNow):
		u.Error = err.Error()
		return u
	case err != nil:
		u.Error = err.Error()
		e.Severity, e.Message, e.Detail = event.High, "an upgrade failed, the guard goes on as it was: "+by, u.Error
		r.a.progress().step(gateway.Step{Kind: gateway.StepWarning, Name: "upgrade", Text: "not upgraded, this process goes on: " + u.Error})
	default:
		r.a.progress().step(gateway.Step{Kind: gateway.StepDone, Name: "upgrade", Text: fmt.Sprintf("process %d took over (%s)", u.PID, by)})
		close(r.handedOver)
	}
	r.bus.Publish(e)
	return u
}
