package audit_test

import (
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// database makes a table, db and cur; the programs of the tests query it.
const database = `import sqlite3
db = sqlite3.connect(":memory:")
db.executescript("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT, age INTEGER); INSERT INTO u VALUES (1, 'ann', 30), (2, 'bob', 40), (3, '100%', 50)")
cur = db.cursor()
class request:
    args = {"id": "2", "name": "bob"}
`

// psycopg stands in for a driver that writes %s: it asks SQLite.
const psycopg = database + `class Cursor:
    def execute(self, sql, params=None):
        if params is not None:
            sql = sql.replace("%s", "?").replace("%%", "%")
        return db.execute(sql, params or ())
cur = Cursor()
`

// sqlalchemy stands in for the library: text and a session on SQLite, which
// knows :name itself.
const sqlalchemy = database + `from sqlalchemy import text
class db:
    class session:
        def execute(q, params=None): return cur.execute(q, params or {})
`

func fixSQL(d audit.SQLDialect) builder {
	return func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixSQL(f, id, d) }
}

const rows = "show(lambda: list(db.execute('SELECT * FROM u ORDER BY id')) if r is None else r.fetchall())"

func TestFixSQL(t *testing.T) {
	type c struct{ name, in, want string }
	for _, g := range []struct {
		dialect audit.SQLDialect
		head    string
		cases   []c
	}{
		{audit.SQLite, database, []c{
			{"f-string, quoted", `name = "bob"
r = cur.execute(f"SELECT * FROM u WHERE name = '{name}'")`, `name = "bob"
r = cur.execute("SELECT * FROM u WHERE name = ?", (name,))`},
			{"f-string, bare", `i = request.args["id"]
r = cur.execute(f"SELECT * FROM u WHERE id = {i}")`, `i = request.args["id"]
r = cur.execute("SELECT * FROM u WHERE id = ?", (i,))`},
			{"f-string, both, of unknown type", `def find(n, i):
    return cur.execute(f"SELECT * FROM u WHERE name = '{n}' AND id = {i} ORDER BY id")
r = find("bob", 2)`, `def find(n, i):
    return cur.execute("SELECT * FROM u WHERE name = ? AND id = ? ORDER BY id", (str(n), i))
r = find("bob", 2)`},
			{"like", `n = "o"
r = cur.execute(f"SELECT * FROM u WHERE name LIKE '%{n}%'")`, `n = "o"
r = cur.execute("SELECT * FROM u WHERE name LIKE ?", (f"%{n}%",))`},
			{"like, a sum", `r = cur.execute("SELECT * FROM u WHERE name LIKE '%" + request.args["name"] + "%' LIMIT 3")`,
				`r = cur.execute("SELECT * FROM u WHERE name LIKE ? LIMIT 3", ("%" + request.args["name"] + "%",))`},
			{"a sum", `n = request.args["name"]
r = cur.execute("SELECT * FROM u WHERE name = '" + n + "'")`, `n = request.args["name"]
r = cur.execute("SELECT * FROM u WHERE name = ?", (n,))`},
			{"a sum that ends with the value", `r = cur.execute("SELECT * FROM u WHERE id = " + request.args["id"])`,
				`r = cur.execute("SELECT * FROM u WHERE id = ?", (request.args["id"],))`},
			{"a sum of a number", `i = 2
r = cur.execute("SELECT * FROM u WHERE id = " + str(i) + " AND age > 1")`, `i = 2
r = cur.execute("SELECT * FROM u WHERE id = ? AND age > 1", (i,))`},
			{"a sum over lines", `n, a = "bob", "40"
r = cur.execute(
    "SELECT * FROM u WHERE name = '" + n +
    "' AND age = " + a
)`, `n, a = "bob", "40"
r = cur.execute(
    "SELECT * FROM u WHERE name = ? AND age = ?", (n, a)
)`},
			{"percent", `r = cur.execute("SELECT * FROM u WHERE name = '%s' AND id = %d" % (request.args["name"], 2))`,
				`r = cur.execute("SELECT * FROM u WHERE name = ? AND id = ?", (str(request.args["name"]), 2))`},
			{"percent, a number from text", `i = 2.0
r = cur.execute("SELECT * FROM u WHERE id = %d" % i)`, `i = 2.0
r = cur.execute("SELECT * FROM u WHERE id = ?", (int(i),))`},
			{"percent, doubled", `n = "1"
r = cur.execute("SELECT * FROM u WHERE name LIKE '%%%s%%' AND name <> '%%'" % n)`, `n = "1"
r = cur.execute("SELECT * FROM u WHERE name LIKE ? AND name <> '%'", (f"%{n}%",))`},
			{"format", `r = cur.execute("SELECT * FROM u WHERE name = '{}' OR id = {}".format("bob", 3))`,
				`r = cur.execute("SELECT * FROM u WHERE name = ? OR id = ?", ("bob", 3))`},
			{"format, named and doubled", `r = cur.execute("SELECT '{{}}', id FROM u WHERE name = '{n}'".format(n=request.args["name"]))`,
				`r = cur.execute("SELECT '{}', id FROM u WHERE name = ?", (str(request.args["name"]),))`},
			{"three quotes", `n = "bob"
r = cur.execute(f"""
    SELECT * FROM u
    WHERE name = '{n}' AND '{{' = '{{'
""")`, `n = "bob"
r = cur.execute("""
    SELECT * FROM u
    WHERE name = ? AND '{' = '{'
""", (n,))`},
			{"neighbours", `n = "bob"
r = cur.execute("SELECT * FROM u "
                f"WHERE name = '{n}' "
                "ORDER BY id")`, `n = "bob"
r = cur.execute("SELECT * FROM u "
                "WHERE name = ? "
                "ORDER BY id", (n,))`},
			{"escapes", `n = request.args["name"]
r = cur.execute('SELECT * FROM u\nWHERE name = \'' + n + '\'')`, `n = request.args["name"]
r = cur.execute('SELECT * FROM u\nWHERE name = ?', (n,))`},
			{"double quotes", `n = "bob"
r = cur.execute(f'SELECT * FROM u WHERE name = "{n}"')`, `n = "bob"
r = cur.execute('SELECT * FROM u WHERE name = ?', (n,))`},
			{"insert", `n, a = "eve", 20
cur.execute(f"INSERT INTO u (name, age) VALUES ('{n}', {a})")
r = None`, `n, a = "eve", 20
cur.execute("INSERT INTO u (name, age) VALUES (?, ?)", (str(n), a))
r = None`},
			{"update", `cur.execute("UPDATE u SET age = age + {}, name = '{}' WHERE id = {}".format(request.args["id"], "z", 1))
r = None`, `cur.execute("UPDATE u SET age = age + ?, name = ? WHERE id = ?", (request.args["id"], "z", 1))
r = None`},
			{"delete", `def drop(i):
    db.execute(f"DELETE FROM u WHERE id={i};")
drop(1)
r = None`, `def drop(i):
    db.execute("DELETE FROM u WHERE id=?;", (i,))
drop(1)
r = None`},
			{"between, in, lower, limit", `a, b, n = 1, 2, "BOB"
r = cur.execute(f"SELECT * FROM u WHERE id BETWEEN {a} AND {b} AND age IN ({a}, 40) AND lower(name) = lower('{n}') LIMIT {int(b)}")`, `a, b, n = 1, 2, "BOB"
r = cur.execute("SELECT * FROM u WHERE id BETWEEN ? AND ? AND age IN (?, 40) AND lower(name) = lower(?) LIMIT ?", (a, b, a, str(n), int(b)))`},
			{"a name", `def find(n):
    sql = "SELECT * FROM u WHERE name = '" + n + "'"
    print("asking")
    return cur.execute(sql)
r = find("bob")`, `def find(n):
    sql = "SELECT * FROM u WHERE name = ?"
    print("asking")
    return cur.execute(sql, (n,))
r = find("bob")`},
			{"a name, percent", `def find(n):
    sql = "SELECT * FROM u WHERE name = '%s'" % n
    return cur.execute(sql)
r = find("bob")`, `def find(n):
    sql = "SELECT * FROM u WHERE name = ?"
    return cur.execute(sql, (str(n),))
r = find("bob")`},
			{"a comment of SQL", `n = "bob"
r = cur.execute(f"SELECT * FROM u /* it's */ WHERE name = '{n}' -- why? not")`, `n = "bob"
r = cur.execute("SELECT * FROM u /* it's */ WHERE name = ? -- why? not", (n,))`},
			{"a search that is called query", `query = "o"
r = cur.execute(f"SELECT * FROM u WHERE name LIKE '{query}%'")`, `query = "o"
r = cur.execute("SELECT * FROM u WHERE name LIKE ?", (f"{query}%",))`},

			{"a number beside a function", `n = "1"
r = cur.execute(f"SELECT name FROM u GROUP BY name HAVING COUNT(*) >= {int(n)}")`, `n = "1"
r = cur.execute("SELECT name FROM u GROUP BY name HAVING COUNT(*) >= ?", (int(n),))`},
			{"text beside a function", `r = cur.execute(f"SELECT name FROM u GROUP BY name HAVING COUNT(*) >= {n}")`, ""},
			{"text between, of a function", `r = cur.execute(f"SELECT name FROM u WHERE abs(id) BETWEEN 1 AND {n}")`, ""},

			{"a table", `r = cur.execute(f"SELECT * FROM {t} WHERE id = 1")`, ""},
			{"a column", `r = cur.execute(f"SELECT {c} FROM u")`, ""},
			{"a column to compare", `r = cur.execute(f"SELECT * FROM u WHERE {c} = 1")`, ""},
			{"an order", `r = cur.execute(f"SELECT * FROM u ORDER BY {c}")`, ""},
			{"a direction", `r = cur.execute(f"SELECT * FROM u ORDER BY id {d}")`, ""},
			{"a condition", `r = cur.execute(f"SELECT * FROM u WHERE {w}")`, ""},
			{"a list", `r = cur.execute(f"SELECT * FROM u WHERE id IN ({ids})")`, ""},
			{"a list of a row", `r = cur.execute(f"INSERT INTO u VALUES ({v})")`, ""},
			{"a part of a name", `r = cur.execute(f"SELECT * FROM u_{t}")`, ""},
			{"a part of a number", `r = cur.execute(f"SELECT * FROM u WHERE id = 1{t}")`, ""},
			{"two beside each other", `r = cur.execute(f"SELECT * FROM u WHERE id = {a}{b}")`, ""},
			{"more behind the value", `r = cur.execute(f"SELECT * FROM u WHERE id = {a} + 1")`, ""},
			{"quotes of its own", `r = cur.execute(f"SELECT * FROM u WHERE name = {quote(n)}")`, ""},
			{"escaped", `r = cur.execute("SELECT * FROM u WHERE name = '" + n.replace("'", "''") + "'")`, ""},
			{"escaped before", "n = request.args['name'].replace(\"'\", \"''\")\nr = cur.execute(\"SELECT * FROM u WHERE name = '\" + n + \"'\")", ""},
			{"quoted before", "def f(n):\n    n2 = \"'\" + n + \"'\"\n    return cur.execute(f\"SELECT * FROM u WHERE name = {n2}\")\ncur.execute('')", ""},
			{"one side of its quotes only", `r = cur.execute("SELECT * FROM u WHERE name = '" + n)`, ""},
			{"a limit of unknown type", `r = cur.execute(f"SELECT * FROM u LIMIT {n}")`, ""},
			{"two statements", `r = cur.execute(f"SELECT 1; DELETE FROM u WHERE id = {i}")`, ""},
			{"a definition", `r = cur.execute(f"ALTER TABLE u ADD c DEFAULT '{i}'")`, ""},
			{"a pragma", `r = cur.execute(f"PRAGMA user_version = {i}")`, ""},
			{"a repr", `r = cur.execute(f"SELECT * FROM u WHERE name = {n!r}")`, ""},
			{"a format", `r = cur.execute(f"SELECT * FROM u WHERE id = {n:>3}")`, ""},
			{"a parameter already", `r = cur.execute(f"SELECT * FROM u WHERE id = ? AND name = '{n}'")`, ""},
			{"a named parameter already", `r = cur.execute(f"SELECT * FROM u WHERE id = :id AND name = '{n}'")`, ""},
			{"parameters given", `r = cur.execute(f"SELECT * FROM u WHERE id = {i}", ())`, ""},
			{"within a comment", `r = cur.execute(f"SELECT 1 /* {n} */")`, ""},
			{"a name in the list of columns", `r = cur.execute(f"INSERT INTO u ('{n}') SELECT 1")`, ""},
			{"an alias", `r = cur.execute(f"SELECT id AS '{n}' FROM u")`, ""},
			{"a comparison of constants", `r = cur.execute(f"SELECT * FROM u WHERE 1={n}")`, ""},
			{"a name with two values", "q = 'SELECT 1'\nif x:\n    q = f\"SELECT * FROM u WHERE id = {i}\"\nr = cur.execute(q)", ""},
			{"a name used twice", "q = f\"SELECT * FROM u WHERE id = {i}\"\nlog(q)\nr = cur.execute(q)", ""},
			{"the value changes before the call", "def f(n):\n    q = \"SELECT * FROM u WHERE name = '\" + n + \"'\"\n    n = 1\n    return cur.execute(q)", ""},
			{"evaluated before the call", "def f(n):\n    q = \"SELECT * FROM u WHERE name = '\" + n.pop() + \"'\"\n    return cur.execute(q)", ""},
			{"bytes", `r = cur.execute(b"SELECT * FROM u WHERE id = %d" % n)`, ""},
			{"used twice", `r = cur.execute("SELECT * FROM u WHERE name = '{0}' OR name = '{0}'".format(n))`, ""},
			{"nothing of a value", `r = cur.execute("SELECT * FROM u")`, ""},
			{"starred", `r = cur.execute("SELECT * FROM u WHERE id = {}".format(*a))`, ""},
			{"a comment between", "r = cur.execute(\"SELECT * FROM u WHERE name = '\" +  # why\n    n + \"'\")", ""},
			{"other quotes on the other side", `r = cur.execute("SELECT * FROM u WHERE name = '" + n + '\'')`, ""},
			{"not execute", `r = cur.executemany(f"SELECT * FROM u WHERE id = {i}"); cur.execute`, ""},
		}},
		{audit.Postgres, psycopg, []c{
			{"f-string", `name = "bob"
r = cur.execute(f"SELECT * FROM u WHERE name = '{name}' AND name <> '100%'")`, `name = "bob"
r = cur.execute("SELECT * FROM u WHERE name = %s AND name <> '100%%'", (name,))`},
			{"percent", `r = cur.execute("SELECT * FROM u WHERE name LIKE '%%b' AND id = %s" % request.args["id"])`,
				`r = cur.execute("SELECT * FROM u WHERE name LIKE '%%b' AND id = %s", (request.args["id"],))`},
			{"double quotes are names", `r = cur.execute(f'SELECT * FROM u WHERE name = "{n}"')`, ""},
			{"a typed literal", `r = cur.execute(f"SELECT * FROM u WHERE d = E'{n}'")`, ""},
			{"an interval", `r = cur.execute(f"SELECT * FROM u WHERE d > now() - INTERVAL '{n}'")`, ""},
			{"a backslash", `r = cur.execute(f"SELECT * FROM u WHERE d = '\\{n}'")`, ""},
			{"dollar quotes", `r = cur.execute(f"SELECT $$x$$ FROM u WHERE d = '{n}'")`, ""},
		}},
		{audit.MySQL, psycopg, []c{
			{"double quotes are text", `n = "bob"
r = cur.execute(f'SELECT * FROM u WHERE name = "{n}"')`, `n = "bob"
r = cur.execute('SELECT * FROM u WHERE name = %s', (n,))`},
			{"a comment", "r = cur.execute(f\"SELECT 1 # {n}\")", ""},
		}},
		{audit.SQLAlchemy, sqlalchemy, []c{
			{"f-string", `name = "bob"
r = db.session.execute(text(f"SELECT * FROM u WHERE name = '{name}' AND name LIKE '{name}%' AND id = {1 + 1}"))`, `name = "bob"
r = db.session.execute(text("SELECT * FROM u WHERE name = :name AND name LIKE :p2 AND id = :p3"), {"name": name, "p2": f"{name}%", "p3": 1 + 1})`},
			{"percent", `r = db.session.execute(text("SELECT * FROM u WHERE name = '%s'" % request.args["name"]))`,
				`r = db.session.execute(text("SELECT * FROM u WHERE name = :p1"), {"p1": str(request.args["name"])})`},
			{"a name", `def find(n):
    q = "SELECT * FROM u WHERE name = '{}'".format(n)
    return db.session.execute(text(q))
r = find("bob")`, `def find(n):
    q = "SELECT * FROM u WHERE name = :n"
    return db.session.execute(text(q), {"n": str(n)})
r = find("bob")`},
			{"a colon", `r = db.session.execute(text(f"SELECT * FROM u WHERE name = 'a:b' OR name = '{n}'"))`, ""},
			{"a cast", `r = db.session.execute(text(f"SELECT id::int FROM u WHERE name = '{n}'"))`, ""},
			{"double quotes", `r = db.session.execute(text(f'SELECT id FROM u WHERE name = "{n}"'))`, ""},
			{"not text", `r = db.session.execute(f"SELECT id FROM u WHERE name = '{n}'")`, ""},
			{"options", `r = db.session.execute(text(f"SELECT id FROM u WHERE name = '{n}'").bindparams(x=1))`, ""},
		}},
	} {
		for _, c := range g.cases {
			name := "cur.execute"
			for _, other := range []string{"db.execute", "cur.executemany", "db.session.execute"} {
				if strings.Contains(c.in, other) {
					name = other
				}
			}
			r := repair{name: c.name, in: g.head + c.in + "\n", check: rows}
			if c.want != "" {
				r.want = g.head + c.want + "\n"
			}
			testRepairs(t, name, fixSQL(g.dialect), []repair{r})
		}
	}
}

// TestFixSQLStops: what went through before does not any more.
func TestFixSQLStops(t *testing.T) {
	src := database + `def find(n):
    return cur.execute(f"SELECT name FROM u WHERE name = '{n}' OR name LIKE '{n}%'").fetchall()
`
	fixed := built(t, src, "cur.execute", fixSQL(audit.SQLite))
	attack := `
print(len(find("x' OR 1=1 --")))
`
	if before, after := said(t, src+attack), said(t, fixed+attack); before != "3\n" || after != "0\n" {
		t.Errorf("the attack finds %q before and %q afterwards", before, after)
	}
}

// FuzzFixSQL: no query makes the builder panic or write what is no Python.
func FuzzFixSQL(f *testing.F) {
	for _, s := range []string{
		`f"SELECT * FROM u WHERE a = '{x}'"`, `"SELECT * FROM u WHERE a = '%s' AND b=%d" % (x, y)`, `"SELECT '{}'".format(x)`, `"SELECT * FROM u WHERE a='" + x + "'"`,
		`f"""INSERT INTO t VALUES ('{x}', {y})""" "z"`, `'SELECT \'' + x`, `"SELECT a FROM b WHERE c = " + str(x)`, `f"{{{x}}}"`, `"" + x + ""`, `rf'SELECT "{x}" LIKE \d'`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 1<<11 {
			return
		}
		src := []byte("cur.execute(" + query + ")\ncur.execute(text(" + query + "))\n")
		proj := audit.InMemory(map[string][]byte{"app.py": src})
		file := proj.File("app.py")
		if file == nil || file.Python == nil || len(file.Python.Errors) > 0 {
			return
		}
		p := &audit.Pass{Project: proj, Flask: proj.Flask}
		for _, call := range calls(file, "cur.execute") {
			for _, d := range []audit.SQLDialect{audit.SQLite, audit.Postgres, audit.MySQL, audit.SQLAlchemy} {
				edits := p.FixSQL(file, call, d)
				if edits == nil {
					continue
				}
				out := audit.ApplyEdits(src, edits)
				if errs := pysyntax.Parse("app.py", out).Errors; len(errs) > 0 {
					t.Fatalf("%q becomes %q: %v", src, out, errs)
				}
			}
		}
	})
}
