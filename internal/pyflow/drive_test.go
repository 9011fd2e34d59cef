package pyflow_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

func TestDrive(t *testing.T) {
	dir := os.Getenv("PF_DIR")
	if dir == "" {
		t.Skip("no PF_DIR")
	}
	facts, _ := pyflow.ParseFacts("", "")
	models := map[string]*pyflow.Source{}
	kdir := os.Getenv("PF_FACTS")
	fs, _ := filepath.Glob(kdir + "/*.facts")
	for _, f := range fs {
		b, _ := os.ReadFile(f)
		x, err := pyflow.ParseFacts(f, string(b))
		if err != nil {
			t.Fatal(err)
		}
		facts.Merge(x)
	}
	fs, _ = filepath.Glob(kdir + "/models/*.py")
	for _, f := range fs {
		b, _ := os.ReadFile(f)
		models[strings.TrimSuffix(filepath.Base(f), ".py")] = &pyflow.Source{Path: "<model>/" + filepath.Base(f), Python: pysyntax.Parse(f, b)}
	}
	cfg := pyflow.Config{Facts: facts, Models: models, Panic: true, Steps: func() int { n := 0; fmt.Sscan(os.Getenv("PF_STEPS"), &n); return n }()}
	tmpl := map[string]string{}
	start := time.Now()
	filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || i.IsDir() {
			return nil
		}
		if strings.Contains(p, "/templates/") {
			b, _ := os.ReadFile(p)
			tmpl[rel] = string(b)
		}
		if !strings.HasSuffix(p, ".py") {
			return nil
		}
		b, _ := os.ReadFile(p)
		cfg.Sources = append(cfg.Sources, pyflow.Source{Path: rel, Python: pysyntax.Parse(rel, b), Test: strings.HasSuffix(rel, "_test.py") || strings.Contains(rel, "tests/")})
		return nil
	})
	cfg.Template = func(name string) (string, []byte, bool) {
		best := ""
		for k := range tmpl {
			if strings.HasSuffix(k, "templates/"+name) && (best == "" || len(k) < len(best) || len(k) == len(best) && k < best) {
				best = k
			}
		}
		return best, []byte(tmpl[best]), best != ""
	}
	t.Log("parse", time.Since(start), len(cfg.Sources))
	if pf := os.Getenv("PF_PROF"); pf != "" {
		w, _ := os.Create(pf)
		pprof.StartCPUProfile(w)
		defer pprof.StopCPUProfile()
	}
	start = time.Now()
	r := pyflow.Analyze(context.Background(), cfg)
	t.Log("analyze", time.Since(start), "hits", len(r.Hits), "entries", len(r.Entries), "gaveup", len(r.GaveUp), "functions", r.Functions, "steps", r.Steps)
	kinds := map[string]int{}
	for _, h := range r.Hits {
		kinds[h.Verb+" "+h.Kind]++
	}
	var ks []string
	for k, n := range kinds {
		ks = append(ks, fmt.Sprintf("%s=%d", k, n))
	}
	sort.Strings(ks)
	t.Log(ks)
	for i, g := range r.GaveUp {
		if i < 20 {
			t.Log("gaveup", g.At.File, g.Name, g.Reason)
		}
	}
	if os.Getenv("PF_V") != "" {
		for _, h := range r.Hits {
			if f := os.Getenv("PF_FILE"); f != "" && !strings.Contains(h.At.File, f) {
				continue
			}
			var src *pyflow.Source
			for i := range cfg.Sources {
				if cfg.Sources[i].Path == h.At.File {
					src = &cfg.Sources[i]
				}
			}
			line := 0
			text := ""
			if src != nil {
				line, _ = src.Python.Position(h.At.Start)
				text = string(src.Python.Src[h.At.Start:h.At.End])
			}
			fmt.Printf("%s:%d %s %s %s  %s\n", h.At.File, line, h.Verb, h.Kind, h.Path, text)
			for _, v := range h.Focus {
				fmt.Printf("      %s\n", show(v))
				for _, l := range v.All() {
					fmt.Printf("        <- %s %s %v\n", l.Kind, l.Note, l.Harmless)
					if os.Getenv("PF_V") == "2" {
						for _, s := range l.Trace {
							fmt.Printf("           %d %s\n", s.At.Start, s.Note)
						}
					}
				}
			}
		}
		for _, e := range r.Entries {
			fmt.Printf("entry %s %s %s sinks=%v fields=%v args=%d\n", e.Kind, e.Path, e.Name, e.Sinks, len(e.Fields), len(e.Args))
		}
	}
}

func show(v pyflow.Value) string {
	if len(v.Alternatives) > 0 {
		var s []string
		for _, a := range v.Alternatives {
			s = append(s, show(a))
		}
		return "(" + strings.Join(s, " | ") + ")"
	}
	s := ""
	switch v.Kind {
	case pyflow.Unknown:
		s = "?"
	case pyflow.None:
		s = "None"
	case pyflow.Bool:
		s = fmt.Sprint("bool", v.Known, v.Bool)
	case pyflow.Number:
		s = fmt.Sprint("num", v.Known, v.Number)
	case pyflow.Text:
		for _, p := range v.Pieces {
			if p.Unknown {
				s += "{?"
				if p.Chars != pyflow.AnyChars {
					s += " chars="
					for r := rune(32); r < 127; r++ {
						if p.Chars.Has(r) {
							s += string(r)
						}
					}
				}
				if len(p.Without) > 0 {
					s += fmt.Sprintf(" not=%q", p.Without)
				}
				s += fmt.Sprintf("%v %d}", p.Harmless, len(p.Labels))
			} else {
				s += fmt.Sprintf("%q", p.Literal)
			}
		}
	case pyflow.Function:
		s = "fn " + v.Type
	default:
		s = v.Type + "["
		for i, x := range v.Items {
			if i < len(v.Keys) {
				s += v.Keys[i] + ":"
			}
			s += show(x) + ","
		}
		if v.Rest != nil {
			s += "*" + show(*v.Rest)
		}
		s += "]"
	}
	return s
}
