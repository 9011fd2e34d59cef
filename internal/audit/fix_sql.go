package audit

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// SQLDialect is whose SQL a query is written in, which decides what a quote
// means, and how its driver writes a parameter.
type SQLDialect uint8

// The dialects: of sqlite3, which writes ?, of psycopg, and of PyMySQL and
// mysqlclient, which write %s. SQLAlchemy is any database behind
// sqlalchemy.text, which writes :name.
const (
	SQLite SQLDialect = iota + 1
	Postgres
	MySQL
	SQLAlchemy
)

// FixSQL takes the values out of the text of a query and passes them as
// parameters (CWE-89). call is a call of a cursor's or connection's execute
// with the query alone (for SQLAlchemy in a call of text, and scalar or
// scalars as well), which is an f-string, a sum of strings, a string with
// % or .format(), or a name that is given one of these once in the same
// function and used nowhere else:
//
//	cur.execute(f"SELECT * FROM t WHERE name = '{name}' AND id = {id}")
//	cur.execute("SELECT * FROM t WHERE name = ? AND id = ?", (str(name), id))
//
// It is nil unless each value stands where the grammar of SQL has a value:
// alone between its own quotes, with other text there ("LIKE '%{x}%'"), or
// bare behind a comparison with a column or in a list. Whatever else was put
// into the text (a table, a column, an order, a list of values) is not a
// value.
func (p *Pass) FixSQL(f *File, call pysyntax.ID, dialect SQLDialect) []Edit {
	py := f.Python
	if py == nil {
		return nil
	}
	fn, args, keywords := py.Call(call)
	_, method := py.Attribute(fn)
	if len(args) != 1 || len(keywords) > 0 || py.Src[py.Node(call).End-1] != ')' {
		return nil
	}
	query, around := args[0], call
	switch {
	case dialect == SQLAlchemy && (method == "execute" || method == "scalar" || method == "scalars"):
		text, inner, more := py.Call(query)
		_, name := py.Attribute(text)
		if path := f.library(text); len(inner) != 1 || len(more) > 0 || path != "sqlalchemy.text" && path != "sqlalchemy.sql.text" && path != "sqlalchemy.sql.expression.text" && name != "text" || path != "" && !strings.HasPrefix(path, "sqlalchemy.") {
			return nil
		}
		query, around = inner[0], query
	case dialect == SQLAlchemy || method != "execute":
		return nil
	}
	given := query
	if py.Kind(query) == pysyntax.Name {
		if query = f.queryValue(query, call); query == 0 {
			return nil
		}
	}
	q := &sqlQuery{f: f, py: py, at: query, dialect: dialect}
	if query == given {
		q.at = call
	}
	if !q.flatten(query, true) || !q.values() || query != given && !f.keeps(q.holes, query, call) {
		return nil
	}
	end, comma, ok := behindArgument(py.Src, py.Node(args[0]).End, py.Node(call).End-1)
	if !ok || comma {
		return nil
	}
	parts := [][]Edit{q.edits()}
	if q.tail > 0 {
		last := py.Node(query).End
		if query == given {
			if last, comma, ok = behindArgument(py.Src, last, py.Node(around).End-1); !ok || comma {
				return nil
			}
		}
		if py.Node(query).Flags&pysyntax.FParen != 0 {
			return nil
		}
		if query == given && around == call {
			return Together(parts[0], f.edit(q.tail, end, ", "+q.arguments()))
		}
		parts = append(parts, f.edit(q.tail, last, ""))
	}
	return Together(append(parts, f.edit(end, end, ", "+q.arguments()))...)
}

// arguments returns the parameters as execute takes them.
func (q *sqlQuery) arguments() string {
	if q.dialect == SQLAlchemy {
		var items []string
		for i, p := range q.params {
			items = append(items, `"`+q.marks[i][1:]+`": `+p)
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	if len(q.params) == 1 {
		return "(" + q.params[0] + ",)"
	}
	return "(" + strings.Join(q.params, ", ") + ")"
}

// queryValue returns the expression of a query that a name holds, if the name
// is there for the call alone.
func (f *File) queryValue(name, call pysyntax.ID) pysyntax.ID {
	py := f.Python
	v := f.onlyValue(name, call)
	if v == 0 || f.scope(v) != f.scope(call) {
		return 0
	}
	uses := 0
	for i := range py.Nodes {
		if id := pysyntax.ID(i); py.Kind(id) == pysyntax.Name && py.Name(id) == py.Name(name) && f.scope(id) == f.scope(call) {
			uses++
		}
	}
	if uses != 2 { // its assignment and this one
		return 0
	}
	return v
}

// keeps reports whether the values have at the call what they had where the
// query was written.
func (f *File) keeps(holes []sqlHole, query, call pysyntax.ID) bool {
	py := f.Python
	scope := f.scope(call)
	begin := py.Node(query).Start
	for _, h := range holes {
		ok := true
		pysyntax.Walk(py, h.expr, func(id pysyntax.ID) bool {
			switch py.Kind(id) {
			case pysyntax.Name:
				// Bound before the query was written, and not again. A loop
				// around both would have to come back to the query first.
				ok = ok && bindingsFrom(py, scope, py.Name(id), begin) == 0
			case pysyntax.Str, pysyntax.Num, pysyntax.True, pysyntax.False:
			case pysyntax.Attribute, pysyntax.Subscript:
				// Parts of the request do not change while it is answered.
				v, _ := py.Attribute(id)
				s, _ := py.Subscript(id)
				ok = ok && (f.library(id) == "flask.request" || f.requestPart(id) || f.requestPart(s) || f.library(v) == "flask.request")
			case pysyntax.Call:
				fn, args, keywords := py.Call(id)
				v, method := py.Attribute(fn)
				switch {
				case method == "get" && f.requestPart(v) && len(keywords) == 0:
					return true
				case slices.Contains([]string{"str", "int", "float"}, py.Name(fn)) && len(args) == 1 && bindings(py, py.Name(fn), 0) == 0:
				default:
					ok = false
				}
			default:
				ok = false
			}
			return ok
		})
		if !ok {
			return false
		}
	}
	return true
}

// bindingsFrom counts the bindings of a name in a function from an offset on.
func bindingsFrom(py *pysyntax.File, scope pysyntax.ID, name string, from uint32) int {
	n := 0
	pysyntax.Walk(py, scope, func(id pysyntax.ID) bool {
		if py.Kind(id).IsStatement() && id != scope && py.Node(id).Start >= from {
			n += bindingsIn(py, id, name)
			return false
		}
		return true
	})
	return n
}

// sqlHole is a value that is put into the text.
type sqlHole struct {
	expr       pysyntax.ID
	start, end uint32 // of {expr}, %s or the expression itself
	number     bool   // %d
	sum        bool   // an operand of +: it is text
}

// sqlUnit is one byte of the query's text, or one value.
type sqlUnit struct {
	ch         byte
	hole       int // index into holes + 1
	start, end uint32
	token      int // the literal, or -1 for an operand of +
}

// sqlLiteral is one string literal of the source.
type sqlLiteral struct {
	start        uint32
	prefix       string
	delim        string
	content, end uint32 // where its content starts, and ends
}

// sqlQuery takes a query apart and puts it together again.
type sqlQuery struct {
	f       *File
	py      *pysyntax.File
	at      pysyntax.ID
	dialect SQLDialect

	literals []sqlLiteral
	units    []sqlUnit
	holes    []sqlHole
	percent  bool   // the text is the left side of %
	tail     uint32 // from where % or .format() goes, 0 for none

	params  []string
	marks   []string // how each is written in the text
	regions [][2]int // ranges of units that become a parameter
}

// flatten appends the text and the values of an expression. first is set
// where it begins the query.
func (q *sqlQuery) flatten(id pysyntax.ID, first bool) bool {
	py := q.py
	switch py.Kind(id) {
	case pysyntax.Str, pysyntax.JoinedStr:
		return q.literal(id)
	case pysyntax.BinOp:
		l, op, r := py.BinOp(id)
		switch {
		case op == pysyntax.OpAdd:
			return q.flatten(l, first) && len(q.literals) > 0 && q.operand(r)
		case op == pysyntax.OpMod && first && py.Kind(l) == pysyntax.Str:
			return q.literal(l) && q.tailAt(l, '%') && q.percents(r)
		}
	case pysyntax.Call:
		fn, args, keywords := py.Call(id)
		l, name := py.Attribute(fn)
		if name == "format" && first && py.Kind(l) == pysyntax.Str {
			return q.literal(l) && q.tailAt(l, '.') && q.fields(args, keywords)
		}
	}
	return false
}

// operand appends the right side of a sum.
func (q *sqlQuery) operand(id pysyntax.ID) bool {
	n := q.py.Node(id)
	switch n.Kind {
	case pysyntax.Str, pysyntax.JoinedStr:
		return n.Flags&pysyntax.FParen == 0 && q.literal(id)
	case pysyntax.BinOp:
		return false
	}
	q.holes = append(q.holes, sqlHole{expr: id, start: n.Start, end: n.End, sum: true})
	q.units = append(q.units, sqlUnit{hole: len(q.holes), start: n.Start, end: n.End, token: -1})
	return true
}

// tailAt finds the operator behind the literal on the left.
func (q *sqlQuery) tailAt(left pysyntax.ID, op byte) bool {
	src := q.py.Src
	tail := q.py.Node(left).End
	for i := tail; int(i) < len(src); i++ {
		switch src[i] {
		case ')':
			tail = i + 1
		case ' ', '\t', '\r', '\n', '\\':
		case op:
			q.tail = tail
			return true
		default:
			return false
		}
	}
	return false
}

// literal takes the literals of a node apart, adjacent ones included.
func (q *sqlQuery) literal(id pysyntax.ID) bool {
	py, src := q.py, q.py.Src
	node := py.Node(id)
	fields := map[uint32]pysyntax.ID{}
	for _, part := range py.FStringParts(id) {
		if py.Kind(part) == pysyntax.FormattedValue {
			fields[py.Node(part).Start] = part
		}
	}
	for i := node.Start; i < node.End; {
		switch c := src[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\\' || c == '\f':
			i++
		case c == '#':
			i = lineEnd(src, i)
		default:
			l := sqlLiteral{start: i}
			for i < node.End && src[i] != '"' && src[i] != '\'' {
				i++
			}
			if i >= node.End {
				return false
			}
			l.prefix = strings.ToLower(string(src[l.start:i]))
			l.delim = string(src[i : i+1])
			if triple := strings.Repeat(l.delim, 3); bytes.HasPrefix(src[i:node.End], []byte(triple)) {
				l.delim = triple
			}
			if strings.ContainsAny(l.prefix, "bt") {
				return false
			}
			l.content = i + uint32(len(l.delim))
			q.literals = append(q.literals, l)
			var ok bool
			if i, ok = q.content(len(q.literals)-1, node.End, fields); !ok {
				return false
			}
		}
	}
	return true
}

// content appends the text of a literal and returns where the literal ends.
func (q *sqlQuery) content(token int, limit uint32, fields map[uint32]pysyntax.ID) (uint32, bool) {
	py, src := q.py, q.py.Src
	l := &q.literals[token]
	formatted, raw := strings.Contains(l.prefix, "f"), strings.Contains(l.prefix, "r")
	put := func(ch byte, from, to uint32) {
		q.units = append(q.units, sqlUnit{ch: ch, start: from, end: to, token: token})
	}
	for i := l.content; i < limit; {
		c := src[i]
		switch {
		case bytes.HasPrefix(src[i:limit], []byte(l.delim)):
			l.end = i
			return i + uint32(len(l.delim)), true
		case formatted && (c == '{' || c == '}') && i+1 < limit && src[i+1] == c && fields[i] == 0:
			put(c, i, i+2)
			i += 2
		case formatted && c == '{':
			part := fields[i]
			field := py.Field(part)
			if part == 0 || field.Format != 0 || field.Debug != nil || field.Conversion != 0 && field.Conversion != 's' {
				return 0, false
			}
			n := py.Node(part)
			q.holes = append(q.holes, sqlHole{expr: field.Value, start: n.Start, end: n.End})
			q.units = append(q.units, sqlUnit{hole: len(q.holes), start: n.Start, end: n.End, token: token})
			i = n.End
		case c == '\\' && !raw:
			if i+1 >= limit {
				return 0, false
			}
			to := i + 2
			switch src[i+1] {
			case 'n':
				put('\n', i, to)
			case 't':
				put('\t', i, to)
			case '\'', '"', '\\':
				put(src[i+1], i, to)
			case '\n':
			case '\r':
				if to < limit && src[to] == '\n' {
					to++
				}
			default:
				return 0, false
			}
			i = to
		default:
			put(c, i, i+1)
			i++
		}
	}
	return 0, false
}

// percents finds the conversions of a text that % is applied to.
func (q *sqlQuery) percents(right pysyntax.ID) bool {
	py := q.py
	q.percent = true
	values := []pysyntax.ID{right}
	switch py.Kind(right) {
	case pysyntax.Tuple:
		values = py.Elts(right)
	case pysyntax.Dict:
		return false
	}
	var out []sqlUnit
	for i := 0; i < len(q.units); i++ {
		u := q.units[i]
		if u.ch != '%' || u.hole > 0 {
			out = append(out, u)
			continue
		}
		if i+1 >= len(q.units) || q.units[i+1].token != u.token || q.units[i+1].hole > 0 {
			return false
		}
		next := q.units[i+1]
		i++
		switch next.ch {
		case '%':
			u.end = next.end
			out = append(out, u)
		case 's', 'd', 'i':
			if len(values) == 0 {
				return false
			}
			q.holes = append(q.holes, sqlHole{expr: values[0], start: u.start, end: next.end, number: next.ch != 's'})
			out = append(out, sqlUnit{hole: len(q.holes), start: u.start, end: next.end, token: u.token})
			values = values[1:]
		default:
			return false
		}
	}
	q.units = out
	return len(values) == 0
}

// fields finds the replacement fields of a text that format is called on.
func (q *sqlQuery) fields(args, keywords []pysyntax.ID) bool {
	py := q.py
	named := map[string]pysyntax.ID{}
	for _, k := range keywords {
		name, v := py.KeywordArg(k)
		if name == "" {
			return false
		}
		named[name] = v
	}
	used := map[pysyntax.ID]bool{}
	auto, numbered := 0, false
	var out []sqlUnit
	for i := 0; i < len(q.units); i++ {
		u := q.units[i]
		if u.hole > 0 || u.ch != '{' && u.ch != '}' {
			out = append(out, u)
			continue
		}
		if i+1 < len(q.units) && q.units[i+1].ch == u.ch && q.units[i+1].token == u.token {
			u.end = q.units[i+1].end
			out = append(out, u)
			i++
			continue
		}
		if u.ch == '}' {
			return false
		}
		name := ""
		for i++; i < len(q.units) && q.units[i].ch != '}'; i++ {
			if q.units[i].hole > 0 || q.units[i].token != u.token {
				return false
			}
			name += string(rune(q.units[i].ch))
		}
		if i >= len(q.units) {
			return false
		}
		var v pysyntax.ID
		at, err := strconv.Atoi(name)
		switch {
		case name == "" && !numbered && auto < len(args):
			v = args[auto]
			auto++
		case name != "" && err == nil && auto == 0 && at >= 0 && at < len(args):
			v, numbered = args[at], true
		default:
			v = named[name]
		}
		if v == 0 || used[v] { // twice in the text, but evaluated once
			return false
		}
		used[v] = true
		q.holes = append(q.holes, sqlHole{expr: v, start: u.start, end: q.units[i].end})
		out = append(out, sqlUnit{hole: len(q.holes), start: u.start, end: q.units[i].end, token: u.token})
	}
	q.units = out
	return len(used) == len(args)+len(keywords)
}

// sqlToken is a token of SQL.
type sqlToken struct {
	text     string // a word in capitals, an operator; "'" for a literal, "\"" for a quoted name
	from, to int    // units
	value    bool   // holds a hole
	quoted   bool
	number   bool // a hole that is a number for certain
	word     bool
}

// values finds the places of the values, and fills in regions and params.
func (q *sqlQuery) values() bool {
	tokens, ok := q.lex()
	if !ok || len(tokens) == 0 || len(q.holes) == 0 {
		return false
	}
	switch tokens[0].text {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH":
	default:
		return false
	}
	found := 0
	for i, t := range tokens {
		if !t.value {
			continue
		}
		param, holes, ok := q.param(t)
		if !ok || !mayStand(tokens, i) {
			return false
		}
		found += holes
		q.params = append(q.params, param)
		q.marks = append(q.marks, q.mark(t))
		q.regions = append(q.regions, [2]int{t.from, t.to})
	}
	return found == len(q.holes)
}

// mark returns what stands for a parameter in the text: for SQLAlchemy the
// name of the value, or p1, p2, …
func (q *sqlQuery) mark(t sqlToken) string {
	switch q.dialect {
	case SQLite:
		return "?"
	case SQLAlchemy:
		for i := t.from; i < t.to; i++ {
			if h := q.units[i].hole; h > 0 {
				name := q.py.Name(q.holes[h-1].expr)
				if bindName.MatchString(name) && !slices.Contains(q.marks, ":"+name) {
					return ":" + name
				}
			}
		}
		return ":p" + strconv.Itoa(len(q.marks)+1)
	}
	return "%s"
}

// bindName is a name that may stand behind a colon. p1 and its like are kept
// for values without a name.
var bindName = regexp.MustCompile(`^([a-oq-z][a-z0-9_]*|p[a-z_][a-z0-9_]*)$`)

// lex cuts the text into tokens. It gives up where a value stands in anything
// but a literal or alone, and where the driver would see a parameter already.
func (q *sqlQuery) lex() ([]sqlToken, bool) {
	var tokens []sqlToken
	u := q.units
	is := func(i int, c byte) bool { return i < len(u) && u[i].hole == 0 && u[i].ch == c }
	wordy := func(i int) bool {
		if i < 0 || i >= len(u) || u[i].hole > 0 {
			return false
		}
		c := u[i].ch
		return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
	}
	ended := false
	for i := 0; i < len(u); {
		from := i
		if u[i].hole > 0 {
			if wordy(i-1) || wordy(i+1) || i+1 < len(u) && u[i+1].hole > 0 || ended {
				return nil, false
			}
			i++
			tokens = append(tokens, sqlToken{from: from, to: i, value: true})
			continue
		}
		c := u[i].ch
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case ended && c != ';':
			return nil, false // a second statement
		case c == '\'' || c == '"' || c == '`':
			value := false
			for i++; ; i++ {
				if i >= len(u) {
					return nil, false
				}
				if u[i].hole > 0 {
					value = true
					continue
				}
				// sqlalchemy.text sees :name within a literal as well.
				if u[i].ch == '\\' && q.dialect != SQLite || u[i].ch == ':' && q.dialect == SQLAlchemy {
					return nil, false
				}
				if u[i].ch == c {
					if is(i+1, c) {
						i++
						continue
					}
					break
				}
			}
			i++
			t := sqlToken{text: string(rune(c)), from: from, to: i, value: value, quoted: c == '\'' || c == '"' && (q.dialect == SQLite || q.dialect == MySQL)}
			if value && (!t.quoted || wordy(from-1) || wordy(i) || i < len(u) && (u[i].hole > 0 || u[i].ch == '\'')) {
				return nil, false
			}
			tokens = append(tokens, t)
		case c == '-' && is(i+1, '-') || c == '#' && q.dialect == MySQL:
			for i < len(u) && !is(i, '\n') {
				if u[i].hole > 0 {
					return nil, false
				}
				i++
			}
		case c == '/' && is(i+1, '*'):
			for i += 2; !(is(i, '*') && is(i+1, '/')); i++ {
				if i >= len(u) || u[i].hole > 0 {
					return nil, false
				}
			}
			i += 2
		case q.dialect == SQLite && (c == '?' || c == ':' || c == '@' || c == '$' || c == '['),
			q.dialect == Postgres && c == '$',
			q.dialect == SQLAlchemy && strings.IndexByte(":$[?@#", c) >= 0:
			return nil, false
		case c == ';':
			ended = true
			i++
			tokens = append(tokens, sqlToken{text: ";", from: from, to: i})
		case wordy(i):
			var b strings.Builder
			for wordy(i) {
				b.WriteByte(u[i].ch)
				i++
			}
			tokens = append(tokens, sqlToken{text: strings.ToUpper(b.String()), from: from, to: i, word: true})
		case strings.IndexByte("=<>!|", c) >= 0:
			var b strings.Builder
			for i < len(u) && u[i].hole == 0 && strings.IndexByte("=<>!|", u[i].ch) >= 0 {
				b.WriteByte(u[i].ch)
				i++
			}
			tokens = append(tokens, sqlToken{text: b.String(), from: from, to: i})
		default:
			i++
			tokens = append(tokens, sqlToken{text: string(rune(c)), from: from, to: i})
		}
	}
	for i := range tokens {
		if t := &tokens[i]; t.value && !t.quoted {
			h := q.holes[q.units[t.from].hole-1]
			t.number = h.number || q.isNumber(h.expr)
		}
	}
	return tokens, true
}

// isNumber reports whether an expression is a number for certain.
func (q *sqlQuery) isNumber(id pysyntax.ID) bool {
	fn, args, _ := q.py.Call(id)
	switch name := q.py.Name(fn); name {
	case "str":
		return len(args) == 1 && q.isNumber(args[0])
	case "int", "float", "len":
		return bindings(q.py, name, 0) == 0
	}
	return q.py.Kind(id) == pysyntax.Num
}

// behindValue are the words that may follow a value.
var behindValue = set("AND OR ORDER GROUP LIMIT OFFSET HAVING UNION EXCEPT INTERSECT WHERE RETURNING ON ESCAPE COLLATE FOR")

// keywords are words that are no name of a column.
var notColumn = set("SELECT FROM WHERE AND OR NOT IN IS NULL LIKE BETWEEN VALUES SET INTO BY ON AS CASE WHEN THEN ELSE END LIMIT OFFSET INTERVAL DATE TIMESTAMP TIME HAVING DISTINCT")

// takesText are functions of one text, which know the type of a parameter.
var takesText = set("LOWER UPPER TRIM LTRIM RTRIM LENGTH")

// mayStand reports whether a parameter may stand, and means the same, in
// place of the token.
func mayStand(tokens []sqlToken, i int) bool {
	t := tokens[i]
	at := func(k int) sqlToken {
		if k < 0 || k >= len(tokens) {
			return sqlToken{}
		}
		return tokens[k]
	}
	column := func(k int) bool {
		c := at(k)
		return c.text == ")" || c.text == "`" || c.text == "\"" && !c.value || c.word && !notColumn[c.text] && (c.text[0] < '0' || c.text[0] > '9')
	}
	switch next := at(i + 1); {
	case next.text == "" && !next.value, next.text == ";", next.text == ")", next.text == ",", next.word && behindValue[next.text]:
	case next.text == "||" && t.quoted:
	default:
		return false
	}
	switch prev := at(i - 1); prev.text {
	case "=", "==", "<>", "!=", "<", "<=", ">", ">=":
		// SQLite compares text with a column as the column's type, and with
		// what a function gives as text.
		return column(i-2) && (at(i-2).text != ")" || t.quoted || t.number) || t.quoted && at(i-2).value
	case "LIKE", "ILIKE", "GLOB":
		return t.quoted
	case "||":
		return t.quoted && at(i-2).text != ""
	case "+", "-", "*", "/":
		return !t.quoted && column(i-2) && at(i-2).text != ")"
	case "BETWEEN":
		return column(i-2) && (at(i-2).text != ")" || t.quoted || t.number)
	case "AND":
		return at(i-3).text == "BETWEEN" && column(i-4) && (at(i-4).text != ")" || t.quoted || t.number)
	case "LIMIT", "OFFSET":
		return t.number
	case "(", ",":
		open, items, depth := i-1, 1, 0
		for ; open >= 0; open-- {
			switch tokens[open].text {
			case ")":
				depth++
			case "(":
				depth--
			case ",":
				if depth == 0 {
					items++
				}
			}
			if depth < 0 {
				break
			}
		}
		if open < 0 {
			return false // not in parentheses
		}
		for k, depth := i+1, 0; k < len(tokens) && depth >= 0; k++ {
			switch tokens[k].text {
			case "(":
				depth++
			case ")":
				depth--
			case ",":
				if depth == 0 {
					items++
				}
			}
		}
		before := at(open - 1)
		if before.text == "," { // VALUES (…), (…)
			for k := open - 1; k >= 0; k-- {
				if tokens[k].text == "VALUES" {
					before = tokens[k]
				}
			}
		}
		switch {
		case before.text == "IN", before.text == "VALUES":
			return t.quoted || t.number || items > 1 // a bare one alone may be a list
		case takesText[before.text]:
			return t.quoted && items == 1
		}
	}
	return false
}

// The parts of names that say that something was made for a query: text that
// was escaped, and, where no quotes stand around it, a piece of SQL.
var (
	escaped  = regexp.MustCompile(`(?i)escape|quote|saniti[sz]|clean|replace|mogrify|literal|adapt|translate`)
	pieceSQL = regexp.MustCompile(`(?i)join|format|sql|query|clause|where|cols|columns|placeholder|list|table|order|sort`)
)

// plainValue reports whether an expression is a value itself: neither text
// that was made for a query, nor, unless it stands in quotes, a piece of SQL.
func (q *sqlQuery) plainValue(id pysyntax.ID, quoted bool, depth int) bool {
	py := q.py
	made := func(name string) bool {
		return escaped.MatchString(name) || !quoted && pieceSQL.MatchString(name)
	}
	switch py.Kind(id) {
	case pysyntax.Num, pysyntax.Str, pysyntax.True, pysyntax.False:
		return true
	case pysyntax.Name:
		if made(py.Name(id)) {
			return false
		}
		if v := q.f.onlyValue(id, q.at); v != 0 && depth < 4 {
			return q.plainValue(v, quoted, depth+1)
		}
		return true
	case pysyntax.Attribute:
		_, name := py.Attribute(id)
		return !made(name)
	case pysyntax.Subscript:
		_, index := py.Subscript(id)
		return py.Kind(index) != pysyntax.Tuple
	case pysyntax.Call:
		fn, args, _ := py.Call(id)
		if slices.ContainsFunc(args, func(a pysyntax.ID) bool { return py.Kind(a) == pysyntax.Starred }) {
			return false
		}
		name := py.Name(fn)
		v, method := py.Attribute(fn)
		if made(name + method) {
			return false
		}
		if (name == "str" || name == "int" || name == "float") && len(args) == 1 {
			return name != "str" || q.plainValue(args[0], quoted, depth+1)
		}
		if slices.Contains([]string{"strip", "lower", "upper", "title", "lstrip", "rstrip"}, method) {
			return q.plainValue(v, quoted, depth+1)
		}
		return true
	case pysyntax.BinOp:
		_, op, _ := py.BinOp(id)
		return op != pysyntax.OpAdd && op != pysyntax.OpMod || q.sum(id)
	}
	return false
}

// sum reports whether an addition is one of numbers.
func (q *sqlQuery) sum(id pysyntax.ID) bool {
	l, _, r := q.py.BinOp(id)
	return q.isNumber(l) || q.isNumber(r)
}

// simple is a value that may stand in an f-string as it is.
var simple = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// param returns the expression that a token's value becomes.
func (q *sqlQuery) param(t sqlToken) (text string, holes int, ok bool) {
	py := q.py
	source := func(h sqlHole) (string, bool) {
		switch py.Kind(h.expr) {
		case pysyntax.Name, pysyntax.Attribute, pysyntax.Subscript, pysyntax.Call, pysyntax.BinOp, pysyntax.Num, pysyntax.Str:
			s := string(py.Text(h.expr))
			return s, !strings.ContainsAny(s, "\r\n") && q.plainValue(h.expr, t.quoted, 0)
		}
		return "", false
	}
	if !t.quoted {
		h := q.holes[q.units[t.from].hole-1]
		if fn, args, keywords := py.Call(h.expr); py.Name(fn) == "str" && len(args) == 1 && len(keywords) == 0 && bindings(py, "str", 0) == 0 {
			h.expr = args[0]
		}
		s, ok := source(h)
		if h.number && !q.isNumber(h.expr) {
			s = "int(" + s + ")"
		}
		return s, 1, ok
	}
	type piece struct {
		text string // of a value, or a literal
		hole bool
		str  bool
	}
	var pieces []piece
	quote := q.units[t.from].ch
	for i := t.from + 1; i < t.to-1; i++ {
		u := q.units[i]
		if u.hole == 0 {
			if u.ch == quote { // doubled
				i++
			}
			if len(pieces) == 0 || pieces[len(pieces)-1].hole {
				pieces = append(pieces, piece{})
			}
			pieces[len(pieces)-1].text += string([]byte{u.ch})
			continue
		}
		h := q.holes[u.hole-1]
		s, ok := source(h)
		if !ok || h.number {
			return "", 0, false
		}
		kind := q.f.textual(h.expr, q.at, 0)
		fn, _, _ := py.Call(h.expr)
		pieces = append(pieces, piece{text: s, hole: true, str: h.sum || kind == asciiText || kind == someText || kind == maybeText || py.Name(fn) == "str"})
		holes++
	}
	sum, plain := false, true
	for _, p := range pieces {
		if p.hole {
			plain = plain && simple.MatchString(p.text)
		} else {
			if strings.ContainsFunc(p.text, func(r rune) bool { return r < 0x20 || r == '\\' || r == '"' || r == '\uFFFD' }) {
				return "", 0, false
			}
			plain = plain && !strings.ContainsAny(p.text, "{}")
		}
	}
	for i := t.from; i < t.to; i++ {
		sum = sum || q.units[i].hole > 0 && q.units[i].token < 0
	}
	asText := func(p piece) string {
		if p.str {
			return p.text
		}
		return "str(" + p.text + ")"
	}
	if len(pieces) == 1 && pieces[0].hole {
		return asText(pieces[0]), 1, true
	}
	if plain && !sum {
		var b strings.Builder
		b.WriteString(`f"`)
		for _, p := range pieces {
			if p.hole {
				b.WriteString("{" + p.text + "}")
			} else {
				b.WriteString(p.text)
			}
		}
		return b.String() + `"`, holes, true
	}
	var parts []string
	for _, p := range pieces {
		switch {
		case !p.hole:
			parts = append(parts, `"`+p.text+`"`)
		case strings.HasPrefix(asText(p), "str(") || !strings.ContainsAny(p.text, " "):
			parts = append(parts, asText(p))
		default:
			parts = append(parts, "("+asText(p)+")")
		}
	}
	return strings.Join(parts, " + "), holes, true
}

// edits puts the text together again, or returns nil.
func (q *sqlQuery) edits() []Edit {
	var parts [][]Edit
	gone := make([]bool, len(q.units))
	// The f-strings that are changed become plain strings.
	replace := func(start, end uint32, text string) { parts = append(parts, q.f.editAnywhere(start, end, text)) }
	for k, r := range q.regions {
		mark := q.marks[k]
		for i := r[0]; i < r[1]; i++ {
			gone[i] = true
		}
		a, b := q.units[r[0]], q.units[r[1]-1]
		if a.token >= 0 && a.token == b.token {
			replace(a.start, b.end, mark)
			continue
		}
		// Operands of +: what is left and right of them becomes one literal.
		start, text := a.start, mark
		left := a.token
		if left < 0 {
			if r[0] > 0 {
				left = q.units[r[0]-1].token
			}
			if left < 0 || r[0] == 0 {
				return nil
			}
			start = q.literals[left].end
		}
		var end uint32
		switch {
		case b.token >= 0:
			if !q.joins(left, b.token) {
				return nil
			}
			end = b.end
		case r[1] < len(q.units) && q.units[r[1]].token >= 0:
			right := q.units[r[1]].token
			if !q.joins(left, right) || q.literals[right].content != q.units[r[1]].start {
				return nil
			}
			end = q.literals[right].content
		case r[1] == len(q.units) && q.emptyBehind(b.end):
			if q.py.Node(q.holes[b.hole-1].expr).Flags&pysyntax.FParen != 0 {
				return nil
			}
			end, text = b.end, text+q.literals[left].delim
		default:
			return nil
		}
		if q.comment(start, end) {
			return nil
		}
		replace(start, end, text)
	}
	for _, l := range q.literals {
		if i := strings.IndexByte(l.prefix, 'f'); i >= 0 {
			replace(l.start+uint32(i), l.start+uint32(i)+1, "")
		}
	}
	format := q.dialect == Postgres || q.dialect == MySQL
	for i, u := range q.units {
		switch {
		case gone[i] || u.hole > 0 || u.token < 0:
		case u.ch == '%' && format && u.end-u.start == 1:
			replace(u.start, u.end, "%%")
		case u.ch == '%' && !format && u.end-u.start == 2,
			(u.ch == '{' || u.ch == '}') && u.end-u.start == 2:
			replace(u.start, u.end, string(rune(u.ch)))
		}
	}
	return Together(parts...)
}

// emptyBehind reports whether no literal stands behind an offset.
func (q *sqlQuery) emptyBehind(at uint32) bool {
	return !slices.ContainsFunc(q.literals, func(l sqlLiteral) bool { return l.start >= at })
}

// joins reports whether two literals can become one: what is between them and
// they have the same quotes.
func (q *sqlQuery) joins(a, b int) bool {
	x, y := q.literals[a], q.literals[b]
	bare := func(s string) string { return strings.ReplaceAll(s, "f", "") }
	return a < b && x.delim == y.delim && bare(x.prefix) == bare(y.prefix) && !strings.Contains(x.prefix+y.prefix, "f")
}

// comment reports whether a comment stands in a part of the source.
func (q *sqlQuery) comment(start, end uint32) bool {
	src := slices.Clone(q.py.Src[start:end])
	for _, h := range q.holes {
		for i := max(h.start, start); i < min(h.end, end); i++ {
			src[i-start] = ' '
		}
	}
	for _, l := range q.literals {
		for i := max(l.content, start); i < min(l.end, end); i++ {
			src[i-start] = ' '
		}
	}
	return bytes.IndexByte(src, '#') >= 0
}
