package catalog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
)

// block is one entry of an archive of testdata: a head line and sections that
// "--- name" begins. Without such a line it is all body.
type block struct {
	name, head string
	sections   map[string]string
	never      []string // sinks that a source cannot harm, or not in this way
	except     []string // sinks for which the safe section is none
}

func readBlocks(t *testing.T, name string) []block {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, f := range a.Files {
		b := block{name: f.Name, sections: map[string]string{}}
		head, rest, marked := strings.Cut("\n"+string(f.Data), "\n--- ")
		head = strings.TrimSpace(head)
		if rest, ok := strings.CutPrefix(head, "never "); ok {
			line, rest, _ := strings.Cut(rest, "\n")
			b.never, head = strings.Fields(line), rest
		}
		if !marked {
			b.sections["body"] = head + "\n"
			out = append(out, b)
			continue
		}
		b.head = head
		for s := range strings.SplitSeq(rest, "\n--- ") {
			title, text, _ := strings.Cut(s, "\n")
			kind, more, _ := strings.Cut(title, " except ")
			b.except = append(b.except, strings.Fields(more)...)
			b.sections[kind] = strings.TrimRight(text, "\n") + "\n"
		}
		out = append(out, b)
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return out
}

// testCase is one file of the matrix.
type testCase struct {
	name, text string
	want       string // CWE; empty: nothing may be found
}

func indent(text, by string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if l != "" && i > 0 {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "\n")
}

// program puts a source, a way and a sink together; ok is false where they do
// not fit: an answer needs a view.
func program(id string, source, way, sink block, waySection, sinkSection string) (text string, ok bool) {
	answer := strings.HasSuffix(sink.head, " answer")
	body := source.sections["body"] + way.sections[waySection] + sink.sections[sinkSection]
	if answer && source.sections["view"] != "" {
		return "", false
	}
	var b strings.Builder
	b.WriteString("from flask import Blueprint, request\n")
	b.WriteString(way.sections["top"] + sink.sections["top"] + source.sections["top"])
	if !strings.Contains(source.sections["top"], "bp = ") {
		b.WriteString("bp = Blueprint(\"" + id + "\", __name__)\n")
	}
	view := source.sections["view"]
	if view == "" {
		if !answer {
			body += "return \"done\"\n"
		}
		view = "@bp.route(\"/CASE" + strings.TrimSpace(source.sections["route"]) + "\", methods=[\"GET\", \"POST\"])\n" +
			"def view(" + strings.TrimSpace(source.sections["params"]) + "):\n    BODY\n"
	}
	for l := range strings.Lines(view) {
		if lead, _, found := strings.Cut(l, "BODY"); found {
			b.WriteString(lead + indent(body, lead) + "\n")
			continue
		}
		b.WriteString(l)
	}
	top := strings.ReplaceAll(b.String(), "CASE", id)
	// What a source needs of the blueprint comes before what it is made of.
	if i := strings.Index(top, "bp = Blueprint"); i > 0 {
		line := top[i : i+strings.IndexByte(top[i:], '\n')+1]
		first := strings.IndexByte(top, '\n') + 1
		top = top[:first] + line + top[first:i] + top[i+len(line):]
	}
	return top, true
}

// TestMatrix combines every source with every sink and every way with every
// sink (a third of those pairs unless DEWAR_REQUIRE_REAL is 1). What is
// dangerous must be found with the CWE of the sink, and what is not must not
// be. DEWAR_MATRIX names a folder that gets the programs.
func TestMatrix(t *testing.T) {
	sources, ways, sinks := readBlocks(t, "matrix_sources.txtar"), readBlocks(t, "matrix_ways.txtar"), readBlocks(t, "matrix_sinks.txtar")
	everything := os.Getenv("DEWAR_REQUIRE_REAL") == "1"
	var cases []testCase
	add := func(source, way, sink block, waySection, sinkSection string) {
		want := strings.TrimSuffix(sink.head, " answer")
		if sinkSection == "safe" || waySection == "safe" {
			want = ""
		}
		if slices.Contains(source.never, sink.name) || slices.Contains(way.never, sink.name) || waySection == "safe" && slices.Contains(way.except, sink.name) {
			return
		}
		id := fmt.Sprintf("c%05d", len(cases))
		text, ok := program(id, source, way, sink, waySection, sinkSection)
		if !ok {
			return
		}
		cases = append(cases, testCase{name: strings.Join([]string{source.name, way.name, waySection, sink.name, sinkSection}, " "), text: text, want: want})
	}
	for _, source := range sources {
		for _, sink := range sinks {
			add(source, ways[0], sink, "unsafe", "unsafe")
			add(source, ways[0], sink, "unsafe", "safe")
		}
	}
	plain := slices.DeleteFunc(slices.Clone(sources), func(s block) bool { return s.sections["view"] != "" })
	for i, way := range ways {
		for k, sink := range sinks {
			// A third of the pairs in the everyday test, every one of them in CI.
			if (i+k)%3 != 0 && !everything {
				continue
			}
			source := plain[(i+k)%len(plain)]
			add(source, way, sink, "unsafe", "unsafe")
			add(source, way, sink, "safe", "unsafe")
		}
		add(plain[i%len(plain)], way, sinks[i%len(sinks)], "unsafe", "safe")
	}

	dir := t.TempDir()
	for i, c := range cases {
		name := fmt.Sprintf("c%05d.py", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keep := os.Getenv("DEWAR_MATRIX"); keep != "" {
		if err := os.CopyFS(keep, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := audit.Load(context.Background(), dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	flow := map[string]bool{}
	for _, s := range sinks {
		flow[strings.TrimSuffix(s.head, " answer")] = true
	}
	found := map[string]map[string]string{}
	for _, f := range audit.Run(context.Background(), p, catalog.Rules(), audit.Options{}).Findings {
		if len(f.Rule.CWE) == 0 {
			continue
		}
		cwe := fmt.Sprintf("CWE-%d", f.Rule.CWE[0])
		if !flow[cwe] {
			continue
		}
		if found[f.Span.File] == nil {
			found[f.Span.File] = map[string]string{}
		}
		found[f.Span.File][cwe] = f.Message
	}
	missed, alarms := 0, 0
	for i := range cases {
		name := fmt.Sprintf("c%05d.py", i)
		c, got := cases[i], found[name]
		if _, ok := got[c.want]; c.want != "" && !ok {
			missed++
			t.Errorf("missed %s: %s: %s", name, c.want, c.name)
		}
		for cwe, message := range got {
			if cwe != c.want {
				alarms++
				t.Errorf("alarm %s: %s: %s: %s", name, cwe, c.name, message)
			}
		}
	}
	t.Logf("%d cases, %d missed, %d false alarms", len(cases), missed, alarms)
}
