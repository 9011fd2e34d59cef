package seclang

import (
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/types/variables"

	"github.com/dewar-security/dewar/internal/rxset"
)

// A transaction's variables are either single values or lists of named ones.
// lists numbers the latter; each holds values and, under another variable,
// their names.
type list uint8

const (
	argsGet list = iota
	argsPost
	argsPath
	requestHeaders
	requestCookies
	responseHeaders
	files
	filesNames
	filesSizes
	partNames
	partFilenames
	partCharsets
	partLanguages
	partHeaders
	requestXML
	emptyList // GEO, ENV and the like, which nothing fills
	lists
)

// entry is a named value. Names are compared in lower case.
type entry struct {
	key, fold, value string
	// hits and nameHits are the leaves that match value and key.
	hits, nameHits hits
	scanned        bool
}

// view is a variable as a list of values or of names.
type view struct {
	list  list
	names bool
}

// views says where the values of a variable are. Variables in neither table
// are not modelled.
var views = map[variables.RuleVariable][]view{
	variables.Args:                      {{list: argsGet}, {list: argsPost}, {list: argsPath}},
	variables.ArgsGet:                   {{list: argsGet}},
	variables.ArgsPost:                  {{list: argsPost}},
	variables.ArgsPath:                  {{list: argsPath}},
	variables.ArgsNames:                 {{argsGet, true}, {argsPost, true}, {argsPath, true}},
	variables.ArgsGetNames:              {{argsGet, true}},
	variables.ArgsPostNames:             {{argsPost, true}},
	variables.RequestHeaders:            {{list: requestHeaders}},
	variables.RequestHeadersNames:       {{requestHeaders, true}},
	variables.RequestCookies:            {{list: requestCookies}},
	variables.RequestCookiesNames:       {{requestCookies, true}},
	variables.ResponseHeaders:           {{list: responseHeaders}},
	variables.ResponseHeadersNames:      {{responseHeaders, true}},
	variables.Files:                     {{list: files}},
	variables.FilesNames:                {{list: filesNames}},
	variables.FilesSizes:                {{list: filesSizes}},
	variables.FilesTmpContent:           {{list: emptyList}},
	variables.MultipartName:             {{list: partNames}},
	variables.MultipartFilename:         {{list: partFilenames}},
	variables.MultipartFilenameCharset:  {{list: partCharsets}},
	variables.MultipartFilenameLanguage: {{list: partLanguages}},
	variables.MultipartPartHeaders:      {{list: partHeaders}},
	variables.XML:                       {{list: requestXML}},
	variables.RequestXML:                {{list: requestXML}},
	variables.ResponseXML:               {{list: emptyList}},
	variables.Geo:                       {{list: emptyList}},
}

// ownVariable is the name under which a list's values are reported when they
// are reached through another variable; XML is REQUEST_XML.
func reported(v variables.RuleVariable) variables.RuleVariable {
	if v == variables.XML {
		return variables.RequestXML
	}
	return v
}

// singles are the variables of one value.
var singles = map[variables.RuleVariable]bool{
	variables.FilesCombinedSize: true, variables.FullRequestLength: true, variables.InboundDataError: true,
	variables.MatchedVar: true, variables.MatchedVarName: true, variables.MultipartDataAfter: true, variables.OutboundDataError: true,
	variables.QueryString: true, variables.RemoteAddr: true, variables.RemoteHost: true, variables.RemotePort: true,
	variables.ReqbodyError: true, variables.ReqbodyErrorMsg: true, variables.ReqbodyProcessorError: true,
	variables.ReqbodyProcessorErrorMsg: true, variables.ReqbodyProcessor: true, variables.RequestBasename: true,
	variables.RequestBody: true, variables.RequestBodyLength: true, variables.RequestFilename: true, variables.RequestLine: true,
	variables.RequestMethod: true, variables.RequestProtocol: true, variables.RequestURI: true, variables.RequestURIRaw: true,
	variables.ResponseBody: true, variables.ResponseContentLength: true, variables.ResponseContentType: true,
	variables.ResponseProtocol: true, variables.ResponseStatus: true, variables.ServerAddr: true, variables.ServerName: true,
	variables.ServerPort: true, variables.StatusLine: true, variables.UrlencodedError: true, variables.URIParseError: true,
	variables.ArgumentsLimitReached: true, variables.MultipartStrictError: true, variables.MultipartDuplicatePartHeader: true,
	variables.MultipartInvalidQuoting: true, variables.HighestSeverity: true,
}

// volatile are the variables that rules change while they run, so that what
// operators say about them cannot be known beforehand.
var volatile = map[variables.RuleVariable]bool{
	variables.TX: true, variables.MatchedVar: true, variables.MatchedVarName: true, variables.MatchedVars: true,
	variables.MatchedVarsNames: true, variables.HighestSeverity: true, variables.ArgsCombinedSize: true, variables.ReqbodyProcessor: true,
}

// numVariables bounds Coraza's variable numbers, which are bytes.
const numVariables = 256

// variable is one TX variable.
type variable struct {
	key, value string
	set        bool
	// loose says that several values set it, and Coraza leaves to chance
	// which is last; link is the link that set it.
	loose bool
	link  uint32
}

// Transaction is one request or response under inspection. Get one from
// [Program.NewTransaction], use it from one goroutine and give it back with
// Close.
type Transaction struct {
	p       *Program
	singles [numVariables]entry
	lists   [lists][]entry

	// tx are the variables that the rules name, by slot; more those whose
	// names were made at run time.
	tx     []variable
	more   []variable
	moreAt map[string]int // place in more, once there are many

	matched []data // MATCHED_VARS
	last    data   // MATCHED_VAR
	capturer
	// ambiguous are the captures made by several values, of which Coraza
	// leaves to chance which is last.
	ambiguous uint16
	// settled are those of them of which the current chain does not care
	// which is last.
	settled uint16
	pending []capture
	// tainted is set by expand if it came upon such a variable.
	tainted    bool
	linkNumber uint32

	removed    []bool // by rule
	exceptions []*removedTarget
	forceBody  bool
	phase      int
	body       []byte
	skipAfter  string
	skip       int
	allow      int64
	matches    []Match
	denied     *Interruption
	unsure     string // why only Coraza can say
	parsing    bool   // the body is being parsed
	unread     bool   // the body was not read to its end, see Read

	hitBits []uint64 // leaves that matched anything so far
	scan    scratch
	values  []data // of matches; scratch of evaluate
}

// removedTarget is a variable taken out of some rules.
type removedTarget struct {
	v variables.RuleVariable
	exception
	rules rxset.Bits // by index
}

// data is a value that matched.
type data struct {
	v                            variables.RuleVariable
	key, value, message, logdata string
}

// name is what MATCHED_VAR_NAME says of d.
func (d *data) name() string {
	if d.key == "" {
		return d.v.Name()
	}
	return d.v.Name() + ":" + d.key
}

// NewTransaction returns a transaction as Coraza's NewTransaction makes it.
func (p *Program) NewTransaction() *Transaction {
	x := p.pool.Get().(*Transaction)
	x.p, x.to = p, x.tx
	copy(x.tx, p.initial)
	for i := range defaultList {
		x.singles[defaultList[i].v].value = defaultList[i].value
	}
	return x
}

// defaults are the values that Coraza sets at the start.
var defaults = map[variables.RuleVariable]string{
	variables.FilesCombinedSize: "0", variables.UrlencodedError: "0", variables.URIParseError: "0",
	variables.ArgumentsLimitReached: "0", variables.FullRequestLength: "0", variables.MultipartDataAfter: "0",
	variables.MultipartDuplicatePartHeader: "0", variables.MultipartInvalidQuoting: "0", variables.OutboundDataError: "0",
	variables.ReqbodyError: "0", variables.ReqbodyProcessorError: "0", variables.RequestBodyLength: "0",
	variables.Duration: "0", variables.HighestSeverity: "255",
}

// defaultList is defaults as a list.
var defaultList = func() (out []struct {
	v     variables.RuleVariable
	value string
}) {
	for v, s := range defaults {
		out = append(out, struct {
			v     variables.RuleVariable
			value string
		}{v, s})
	}
	return out
}()

// Close gives x back for the next request.
func (x *Transaction) Close() {
	for _, v := range singleList {
		x.singles[v] = entry{}
	}
	for i := range x.lists {
		clear(x.lists[i])
		x.lists[i] = x.lists[i][:0]
	}
	clear(x.matched)
	clear(x.more)
	clear(x.matches)
	clear(x.values)
	clear(x.removed)
	clear(x.hitBits)
	clear(x.pending)
	x.pending = x.pending[:0]
	x.matched, x.more, x.matches, x.values = x.matched[:0], x.more[:0], nil, x.values[:0]
	x.moreAt = nil
	x.capture, x.written, x.ambiguous, x.forceBody, x.phase, x.body = false, 0, 0, false, 0, nil
	clear(x.exceptions)
	x.exceptions = x.exceptions[:0]
	x.skipAfter, x.skip, x.allow, x.denied, x.unsure = "", 0, 0, nil, ""
	x.parsing, x.unread = false, false
	x.last = data{}
	x.scan.reset()
	x.p.pool.Put(x)
}

func (x *Transaction) set(v variables.RuleVariable, value string) {
	x.singles[v] = entry{value: value}
}

// add adds a named value to a list that compares names in any case.
func (x *Transaction) add(l list, key, value string) {
	x.lists[l] = append(x.lists[l], entry{key: key, fold: strings.ToLower(key), value: value})
}

// punt notes that the outcome is not known here.
func (x *Transaction) punt(why string) {
	x.unread = x.unread || x.parsing
	if x.unsure == "" {
		x.unsure = why
	}
}

// slotOf returns the TX variable of that name, which is in lower case.
func (x *Transaction) lookup(key string) *variable {
	if i, ok := x.p.slots[key]; ok {
		return &x.tx[i]
	}
	if x.moreAt != nil {
		if i, ok := x.moreAt[key]; ok {
			return &x.more[i]
		}
		return nil
	}
	for i := range x.more {
		if x.more[i].key == key {
			return &x.more[i]
		}
	}
	return nil
}

// setTX sets the TX variable key, which is in lower case.
func (x *Transaction) setTX(key, value string) *variable {
	v := x.lookup(key)
	if v == nil {
		x.more = append(x.more, variable{key: key})
		v = &x.more[len(x.more)-1]
		switch n := len(x.more); {
		case x.moreAt != nil:
			x.moreAt[key] = n - 1
		case n == 32:
			x.moreAt = make(map[string]int, 2*n)
			for i := range x.more {
				x.moreAt[x.more[i].key] = i
			}
		}
	}
	v.value, v.set = value, true
	return v
}

// expand is Coraza's Macro.Expand. ok is false if m looks at what is not
// modelled.
func (x *Transaction) expand(m *macro) (string, bool) {
	if len(m.tokens) == 1 {
		return x.expandToken(&m.tokens[0])
	}
	var b strings.Builder
	for i := range m.tokens {
		s, ok := x.expandToken(&m.tokens[i])
		if !ok {
			return "", false
		}
		b.WriteString(s)
	}
	return b.String(), true
}

func (x *Transaction) expandToken(t *token) (string, bool) {
	switch {
	case t.v == variables.Unknown:
		return t.text, true
	case t.v == variables.TX:
		if t.slot < 10 {
			x.captureNow()
		}
		v := &x.tx[t.slot]
		if v.loose || t.slot < 10 && x.ambiguous&^x.written&^x.settled>>t.slot&1 != 0 {
			x.tainted = true
		}
		if v.set {
			return v.value, true
		}
		return t.text, true
	case t.v == variables.MatchedVar:
		return x.last.value, true
	case t.v == variables.MatchedVarName:
		return x.last.name(), true
	case t.single:
		return x.singles[t.v].value, true
	case t.v == variables.ArgsCombinedSize:
		return x.argumentsSize(), true
	}
	if t.views == nil {
		return "", false
	}
	// Names and values are looked up in the same way, as Coraza does.
	for _, w := range t.views {
		for i := range x.lists[w.list] {
			if e := &x.lists[w.list][i]; e.fold == t.key {
				return e.value, true
			}
		}
	}
	return t.text, true
}

func (x *Transaction) argumentsSize() string {
	n := 0
	for _, l := range [...]list{argsGet, argsPost} {
		for i := range x.lists[l] {
			n += len(x.lists[l][i].key) + len(x.lists[l][i].value)
		}
	}
	return strconv.Itoa(n)
}

// except reports whether a key is left out.
func except(fold string, list []exception) bool {
	for i := range list {
		ex := &list[i]
		if ex.rx != nil {
			if ex.rx.MatchString(fold) {
				return true
			}
		} else if ex.key == "" || ex.key == fold {
			return true
		}
	}
	return false
}

// wants reports whether t selects a name.
func (t *target) wants(e *entry, names bool) bool {
	switch {
	case t.keyRx != nil:
		return t.keyRx.MatchString(e.fold)
	case t.key == "":
		return true
	case names:
		// Coraza does not fold the selector of a list of names.
		return e.fold == t.key
	}
	return e.fold == t.fold
}
