// Command dewar-docs writes docs/ from the catalogue and the command tree, so
// that a thing is said once. With -check it writes nothing and fails when the
// files on disk are not what the code says.
//
//	go run ./cmd/dewar-docs docs
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/cli"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: dewar-docs [-check] DIR")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *check); err != nil {
		fmt.Fprintln(os.Stderr, "dewar-docs:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	files, err := pages()
	if err != nil {
		return err
	}
	if check {
		return compare(dir, files)
	}
	for _, name := range sortedNames(files) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

func compare(dir string, files map[string][]byte) error {
	var stale []string
	for _, name := range sortedNames(files) {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(got, files[name]) {
			stale = append(stale, name)
		} else if err != nil {
			return err
		}
	}
	// A page that nothing writes any more is stale, too.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if _, ok := files[filepath.ToSlash(name)]; err == nil && !ok {
			stale = append(stale, name+" (nothing writes it any more)")
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(stale) > 0 {
		return fmt.Errorf("not current: %s\nrun \"make docs\" and commit the result", strings.Join(stale, ", "))
	}
	return nil
}

func sortedNames(files map[string][]byte) []string {
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func pages() (map[string][]byte, error) {
	out := map[string][]byte{
		"controls.md": controls(),
		"rules.md":    rules(),
		"layers.md":   layers(),
		"probes.md":   probes(),
		"settings.md": settings(),
	}
	var err error
	if out["dewar.schema.json"], err = catalog.Schema(); err != nil {
		return nil, err
	}
	if out["route-map.schema.json"], err = audit.RouteMapSchema(); err != nil {
		return nil, err
	}
	if err := events(out); err != nil {
		return nil, err
	}
	if err := commands(out); err != nil {
		return nil, err
	}
	return out, nil
}

const generated = "<!-- Written by cmd/dewar-docs from the code; edit the code. -->\n\n"

func page(title, lead string) *bytes.Buffer {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s# %s\n\n%s\n", generated, title, lead)
	return b
}

// cell makes text fit into a table's cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}

func refs(cwe []int, asvs, owasp []string) string {
	var out []string
	for _, c := range cwe {
		out = append(out, fmt.Sprintf("[CWE-%d](https://cwe.mitre.org/data/definitions/%d.html)", c, c))
	}
	for _, a := range asvs {
		out = append(out, "ASVS 5.0 "+a)
	}
	for _, o := range owasp {
		out = append(out, "OWASP "+o)
	}
	return strings.Join(out, ", ")
}

func controls() []byte {
	b := page("Controls", "The promises a Flask app should keep, in the order of the checklist, and what of Dewar speaks about each.")
	for _, c := range catalog.All {
		fmt.Fprintf(b, "\n## %s\n\n%s: **%s**.\n\n%s\n\n%s\n\n%s\n\n| face | what |\n|---|---|\n", c.ID, c.Title, c.Promise, c.Why, c.Fix, refs(c.CWE, c.ASVS, c.OWASP))
		for _, f := range evidence.Faces {
			var what []string
			switch f {
			case evidence.Audit:
				for _, r := range c.Rules {
					what = append(what, "["+r.ID+"](rules.md#"+strings.ToLower(r.ID)+")")
				}
			case evidence.Guard:
				for _, l := range c.Layers {
					what = append(what, "["+l.Name+"](layers.md#"+l.Name+")")
				}
				for _, p := range c.Preflights {
					what = append(what, p.Name+": "+p.Does)
				}
				for _, s := range c.Services {
					what = append(what, s.Name+": "+s.Does)
				}
			case evidence.Probe:
				for _, k := range c.Checks {
					what = append(what, "["+k.ID+"](probes.md#"+k.ID+")")
				}
			case evidence.Detect:
				for _, d := range c.Detectors {
					what = append(what, d.Name)
				}
			}
			if a, ok := c.Empty[f]; ok {
				word := "not built yet"
				if a.Never {
					word = "cannot exist"
				}
				what = append(what, word+": "+a.Why)
			}
			fmt.Fprintf(b, "| %s | %s |\n", f, cell(strings.Join(what, "; ")))
		}
	}
	return b.Bytes()
}

func rules() []byte {
	b := page("Audit rules", "What `dewar audit` looks for. `dewar explain ID` prints the same.")
	for _, r := range catalog.Rules() {
		fmt.Fprintf(b, "\n## %s\n\n**%s** — %s, %s, control [%s](controls.md#%s)\n\n%s\n\nFix: %s\n", r.ID, r.Title, r.Severity, r.Confidence, r.Control, r.Control, r.Why, r.Fix)
		if len(r.MitigatedBy) > 0 {
			fmt.Fprintf(b, "\nMitigated by the layers: %s.\n", strings.Join(r.MitigatedBy, ", "))
		}
		if r.Bad != "" {
			fmt.Fprintf(b, "\nBad:\n\n```\n%s\n```\n\nGood:\n\n```\n%s\n```\n", strings.Trim(r.Bad, "\n"), strings.Trim(r.Good, "\n"))
		}
		fmt.Fprintf(b, "\n%s\n", refs(r.CWE, r.ASVS, r.OWASP))
	}
	return b.Bytes()
}

func layers() []byte {
	b := page("Guard layers", "Every request passes the layers in this order. Each can observe instead of enforce, as a whole (`MODE = \"observe\"` in its section) or for some routes (`[[route]]`).")
	b.WriteString("\n| layer | control | stands here because |\n|---|---|---|\n")
	for _, l := range catalog.Layers {
		fmt.Fprintf(b, "| [%s](#%s) | [%s](controls.md#%s) | %s |\n", l.Spec.Name, l.Spec.Name, l.Spec.Control, l.Spec.Control, cell(l.Reason))
	}
	for _, l := range catalog.Layers {
		fails := "closed: requests are refused with 503"
		if l.Spec.Failure == guard.FailOpen {
			fails = "open: requests pass, and metrics and evidence say so"
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n\nFails %s.\n", l.Spec.Name, l.Spec.Does, fails)
		if len(l.Spec.Reasons) > 0 {
			b.WriteString("\n| reason | stops | when it was wrong |\n|---|---|---|\n")
			for _, r := range l.Spec.Reasons {
				fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.Name, cell(r.Why), cell(r.Fix))
			}
		}
	}
	head := "\n## What an operator can ask\n\n"
	for _, l := range catalog.Layers {
		for _, k := range l.Spec.Commands {
			b.WriteString(head)
			head = ""
			fmt.Fprintf(b, "- `dewar %s` ([%s](#%s)): %s\n", usage(k), l.Spec.Name, l.Spec.Name, k.Does)
		}
	}
	b.WriteString("\n## The guard itself\n\nWhat no layer decided: about the app's server, and about layers.\n\n| reason | what happened | what to do |\n|---|---|---|\n")
	for _, r := range guard.Reasons {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.Name, cell(r.Why), cell(r.Fix))
	}
	return b.Bytes()
}

// usage writes a command as it is typed.
func usage(k guard.Command) string {
	s := k.Name
	for _, a := range k.Args {
		if a.Optional {
			s += " [--" + a.Name + " …]"
		} else {
			s += " " + strings.ToUpper(a.Name)
		}
	}
	return s
}

func probes() []byte {
	b := page("Probe checks", "What `dewar probe` asks the live site. It sends nothing to any other host and nothing that changes state on a site that keeps its promises.")
	for _, k := range catalog.Checks() {
		fmt.Fprintf(b, "\n## %s\n\nControl [%s](controls.md#%s), at most %d requests.\n\n%s\n\n%s\n\nFix: %s\n\n%s\n", k.ID, k.Control, k.Control, k.Requests, k.Asks, k.Why, k.Fix, refs(k.CWE, nil, nil))
	}
	return b.Bytes()
}

func settings() []byte {
	b := page("Settings", "`dewar.toml`, or `[tool.dewar]` of `pyproject.toml`. Every section may be repeated as `[profiles.NAME.SECTION]` for one profile. The environment and flags win over the file; `dewar config` prints what is in force. [dewar.schema.json](dewar.schema.json) is the same for editors.")
	for _, s := range catalog.Reference() {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n| key | kind | default | meaning |\n|---|---|---|---|\n", s.Name, s.Doc)
		for _, f := range s.Fields {
			def := "`" + f.Default + "`"
			if f.Default == "" || f.Default == "none" {
				def = "–"
			}
			if f.Staging != "" && f.Staging != f.Default {
				def += "; staging `" + f.Staging + "`"
			}
			if f.Development != "" && f.Development != f.Default {
				def += "; development `" + f.Development + "`"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s `$%s` |\n", f.Key, cell(f.Type), cell(def), cell(f.Doc), f.Environment)
			for _, c := range f.Table {
				fmt.Fprintf(b, "| `[[%s]]` `%s` | %s | – | %s |\n", f.Key, c.Key, cell(c.Type), cell(c.Doc))
			}
		}
	}
	return b.Bytes()
}

// commands writes the man pages, the completions and the command reference.
func commands(out map[string][]byte) error {
	root := cli.Root()
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	epoch := time.Unix(0, 0).UTC()
	var walk func(*cobra.Command) error
	walk = func(c *cobra.Command) error {
		if c.Hidden || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return nil
		}
		c.DisableAutoGenTag = true
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		var man, md bytes.Buffer
		if err := doc.GenMan(c, &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "Dewar", Date: &epoch}, &man); err != nil {
			return err
		}
		if err := doc.GenMarkdown(c, &md); err != nil {
			return err
		}
		out["man/"+name+".1"] = man.Bytes()
		out["cli/"+strings.ReplaceAll(c.CommandPath(), " ", "_")+".md"] = append([]byte(generated), md.Bytes()...)
		for _, sub := range c.Commands() {
			if err := walk(sub); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(root); err != nil {
		return err
	}
	var bash, zsh, fish bytes.Buffer
	if err := errors.Join(root.GenBashCompletionV2(&bash, true), root.GenZshCompletion(&zsh), root.GenFishCompletion(&fish, true)); err != nil {
		return err
	}
	out["completions/dewar.bash"], out["completions/_dewar"], out["completions/dewar.fish"] = bash.Bytes(), zsh.Bytes(), fish.Bytes()
	return nil
}
