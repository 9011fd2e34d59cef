package injection

import (
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/jinja"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// parts makes pieces: a text that begins with "\x00" is labelled data, of the
// characters behind it or of any; "\x01" is unknown and not labelled; others
// are literal.
func parts(texts ...string) []pyflow.Piece {
	label := []pyflow.Label{{Kind: "query", Note: `query parameter "q"`}}
	var out []pyflow.Piece
	for _, t := range texts {
		switch {
		case t == "\x00":
			out = append(out, pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars, Labels: label})
		case strings.HasPrefix(t, "\x00"):
			out = append(out, pyflow.Piece{Unknown: true, Chars: pyflow.CharRange(t[1:]), Labels: label})
		case t == "\x01":
			out = append(out, pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars})
		default:
			out = append(out, pyflow.Piece{Literal: t})
		}
	}
	return out
}

// but makes labelled data without some texts, harmless for some kinds.
func but(without []string, harmless ...string) pyflow.Piece {
	p := parts("\x00")[0]
	p.Without, p.Harmless = without, harmless
	return p
}

const x = "\x00"

func TestExits(t *testing.T) {
	ok := audit.FromOutside
	shellQuoted := but(nil, "command")
	type find = func([]pyflow.Piece) (exit, bool)
	kinds := map[string]find{
		"sql":      func(p []pyflow.Piece) (exit, bool) { return sqlExit(p, ok, false) },
		"cypher":   func(p []pyflow.Piece) (exit, bool) { return cypherExit(p, ok) },
		"xpath":    func(p []pyflow.Piece) (exit, bool) { return xpathExit(p, ok) },
		"ldap":     func(p []pyflow.Piece) (exit, bool) { return ldapExit(p, ok) },
		"python":   func(p []pyflow.Piece) (exit, bool) { return pythonExit(p, ok, "code") },
		"import":   func(p []pyflow.Piece) (exit, bool) { return importExit(p, ok) },
		"shell":    func(p []pyflow.Piece) (exit, bool) { return shellExit(p, ok) },
		"read":     func(p []pyflow.Piece) (exit, bool) { return pathExit(p, ok, "path-read") },
		"delete":   func(p []pyflow.Piece) (exit, bool) { return pathExit(p, ok, "path-delete") },
		"redirect": func(p []pyflow.Piece) (exit, bool) { return redirectExit(p, ok) },
		"jinja":    func(p []pyflow.Piece) (exit, bool) { return templateExit(p, ok, false) },
		"mako":     func(p []pyflow.Piece) (exit, bool) { return templateExit(p, ok, true) },
		"page":     func(p []pyflow.Piece) (exit, bool) { return pageExit(p, ok, jinja.State{}) },
		"line":     func(p []pyflow.Piece) (exit, bool) { return newlineExit(p, ok, "header") },
	}
	tests := []struct {
		kind   string
		pieces []pyflow.Piece
		want   bool
	}{
		{"sql", parts(x), true},
		{"sql", parts("SELECT 1"), false},
		{"sql", parts("SELECT * FROM t WHERE a = '", x, "'"), true},
		{"sql", parts("SELECT * FROM t WHERE a = '", x+"a-z %", "'"), false},
		{"sql", parts("SELECT * FROM t WHERE a = ", x+"0-9"), false},
		{"sql", parts("SELECT * FROM t WHERE a = ", x), true},
		{"sql", parts("SELECT * FROM t ORDER BY ", x+"a-z_"), false},
		{"sql", parts("SELECT * FROM t ORDER BY ", x+"a-z_ "), true},
		{"sql", parts("SELECT * FROM `", x+"a-z ';", "`"), false},
		{"sql", parts("SELECT * FROM `", x+"a-z`", "`"), true},
		{"sql", parts("SELECT 1 -- ", x+"a-z;'", "\nFROM t"), false},
		{"sql", parts("SELECT 1 -- ", x, "\nFROM t"), true},
		{"sql", parts("SELECT 1 /* ", x+"a-z*", " */"), false},
		{"sql", parts("SELECT a FROM t WHERE n LIKE '%\\' AND b = ", x), true},
		{"sql", parts("SELECT a FROM ", "\x01", " WHERE b = ?"), false},
		{"sql", []pyflow.Piece{{Literal: "SELECT "}, but(nil, "sql")}, false},
		{"sql", parts("SELECT \"it''s\" FROM t WHERE b='", x+"a-z\"", "'"), false},
		{"cypher", parts("MATCH (n {name: '", x+"a-z\\", "'}) RETURN n"), false},
		{"cypher", parts("MATCH (n {name: '", x+"a-z\\", "', b: '", x+"a-z\\", "'})"), true},
		{"xpath", parts("//u[@n='", x, "']"), true},
		{"xpath", parts("//u[@n='", x+"a-z\"", "']"), false},
		{"xpath", parts("//u[@n=\"", x+"a-z\"", "\"]"), true},
		{"xpath", parts("//u[", x+"0-9", "]"), false},
		{"xpath", parts(x), true},
		{"ldap", parts("(uid=", x, ")"), true},
		{"ldap", parts("(uid=", x+"a-z0-9", ")"), false},
		{"ldap", parts("uid=", x, ",dc=example"), true},
		{"ldap", parts("uid=", x+"a-z*()", ",dc=example"), false},
		{"ldap", []pyflow.Piece{{Literal: "(uid="}, but(nil, "ldap"), {Literal: ")"}}, false},
		{"python", parts(x), true},
		{"python", parts(x + "0-9+()*"), true},
		{"python", parts(x + "0-9."), false},
		{"python", parts("'", x+"a-z ", "'"), false},
		{"python", parts("'", x, "'"), true},
		{"python", []pyflow.Piece{{Literal: "'"}, but([]string{"'"}), {Literal: "'"}}, false},
		{"python", parts("print('", x+"a-z\\", "', '", x+"a-z", "')"), true},
		{"python", parts("print(f'", x+"a-z{}", "')"), true},
		{"python", parts("print('", x+"a-z{}", "')"), false},
		{"import", parts(x), true},
		{"import", parts("app.plugins.", x), true},
		{"import", parts("app.plugins.", x+"a-z_."), false},
		{"import", parts("handler_", x+"a-z"), false},
		{"shell", parts(x), true},
		{"shell", parts("ping ", x), true},
		{"shell", parts("ping ", x+"0-9a-f.:"), false},
		{"shell", parts(x + "a-z"), true},
		{"shell", parts("ls; ", x+"a-z"), true},
		{"shell", parts("ls; run_", x+"a-z"), false},
		{"shell", parts("echo '", x+"a-z $()`", "'"), false},
		{"shell", parts("echo '", x, "'"), true},
		{"shell", parts("echo \"", x+"a-z';|", "\""), false},
		{"shell", parts("echo \"", x+"a-z$()", "\""), true},
		{"shell", []pyflow.Piece{{Literal: "echo "}, shellQuoted}, false},
		{"shell", []pyflow.Piece{{Literal: "echo '"}, shellQuoted, {Literal: "'"}}, true},
		{"shell", []pyflow.Piece{{Literal: `echo "`}, shellQuoted, {Literal: `"`}}, true},
		{"shell", []pyflow.Piece{shellQuoted, {Literal: " -v"}}, true},
		{"shell", parts("ls # ", x+"a-z;"), false},
		{"shell", parts("ls \\' ", x), true},
		{"read", parts(x), true},
		{"read", parts("/srv/files/", x), true},
		{"read", parts("/srv/files/", x+"a-z0-9._-"), false},
		{"read", []pyflow.Piece{{Literal: "/srv/files/"}, but([]string{"../"})}, false},
		{"read", []pyflow.Piece{{Literal: "/srv/files/"}, but([]string{".."})}, false},
		{"read", []pyflow.Piece{but([]string{".."})}, true},
		{"read", []pyflow.Piece{{Literal: "/srv/files/"}, but([]string{"/"})}, false},
		{"read", []pyflow.Piece{{Literal: "/srv/"}, but([]string{"/"}), {Literal: "/profile.txt"}}, true},
		{"read", parts("/srv/users/", x+"a-z", "/profile.txt"), false},
		{"read", []pyflow.Piece{{Literal: "/srv/"}, but(nil, "path-read")}, false},
		{"read", parts(x + "a-z."), false},
		{"delete", []pyflow.Piece{{Literal: "/srv/files/"}, but([]string{"/"})}, true},
		{"delete", parts("/srv/files/", x+"a-z"), false},
		{"redirect", parts(x), true},
		{"redirect", parts(x + "a-z"), false},
		{"redirect", parts("/", x), true},
		{"redirect", parts("/", x+"a-z"), false},
		{"redirect", parts("/item/", x), false},
		{"redirect", parts("?page=", x), false},
		{"redirect", parts("https://shop.example/", x), false},
		{"redirect", parts("https://shop.example", x), true},
		{"redirect", parts("//", x), true},
		{"redirect", parts("\x01", x), false},
		{"redirect", []pyflow.Piece{but(nil, "redirect")}, false},
		{"jinja", parts("<p>", x, "</p>"), true},
		{"jinja", parts("<p>", x+"a-z<>", "</p>"), false},
		{"jinja", parts("{{ '", x+"a-z{}", "' }}"), false},
		{"jinja", parts("{{ '", x, "' }}"), true},
		{"jinja", parts("{{ ", x+"a-z()", " }}"), true},
		{"jinja", parts("{{ ok }}", x+"a-z()"), false},
		{"jinja", parts("{# ", x+"a-z{}", " #}"), false},
		{"jinja", []pyflow.Piece{{Literal: "<p>"}, but([]string{"{"})}, false},
		{"mako", parts("<p>", x+"a-z${}"), true},
		{"mako", parts("<p>", x+"a-z{}"), false},
		{"page", parts(x), true},
		{"page", parts("<p>", x, "</p>"), true},
		{"page", []pyflow.Piece{{Literal: "<p>"}, but(nil, "html")}, false},
		{"page", []pyflow.Piece{{Literal: "<p title="}, but(nil, "html"), {Literal: ">"}}, true},
		{"page", []pyflow.Piece{{Literal: `<p title="`}, but(nil, "html"), {Literal: `">`}}, false},
		{"page", []pyflow.Piece{{Literal: `<a href="`}, but(nil, "html"), {Literal: `">`}}, true},
		{"page", []pyflow.Piece{{Literal: `<a href="/u/`}, but(nil, "html"), {Literal: `">`}}, false},
		{"page", []pyflow.Piece{{Literal: `<a onclick="f('`}, but(nil, "html"), {Literal: `')">`}}, true},
		{"page", []pyflow.Piece{{Literal: `<script>f('`}, but(nil, "html"), {Literal: `')</script>`}}, false},
		{"page", []pyflow.Piece{{Literal: `<script>f(`}, but(nil, "html"), {Literal: `)</script>`}}, true},
		{"page", parts("<script>f(", x+"0-9", ")</script>"), false},
		{"page", parts("<b>", x+"a-z ", "</b>"), false},
		{"line", parts("a", x), true},
		{"line", parts("a", x+"a-z"), false},
	}
	for _, tt := range tests {
		e, bad := kinds[tt.kind](tt.pieces)
		if bad != tt.want {
			t.Errorf("%s of %+v: %v %s", tt.kind, tt.pieces, bad, e.Why)
		}
		if bad && e.Label.Kind != "query" {
			t.Errorf("%s of %+v: no label", tt.kind, tt.pieces)
		}
	}
}

func TestArgv(t *testing.T) {
	text := func(p ...pyflow.Piece) pyflow.Value {
		return pyflow.Value{Kind: pyflow.Text, Known: len(p) == 1 && !p[0].Unknown, Pieces: p}
	}
	lit := func(s string) pyflow.Value { return text(pyflow.Piece{Literal: s}) }
	free := text(parts(x)...)
	tests := []struct {
		name string
		argv []pyflow.Value
		want bool
	}{
		{"an argument", []pyflow.Value{lit("ping"), lit("-c"), lit("1"), free}, false},
		{"the program", []pyflow.Value{free, lit("-c")}, true},
		{"a tool in a folder", []pyflow.Value{text(parts("/opt/tools/", x+"a-z")...)}, false},
		{"a tool above the folder", []pyflow.Value{text(parts("/opt/tools/", x)...)}, true},
		{"a script", []pyflow.Value{lit("/bin/sh"), lit("-c"), text(parts("echo ", x)...)}, true},
		{"a script's argument", []pyflow.Value{lit("bash"), lit("-c"), lit("echo $1"), lit("sh"), free}, false},
		{"a script's file", []pyflow.Value{lit("bash"), lit("run.sh"), free}, false},
		{"behind sudo", []pyflow.Value{lit("sudo"), lit("-n"), lit("sh"), lit("-c"), free}, true},
		{"behind env", []pyflow.Value{lit("env"), lit("A=1"), lit("ls"), free}, false},
		{"python -c", []pyflow.Value{lit("python3"), lit("-c"), text(parts("print('", x, "')")...)}, true},
		{"ssh", []pyflow.Value{lit("ssh"), lit("host"), text(parts("ls ", x)...)}, true},
		{"nothing", nil, false},
	}
	for _, tt := range tests {
		if e, bad := argvExit(tt.argv, audit.FromOutside); bad != tt.want {
			t.Errorf("%s: %v %s", tt.name, bad, e.Why)
		}
	}
}

func TestBodies(t *testing.T) {
	free := pyflow.Value{Kind: pyflow.Text, Pieces: parts(x)}
	lit := func(s string) pyflow.Value {
		return pyflow.Value{Kind: pyflow.Text, Known: true, Pieces: []pyflow.Piece{{Literal: s}}}
	}
	number := pyflow.Value{Kind: pyflow.Number, Known: true, Number: 404}
	dict := func(kv ...pyflow.Value) pyflow.Value {
		v := pyflow.Value{Kind: pyflow.Dict}
		for i := 0; i < len(kv); i += 2 {
			k, _ := kv[i].Const()
			v.Keys = append(v.Keys, k)
			v.Items = append(v.Items, kv[i+1])
		}
		return v
	}
	list := func(items ...pyflow.Value) pyflow.Value { return pyflow.Value{Kind: pyflow.List, Items: items} }
	object := func(kv ...pyflow.Value) pyflow.Value {
		v := dict(kv...)
		v.Kind, v.Type = pyflow.Object, "flask.Response"
		return v
	}
	none := pyflow.Value{Kind: pyflow.None, Known: true}
	tests := []struct {
		name string
		v    pyflow.Value
		want int
	}{
		{"text", free, 1},
		{"dictionary", dict(lit("a"), free), 0},
		{"list", list(free), 0},
		{"with status", list(free, number), 1},
		{"plain text", list(free, number, dict(lit("content-type"), lit("text/plain; charset=utf-8"))), 0},
		{"page", list(free, dict(lit("Content-Type"), lit("text/html"))), 1},
		{"pairs", list(free, number, list(list(lit("Content-Type"), lit("application/json")))), 0},
		{"dictionary with status", list(dict(lit("a"), free), number), 0},
		{"response", object(lit("response"), free, lit("mimetype"), none), 1},
		{"JSON response", object(lit("response"), free, lit("mimetype"), lit("application/json")), 0},
		{"response of a type not known", object(lit("response"), free, lit("content_type"), free), 0},
		{"one of two", pyflow.Value{Alternatives: []pyflow.Value{lit("ok"), free}}, 2},
		{"JSON or text", pyflow.Value{Labels: []pyflow.Label{{Kind: "json"}}}, 1},
	}
	for _, tt := range tests {
		if got := len(bodies(tt.v)); got != tt.want {
			t.Errorf("%s: %d texts", tt.name, got)
		}
	}
	if _, bad := pageExit(bodies(tests[len(tests)-1].v)[0].Pieces, audit.FromOutside, jinja.State{}); bad {
		t.Error("what came as JSON and is returned whole is JSON again")
	}
}

func TestLooksLikeSQL(t *testing.T) {
	for receiver, want := range map[string]bool{"cursor": true, "self.db": true, "db.session": true, "cur": true, "get_db()": true, "conn": true, "task": false, "executor": false, "": false} {
		if looksLikeSQL(parts(x), receiver) != want {
			t.Errorf("%q: %v", receiver, !want)
		}
	}
	if !looksLikeSQL(parts("select a from t where b=", x), "thing") {
		t.Error("a statement is SQL whatever runs it")
	}
}
