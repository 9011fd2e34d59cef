package injection

import (
	"encoding/base64"
	jsontext "encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

const documentApp = `import base64, io, pickle, re, smtplib, zlib
import jsonpickle, yaml
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import FlaskForm
from lxml import etree
from wtforms import StringField
app = Flask(__name__)
db = SQLAlchemy(app)
parser = etree.XMLParser(resolve_entities=True)

class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String)
    role = db.Column(db.String)
    city = db.Column(db.String)
    is_admin = db.Column(db.Boolean)

class AdminForm(FlaskForm):
    is_admin = StringField()

def secret(b):
    return bytes(x ^ 7 for x in b)

@app.post("/xml")
def xml():
    etree.fromstring(request.get_data(), parser)
    return {}

@app.post("/xml/file")
def xml_file():
    etree.parse(request.files["doc"].stream, parser)
    return {}

@app.post("/yaml")
def load():
    yaml.load(request.get_data(as_text=True), Loader=yaml.Loader)
    return {}

@app.post("/cart")
def cart():
    pickle.loads(base64.b64decode(request.cookies["cart"]))
    return {}

@app.post("/odd")
def odd():
    pickle.loads(secret(request.get_data()))
    return {}

@app.post("/objects")
def objects():
    jsonpickle.decode(request.form["state"])
    return {}

@app.get("/check")
def check():
    return {"ok": bool(re.fullmatch(r"(\w+\s?)+", request.args["text"]))}

@app.get("/find")
def find():
    return {"ok": bool(re.search(request.args["pattern"], "text"))}

@app.post("/profile")
def profile():
    user = User()
    for k, v in request.form.items():
        setattr(user, k, v)
    return {}

@app.post("/api/users")
def users():
    User(**request.get_json())
    return {}

@app.post("/ask")
def ask():
    mail = "Subject: " + request.form["subject"] + "\nFrom: " + request.form["sender"] + "\n\n" + request.form["text"]
    smtplib.SMTP("localhost").sendmail("a@example.com", ["b@example.com"], mail)
    return {}
`

// TestPatchesOfDocuments: what the audit finds in bodies, files and names is
// held shut by the layer, and nothing else of the requests.
func TestPatchesOfDocuments(t *testing.T) {
	p := audittest.Project(t, &txtar.Archive{Files: []txtar.File{
		{Name: "app.py", Data: []byte(documentApp)},
		{Name: "templates/profile.html", Data: []byte(`<form method=post action=/profile><input name="name"></form>`)},
	}})
	res := audit.Run(t.Context(), p, rules, audit.Options{})
	patches := p.Patches(p.Flow(t.Context()), res.Findings)
	language := map[string]string{}
	open := map[string]bool{}
	for _, x := range patches {
		for _, param := range x.Parameters {
			language[param.Rule] = x.Language
			open[param.Rule] = len(x.Open) > 0
		}
	}
	for rule, want := range map[string]string{"/xml": "xml", "/xml/file": "xml", "/yaml": "yaml", "/cart": "pickle", "/odd": "pickle open", "/objects": "jsonpickle", "/check": "regex-text", "/find": "regex open", "/profile": "attribute open", "/api/users": "attribute open", "/ask": "mail"} {
		got := language[rule]
		if open[rule] {
			got += " open"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
	m, err := policy.Decode(strings.NewReader(mapWith(t, p, patches)))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := NewPatches(Config{PatchFrom: "low"}, guard.Env{Policy: func() *policy.Policy { return m }, Facts: func() guard.Facts { return guard.Facts{} }})
	if err != nil {
		t.Fatal(err)
	}
	multipart := func(disposition, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n--x--\r\n"
	}
	const multi, js, urlencoded = "multipart/form-data; boundary=x", "application/json", "application/x-www-form-urlencoded"
	const dtd = `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>`
	evil := base64.StdEncoding.EncodeToString([]byte("cos\nsystem\n(S'id'\ntR."))
	for _, c := range []struct {
		method, target, kind, body, cookie string
		want                               string // "" passes, "-" is noted, or what is named
	}{
		{method: "POST", target: "/xml", kind: "text/xml", body: dtd, want: "body"}, {method: "POST", target: "/xml", kind: "text/xml", body: "<r/>"}, {method: "POST", target: "/xml", kind: urlencoded, body: dtd, want: "body"}, {method: "POST", target: "/xml", body: dtd, want: "body"}, {method: "POST", target: "/xml", kind: multi, body: multipart(`name="a"`, dtd), want: "body"},
		{method: "POST", target: "/xml/file", kind: multi, body: multipart(`name="doc"; filename="a.xml"`, dtd), want: "file"}, {method: "POST", target: "/xml/file", kind: multi, body: multipart(`name="doc"; filename="a.xml"`, "<r/>")}, {method: "POST", target: "/xml/file", kind: multi, body: multipart(`name="doc"`, dtd)}, {method: "POST", target: "/xml/file", kind: multi, body: "--x\r\nbroken", want: "content"},
		{method: "POST", target: "/yaml", body: "- !!python/object/apply:os.system [id]", want: "body"}, {method: "POST", target: "/yaml", body: "- name: Ann's\n"}, {method: "POST", target: "/yaml", kind: urlencoded, body: "!!python/name:os.system x", want: "body"},
		{method: "POST", target: "/cart", cookie: "cart=" + evil, want: "cookie cart"}, {method: "POST", target: "/cart", cookie: `cart="` + evil + `"`, want: "cookie cart"}, {method: "POST", target: "/cart", cookie: "cart=gASVDwAAAAAAAABdlChLAUsCSwOMAWGUZS4="}, {method: "POST", target: "/cart"},
		{method: "POST", target: "/objects", kind: urlencoded, body: "state=%7B%22py/object%22:%22os.Popen%22%7D", want: "form state"}, {method: "POST", target: "/objects", kind: urlencoded, body: "state=%7B%22a%22:1%7D"},
		{method: "GET", target: "/check?text=" + strings.Repeat("a", 40) + "!", want: "query text"}, {method: "GET", target: "/check?text=" + strings.Repeat("a+quite+long+text+", 400)}, {method: "GET", target: "/check?text=short!"},
		{method: "GET", target: "/find?pattern=(a%2B)%2B$", want: "query pattern"}, {method: "GET", target: "/find?pattern=^te[xy]t$"},
		{method: "POST", target: "/profile", kind: urlencoded, body: "name=Ann&role=admin", want: "form role"}, {method: "POST", target: "/profile", kind: urlencoded, body: "name=Ann&__class__=x", want: "form __class__"}, {method: "POST", target: "/profile", kind: urlencoded, body: "name=Ann&city=Ulm", want: "-"}, {method: "POST", target: "/profile", kind: urlencoded, body: "name=role"}, {method: "POST", target: "/profile", kind: urlencoded, body: "name=Ann&is_admin=1"},
		{method: "POST", target: "/api/users", kind: js, body: `{"name":"Ann","role":"admin"}`, want: "json role"}, {method: "POST", target: "/api/users", kind: js, body: `{"name":"role"}`}, {method: "POST", target: "/api/users?role=1", kind: js, body: `{"name":"Ann"}`},
		{method: "POST", target: "/ask", kind: urlencoded, body: "subject=a%0d%0aBcc:x&text=t", want: "form subject"}, {method: "POST", target: "/ask", kind: urlencoded, body: "sender=a%0aBcc:x", want: "form sender"}, {method: "POST", target: "/ask", kind: urlencoded, body: "subject=Order+5&sender=a@b.example&text=one%0d%0atwo%0d%0a"},
	} {
		x := exchange(c.method, c.target, c.kind, c.body)
		if c.cookie != "" {
			x.Request.Header.Set("Cookie", c.cookie)
		}
		d := layer.Request(x)
		what := d.Attributes[attrParameter]
		switch {
		case c.want == "" && d.Verdict != guard.Allow, c.want == "-" && d.Verdict != guard.Observed, c.want != "" && c.want != "-" && (d.Verdict != guard.Deny || what != c.want):
			t.Errorf("%s %s %.60q %s: %v %q %s, want %q", c.method, c.target, c.body, c.cookie, d.Verdict, what, d.Detail, c.want)
		}
	}
}

// A patch of a body is no proof where bodies stream past.
func TestPatchesOfStreamedBodies(t *testing.T) {
	p := audittest.Project(t, &txtar.Archive{Files: []txtar.File{{Name: "app.py", Data: []byte(documentApp)}}})
	only := slices.DeleteFunc(slices.Clone(rules), func(r *audit.Rule) bool { return r.ID != "DW-INJECTION-014" && r.ID != "DW-INJECTION-012" })
	res := audit.Run(t.Context(), p, only, audit.Options{})
	m, err := policy.Decode(strings.NewReader(mapWith(t, p, p.Patches(p.Flow(t.Context()), res.Findings))))
	if err != nil {
		t.Fatal(err)
	}
	var facts []guard.FactRoute
	for _, r := range m.Routes() {
		facts = append(facts, guard.FactRoute{Rule: r.Rule, Methods: r.Answers, Endpoint: r.Endpoint})
	}
	for _, stream := range []bool{false, true} {
		layer, err := NewPatches(Config{}, guard.Env{Policy: func() *policy.Policy { return m }, Facts: func() guard.Facts { return guard.Facts{Known: true, Routes: facts} }})
		if err != nil {
			t.Fatal(err)
		}
		l := layer.(*Patches)
		if err := l.CheckOverride(&guard.Override{Path: "/big", Stream: stream}); err != nil {
			t.Fatal(err)
		}
		var proven []string
		for _, e := range l.Proves() {
			_, at, _ := strings.Cut(e.Summary, "held shut: ")
			proven = append(proven, at)
		}
		slices.Sort(proven)
		want := "body of /xml, content of /xml/file, cookie cart of /cart"
		if stream {
			want = "cookie cart of /cart"
		}
		if !strings.Contains(strings.Join(proven, ", "), want) || stream && len(proven) != 1 {
			t.Errorf("stream %v: %q are proven, want %q", stream, proven, want)
		}
		if strings.Contains(strings.Join(proven, " "), "/odd") {
			t.Error("what goes through a function that nobody knows is taken for held shut")
		}
	}
}

// TestMatcher: what a backtracking matcher does at once passes however long it
// is, and what it goes over again and again does not.
func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		pattern, mode string
		fast, slow    []string
	}{
		{`(\w+\s?)+`, "full", []string{"", "a", "!", strings.Repeat("word ", 4000), strings.Repeat("a", 12) + "!"}, []string{strings.Repeat("a", 40) + "!", strings.Repeat("ab ", 15) + "!"}},
		{`^(a+)+$`, "search", []string{strings.Repeat("a", 5000), "b" + strings.Repeat("a", 50)}, []string{strings.Repeat("a", 50) + "b"}},
		{`(a|aa)+b`, "match", []string{strings.Repeat("a", 3000) + "b", strings.Repeat("c", 3000)}, []string{strings.Repeat("a", 60)}},
		{`(x*)*y`, "", []string{"xxxy"}, []string{strings.Repeat("x", 60)}},
		{`([a-z]+)*@`, "search", []string{"ann@example.com", strings.Repeat("1 ", 2000)}, []string{strings.Repeat("ann", 20)}},
	} {
		for _, text := range c.fast {
			if why := breaksRegexText(c.pattern, c.mode, text); why != "" {
				t.Errorf("%s on %.20q: %s", c.pattern, text, why)
			}
		}
		for _, text := range c.slow {
			if breaksRegexText(c.pattern, c.mode, text) == "" {
				t.Errorf("%s on %.20q passes", c.pattern, text)
			}
		}
	}
}

func FuzzMatcher(f *testing.F) {
	f.Add(`(\w+\s?)+`, "full", "aaaa!")
	f.Add(`((a?){9}){9}$`, "search", "aaaa")
	f.Add(`(|a|)*\b^`, "", "é\xff\n")
	f.Fuzz(func(t *testing.T, pattern, mode, text string) {
		if len(text) < 4000 {
			breaksRegexText(pattern, mode, text)
		}
	})
}

// mapWith writes a route map with patches, as "dewar routes" does.
func mapWith(t *testing.T, p *audit.Project, patches []audit.Patch) string {
	t.Helper()
	m := p.RouteMap(t.Context())
	m.Patches = patches
	b, err := jsontext.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
