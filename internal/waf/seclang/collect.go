package seclang

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"mime/multipart"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"
	"github.com/tidwall/gjson"

	"github.com/dewar-security/dewar/internal/percent"
	"github.com/dewar-security/dewar/internal/rxset"
)

// The methods of Transaction that fill its variables have the names of
// Coraza's and do what those do, for the same arguments in the same order.

// ProcessConnection sets the client's address.
func (x *Transaction) ProcessConnection(client string, clientPort int, server string, serverPort int) {
	x.set(variables.RemoteAddr, client)
	x.set(variables.RemotePort, strconv.Itoa(clientPort))
	x.set(variables.ServerAddr, server)
	x.set(variables.ServerPort, strconv.Itoa(serverPort))
}

// ProcessURI sets the request line and the query's arguments.
func (x *Transaction) ProcessURI(uri, method, proto string) {
	x.set(variables.RequestMethod, method)
	x.set(variables.RequestProtocol, proto)
	x.set(variables.RequestURIRaw, uri)
	x.set(variables.RequestLine, method+" "+uri+" "+proto)
	uri, _, _ = strings.Cut(uri, "#")
	var path, query string
	if plainURI(uri) {
		x.set(variables.RequestURI, uri)
		path, query, _ = strings.Cut(uri, "?")
	} else if u, err := url.ParseRequestURI(uri); err != nil {
		x.set(variables.URIParseError, "1")
		x.set(variables.RequestURI, uri)
		path, query, _ = strings.Cut(uri, "?")
	} else {
		x.set(variables.RequestURI, u.String())
		path, query = u.Path, u.RawQuery
	}
	if Pairs(query, x.p.cfg.arguments, func(key, value string) { x.addArgument(argsGet, key, value) }) {
		x.set(variables.ArgumentsLimitReached, "1")
	}
	base := path
	if i := strings.LastIndexAny(path, `/\`); i >= 0 && len(path) > i+1 {
		base = path[i+1:]
	}
	x.set(variables.RequestBasename, base)
	x.set(variables.RequestFilename, path)
	x.set(variables.QueryString, query)
}

// plainURI reports whether a request target is a path and query that parsing
// and printing leave as they are.
func plainURI(uri string) bool {
	if uri == "" || uri[0] != '/' || len(uri) > 1 && uri[1] == '/' {
		return false
	}
	query := false
	for i := 0; i < len(uri); i++ {
		switch c := uri[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case query:
		case c == '?':
			query = true
		case charsets[c]&(hasUpper|hasLower|hasDigit) == 0 && strings.IndexByte("/-._~", c) < 0:
			return false
		}
	}
	return true
}

// Pairs reads a query or form as Coraza does. It stops at limit pairs, if that
// is not 0, and then reports that there are more.
func Pairs(query string, limit int, add func(key, value string)) bool {
	n := 0
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		if limit > 0 && n >= limit {
			return true
		}
		key, value, _ := strings.Cut(pair, "=")
		add(unescape(key), unescape(value))
		n++
	}
	return false
}

// unescape undoes + and %XX; what is no escape stays as it is.
func unescape(s string) string {
	i := 0
	for ; ; i++ {
		if i == len(s) {
			return s
		}
		if s[i] == '+' || s[i] == '%' {
			break
		}
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if d, ok := percent.At(s, i); ok {
			c = d
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

func (x *Transaction) addArgument(l list, key, value string) {
	if len(x.lists[l]) >= x.p.cfg.arguments {
		x.set(variables.ArgumentsLimitReached, "1")
		return
	}
	x.add(l, key, value)
}

// AddPathRequestArgument adds an argument from the path.
func (x *Transaction) AddPathRequestArgument(key, value string) { x.addArgument(argsPath, key, value) }

// AddPostRequestArgument adds an argument as if it stood in the body.
func (x *Transaction) AddPostRequestArgument(key, value string) { x.addArgument(argsPost, key, value) }

// AddRequestHeader adds a header field, and the cookies in it.
func (x *Transaction) AddRequestHeader(key, value string) {
	if key == "" {
		return
	}
	x.lists[requestHeaders] = append(x.lists[requestHeaders], entry{key: key, fold: foldHeader(key), value: value})
	switch x.lists[requestHeaders][len(x.lists[requestHeaders])-1].fold {
	case "content-type":
		if len(x.header("content-type")) != 1 {
			return
		}
		switch kind := strings.TrimSpace(strings.ToLower(value)); {
		case strings.HasPrefix(kind, "application/x-www-form-urlencoded"):
			x.set(variables.ReqbodyProcessor, "URLENCODED")
		case strings.HasPrefix(kind, "multipart/form-data"):
			x.set(variables.ReqbodyProcessor, "MULTIPART")
		}
	case "cookie":
		for rest := trimControl(value); rest != ""; {
			var part string
			part, rest, _ = strings.Cut(rest, ";")
			name, v, _ := strings.Cut(trimControl(part), "=")
			name, v = trimControl(name), trimControl(v)
			if name != "" || v != "" {
				x.add(requestCookies, name, v)
			}
		}
	}
}

// commonHeaders are the names that browsers send, in lower case by the form in
// which net/http has them.
var commonHeaders = func() map[string]string {
	m := map[string]string{}
	for name := range strings.FieldsSeq(`Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection
		Content-Length Content-Type Cookie Dnt Host If-Modified-Since If-None-Match Origin Pragma Priority Range Referer
		Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Te
		Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent X-Csrf-Token X-Requested-With`) {
		m[name] = strings.ToLower(name)
	}
	return m
}()

func foldHeader(name string) string {
	if fold, ok := commonHeaders[name]; ok {
		return fold
	}
	return strings.ToLower(name)
}

func (x *Transaction) header(fold string) (values []string) {
	for i := range x.lists[requestHeaders] {
		if e := &x.lists[requestHeaders][i]; e.fold == fold {
			values = append(values, e.value)
		}
	}
	return values
}

// trimControl drops spaces and control characters at both ends.
func trimControl(s string) string {
	for s != "" && (s[0] <= ' ' || s[0] == 0x7f) {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] <= ' ' || s[len(s)-1] == 0x7f) {
		s = s[:len(s)-1]
	}
	return s
}

// SetServerName sets SERVER_NAME.
func (x *Transaction) SetServerName(name string) { x.set(variables.ServerName, name) }

// SetBodyProcessor says which parser reads the body: URLENCODED, MULTIPART,
// JSON, XML or none.
func (x *Transaction) SetBodyProcessor(name string) { x.set(variables.ReqbodyProcessor, name) }

// ProcessRequestHeaders runs the rules of phase 1. It reports whether the
// transaction goes on.
func (x *Transaction) ProcessRequestHeaders() bool {
	x.runPhase(types.PhaseRequestHeaders)
	return x.denied == nil && x.unsure == ""
}

// ProcessRequestBody parses body and runs the rules of phase 2.
func (x *Transaction) ProcessRequestBody(body []byte) {
	if x.p.cfg.bodyAccess && len(body) > 0 {
		if int64(len(body)) >= x.p.cfg.bodyLimit {
			x.unread = true
			x.punt("the body limit")
			return
		}
		x.parsing = true
		x.parseBody(body)
		x.parsing = false
		if x.unsure != "" {
			return
		}
	}
	x.runPhase(types.PhaseRequestBody)
}

func (x *Transaction) parseBody(body []byte) {
	processor := x.singles[variables.ReqbodyProcessor].value
	if x.forceBody {
		if processor == "" {
			processor = "URLENCODED"
		}
		x.set(variables.ReqbodyProcessor, processor)
	}
	var err error
	switch strings.ToLower(processor) {
	case "":
	case "urlencoded":
		text := string(body)
		x.form(text)
		x.set(variables.RequestBody, text)
		x.set(variables.RequestBodyLength, strconv.Itoa(len(text)))
	case "json":
		text := string(body)
		if err = x.json(text); err == nil {
			x.setTX("json_request_body", text)
		}
	case "xml":
		err = x.xml(body)
	case "multipart":
		err = x.multipart(body)
	case "raw":
		text := string(body)
		x.set(variables.RequestBody, text)
		x.set(variables.RequestBodyLength, strconv.Itoa(len(text)))
	default:
		x.punt("body processor " + processor)
	}
	if err != nil {
		x.set(variables.ReqbodyError, "1")
		x.set(variables.ReqbodyErrorMsg, x.singles[variables.ReqbodyProcessor].value+": "+err.Error())
		x.set(variables.ReqbodyProcessorError, "1")
		x.set(variables.ReqbodyProcessorErrorMsg, err.Error())
	}
}

func (x *Transaction) form(text string) {
	if len(x.lists[argsPost]) > 0 {
		// Coraza replaces what is there.
		x.punt("a form besides other arguments")
		return
	}
	if Pairs(text, x.p.cfg.arguments, func(key, value string) { x.add(argsPost, key, value) }) {
		x.set(variables.ArgumentsLimitReached, "1")
	}
	// Coraza keeps only one of several fields whose names differ in case
	// alone, by chance one or the other.
	args := x.lists[argsPost]
	if slices.ContainsFunc(args, func(e entry) bool { return e.fold != e.key }) {
		seen := make(map[string]string, len(args))
		for i := range args {
			if key, ok := seen[args[i].fold]; ok && key != args[i].key {
				x.punt("form fields whose names differ in case only")
				return
			}
			seen[args[i].fold] = args[i].key
		}
	}
}

// Bounds of Coraza's on what JSON may grow to.
const (
	jsonGrowth = 8
	jsonFloor  = 4096
)

var (
	errJSONBudget = errors.New("the flattened form is too long")
	errJSONDepth  = errors.New("max recursion reached while reading json object")
	errJSON       = errors.New("invalid JSON")
)

// flattener makes arguments of JSON.
type flattener struct {
	x               *Transaction
	limit           int
	budget, used    int
	values, lengths int
}

func (x *Transaction) json(text string) error {
	f := flattener{x: x, limit: x.p.cfg.arguments, budget: max(len(text)*jsonGrowth, jsonFloor)}
	full, err := f.walk(gjson.Parse(text), append(make([]byte, 0, 64), "json"...), x.p.cfg.jsonDepth)
	if full {
		x.set(variables.ArgumentsLimitReached, "1")
	}
	switch {
	case err == errJSONBudget:
		return fmt.Errorf("flattened form exceeds the %d byte budget for a %d byte body", f.budget, len(text))
	case err != nil:
		return err
	case deeper(text, x.p.cfg.jsonDepth):
		return errJSONDepth
	case !gjson.Valid(text):
		return errJSON
	}
	return nil
}

func (f *flattener) walk(v gjson.Result, key []byte, depth int) (full bool, err error) {
	if f.limit > 0 && f.values >= f.limit {
		return true, nil
	}
	if depth <= 0 {
		return false, errJSONDepth
	}
	elements := 0
	v.ForEach(func(k, v gjson.Result) bool {
		if f.limit > 0 && f.values >= f.limit {
			full = true
			return false
		}
		path := append(key, '.')
		if k.Type == gjson.String {
			path = append(path, k.Str...)
		} else {
			path = strconv.AppendInt(path, int64(k.Num), 10)
			elements++
		}
		value := ""
		switch v.Type {
		case gjson.JSON:
			var more bool
			more, err = f.walk(v, path, depth-1)
			full = full || more
			return err == nil
		case gjson.String:
			value = v.Str
		case gjson.Null:
		default:
			value = v.Raw
		}
		if f.used+len(path)+len(value) > f.budget {
			err = errJSONBudget
			return false
		}
		f.x.add(argsPost, string(path), value)
		f.used += len(path) + len(value)
		f.values++
		return true
	})
	if elements > 0 && !full && err == nil {
		n := strconv.Itoa(elements)
		switch {
		case f.limit > 0 && f.lengths >= f.limit:
			full = true
		case f.used+len(key)+len(n) > f.budget:
			err = errJSONBudget
		default:
			f.x.add(argsPost, string(key), n)
			f.used += len(key) + len(n)
			f.lengths++
		}
	}
	return full, err
}

// deeper reports whether JSON text nests deeper than limit.
func deeper(s string, limit int) bool {
	depth, text, escaped := 0, false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case escaped:
			escaped = false
		case text:
			escaped = c == '\\'
			text = c != '"'
		case c == '"':
			text = true
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

func (x *Transaction) xml(body []byte) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	start := len(x.lists[requestXML])
	for {
		t, err := d.Token()
		var syntax *xml.SyntaxError
		if err != nil && err != io.EOF && !(errors.As(err, &syntax) && syntax.Msg == "unexpected EOF") {
			x.lists[requestXML] = x.lists[requestXML][:start]
			return err
		}
		switch t := t.(type) {
		case nil:
			return nil
		case xml.StartElement:
			for _, a := range t.Attr {
				x.add(requestXML, "//@*", a.Value)
			}
		case xml.CharData:
			if text := strings.TrimSpace(string(t)); text != "" {
				x.add(requestXML, "/*", text)
			}
		}
	}
}

// multipart reads a body whose parts have been checked and whose file
// contents have been taken out before (package waf's reduceMultipart): the
// odd forms that Coraza has rules for are left to Coraza.
func (x *Transaction) multipart(body []byte) error {
	contentType := ""
	if h := x.header("content-type"); len(h) > 0 {
		contentType = h[0]
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		x.punt("a multipart body without its type")
		return nil
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	total := 0
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			x.punt("a malformed multipart body")
			return nil
		}
		name := p.FormName()
		for key, values := range p.Header {
			if len(values) > 1 {
				x.set(variables.MultipartDuplicatePartHeader, "1")
				x.set(variables.MultipartStrictError, "1")
			}
			for _, v := range values {
				x.add(partHeaders, name, key+": "+v)
			}
		}
		disposition := p.Header.Get("Content-Disposition")
		_, params, err := mime.ParseMediaType(disposition)
		if err != nil || strings.Contains(disposition, "*") {
			x.punt("a part with an extended or malformed disposition")
			return nil
		}
		filename := params["filename"]
		x.add(partNames, name, name)
		if filename != "" {
			x.add(partFilenames, name, filename)
		}
		data, err := io.ReadAll(p)
		if err != nil {
			x.punt("a malformed multipart body")
			return nil
		}
		total += len(data)
		if filename != "" {
			x.add(files, "", filename)
			x.replace(filesSizes, filename, strconv.Itoa(len(data)))
			x.add(filesNames, "", name)
		} else {
			x.add(argsPost, name, string(data))
		}
		x.set(variables.FilesCombinedSize, strconv.Itoa(total))
	}
}

// replace sets the only value of a name.
func (x *Transaction) replace(l list, key, value string) {
	fold := strings.ToLower(key)
	for i := range x.lists[l] {
		if e := &x.lists[l][i]; e.fold == fold {
			*e = entry{key: key, fold: fold, value: value}
			return
		}
	}
	x.add(l, key, value)
}

// AddResponseHeader adds a header field of the response.
func (x *Transaction) AddResponseHeader(key, value string) {
	if key == "" {
		return
	}
	x.add(responseHeaders, key, value)
	if strings.EqualFold(key, "content-type") {
		kind, _, _ := strings.Cut(value, ";")
		x.set(variables.ResponseContentType, kind)
	}
}

// ProcessResponseHeaders runs the rules of phase 3. It reports whether the
// transaction goes on.
func (x *Transaction) ProcessResponseHeaders(status int, proto string) bool {
	x.set(variables.ResponseStatus, strconv.Itoa(status))
	x.set(variables.ResponseProtocol, proto)
	x.runPhase(types.PhaseResponseHeaders)
	return x.denied == nil && x.unsure == ""
}

// ProcessResponseBody runs the rules of phase 4.
func (x *Transaction) ProcessResponseBody(body []byte) {
	if x.p.cfg.responses {
		if int64(len(body)) >= x.p.cfg.responseLimit {
			x.punt("the response limit")
			return
		}
		for _, kind := range x.p.cfg.responseTypes {
			if kind == x.singles[variables.ResponseContentType].value {
				x.set(variables.ResponseContentLength, strconv.Itoa(len(body)))
				x.set(variables.ResponseBody, string(body))
				break
			}
		}
	}
	x.runPhase(types.PhaseResponseBody)
}

// RemoveRuleByID takes a rule out of this transaction.
func (x *Transaction) RemoveRuleByID(id int) {
	if i, ok := x.p.byID[id]; ok {
		x.remove(i)
	}
}

// Exclusions are rules, and targets of rules, that a transaction leaves out.
type Exclusions struct {
	rules   []int // indices
	targets []*removedTarget
	folded  bool
}

// Target is what rules do not look at: a variable's values with the name Key
// or, if Rx is not nil, with names that Rx matches.
type Target struct {
	Rules    []int
	Variable variables.RuleVariable
	Key      string
	Rx       *regexp.Regexp
}

// Exclusions prepares to take out rules and targets. Ids that no rule has are
// passed over.
func (p *Program) Exclusions(rules []int, targets []Target) *Exclusions {
	e := &Exclusions{}
	for _, id := range rules {
		if i, ok := p.byID[id]; ok {
			e.rules = append(e.rules, i)
			e.folded = e.folded || p.rules[i].folded
		}
	}
	for _, t := range targets {
		r := &removedTarget{v: t.Variable, exception: exception{key: strings.ToLower(t.Key), rx: t.Rx}, rules: rxset.NewBits(len(p.rules))}
		for _, id := range t.Rules {
			if i, ok := p.byID[id]; ok {
				r.rules.Set(i)
				e.folded = e.folded || p.rules[i].folded
			}
		}
		e.targets = append(e.targets, r)
	}
	return e
}

// Exclude leaves out what e says. It comes before anything is processed.
func (x *Transaction) Exclude(e *Exclusions) {
	if e.folded {
		x.punt("a rule decided beforehand is taken out")
	}
	for _, i := range e.rules {
		x.removed[i] = true
	}
	x.exceptions = append(x.exceptions, e.targets...)
}

// Arguments yields the request's arguments: of the query, the body and the
// path, as far as they have been read.
func (x *Transaction) Arguments() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for _, l := range [...]list{argsGet, argsPost, argsPath} {
			for i := range x.lists[l] {
				if e := &x.lists[l][i]; !yield(e.key, e.value) {
					return
				}
			}
		}
	}
}

// Read says that [Transaction.Arguments] holds all that Coraza would see, too:
// parsing the body left nothing open.
func (x *Transaction) Read() bool { return !x.unread }

// Unsure says why only Coraza can tell what this transaction comes to, or "".
func (x *Transaction) Unsure() string { return x.unsure }

// Interruption returns the disruptive action that ended the transaction, or
// nil.
func (x *Transaction) Interruption() *Interruption { return x.denied }

// Matches returns the rules with a message that matched, in order.
func (x *Transaction) Matches() []Match { return x.matches }

// TX returns a variable of the TX collection, "" if it is not set.
func (x *Transaction) TX(name string) string {
	if v := x.lookup(name); v != nil && v.set {
		return v.value
	}
	return ""
}
