package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/probe"
	"github.com/dewar-security/dewar/internal/report"
)

// probeFlags are what "dewar probe" and "dewar check" both take.
type probeFlags struct {
	url       string
	wait      time.Duration
	ca        []string
	insecure  bool
	cleartext uint16
	project   string
}

func (p *probeFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&p.wait, "wait", 0, "wait that long for the site to answer first, such as 30s")
	f.StringArrayVar(&p.ca, "ca", nil, "`file` with certificates of authorities to trust, too; may be repeated")
	f.BoolVar(&p.insecure, "insecure", false, "go on when the certificate does not verify; the evidence says so")
	f.Uint16Var(&p.cleartext, "cleartext-port", 0, "`port` of the same host that redirects HTTP to HTTPS (default 80 for a site on 443)")
	f.Int("budget", 0, "requests at most (default 200)")
	f.String("uploads", "", "`files` to leave on the site through its upload forms: markers (harmless), or eicar (the scanners' test file, too)")
	f.Lookup("uploads").NoOptDefVal = "markers"
	f.Bool("no-writes", false, "send only GET, HEAD and OPTIONS; some promises then stay unproven")
}

// settings are the settings that the flags stand for.
func (p *probeFlags) settings(c *cobra.Command) []catalog.Flag {
	out := append(flag(c, "budget", "probe.budget"), flag(c, "uploads", "probe.uploads")...)
	if v, err := c.Flags().GetBool("no-writes"); err == nil && v {
		out = append(out, catalog.Flag{Key: "probe.writes", Value: "false", Name: "--no-writes"})
	}
	return out
}

func (a *app) probeCommand() *cobra.Command {
	var (
		p      probeFlags
		format string
		only   []string
	)
	c := &cobra.Command{
		Use:   "probe URL",
		Short: "Ask the live site from outside what it promises",
		Long: `Probe sends a bounded number of harmless requests to the site that you name, and
to no other host: headers (scored as MDN's HTTP Observatory scores them),
cookies, TLS, redirects, debugger and files that must not be public, refusal of
forged requests, size of bodies, rate limit. It does not sign in and changes
nothing on a site that keeps its promises; --uploads also lets it leave small
harmless files, called dewar…, through forms that are open to every visitor.
Probe only sites that are yours to test.

When "dewar run" guards the site on this machine, every answer says whether it
came through the guard or around it.` + exitHelp,
		Example: `  dewar probe https://staging.example.com
  dewar probe https://localhost:8443
  dewar probe https://staging.example.com --only csrf --only headers-observatory`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name the site to probe, such as dewar probe https://staging.example.com: dewar sends nothing to a host that you did not name")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format: %q is not allowed: write text or json", format)
			}
			dir, err := filepath.Abs(cmp.Or(p.project, "."))
			if err != nil {
				return err
			}
			loaded, err := a.load(dir, p.settings(c)...)
			if err != nil {
				return err
			}
			p.url = args[0]
			if p.wait > 0 {
				if err := waitFor(c.Context(), p.url, p.wait); err != nil {
					return err
				}
			}
			checks, err := selectChecks(only)
			if err != nil {
				return err
			}
			r, err := a.ask(c.Context(), dir, loaded, p, checks)
			if err != nil {
				return err
			}
			if format == "json" {
				err = writeJSON(a.stdout, r)
			} else {
				err = report.ProbeText(a.stdout, r, a.screen(a.stdout))
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(r.Evidence(), func(e evidence.Evidence) bool { return e.Outcome == evidence.Fail }) {
				return exitStatus(exitFindings)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	c.Flags().StringArrayVar(&only, "only", nil, "`check` or control to ask about; may be repeated")
	c.Flags().StringVar(&p.project, "project", "", "`folder` of the project whose guard is running (default: this one)")
	p.register(c)
	_ = c.RegisterFlagCompletionFunc("format", words("text", "json"))
	return c
}

// selectChecks returns the checks with one of the names, or of one of the
// controls; all without names.
func selectChecks(names []string) ([]*probe.Check, error) {
	all := catalog.Checks()
	if len(names) == 0 {
		return all, nil
	}
	var out []*probe.Check
	for _, n := range names {
		before := len(out)
		for _, k := range all {
			if (k.ID == n || string(k.Control) == n) && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("--only: no probe check and no control with one is called %q%s", n, catalog.Suggest(n))
		}
	}
	return out, nil
}

// probe gathers the probe's evidence and says in a few words what was done.
func (a *app) probe(ctx context.Context, dir string, loaded *catalog.Loaded, p probeFlags) ([]evidence.Evidence, string, error) {
	r, err := a.ask(ctx, dir, loaded, p, catalog.Checks())
	if err != nil {
		return nil, "", err
	}
	text := fmt.Sprintf("%s, %d requests in %.1f s", r.Site, r.Requests, r.Duration.Seconds())
	for _, n := range r.Notes {
		text += "; " + n
	}
	return r.Evidence(), text, nil
}

// ask runs checks against the site. What the guard of the project left for
// its own user is used: the probe key, the local authority, the port that
// redirects.
func (a *app) ask(ctx context.Context, dir string, loaded *catalog.Loaded, p probeFlags, checks []*probe.Check) (*probe.Report, error) {
	o := probe.Options{
		Budget: loaded.Config.Probe.Budget, Writes: loaded.Config.Probe.Writes, Insecure: p.insecure, Cleartext: p.cleartext, Version: version,
	}
	if u := loaded.Config.Probe.Uploads; u != "off" {
		o.Uploads = u
	}
	o.UploadRoutes = uploadRoutes(dir)
	if r := loaded.Config.Probe.Rate; !r.IsZero() {
		o.Rate = float64(r.Requests) / r.Per.Seconds()
	}
	if b := loaded.Config.Abuse.SensitiveRate; !b.IsZero() && b.Burst > 0 {
		o.Burst = min(b.Burst+20, 100)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range p.ca {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s holds no PEM certificate", file)
		}
	}
	state, err := a.running(dir)
	if err == nil && slices.ContainsFunc(state.URLs, func(u string) bool { return sameSite(u, p.url) }) {
		o.Key = []byte(state.ProbeKey)
		if o.Cleartext == 0 {
			o.Cleartext = cleartextPort(state.Redirects)
		}
	}
	// The authority that dewar run made on this machine vouches for nothing
	// but names of this machine.
	if ca, err := gateway.LocalCADir(a.environ); err == nil {
		if pem, err := os.ReadFile(filepath.Join(ca, "dewar-local-ca.pem")); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
	}
	o.RootCAs = pool
	return probe.Run(ctx, p.url, checks, o)
}

// uploadRoutes are the paths that take files from visitors without an account,
// where the project keeps its route map in a file.
func uploadRoutes(dir string) (out []probe.UploadRoute) {
	p, err := decodePolicy(filepath.Join(dir, policyFile))
	if err != nil {
		return nil // the pages are looked at all the same
	}
	for _, r := range p.Routes() {
		if len(r.Params) > 0 || r.Login.Required || !r.Takes(http.MethodPost) || slices.ContainsFunc(r.Kinds, func(k string) bool { return k == "admin" }) {
			continue
		}
		for _, f := range r.Fields {
			if f.In == policy.File && f.Name != "" {
				out = append(out, probe.UploadRoute{Path: r.Rule, Field: f.Name})
				break
			}
		}
	}
	return out
}

// sameSite reports whether two URLs lead to the same port of the same
// machine. A guard that listens on loopback is reached by each of its names.
func sameSite(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && portOf(x) == portOf(y) &&
		(strings.EqualFold(x.Hostname(), y.Hostname()) || loopback(x.Hostname()) && loopback(y.Hostname()))
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func cleartextPort(urls []string) uint16 {
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Scheme == "http" {
			if n, err := strconv.ParseUint(portOf(u), 10, 16); err == nil {
				return uint16(n)
			}
		}
	}
	return 0
}
