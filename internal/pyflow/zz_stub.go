package pyflow

func (it *interp) pathDiv(st *state, a, b *value) *value { return nil }

func libConst(path string) *value                                   { return nil }
func (it *interp) pathText(st *state, v *value) *value              { return nil }
func (it *interp) pathAttr(st *state, v *value, name string) *value { return nil }
func (it *interp) urlAttr(st *state, v *value, name string) *value  { return nil }
func regexChars(s string) (Chars, bool)                             { return AnyChars, false }
