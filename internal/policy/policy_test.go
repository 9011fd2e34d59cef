package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/policy"
)

func decode(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Decode(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const shop = `{"version": 1, "routes": [
 {"rule": "/", "methods": ["GET"], "answers": ["GET", "HEAD", "OPTIONS"], "endpoint": "index", "fields": [{"in": "query", "name": "page", "type": "int"}, {"in": "query", "name": "q"}]},
 {"rule": "/cart/<int:id>", "methods": ["POST"], "endpoint": "put", "fields": [{"in": "form", "name": "n", "type": "int"}], "kind": "page", "kinds": ["page", "write"]},
 {"rule": "/cart/<name>", "methods": ["POST"], "endpoint": "named", "fields": [{"in": "form", "name": "n"}]},
 {"rule": "/files/<path:name>", "methods": ["GET"], "endpoint": "files", "other_fields": true},
 {"rule": "/admin/", "methods": ["GET"], "endpoint": "admin", "kind": "admin", "kinds": ["admin"]}
]}`

func TestMatch(t *testing.T) {
	p := decode(t, shop)
	endpoints := func(method, path string) string {
		var out []string
		for _, r := range p.Match(method, path).Routes {
			out = append(out, r.Endpoint)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/", "index"}, {"HEAD", "/", "index"}, {"POST", "/", ""}, {"POST", "/cart/7", "put named"}, {"POST", "/cart/x", "named"}, {"POST", "/cart/a/b", ""},
		{"GET", "/files/a/b.txt", "files"}, {"GET", "/files/", ""}, {"GET", "/admin", "admin"}, {"GET", "/admin/", "admin"}, {"GET", "//admin//", "admin"}, {"GET", "/nothing", ""},
	} {
		if got := endpoints(c.method, c.path); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, c.want)
		}
	}
	if m := p.Match("DELETE", "/cart/x"); !m.Path || len(m.Routes) != 0 {
		t.Errorf("a wrong method: %+v", m)
	}
	if typ, known := p.Match("GET", "/").Type(policy.Query, "page"); typ != "int" || !known {
		t.Errorf("page: %q %v", typ, known)
	}
	if _, known := p.Match("POST", "/cart/7").Type(policy.Form, "n"); known {
		t.Error("two routes disagree about n, and its type is known")
	}
	if typ, known := p.Match("POST", "/cart/x").Type(policy.Form, "n"); typ != "" || !known {
		t.Errorf("n: %q %v", typ, known)
	}
	if m := p.Match("GET", "/files/x"); !m.Reads(policy.Query, "anything") {
		t.Error("a route that reads fields by computed names reads only known ones")
	}
	if p.Match("GET", "/").Reads(policy.Query, "z") {
		t.Error("z is read")
	}
	if !p.Match("GET", "/admin").Is("admin") || p.Match("GET", "/none").Is("admin") {
		t.Error("kinds")
	}
	if m := p.Match("DELETE", "/cart/7"); len(m.Others) != 2 || m.Others[0].Endpoint != "put" {
		t.Errorf("what answers other methods: %+v", m.Others)
	}
	if !p.Match("GET", "/none").Certain() {
		t.Error("a map without gaps is not certain")
	}
}

// A policy made of the rules of an app that runs.
func TestNew(t *testing.T) {
	param := func(regex string) []policy.Param { return []policy.Param{{Name: "x", Converter: "own", Regex: regex}} }
	p, err := policy.New([]*policy.Route{
		{Rule: "/all"},
		{Rule: "/digits/<own:x>", Methods: []string{"GET"}, Params: param(`\d{2}`)},
		{Rule: "/words/<own:x>", Methods: []string{"GET"}, Params: param(`[\w-]+\.\w`)},
		{Rule: "/not/<own:x>", Methods: []string{"GET"}, Params: param(`[^\w]+`)},
		{Rule: "/ahead/<own:x>", Methods: []string{"GET"}, Params: param(`(?=a)a`)},
		{Rule: "/slash/<own:x>", Methods: []string{"GET"}, Params: param(`\\d`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/all": true, "/digits/12": true, "/digits/\u0663\u0664": true, "/digits/1": false, "/digits/ab": false,
		"/words/a-é.b": true, "/words/a b.c": false, "/not/anything": true, "/ahead/b": true, "/slash/\\d": true, "/slash/7": false, "/none": false,
	} {
		if m := p.Match("GET", path); m.Path != want || !m.Certain() {
			t.Errorf("%s: %+v", path, m)
		}
	}
	if m := p.Match("PROPFIND", "/all"); len(m.Routes) != 1 {
		t.Error("a rule without methods does not answer all of them")
	}
	if _, err := policy.New([]*policy.Route{{Rule: "/a"}, {Rule: "<"}}); err == nil || !strings.Contains(err.Error(), `"<"`) {
		t.Errorf("%v", err)
	}
}

// Patches are given to their routes, and what a route's variable parts match
// is told.
func TestPatched(t *testing.T) {
	p := decode(t, `{"version":1,"routes":[
		{"rule":"/a/<c>","methods":["GET"],"answers":["GET"],"endpoint":"a"},{"rule":"/a/<c>","methods":["POST"],"answers":["POST"],"endpoint":"a"},{"rule":"/f/<path:name>/<int:n>","methods":["GET"],"answers":["GET"],"endpoint":"f"}],
		"patches":[{"check":"R1","fingerprint":"f","language":"sql","parameters":[{"rule":"/a/<c>","endpoint":"a","methods":["GET"],"in":"path","name":"c"},{"rule":"*","in":"query","name":"q"}]},
		{"check":"R2","fingerprint":"g","language":"sql","parameters":[{"rule":"/none","endpoint":"a","in":"query","name":"c"}]}]}`)
	count := func(method, path string) (n int) {
		p.Patched(p.Match(method, path), func(*policy.Route, policy.Patched) { n++ })
		return n
	}
	if count("GET", "/a/x") != 2 || count("POST", "/a/x") != 1 || count("GET", "/none") != 1 {
		t.Errorf("%d %d %d", count("GET", "/a/x"), count("POST", "/a/x"), count("GET", "/none"))
	}
	if len(p.Patches()) != 2 || p.Patches()[0].Unbound || !p.Patches()[1].Unbound {
		t.Errorf("%+v", p.Patches())
	}
	f := p.Match("GET", "/f/a/b.txt/7").Routes[0]
	if v, ok := f.PathValue("//f/a/b.txt/7", "name"); v != "a/b.txt" || !ok {
		t.Errorf("%q %v", v, ok)
	}
	if v, ok := f.PathValue("/f/a/7", "n"); v != "7" || !ok {
		t.Errorf("%q %v", v, ok)
	}
	if _, ok := f.PathValue("/f/a/x", "n"); ok {
		t.Error("a path that the rule does not match")
	}
}

func TestDecodeErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                                "line 1",
		"{\n\n \"version\": x}":            "line 3",
		`{"version": 2}`:                   "version 2",
		`{"version": 1, "routes": [null]}`: "route 1",
		`{"version": 1, "routes": [{"rule": "x"}]}`:                  "slash",
		`{"version": 1, "routes": [{"rule": "/<int:>"}]}`:            "variable part",
		`{"version": 1, "routes": [{"rule": "/a"}, {"rule": "/<"}]}`: "route 2",
	} {
		if _, err := policy.Decode(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	p := decode(t, `{"version": 1, "routes": [], "not_understood": [{"file": "a.py", "line": 3, "what": "x"}]}`)
	if p.Match("GET", "/").Certain() || len(p.Gaps()) != 1 {
		t.Error("a map with gaps is certain")
	}
}

var variable = regexp.MustCompile(`<[^>]*>`)

const werkzeug = `
import json, sys
from werkzeug.routing import Map, Rule
from werkzeug.exceptions import NotFound, MethodNotAllowed
from werkzeug.routing import RequestRedirect
cases = json.load(sys.stdin)
out = []
for rules, paths in cases:
    m = Map([Rule(r, endpoint=str(i), methods=["GET"]) for i, r in enumerate(rules)])
    a = m.bind("h.example")
    row = []
    for p in paths:
        try:
            row.append(int(a.match(p, method="GET")[0]))
        except NotFound:
            row.append(-1)
        except RequestRedirect:
            row.append(-2)
        except MethodNotAllowed:
            row.append(-3)
    out.append(row)
json.dump(out, sys.stdout)
`

// TestWerkzeug compares with the router itself: what it picks must be among
// what Match finds, and what Match does not know the router must not know.
func TestWerkzeug(t *testing.T) {
	py := "../../.venv/bin/python"
	if p := os.Getenv("DEWAR_PYTHON"); p != "" {
		py = p
	}
	if out, err := exec.Command(py, "-c", "import werkzeug").CombinedOutput(); err != nil {
		msg := fmt.Sprintf("SKIPPED: no Python with Werkzeug, run scripts/venv.sh: %v %s", err, out)
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	r := rand.New(rand.NewPCG(7, 11))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	word := func() string {
		return pick("a", "b", "user", "x.y", "é", "a b", "7", "-3", "12", "1.5", "a-b", "%2e", "..", "\u0663\u0664", "1\u0663.\u06f2", "c0ffee00-1234-4abc-8def-0123456789ab")
	}
	var cases [][2][]string
	for range 300 {
		var c [2][]string
		for range 1 + r.IntN(6) {
			rule := ""
			for i := range 1 + r.IntN(4) {
				rule += "/" + pick(pick("a", "b", "user", "x.y"), pick("a", "user"), fmt.Sprintf("<p%d>", i), fmt.Sprintf("<int:p%d>", i), fmt.Sprintf("<string(length=2):p%d>", i), fmt.Sprintf("<float:p%d>", i), fmt.Sprintf("<uuid:p%d>", i),
					fmt.Sprintf("<any(a,b,user):p%d>", i), fmt.Sprintf("v<int:p%d>", i), fmt.Sprintf("<p%d>.json", i), fmt.Sprintf("<string(minlength=2,maxlength=3):p%d>", i))
			}
			if r.IntN(5) == 0 {
				rule += "/<path:rest>"
			}
			if r.IntN(3) == 0 {
				rule += "/"
			}
			c[0] = append(c[0], rule)
		}
		for range 40 {
			path := ""
			if r.IntN(2) == 0 {
				// A rule with words in its variable parts.
				path = variable.ReplaceAllStringFunc(pick(c[0]...), func(string) string { return word() })
				c[1] = append(c[1], path)
				continue
			}
			for range 1 + r.IntN(5) {
				path += pick("/", "/", "/", "//") + pick(word(), word(), "v"+word(), word()+".json")
			}
			if r.IntN(3) == 0 {
				path += "/"
			}
			c[1] = append(c[1], path)
		}
		c[1] = append(c[1], "/", "")
		cases = append(cases, c)
	}
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, "-c", werkzeug)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][]int
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	matched, wider := 0, 0
	for i, c := range cases {
		var b strings.Builder
		for j, rule := range c[0] {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"rule": %q, "methods": ["GET"], "endpoint": "%d"}`, rule, j)
		}
		p := decode(t, `{"version": 1, "routes": [`+b.String()+`]}`)
		for j, path := range c[1] {
			m := p.Match("GET", path)
			found := false
			for _, route := range m.Routes {
				found = found || route.Endpoint == fmt.Sprint(want[i][j])
			}
			switch {
			case want[i][j] >= 0 && !found:
				t.Errorf("rules %q: the router takes %q to %q, which Match does not find", c[0], path, c[0][want[i][j]])
			case want[i][j] == -2 && !m.Path:
				t.Errorf("rules %q: the router redirects %q, which Match does not know", c[0], path)
			case want[i][j] >= 0:
				matched++
			case want[i][j] == -1 && m.Path:
				wider++
			}
		}
	}
	if matched < 1000 {
		t.Errorf("only %d paths matched: the comparison says little", matched)
	}
	// Signed numbers, and a slash too many or too few.
	if wider > matched/4 {
		t.Errorf("%d paths that the router does not know are known here, beside %d that it knows", wider, matched)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(shop), "POST", "/cart/7")
	f.Add([]byte(`{"version":1,"routes":[{"rule":"/<a(b):c>/<path:d>"}]}`), "GET", "//x/")
	f.Add([]byte(`{"version":1,"routes":[{"rule":"/a/<c>","endpoint":"a"}],"patches":[{"check":"R","fingerprint":"f","language":"sql","parameters":[{"rule":"/a/<c>","endpoint":"a","in":"path","name":"c"},{"rule":"*","in":"query","name":"q"}]}]}`), "GET", "/a/x")
	f.Fuzz(func(t *testing.T, file []byte, method, path string) {
		p, err := policy.Decode(bytes.NewReader(file))
		if err != nil {
			return
		}
		m := p.Match(method, path)
		if len(m.Routes) > 0 && !m.Path {
			t.Fatal("routes without a path")
		}
		p.Patched(m, func(r *policy.Route, one policy.Patched) {
			if r != nil && one.In == "path" {
				r.PathValue(path, one.Name)
			}
		})
		m.Type(policy.Query, "a")
		m.Reads(policy.Form, "b")
	})
}

func BenchmarkMatch(b *testing.B) {
	p := decode(b, shop)
	b.ReportAllocs()
	for b.Loop() {
		p.Match("POST", "/cart/7")
	}
}
