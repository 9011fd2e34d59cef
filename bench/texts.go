//go:build ignore

// Texts sends texts to the WAF, each as a field of a form, as a parameter of a
// query and as a string of JSON, and counts which are refused: by the Core Rule
// Set alone (plain) and with values judged by grammar, at paranoia levels 1
// and 2. In process, no network.
//
//	go run bench/texts.go [-show FILE] [-sample N] TEXTS.jsonl...
//
// A line of a file is {"kind": "math", "text": "1 < 2"}; the table has a row
// for each kind. -show writes every text that judging by grammar refuses, with
// the rules that did, one JSON object a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/waf"
)

// The bounds of a text in a query: servers and browsers refuse longer ones.
const maxQuery = 4 << 10

type sample struct{ Kind, Text string }

type refusal struct {
	Kind, Text, Place string
	Level             int
	Rules             []string
}

func main() {
	show := flag.String("show", "", "file for what is refused with grammar")
	every := flag.Int("sample", 1, "of how many texts one is sent")
	level := flag.Int("level", 0, "one paranoia level only")
	plain := flag.Bool("plain", true, "the Core Rule Set alone as well")
	kind := flag.String("kind", "", "only kinds that begin so")
	passed := flag.Bool("passed", false, "-show writes what passes instead")
	flag.Parse()
	var texts []sample
	for _, name := range flag.Args() {
		texts = append(texts, read(name, *kind, *every)...)
	}
	if len(texts) == 0 {
		log.Fatal("usage: go run bench/texts.go [-show FILE] TEXTS.jsonl...")
	}
	var kinds []string
	for _, s := range texts {
		if !slices.Contains(kinds, s.Kind) {
			kinds = append(kinds, s.Kind)
		}
	}
	slices.Sort(kinds)
	var out *json.Encoder
	if *show != "" {
		f, err := os.Create(*show)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		out = json.NewEncoder(f)
		out.SetEscapeHTML(false)
	}

	type column struct {
		level     int
		structure bool
	}
	var columns []column
	for _, l := range []int{1, 2} {
		if *level != 0 && l != *level {
			continue
		}
		if *plain {
			columns = append(columns, column{l, false})
		}
		columns = append(columns, column{l, true})
	}
	refused := make([]map[string]int, len(columns))
	sent := map[string]int{}
	for i, c := range columns {
		engine, err := waf.New(waf.Config{Paranoia: c.level, Structure: c.structure})
		if err != nil {
			log.Fatal(err)
		}
		if gap := engine.Gap(); gap != "" {
			log.Fatal("the compiled rules are not whole: ", gap)
		}
		refused[i] = map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		work := make(chan sample)
		for range 2 {
			wg.Go(func() {
				for s := range work {
					for place, r := range requests(s.Text) {
						v := inspect(engine, r)
						mu.Lock()
						if i == 0 {
							sent[s.Kind]++
						}
						if v.Denied {
							refused[i][s.Kind]++
						}
						if c.structure && out != nil && v.Denied != *passed {
							x := refusal{Kind: s.Kind, Text: s.Text, Place: place, Level: c.level}
							for _, m := range v.Matches {
								x.Rules = append(x.Rules, strconv.Itoa(m.ID)+" "+m.Message+" in "+m.Variable)
							}
							out.Encode(x)
						}
						mu.Unlock()
					}
				}
			})
		}
		for _, s := range texts {
			work <- s
		}
		close(work)
		wg.Wait()
		engine.Close()
	}

	fmt.Print("| kind | requests |")
	for _, c := range columns {
		fmt.Printf(" level %d%s |", c.level, map[bool]string{true: " with grammar", false: " plain"}[c.structure])
	}
	fmt.Println("\n| --- | ---: |" + strings.Repeat(" ---: |", len(columns)))
	all := 0
	total := make([]int, len(columns))
	for _, k := range kinds {
		fmt.Printf("| %s | %d |", k, sent[k])
		all += sent[k]
		for i := range columns {
			fmt.Printf(" %d (%.1f %%) |", refused[i][k], 100*float64(refused[i][k])/float64(max(sent[k], 1)))
			total[i] += refused[i][k]
		}
		fmt.Println()
	}
	fmt.Printf("| all | %d |", all)
	for i := range columns {
		fmt.Printf(" %d (%.2f %%) |", total[i], 100*float64(total[i])/float64(max(all, 1)))
	}
	fmt.Println()
}

// read returns every n-th text of a file.
func read(name, kind string, n int) (out []sample) {
	f, err := os.Open(name)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for i := 0; lines.Scan(); i++ {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			log.Fatalf("%s, line %d: %v", name, i+1, err)
		}
		if i%n == 0 && strings.HasPrefix(s.Kind, kind) {
			out = append(out, s)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
	return out
}

// requests returns the requests by which a text comes. Browsers send a form's
// lines with CR LF.
func requests(text string) map[string]waf.Request {
	member, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		log.Fatal(err)
	}
	form := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	out := map[string]waf.Request{
		"form": request("POST", "/send", "application/x-www-form-urlencoded", "title=Hello&text="+url.QueryEscape(form)),
		"json": request("POST", "/send", "application/json", string(member)),
	}
	if len(text) <= maxQuery {
		out["query"] = request("GET", "/search?page=1&q="+url.QueryEscape(text), "", "")
	}
	return out
}

func request(method, uri, kind, body string) waf.Request {
	r := waf.Request{
		Method: method, URI: uri, Proto: "HTTP/1.1", Host: "www.example.com", Client: netip.MustParseAddr("203.0.113.7"),
		Header: http.Header{"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, "Accept": {"text/html,*/*;q=0.8"}, "Accept-Language": {"en-US,en;q=0.5"}},
	}
	if method == "POST" {
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		r.Body = strings.NewReader(body)
	}
	return r
}

// inspect asks the compiled rules only, which say what Coraza would, and it
// where they cannot tell.
func inspect(e *waf.Engine, r waf.Request) waf.Verdict {
	body := r.Body
	r.Brief = true
	v, err := e.Inspect(context.Background(), r)
	if err == nil && v.Reason == waf.ReasonBusy {
		if s, ok := body.(*strings.Reader); ok {
			s.Seek(0, 0)
		}
		r.Brief = false
		v, err = e.Inspect(context.Background(), r)
	}
	if err != nil {
		log.Fatal(err)
	}
	return v
}
