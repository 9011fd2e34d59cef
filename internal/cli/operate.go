package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// operateCommands makes the commands of the layers: one group for each first
// word of their names.
func (a *app) operateCommands() []*cobra.Command {
	groups := map[string]*cobra.Command{}
	var out []*cobra.Command
	for _, l := range catalog.Layers {
		for _, k := range l.Spec.Commands {
			name, verb, _ := strings.Cut(k.Name, " ")
			g := groups[name]
			if g == nil {
				g = &cobra.Command{
					Use: name, Short: "Ask the running guard's layer " + l.Spec.Name,
					Long: "These commands are for the guard that \"dewar run\" runs for the project. They speak to its console.\n" + exitHelp,
					RunE: func(c *cobra.Command, args []string) error {
						if len(args) > 0 {
							return fmt.Errorf("there is no \"dewar %s %s\"; \"dewar %s --help\" lists what there is", name, args[0], name)
						}
						return c.Help()
					},
				}
				groups[name] = g
				out = append(out, g)
			}
			c := a.operateCommand(verb, k)
			g.AddCommand(c)
			g.Example = strings.TrimPrefix(g.Example+"\n  dewar "+name+" "+c.Use, "\n")
		}
	}
	return out
}

func (a *app) operateCommand(verb string, k guard.Command) *cobra.Command {
	use, long := verb, k.Does+"\n"
	var required []guard.Arg
	for _, arg := range k.Args {
		if !arg.Optional {
			use += " " + strings.ToUpper(arg.Name)
			long += fmt.Sprintf("\n  %s  %s", strings.ToUpper(arg.Name), arg.Does)
			required = append(required, arg)
		}
	}
	var dir string
	var raw bool
	c := &cobra.Command{
		Use: use, Short: k.Does, Long: strings.TrimRight(long, "\n") + "\n" + exitHelp,
		Args: cobra.ExactArgs(len(required)),
	}
	flags := map[string]*string{}
	for _, arg := range k.Args {
		if arg.Optional {
			flags[arg.Name] = c.Flags().String(arg.Name, "", arg.Does)
		}
	}
	c.Flags().StringVar(&dir, "dir", ".", "the project whose guard is asked")
	c.Flags().BoolVar(&raw, "json", false, "print the answer as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		given := map[string]string{}
		for i, arg := range required {
			given[arg.Name] = args[i]
		}
		for name, v := range flags {
			if *v != "" {
				given[name] = *v
			}
		}
		folder, err := project([]string{dir})
		if err != nil {
			return err
		}
		state, err := a.running(folder)
		if err != nil {
			return err
		}
		if state.Console == "" {
			return fmt.Errorf("the guard runs (process %d) without a console (deployment.console), and this asks the console", state.PID)
		}
		q := url.Values{}
		for name, v := range given {
			q.Set(name, v)
		}
		var answer json.RawMessage
		if err := askConsole(c.Context(), state, http.MethodPost, "/operate/"+strings.ReplaceAll(k.Name, " ", "/")+"?"+q.Encode(), time.Minute, &answer); err != nil {
			return err
		}
		if raw {
			_, err = fmt.Fprintf(a.stdout, "%s\n", bytes.TrimSpace(answer))
			return err
		}
		return printAnswer(a.stdout, answer)
	}
	return c
}

// printAnswer shows a layer's answer: rows as a table, anything else line by
// line. Names in it may come from visitors: no byte of theirs reaches the
// terminal as a command.
func printAnswer(w io.Writer, answer json.RawMessage) error {
	var rows []json.RawMessage
	if err := json.Unmarshal(answer, &rows); err != nil {
		rows = []json.RawMessage{answer}
	} else if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "nothing")
		return err
	}
	var text string
	if json.Unmarshal(answer, &text) == nil {
		for line := range strings.SplitSeq(text, "\n") {
			if _, err := fmt.Fprintln(w, printable(line)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 1 && !bytes.HasPrefix(bytes.TrimSpace(rows[0]), []byte("{")) {
		_, err := fmt.Fprintln(w, cellText(rows[0]))
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var head []string
	for i, row := range rows {
		keys, values, err := flat(row)
		if err != nil {
			fmt.Fprintln(tw, cellText(row))
			continue
		}
		if i == 0 || !slices.Equal(keys, head) {
			head = keys
			up := make([]string, len(keys))
			for j, k := range keys {
				up[j] = strings.ToUpper(strings.ReplaceAll(k, "_", " "))
			}
			fmt.Fprintln(tw, strings.Join(up, "\t"))
		}
		fmt.Fprintln(tw, strings.Join(values, "\t"))
	}
	return tw.Flush()
}

// flat returns the members of a JSON object in their order.
func flat(row json.RawMessage) (keys, values []string, err error) {
	d := json.NewDecoder(bytes.NewReader(row))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("no object")
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, nil, err
		}
		keys, values = append(keys, k.(string)), append(values, cellText(v))
	}
	return keys, values, nil
}

// cellText writes a JSON value for a person.
func cellText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		s = string(bytes.TrimSpace(v))
	}
	if s == "" {
		return "-"
	}
	return printable(s)
}

// printable quotes a text in which something does not print as it is.
func printable(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) || c == unicode.ReplacementChar {
			return strconv.Quote(s)
		}
	}
	return s
}

// operate runs an operator's command in the layers in force, and writes an
// event about one that changes something.
func (r *guardRun) operate(ctx context.Context, command string, args map[string]string) (any, error) {
	r.mu.Lock()
	chain := r.chain
	r.mu.Unlock()
	if chain == nil {
		return nil, errors.New("the guard is not ready yet")
	}
	v, err := chain.Operate(ctx, command, args)
	for _, l := range catalog.Layers {
		for _, k := range l.Spec.Commands {
			if k.Name != command || !k.Changes {
				continue
			}
			e := event.Event{Name: "dewar_operate", Severity: event.Info, Control: string(l.Spec.Control), Layer: l.Spec.Name, Message: "the operator ran " + command, Attributes: map[string]string{"command": command}}
			for name, v := range args {
				e.Attributes["arg."+name] = v
			}
			if err != nil {
				e.Severity, e.Detail = event.Warn, err.Error()
			}
			r.bus.Publish(e)
		}
	}
	return v, err
}
