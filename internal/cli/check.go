package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/report"
)

func (a *app) checkCommand() *cobra.Command {
	var (
		formats = formats[*report.ChecklistReport]{known: report.ChecklistFormats, example: "html=checklist.html"}
		all     bool
		p       probeFlags
	)
	c := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Join all evidence into the checklist: which promises hold, and how do we know",
		Long: `Check audits the project, asks the running guard for what it enforces, and, with
--url, probes the site; then it judges every promise.

  failed      a probe saw it broken, or the source breaks it and nothing makes up for it
  mitigated   the source breaks it, but an enforcing guard layer stands in front
  met         a face of Dewar looked, and it held
  unproven    nobody could look; silence is never a pass

It ends with 1 when a promise fails.` + exitHelp,
		Example: `  dewar check
  dewar check --url https://localhost:8443
  dewar check --url https://staging.example.com --format html=checklist.html --format text`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			loaded, err := a.load(dir, p.settings(c)...)
			if err != nil {
				return err
			}
			outs, err := formats.outputs()
			if err != nil {
				return err
			}
			r, err := a.check(c.Context(), dir, loaded, p)
			if err != nil {
				return err
			}
			r.All = all
			if err := write(a, outs, r); err != nil {
				return err
			}
			if r.Score().Failed > 0 {
				return exitStatus(exitFindings)
			}
			return nil
		},
	}
	formats.register(c)
	c.Flags().BoolVar(&all, "all", false, "show the evidence of promises that hold, too")
	c.Flags().StringVar(&p.url, "url", "", "`URL` of the site to probe; without it nothing is sent")
	p.register(c)
	return c
}

// check gathers evidence from every face that can speak now.
func (a *app) check(ctx context.Context, dir string, loaded *catalog.Loaded, p probeFlags) (*report.ChecklistReport, error) {
	r := &report.ChecklistReport{Version: version, App: appName(dir, loaded.Config), Profile: string(loaded.Config.Profile), Looked: map[string]string{}}
	var all []evidence.Evidence

	if p.url != "" && p.wait > 0 {
		if err := waitFor(ctx, p.url, p.wait); err != nil {
			return nil, err
		}
	}
	read, err := readProject(ctx, dir, loaded.Config)
	if err != nil {
		return nil, err
	}
	res := audit.Run(ctx, read.project, read.rules, read.options)
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	all = append(all, res.Evidence(time.Now())...)
	r.Looked["audit"] = fmt.Sprintf("%d files, %d routes, %d rules, %d findings", res.Stats.Files, res.Stats.Routes, res.Stats.Rules, len(audit.Grouped(res.Findings)))

	r.Looked["probe"] = "not asked: give --url to ask the live site"
	if p.url != "" {
		ev, text, err := a.probe(ctx, dir, loaded, p)
		if err != nil {
			return nil, err
		}
		all = append(all, ev...)
		r.Looked["probe"] = text
	}
	// The guard last: its counts then tell what the probe met.
	state, err := a.running(dir)
	switch {
	case errors.Is(err, gateway.ErrNotRunning):
		r.Looked["guard"] = "not asked: " + err.Error() + " (dewar run)"
	case err != nil:
		r.Looked["guard"] = "could not be asked: " + err.Error()
	case state.Console == "":
		r.Looked["guard"] = "running, but its console is switched off (deployment.console)"
	default:
		var ev []evidence.Evidence
		if err := askConsole(ctx, state, http.MethodGet, "/evidence", 10*time.Second, &ev); err != nil {
			r.Looked["guard"] = "could not be asked: " + err.Error()
			break
		}
		all = append(all, ev...)
		r.Looked["guard"] = fmt.Sprintf("running since %s, pid %d", state.Started.Format("15:04:05"), state.PID)
	}
	if ctx.Err() != nil {
		// Half the evidence would make half a judgement.
		return nil, errInterrupted
	}
	r.Checklist = control.Fold(catalog.All, all, time.Now())
	return r, nil
}

// running returns the state of the guard that runs for the project.
func (a *app) running(dir string) (gateway.State, error) {
	sd, err := gateway.StateDir(dir, a.environ)
	if err != nil {
		return gateway.State{}, err
	}
	return gateway.ReadState(sd)
}

// consoleTransport returns the way to a console whose URL is *base; for a unix
// socket it makes *base a URL to ask for.
func consoleTransport(base *string) *http.Transport {
	transport := &http.Transport{Proxy: nil}
	if path, ok := strings.CutPrefix(*base, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		*base = "http://localhost"
	}
	return transport
}

// waitFor waits until something answers at the site's address.
func waitFor(ctx context.Context, site string, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	// Only whether it answers is asked here; the probe verifies the
	// certificate.
	client := &http.Client{
		Timeout:       2 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, site, nil)
		if err != nil {
			return fmt.Errorf("--url: %w", err)
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not answer within %s: %w", site, most, errors.Join(last, context.Cause(ctx)))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
