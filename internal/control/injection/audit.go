package injection

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/jinja"
	"github.com/dewar-security/dewar/internal/pyflow"
)

var rules = slices.Concat(queryRules, codeRules, pageRules, pathRules, otherRules)

// known accepts what a client sends, as long as it was not lost sight of on
// the way.
var known = audit.Known(audit.FromOutside)

// follow reports every hit on a sink of the kinds in which find sees a
// labelled piece leave its place. Message and caret say what is wrong; the
// source stands in the message as %s, why the piece can leave follows it.
func follow(p *audit.Pass, kinds []string, message, caret string, find func(*pyflow.Hit) (exit, bool)) {
	p.Follow(p.Hits("sink", kinds...), func(h *pyflow.Hit) []audit.Danger {
		e, bad := find(h)
		if !bad {
			return nil
		}
		d := audit.Danger{Label: e.Label, Spot: e.Spot, Message: message + ": it " + e.Why, Caret: caret, Confidence: sure(h)}
		if e.Patch != nil {
			e.Patch(&d)
		}
		return []audit.Danger{d}
	})
}

// sure returns the confidence for a hit: less where only a method's name says
// that it is a sink.
func sure(h *pyflow.Hit) audit.Confidence {
	if guessed(h) {
		return audit.Possible
	}
	return audit.Certain
}

// inFocus asks find about every text that the sink's arguments may be.
func inFocus(h *pyflow.Hit, find func([]pyflow.Piece) (exit, bool)) (exit, bool) {
	return inTexts(h, func(t audit.FlowText) (exit, bool) { return find(t.Pieces) })
}

func inTexts(h *pyflow.Hit, find func(audit.FlowText) (exit, bool)) (exit, bool) {
	for _, v := range h.Focus {
		for _, t := range audit.Texts(v) {
			if e, bad := find(t); bad {
				return e, true
			}
		}
	}
	return exit{}, false
}

// guessed reports whether only the method's name says what a hit is.
func guessed(h *pyflow.Hit) bool { return strings.HasPrefix(h.Path, "*.") }

var queryRules = []*audit.Rule{
	{
		ID: "DW-INJECTION-001", Control: "injection",
		Patch:    "sql",
		Title:    "What a client sends becomes part of an SQL statement",
		Why:      "Whoever sends the request changes the statement: reads every table, changes or deletes rows, on some databases runs programs.",
		Fix:      "Put placeholders into the statement and give the values as parameters; names of tables and columns come from a fixed list.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{89}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.4"},
		MitigatedBy: []string{"waf"},
		Bad: `import sqlite3
from flask import Flask, request
app = Flask(__name__)

@app.get("/search")
def search():
    db = sqlite3.connect("shop.db")
    return {"found": db.execute("SELECT name FROM product WHERE name = '" + request.args["q"] + "'").fetchall()}
`,
		Good: `import sqlite3
from flask import Flask, request
app = Flask(__name__)

@app.get("/search")
def search():
    db = sqlite3.connect("shop.db")
    return {"found": db.execute("SELECT name FROM product WHERE name = ?", (request.args["q"],)).fetchall()}
`,
		Check: func(p *audit.Pass) { sqlRule(p, audit.FromOutside) },
	},
	{
		ID: "DW-INJECTION-002", Control: "injection",
		Title:    "What was stored earlier becomes part of an SQL statement",
		Why:      "A value that somebody saved with quotation marks in it, through a form that was safe, changes the statement that reads it back.",
		Fix:      "Give values as parameters, wherever they come from.",
		Severity: audit.High, Confidence: audit.Possible, CWE: []int{89}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.4"},
		Bad: `import sqlite3
from flask import Flask
app = Flask(__name__)

@app.get("/orders/<int:user>")
def orders(user):
    db = sqlite3.connect("shop.db")
    name = db.execute("SELECT name FROM user WHERE id = ?", (user,)).fetchone()[0]
    return {"found": db.execute("SELECT id FROM orders WHERE buyer = '" + name + "'").fetchall()}
`,
		Good: `import sqlite3
from flask import Flask
app = Flask(__name__)

@app.get("/orders/<int:user>")
def orders(user):
    db = sqlite3.connect("shop.db")
    name = db.execute("SELECT name FROM user WHERE id = ?", (user,)).fetchone()[0]
    return {"found": db.execute("SELECT id FROM orders WHERE buyer = ?", (name,)).fetchall()}
`,
		Check: func(p *audit.Pass) { sqlRule(p, audit.Known(audit.FromStore)) },
	},
	{
		ID: "DW-INJECTION-003", Control: "injection",
		Patch:    "nosql",
		Title:    "What a client sends becomes a query of a document or graph database",
		Why:      "Where a text was meant, a client sends an object with operators such as {\"$ne\": null} and matches every document, or script that the database runs.",
		Fix:      "Turn what comes in into the type that is meant (str(value)) before it goes into a filter, and give values as parameters.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{943}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.4"},
		MitigatedBy: []string{"waf"},
		Bad: `from flask import Flask, request
from pymongo import MongoClient
app = Flask(__name__)
users = MongoClient().shop.users

@app.post("/login")
def login():
    found = users.find_one({"name": request.json["name"], "password": request.json["password"]})
    return {"ok": found is not None}
`,
		Good: `from flask import Flask, request
from pymongo import MongoClient
app = Flask(__name__)
users = MongoClient().shop.users

@app.post("/login")
def login():
    found = users.find_one({"name": str(request.json["name"])})
    return {"ok": found is not None}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"nosql"}, "%s becomes part of a database query", "the query is built here", nosqlDanger)
		},
	},
	{
		ID: "DW-INJECTION-015", Control: "injection",
		Patch:    "ldap",
		Title:    "What a client sends becomes part of an LDAP filter or name",
		Why:      "With * and ) in it, a name matches every entry: whoever signs in is found without the right password.",
		Fix:      "Escape what goes into a filter with ldap3.utils.conv.escape_filter_chars or ldap.filter.escape_filter_chars, and into a name with escape_rdn or escape_dn_chars.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{90}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.6"},
		MitigatedBy: []string{"waf"},
		Bad: `import ldap3
from flask import Flask, request
app = Flask(__name__)

@app.get("/people")
def people():
    directory = ldap3.Connection(ldap3.Server("ldap://localhost"))
    directory.search("ou=people,dc=example", "(uid=" + request.args["name"] + ")")
    return {"found": len(directory.entries)}
`,
		Good: `import ldap3
from ldap3.utils.conv import escape_filter_chars
from flask import Flask, request
app = Flask(__name__)

@app.get("/people")
def people():
    directory = ldap3.Connection(ldap3.Server("ldap://localhost"))
    directory.search("ou=people,dc=example", "(uid=" + escape_filter_chars(request.args["name"]) + ")")
    return {"found": len(directory.entries)}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"ldap"}, "%s becomes part of what an LDAP server is asked", "the directory is asked here", func(h *pyflow.Hit) (exit, bool) {
				return inFocus(h, func(t []pyflow.Piece) (exit, bool) {
					if strings.Contains(h.Path, "bind") && (len(t) == 1 || !slices.ContainsFunc(t, func(p pyflow.Piece) bool { return strings.Contains(p.Literal, "=") })) {
						return exit{}, false // somebody signs in under a name of their own, which is no DN: name@domain
					}
					return ldapExit(t, known)
				})
			})
		},
	},
	{
		ID: "DW-INJECTION-016", Control: "injection",
		Patch:    "xpath",
		Title:    "What a client sends becomes part of an XPath expression",
		Why:      "With a quotation mark in it, the value changes what is selected: any part of the document is read, a login found without its password.",
		Fix:      "Give the value as a variable: tree.xpath(\"//user[name=$name]\", name=value).",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{643}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.7"},
		Bad: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)

@app.get("/user")
def user():
    tree = etree.parse("users.xml")
    return {"found": len(tree.xpath("//user[name='" + request.args["name"] + "']"))}
`,
		Good: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)

@app.get("/user")
def user():
    tree = etree.parse("users.xml")
    return {"found": len(tree.xpath("//user[name=$name]", name=request.args["name"]))}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"xpath"}, "%s becomes part of an XPath expression", "the document is searched here", func(h *pyflow.Hit) (exit, bool) {
				return inFocus(h, func(t []pyflow.Piece) (exit, bool) { return xpathExit(t, known) })
			})
		},
	},
}

// sqlRule reports what leaves its place in a statement.
func sqlRule(p *audit.Pass, ok accept) {
	standard := sync.OnceValue(func() bool { return standardSQL(p) })
	p.Follow(p.Hits("sink", "sql"), func(h *pyflow.Hit) []audit.Danger {
		e, bad := inTexts(h, func(t audit.FlowText) (exit, bool) {
			// SQLAlchemy and receivers of which nothing is known take
			// statements that are objects, with the values bound in them.
			if t.Whole && (guessed(h) || strings.HasPrefix(h.Path, "sqlalchemy.")) || guessed(h) && !looksLikeSQL(t.Pieces, p.Receiver(h)) {
				return exit{}, false
			}
			plain := slices.ContainsFunc(t.Pieces, func(x pyflow.Piece) bool { return x.Doubled != "" }) &&
				(slices.Contains(standardDrivers, strings.SplitN(h.Path, ".", 2)[0]) || standard())
			return sqlExit(t.Pieces, ok, plain)
		})
		if !bad {
			return nil
		}
		return []audit.Danger{{
			Label: e.Label, Spot: e.Spot, Message: "%s becomes part of the SQL that is run: it " + e.Why, Caret: "the statement is run here", Confidence: sure(h),
			Edits: func() []audit.Edit { return sqlEdits(p, h) },
		}}
	})
}

// sqlEdits turns values in the statement into parameters where that is
// provably the same.
func sqlEdits(p *audit.Pass, h *pyflow.Hit) []audit.Edit {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return nil
	}
	dialect := audit.SQLDialect(0)
	switch {
	case strings.HasPrefix(h.Path, "sqlite3."):
		dialect = audit.SQLite
	case strings.HasPrefix(h.Path, "psycopg"):
		dialect = audit.Postgres
	case strings.HasPrefix(h.Path, "pymysql."), strings.HasPrefix(h.Path, "MySQLdb."), strings.HasPrefix(h.Path, "mysql."):
		dialect = audit.MySQL
	case strings.HasPrefix(h.Path, "sqlalchemy."), strings.HasPrefix(h.Path, "flask_sqlalchemy."):
		dialect = audit.SQLAlchemy
	default:
		return nil
	}
	call := p.CallAt(f, p.Project.FlowSpan(h.At))
	if call == 0 {
		return nil
	}
	return p.FixSQL(f, call, dialect)
}

// scripted are the sinks of package nosql that take a program or a query text
// rather than a document.
func scripted(path string) bool {
	name := path[strings.LastIndexByte(path, '.')+1:]
	return strings.HasPrefix(path, "neo4j.") || slices.Contains([]string{"Code", "where", "map_reduce", "inline_map_reduce", "group", "eval", "exec_js", "execute_command", "scan"}, name)
}

// nosqlDanger finds an object of the client's where a document is asked for,
// and labelled text in a script.
func nosqlDanger(h *pyflow.Hit) (exit, bool) {
	for _, v := range h.Focus {
		if e, bad := documentExit(v, scripted(h.Path), strings.HasPrefix(h.Path, "neo4j."), false, 0); bad {
			return e, true
		}
	}
	return exit{}, false
}

// documentExit walks a filter. script is set where a text is code.
func documentExit(v pyflow.Value, script, cypher, guarded bool, depth int) (exit, bool) {
	if depth > 8 {
		return exit{}, false
	}
	if len(v.Alternatives) > 0 {
		for _, a := range v.Alternatives {
			if e, bad := documentExit(a, script, cypher, guarded, depth+1); bad {
				return e, true
			}
		}
		return exit{}, false
	}
	switch v.Kind {
	case pyflow.Text:
		if script {
			find := scriptExitFor(cypher)
			for _, t := range audit.Texts(v) {
				if e, bad := find(t.Pieces); bad {
					return e, true
				}
			}
		}
	case pyflow.Unknown:
		if labels := audit.Live(pyflow.Piece{Unknown: true, Labels: v.Labels}, known, "nosql"); len(labels) > 0 && !guarded {
			return exit{Label: labels[0], Piece: 0, Why: "can be an object with operators such as $ne"}, true
		}
	case pyflow.Dict, pyflow.List:
		for i, item := range v.Items {
			key := ""
			if i < len(v.Keys) {
				key = v.Keys[i]
			}
			// $eq takes what it is given as a value.
			code := script || key == "$where" || key == "$function" || key == "$accumulator"
			if key == "args" || key == "accumulateArgs" || key == "initArgs" {
				code = false // what the script is given
			}
			if e, bad := documentExit(item, code, cypher, key == "$eq", depth+1); bad {
				return e, true
			}
		}
		if v.Kind == pyflow.Dict && len(v.Labels) > 0 {
			if labels := audit.Live(pyflow.Piece{Unknown: true, Labels: v.Labels}, known, "nosql"); len(labels) > 0 {
				return exit{Label: labels[0], Piece: 0, Why: "chooses the names in the filter"}, true
			}
		}
		if v.Rest != nil {
			return documentExit(*v.Rest, script, cypher, false, depth+1)
		}
	case pyflow.Object:
		// request.args and the like: names and values are the client's.
		if strings.HasSuffix(v.Type, "MultiDict") {
			if labels := audit.LiveIn(v, known, "nosql"); len(labels) > 0 {
				return exit{Label: labels[0], Piece: 0, Why: "chooses the names in the filter"}, true
			}
		}
	}
	return exit{}, false
}

func scriptExitFor(cypher bool) func([]pyflow.Piece) (exit, bool) {
	return func(t []pyflow.Piece) (exit, bool) {
		if cypher {
			return cypherExit(t, audit.FromOutside)
		}
		return scriptExit(t, audit.FromOutside, "nosql")
	}
}

var codeRules = []*audit.Rule{
	{
		ID: "DW-INJECTION-004", Control: "injection",
		Patch:    "shell",
		Title:    "What a client sends becomes part of a command",
		Why:      "A shell runs what stands behind ; or in $(…): with the rights of the app, on its machine.",
		Fix:      "Start the program with a list of arguments and without shell=True; where a shell is needed, put shlex.quote around each value, outside of quotes.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{78}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.5"},
		MitigatedBy: []string{"waf"},
		Bad: `import subprocess
from flask import Flask, request
app = Flask(__name__)

@app.get("/ping")
def ping():
    return {"status": subprocess.call("ping -c 1 " + request.args["host"], shell=True)}
`,
		Good: `import subprocess
from flask import Flask, request
app = Flask(__name__)

@app.get("/ping")
def ping():
    return {"status": subprocess.call(["ping", "-c", "1", "--", request.args["host"]])}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"command"}, "%s becomes part of a command", "the command is started here", commandDanger)
		},
	},
	{
		ID: "DW-INJECTION-025", Control: "injection",
		Patch:    "option",
		Title:    "What a client sends can be an option of a program",
		Why:      "A value that begins with - is read as an option: git, tar, ssh, find and others have some that run programs or write files.",
		Fix:      "Put \"--\" before the value, which ends the options, or a prefix such as \"./\".",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{88}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.5"},
		Bad: `import subprocess
from flask import Flask, request
app = Flask(__name__)

@app.get("/clone")
def clone():
    return {"status": subprocess.call(["git", "clone", request.args["url"]])}
`,
		Good: `import subprocess
from flask import Flask, request
app = Flask(__name__)

@app.get("/clone")
def clone():
    return {"status": subprocess.call(["git", "clone", "--", request.args["url"]])}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"command"}, "%s can be an option of the program", "the program is started here", func(h *pyflow.Hit) (exit, bool) {
				for _, v := range h.Focus {
					var found exit
					bad := false
					v.Each(func(v pyflow.Value) {
						if v.Kind == pyflow.List && !bad {
							found, bad = optionExit(v.Items, audit.FromOutside)
						}
						if v.Kind == pyflow.Text && !bad && strings.HasPrefix(h.Path, "subprocess.") {
							found, bad = lineExit(h, v)
						}
					})
					if bad {
						return found, true
					}
				}
				return exit{}, false
			})
		},
	},
	{
		ID: "DW-INJECTION-005", Control: "injection",
		Patch:    "code",
		Title:    "What a client sends is run as code",
		Why:      "eval, exec and imports by name run whatever the text says, with the rights of the app.",
		Fix:      "Look the wanted function up in a dictionary of those that are meant; read data with json.loads or ast.literal_eval.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{94, 95}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.3.2"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

@app.get("/sum")
def total():
    return {"sum": eval(request.args["sum"])}
`,
		Good: `import ast
from flask import Flask, request
app = Flask(__name__)

@app.get("/sum")
def total():
    return {"sum": sum(ast.literal_eval(request.args["sum"]))}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"code", "import"}, "%s is run as code", "this runs what it is given", func(h *pyflow.Hit) (exit, bool) {
				return inFocus(h, func(t []pyflow.Piece) (exit, bool) {
					if h.Kind == "import" {
						return importExit(t, audit.FromOutside)
					}
					return pythonExit(t, audit.FromOutside, "code")
				})
			})
		},
	},
	{
		ID: "DW-INJECTION-006", Control: "injection",
		Patch:    "template",
		Title:    "What a client sends becomes part of a template",
		Why:      "What stands in {{…}} is evaluated: it reaches the configuration with the secret key, and from any object Python's modules, so programs run.",
		Fix:      "Keep the template's text fixed and give the value as a variable: render_template(\"page.html\", name=name).",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{1336, 94}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.3.7"},
		Bad: `from flask import Flask, render_template_string, request
app = Flask(__name__)

@app.get("/hello")
def hello():
    return render_template_string("<p>Hello " + request.args["name"] + "</p>")
`,
		Good: `from flask import Flask, render_template_string, request
app = Flask(__name__)

@app.get("/hello")
def hello():
    return render_template_string("<p>Hello {{ name }}</p>", name=request.args["name"])
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"template-text"}, "%s becomes part of a template", "the template is read here", func(h *pyflow.Hit) (exit, bool) {
				mako := strings.HasPrefix(h.Path, "mako.") || strings.HasPrefix(h.Path, "chameleon.")
				return inFocus(h, func(t []pyflow.Piece) (exit, bool) { return templateExit(t, known, mako) })
			})
		},
	},
	{
		ID: "DW-INJECTION-012", Control: "injection",
		Patch:    "pickle",
		Title:    "Objects are built from what a client sends",
		Why:      "Unpickling calls whatever the bytes name: a few dozen of them start a program.",
		Fix:      "Send JSON instead. If it has to be pickle, sign the bytes with a secret key and check the signature before (itsdangerous).",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{502}, OWASP: []string{"A08:2025"}, ASVS: []string{"1.5.2"},
		Bad: `import base64
import pickle
from flask import Flask, request
app = Flask(__name__)

@app.get("/cart")
def cart():
    return {"cart": list(pickle.loads(base64.b64decode(request.cookies["cart"])))}
`,
		Good: `import json
from flask import Flask, request
app = Flask(__name__)

@app.get("/cart")
def cart():
    return {"cart": list(json.loads(request.cookies["cart"]))}
`,
		Check: func(p *audit.Pass) {
			follow(p, []string{"deserialize"}, "%s is turned into objects", "this builds what the bytes say", func(h *pyflow.Hit) (exit, bool) {
				e, bad := deserializeDanger(h)
				if bad {
					e.Patch = func(d *audit.Danger) {
						var format string
						d.Language, format = objectFormat(h)
						d.Spot, d.Open = documentWay(p, h, focusLabels(h, "deserialize"))
						d.Open = cmp.Or(format, d.Open)
					}
				}
				return e, bad
			})
		},
	},
	{
		ID: "DW-INJECTION-013", Control: "injection",
		Patch:    "yaml",
		Title:    "YAML from a client may name any Python object",
		Why:      "A tag such as !!python/object/apply in the text calls any function when it is loaded.",
		Fix:      "Load with yaml.safe_load.",
		Severity: audit.Critical, Confidence: audit.Likely, CWE: []int{502}, OWASP: []string{"A08:2025"}, ASVS: []string{"1.5.2"},
		Bad: `import yaml
from flask import Flask, request
app = Flask(__name__)

@app.post("/import")
def load():
    return {"entries": len(yaml.load(request.get_data(), Loader=yaml.Loader))}
`,
		Good: `import yaml
from flask import Flask, request
app = Flask(__name__)

@app.post("/import")
def load():
    return {"entries": len(yaml.safe_load(request.get_data()))}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "yaml"), func(h *pyflow.Hit) []audit.Danger {
				labels := holding(h, "yaml", "!") // which a tag begins with
				if len(labels) == 0 || safeYAML(h) {
					return nil
				}
				spot, open := documentWay(p, h, labels)
				return []audit.Danger{{
					Label: labels[0], Spot: spot, Open: open, Message: "%s is loaded as YAML that may build any object", Caret: "this builds what the tags say",
					Edits: func() []audit.Edit {
						f := p.Project.File(h.At.File)
						if f == nil || f.Python == nil {
							return nil
						}
						if call := p.CallAt(f, p.Project.FlowSpan(h.At)); call != 0 {
							return p.FixYAMLLoad(f, call)
						}
						return nil
					},
				}}
			})
		},
	},
	{
		ID: "DW-INJECTION-014", Control: "injection",
		Patch:    "xml",
		Title:    "XML from a client may read files and fetch URLs",
		Why:      "An external entity in the document is replaced by the content of a file of the server, or of a URL inside of the network.",
		Fix:      "Parse with defusedxml, or with a parser that does not resolve entities: etree.XMLParser(resolve_entities=False).",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{611}, OWASP: []string{"A02:2025"}, ASVS: []string{"1.5.1"},
		Bad: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)

@app.post("/order")
def order():
    parser = etree.XMLParser(resolve_entities=True)
    return {"items": len(etree.fromstring(request.get_data(), parser))}
`,
		Good: `from flask import Flask, request
from lxml import etree
app = Flask(__name__)

@app.post("/order")
def order():
    parser = etree.XMLParser(resolve_entities=False)
    return {"items": len(etree.fromstring(request.get_data(), parser))}
`,
		Check: func(p *audit.Pass) {
			old := !lxmlSafe(p)
			follow(p, []string{"xml"}, "%s is parsed as XML", "this parser resolves external entities", func(h *pyflow.Hit) (exit, bool) {
				labels := holding(h, "xml", "<")
				if len(labels) == 0 {
					return exit{}, false
				}
				why := resolves(h, old)
				return exit{Label: labels[0], Piece: 0, Why: why, Patch: func(d *audit.Danger) { d.Spot, d.Open = documentWay(p, h, labels) }}, why != ""
			})
		},
	},
}

// focusLabels returns the labels of all that a sink's arguments hold.
func focusLabels(h *pyflow.Hit, kind string) []pyflow.Label {
	var out []pyflow.Label
	for _, v := range h.Focus {
		out = append(out, audit.LiveIn(v, audit.FromOutside, kind)...)
	}
	return out
}

// holding returns the labels of all that a sink's arguments hold, but for
// texts that cannot hold s, without which they do no harm.
func holding(h *pyflow.Hit, kind, s string) []pyflow.Label {
	var out []pyflow.Label
	for _, v := range h.Focus {
		v.Each(func(v pyflow.Value) {
			if v.Kind != pyflow.Text {
				out = append(out, audit.LiveIn(v, audit.FromOutside, kind)...)
				return
			}
			for _, p := range v.Pieces {
				if audit.CanHold(p, s) {
					out = append(out, audit.Live(p, audit.FromOutside, kind)...)
				}
			}
		})
	}
	return out
}

// withShell are the functions that always give the text to a shell.
var withShell = []string{
	"os.system", "os.popen", "os.popen2", "os.popen3", "os.popen4", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
	"commands.getoutput", "commands.getstatusoutput", "commands.getstatus", "popen2.popen2", "popen2.popen3", "popen2.popen4", "posix.system",
}

func commandDanger(h *pyflow.Hit) (exit, bool) {
	inShell := slices.Contains(withShell, h.Path)
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	switch {
	case strings.HasPrefix(h.Path, "paramiko."), strings.HasPrefix(h.Path, "fabric."), strings.HasPrefix(h.Path, "invoke."), strings.HasPrefix(h.Path, "docker."):
		inShell = true
	case strings.HasPrefix(h.Path, "subprocess."):
		if v, given := h.Arg(8, "shell"); given {
			v.Each(func(v pyflow.Value) {
				inShell = inShell || !v.Known && v.Kind != pyflow.None || v.Kind == pyflow.Bool && v.Bool || v.Kind == pyflow.Number && v.Number != 0
			})
		}
	case h.Path == "os.startfile", h.Path == "git.Repo.clone_from":
		inShell = false
	}
	// execl and its kin take the arguments one by one.
	if strings.HasPrefix(h.Path, "os.exec") || strings.HasPrefix(h.Path, "os.spawn") || strings.HasPrefix(h.Path, "os.posix_spawn") || h.Path == "asyncio.create_subprocess_exec" {
		args := h.Args
		if strings.HasPrefix(name, "spawn") && len(args) > 0 {
			args = args[1:] // the mode
		}
		if len(args) == 0 {
			return exit{}, false
		}
		argv := []pyflow.Value{args[0]}
		switch {
		case name == "create_subprocess_exec":
			argv = append(argv, args[1:]...)
		case strings.Contains(name, "execl") || strings.Contains(name, "spawnl"):
			if len(args) > 2 {
				argv = append(argv, args[2:]...)
			}
		case len(args) > 1 && len(args[1].Items) > 1:
			argv = append(argv, args[1].Items[1:]...)
		}
		return argvExit(argv, audit.FromOutside)
	}
	var found exit
	bad := false
	for _, focus := range h.Focus {
		focus.Each(func(v pyflow.Value) {
			if bad {
				return
			}
			switch v.Kind {
			case pyflow.List:
				if inShell && len(v.Items) > 0 {
					// The first is the script, the others its arguments.
					for _, t := range audit.Texts(v.Items[0]) {
						if found, bad = shellExit(t.Pieces, audit.FromOutside); bad {
							return
						}
					}
					return
				}
				found, bad = argvExit(v.Items, audit.FromOutside)
				if !bad && len(v.Items) == 0 && v.Rest != nil {
					if labels := audit.LiveIn(*v.Rest, audit.FromOutside, "command"); len(labels) > 0 {
						found, bad = exit{Label: labels[0], Piece: 0, Why: "chooses the program that is started"}, true
					}
				}
			case pyflow.Text, pyflow.Unknown:
				for _, t := range audit.Texts(v) {
					switch {
					case t.Whole:
						labels := audit.Live(t.Pieces[0], audit.FromOutside, "command")
						if bad = len(labels) > 0; bad {
							found = exit{Label: labels[0], Piece: 0, Why: "can be any command"}
						}
					case inShell:
						found, bad = shellExit(t.Pieces, audit.FromOutside)
					default:
						// Without a shell a text is the program, up to the
						// first space where it is split.
						found, bad = argvExit([]pyflow.Value{v}, audit.FromOutside)
					}
					if bad {
						return
					}
				}
			}
		})
	}
	return found, bad
}

// deserializeDanger leaves out what was told not to build objects.
func deserializeDanger(h *pyflow.Hit) (exit, bool) {
	switch {
	case strings.HasPrefix(h.Path, "numpy."):
		if v, ok := h.Arg(2, "allow_pickle"); !ok || v.Known && !v.Bool {
			return exit{}, false
		}
	case strings.HasPrefix(h.Path, "torch."):
		if v, ok := h.Keywords["weights_only"]; ok && v.Known && v.Bool {
			return exit{}, false
		}
	}
	labels := focusLabels(h, "deserialize")
	if len(labels) == 0 {
		return exit{}, false
	}
	return exit{Label: labels[0], Piece: 0, Why: "can name any function to be called"}, true
}

// safeYAML reports whether a loader that builds plain data only was asked
// for. FullLoader is none: it was got round more than once (CVE-2020-14343).
func safeYAML(h *pyflow.Hit) bool {
	if strings.HasPrefix(h.Path, "ruamel.") {
		name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		if strings.HasPrefix(h.Path, "ruamel.yaml.YAML.") {
			typ, ok := h.Self.Field("typ")
			s, _ := typ.Const()
			return !ok || s != "unsafe"
		}
		if name == "round_trip_load" {
			return true
		}
	}
	name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
	if strings.HasPrefix(name, "unsafe_") || strings.HasPrefix(name, "full_") {
		return false
	}
	loader, given := h.Arg(1, "Loader")
	if !given {
		return false
	}
	safe := true
	loader.Each(func(v pyflow.Value) {
		name := v.Type[strings.LastIndexByte(v.Type, '.')+1:]
		safe = safe && (strings.Contains(name, "Safe") && !strings.Contains(name, "Unsafe") || name == "BaseLoader" || name == "CBaseLoader" || name == "RoundTripLoader")
	})
	return safe
}

// lxmlSafe reports whether the lxml that is pinned does not resolve external
// entities unless told to (5.0 and later).
func lxmlSafe(p *audit.Pass) bool {
	for f := range p.Files(audit.Requirements) {
		for n := 1; n <= f.LineCount(); n++ {
			line := strings.ToLower(strings.TrimSpace(f.Line(n)))
			rest, ok := strings.CutPrefix(line, "lxml")
			if !ok {
				continue
			}
			var major int
			for _, op := range []string{"==", ">=", "~="} {
				if v, ok := strings.CutPrefix(strings.TrimSpace(rest), op); ok {
					if _, err := fmt.Sscanf(strings.TrimSpace(v), "%d", &major); err == nil {
						return major >= 5
					}
				}
			}
		}
	}
	return false
}

// resolves says why the parser of a hit resolves external entities; empty if
// it does not. old is set when the lxml at hand may do so by default.
func resolves(h *pyflow.Hit, old bool) string {
	on := func(v pyflow.Value, field string) (set, on bool) {
		f, ok := v.Field(field)
		if !ok {
			return false, false
		}
		f.Each(func(f pyflow.Value) {
			on = on || !f.Known || f.Bool || f.Kind == pyflow.Number && f.Number != 0
		})
		return true, on
	}
	switch {
	case strings.HasPrefix(h.Path, "lxml."):
		parser, given := h.Arg(1, "parser")
		if strings.HasSuffix(h.Path, "Parser.feed") {
			parser, given = h.Self, true
		}
		why := ""
		if !given || parser.Kind == pyflow.None {
			if old {
				why = "goes to a parser that resolves entities unless lxml is 5 or later"
			}
			return why
		}
		parser.Each(func(v pyflow.Value) {
			told, set := v.Field("resolve_entities")
			s, constant := told.Const()
			switch {
			case constant && s == "internal":
			case constant && s == "default", !set && strings.HasSuffix(v.Type, "XMLParser"):
				if old && why == "" {
					why = "goes to a parser that resolves entities unless lxml is 5 or later"
				}
			default:
				if _, yes := on(v, "resolve_entities"); yes {
					why = "goes to a parser with resolve_entities on"
				}
			}
			// The external subset is loaded whatever becomes of entities.
			_, dtd := on(v, "load_dtd")
			if shut, net := v.Field("no_network"); net && dtd && why == "" {
				if shut.Known && shut.Kind == pyflow.Bool && !shut.Bool {
					why = "goes to a parser that fetches the document type from where the document says"
				}
			}
		})
		return why
	case strings.HasPrefix(h.Path, "xml.sax."), strings.HasPrefix(h.Path, "xml.dom."):
		// Python's own parsers resolve none unless the feature was set
		// (since 3.7.1).
		parser, given := h.Arg(1, "parser")
		if strings.HasPrefix(h.Path, "xml.sax.") && !strings.HasPrefix(h.Path, "xml.sax.parse") {
			parser, given = h.Self, true
		}
		if !given {
			return ""
		}
		why := ""
		parser.Each(func(v pyflow.Value) {
			if _, yes := on(v, "external_ges"); yes {
				why = "goes to a parser with external entities switched on"
			}
		})
		return why
	case strings.HasPrefix(h.Path, "libxml2."):
		return "goes to a parser that resolves entities"
	}
	return ""
}

var pageRules = []*audit.Rule{
	{
		ID: "DW-INJECTION-007", Control: "injection",
		Patch:    "html",
		Title:    "What a client sends comes back as a part of the page",
		Why:      "A link with a script in it, opened by a visitor, runs in the visitor's session: it reads the page, sends forms, changes the password.",
		Fix:      "Render a template, which escapes, or put markupsafe.escape around the value; send data as JSON.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{79}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.1"},
		MitigatedBy: []string{"waf"},
		Bad: `from flask import Flask, request
app = Flask(__name__)

@app.get("/hello")
def hello():
    return "<h1>Hello " + request.args["name"] + "</h1>"
`,
		Good: `from flask import Flask, request
from markupsafe import escape
app = Flask(__name__)

@app.get("/hello")
def hello():
    return "<h1>Hello " + escape(request.args["name"]) + "</h1>"
`,
		Check: func(p *audit.Pass) {
			p.Follow(append(p.Hits("sink", "response"), p.Hits("set", "response")...), func(h *pyflow.Hit) []audit.Danger {
				return responseDanger(h, known, "%s comes out in the page")
			})
		},
	},
	{
		ID: "DW-INJECTION-008", Control: "injection",
		Patch:    "html",
		Title:    "A template puts out what a client sends where a script can begin",
		Why:      "A link with a script in it, opened by a visitor, runs in the visitor's session. Escaping helps in the text and between quotes only.",
		Fix:      "Leave escaping on, put attributes into quotes, give values to scripts with |tojson, and check URLs for http or https.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{79}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.1", "1.2.3"},
		MitigatedBy: []string{"waf"},
		Bad: `-- app.py --
from flask import Flask, render_template, request
app = Flask(__name__)

@app.get("/search")
def search():
    return render_template("search.html", words=request.args["q"])
-- templates/search.html --
<p>Results for {{ words|safe }}</p>
`,
		Good: `-- app.py --
from flask import Flask, render_template, request
app = Flask(__name__)

@app.get("/search")
def search():
    return render_template("search.html", words=request.args["q"])
-- templates/search.html --
<p title="{{ words }}">Results for {{ words }}</p>
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "template"), func(h *pyflow.Hit) []audit.Danger {
				return outputDanger(h, known, "%s comes out in the page")
			})
		},
	},
	{
		ID: "DW-INJECTION-009", Control: "injection",
		Title:    "What somebody stored comes out in a page as it is",
		Why:      "A script in a name or a comment runs in the session of everybody who looks at it, administrators included.",
		Fix:      "Leave escaping on; where markup is wanted, clean it with nh3 or bleach when it is shown.",
		Severity: audit.High, Confidence: audit.Possible, CWE: []int{79}, OWASP: []string{"A05:2025"}, ASVS: []string{"1.2.1", "1.3.1"},
		Bad: `-- app.py --
import sqlite3
from flask import Flask, render_template
app = Flask(__name__)

@app.get("/notes")
def notes():
    rows = sqlite3.connect("notes.db").execute("SELECT text FROM note").fetchall()
    return render_template("notes.html", notes=rows)
-- templates/notes.html --
{% for note in notes %}<p>{{ note|safe }}</p>{% endfor %}
`,
		Good: `-- app.py --
import sqlite3
from flask import Flask, render_template
app = Flask(__name__)

@app.get("/notes")
def notes():
    rows = sqlite3.connect("notes.db").execute("SELECT text FROM note").fetchall()
    return render_template("notes.html", notes=rows)
-- templates/notes.html --
{% for note in notes %}<p>{{ note }}</p>{% endfor %}
`,
		Check: func(p *audit.Pass) {
			hits := append(p.Hits("sink", "response", "template"), p.Hits("set", "response")...)
			p.Follow(hits, func(h *pyflow.Hit) []audit.Danger {
				if h.Kind == "template" {
					return outputDanger(h, audit.Known(audit.FromStore), "%s comes out in the page")
				}
				return responseDanger(h, audit.Known(audit.FromStore), "%s comes out in the page")
			})
		},
	},
}

func responseDanger(h *pyflow.Hit, ok accept, message string) []audit.Danger {
	if response(h.Self) && !htmlResponse(h.Self) {
		return nil
	}
	for _, v := range h.Focus {
		if v.Kind != pyflow.Object && encoded(h) {
			continue
		}
		for _, t := range bodies(v) {
			if e, bad := pageExit(t.Pieces, ok, jinja.State{}); bad && stillPage(h.Answer, ok) {
				return []audit.Danger{{Label: e.Label, Spot: e.Spot, Message: message + ": it " + e.Why, Caret: "the page is sent here"}}
			}
		}
	}
	return nil
}

// stillPage reports whether the answer that decorators made of what a view
// gave back can still be a page with something dangerous in it.
func stillPage(answer *pyflow.Value, ok accept) bool {
	if answer == nil {
		return true
	}
	out := false
	answer.Each(func(v pyflow.Value) {
		// It was lost sight of; or what is left of too many answers, which is
		// taken to be like those.
		if v.Kind == pyflow.Unknown && len(v.Labels) == 0 && len(answer.Alternatives) < pyflow.MaxAlternatives {
			out = true
		}
	})
	for _, t := range bodies(*answer) {
		_, bad := pageExit(t.Pieces, ok, jinja.State{})
		out = out || bad
	}
	return out
}

// encoded reports whether what a view returns is made JSON by the extension
// that calls it, whatever it is.
func encoded(h *pyflow.Hit) bool {
	if h.Entry == nil {
		return false
	}
	for _, prefix := range []string{"flask_restful.", "flask_restx.", "flask_restplus.", "flask_jsonrpc.", "flask_socketio.", "flask_sock.", "flask_smorest.", "apiflask."} {
		if strings.HasPrefix(h.Entry.Path, prefix) {
			return true
		}
	}
	return false
}

func outputDanger(h *pyflow.Hit, ok accept, message string) []audit.Danger {
	if h.Output == nil {
		return nil
	}
	for _, v := range h.Focus {
		for _, t := range audit.Texts(v) {
			if e, bad := outputExit(h.Output, t, ok); bad {
				caret := "put out here"
				if !h.Output.Escaped || t.Safe {
					caret = "put out here without escaping"
				}
				return []audit.Danger{{Label: e.Label, Spot: e.Spot, Message: message + ": it " + e.Why, Caret: caret}}
			}
		}
	}
	return nil
}
