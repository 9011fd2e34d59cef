package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/control/injection"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/policy"
)

func (a *app) wafCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "waf",
		Short: "Look at what the WAF refused, or would have refused",
		Long: `Waf tells, before a visitor does, what a change of the rules would break: replay
judges past traffic by the settings in force and by changed ones, report sums up
what the running layer refused or would have refused.

The way from observing to enforcing: run with injection.mode = "observe" and
injection.record set to a file, read "dewar waf report LOG" after some days, leave
out what honest requests need, check it with "dewar waf replay", then enforce.` + exitHelp,
		Example: `  dewar waf report security.log
  dewar waf replay waf-traffic.jsonl --with injection.mode=enforce`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(a.wafReplayCommand(), a.wafReportCommand())
	return c
}

func (a *app) wafReplayCommand() *cobra.Command {
	var with []string
	var format, project string
	var fail bool
	c := &cobra.Command{
		Use:   "replay LOG...",
		Short: "Say what a change of settings would have refused in past traffic",
		Long: `Replay judges every request of the logs by the project's settings, and by the
same settings with the changes given by --with, and reports the difference by
rule, route and parameter. Without --with it reports what the settings in force
refuse. Nothing is sent anywhere.

A log is what injection.record wrote, a HAR file, an access log in the common or
combined format (paths and queries only), or the security log with
monitoring.requests on (queries redacted). "-" is standard input. Routes are told
apart by ` + policyFile + ` if the project has one ("dewar routes --json" makes it).

With --check it ends with 1 if the change refuses requests that pass today.` + exitHelp,
		Example: `  dewar waf replay waf-traffic.jsonl --with injection.paranoia=2
  dewar waf replay access.log --with injection.mode=enforce --check`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.wafReplay(c.Context(), project, args, with, format, fail)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&with, "with", nil, "a changed setting as `key=value`, such as injection.paranoia=2; may be repeated")
	f.StringVar(&project, "project", ".", "the project's `folder`, for its settings")
	f.StringVar(&format, "format", "text", "text, json or toml (exclusions that would let everything pass that the change refuses)")
	f.BoolVar(&fail, "check", false, "end with 1 when the change refuses what passes today")
	_ = c.RegisterFlagCompletionFunc("format", words("text", "json", "toml"))
	return c
}

func (a *app) wafReplay(ctx context.Context, dir string, logs, with []string, format string, fail bool) error {
	if !slices.Contains([]string{"text", "json", "toml"}, format) {
		return fmt.Errorf("--format: %q is not allowed: write text, json or toml", format)
	}
	loaded, err := a.load(dir)
	if err != nil {
		return err
	}
	var changes []catalog.Flag
	for _, w := range with {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("--with %s: write key=value, such as --with injection.paranoia=2", w)
		}
		changes = append(changes, catalog.Flag{Key: k, Value: v, Name: "--with " + k})
	}
	p, err := readPolicy(dir)
	if err != nil {
		return err
	}
	before, err := injection.NewReplay(loaded.Config.Injection, loaded.Config.Routes, p)
	if err != nil {
		return err
	}
	after := before
	if len(changes) > 0 {
		changed, err := a.load(dir, changes...)
		if err != nil {
			return err
		}
		if after, err = injection.NewReplay(changed.Config.Injection, changed.Config.Routes, p); err != nil {
			return err
		}
	}
	var cmp injection.Comparison
	for _, name := range logs {
		skipped, err := injection.ReadPastFile(name, a.stdin, func(p *injection.Past) error {
			if ctx.Err() != nil {
				return errInterrupted
			}
			return cmp.Compare(ctx, p, before, after)
		})
		if err != nil {
			return err
		}
		cmp.Skipped += skipped
	}
	if cmp.Requests == 0 {
		return fmt.Errorf("no request was found in %s (%d lines in no known form)", strings.Join(logs, ", "), cmp.Skipped)
	}
	cmp.Sort()
	switch format {
	case "json":
		err = writeJSON(a.stdout, &cmp)
	case "toml":
		lines := cmp.New
		if after == before {
			lines = cmp.Kept
		}
		_, err = io.WriteString(a.stdout, injection.Proposal(lines))
	default:
		err = writeComparison(a.stdout, &cmp, after != before)
	}
	if err == nil && fail && len(cmp.New) > 0 {
		return exitStatus(exitFindings)
	}
	return err
}

// readPolicy reads the project's route map; nil if it has none.
func readPolicy(dir string) (*policy.Policy, error) {
	name := filepath.Join(dir, policyFile)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := policy.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func writeComparison(w io.Writer, c *injection.Comparison, changed bool) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%d requests", c.Requests)
	if c.Skipped > 0 {
		fmt.Fprintf(b, ", %d lines in no known form", c.Skipped)
	}
	if changed {
		fmt.Fprintf(b, ": refused today %d, with the change %d\n", c.Before, c.After)
	} else {
		fmt.Fprintf(b, ": refused %d\n", c.Before)
	}
	sections := []struct {
		title string
		lines []injection.Line
	}{{"The change would refuse", c.New}, {"The change would let pass", c.Freed}}
	if !changed {
		sections[0].title, sections[0].lines = "Refused", c.Kept
	}
	for _, s := range sections {
		if len(s.lines) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n%s:\n", s.title)
		t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		for _, l := range s.lines {
			fmt.Fprintf(t, "  %d\t%s %s\t%s\t%d\t%s\tline %d\n", l.Requests, l.Method, l.Route, l.Parameter, l.Rule, l.Message, l.First)
			if l.Data != "" {
				fmt.Fprintf(t, "  \t\t\t\t%s\t\n", shorten(l.Data, 100))
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if c.More > 0 {
		fmt.Fprintf(b, "\n%d matches more are not shown: there are too many different ones.\n", c.More)
	}
	if changed && len(c.New) > 0 {
		fmt.Fprintln(b, "\nIf those are honest requests, --format toml writes the exclusions that let them pass.")
	}
	return b.Flush()
}

func shorten(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

func (a *app) wafReportCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "report LOG...",
		Short: "Sum up what the WAF refused, or only noted, by rule, route and parameter",
		Long: `Report reads the security log and counts the refusals of the waf layer, and what
it would have refused while observing, by rule, route and parameter: how often,
from how many clients, when first and last. A rule that many clients meet on one
parameter is likely wrong about it; one that a single client meets on many is
likely an attack. "-" is standard input.

With --format toml it writes the exclusions for what was met by at least three
clients, as a proposal to read.` + exitHelp,
		Example: `  dewar waf report /var/log/dewar/security.log
  dewar waf report security.log --format toml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains([]string{"text", "json", "toml"}, format) {
				return fmt.Errorf("--format: %q is not allowed: write text, json or toml", format)
			}
			var r injection.Report
			for _, name := range args {
				if err := a.readEvents(name, r.Add); err != nil {
					return err
				}
			}
			r.Sort()
			switch format {
			case "json":
				return writeJSON(a.stdout, &r)
			case "toml":
				_, err := io.WriteString(a.stdout, r.Proposal())
				return err
			}
			return writeWAFReport(a.stdout, &r)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, json or toml")
	_ = c.RegisterFlagCompletionFunc("format", words("text", "json", "toml"))
	return c
}

// readEvents calls each with the events of a security log.
func (a *app) readEvents(name string, each func(*event.Event)) error {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 0, 64<<10), 4<<20)
	n, bad := 0, 0
	for sc.Scan() {
		if len(strings.TrimSpace(sc.Text())) == 0 {
			continue
		}
		n++
		var e event.Event
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil || e.Name == "" {
			bad++
			continue
		}
		each(&e)
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n > 0 && bad == n {
		return fmt.Errorf("%s is no security log: none of its %d lines is an event", name, n)
	}
	return nil
}

func writeWAFReport(w io.Writer, r *injection.Report) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%d refused, %d observed", r.Denied, r.Observed)
	if len(r.Groups) == 0 {
		fmt.Fprintln(b, ": nothing of the waf layer is in the log")
		return b.Flush()
	}
	fmt.Fprintf(b, "; %s to %s\n\n", r.First.Format("2006-01-02 15:04"), r.Last.Format("2006-01-02 15:04"))
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REQUESTS\tCLIENTS\tROUTE\tPARAMETER\tRULE\tLAST\tMODE")
	for _, g := range r.Groups {
		mode := "refused"
		if g.Observed == g.Requests {
			mode = "observed"
		} else if g.Observed > 0 {
			mode = "both"
		}
		clients := fmt.Sprint(g.Clients)
		if g.More {
			clients += "+"
		}
		fmt.Fprintf(t, "%d\t%s\t%s %s\t%s\t%d\t%s\t%s\n", g.Requests, clients, g.Method, g.Route, g.Parameter, g.Rule, g.Last.Format("2006-01-02 15:04"), mode)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(b, "\n\"dewar explain waf-attack\" says how to leave a rule out for one parameter on one route.")
	return b.Flush()
}
