package pyflow

import (
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// numberColumn is the class of a column that holds numbers: what is read from
// it is one, whatever was written, for the database keeps no other there.
const numberColumn = "_dewar.NumberColumn"

// relationship is the class of a field that stands for other rows. Nothing that
// is no row can be put there, so a text that may have been set to any field of
// an object is not in this one.
const relationship = "_dewar.Relationship"

// storedOf returns those of some labels that come from what the app has stored.
func storedOf(list []label) []label {
	return slices.DeleteFunc(slices.Clone(list), func(l label) bool { return l.src.kind != "stored" })
}

// numberTypes are SQLAlchemy's types of columns that hold whole numbers.
var numberTypes = []string{"Integer", "BigInteger", "SmallInteger", "INTEGER", "INT", "BIGINT", "SMALLINT"}

// specialColumn makes a column of SQLAlchemy: Column("shelf", Integer),
// mapped_column(BigInteger).
func specialColumn(path string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		r := it.callFacts(st, path, it.p.facts.of(path), self, c)
		if r.kind != vInst && r.kind != vUnknown {
			return r
		}
		typ := c.keyword("type_")
		for i := 0; i < len(c.args) && i < 2 && typ == nil; i++ {
			// The type stands first, or behind the column's name.
			if !c.args[i].isConstText() {
				typ = c.args[i]
			}
		}
		if typ == nil || !it.isNumberType(st, typ) {
			return r
		}
		return inst(numberColumn, it.labelsOf(st, r))
	}
}

func (it *interp) isNumberType(st *state, v *value) bool {
	path := it.p.facts.canonical(it.pathOf(st, v))
	if !strings.HasPrefix(path, "sqlalchemy.") && !strings.HasPrefix(path, "flask_sqlalchemy.") {
		return false
	}
	return slices.Contains(numberTypes, path[strings.LastIndexByte(path, '.')+1:])
}

// isNumberColumn reports whether a class attribute describes a column that
// holds numbers.
func isNumberColumn(v *value) bool { return v.kind == vInst && v.str == numberColumn }

// mappedColumn is what a field of a class is that says by its annotation that it
// holds numbers: shelf: Mapped[int] = mapped_column(primary_key=True).
func (it *interp) mappedColumn(f *pysyntax.File, ann pysyntax.ID, v *value) *value {
	if v.kind != vInst || v.str != "sqlalchemy.Column" || !mappedInt(f, ann) {
		return v
	}
	x := *v
	x.str = numberColumn
	return &x
}

// mappedInt reports whether an annotation is Mapped[int], or Mapped[int | None]
// and its like.
func mappedInt(f *pysyntax.File, ann pysyntax.ID) bool {
	base, arg := f.Subscript(ann)
	if base == 0 || arg == 0 || lastName(f, base) != "Mapped" {
		return false
	}
	if b, a := f.Subscript(arg); b != 0 && lastName(f, b) == "Optional" {
		arg = a
	}
	if l, op, r := f.BinOp(arg); l != 0 && op == pysyntax.OpOr {
		if f.Kind(r) == pysyntax.None {
			arg = l
		} else if f.Kind(l) == pysyntax.None {
			arg = r
		}
	}
	return f.Name(arg) == "int"
}

func lastName(f *pysyntax.File, id pysyntax.ID) string {
	if name := f.Name(id); name != "" {
		return name
	}
	_, name := f.Attribute(id)
	return name
}
