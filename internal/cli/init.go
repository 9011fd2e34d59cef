package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/catalog"
)

func (a *app) initCommand() *cobra.Command {
	var force, print bool
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a commented dewar.toml for the app found",
		Long: `Init looks for the Flask app as flask does and writes dewar.toml beside it:
every setting with its meaning and its default, commented out, so that the file
changes nothing until you change it. It never overwrites a file unless --force
is given.` + exitHelp,
		Example: `  dewar init
  dewar init --print | less`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := project(args)
			if err != nil {
				return err
			}
			text := initialSettings(dir)
			if print {
				_, err := a.stdout.Write(text)
				return err
			}
			name := filepath.Join(dir, "dewar.toml")
			mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(name, mode, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s is there already: edit it, or use --force to replace it", name)
			}
			if err != nil {
				return err
			}
			if _, err := f.Write(text); err != nil {
				f.Close()
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "wrote %s\n", name)
			if found, err := findApp(dir, ""); err == nil {
				fmt.Fprintf(a.stdout, "app    %s (from %s)\n", found.Target, found.From)
			} else {
				fmt.Fprintf(a.stdout, "app    not found: set app.target in the file\n")
			}
			fmt.Fprintf(a.stdout, "next   dewar audit\n")
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace an existing dewar.toml")
	c.Flags().BoolVar(&print, "print", false, "print instead of writing")
	return c
}

// initialSettings is the reference as a settings file in which every setting
// is a comment.
func initialSettings(dir string) []byte {
	var b bytes.Buffer
	b.WriteString("# Settings of Dewar for this app. Everything below is commented out and shows the\n" +
		"# default of the production profile: change what must be different, leave the rest.\n" +
		"# \"dewar config\" prints what is in force; docs/settings.md is the reference.\n\n")
	for _, sec := range catalog.Reference() {
		switch {
		case sec.Name == "route":
			b.WriteString("# Exceptions for some routes; the first that matches applies. A reason is required.\n" +
				"# [[route]]\n# path = \"/hooks/*\"\n# methods = [\"POST\"]\n# reason = \"the payment provider signs its own requests\"\n# modes = { csrf = \"off\" }\n# max-body = \"1 MB\"\n\n")
			continue
		case len(sec.Fields) == 1 && sec.Fields[0].Key == sec.Name:
			f := sec.Fields[0]
			comment(&b, f.Doc)
			fmt.Fprintf(&b, "# %s = %s\n\n", f.Key, f.Default)
			continue
		}
		comment(&b, sec.Doc)
		fmt.Fprintf(&b, "[%s]\n", sec.Name)
		for _, f := range sec.Fields {
			key := strings.TrimPrefix(f.Key, sec.Name+".")
			comment(&b, f.Doc)
			value := f.Default
			switch {
			case f.Key == "app.target":
				if found, err := findApp(dir, ""); err == nil {
					value = fmt.Sprintf("%q   # found in %s", found.Target, found.From)
				}
			case value == "" || value == "none":
				value = "…"
			}
			fmt.Fprintf(&b, "# %s = %s\n", key, value)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func comment(b *bytes.Buffer, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 88 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
