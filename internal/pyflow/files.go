package pyflow

import (
	"strconv"
	"strings"
)

// What a request writes into a file is there when the file is read again, in
// the same request or in a later one. Two objects of the base heap hold it: one
// by the folder that a path begins with, which later requests see, and one by
// the identity of a path of which no folder is known.

// makeFiles makes the objects, while the project is loaded.
func (it *interp) makeFiles(st *state) {
	it.p.placed = it.alloc(st, &object{kind: oInstance})
	it.p.unplaced = it.alloc(st, &object{kind: oInstance})
}

// fileKey returns where a path is looked up, and under which name; "" for one
// that nothing tells apart from others.
func (it *interp) fileKey(path *value) (objID, string) {
	if path.kind != vText {
		return 0, ""
	}
	if i := strings.LastIndexByte(prefixOf(path), '/'); i > 0 {
		return it.p.placed, prefixOf(path)[:i]
	}
	if path.isConstText() {
		return it.p.placed, path.str
	}
	var b strings.Builder
	for i := range path.text {
		p := &path.text[i]
		if p.sym == nil {
			b.WriteString(p.lit)
			continue
		}
		if it.symNumber == nil {
			it.symNumber = map[*sym]int{}
		}
		n, ok := it.symNumber[p.sym]
		if !ok {
			n = len(it.symNumber) + 1
			it.symNumber[p.sym] = n
		}
		b.WriteString("\x00" + strconv.Itoa(n) + "\x00")
	}
	return it.p.unplaced, b.String()
}

// storeFile notes that what has the labels goes into the file at a path.
func (it *interp) storeFile(st *state, path *value, labels []label) {
	if it.loading || it.p.placed == 0 || path == nil || len(labels) == 0 {
		return
	}
	for _, p := range it.asPath(st, path).alts() {
		id, key := it.fileKey(p)
		if key == "" {
			continue
		}
		was, _ := bound(it.get(st, id).m[key])
		if was != nil && len(addLabels(was.labels, labels)) == len(was.labels) {
			continue
		}
		if was != nil {
			labels = addLabels(was.labels, labels)
		}
		it.write(st, id).set(key, opaque(labels))
	}
}

// storedIn returns the labels of what was written into the file at a path.
func (it *interp) storedIn(st *state, path *value) []label {
	if it.loading || it.p.placed == 0 || path == nil {
		return nil
	}
	var out []label
	for _, p := range it.asPath(st, path).alts() {
		id, key := it.fileKey(p)
		if key == "" {
			continue
		}
		if v, _ := bound(it.get(st, id).m[key]); v != nil {
			out = addLabels(out, shallowLabels(v))
		}
	}
	return out
}

// contents makes of the labels of an upload those of what is in it.
func (it *interp) contents(list []label) []label {
	var out []label
	for _, l := range list {
		if l.src.kind == "file" {
			l.src = it.sourceOf("file-content", l.src.at, "content of an uploaded file")
		}
		out = addLabels(out, []label{l})
	}
	return out
}

// onlyDigits reports whether what comes from outside in a value are numbers,
// which do no harm wherever they are read again.
func onlyDigits(v *value) bool {
	for _, a := range v.alts() {
		if a.kind != vText {
			return false
		}
		for i := range a.text {
			if p := &a.text[i]; len(p.labels) > 0 && p.chars.And(digits) != p.chars {
				return false
			}
		}
	}
	return true
}

// openFile is the file at a path.
func (it *interp) openFile(st *state, class string, path *value) *value {
	v := &value{kind: vInst, str: class, labels: it.storedIn(st, path), sym: &sym{op: "file"}}
	if path != nil {
		v.sym.whole = path
	}
	return v
}

// fileFacts does what the facts of a call say about files; v is what it gives.
func (it *interp) fileFacts(st *state, facts []Fact, recv *value, c *call, v *value) *value {
	for i := range facts {
		f := &facts[i]
		switch f.Verb {
		case "opens":
			vs, _ := it.pick(f.Args[0], recv, c)
			if len(vs) > 0 && v.kind == vInst {
				v = it.openFile(st, v.str, vs[0])
			}
		case "stores":
			what, _ := it.pick(f.Args[0], recv, c)
			where, _ := it.pick(f.Args[1], recv, c)
			if len(what) > 0 && len(where) > 0 && !onlyDigits(what[0]) {
				it.storeFile(st, where[0], it.contents(it.labelsOf(st, what[0])))
			}
		case "fills":
			vs, _ := it.pick(f.Args[0], recv, c)
			if len(vs) > 0 && recv != nil && recv.sym != nil && recv.sym.op == "file" && !onlyDigits(vs[0]) {
				it.storeFile(st, recv.sym.whole, it.contents(it.labelsOf(st, vs[0])))
			}
		case "holds":
			var labels []label
			if len(f.Args) > 0 {
				if vs, _ := it.pick(f.Args[0], recv, c); len(vs) > 0 {
					labels = it.storedIn(st, vs[0])
				}
			} else if recv != nil && recv.kind == vInst {
				labels = recv.labels
			}
			if len(labels) > 0 {
				v = opaque(labels)
			}
		}
	}
	return v
}
