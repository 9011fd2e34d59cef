package injection

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

// TestPatchesOfFindings: which parameters of which routes a finding is held
// shut at, and what of it stays open.
func TestPatchesOfFindings(t *testing.T) {
	const head = "import os, sqlite3\nfrom flask import Flask, Blueprint, request\napp = Flask(__name__)\ndb = sqlite3.connect('x')\n"
	for what, c := range map[string]struct{ app, want string }{
		"a helper that reads it for two views": {"def find():\n    db.execute('SELECT 1 WHERE a = \\'' + request.args['q'] + '\\'')\n    return {}\n@app.get('/a')\ndef a():\n    return find()\n@app.get('/b')\ndef b():\n    return find()\n", "/a query q ' /b query q '"},
		"two parameters in one statement":      {"@app.get('/a')\ndef a():\n    db.execute('SELECT 1 WHERE a = \\'' + request.args['q'] + '\\' AND b = ' + request.args['p'])\n    return {}\n", "/a query q  /a query p "},
		"a view with two rules":                {"@app.get('/a')\n@app.get('/b/<name>')\ndef a(name=''):\n    db.execute('SELECT 1 ORDER BY ' + name)\n    return {}\n", "/a path name bare /b/<name> path name bare"},
		"query and form as one":                {"@app.post('/a')\ndef a():\n    db.execute('SELECT 1 ORDER BY ' + request.values['o'])\n    return {}\n", "/a query o bare /a form o bare"},
		"a hook":                               {"@app.before_request\ndef hook():\n    db.execute('SELECT 1 ORDER BY ' + request.args.get('o', ''))\n@app.get('/')\ndef a():\n    return {}\n", "* query o bare"},
		"a body without names":                 {"@app.post('/a')\ndef a():\n    db.execute('SELECT 1 ORDER BY ' + (request.args.get('o') or request.get_data(as_text=True)))\n    return {}\n", "/a query o  open: body"},
		"a name that is computed":              {"@app.post('/a/<n>')\ndef a(n):\n    db.execute('SELECT 1 ORDER BY ' + request.form[n])\n    return {}\n", "/a/<n> form  bare open: form"},
		"a blueprint":                          {"bp = Blueprint('b', __name__, url_prefix='/b')\n@bp.get('/a')\ndef a():\n    db.execute('SELECT 1 ORDER BY ' + request.args['o'])\n    return {}\napp.register_blueprint(bp)\n", "/b/a query o bare"},
		"JSON":                                 {"@app.post('/a')\ndef a():\n    body = request.get_json()\n    db.execute('SELECT 1 ORDER BY ' + body['o'])\n    return {}\n", "/a json o bare"},
	} {
		p := audittest.Project(t, &txtar.Archive{Files: []txtar.File{{Name: "app.py", Data: []byte(head + c.app)}}})
		sql := slices.DeleteFunc(slices.Clone(rules), func(r *audit.Rule) bool { return r.ID != "DW-INJECTION-001" })
		res := audit.Run(t.Context(), p, sql, audit.Options{})
		var got []string
		for _, x := range p.Patches(p.Flow(t.Context()), res.Findings) {
			for _, param := range x.Parameters {
				got = append(got, strings.Join([]string{param.Rule, param.In, param.Name, param.Spot}, " "))
			}
			for _, o := range x.Open {
				place, _, _ := strings.Cut(o, ":")
				got = append(got, "open: "+place)
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", what, text, c.want)
		}
	}
}

// A field that people write markup in keeps it.
func TestPatchesOfRichText(t *testing.T) {
	p := audittest.Project(t, &txtar.Archive{Files: []txtar.File{
		{Name: "app.py", Data: []byte("from flask import Flask, request\napp = Flask(__name__)\n@app.post('/preview')\ndef preview():\n    return '<div>' + request.form['text'] + '</div>'\n")},
		{Name: "templates/edit.html", Data: []byte("<form method=post><textarea name=text class=tinymce></textarea></form>")},
	}})
	res := audit.Run(t.Context(), p, slices.DeleteFunc(slices.Clone(rules), func(r *audit.Rule) bool { return r.ID != "DW-INJECTION-007" }), audit.Options{})
	patches := p.Patches(p.Flow(t.Context()), res.Findings)
	if len(patches) != 1 || patches[0].Parameters[0].Spot != "rich" || len(patches[0].Open) != 1 {
		t.Errorf("%+v", patches)
	}
}

const patchedMap = `{"version":1,"routes":[
	{"rule":"/find","methods":["GET","POST"],"answers":["GET","HEAD","OPTIONS","POST"],"endpoint":"find"},
	{"rule":"/doc/<path:name>","methods":["GET"],"answers":["GET"],"endpoint":"doc"},
	{"rule":"/own","methods":["POST"],"answers":["POST"],"endpoint":"own"}],
 "patches":[
	{"check":"DW-INJECTION-001","control":"injection","fingerprint":"f1","file":"a.py","line":3,"severity":"critical","confidence":"likely","language":"sql","parameters":[
		{"rule":"/find","endpoint":"find","methods":["GET","HEAD","OPTIONS","POST"],"in":"query","name":"q","spot":"'"},
		{"rule":"/find","endpoint":"find","methods":["GET","HEAD","OPTIONS","POST"],"in":"form","name":"q","spot":"'"},
		{"rule":"/find","endpoint":"find","methods":["GET","HEAD","OPTIONS","POST"],"in":"json","name":"q","spot":"'"}]},
	{"check":"DW-INJECTION-010","control":"injection","fingerprint":"f2","file":"a.py","line":9,"severity":"high","confidence":"certain","language":"path","parameters":[{"rule":"/doc/<path:name>","endpoint":"doc","methods":["GET"],"in":"path","name":"name","spot":"below"}]},
	{"check":"DW-INJECTION-011","control":"injection","fingerprint":"f3","file":"a.py","line":12,"severity":"critical","confidence":"likely","language":"path","parameters":[{"rule":"/own","endpoint":"own","methods":["POST"],"in":"file","spot":"below"},{"rule":"/own","endpoint":"own","methods":["POST"],"in":"cookie","name":"dir","spot":"below"},{"rule":"/own","endpoint":"own","methods":["POST"],"in":"header","name":"X-Dir","spot":"below"}],"open":["body: no named part of the request"]},
	{"check":"DW-INJECTION-017","control":"injection","fingerprint":"f4","file":"a.py","line":20,"severity":"medium","confidence":"likely","language":"redirect","parameters":[{"rule":"/find","endpoint":"find","methods":["GET","HEAD","OPTIONS","POST"],"in":"query","name":"next"}]},
	{"check":"DW-INJECTION-018","control":"injection","fingerprint":"f5","file":"a.py","line":30,"severity":"critical","confidence":"possible","language":"header","parameters":[{"rule":"*","in":"query","name":"lang"}]}]}`

func patchLayer(t testing.TB, cfg Config, facts guard.Facts) *Patches {
	t.Helper()
	p, err := policy.Decode(strings.NewReader(patchedMap))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewPatches(cfg, guard.Env{Policy: func() *policy.Policy { return p }, Facts: func() guard.Facts { return facts }})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*Patches)
}

func TestPatchesJudgeTheirParametersOnly(t *testing.T) {
	l := patchLayer(t, Config{}, guard.Facts{})
	multipart := func(disposition, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n--x--\r\n"
	}
	const multi, js = "multipart/form-data; boundary=x", "application/json"
	for _, c := range []struct {
		method, target, kind, body string
		header                     [2]string
		want                       string // "" passes, "-" is noted, or the parameter
	}{
		{method: "GET", target: "/find?q=chair"}, {method: "GET", target: "/find?q=%27", want: "query q"}, {method: "GET", target: "/find?q=a&q=%27", want: "query q"}, {method: "GET", target: "/find?Q=%27"}, {method: "GET", target: "/find?other=%27"},
		{method: "HEAD", target: "/find?q=%27", want: "query q"}, {method: "GET", target: "/find/?q=%27", want: "query q"}, {method: "GET", target: "//find?q=%27", want: "query q"}, {method: "GET", target: "/elsewhere?q=%27"},
		{method: "POST", target: "/find", kind: form, body: "q=%27", want: "form q"}, {method: "POST", target: "/find", kind: form, body: "q=a"}, {method: "POST", target: "/find", kind: multi, body: multipart(`name="q"`, "'"), want: "form q"}, {method: "POST", target: "/find", kind: multi, body: multipart(`name="q"; filename="'"`, "'")},
		{method: "POST", target: "/find", kind: js, body: `{"q":"'"}`, want: "json q"}, {method: "POST", target: "/find", kind: js, body: `{"q":"\u0027"}`, want: "json q"}, {method: "POST", target: "/find", kind: js, body: `{"q":{"a":1}}`, want: "json q"}, {method: "POST", target: "/find", kind: js, body: `{"q":["a","'"]}`, want: "json q"},
		{method: "POST", target: "/find", kind: js, body: `{"q":"a","p":{"q":"'"}}`}, {method: "POST", target: "/find", kind: "text/plain", body: `{"q":"'"}`, want: "json q"}, {method: "POST", target: "/find", kind: js, body: `{"q":`, want: "query"},
		{method: "GET", target: "/doc/a/b.txt"}, {method: "GET", target: "/doc/a/..%5c..%5cb", want: "path name"}, {method: "GET", target: "/doc/%252e%252e/x", want: "path name"},
		{method: "POST", target: "/own", kind: multi, body: multipart(`name="f"; filename="../x"`, ""), want: "file"}, {method: "POST", target: "/own", kind: multi, body: multipart(`name="f"; filename="x.png"`, "../x")}, {method: "POST", target: "/own", kind: multi, body: multipart(`name="f"; filename="x.png"; filename*=utf-8''..%2fx`, ""), want: "file"},
		{method: "POST", target: "/own", header: [2]string{"Cookie", "a=b; dir=../x"}, want: "cookie dir"}, {method: "POST", target: "/own", header: [2]string{"Cookie", `dir="\056\056/x"`}, want: "cookie dir"}, {method: "POST", target: "/own", header: [2]string{"X-Dir", "/etc"}, want: "header X-Dir"}, {method: "POST", target: "/own", header: [2]string{"Cookie", "dir=pictures"}},
		{method: "GET", target: "/own", header: [2]string{"Cookie", "dir=../x"}}, {method: "PUT", target: "/own", header: [2]string{"X-Dir", "/etc"}},
		{method: "GET", target: "/find?next=https://elsewhere.example", want: "-"}, {method: "GET", target: "/find?next=/x"}, {method: "GET", target: "/find?next=//x&q=%27", want: "query q"}, {method: "GET", target: "/none?lang=a%0d%0ab", want: "-"},
	} {
		x := exchange(c.method, c.target, c.kind, c.body)
		if c.header[0] != "" {
			x.Request.Header.Set(c.header[0], c.header[1])
		}
		d := l.Request(x)
		switch {
		case c.want == "" && d.Verdict != guard.Allow, c.want == "-" && d.Verdict != guard.Observed,
			c.want != "" && c.want != "-" && (d.Verdict != guard.Deny || d.Attributes[attrParameter] != c.want):
			t.Errorf("%+v: %+v", c, d)
		}
		if strings.Contains(d.Detail, "elsewhere.example") {
			t.Errorf("the detail quotes a value: %s", d.Detail)
		}
	}
	// A header by which middleware chooses the method.
	x := exchange("GET", "/own", "", "")
	x.Request.Header.Set("X-Http-Method-Override", "POST")
	x.Request.Header.Set("Cookie", "dir=../x")
	if d := l.Request(x); d.Verdict != guard.Deny {
		t.Errorf("with another method: %+v", d)
	}
	// And fields by which it does.
	for _, c := range []struct{ target, kind, body string }{
		{"/doc/../x?_method=GET", "", ""},
		{"/doc/../x?%5fMETHOD=GET", "", ""},
		{"/doc/../x", "application/x-www-form-urlencoded", "a=b&_method=GET"},
		{"/doc/../x", multi, multipart(`name="_method"`, "GET")},
	} {
		if d := l.Request(exchange("POST", c.target, c.kind, c.body)); d.Verdict != guard.Deny {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	if d := l.Request(exchange("POST", "/doc/../x", "application/x-www-form-urlencoded", "method=GET")); d.Verdict != guard.Allow {
		t.Errorf("a method without a route: %+v", d)
	}
	l = patchLayer(t, Config{PatchFrom: "medium"}, guard.Facts{})
	if d := l.Request(exchange("GET", "/find?next=//x", "", "")); d.Verdict != guard.Deny {
		t.Errorf("patch-from = medium: %+v", d)
	}
	if d := l.Request(exchange("GET", "/find?lang=a%0ab", "", "")); d.Verdict != guard.Observed {
		t.Errorf("of what the audit is not sure: %+v", d)
	}
	if (&Config{PatchFrom: "x"}).Problems() == nil {
		t.Error("a severity that is none")
	}
}

// What is said of a finding holds for the app that runs.
func TestPatchesProve(t *testing.T) {
	routes := []guard.FactRoute{{Rule: "/find", Endpoint: "find"}, {Rule: "/doc/<path:name>", Endpoint: "doc"}, {Rule: "/own", Endpoint: "own"}}
	proven := func(l *Patches) string {
		var out []string
		for _, e := range l.Proves() {
			if e.Outcome != evidence.Pass || !e.Partial {
				t.Errorf("%+v", e)
			}
			out = append(out, e.Check)
		}
		return strings.Join(out, ",")
	}
	// f3 has a source that is open, f4 and f5 are only noted.
	if got := proven(patchLayer(t, Config{}, guard.Facts{Known: true, Routes: routes, Elsewhere: []string{"error handler a.b may answer"}})); got != "patch f1,patch f2" {
		t.Error(got)
	}
	for what, facts := range map[string]guard.Facts{
		"nothing is known":                {},
		"middleware may change the path":  {Known: true, Routes: routes, Elsewhere: []string{"WSGI middleware x"}},
		"the app has the routes not":      {Known: true, Routes: []guard.FactRoute{{Rule: "/", Endpoint: "index"}}},
		"the app has them elsewhere, too": {Known: true, Routes: append([]guard.FactRoute{{Rule: "/v1/find", Endpoint: "find"}, {Rule: "/v1/doc/<path:name>", Endpoint: "doc"}}, routes...)},
	} {
		if got := proven(patchLayer(t, Config{}, facts)); got != "" {
			t.Errorf("%s: %s", what, got)
		}
	}
	// A layer that a route override weakens proves nothing.
	l := patchLayer(t, Config{}, guard.Facts{Known: true, Routes: routes})
	count := func(overrides ...guard.Override) int {
		chain, err := guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: patchesSpec, Layer: l}}, Forward: &behind{}, Overrides: overrides})
		if err != nil {
			t.Fatal(err)
		}
		return len(chain.Evidence())
	}
	if n := count(); n != 3 {
		t.Errorf("%d pieces of evidence", n)
	}
	if n := count(guard.Override{Path: "/x", Reason: "x", Modes: map[string]guard.Mode{"virtual-patches": guard.Observe}}); n != 1 {
		t.Errorf("weakened: %d pieces of evidence", n)
	}
	if n := count(guard.Override{Path: "/x", Reason: "x", Stream: true}); n != 1 {
		t.Errorf("streaming: %d pieces of evidence", n)
	}
}

func BenchmarkPatches(b *testing.B) {
	l := patchLayer(b, Config{}, guard.Facts{})
	for _, target := range []string{"/elsewhere?q=chair&page=2", "/find?q=a+blue+chair&page=2"} {
		b.Run(target[1:5], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				r := httptest.NewRequest("GET", target, nil)
				x := &guard.Exchange{Request: r, Path: r.URL.Path}
				b.StartTimer()
				if d := l.Request(x); d.Verdict != guard.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}
