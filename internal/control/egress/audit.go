package egress

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

var rules = []*audit.Rule{
	{
		ID: "DW-EGRESS-001", Control: "egress",
		Patch:    "url", // a name can lead elsewhere a moment later
		Title:    "What a client sends chooses which host the app connects to",
		Why:      "The app stands inside of the network: through it a client reaches the cloud's metadata with its keys, databases, and services that trust whoever can reach them.",
		Fix:      "Take the host from a fixed list, and keep it apart from what a client sends: \"https://api.example.com/\" with the last slash, then the value.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{918}, OWASP: []string{"A01:2025"}, ASVS: []string{"1.3.6"},
		Bad: `import requests
from flask import Flask, request
app = Flask(__name__)

@app.get("/preview")
def preview():
    return {"size": len(requests.get(request.args["url"], timeout=5).content)}
`,
		Good: `import requests
from flask import Flask, request
app = Flask(__name__)

@app.get("/preview")
def preview():
    return {"size": len(requests.get("https://images.example.com/" + request.args["name"], timeout=5).content)}
`,
		Check: func(p *audit.Pass) {
			p.Follow(p.Hits("sink", "url"), func(h *pyflow.Hit) []audit.Danger {
				if slices.Contains(connected, h.Path) {
					return nil
				}
				for _, v := range h.Focus {
					if l, why := hostDanger(v, slices.ContainsFunc(takeURLs, func(lib string) bool { return strings.HasPrefix(h.Path, lib) }), 0); why != "" {
						d := audit.Danger{Label: l, Message: "%s chooses where the app connects to: it " + why, Caret: "the connection is made here"}
						if l.Harmless.For("url-setting") {
							d.Confidence, d.Caret = audit.Possible, d.Caret+", unless the setting is on by which the URL is checked"
						}
						return []audit.Danger{d}
					}
				}
				return nil
			})
		},
	},
	{
		ID: "DW-EGRESS-002", Control: "egress",
		Title:    "A connection is made without checking whose certificate it is",
		Why:      "Whoever stands on the way answers in the server's place: reads the tokens that are sent, and chooses what comes back.",
		Fix:      "Leave verification on; for a certificate of your own give its file: verify=\"/etc/ssl/own-ca.pem\". For SSH load the keys that are known (load_host_keys) and keep RejectPolicy.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{295}, OWASP: []string{"A04:2025"}, ASVS: []string{"12.3.2"},
		Bad: `import requests
from flask import Flask
app = Flask(__name__)

@app.get("/rates")
def rates():
    return requests.get("https://rates.example.com/today", verify=False, timeout=5).json()
`,
		Good: `import requests
from flask import Flask
app = Flask(__name__)

@app.get("/rates")
def rates():
    return requests.get("https://rates.example.com/today", timeout=5).json()
`,
		Check: func(p *audit.Pass) {
			seen := map[audit.Span]bool{}
			for _, h := range append(p.Hits("use", "request", "tls"), p.Hits("set", "tls")...) {
				why, at := unverified(h)
				span := p.Project.FlowSpan(at)
				if why == "" || seen[span] || onlyCertificate(p, h) {
					continue
				}
				seen[span] = true
				f := audit.Finding{Span: span, Message: why, Label: "any certificate will do"}
				if h.At.File == at.File && chosen(p, h, at) {
					f.Confidence = audit.Possible
				}
				p.Report(f)
			}
		},
	},
	{
		ID: "DW-EGRESS-003", Control: "egress",
		Title:    "A connection may use a version of TLS that is broken",
		Why:      "SSL 2, SSL 3, TLS 1.0 and TLS 1.1 rest on MD5, SHA-1 and modes that are read by who stands on the way; RFC 8996 forbids them.",
		Fix:      "Use ssl.create_default_context(), which takes the best that both sides know, and no older one than TLS 1.2.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{327, 326}, OWASP: []string{"A04:2025"}, ASVS: []string{"12.1.1"},
		Bad: `import ssl

def context():
    return ssl.SSLContext(ssl.PROTOCOL_TLSv1)
`,
		Good: `import ssl

def context():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
`,
		Check: func(p *audit.Pass) {
			seen := map[audit.Span]bool{}
			for _, h := range append(p.Hits("use", "request", "tls"), p.Hits("set", "tls")...) {
				version, at := brokenVersion(h)
				if span := p.Project.FlowSpan(at); version != "" && !seen[span] {
					seen[span] = true
					p.Report(audit.Finding{Span: span, Message: version + " is broken", Label: "this version will do"})
				}
			}
		},
	},
}

// versions are the broken ones, by the last part of the names that module ssl
// and pyOpenSSL have for them. Names that leave the choice to both sides
// (PROTOCOL_SSLv23, SSLv23_METHOD) are none.
var versions = map[string]string{
	"PROTOCOL_SSLv2": "SSL 2", "PROTOCOL_SSLv3": "SSL 3", "PROTOCOL_TLSv1": "TLS 1.0", "PROTOCOL_TLSv1_1": "TLS 1.1",
	"SSLv2_METHOD": "SSL 2", "SSLv3_METHOD": "SSL 3", "TLSv1_METHOD": "TLS 1.0", "TLSv1_1_METHOD": "TLS 1.1",
	"TLSVersion.SSLv3": "SSL 3", "TLSVersion.TLSv1": "TLS 1.0", "TLSVersion.TLSv1_1": "TLS 1.1", "TLSVersion.MINIMUM_SUPPORTED": "what came before TLS 1.2",
}

// brokenVersion says which broken version of TLS a hit asks for or allows, and
// where; empty if it does not.
func brokenVersion(h *pyflow.Hit) (string, pyflow.Span) {
	at, values := h.At, []pyflow.Value(nil)
	switch {
	case h.Verb == "set":
		if strings.HasSuffix(h.Path, ".minimum_version") || strings.HasSuffix(h.Path, ".maximum_version") {
			values = h.Focus
		}
	case strings.HasSuffix(h.Path, ".SSLContext"), strings.HasSuffix(h.Path, "SSL.Context"):
		for _, name := range []string{"protocol", "method"} {
			if v, ok := h.Arg(0, name); ok {
				values = append(values, v)
			}
		}
	}
	for _, name := range []string{"ssl_version", "ssl_minimum_version", "minimum_version"} {
		if v, ok := h.Keywords[name]; ok {
			values = append(values, v)
			if s := audit.ArgAt(h, -1, name); s != nil {
				at = *s
			}
		}
	}
	found := ""
	for _, v := range values {
		v.Each(func(v pyflow.Value) {
			parts := strings.Split(v.Type, ".")
			for n := 1; n <= 2 && n <= len(parts); n++ {
				if version := versions[strings.Join(parts[len(parts)-n:], ".")]; version != "" && strings.Contains(strings.ToLower(v.Type), "ssl") {
					found = version
				}
			}
		})
	}
	return found, at
}

// talkRE finds what is said and heard on a connection.
var talkRE = regexp.MustCompile(`\.(?:send\w*|recv\w*|read\w*|write\w*|makefile|request|urlopen|getresponse|login|get|post|put|delete|connection)\(|\burlopen\(|\byield\b|\breturn (?:context|ctx|ssl_context|conn|sock)\b`)

// onlyCertificate reports whether the function around a hit connects for the
// certificate's sake: it looks at it, and says and hears nothing.
func onlyCertificate(p *audit.Pass, h *pyflow.Hit) bool {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return false
	}
	for _, id := range slices.Backward(f.Around(h.At.Start, h.At.End)) {
		switch f.Python.Kind(id) {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
			text := f.Python.Text(id)
			return bytes.Contains(text, []byte(".getpeercert(")) && !talkRE.Match(text)
		}
	}
	return false
}

// off reports whether a value can only be False, 0 or the constant CERT_NONE.
func off(v pyflow.Value) bool {
	return v.Known && (v.Kind == pyflow.Bool && !v.Bool || v.Kind == pyflow.Number && v.Number == 0) ||
		strings.HasSuffix(v.Type, ".CERT_NONE") || constant(v, "CERT_NONE", "NONE")
}

// chosenRE finds the names of what decides about the check of certificates.
var chosenRE = regexp.MustCompile(`(?i)verif|insecure|ssl|tls|cert|debug|trust`)

// chosen reports whether the check is off only in some installations: the
// value is a setting's, or its negation, or the call stands below a condition
// on one. What the sources say of a setting need not be what it is.
func chosen(p *audit.Pass, h *pyflow.Hit, at pyflow.Span) bool {
	f := p.Project.File(h.At.File)
	if f == nil || f.Python == nil {
		return false
	}
	py := f.Python
	if _, call := p.HitCall(h); call != 0 {
		_, _, keywords := py.Call(call)
		for _, k := range keywords {
			if n := py.Node(k); n.Start > at.Start || at.End > n.End {
				continue
			}
			switch _, v := py.KeywordArg(k); py.Kind(v) {
			case pysyntax.UnaryOp, pysyntax.Subscript, pysyntax.Call, pysyntax.BoolOp, pysyntax.IfExp:
				return true
			}
		}
	}
	for _, id := range f.Around(h.At.Start, h.At.End) {
		if py.Kind(id) != pysyntax.If {
			continue
		}
		test, _, _ := py.If(id)
		if n := py.Node(test); n.End <= h.At.Start && chosenRE.Match(py.Text(test)) {
			return true
		}
	}
	return false
}

func constant(v pyflow.Value, texts ...string) bool {
	s, ok := v.Const()
	return ok && slices.Contains(texts, s)
}

// unverified says how a hit switches the check of certificates off, and
// where; empty if it does not.
func unverified(h *pyflow.Hit) (string, pyflow.Span) {
	at := func(name string) pyflow.Span {
		if s := audit.ArgAt(h, -1, name); s != nil {
			return *s
		}
		return h.At
	}
	if h.Verb == "set" {
		value := h.Focus
		if len(value) == 0 {
			return "", h.At
		}
		name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		switch {
		case (name == "verify" || name == "check_hostname" || name == "verify_mode") && off(value[0]):
			return name + " is switched off", h.At
		case name == "_create_default_https_context" && strings.HasSuffix(value[0].Type, "_create_unverified_context"):
			return "all HTTPS connections are made without checking certificates", h.At
		}
		return "", h.At
	}
	switch {
	case strings.HasSuffix(h.Path, "._create_unverified_context"):
		return "the context checks no certificate", h.At
	case h.Path == "ssl.wrap_socket" && !h.Unpacked:
		if _, ok := h.Keywords["cert_reqs"]; !ok && len(h.Args) < 5 && !serves(h) {
			return "ssl.wrap_socket checks no certificate unless cert_reqs says so", h.At
		}
	case strings.HasSuffix(h.Path, ".set_missing_host_key_policy"):
		v, _ := h.Arg(0, "policy")
		any := false
		v.Each(func(v pyflow.Value) {
			any = any || strings.HasSuffix(v.Type, ".AutoAddPolicy") || strings.HasSuffix(v.Type, ".WarningPolicy")
		})
		if any {
			return "the key of a host that is not known is taken as it comes", h.At
		}
	}
	for _, name := range []string{"verify", "ssl", "verify_ssl", "ssl_verify", "check_hostname"} {
		if v, ok := h.Keywords[name]; ok && off(v) && (h.Kind == "request" || name != "ssl" || strings.HasPrefix(h.Path, "aiohttp.")) {
			return name + " is off", at(name)
		}
	}
	if v, ok := h.Keywords["cert_reqs"]; ok && off(v) {
		return "cert_reqs is CERT_NONE", at("cert_reqs")
	}
	return "", h.At
}

// serves reports whether a socket is wrapped for a server, which asks its
// clients for no certificate.
func serves(h *pyflow.Hit) bool {
	v, ok := h.Arg(3, "server_side")
	return ok && !(v.Known && v.Kind == pyflow.Bool && !v.Bool)
}

// connected are the methods that take the path of a request on a connection
// whose host is settled.
var connected = []string{
	"http.client.HTTPConnection.request", "http.client.HTTPConnection.putrequest", "http.client.HTTPSConnection.request", "http.client.HTTPSConnection.putrequest",
	"urllib3.HTTPConnectionPool.request", "urllib3.HTTPConnectionPool.urlopen", "urllib3.HTTPSConnectionPool.request", "urllib3.HTTPSConnectionPool.urlopen",
}

// takeURLs are the libraries that connect to whole URLs only: a word is none.
var takeURLs = []string{"requests.", "httpx.", "urllib.request.", "aiohttp."}

// hostDanger says how a labelled piece of a URL, or of an address as sockets
// take it, chooses the host. whole says that a text without scheme is no
// address.
func hostDanger(v pyflow.Value, whole bool, depth int) (l pyflow.Label, why string) {
	if depth > 4 {
		return l, ""
	}
	if len(v.Alternatives) > 0 {
		for _, a := range v.Alternatives {
			if l, why = hostDanger(a, whole, depth+1); why != "" {
				return l, why
			}
		}
		return l, ""
	}
	if v.Kind == pyflow.List && len(v.Items) > 0 {
		return hostDanger(v.Items[0], whole, depth+1) // (host, port)
	}
	for _, t := range audit.Texts(v) {
		for i, p := range t.Pieces {
			labels := audit.Live(p, audit.FromOutside, "url")
			if len(labels) == 0 || audit.HostFixed(t.Pieces, i) || audit.Only(p, pyflow.CharsOf("0123456789")) {
				continue
			}
			switch before := strings.TrimSpace(audit.Before(t.Pieces, i)); {
			case before == "" && whole && !audit.CanHold(p, ":") && !strings.Contains(audit.After(t.Pieces, i), ":"):
			case before == "":
				return labels[0], "can be any URL"
			case strings.HasSuffix(before, "//"):
				return labels[0], "is the host's name"
			default:
				return labels[0], "follows the host without a slash between, so @ or . in it make another host"
			}
		}
	}
	return l, ""
}
