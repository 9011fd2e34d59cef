package payload

import "strings"

// Why a text is nothing to a database: it stands where a value does, or behind
// a quote that closes one, and goes on with tokens that no dialect lets stand
// there. A statement that does not parse does nothing. "O'Neill thinks" puts
// two names behind a string; only a column's alias could be one of them.
//
// The dialects differ in their reserved words, so a word that is one anywhere
// ends the reading without a reason, unless it is in every dialect.

// sqlInert reads a text from its beginning, as a value and as what stands
// behind one, and from behind each of its quotes.
func sqlInert(s string) bool {
	if strings.Contains(s, "/*!") || strings.Contains(s, "/*+") || strings.Contains(s, `\'`) || strings.Contains(s, `\"`) || strings.Contains(s, "\\`") || strings.HasSuffix(s, `\`) {
		return false
	}
	aliases := sqlAliases(s)
	buf := sqlBuffers.Get().(*[]sqlToken)
	defer sqlBuffers.Put(buf)
	broken := func(from int, state sqlPlace, name bool) bool {
		if from == 0 {
			// A comment of the value's own ends what the app has behind it,
			// which is an error or a limit, and no more.
			from = leadingComment(s)
		}
		for _, most := range []int{12, 96} {
			*buf, _ = sqlScan((*buf)[:0], s, from, most)
			if t := *buf; sqlBreaks(t, state, name, len(t) <= most, aliases) {
				return true
			} else if len(t) <= most {
				return false
			}
		}
		return false
	}
	if !sqlOperand(s) && (!broken(0, sqlNeeds, false) || !broken(0, sqlHas, false)) {
		return false
	}
	for i, quotes := 0, 0; i < len(s); i++ {
		if s[i] != '\'' && s[i] != '"' && s[i] != '`' {
			continue
		}
		if quotes++; quotes > 64 || !broken(i+1, sqlHas, s[i] != '\'') {
			return false
		}
	}
	return true
}

// leadingComment returns how long the heading or rule is that a text begins
// with, and every database takes for a comment or an error: "# Title", "-----".
// To MySQL two dashes begin none where no space follows (--1 is 1), and to the
// others # begins none: what stands there then could hide the rest of the text.
func leadingComment(s string) int {
	line, _, more := strings.Cut(s, "\n")
	switch {
	case strings.Contains(line, "/*"):
		return 0
	case strings.HasPrefix(s, "--"):
		if rest := strings.TrimLeft(line, "-"); rest != "" && !isSpace(rest[0]) {
			return 0
		}
	case !strings.HasPrefix(s, "#"):
		return 0
	}
	if more {
		return len(line) + 1
	}
	return len(s)
}

// sqlOperand says that a text is one name or number, perhaps with a sign.
func sqlOperand(s string) bool {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '-' || s[0] == '+' || s[0] == '$') {
		s = s[1:]
	}
	if s == "" {
		return false
	}
	for i := range len(s) {
		if !isWord(s[i]) && (s[i] != '.' || i == 0 || i+1 == len(s)) {
			return false
		}
	}
	return true
}

// sqlPlace is what stands before a token.
type sqlPlace uint8

const (
	sqlNeeds   sqlPlace = iota // an operator, a comma, an opening: a value is missing
	sqlHas                     // a value
	sqlAliased                 // a value and the name it is given
)

// sqlBreaks says that tokens cannot stand where they do. name says that the
// value before them is a name, which may be called and have members; whole that
// they reach to the end of the text.
func sqlBreaks(t []sqlToken, place sqlPlace, name, whole bool, aliases map[string]bool) bool {
	opened := false
	for i := 0; i+1 < len(t); i++ {
		x, next := t[i], t[i+1]
		class := sqlPlain
		if x.kind == sqlWord {
			class = sqlClass(x.text)
			if class == sqlIfCalled && (place == sqlNeeds || !sqlRambles(t[i+1:], class, x.text, aliases)) {
				// SQL Server begins a statement by it behind another.
				if place != sqlNeeds || next.text == "(" {
					return false
				}
				class = sqlPlain
			}
		}
		was := opened
		opened = false
		if (class == sqlUnclear || class == sqlHard || class == sqlNever && place != sqlNeeds || class == sqlIfCalled) && sqlRambles(t[i+1:], class, x.text, aliases) {
			return true
		}
		switch place {
		case sqlNeeds:
			switch {
			case x.kind == sqlVar && strings.Trim(x.text, "@") == "":
				// Operators of PostgreSQL: @ 5, a @> b, a @@ b.
			case x.kind == sqlNumber || x.kind == sqlString || x.kind == sqlVar:
				place, name = sqlHas, x.text[0] == '"' // a name in standard SQL
			case x.kind == sqlWord && class == sqlPlain:
				place, name = sqlHas, true
			case x.kind == sqlWord:
				if class == sqlNever || class == sqlBinary || class == sqlAs {
					return true
				}
				if class != sqlPrefix {
					return false
				}
			case x.kind == sqlOp:
				switch x.text[0] {
				case '+', '-', '~', '!', '@', '|':
				case '*', '/', '&':
					if i > 0 && t[i-1].at+len(t[i-1].text) == x.at && strings.Contains(pgOperatorTails, t[i-1].text[len(t[i-1].text)-1:]+x.text[:1]) {
						break // one operator with the sign before it
					}
					if x.text[0] != '*' {
						return true
					}
					place, name = sqlHas, false
				default:
					return true
				}
			case x.text == "(":
				opened = true
			case x.text == ")":
				if !was {
					return true
				}
				place, name = sqlHas, false
			case x.text == "?":
				place, name = sqlHas, false
			case x.kind == sqlPunct && strings.Contains(",;.}]\\", x.text):
				return true
			default:
				return false
			}
		case sqlHas:
			switch {
			case x.kind == sqlNumber:
				return true
			case x.kind == sqlVar:
				if x.text[0] == '@' && (len(x.text) > 1 && x.text[1] == '@' || len(x.text) == 1 && (next.kind == sqlOp || next.text == "?") && next.at == x.at+1) {
					return false // PostgreSQL's a @@ b, a @> b
				}
				return !(x.text[0] == ':' && name)
			case x.kind == sqlString:
				// Two strings are one, and a type's name may stand before
				// one; a number may be given a name in quotes.
				if !name && t[max(0, i-1)].kind == sqlNumber && i > 0 {
					place = sqlAliased
				} else {
					name = x.text[0] == '"'
				}
			case x.kind == sqlOpen:
				// Don't: a name and a string to the end, of the app's too.
				// What other values make of that is judged with them. Behind
				// a type's name, a string is its constant: bool 't'.
				return name && i > 0 && t[i-1].kind == sqlWord && !sqlTypes[strings.ToLower(t[i-1].text)] && t[i-1].text[0] != '_'
			case x.kind == sqlWord:
				switch class {
				case sqlPlain:
					place = sqlAliased
				case sqlBinary:
					place, name = sqlNeeds, false
				case sqlAs:
					if next.kind != sqlWord || sqlClass(next.text) != sqlPlain {
						return false
					}
					i++
					place = sqlAliased
				case sqlPrefix: // NOT
					if x.text != "NOT" || next.kind != sqlWord || sqlClass(next.text) != sqlPlain && sqlClass(next.text) != sqlNever {
						return false
					}
					return true
				default:
					return false
				}
			case x.kind == sqlOp:
				if x.text == "!" {
					return false
				}
				place, name = sqlNeeds, false
			case x.text == "(":
				if !name {
					return true
				}
				place, name, opened = sqlNeeds, false, true
			case x.text == ")":
				name = false
			case x.text == "," || x.text == "?":
				place, name = sqlNeeds, false
			case x.text == ".":
				if !name {
					return true
				}
				switch {
				case next.kind == sqlWord:
					i++ // a member
				case next.kind == sqlString || next.kind == sqlOpen || next.text == "*":
					return false
				default:
					return true
				}
			case x.text == ":":
				return next.at > x.at+1 && next.kind != sqlEnd
			case x.kind == sqlPunct && strings.Contains("}]{\\", x.text):
				return true
			default:
				return false
			}
		case sqlAliased:
			switch {
			case x.kind == sqlNumber || x.kind == sqlString || x.kind == sqlVar || x.kind == sqlOpen || x.kind == sqlOp:
				return true
			case x.kind == sqlWord:
				return class == sqlPlain || class == sqlBinary || class == sqlAs || class == sqlNever && x.text != "FROM" && x.text != "WHERE" && x.text != "GROUP" && x.text != "ORDER" && x.text != "HAVING" && x.text != "UNION" && x.text != "ON" && x.text != "INTO"
			case x.text == ",":
				place, name = sqlNeeds, false
			case x.text == ")":
				place, name = sqlHas, false
			case x.text == ".", x.text == "?":
				return true
			case x.text == ":":
				return next.at > x.at+1 && next.kind != sqlEnd
			case x.kind == sqlPunct && strings.Contains("}]{\\", x.text):
				return true
			default:
				return false
			}
		}
	}
	// A value that is given a name and nothing more: two words alone change
	// nothing, and behind a quote the app's own quote follows, which cannot.
	return whole && (place == sqlAliased || len(t) == 1 && t[0].at > 0 && place == sqlNeeds)
}

// pgOperatorTails are pairs of signs within an operator of PostgreSQL of which
// each is a token of its own to [sqlScan]: ~*, |/, ?&.
const pgOperatorTails = "~* |/ ?& @*"

// sqlTypes are names of types and the prefixes of strings, behind which a
// string is a value: date '2026-01-01', x'31'.
var sqlTypes = set("b", "e", "n", "q", "nq", "x", "u", "bigint", "bit", "bool", "boolean", "box", "bpchar", "bytea", "char", "character", "cidr", "circle", "citext", "date", "daterange", "datetime", "dec", "decimal", "double", "float", "float4", "float8", "hstore", "inet", "int", "int2", "int4", "int4range", "int8", "int8range", "integer",
	"interval", "json", "jsonb", "jsonpath", "line", "lseg", "ltree", "macaddr", "money", "name", "nchar", "numeric", "numrange", "oid", "path", "point", "polygon", "precision", "real", "regclass", "regproc", "regrole", "regtype", "smallint", "text", "time", "timestamp", "timestamptz", "timetz", "tsquery", "tsrange", "tstzrange", "tsvector", "uuid", "varbit", "varchar", "varying", "xml", "zone", "unknown", "binary", "year", "day", "hour", "minute", "month", "second")

// sqlWordClass is what a word can be between values.
type sqlWordClass uint8

const (
	sqlPlain    sqlWordClass = iota // a name
	sqlBinary                       // AND, OR: an operator in every dialect
	sqlNever                        // reserved in every dialect, begins no value
	sqlPrefix                       // NOT
	sqlAs                           // AS
	sqlIfCalled                     // IF: a function or a name
	sqlUnclear                      // anything else that some dialect reserves
	sqlHard                         // begins a statement with words of its own
)

// sqlRambles says that behind a keyword a sentence goes on: three names beside
// each other, of which a clause has two at most, or a word that no table,
// column or object is called, unless the text calls one so (aliases). Statements whose own words are no keywords here
// (SET, CREATE) need the latter.
func sqlRambles(t []sqlToken, class sqlWordClass, keyword string, aliases map[string]bool) bool {
	if len(t) > 0 && t[0].kind == sqlWord {
		w := strings.ToLower(t[0].text)
		if determiners[w] && !aliases[w] || (w == "a" || w == "an") && (keyword == "CREATE" || keyword == "ALTER" || keyword == "DROP") {
			return true
		}
	}
	if class == sqlHard || len(t) < 4 {
		return false
	}
	for _, x := range t[:3] {
		if x.kind != sqlWord || sqlClass(x.text) != sqlPlain {
			return false
		}
	}
	return true
}

var determiners = set("the", "your", "my", "our", "this", "these", "those", "its", "their", "his", "her", "you", "we", "they", "every", "which")

// sqlAliases returns the determiners that a text may give to a table or column
// as its name ("FROM users her"): those that stand before something else than
// another name.
func sqlAliases(s string) map[string]bool {
	var found map[string]bool
	for i := 0; i < len(s); i++ {
		if !isAlpha(s[i]) || i > 0 && isWord(s[i-1]) {
			continue
		}
		end := i
		for end < len(s) && isWord(s[end]) {
			end++
		}
		word := strings.ToLower(s[i:end])
		i = end - 1
		if !determiners[word] {
			continue
		}
		rest := strings.TrimLeft(s[end:], " \t\r\n")
		n := 0
		for n < len(rest) && isWord(rest[n]) {
			n++
		}
		if n == 0 || isDigit(rest[0]) || sqlClass(rest[:n]) != sqlPlain && !reservedNouns[strings.ToLower(rest[:n])] {
			if found == nil {
				found = map[string]bool{}
			}
			found[word] = true
		}
	}
	return found
}

// reservedNouns are words that some dialect reserves and that stand behind no
// table's or column's name, but behind a determiner in prose: the year.
var reservedNouns = set("column", "database", "day", "file", "first", "hour", "index", "key", "keys", "language", "last", "minute", "month", "new", "next", "old", "plan", "quarter", "row", "rows", "schema", "second", "table", "user", "view", "week", "work", "year")

func sqlClass(word string) sqlWordClass {
	if len(word) > 20 {
		return sqlPlain
	}
	return sqlClasses[strings.ToUpper(word)]
}

var sqlClasses = func() map[string]sqlWordClass {
	m := map[string]sqlWordClass{"AND": sqlBinary, "OR": sqlBinary, "LIKE": sqlBinary, "NOT": sqlPrefix, "AS": sqlAs, "IF": sqlIfCalled}
	for _, w := range []string{"IN", "IS", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "UNION", "ON", "THEN", "BETWEEN", "INTO"} {
		m[w] = sqlNever
	}
	// In use as an operator IN and its like go on as AND does.
	m["IN"], m["IS"], m["BETWEEN"] = sqlBinary, sqlBinary, sqlBinary
	for _, w := range strings.Fields(`
		ADD ALL ALTER ANALYSE ANALYZE ANY ARRAY ASC AT ATTACH AUTHORIZATION BACKUP BEGIN BENCHMARK BINARY BREAK BULK BY CALL CASCADE CASE CAST CHECK CHECKPOINT CLOSE CLUSTERED COLLATE COLUMN COMMIT COMMENT COMPUTE CONNECT CONSTRAINT CONTAINS CONTINUE CONVERT COPY CREATE CROSS CUBE
		CURRENT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER CURSOR DATABASE DAY DAY_HOUR DAY_MINUTE DAY_SECOND DBCC DEALLOCATE DECLARE DEFAULT DEFERRABLE DELAY DISABLE ENABLE DELETE DENY DESC DESCRIBE DETACH DISTINCT DISTINCTROW DIV DO DROP DUMP DUMPFILE ELSE ELSEIF END ERRLVL ESCAPE
		EXCEPT EXEC EXECUTE EXISTS EXIT EXPLAIN FALSE FETCH FILE FILTER FIRST FOR FORCE FOREIGN FREETEXT FULL FUNCTION GENERATED GLOB GO GOTO GRANT GROUPS HANDLER HIGH_PRIORITY HOLDLOCK HOUR IDENTITY IGNORE ILIKE IMMEDIATE INDEX INDEXED INFILE INNER INSERT INTERSECT INTERVAL
		ISNULL JOIN KEY KEYS KILL LANGUAGE LAST LATERAL LEFT LIMIT LOAD LOCK LOCALTIME LOCALTIMESTAMP LOOP LOW_PRIORITY MATCH MEMBER MERGE MICROSECOND MINUS MINUTE MOD MONTH NATURAL NEW NEXT NO NOCHECK NOTNULL NOWAIT NULL NULLS OF OFF OFFSET OFFSETS OLD ONLY OPEN OPTION
		OPTIMIZE OUTER OUTFILE OVER OVERLAPS PARTITION PERCENT PIVOT PLAN PRAGMA PRECEDING PRIMARY PRINT PRIOR PROC PROCEDURE PURGE QUALIFY QUARTER QUERY RAISE RAISERROR RANGE READ RECEIVE READTEXT RECONFIGURE RECURSIVE REFERENCES REGEXP REINDEX RELEASE RENAME REPEAT REPLACE REPLICATION
		REQUIRE RESTORE RESTRICT RETURN RETURNING REVERT REVOKE RIGHT RLIKE ROLLBACK ROLLUP ROW ROWS SAMPLE SAVE SAVEPOINT SCHEMA SECOND SELECT SEND SEPARATOR SESSION SET SETUSER SHOW SHUTDOWN SIMILAR SOME SOUNDS START STRAIGHT_JOIN TABLE TABLESAMPLE TERMINATED TEMP TEMPORARY TEXTSIZE THROW
		TO TOP TRAN TRANSACTION TRIGGER TRUE TRUNCATE UNBOUNDED UNIQUE UNKNOWN UNLOCK UNPIVOT UPDATE UPDATETEXT USE USER USING VACUUM VALUES VARYING VIEW WAITFOR WEEK WHEN WHILE WINDOW WITH WITHIN WORK WRITE WRITETEXT XOR YEAR YEAR_MONTH ZONE ZEROFILL
		ASYMMETRIC JSON NFC NFD NFKC NFKD NORMALIZED SCALAR SQL_BIG_RESULT SQL_BUFFER_RESULT SQL_CACHE SQL_CALC_FOUND_ROWS SQL_NO_CACHE SQL_SMALL_RESULT SYMMETRIC`) {
		m[w] = sqlUnclear
	}
	for _, w := range strings.Fields("ALTER ATTACH BACKUP BULK CALL CLOSE COPY CREATE DBCC DECLARE DENY DESCRIBE DETACH DISABLE DO DROP DUMP ENABLE EXEC EXECUTE EXPLAIN FETCH GRANT HANDLER KILL LOAD LOCK OPEN OPTIMIZE PRAGMA PRINT RAISERROR READ RECEIVE RECONFIGURE RENAME RESTORE REVOKE SEND SET SHOW SHUTDOWN START TRUNCATE USE VACUUM WAITFOR WRITE CONNECT BEGIN THROW TRANSACTION SESSION LANGUAGE") {
		m[w] = sqlHard
	}
	return m
}()

// Formula says that a text is arithmetic as people write it: numbers, letters
// and functions of school, compared with each other, the first comparison
// before any AND or OR, so that it does not continue a condition of the app's
// ("1 or 2>1" does). It can be a condition of its own where an app puts it
// into a statement without quotes, though one that reads nothing: a constant.
// That much `1<2` is, which the rules let pass at paranoia level 1.
func Formula(text string) bool {
	text = strings.NewReplacer("×", "*", "·", "*", "≤", "<=", "≥", ">=", "≠", "!=").Replace(text)
	if len(text) > 400 || !clearText(text) || strings.ContainsAny(text, "'\"`;#\\@$:?[]{}~%") || strings.Contains(text, "--") || strings.Contains(text, "/*") || len(unwrap(strings.ReplaceAll(text, "+", " "))) > 1 || foldASCII(text, true) != text && Judge(foldASCII(text, true), Text) != nil || Judge(text, Text) != nil {
		return false
	}
	tokens, _ := sqlScan(nil, text, 0, 128)
	if len(tokens) > 128 {
		return false
	}
	compared := false
	for i, t := range tokens {
		switch t.kind {
		case sqlOp:
			switch {
			case strings.HasPrefix(t.text, "&&") || strings.HasPrefix(t.text, "||"):
				if !compared {
					return false
				}
			case strings.ContainsAny(t.text, "<>="):
				if i == 0 {
					return false
				}
				compared = true
			}
		case sqlWord:
			w := strings.ToLower(t.text)
			switch {
			case w == "and" || w == "or":
				if !compared {
					return false
				}
			case schoolFunctions[w]:
			case len(letters(t.text)) > 2 && !(w == "is" || w == "then" || w == "let" || w == "for" || w == "all" || w == "it"):
				return false
			}
		}
	}
	return true
}

// letters returns what is left of a name without the digits and the signs of
// Unicode in it: 5n and x² are one letter.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && isAlpha(byte(r)) {
			return r
		}
		return -1
	}, s)
}

var schoolFunctions = set("sin", "cos", "tan", "log", "ln", "sqrt", "max", "min", "abs", "f", "g", "h", "if", "lim", "det", "gcd", "lcm", "deg", "dim")
