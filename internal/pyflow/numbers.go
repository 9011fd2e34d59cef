package pyflow

import "github.com/dewar-security/dewar/internal/pysyntax"

// rangeItems are the numbers of range(…), as far as its bounds are known.
func (it *interp) rangeItems(v *value) ([]*value, bool) {
	b := [3]float64{0, 0, 1}
	args := v.elems
	if len(args) == 1 {
		args = []*value{integer(0), args[0]}
	}
	if len(args) < 2 || len(args) > 3 {
		return []*value{number}, false
	}
	if n := args[1]; n.kind == vNumber && n.sym != nil && n.sym.op == "len" && args[0].kind == vNum && args[0].num == 0 {
		// A place in a text.
		return []*value{{kind: vNumber, sym: it.derive("place", "", n.sym.bases[0])}}, false
	}
	for i, a := range args {
		if a.kind != vNum {
			return []*value{number}, false
		}
		b[i] = a.num
	}
	if b[2] == 0 {
		return nil, true
	}
	var out []*value
	for x := b[0]; b[2] > 0 && x < b[1] || b[2] < 0 && x > b[1]; x += b[2] {
		if len(out) >= maxElems {
			return []*value{number}, false
		}
		out = append(out, integer(x))
	}
	return out, true
}

// numberOf is a literal number.
func numberOf(n pysyntax.Number) *value {
	switch {
	case n.Imag:
		return number
	case n.Int != nil:
		return integer(n.Float)
	}
	return float(n.Float)
}
