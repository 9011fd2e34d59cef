package headers

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	routemap "github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/waf"
)

var layers = []*guard.Spec{reportsSpec, headersSpec}

var headersSpec = &guard.Spec{
	Name:    "headers",
	Control: "headers",
	Does:    "sets the security headers, each once; keeps what the app sets itself and what is no weaker; puts its Content-Security-Policy beside one that lets any script run",
	Reasons: []guard.Reason{{
		Name: "csp-copied",
		Why:  "A page holds more different scripts of one template's shape than the template writes: some are not the app's (CWE-79). None of them was allowed by the policy.",
		Fix:  "Look at the page. If the app itself repeats the script, in a loop of Python, move it into a file below static/.",
	}},
}

const yearOfHSTS = 365 * 24 * time.Hour

// enforcedAnyway is the part of a policy that is in force although csp-mode
// is report-only, and beside a policy of the app's own that is silent about
// it: no plugins and no foreign base address. Framing is added from the
// settings.
const enforcedAnyway = "object-src 'none'; base-uri 'self'"

// upgradeInsecure is the directive by which browsers ask over https for what a
// page loads over http (Upgrade Insecure Requests, section 3.1).
const upgradeInsecure = "upgrade-insecure-requests"

type headers struct {
	cfg Config
	// What is sent, worked out once.
	hsts, frameOptions    string
	enforced, reportOnly  string
	referrer, permissions string
	opener, resource      string
	embedder              string

	sri    *integrity // nil: headers.integrity is off
	routes func() *routemap.Policy

	policy func() *routemap.Policy // nil: csp-source is off
	source atomic.Pointer[derived]
	large  atomic.Int64 // pages that were not looked at as a whole
	cut    atomic.Int64 // pages with more inline texts than a header has room for
}

// NewHeaders returns the headers layer.
func NewHeaders(cfg Config, env guard.Env) (guard.Layer, error) {
	if p := cfg.Problems(); len(p) > 0 {
		return nil, fmt.Errorf("headers.%s: %s", p[0].Key, p[0].Message)
	}
	cfg = cfg.withDefaults()
	l := &headers{cfg: cfg, routes: env.Policy, referrer: value(cfg.ReferrerPolicy), permissions: value(cfg.PermissionsPolicy), opener: value(cfg.OpenerPolicy), resource: value(cfg.ResourcePolicy), embedder: value(cfg.EmbedderPolicy)}
	if cfg.Integrity == guard.Enforce {
		l.sri = &integrity{facts: env.Facts, now: env.Now, known: map[string]*asset{}}
		if l.sri.now == nil {
			l.sri.now = time.Now
		}
	}
	if cfg.CSPSource == guard.Enforce && cfg.CSPMode != "off" {
		l.policy = env.Policy
	}
	if cfg.HSTS > 0 {
		l.hsts = "max-age=" + strconv.FormatInt(int64(time.Duration(cfg.HSTS)/time.Second), 10)
		if cfg.HSTSSubdomains {
			l.hsts += "; includeSubDomains"
		}
		if cfg.HSTSPreload {
			l.hsts += "; preload"
		}
	}
	// X-Frame-Options knows two values; for a list of origins only the CSP
	// speaks (it goes before in every browser that knows it).
	switch strings.ToLower(cfg.FrameAncestors) {
	case "'none'":
		l.frameOptions = "DENY"
	case "'self'":
		l.frameOptions = "SAMEORIGIN"
	}
	policy := setDirective(cfg.CSP, "frame-ancestors", cfg.FrameAncestors)
	report := ""
	if to := cfg.reportTo(); to != "" {
		report = "; report-uri " + to
	}
	switch cfg.CSPMode {
	case "enforce":
		l.enforced = policy + report
	case "report-only":
		l.enforced = setDirective(enforcedAnyway, "frame-ancestors", cfg.FrameAncestors)
		// frame-ancestors is in force, and browsers warn about it here.
		l.reportOnly = setDirective(policy, "frame-ancestors", "") + report
	}
	return l, nil
}

func value(s string) string {
	if s == "off" {
		return ""
	}
	return s
}

// setDirective returns a policy with one directive replaced, added, or with an
// empty value taken out.
func setDirective(policy, name, value string) string {
	var out []string
	for d := range strings.SplitSeq(policy, ";") {
		d = strings.TrimSpace(d)
		key, _, _ := strings.Cut(d, " ")
		if d != "" && !strings.EqualFold(key, name) {
			out = append(out, d)
		}
	}
	if value != "" {
		out = append(out, name+" "+value)
	}
	return strings.Join(out, "; ")
}

// Request implements [guard.Layer].
func (l *headers) Request(*guard.Exchange) guard.Decision { return guard.Pass() }

// Health implements [guard.Reporter].
func (l *headers) Health() error { return nil }

// Describe implements [guard.Reporter].
func (l *headers) Describe() string {
	s := "nosniff"
	if l.hsts != "" {
		s += ", HSTS " + l.cfg.HSTS.String()
	} else {
		s += ", no HSTS"
	}
	switch l.cfg.CSPMode {
	case "enforce":
		s += ", CSP in force" + l.describeSource()
	case "report-only":
		s += ", CSP report-only (plugins, base and framing in force)" + l.describeSource()
	default:
		s += ", no CSP"
	}
	if l.sri != nil {
		s += fmt.Sprintf(", integrity of %d scripts and style sheets", l.sri.count())
	}
	for _, h := range []struct{ name, v string }{
		{"X-Frame-Options", l.frameOptions}, {"Referrer-Policy", l.referrer}, {"Permissions-Policy", l.permissions},
		{"Cross-Origin-Opener-Policy", l.opener}, {"Cross-Origin-Embedder-Policy", l.embedder}, {"Cross-Origin-Resource-Policy", l.resource},
	} {
		if h.v != "" {
			s += ", " + h.name
		}
	}
	return s
}

// Response implements [guard.Responder].
func (l *headers) Response(x *guard.Exchange, r *http.Response) guard.Decision {
	h := r.Header
	kind := waf.MediaType(h.Get("Content-Type"))

	h["X-Content-Type-Options"] = []string{"nosniff"}
	if x.Client.Scheme == "https" { // RFC 6797 section 7.2: never over http
		l.setHSTS(h)
	}
	l.set(h, "Referrer-Policy", l.referrer, protectiveReferrer)
	l.set(h, "Permissions-Policy", l.permissions, anything)
	l.set(h, "Cross-Origin-Opener-Policy", l.opener, protectiveOpener)
	if !media(kind) {
		l.set(h, "Cross-Origin-Resource-Policy", l.resource, anything)
	}
	l.setFraming(h)
	if l.sri != nil {
		if kind == "text/html" {
			l.sri.stamp(x, r)
		} else {
			l.sri.learn(x, r, kind, l.routes != nil && x.Match(l.routes()).Is("static"))
		}
	}
	if document(kind) {
		l.set(h, "Cross-Origin-Embedder-Policy", l.embedder, anything)
		l.setCSP(x, r)
	}
	if l.cfg.PrivateCookies == guard.Enforce && len(h["Cache-Control"]) == 0 && len(h["Expires"]) == 0 {
		switch {
		case l.sensitive(x):
			h.Set("Cache-Control", "no-store")
		case len(h["Set-Cookie"]) > 0, x.Identity.Account != "", x.Identity.Subject != "":
			h.Set("Cache-Control", "private")
		}
	}
	return guard.Pass()
}

// sensitive reports whether the source says that the request is for a page
// that nobody should find in a cache after the visitor: a login, a reset, a
// registration, a token, the administration.
func (l *headers) sensitive(x *guard.Exchange) bool {
	if l.routes == nil || x.Request == nil {
		return false
	}
	m := x.Match(l.routes())
	for _, kind := range [...]string{"login", "reset", "register", "token", "admin"} {
		if m.Is(kind) {
			return true
		}
	}
	return false
}

// set gives a header its one value: the app's, if there is exactly one and it
// protects, else ours.
func (l *headers) set(h http.Header, name, ours string, protects func(string) bool) {
	if own := h[name]; len(own) == 1 && strings.TrimSpace(own[0]) != "" && protects(own[0]) {
		return
	}
	if ours == "" {
		return
	}
	h[name] = []string{ours}
}

func anything(string) bool { return true }

// protectiveReferrer reports whether an app's Referrer-Policy keeps paths and
// queries from other sites. Browsers take the last policy of a list that they
// know.
func protectiveReferrer(v string) bool {
	last := ""
	for p := range strings.SplitSeq(v, ",") {
		switch p = strings.ToLower(strings.TrimSpace(p)); p {
		case "no-referrer", "no-referrer-when-downgrade", "origin", "origin-when-cross-origin", "same-origin", "strict-origin", "strict-origin-when-cross-origin", "unsafe-url":
			last = p
		}
	}
	switch last {
	case "no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin", "origin":
		return true
	}
	return false
}

func protectiveOpener(v string) bool {
	v, _, _ = strings.Cut(v, ";")
	switch strings.TrimSpace(v) {
	case "same-origin", "same-origin-allow-popups", "noopener-allow-popups":
		return true
	}
	return false
}

// setHSTS keeps the longer of the app's max-age and ours, and what the app
// says about subdomains. An app's max-age=0, which gives up HTTPS, is
// overruled while HSTS is on here.
func (l *headers) setHSTS(h http.Header) {
	if l.hsts == "" {
		return
	}
	own := h["Strict-Transport-Security"]
	if len(own) == 1 {
		if age, ok := maxAge(own[0]); ok && age >= int64(time.Duration(l.cfg.HSTS)/time.Second) {
			return
		}
		ours := l.hsts
		if strings.Contains(strings.ToLower(own[0]), "includesubdomains") && !l.cfg.HSTSSubdomains {
			ours += "; includeSubDomains"
		}
		h["Strict-Transport-Security"] = []string{ours}
		return
	}
	h["Strict-Transport-Security"] = []string{l.hsts}
}

// maxAge reads max-age of a Strict-Transport-Security header (RFC 6797
// section 6.1); a directive given twice makes the header invalid.
func maxAge(v string) (age int64, ok bool) {
	for d := range strings.SplitSeq(v, ";") {
		key, val, _ := strings.Cut(d, "=")
		if !strings.EqualFold(strings.TrimSpace(key), "max-age") {
			continue
		}
		if ok {
			return 0, false
		}
		n, err := strconv.ParseInt(strings.Trim(strings.TrimSpace(val), `"`), 10, 64)
		if err != nil || n < 0 {
			return 0, false
		}
		age, ok = n, true
	}
	return age, ok
}

// setFraming sets X-Frame-Options. An app that allows itself (SAMEORIGIN) or
// names its ancestors in a policy of its own knows why.
func (l *headers) setFraming(h http.Header) {
	if own := h["X-Frame-Options"]; len(own) == 1 {
		if v := strings.TrimSpace(own[0]); strings.EqualFold(v, "DENY") || strings.EqualFold(v, "SAMEORIGIN") {
			return
		}
	}
	if hasDirective(h["Content-Security-Policy"], "frame-ancestors") {
		// Browsers that know the directive ignore X-Frame-Options; ours
		// would only contradict it for the others.
		h.Del("X-Frame-Options")
		return
	}
	if l.frameOptions == "" {
		h.Del("X-Frame-Options") // ALLOWALL and ALLOW-FROM protect nothing
		return
	}
	h["X-Frame-Options"] = []string{l.frameOptions}
}

// setCSP adds our policies. One of the app's own stays: browsers obey every
// policy that they are sent (CSP3 section 8.1), so ours beside it can only take
// away. How much of ours stands there, headers.csp-own says.
func (l *headers) setCSP(x *guard.Exchange, r *http.Response) {
	h := r.Header
	own := readPolicies(h["Content-Security-Policy"])
	if len(own) == 0 {
		h.Del("Content-Security-Policy")
	}
	if l.cfg.CSPMode == "off" || len(own) > 0 && l.cfg.CSPOwn == "never" {
		return
	}
	enforced, reportOnly, full := l.enforced, l.reportOnly, l.cfg.CSPMode == "enforce"
	upgrade := l.cfg.UpgradeInsecure == guard.Enforce && x.Client.Scheme == "https"
	if len(own) > 0 && l.cfg.CSPOwn == "weak" && restrictsScripts(own) {
		// Its author knows which scripts run, and ours could only break that.
		enforced, reportOnly, full = setDirective(enforcedAnyway, "frame-ancestors", l.cfg.FrameAncestors), "", false
	} else if d := l.derived(); d != nil {
		if r.StatusCode == http.StatusNotModified && d.m.Dynamic() {
			// The header of a 304 replaces that of the page in the browser's
			// cache (RFC 9111 section 3.2), which had this page's hashes.
			h.Del("Content-Security-Policy")
			return
		}
		page, cut := l.page(x, r, d), false
		if full {
			enforced, cut = d.extend(enforced, page, upgrade, l.cfg.CSPMax)
		} else if reportOnly, cut = d.extend(reportOnly, page, upgrade, l.cfg.CSPMax); cut {
			reportOnly = "" // browsers would report what is the app's own
		}
		if cut {
			l.cut.Add(1)
		}
	}
	enforced = l.framed(h, enforced)
	if len(own) > 0 && l.cfg.CSPOwn != "always" {
		if named(own, "frame-ancestors") {
			enforced = setDirective(enforced, "frame-ancestors", "") // whom the app lets frame it, it says itself
		}
		if !full {
			for _, name := range [...]string{"object-src", "base-uri"} {
				if limits(own, name) {
					enforced = setDirective(enforced, name, "")
				}
			}
		}
	}
	if upgrade && !named(own, upgradeInsecure) && !hasDirective([]string{enforced}, upgradeInsecure) {
		enforced = strings.TrimPrefix(enforced+"; "+upgradeInsecure, "; ")
	}
	// Nothing is joined to a line of the app's: what is wrong with that one
	// stays its own.
	addLine(h, "Content-Security-Policy", enforced)
	addLine(h, "Content-Security-Policy-Report-Only", reportOnly)
}

// addLine gives a header one more line, if it does not have it.
func addLine(h http.Header, name, value string) {
	if value != "" && !slices.Contains(h[name], value) {
		h[name] = append(h[name], value)
	}
}

// framed returns the enforced policy; frame-ancestors follows an app that set
// X-Frame-Options: SAMEORIGIN, because it would overrule it.
func (l *headers) framed(h http.Header, enforced string) string {
	if strings.EqualFold(strings.TrimSpace(h.Get("X-Frame-Options")), "SAMEORIGIN") && l.cfg.FrameAncestors == "'none'" {
		return setDirective(enforced, "frame-ancestors", "'self'")
	}
	return enforced
}

func hasDirective(values []string, name string) bool {
	for _, v := range values {
		for policy := range strings.SplitSeq(v, ",") {
			for d := range strings.SplitSeq(policy, ";") {
				key, _, _ := strings.Cut(strings.TrimSpace(d), " ")
				if strings.EqualFold(key, name) {
					return true
				}
			}
		}
	}
	return false
}

// document reports whether a browser can show an answer of this type as a
// page that runs scripts. A missing type can be any.
func document(kind string) bool {
	switch kind {
	case "", "text/html", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "application/xslt+xml":
		return true
	}
	return false
}

// media reports whether an answer is something that other pages and mails
// show without being able to read it.
func media(kind string) bool {
	major, _, _ := strings.Cut(kind, "/")
	return major == "image" || major == "audio" || major == "video" || major == "font"
}
