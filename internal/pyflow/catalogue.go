package pyflow

import (
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// What a statement asks the database's catalogue for (its tables, columns,
// processes) is what the program or its administrator has named: it does no
// harm in the statements that are made of it. Rows of the app's tables may.

// catalogueVerb begins statements that only tell about the database.
var catalogueVerb = regexp.MustCompile(`(?i)^\s*(show|describe|desc|pragma|explain)\b`)

// readFrom finds what a statement reads.
var readFrom = regexp.MustCompile(`(?i)\b(?:from|join)\s+([^\s,;()]+)`)

// catalogueTable matches the tables of catalogues: SQL's own (ISO/IEC 9075-11)
// and those of SQLite, PostgreSQL, Oracle, SQL Server, MySQL and others.
var catalogueTable = regexp.MustCompile("(?i)(^|[.])[\"`\\[]?(information_schema[\"`\\]]?[.]|pg_catalog[.]|sys[.]|mysql[.]|performance_schema[.]|system[.]|sqlite_(temp_)?(master|schema)|pg_[a-z_]+|(all|user|dba)_(tables|tab_columns|views|objects|constraints)|v[$][a-z_]+)")

// asksCatalogue reports whether a statement asks for nothing but that.
func (it *interp) asksCatalogue(st *state, v *value) bool {
	for _, a := range v.alts() {
		var b strings.Builder
		if a.kind != vText {
			return false
		}
		for _, p := range it.pieces(st, a) {
			if p.sym == nil {
				b.WriteString(p.lit)
			} else {
				b.WriteByte('?')
			}
		}
		if catalogueVerb.MatchString(b.String()) {
			continue
		}
		tables := readFrom.FindAllStringSubmatch(b.String(), -1)
		if len(tables) == 0 {
			return false
		}
		for _, t := range tables {
			if !catalogueTable.MatchString(t[1]) {
				return false
			}
		}
	}
	return true
}

// asks notes what a statement asks for of what it is run on.
func (it *interp) asks(st *state, c *call, statement *value) {
	on := it.onText(c)
	if on == "" {
		return
	}
	if it.asksCatalogue(st, statement) {
		if it.fr.asked == nil {
			it.fr.asked = map[string]bool{}
		}
		it.fr.asked[on] = true
	} else {
		delete(it.fr.asked, on)
	}
}

// onText is the text of what a method is called on; empty if it is called
// otherwise.
func (it *interp) onText(c *call) string {
	if it.fr == nil || it.fr.file == nil || c.on.File != it.fr.file.path || c.on.Start >= c.on.End || int(c.on.End) > len(it.fr.f.Src) {
		return ""
	}
	return string(it.fr.f.Src[c.on.Start:c.on.End])
}

// rows is iterate for what a loop goes over: a cursor that was asked for the
// catalogue, perhaps.
func (it *interp) rows(st *state, id pysyntax.ID, v *value) ([]*value, bool) {
	items, exact := it.iterate(st, v)
	if len(it.fr.asked) == 0 || !it.fr.asked[string(it.fr.f.Text(id))] {
		return items, exact
	}
	out := make([]*value, len(items))
	for i, x := range items {
		c := *x
		c.labels = cleaned(x.labels, it.tag("sql"))
		out[i] = &c
	}
	return out, exact
}
