package injection

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// accept says which labels a decider looks at.
type accept = func(pyflow.Label) bool

// exit is how a labelled piece of a text leaves its place.
type exit struct {
	Label pyflow.Label
	Piece int
	Why   string // where it stands and what it can do there: a clause
	Spot  string // payload.Sink.Spot, "" if it does not fit any
	// Patch adds what a guard needs to know, if there is more.
	Patch func(*audit.Danger)
}

// quoted walks the literal text between labelled pieces as a language with
// quotes and comments reads it.
type quoted struct {
	quotes string // characters that begin and end a string
	escape bool   // a backslash in a string takes the next character along
	pairs  bool   // two quotation marks in a row are one within a string
	line   []string
	block  bool // /* … */
	state  byte // 0 outside, a quote, '-' in a line comment, '*' in a block
}

func (q *quoted) text(s string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case q.state == '-':
			if c == '\n' {
				q.state = 0
			}
		case q.state == '*':
			if strings.HasPrefix(s[i:], "*/") {
				q.state = 0
				i++
			}
		case q.state != 0:
			if c == '\\' && q.escape {
				i++
			} else if c == q.state {
				q.state = 0
			}
		case strings.IndexByte(q.quotes, c) >= 0:
			q.state = c
		case q.block && strings.HasPrefix(s[i:], "/*"):
			q.state = '*'
			i++
		default:
			for _, l := range q.line {
				if strings.HasPrefix(s[i:], l) {
					q.state = '-'
				}
			}
		}
	}
}

// numberList are the characters of numbers with commas between them and
// brackets around: ",".join(map(str, ids)), str(tuple(ids)). With "e" it could
// not be told from a name, which is let through as well.
var numberList = pyflow.CharRange("0-9.+,_ -").Or(pyflow.CharsOf("()[]eE"))

// leaves says how a piece leaves the place it stands in; empty if it cannot.
// Outside of strings and comments that is whatever is more than a number or
// a name. again is set when another piece from outside follows: a backslash
// before the closing quote then makes that one code.
func (q *quoted) leaves(p pyflow.Piece, language string, again bool) string {
	switch q.state {
	case 0:
		if audit.Only(p, audit.Word.Or(pyflow.CharsOf("."))) || audit.Only(p, numberList) {
			return ""
		}
		return "stands in the " + language + " without quotes"
	case '-':
		if audit.CanHoldAny(p, "\r\n") {
			return "stands in a comment, which a line end closes"
		}
	case '*':
		if audit.CanHold(p, "*/") {
			return "stands in a comment, which */ closes"
		}
	default:
		if audit.CanHold(p, string(q.state)) && !(q.pairs && strings.IndexByte(p.Doubled, q.state) >= 0) {
			return "stands between " + string(q.state) + " quotes and can close them"
		}
		if q.escape && again && audit.CanHold(p, `\`) {
			return "can end in a backslash, which keeps the quotation mark behind it from closing"
		}
	}
	return ""
}

// spot names the place for a judge of values.
func (q *quoted) spot() string {
	switch q.state {
	case 0:
		return "bare"
	case '-', '*':
		return ""
	}
	return string(q.state)
}

// walk returns how a labelled piece gets out of its place, the first one that
// does.
func (q *quoted) walk(pieces []pyflow.Piece, ok accept, language string, kinds ...string) (exit, bool) {
	for i, p := range pieces {
		if !p.Unknown {
			q.text(p.Literal)
			continue
		}
		labels := audit.Live(p, ok, kinds...)
		if len(labels) == 0 {
			continue
		}
		again := false
		for _, later := range pieces[i+1:] {
			again = again || len(audit.Live(later, ok, kinds...)) > 0
		}
		if why := q.leaves(p, language, again); why != "" {
			return exit{Label: labels[0], Piece: i, Why: why, Spot: q.spot()}, true
		}
	}
	return exit{}, false
}

// sqlExit finds a labelled piece of a statement that can become SQL. MySQL
// reads a backslash in a string as an escape, the others do not; the walk
// takes literal backslashes for plain ones, as in ESCAPE '\'. Where it is known
// that the database is no MySQL (standard), a value whose quotation marks were
// doubled cannot close the string that it stands in; behind a backslash MySQL
// takes two for one and an end.
func sqlExit(pieces []pyflow.Piece, ok accept, standard bool) (exit, bool) {
	q := quoted{quotes: "'\"`", pairs: standard, line: []string{"--", "#"}, block: true}
	return q.walk(pieces, ok, "SQL", "sql")
}

// standardDrivers are the libraries of databases that take a backslash in a
// string for itself.
var standardDrivers = []string{"sqlite3", "aiosqlite", "apsw", "pysqlite2", "sqlcipher3", "psycopg", "psycopg2", "asyncpg", "aiopg", "pymssql", "oracledb", "cx_Oracle", "duckdb"}

// standardSQL reports whether a database that is reached through a library for
// several, as SQLAlchemy is, takes a backslash in a string for itself: the
// project speaks of SQLite or PostgreSQL and nowhere of MySQL or MariaDB.
func standardSQL(p *audit.Pass) bool {
	known := false
	for f := range p.Files(audit.Python, audit.Env, audit.TOML, audit.YAML, audit.INI, audit.Dockerfile) {
		if speaksOf(f.Data, "mysql", "mariadb") {
			return false
		}
		known = known || speaksOf(f.Data, "sqlite", "postgres", "psycopg")
	}
	return known
}

// speaksOf reports whether a text has one of some words in it, in any case.
func speaksOf(data []byte, words ...string) bool {
	for _, w := range words {
		// Most files have none in any way of writing.
		for at := 0; ; at++ {
			i := bytes.IndexAny(data[at:], string(w[0])+strings.ToUpper(w[:1]))
			if i < 0 {
				break
			}
			if at += i; at+len(w) <= len(data) && bytes.EqualFold(data[at:at+len(w)], []byte(w)) {
				return true
			}
		}
	}
	return false
}

// cypherExit is the same for the languages of graph databases.
func cypherExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	q := quoted{quotes: "'\"`", escape: true, line: []string{"//"}, block: true}
	return q.walk(pieces, ok, "query", "nosql")
}

// xpathExit finds a labelled piece that can become part of an XPath
// expression. XPath has no escapes.
func xpathExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	q := quoted{quotes: "'\""}
	return q.walk(pieces, ok, "expression", "xpath")
}

// scriptExit is for JavaScript and Lua that a database runs.
func scriptExit(pieces []pyflow.Piece, ok accept, kind string) (exit, bool) {
	q := quoted{quotes: "'\"`", escape: true, line: []string{"//", "--"}, block: true}
	return q.walk(pieces, ok, "script", kind)
}

// pythonExit finds a labelled piece that can become Python. Triple quotes are
// three quotes to it, which makes no difference to what can leave them.
func pythonExit(pieces []pyflow.Piece, ok accept, kind string) (exit, bool) {
	q := quoted{quotes: "'\"", escape: true, line: []string{"#"}}
	for i, p := range pieces {
		if p.Unknown && len(audit.Live(p, ok, kind)) > 0 && audit.CanHold(p, "{") && formatted(audit.Before(pieces, i)) {
			return exit{Label: audit.Live(p, ok, kind)[0], Piece: i, Why: "stands in an f-string, where { begins code"}, true
		}
	}
	return q.walk(pieces, ok, "code", kind)
}

var formatRE = regexp.MustCompile(`(?i)(?:^|[^a-z0-9_])r?f r?("[^"\n]*|'[^'\n]*)$`)

// formatted reports whether a text ends inside an f-string.
func formatted(before string) bool {
	return formatRE.MatchString(strings.NewReplacer(`f"`, `f "`, `f'`, `f '`, `F"`, `f "`, `F'`, `f '`, `fr"`, `fr "`, `fr'`, `fr '`).Replace(before))
}

// statement finds the words that a text has to have if it is SQL.
var statement = regexp.MustCompile(`(?i)\b(select|insert|update|delete|replace|create|alter|drop|where|from|call|exec|pragma|with|union|order\s+by|truncate|grant)\b`)

// database finds the receivers whose execute runs SQL.
var database = regexp.MustCompile(`(?i)(^|[._])(c|cu?rs?r?|\w*cur(sor)?|\w*conn(ection)?|\w*db|\w*database|\w*engine|\w*session|\w*sql\w*)\d*(\(\))?$`)

// looksLikeSQL reports whether a text has SQL in it, or the receiver's name
// is one that databases have.
func looksLikeSQL(pieces []pyflow.Piece, receiver string) bool {
	for _, p := range pieces {
		if !p.Unknown && statement.MatchString(p.Literal) {
			return true
		}
	}
	return database.MatchString(receiver)
}

// ldapExit finds a labelled piece that can change an LDAP filter, or a
// distinguished name when the text is none (RFC 4515 §3, RFC 4514 §2.4).
func ldapExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	filter := false
	for _, p := range pieces {
		filter = filter || !p.Unknown && strings.ContainsAny(p.Literal, "(&|")
	}
	for i, p := range pieces {
		labels := audit.Live(p, ok, "ldap")
		if len(labels) == 0 {
			continue
		}
		switch {
		case filter && audit.CanHoldAny(p, `*()\`+"\x00"):
			return exit{Label: labels[0], Piece: i, Why: "can hold * ( ) and \\, which a filter reads", Spot: "filter"}, true
		case !filter && audit.CanHoldAny(p, `,+"\<>;=#`):
			return exit{Label: labels[0], Piece: i, Why: "can hold , + = and others that a name is made of", Spot: "name"}, true
		}
	}
	return exit{}, false
}
