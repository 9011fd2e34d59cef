package pyflow

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/url"
	"strings"
)

func init() {
	for name, f := range map[string]native{
		"urllib.parse.quote": quoteMethod("/"), "urllib.parse.quote_plus": quoteMethod(""), "urllib.quote": quoteMethod("/"), "urllib.quote_plus": quoteMethod(""),
		"werkzeug.urls.url_quote": quoteMethod("/"), "werkzeug.urls.url_quote_plus": quoteMethod(""),
		"urllib.parse.unquote": urlUnquote(false), "urllib.parse.unquote_plus": urlUnquote(true), "urllib.unquote": urlUnquote(false), "urllib.unquote_plus": urlUnquote(true),
		"werkzeug.urls.url_unquote": urlUnquote(false), "werkzeug.urls.url_unquote_plus": urlUnquote(true),
		"urllib.parse.urlencode": urlEncode, "urllib.parse.urljoin": urlJoin, "urlparse.urljoin": urlJoin,
		"urllib.parse.urlparse": urlParse(6), "urllib.parse.urlsplit": urlParse(5), "urlparse.urlparse": urlParse(6), "urlparse.urlsplit": urlParse(5),
		"werkzeug.urls.url_parse": urlParse(6), "urllib.parse.urlunparse": urlUnparse, "urllib.parse.urlunsplit": urlUnparse,
		"urllib.parse.ParseResult.geturl": urlGet, "urllib.parse.ParseResult._replace": urlReplace,
		"html.escape": htmlEscape, "cgi.escape": htmlEscape, "html.unescape": htmlUnescape, "markupsafe.escape": markupEscape, "flask.escape": markupEscape, "jinja2.escape": markupEscape,
		"markupsafe.Markup": newMarkup, "flask.Markup": newMarkup, "jinja2.Markup": newMarkup, "markupsafe.soft_str": biStr,
		"markupsafe.Markup.escape": markupEscape,
		"base64.b64encode":         base64Encode("b64"), "base64.b64decode": base64Decode("b64"), "base64.standard_b64encode": base64Encode("b64"), "base64.standard_b64decode": base64Decode("b64"),
		"base64.urlsafe_b64encode": base64Encode("b64u"), "base64.urlsafe_b64decode": base64Decode("b64u"),
		"base64.encodebytes": base64Encode("b64"), "base64.decodebytes": base64Decode("b64"),
		"base64.b32encode": base64Encode("b32"), "base64.b16encode": base64Encode("b16"), "base64.b32decode": base64Decode("b32"), "base64.b16decode": base64Decode("b16"),
		"binascii.hexlify": base64Encode("b16"), "binascii.unhexlify": base64Decode("b16"),
		"builtins.bytes.fromhex": base64Decode("b16"), "builtins.bytearray.fromhex": base64Decode("b16"),
		"json.dumps": jsonDumps, "json.loads": jsonLoads, "simplejson.dumps": jsonDumps, "simplejson.loads": jsonLoads,
		"shlex.quote": shellQuote, "pipes.quote": shellQuote, "shlex.split": shellSplit, "shlex.join": shellJoin,
		"codecs.encode": codecsEncode, "codecs.decode": codecsEncode,
		"uuid.UUID": uuidParse, "ipaddress.ip_address": ipParse, "ipaddress.ip_network": ipParse,
	} {
		natives[name] = f
	}
}

// mapped applies a conversion of text to the first argument: exactly on
// constants, else by what it does to characters. op names the derived symbol.
func (it *interp) mapped(st *state, c *call, op string, exact func(string) (string, bool), chars func(Chars) Chars) *value {
	v := c.arg(0, "")
	if v == nil {
		return nil
	}
	return over(v, func(v *value) *value {
		t := fromPieces(it.pieces(st, v))
		if t.isConstText() {
			if s, ok := exact(t.str); ok {
				return likeText(t, text(s))
			}
		}
		return runs(t, func(s string) string {
			if r, ok := exact(s); ok {
				return r
			}
			return s
		}, func(p piece) piece {
			return piece{sym: it.derive(op, "", p.sym), chars: chars(p.chars), labels: p.labels, clean: p.clean}
		})
	})
}

var unreserved = CharRange("a-zA-Z0-9_.~-")

func quoteMethod(safe string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		keep := safe
		if s := c.arg(1, "safe"); s != nil {
			if !s.isConstText() {
				return run(AnyChars, c.labels(it, st))
			}
			keep = s.str
		}
		set := unreserved.Or(CharsOf(keep)).Or(CharsOf("%"))
		if safe == "" {
			set = set.Or(CharsOf("+"))
		}
		return it.mapped(st, c, "quote", func(s string) (string, bool) {
			var b strings.Builder
			for i := range len(s) {
				switch ch := s[i]; {
				case unreserved.Has(rune(ch)) && ch < 128 || strings.IndexByte(keep, ch) >= 0:
					b.WriteByte(ch)
				case ch == ' ' && safe == "":
					b.WriteByte('+')
				default:
					const hex = "0123456789ABCDEF"
					b.Write([]byte{'%', hex[ch>>4], hex[ch&15]})
				}
			}
			return b.String(), true
		}, func(Chars) Chars { return set })
	}
}

func urlUnquote(plus bool) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		return it.mapped(st, c, "unquote", func(s string) (string, bool) {
			if plus {
				s = strings.ReplaceAll(s, "+", " ")
			}
			r, err := url.PathUnescape(s)
			return r, err == nil
		}, func(c Chars) Chars {
			if c.Has('%') {
				return AnyChars
			}
			if plus && c.Has('+') {
				return c.with(' ')
			}
			return c
		})
	}
}

func urlEncode(it *interp, st *state, self *value, c *call) *value {
	return run(unreserved.Or(CharsOf("%+=&*")), c.labels(it, st))
}

func urlJoin(it *interp, st *state, self *value, c *call) *value {
	if len(c.args) < 2 {
		return nil
	}
	return over2(c.args[0], c.args[1], func(a, b *value) *value {
		bt := fromPieces(it.pieces(st, b))
		at := fromPieces(it.pieces(st, a))
		if at.isConstText() && bt.isConstText() {
			if u, err := url.Parse(at.str); err == nil {
				if r, err := u.Parse(bt.str); err == nil {
					return text(r.String())
				}
			}
		}
		p := prefixOf(bt)
		if strings.HasPrefix(p, "/") && len(p) > 1 && p[1] != '/' && p[1] != '\\' {
			// A path of the same host: the base up to its path.
			if at.isConstText() {
				if u, err := url.Parse(at.str); err == nil && u.Host != "" {
					return it.concat(st, text(u.Scheme+"://"+u.Host), bt)
				}
			}
			return it.concat(st, run(AnyChars, it.labelsOf(st, a)), bt)
		}
		// It may be a whole URL of its own.
		return join(bt, it.concat(st, at, bt))
	})
}

// splitURL takes scheme and host from a known beginning.
func splitURL(p string) (scheme, host string, fixed bool) {
	i := strings.Index(p, "://")
	if i <= 0 {
		return "", "", false
	}
	scheme = strings.ToLower(p[:i])
	rest := p[i+3:]
	j := strings.IndexAny(rest, "/?#")
	if j < 0 {
		return scheme, rest, false
	}
	return scheme, rest[:j], true
}

// urlParse gives a split URL of so many parts.
func urlParse(parts float64) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		v := c.arg(0, "")
		if v == nil {
			return nil
		}
		return over(v, func(v *value) *value {
			t := fromPieces(it.pieces(st, v))
			return &value{kind: vInst, str: "urllib.parse.ParseResult", num: parts, elems: []*value{t}}
		})
	}
}

var urlParts = []string{"scheme", "netloc", "path", "params", "query", "fragment"}

// urlAttr is an attribute of a split URL; nil for a method.
func (it *interp) urlAttr(st *state, self *value, name string) *value {
	if len(self.elems) != 1 {
		return nil
	}
	t := it.refined(st, self.elems[0])
	switch name {
	case "scheme", "netloc", "path", "params", "query", "fragment", "hostname", "username", "password", "port", "host":
	default:
		return nil
	}
	if name == "host" {
		name = "hostname"
	}
	if t.isConstText() {
		u, err := url.Parse(t.str)
		if err != nil {
			return unknown
		}
		switch name {
		case "scheme":
			return text(u.Scheme)
		case "netloc":
			if u.User != nil {
				return text(u.User.String() + "@" + u.Host)
			}
			return text(u.Host)
		case "hostname":
			if u.Host == "" {
				return none
			}
			return text(strings.ToLower(u.Hostname()))
		case "path":
			return text(u.Path)
		case "query":
			return text(u.RawQuery)
		case "fragment":
			return text(u.Fragment)
		case "port":
			if p := u.Port(); p != "" {
				return biInt(it, st, nil, &call{args: []*value{text(p)}})
			}
			return none
		}
		return unknown
	}
	scheme, host, fixed := splitURL(prefixOf(t))
	switch name {
	case "scheme":
		if scheme != "" {
			return text(scheme)
		}
	case "netloc", "hostname":
		if fixed {
			return text(host)
		}
		if p := prefixOf(t); strings.HasPrefix(p, "/") && len(p) > 1 && p[1] != '/' {
			return empty
		}
	case "port":
		return join(numeric(shallowLabels(t)), none)
	}
	r := it.part(t, "url."+name, "")
	switch name {
	case "netloc", "hostname":
		r = narrowed(r, AnyChars.Without("/?#"))
	case "scheme":
		r = narrowed(r, CharRange("a-zA-Z0-9+.-"))
	case "path":
		r = narrowed(r, AnyChars.Without("?#"))
	case "query":
		r = narrowed(r, AnyChars.Without("#"))
	}
	return it.refined(st, r)
}

func urlGet(it *interp, st *state, self *value, c *call) *value {
	if self != nil && len(self.elems) == 1 {
		return self.elems[0]
	}
	return nil
}

func urlReplace(it *interp, st *state, self *value, c *call) *value {
	if self == nil || len(self.elems) != 1 {
		return nil
	}
	labels := addLabels(shallowLabels(self.elems[0]), c.labels(it, st))
	t := run(AnyChars, labels)
	// With scheme and host replaced by nothing the rest is a path.
	if n, s := c.keyword("netloc"), c.keyword("scheme"); n != nil && s != nil && n.isConstText() && s.isConstText() {
		if n.str != "" && s.str != "" {
			t = fromPieces([]piece{{lit: s.str + "://" + n.str + "/"}, {sym: &sym{}, chars: AnyChars, labels: labels}})
		}
	}
	return &value{kind: vInst, str: "urllib.parse.ParseResult", elems: []*value{t}}
}

func urlUnparse(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "")
	if v == nil {
		return nil
	}
	items, exact := it.iterate(st, v)
	if exact && len(items) >= 5 && items[0].isConstText() && items[1].isConstText() && items[0].str != "" && items[1].str != "" {
		out := text(items[0].str + "://" + items[1].str + "/")
		var labels []label
		for _, x := range items[2:] {
			labels = addLabels(labels, it.labelsOf(st, x))
		}
		return it.concat(st, out, run(AnyChars, labels))
	}
	return run(AnyChars, c.labels(it, st))
}

func htmlEscape(it *interp, st *state, self *value, c *call) *value {
	quotes := true
	if q := c.arg(1, "quote"); q != nil && it.truth(st, q) != 1 {
		quotes = false
	}
	rep := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;")
	gone := `<>"'`
	if !quotes {
		rep = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
		gone = "<>"
	}
	return it.mapped(st, c, "html", func(s string) (string, bool) { return rep.Replace(s), true }, func(c Chars) Chars { return c.Without(gone).Or(CharsOf("&;#")) })
}

func htmlUnescape(it *interp, st *state, self *value, c *call) *value {
	return it.mapped(st, c, "unescape", func(s string) (string, bool) { return s, !strings.Contains(s, "&") }, func(c Chars) Chars {
		if c.Has('&') {
			return AnyChars
		}
		return c
	})
}

func markupEscape(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "")
	if v == nil {
		return nil
	}
	return over(v, func(v *value) *value {
		if v.kind == vText && v.safe {
			return v
		}
		r := *escapeHTML(it, fromPieces(it.pieces(st, v)))
		r.safe = true
		return &r
	})
}

func newMarkup(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "")
	if v == nil {
		v = empty
	}
	return over(v, func(v *value) *value {
		r := *fromPieces(it.pieces(st, v))
		r.safe = true
		return &r
	})
}

func encoding(name string) *base64.Encoding {
	if name == "b64u" {
		return base64.URLEncoding
	}
	return base64.StdEncoding
}

// baseChars are the characters of RFC 4648 and of hexlify.
var baseChars = map[string]Chars{"b64": CharRange("a-zA-Z0-9+/="), "b64u": CharRange("a-zA-Z0-9_=-"), "b32": CharRange("A-Z2-7="), "b16": CharRange("0-9a-fA-F")}

func base64Encode(op string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		v := c.arg(0, "")
		if v == nil {
			return nil
		}
		return over(v, func(v *value) *value {
			t := fromPieces(it.pieces(st, v))
			if t.isConstText() && strings.HasPrefix(op, "b64") {
				return &value{kind: vText, isBytes: true, str: encoding(op).EncodeToString([]byte(t.str))}
			}
			_, labels, clean := charsOf(t)
			// What it was made of comes back when it is decoded.
			s := &sym{op: op, bases: symsOf(t), whole: t}
			return &value{kind: vText, isBytes: true, text: []piece{{sym: s, chars: baseChars[op], labels: labels, clean: clean &^ cleanUnlabelled(labels)}}}
		})
	}
}

func base64Decode(op string) native {
	return func(it *interp, st *state, self *value, c *call) *value {
		v := c.arg(0, "")
		if v == nil {
			return nil
		}
		return over(v, func(v *value) *value {
			t := fromPieces(it.pieces(st, v))
			if t.isConstText() && strings.HasPrefix(op, "b64") {
				if b, err := encoding(op).DecodeString(t.str); err == nil {
					return &value{kind: vText, isBytes: true, str: string(b)}
				}
			}
			if len(t.text) == 1 && t.text[0].sym != nil && t.text[0].sym.op == op && t.text[0].sym.whole != nil {
				w := *it.refined(st, t.text[0].sym.whole)
				w.isBytes = true
				w = *carrySteps(&w, t)
				return &w
			}
			_, labels, _ := charsOf(t)
			return &value{kind: vText, isBytes: true, text: []piece{{sym: it.derive("un"+op, "", symsOf(t)...), chars: AnyChars, labels: labels}}}
		})
	}
}

// carrySteps gives the labels of v the traces that they have in w.
func carrySteps(v, w *value) *value {
	later := shallowLabels(w)
	fix := func(list []label) []label {
		out := list
		for i, l := range list {
			for _, m := range later {
				if m.src == l.src && m.step != l.step {
					if &out[0] == &list[0] {
						out = append([]label(nil), list...)
					}
					out[i].step = m.step
				}
			}
		}
		return out
	}
	c := *v
	c.labels = fix(v.labels)
	c.text = append([]piece(nil), v.text...)
	if v.text == nil {
		c.text = nil
	}
	for i := range c.text {
		c.text[i].labels = fix(c.text[i].labels)
	}
	return &c
}

func jsonDumps(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "obj")
	if v == nil {
		return nil
	}
	labels := it.labelsOf(st, v)
	s := &sym{op: "json"}
	if !it.reachesNew(v, 0) || v.kind == vObj {
		s.whole = v
	}
	return &value{kind: vText, text: []piece{{sym: s, chars: AnyChars.Without("\n\r"), labels: labels, clean: it.tag("json")}}}
}

func jsonLoads(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "s")
	if v == nil {
		return nil
	}
	return over(v, func(v *value) *value {
		if v.isConstText() && len(v.str) < 1<<16 {
			var x any
			if json.Unmarshal([]byte(v.str), &x) == nil {
				return it.fromJSON(st, x, 0)
			}
			return unknown
		}
		if v.kind == vText && len(v.text) == 1 && v.text[0].sym != nil && v.text[0].sym.op == "json" && v.text[0].sym.whole != nil {
			w := v.text[0].sym.whole
			if w.kind != vObj {
				return w
			}
			if o := it.get(st, w.obj); o != nil && o.kind != oInstance {
				return it.copyOf(st, w)
			}
		}
		return opaque(it.labelsOf(st, v))
	})
}

func (it *interp) fromJSON(st *state, x any, depth int) *value {
	if depth > 12 {
		return unknown
	}
	switch x := x.(type) {
	case nil:
		return none
	case bool:
		return boolOf(x)
	case float64:
		if x == math.Trunc(x) {
			return integer(x)
		}
		return float(x)
	case string:
		return text(x)
	case []any:
		var out []*value
		for i, e := range x {
			if i >= maxElems*2 {
				break
			}
			out = append(out, it.fromJSON(st, e, depth+1))
		}
		return it.list(st, oList, out, nil)
	case map[string]any:
		o := &object{kind: oDict}
		for _, k := range sortedKeys(x) {
			key, _ := keyOf(text(k))
			o.set(key, it.fromJSON(st, x[k], depth+1))
		}
		return &value{kind: vObj, obj: it.alloc(st, o)}
	}
	return unknown
}

func shellQuote(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "s")
	if v == nil {
		return nil
	}
	return over(v, func(v *value) *value {
		t := fromPieces(it.pieces(st, v))
		if t.isConstText() {
			if t.str != "" && strings.Trim(t.str, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_") == "" {
				return t
			}
			return text("'" + strings.ReplaceAll(t.str, "'", `'"'"'`) + "'")
		}
		ch, labels, clean := charsOf(t)
		return &value{kind: vText, text: []piece{{sym: it.derive("shell", "", symsOf(t)...), chars: ch.Or(CharsOf(`'"`)), labels: labels, clean: clean&^cleanUnlabelled(labels) | it.tag("command")}}}
	})
}

func shellSplit(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "s")
	if v == nil {
		return nil
	}
	t := flatten(v)
	if t.isConstText() && !strings.ContainsAny(t.str, `'"\`) {
		return textSplit(it, st, t, &call{})
	}
	// As far as its beginning is known.
	p := prefixOf(t)
	var head []*value
	if i := strings.LastIndexByte(p, ' '); i > 0 && !strings.ContainsAny(p[:i], `'"\`) {
		for f := range strings.FieldsSeq(p[:i]) {
			head = append(head, text(f))
		}
	}
	return it.list(st, oList, head, run(AnyChars, it.labelsOf(st, v)))
}

func shellJoin(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "split_command")
	if v == nil {
		return nil
	}
	items, exact := it.iterate(st, v)
	out := empty
	for i, x := range items {
		if i > 0 {
			out = it.concat(st, out, text(" "))
		}
		out = it.concat(st, out, shellQuote(it, st, nil, &call{args: []*value{x}}))
	}
	if !exact {
		return run(AnyChars, it.labelsOf(st, v))
	}
	return out
}

func codecsEncode(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "obj")
	if v == nil {
		return nil
	}
	codec := c.arg(1, "encoding")
	if codec == nil || codec.isConstText() && strings.HasPrefix(strings.ToLower(codec.str), "utf") {
		return v
	}
	return run(AnyChars, it.labelsOf(st, v))
}

func uuidParse(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "hex")
	if v == nil {
		return inst("uuid.UUID", nil)
	}
	it.restrict(st, v, CharRange("0-9a-fA-F{}urnid:-"))
	return run(CharRange("0-9a-f-"), it.labelsOf(st, v))
}

func ipParse(it *interp, st *state, self *value, c *call) *value {
	v := c.arg(0, "address")
	if v == nil {
		return nil
	}
	it.restrict(st, v, CharRange("0-9a-zA-Z.:%/"))
	return inst("ipaddress.IPv4Address", it.labelsOf(st, v))
}

// libConst is a constant of Python's library; nil if the path is none.
func libConst(path string) *value {
	switch path {
	case "string.ascii_letters":
		return text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	case "string.ascii_lowercase", "string.lowercase":
		return text("abcdefghijklmnopqrstuvwxyz")
	case "string.ascii_uppercase", "string.uppercase":
		return text("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	case "string.letters":
		return text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	case "string.digits":
		return text("0123456789")
	case "string.hexdigits":
		return text("0123456789abcdefABCDEF")
	case "string.octdigits":
		return text("01234567")
	case "string.punctuation":
		return text("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
	case "string.whitespace":
		return text(" \t\n\r\v\f")
	case "string.printable":
		return text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\v\f")
	case "Crypto.Cipher.AES.block_size":
		return integer(16)
	case "os.sep", "os.path.sep":
		return text("/")
	case "os.pardir", "os.path.pardir":
		return text("..")
	case "os.curdir", "os.path.curdir":
		return text(".")
	case "os.linesep":
		return text("\n")
	case "os.name":
		return text("posix")
	case "os.extsep":
		return text(".")
	case "os.pathsep":
		return text(":")
	case "os.altsep":
		return none
	case "os.devnull":
		return text("/dev/null")
	case "math.pi":
		return float(math.Pi)
	case "math.e":
		return float(math.E)
	case "sys.platform":
		return text("linux")
	case "typing.TYPE_CHECKING":
		return vFalse
	}
	return nil
}
