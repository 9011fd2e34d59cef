package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dewar-security/dewar/internal/report"
)

// formats is the flag --format of a command: which reports are written, and
// where to. R is what the command reports.
type formats[R any] struct {
	known   []report.Format[R]
	example string // "sarif=dewar.sarif"
	given   []string
}

// output is one --format.
type output[R any] struct {
	report.Format[R]
	file string // "" and "-" are standard output
}

func (f *formats[R]) register(c *cobra.Command) {
	var names, docs []string
	for _, k := range f.known {
		names = append(names, k.Name)
		docs = append(docs, k.Name+" ("+k.Doc+")")
	}
	c.Flags().StringArrayVarP(&f.given, "format", "f", nil, "`format`, or format=file; may be repeated: "+strings.Join(docs, ", "))
	_ = c.RegisterFlagCompletionFunc("format", words(names...))
}

// outputs reads what was given, the first known format if nothing was.
func (f *formats[R]) outputs() ([]output[R], error) {
	given := f.given
	if len(given) == 0 {
		given = []string{f.known[0].Name}
	}
	var out []output[R]
	stdout := 0
	for _, s := range given {
		name, file, _ := strings.Cut(s, "=")
		i := slices.IndexFunc(f.known, func(k report.Format[R]) bool { return k.Name == name })
		if i < 0 {
			var names []string
			for _, k := range f.known {
				names = append(names, k.Name)
			}
			return nil, fmt.Errorf("--format: %q is no format: write one of %s", name, strings.Join(names, ", "))
		}
		if file == "" || file == "-" {
			stdout++
		}
		out = append(out, output[R]{f.known[i], file})
	}
	if stdout > 1 {
		return nil, fmt.Errorf("--format: two formats cannot share standard output: give one a file, such as --format %s", f.example)
	}
	return out, nil
}

// write writes r in every format asked for, also when one cannot be written.
func write[R any](a *app, outs []output[R], r R) error {
	var errs []error
	for _, o := range outs {
		errs = append(errs, a.output(o.file, func(w io.Writer) error { return o.Write(w, r, a.screen(w)) }))
	}
	return errors.Join(errs...)
}
