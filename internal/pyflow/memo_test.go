package pyflow_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// TestRememberedCalls compares what is found when calls are remembered with
// what is found when every call is run: a line with a labelled value at a
// sink must be one in both.
func TestRememberedCalls(t *testing.T) {
	names, _ := filepath.Glob("testdata/flow/*.py")
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{"case.py": string(src)}
			var every pyflow.Config
			every.Forget()
			want := sinkLines(runSources(t, files, every), src)
			if len(want) == 0 {
				t.Fatal("nothing reaches a sink")
			}
			have := sinkLines(runSources(t, files, pyflow.Config{}), src)
			if !slices.Equal(have, want) {
				t.Errorf("remembered:\n  %s\nrun each time:\n  %s", strings.Join(have, "\n  "), strings.Join(want, "\n  "))
			}
		})
	}
}

// sinkLines lists what reaches sinks, by line.
func sinkLines(r *pyflow.Result, src []byte) []string {
	file := pysyntax.Parse("case.py", src)
	lines := strings.Split(string(src), "\n")
	var out []string
	for _, h := range r.Hits {
		if h.Verb != "sink" || h.Kind == "response" {
			continue
		}
		line, _ := file.Position(h.At.Start)
		for _, v := range h.Focus {
			out = append(out, strings.TrimSpace(lines[line-1])+"  <- "+shown(v))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sinkPlaces lists the lines of sinks that something from outside reaches.
func sinkPlaces(r *pyflow.Result, src []byte) []string {
	file := pysyntax.Parse("case.py", src)
	var out []string
	for _, h := range r.Hits {
		if h.Verb == "sink" && h.Kind != "response" {
			line, _ := file.Position(h.At.Start)
			out = append(out, strconv.Itoa(line))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
