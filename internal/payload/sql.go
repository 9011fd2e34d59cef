package payload

import (
	"strings"
	"sync"
)

// The judge of SQL reads a text as it would stand in a statement: bare (as a
// number or a name would), after closing a string begun with ', " or `, and
// asks whether the statement goes on in a way that changes it. Comments are
// white space; what MySQL runs inside /*! */ is read.
//
// The grammar is the common part of SQLite, PostgreSQL, MySQL, SQL Server and
// Oracle.

type sqlKind uint8

const (
	sqlEnd     sqlKind = iota
	sqlWord            // a name, or a keyword in capitals
	sqlNumber          // 1, 1.5e3, 0x2f
	sqlString          // a whole quoted string
	sqlOpen            // a quote that nothing closes: the app's own closes it
	sqlVar             // @a, @@version, :name, $1
	sqlOp              // = <> || && + …, in one token
	sqlPunct           // ( ) , ; . [ ]
	sqlComment         // a comment up to the end of the line or text
)

type sqlToken struct {
	kind sqlKind
	text string
	at   int
}

// maxTokens bounds the tokens of one reading of a text.
const maxTokens = 4096

// sqlScan appends to tokens those of text from an offset on, at most so many.
// inline says that a comment that MySQL runs was seen.
func sqlScan(tokens []sqlToken, text string, from, most int) (_ []sqlToken, inline bool) {
	inside := 0 // depth of /*! */
	for i := from; i < len(text) && len(tokens) < most; {
		c := text[i]
		switch {
		case isSpace(c) || c == 0 || c == 0xA0:
			i++
		case c == '/' && strings.HasPrefix(text[i:], "/*"):
			if strings.HasPrefix(text[i:], "/*!") || strings.HasPrefix(text[i:], "/*+") {
				j := i + 3
				for j < len(text) && isDigit(text[j]) {
					j++
				}
				inline = inline || text[i+2] == '!'
				inside++
				i = j
				continue
			}
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				tokens = append(tokens, sqlToken{sqlComment, text[i:], i})
				i = len(text)
				continue
			}
			i += end + 4
		case c == '*' && inside > 0 && strings.HasPrefix(text[i:], "*/"):
			inside--
			i += 2
		case c == '-' && strings.HasPrefix(text[i:], "--"), c == '#':
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				tokens = append(tokens, sqlToken{sqlComment, text[i:], i})
				i = len(text)
				continue
			}
			tokens = append(tokens, sqlToken{sqlComment, text[i : i+end], i})
			i += end
		case c == '\'' || c == '"' || c == '`':
			j := i + 1
			for j < len(text) && text[j] != c {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(text) {
				// The rest lies in a string that the app's quote closes.
				tokens = append(tokens, sqlToken{sqlOpen, text[i:], i})
				// What is behind it may matter to a reader in
				// which this quote closes: that is another
				// reading's business.
				return append(tokens, sqlToken{kind: sqlEnd, at: len(text)}), inline
			}
			kind := sqlString
			if c == '`' {
				kind = sqlWord
			}
			tokens = append(tokens, sqlToken{kind, text[i : j+1], i})
			i = j + 1
		case isDigit(c) || c == '.' && i+1 < len(text) && isDigit(text[i+1]):
			j := i
			if c == '0' && i+1 < len(text) && text[i+1]|0x20 == 'x' {
				j = i + 2
				for j < len(text) && isHex(text[j]) {
					j++
				}
			} else {
				for j < len(text) && (isDigit(text[j]) || text[j] == '.') {
					j++
				}
				// An exponent; "1e1union" is 1e1 and union to MySQL.
				if j+1 < len(text) && text[j]|0x20 == 'e' && (isDigit(text[j+1]) || (text[j+1] == '+' || text[j+1] == '-') && j+2 < len(text) && isDigit(text[j+2])) {
					j += 2
					for j < len(text) && isDigit(text[j]) {
						j++
					}
				}
			}
			// A name may begin with digits (1st, 3com); MySQL allows it,
			// and prose is full of it.
			if k := j; k < len(text) && (isAlpha(text[k]) || text[k] == '_' || text[k] >= 0x80) {
				for k < len(text) && isWord(text[k]) {
					k++
				}
				if w := sqlKeyword(text[j:k]); w == "OR" || w == "AND" || w == "UNION" || w == "FROM" || w == "LIKE" || w == "IN" || w == "ORDER" {
					tokens = append(tokens, sqlToken{sqlNumber, text[i:j], i})
					i = j
					continue
				}
				j = k
				tokens = append(tokens, sqlToken{sqlWord, sqlKeyword(text[i:j]), i})
				i = j
				continue
			}
			tokens = append(tokens, sqlToken{sqlNumber, text[i:j], i})
			i = j
		case isAlpha(c) || c == '_' || c >= 0x80:
			j := i
			for j < len(text) && (isWord(text[j]) || text[j] == '$') {
				j++
			}
			// N'…', x'…' and _utf8'…' are strings.
			if j < len(text) && text[j] == '\'' && (j-i == 1 || c == '_') && strings.IndexByte("nNxXbBeE_", c) >= 0 && strings.IndexByte(text[j+1:], '\'') >= 0 {
				i = j
				continue
			}
			tokens = append(tokens, sqlToken{sqlWord, sqlKeyword(text[i:j]), i})
			i = j
		case c == '@' || (c == ':' || c == '$') && i+1 < len(text) && isAlnum(text[i+1]):
			j := i
			for j < len(text) && (text[j] == '@' || j == i) {
				j++
			}
			for j < len(text) && isWord(text[j]) {
				j++
			}
			tokens = append(tokens, sqlToken{sqlVar, text[i:j], i})
			i = j
		case strings.IndexByte("=<>!|&+-*/%^~", c) >= 0:
			j := i + 1
			for j < len(text) && j < i+3 && strings.IndexByte("=<>|&", text[j]) >= 0 {
				j++
			}
			tokens = append(tokens, sqlToken{sqlOp, text[i:j], i})
			i = j
		default:
			tokens = append(tokens, sqlToken{sqlPunct, text[i : i+1], i})
			i++
		}
	}
	return append(tokens, sqlToken{kind: sqlEnd, at: len(text)}), inline
}

func judgeSQL(text string, place Place, _ []string) string {
	if place == Field && browserLike(text) {
		return ""
	}
	// Bare: the value stands where a number or a name is expected.
	buf := sqlBuffers.Get().(*[]sqlToken)
	defer sqlBuffers.Put(buf)
	bare, inline := sqlScan((*buf)[:0], text, 0, maxTokens)
	*buf = bare
	if inline && hasSQLWord(bare) {
		return "version comment"
	}
	r := sqlReader{text: text, t: bare}
	if shape := r.bare(); shape != "" {
		return shape
	}
	// Inside a string that a quote of the text closes: behind the first and
	// the last quotes of each kind.
	for _, q := range []byte{'\'', '"', '`'} {
		count := strings.Count(text, string(rune(q)))
		at, last := -1, -1
		for n := range count {
			at += 1 + strings.IndexByte(text[at+1:], q)
			if n >= maxQuotes && n < count-maxQuotes {
				continue
			}
			tokens, inline := sqlScan((*buf)[:0], text, at+1, maxQuoted)
			*buf = tokens
			if inline && hasSQLWord(tokens) {
				return "version comment"
			}
			was := last
			if last = at; n%2 == 1 && at > was+1 && (was == 0 || text[was-1] != '\\') {
				// The quote before it has closed the app's string: this one
				// begins a string of the text's own, unless that one was
				// escaped, or the two stand for one.
				continue
			}
			r := sqlReader{text: text, t: tokens, quote: q, before: text[max(0, at-64):at]}
			if shape := r.quoted(); shape != "" {
				return shape
			}
		}
	}
	return ""
}

// Bounds of the readings behind a quote: what changes a statement follows
// soon.
const (
	maxQuotes = 24
	maxQuoted = 64
)

var sqlBuffers = sync.Pool{New: func() any { b := make([]sqlToken, 0, 128); return &b }}

// sqlKeyword returns the word in capitals if the judge knows it, else as it
// stands.
func sqlKeyword(word string) string {
	var b [24]byte
	if len(word) > len(b) || sqlLengths[word[0]&0x1F]>>len(word)&1 == 0 {
		return word
	}
	for i := range len(word) {
		c := word[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b[i] = c
	}
	if k, ok := sqlKeywords[string(b[:len(word)])]; ok {
		return k
	}
	return word
}

// sqlLengths holds, by the first letter, a bit for every length that a
// keyword has: most words are none by that alone.
var sqlLengths = func() (t [32]uint32) {
	for w := range sqlKeywords {
		t[w[0]&0x1F] |= 1 << len(w)
	}
	return t
}()

// sqlKeywords are the words that the judge asks for.
var sqlKeywords = func() map[string]string {
	m := map[string]string{}
	for _, s := range []map[string]bool{sqlProbe, sqlCalls, sqlSchemas, set("ABS", "ADD", "ALL", "ALL_TABLES", "ALTER", "ANALYSE", "AND", "AS", "ASC", "ASCII", "ATTACH", "AVG", "BEGIN", "BENCHMARK", "BETWEEN", "BINARY", "BY", "CALL", "CASCADE", "CASE", "CAST", "CHAR", "CHAR_LENGTH", "CHR", "COALESCE", "COLLATE", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONVERT", "COPY", "COUNT", "CREATE", "CTXSYS", "CURRENT_DATABASE", "CURRENT_SCHEMA", "CURRENT_USER", "DATA", "DATABASE", "DATABASE_TO_XML", "DATE", "DBLINK_CONNECT", "DBMS_", "DBMS_LOCK", "DBMS_PIPE", "DB_NAME", "DECLARE", "DECODE", "DELAY", "DELETE", "DESC", "DISTINCT", "DISTINCTROW", "DIV", "DO", "DROP", "DUMPFILE", "ELT", "EXCEPT", "EXEC", "EXECUTE", "EXISTS", "EXP", "EXTRACTVALUE", "FALSE", "FIELD", "FLOOR", "FN_VARBINTOHEXSTR", "FROM", "FUNCTION", "GLOB", "GRANT", "GROUP", "GROUP_CONCAT", "GTID_SUBSET", "HANDLER", "HAVING", "HEX", "HIGH_PRIORITY", "HOST_NAME", "IF", "IFNULL", "IIF", "IMMEDIATE", "IN", "INDEX", "INFILE", "INFORMATION_SCHEMA", "INSERT", "INSTR", "INTERSECT", "INTO", "IS", "JOIN", "JSON_DEPTH", "JSON_EXTRACT", "JSON_KEYS", "LEFT", "LENGTH", "LIKE", "LIMIT", "LOAD", "LOAD_EXTENSION", "LOAD_FILE", "LOCAL", "LOCATE", "LOGIN", "LOWER", "LO_EXPORT", "LO_IMPORT", "LPAD", "MAKE_SET", "MASTER", "MAX", "MERGE", "MID", "MIN", "MINUS", "MOD", "MSYSOBJECTS", "NAME_CONST", "NOT", "NOW", "NULL", "NULLIF", "NVL", "OBJECT_ID", "OFFSET", "ON", "OPENDATASOURCE", "OPENROWSET", "OR", "ORD", "ORDER", "OUTFILE", "PG_CATALOG", "PG_LS_DIR", "PG_READ_FILE", "PG_SLEEP", "PG_SLEEP_FOR", "POSITION", "POWER", "PROCEDURE", "PROGRAM", "QUERY_TO_XML", "RAND", "RANDOMBLOB", "READFILE", "REGEXP", "REPLACE", "REVERSE", "RIGHT", "RLIKE", "ROW", "ROW_COUNT", "RPAD", "SCHEMA", "SELECT", "SESSION_USER", "SET", "SHUTDOWN", "SLEEP", "SOUNDS", "SP_", "SP_EXECUTESQL", "SP_OA", "SQLITE_MASTER", "SQLITE_VERSION", "SQL_NO_CACHE", "STRCMP", "STRING_AGG", "ST_LATFROMGEOHASH", "SUBSTR", "SUBSTRING", "SUM", "SYSIBM", "SYSOBJECTS", "SYSTEM_USER", "SYS_EVAL", "SYS_EXEC", "TABLE", "TIME", "TO", "TOP", "TRIGGER", "TRUE", "TRUNCATE", "TYPEOF", "UNHEX", "UNICODE", "UNION", "UPDATE", "UPDATEXML", "UPPER", "USER", "UTL_HTTP", "UTL_INADDR", "VALUES", "VERSION", "VIEW", "WAITFOR", "WHEN", "WHERE", "WITH", "WRITEFILE", "XMLAGG", "XMLTYPE", "XOR", "XP_", "XP_CMDSHELL", "XP_DIRTREE", "XP_REGREAD")} {
		for w := range s {
			m[w] = w
		}
	}
	return m
}()

func hasSQLWord(tokens []sqlToken) bool {
	for _, t := range tokens {
		switch t.text {
		case "UNION", "SELECT", "OR", "AND", "FROM", "SLEEP", "WHERE", "INSERT", "UPDATE", "DELETE":
			return true
		}
	}
	return false
}

// browserLike says that a header's value is a product list or a date, full
// of parentheses and semicolons by nature.
func browserLike(text string) bool {
	return strings.HasPrefix(text, "Mozilla/5.0 (") && !strings.ContainsAny(text, "'\"`=|&")
}

type sqlReader struct {
	text   string
	t      []sqlToken
	i      int
	quote  byte   // the quote that was closed, 0 when bare
	before string // what stood in front of it
	steps  int
}

func (r *sqlReader) peek() sqlToken { return r.t[min(r.i, len(r.t)-1)] }
func (r *sqlReader) at(n int) sqlToken {
	return r.t[min(r.i+n, len(r.t)-1)]
}

func (r *sqlReader) word(names ...string) bool {
	t := r.peek()
	if t.kind != sqlWord {
		return false
	}
	for _, n := range names {
		if t.text == n {
			return true
		}
	}
	return false
}

func (r *sqlReader) punct(s string) bool {
	t := r.peek()
	return t.kind == sqlPunct && t.text == s
}

// quoted judges what stands behind a quote.
func (r *sqlReader) quoted() string {
	for i := range min(len(r.t), 64) {
		r.i = i
		if shape := r.anywhere(); shape != "" {
			return shape
		}
	}
	r.i = 0
	if r.quote == '`' {
		// Around names, and around code in prose.
		for r.punct(")") {
			r.i++
		}
		if r.punct(";") {
			r.i++
			return r.statement(false)
		}
		return ""
	}
	if r.word("UNION") && (r.at(1).text == "SELECT" || r.at(1).text == "ALL") {
		return "union select"
	}
	// SQL Server needs nothing between two statements.
	// A word in quotes, such as "select", is none.
	n := r.at(1)
	quotedWord := (n.kind == sqlString || n.kind == sqlOpen) && n.text[0] == r.quote && n.at == r.peek().at+len(r.peek().text)
	if !quotedWord && r.word("INSERT", "EXEC", "EXECUTE", "SELECT", "GRANT", "SHUTDOWN") {
		if shape := r.statement(false); shape != "" {
			return shape
		}
	}
	return r.after(true)
}

// bare judges the text from its beginning.
func (r *sqlReader) bare() string {
	// Structures that stand anywhere.
	for i := range r.t {
		r.i = i
		if shape := r.anywhere(); shape != "" {
			return shape
		}
	}
	// A whole statement.
	r.i = 0
	if shape := r.statement(true); shape != "" {
		return shape
	}
	// A value, then something more.
	r.i = 0
	for r.punct("(") {
		r.i++
	}
	if t := r.peek(); t.kind == sqlOp && (t.text == "-" || t.text == "+") {
		r.i++
	}
	switch t := r.peek(); t.kind {
	case sqlNumber, sqlString, sqlVar:
		r.i++
		// "5 or 6" are alternatives; the same number twice is none.
		if t.kind == sqlNumber && (r.word("OR", "XOR") || r.peek().text == "||") && r.at(1).kind == sqlNumber && r.at(1).text == t.text && r.at(2).kind == sqlEnd {
			return "constant condition"
		}
		if o := r.peek(); t.kind == sqlString && o.kind == sqlOp && strings.Trim(o.text, "=<>!") == "" && r.at(1).kind == sqlString && r.ends(2, false) {
			return "operator between strings" // a comparison as a whole
		}
		return r.after(true)
	case sqlOp, sqlPunct:
		if t.text == "=" {
			return "" // a formula of a spreadsheet: nothing is before it to compare
		}
		// The value goes on where a number or a closed name ended.
		r.i = 0
		return r.after(true)
	case sqlWord:
		switch {
		case t.text == "OR" || t.text == "AND" || t.text == "HAVING" || t.text == "XOR" || t.text == "WHERE":
			r.i = 0
			return r.after(true)
		case t.text == "ORDER" && r.at(1).text == "BY" && (r.at(2).kind == sqlNumber && r.ends(3, false) || r.at(2).text == "SLEEP" && r.at(3).text == "("):
			return "order by"
		case t.text == "SLEEP" && r.at(1).text == "(" && r.at(2).kind == sqlNumber && r.at(3).text == ")" && r.ends(4, true):
			return "database function"
		}
		r.i++
		return r.after(false)
	}
	return ""
}

// anywhere judges what begins at the current token, wherever that is.
func (r *sqlReader) anywhere() string {
	switch t := r.peek(); {
	case t.kind == sqlWord && t.text == "UNION":
		save := r.i
		defer func() { r.i = save }()
		r.i++
		if r.word("ALL", "DISTINCT", "DISTINCTROW") {
			r.i++
		}
		for r.punct("(") {
			r.i++
		}
		if r.word("VALUES") && r.at(1).text == "(" {
			return "union select"
		}
		if !r.word("SELECT") {
			return ""
		}
		r.i++
		if r.selectList(false) {
			return "union select"
		}
	case t.kind == sqlPunct && t.text == "(":
		if s := r.at(1); s.kind == sqlWord && s.text == "SELECT" {
			save := r.i
			defer func() { r.i = save }()
			r.i += 2
			if r.selectList(true) {
				return "subquery"
			}
		}
	case t.kind == sqlWord && t.text == "WAITFOR":
		if d := r.at(1); (d.text == "DELAY" || d.text == "TIME") && (r.at(2).kind == sqlString || r.at(2).kind == sqlOpen) {
			return "time delay"
		}
	case t.kind == sqlWord && t.text == "INTO":
		if d := r.at(1); (d.text == "OUTFILE" || d.text == "DUMPFILE") && (r.at(2).kind == sqlString || r.at(2).kind == sqlOpen) {
			return "file write"
		}
	case t.kind == sqlWord && t.text == "PROCEDURE":
		if r.at(1).text == "ANALYSE" && r.at(2).text == "(" {
			return "procedure analyse"
		}
	case t.kind == sqlWord && (t.text == "EXEC" || t.text == "EXECUTE" || t.text == "CALL"):
		for n := 1; n < 8; n++ {
			if w := r.at(n); w.kind == sqlWord && (prefixFold(w.text, "xp_") || prefixFold(w.text, "sp_oa") || w.text == "SP_EXECUTESQL" || prefixFold(w.text, "dbms_")) {
				return "system procedure"
			} else if w.kind != sqlWord && w.text != "." {
				break
			}
		}
	case t.kind == sqlWord && t.text == "DECLARE" && r.at(1).kind == sqlVar && r.at(2).kind == sqlWord:
		return "declare"
	case t.text == "SLEEP" && r.i > 0 && r.at(1).text == "(" && r.at(1).at == t.at+len(t.text) && r.at(2).kind == sqlNumber && r.at(3).text == ")" && (r.t[r.i-1].text == "," || r.t[r.i-1].text == "("):
		return "database function"
	case t.kind == sqlWord && r.at(1).text == "(" && sqlProbe[t.text]:
		return "database function"
	case t.kind == sqlWord && r.at(1).text == "." && sqlSchemas[t.text] && r.at(2).kind == sqlWord:
		return "system schema"
	}
	return ""
}

// sqlProbe are functions of databases that nothing else calls, and that only
// an attack needs.
var sqlProbe = set("PG_SLEEP", "BENCHMARK", "EXTRACTVALUE", "UPDATEXML", "LOAD_FILE", "XP_CMDSHELL", "XP_DIRTREE", "RANDOMBLOB",
	"LOAD_EXTENSION", "DBMS_PIPE", "UTL_INADDR", "PG_READ_FILE", "PG_LS_DIR", "LO_IMPORT", "LO_EXPORT", "XMLTYPE", "CTXSYS",
	"GTID_SUBSET", "NAME_CONST", "ST_LATFROMGEOHASH", "FN_VARBINTOHEXSTR", "JSON_DEPTH", "JSON_EXTRACT", "DBLINK_CONNECT", "SYS_EVAL", "SYS_EXEC",
	"GROUP_CONCAT", "ROW_COUNT", "CONNECTION_ID", "WRITEFILE", "READFILE", "XP_REGREAD", "OPENROWSET", "OPENDATASOURCE", "PG_SLEEP_FOR")

var sqlSchemas = set("INFORMATION_SCHEMA", "PG_CATALOG", "SQLITE_MASTER", "SYSIBM", "MSYSOBJECTS", "DBMS_PIPE", "DBMS_LOCK", "UTL_HTTP", "UTL_INADDR", "SYSOBJECTS", "ALL_TABLES")

func set(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// selectList reads what follows SELECT and says whether that is a list of
// expressions as only SQL has it: a star, a number, a string, a variable, a
// call, a name with FROM or a comma behind it. sub asks for more, since
// "(select one from the list)" is prose.
func (r *sqlReader) selectList(sub bool) bool {
	for r.word("ALL", "DISTINCT", "TOP", "SQL_NO_CACHE", "HIGH_PRIORITY") || r.punct("(") {
		r.i++
	}
	t, n := r.peek(), r.at(1)
	switch t.kind {
	case sqlNumber, sqlVar:
		if !sub || t.kind == sqlVar {
			return true
		}
		return n.kind != sqlWord || n.text == "FROM" || n.text == "WHERE" || n.text == "UNION"
	case sqlString, sqlOpen:
		return !sub || n.kind == sqlPunct || n.kind == sqlOp || n.text == "FROM"
	case sqlOp:
		return t.text == "*" || t.text == "-" || t.text == "~" || t.text == "!" || t.text == "@"
	case sqlComment:
		return true
	case sqlWord:
		switch {
		case t.text == "NULL" || t.text == "CASE" || t.text == "IF" && n.text == "(" || t.text == "SELECT":
			return true
		case n.text == "(":
			return true
		case n.text == "." && r.at(2).kind == sqlWord && r.at(2).at == n.at+1:
			return true
		case n.kind == sqlPunct && n.text == "," && !sub:
			// A list of names with FROM behind it, or little more.
			for j := 0; j < 40; j++ {
				x := r.at(j)
				if x.text == "FROM" || x.kind == sqlEnd && j < 12 || x.kind == sqlComment {
					return true
				}
				if x.kind == sqlWord && r.at(j+1).kind == sqlWord && r.at(j+1).text != "FROM" && r.at(j+1).text != "AS" {
					return false
				}
			}
			return false
		case n.kind == sqlWord && n.text == "FROM":
			// "select users from password", and no more words behind.
			if r.at(2).kind != sqlWord && r.at(2).kind != sqlVar {
				return false
			}
			e := r.at(3)
			if sub {
				return e.text == "." || e.kind == sqlOp || e.text == "WHERE" && r.at(5).kind == sqlOp || e.text == "LIMIT" && r.at(4).kind == sqlNumber
			}
			return e.kind != sqlWord || e.text == "WHERE" || e.text == "LIMIT" || e.text == "ORDER" || e.text == "UNION"
		case n.kind == sqlOp && strings.HasPrefix(n.text, "|") || n.kind == sqlOp && n.text == "+":
			return true
		case n.kind == sqlComment:
			return true
		}
	}
	return false
}

// statement judges a statement that begins at the current token. whole says
// that it is the whole text, which prose may begin like.
func (r *sqlReader) statement(whole bool) string {
	t, n := r.peek(), r.at(1)
	if t.kind != sqlWord {
		return ""
	}
	strong := func(n int) bool { // the token n ahead ends a statement
		e := r.at(n)
		return e.kind == sqlComment || e.text == ";" || e.kind == sqlEnd && !whole || e.kind == sqlOpen
	}
	switch t.text {
	case "SELECT":
		save := r.i
		r.i++
		ok := r.selectList(whole)
		r.i = save
		if !ok {
			return ""
		}
		if whole {
			// "Select 5 from the list": ask for FROM, a call or an end.
			for j := 1; j < 64; j++ {
				switch e := r.at(j); {
				case e.text == "FROM" && (r.at(j+1).kind == sqlWord || r.at(j+1).kind == sqlString || r.at(j+1).text == "("):
					if x := r.at(j + 2); x.kind != sqlWord || x.text == "WHERE" || x.text == "ORDER" || x.text == "LIMIT" || x.text == "GROUP" || x.text == "JOIN" {
						return "statement"
					}
					return ""
				case e.kind == sqlWord && r.at(j+1).text == "(" && r.at(j+1).at == e.at+len(e.text) && sqlCalls[e.text], e.kind == sqlVar && strings.HasPrefix(e.text, "@@"):
					return "statement"
				case e.kind == sqlEnd:
					return ""
				}
			}
			return ""
		}
		return "stacked statement"
	case "INSERT", "REPLACE":
		if n.text == "INTO" && r.at(2).kind == sqlWord {
			for j := 3; j < 12; j++ {
				switch e := r.at(j); {
				case e.text == "VALUES" || e.text == "SELECT" || e.text == "SET":
					return "stacked statement"
				case e.kind == sqlEnd:
					return ""
				}
			}
		}
	case "UPDATE":
		if n.kind == sqlWord {
			for j := 2; j < 6; j++ {
				if r.at(j).text == "SET" && r.at(j+1).kind == sqlWord && r.at(j+2).text == "=" {
					return "stacked statement"
				}
			}
		}
	case "DELETE":
		if n.text == "FROM" && r.at(2).kind == sqlWord && (strong(3) || r.at(3).text == "WHERE" && (r.at(5).kind == sqlOp || r.at(5).text == "IN" || r.at(5).text == "LIKE")) {
			return "stacked statement"
		}
	case "DROP", "TRUNCATE", "ALTER", "CREATE":
		switch n.text {
		case "TABLE", "DATABASE", "SCHEMA", "VIEW", "USER", "FUNCTION", "PROCEDURE", "INDEX", "TRIGGER", "LOGIN":
			j := 2
			for r.at(j).text == "IF" || r.at(j).text == "NOT" || r.at(j).text == "EXISTS" {
				j++
			}
			for k := j + 1; r.at(j).kind == sqlWord && k < j+6; k += 2 {
				if strong(k) || r.at(k).text == "(" || r.at(k).text == "AS" || r.at(k).text == "ADD" || r.at(k).text == "CASCADE" || j > 2 && r.at(k).kind == sqlEnd {
					return "stacked statement"
				}
				if r.at(k).text != "." && r.at(k).text != "," {
					break
				}
			}
		}
	case "SHUTDOWN":
		if !whole && (strong(1) || n.text == "WITH") {
			return "stacked statement"
		}
	case "EXEC", "EXECUTE":
		if n.text == "(" || n.kind == sqlVar || n.text == "IMMEDIATE" || n.text == "MASTER" || n.kind == sqlWord && prefixFold(n.text, "sp_") {
			return "stacked statement"
		}
	case "SET":
		if n.kind == sqlVar && r.at(2).text == "=" {
			return "stacked statement"
		}
	case "DO", "BEGIN":
		if !whole && n.kind == sqlWord && sqlCalls[n.text] && r.at(2).text == "(" {
			return "stacked statement"
		}
	case "ATTACH":
		if n.text == "DATABASE" && (r.at(2).kind == sqlString || r.at(2).kind == sqlOpen) {
			return "stacked statement"
		}
	case "COPY":
		if n.kind == sqlWord && (r.at(2).text == "FROM" || r.at(2).text == "TO") && (r.at(3).text == "PROGRAM" || r.at(3).kind == sqlString && strings.ContainsAny(r.at(3).text, `/\`)) {
			return "stacked statement"
		}
	case "HANDLER", "MERGE", "GRANT", "LOAD":
		if t.text == "GRANT" && (r.at(2).text == "ON" || !whole && r.at(2).text == "TO" && r.at(3).kind == sqlWord) || t.text == "LOAD" && n.text == "DATA" && (r.at(2).text == "INFILE" || r.at(2).text == "LOCAL") {
			return "stacked statement"
		}
	}
	return ""
}

// after judges what follows a value: the token stream goes on behind a closed
// string or a number (strong), or behind a bare word, where prose is near.
func (r *sqlReader) after(strong bool) string {
	closers := 0
	for r.punct(")") {
		closers++
		r.i++
	}
	t, n := r.peek(), r.at(1)
	switch t.kind {
	case sqlComment:
		// admin'-- : little may stand behind, or the app's own text.
		if r.quote != 0 || closers > 0 && strong {
			tail := strings.TrimLeft(t.text, "-#/*+ \t")
			if len(tail) <= 3 && !strings.HasPrefix(t.text, "---") && !strings.HasPrefix(t.text, "##") && (len(r.before) == 0 || !strings.ContainsAny(r.before, " \n") || len(t.text) <= 4) && !(t.text[0] == '#' && r.quote == 0) {
				return "comment after a value"
			}
		}
	case sqlPunct:
		if t.text == ";" {
			r.i++
			for r.punct(";") {
				r.i++
			}
			if shape := r.statement(false); shape != "" {
				return shape
			}
			if c := r.peek(); r.quote != 0 && c.kind == sqlComment && len(c.text) <= 6 {
				return "comment after a value"
			}
		}
	case sqlWord:
		switch t.text {
		case "OR", "AND", "XOR", "NOT", "HAVING", "WHERE", "WHEN":
			if t.text == "NOT" && r.i > 0 && !(n.text == "LIKE" || n.text == "IN" || n.text == "BETWEEN" || n.text == "REGEXP" || n.text == "RLIKE" || n.text == "GLOB") {
				return "" // behind a value only these follow it: "do not sleep (5)"
			}
			for (r.word("OR", "AND", "XOR", "NOT", "HAVING", "WHERE", "WHEN") || r.peek().text == "!") && r.i < len(r.t) {
				r.i++
			}
			return r.condition(strong)
		case "ORDER", "GROUP":
			if strong && n.text == "BY" && (r.at(2).kind == sqlNumber || r.at(2).kind == sqlWord && r.quote != 0) {
				end := 3
				for r.at(end).text == "." && r.at(end+1).kind == sqlWord {
					end += 2
				}
				if r.ends(end, true) {
					return "order by"
				}
			}
		case "LIMIT", "OFFSET":
			if strong && n.kind == sqlNumber && r.quote != 0 && r.ends(2, true) {
				return "limit"
			}
		case "LIKE", "RLIKE", "REGEXP", "IN", "BETWEEN", "IS", "DIV", "MOD", "COLLATE", "SOUNDS", "GLOB":
			if r.quote != 0 || strong {
				r.i++
				if x := r.peek(); r.quote != 0 && ((x.kind == sqlString || x.kind == sqlOpen) && t.text != "IN" && t.text != "IS" && strings.IndexByte(r.before, ' ') < 0 || x.text == "(" && (r.at(1).kind == sqlString || r.at(1).kind == sqlNumber || r.at(1).text == "SELECT")) {
					return "operator after a value"
				}
				return r.condition(false)
			}
		case "UNION", "INTERSECT", "EXCEPT", "MINUS":
			return ""
		case "IF", "SELECT":
			return ""
		}
	case sqlOp:
		switch t.text {
		case "||", "&&", "|", "&", "^", "+", "-", "*", "/", "%", "=", "<>", "!=", "<", ">", "<=", ">=", "<=>", "<<", ">>", "==", "|||", "&&&":
			r.i++
			for r.peek().kind == sqlOp || r.word("NOT", "BINARY") {
				r.i++
			}
			x := r.peek()
			if t.text == "||" || t.text == "&&" {
				if shape := r.condition(strong); shape != "" {
					return shape
				}
			}
			switch {
			case r.call():
				return "call in an expression"
			case x.text == "(" && r.at(1).text == "SELECT":
				return "subquery"
			case r.quote != 0 && (x.kind == sqlOpen || x.kind == sqlString) && len(r.before) < 40 && strings.IndexByte(r.before, ' ') < 0 && (len(x.text) < 12 || r.at(1).kind != sqlEnd):
				// '=' or '||'a: strings on both sides.
				if t.text == "=" || t.text == "<>" || t.text == "!=" || t.text == "||" || t.text == "<=>" || t.text == "+" && strong || t.text == "^" || t.text == "-" || t.text == "*" || t.text == "&" {
					if r.assignment(x) {
						return ""
					}
					return "operator between strings"
				}
			case r.quote != 0 && x.kind == sqlNumber && (r.at(1).kind == sqlOpen && r.at(1).text[0] == r.quote || r.at(1).kind == sqlOp && r.at(2).kind == sqlOpen || r.at(1).kind == sqlComment && len(r.at(1).text) < 6) && len(r.before) < 24 && strings.IndexByte(r.before, ' ') < 0:
				return "operator between strings"
			}
		}
	}
	return ""
}

// assignment says that the string behind an = is the value of an attribute,
// as in a list of them: title="x" is no SQL.
func (r *sqlReader) assignment(x sqlToken) bool {
	return len(r.before) > 0 && r.before[len(r.before)-1] == '='
}

// condition judges what follows OR and its like: a comparison of values, a
// call, a constant truth. weak readings ask for literals on both sides.
func (r *sqlReader) condition(strong bool) string {
	if r.steps++; r.steps > 64 {
		return ""
	}
	for r.punct("(") {
		r.i++
	}
	for r.peek().kind == sqlOp && strings.IndexByte("-+~!@", r.peek().text[0]) >= 0 {
		r.i++
	}
	t := r.peek()
	switch {
	case r.word("SELECT"):
		r.i++
		if r.selectList(true) {
			return "subquery"
		}
		return ""
	case r.word("EXISTS", "CASE", "IF") && (r.at(1).text == "(" || r.at(1).text == "WHEN"):
		return "condition"
	case r.call():
		return "call in an expression"
	case r.word("TRUE", "FALSE", "NULL") && strong:
		r.i++
		if r.comparison() || r.ends(0, r.quote != 0) {
			return "constant condition"
		}
		return ""
	}
	literal := t.kind == sqlNumber || t.kind == sqlString || t.kind == sqlVar
	switch t.kind {
	case sqlNumber, sqlString, sqlVar:
		r.i++
	case sqlWord:
		r.i++
		for r.peek().text == "." && r.at(1).kind == sqlWord {
			r.i += 2
		}
	case sqlOpen:
		// ' or ' : the app's quote closes a string that is true or not.
		if r.quote != 0 && len(t.text) <= 12 && strings.IndexByte(strings.TrimSpace(t.text[1:]), ' ') < 0 {
			if strings.ContainsAny(t.text, "=<>|&") || strings.TrimSpace(t.text[1:]) == "" {
				return "tautology"
			}
		}
		return ""
	default:
		return ""
	}
	for r.punct(")") {
		r.i++
	}
	if r.word("IS") && (r.at(1).text == "NULL" || r.at(1).text == "NOT" && r.at(2).text == "NULL") && strong {
		return "condition"
	}
	if r.word("LIKE", "RLIKE", "REGEXP", "IN", "BETWEEN", "GLOB", "NOT", "SOUNDS", "DIV", "MOD") && strong {
		if r.word("BETWEEN") && r.at(1).kind == sqlNumber && r.at(2).text == "AND" && r.at(3).kind == sqlNumber && r.ends(4, r.quote != 0) {
			return "condition"
		}
		r.i++
		if x := r.peek(); x.kind == sqlString || x.kind == sqlOpen || x.text == "(" || x.kind == sqlNumber && literal || r.word("LIKE", "IN", "BETWEEN", "REGEXP", "RLIKE") {
			return "condition"
		}
		return ""
	}
	if o := r.peek(); o.kind == sqlOp && o.text != "*" {
		arithmetic := strings.IndexByte("+-/%^*", o.text[0]) >= 0
		r.i++
		for r.punct("(") || r.peek().kind == sqlOp {
			r.i++
		}
		if r.call() {
			return "call in an expression"
		}
		x := r.peek()
		right := x.kind == sqlNumber || x.kind == sqlString || x.kind == sqlVar || x.kind == sqlOpen
		switch {
		case r.word("SELECT"):
			return "subquery"
		case literal && right && (strong || !arithmetic):
			return "tautology"
		case strong && (literal || right) && (r.quote != 0 || !arithmetic):
			return "comparison after a value"
		case strong && x.kind == sqlWord && r.quote != 0 && !arithmetic:
			return "comparison after a value"
		case strong && x.kind == sqlWord && !arithmetic && r.bareOperator() && r.ends(1, false):
			return "comparison after a value"
		}
		return ""
	}
	// OR 1, OR 'a': true by itself, if nothing follows.
	// Behind a quote the app's own must find its partner.
	if e := r.peek(); literal && strong && (e.kind == sqlComment && len(e.text) <= 6 || e.kind == sqlOpen && r.quote != 0 && t.kind != sqlNumber && len(e.text) < 24 || e.kind == sqlEnd && r.quote != 0 && t.kind == sqlNumber) {
		return "constant condition"
	}
	// OR x AND y=z
	if r.word("OR", "AND", "XOR") && literal {
		r.i++
		return r.condition(strong)
	}
	return ""
}

// bareOperator says that the whole text begins with the operator.
func (r *sqlReader) bareOperator() bool {
	return r.quote == 0 && (r.t[0].text == "OR" || r.t[0].text == "AND" || r.t[0].text == "||" || r.t[0].text == "&&")
}

// comparison says that a comparison follows.
func (r *sqlReader) comparison() bool {
	o := r.peek()
	return o.kind == sqlOp && strings.ContainsAny(o.text, "=<>") || r.word("IS", "LIKE", "IN")
}

// ends says that a statement can end n tokens ahead: by a comment, by its
// own end, or by the app's quote if quoted.
func (r *sqlReader) ends(n int, quoted bool) bool {
	for r.at(n).text == ")" || r.at(n).text == "," || r.at(n).kind == sqlNumber && n > 0 {
		n++
	}
	switch e := r.at(n); e.kind {
	case sqlEnd:
		return true
	case sqlComment:
		return len(e.text) < 24
	case sqlOpen:
		return quoted && len(e.text) < 24
	case sqlPunct:
		return e.text == ";"
	case sqlWord:
		return e.text == "LIMIT" || e.text == "UNION" || e.text == "ASC" || e.text == "DESC" || e.text == "HAVING"
	}
	return false
}

// sqlCalls are functions of databases that attacks call in expressions.
var sqlCalls = set("SLEEP", "USER", "CURRENT_USER", "SYSTEM_USER", "SESSION_USER", "DATABASE", "SCHEMA", "VERSION", "SUBSTRING", "SUBSTR", "MID",
	"ASCII", "ORD", "CHAR", "CHR", "CONCAT", "CONCAT_WS", "GROUP_CONCAT", "STRING_AGG", "LENGTH", "CHAR_LENGTH", "HEX", "UNHEX", "CONVERT", "CAST",
	"COUNT", "IF", "IIF", "IFNULL", "NULLIF", "COALESCE", "RAND", "FLOOR", "EXP", "LOWER", "UPPER", "LEFT", "RIGHT", "SUM", "MAX", "MIN", "AVG",
	"SQLITE_VERSION", "TYPEOF", "UNICODE", "INSTR", "LIKE", "GLOB", "REPLACE", "EXISTS", "ELT", "FIELD", "MAKE_SET", "LOAD_FILE", "PG_SLEEP", "BENCHMARK",
	"CURRENT_DATABASE", "CURRENT_SCHEMA", "QUERY_TO_XML", "DATABASE_TO_XML", "XMLAGG", "DB_NAME", "HOST_NAME", "OBJECT_ID", "JSON_KEYS", "JSON_DEPTH", "JSON_EXTRACT",
	"ROW", "NOT", "ABS", "POWER", "REVERSE", "STRCMP", "LPAD", "RPAD", "MD5", "SHA1", "POSITION", "LOCATE", "NVL", "DECODE", "DATE", "NOW")

// call says that a call of a database's function begins here.
func (r *sqlReader) call() bool {
	t, n := r.peek(), r.at(1)
	return t.kind == sqlWord && n.kind == sqlPunct && n.text == "(" && (sqlCalls[t.text] || sqlProbe[t.text]) && n.at-t.at-len(t.text) <= 4
}

// prefixFold says that s begins with prefix, in capitals or not.
func prefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
