package headers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [headers] section of dewar.toml. "off" leaves a header to the
// app.
type Config struct {
	Mode              guard.Mode     `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the headers layer."`
	HSTS              guard.Duration `toml:"hsts" default:"365d" staging:"1d" development:"0s" jsonschema_description:"How long browsers refuse plain HTTP for this host (Strict-Transport-Security max-age); 0s does not send it."`
	HSTSSubdomains    bool           `toml:"hsts-subdomains" jsonschema_description:"Extend that to every subdomain. Off by default: one subdomain without HTTPS would be unreachable for a year."`
	HSTSPreload       bool           `toml:"hsts-preload" jsonschema_description:"Ask browsers to ship this host in their preload list. Nearly irrevocable; needs hsts of a year and hsts-subdomains."`
	CSPMode           string         `toml:"csp-mode" default:"report-only" jsonschema:"enum=enforce,enum=report-only,enum=off" jsonschema_description:"Content-Security-Policy: report-only sends csp as Content-Security-Policy-Report-Only and enforces only what no app misses (plugins, base, framing); enforce sends csp in force; off sends none."`
	CSP               string         `toml:"csp" default:"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; media-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'" jsonschema_description:"The policy."`
	CSPSource         guard.Mode     `toml:"csp-source" default:"enforce" jsonschema:"enum=enforce,enum=off" jsonschema_description:"Extend csp by what the app's own templates hold: hashes of their inline scripts and styles (of those with outputs in them, as they stand on each page), and the addresses they load from. Nothing that the templates do not write is allowed."`
	CSPOwn            string         `toml:"csp-own" default:"weak" jsonschema:"enum=weak,enum=always,enum=never" jsonschema_description:"What stands beside a policy that the app itself sends, which stays as it is (browsers obey both): weak puts csp, as csp-mode has it, beside one that lets any script run (inline, or from anywhere), and beside the others only plugins and base where they say nothing of them; always puts csp beside every one; never adds nothing."`
	CSPMax            int            `toml:"csp-max" default:"3072" jsonschema:"minimum=1024,maximum=65536" jsonschema_description:"The longest policy in bytes that csp-source makes; proxies in front often take 4096 bytes of headers in all (nginx: proxy_buffer_size). Where the inline texts of a page need more, some of its scripts do not run in mode enforce, and no report-only policy is sent for it; style attributes are then all allowed. The checklist says so."`
	UpgradeInsecure   guard.Mode     `toml:"upgrade-insecure" default:"enforce" jsonschema:"enum=enforce,enum=off" jsonschema_description:"Have browsers ask over https for what pages load over http (upgrade-insecure-requests), on pages served over https and unless csp-mode is off."`
	CSPReport         string         `toml:"csp-report" default:"auto" jsonschema_description:"Where browsers send violations (report-uri): auto is the guard itself (dewar csp report), off nowhere, or a URL."`
	CSPClients        int            `toml:"csp-clients" default:"3" jsonschema:"minimum=1,maximum=64" jsonschema_description:"How many different clients must have reported an address before dewar csp propose proposes to allow it."`
	FrameAncestors    string         `toml:"frame-ancestors" default:"'none'" jsonschema_description:"Who may show the app in a frame: 'none', 'self', or 'self' and origins. Also decides X-Frame-Options."`
	ReferrerPolicy    string         `toml:"referrer-policy" default:"strict-origin-when-cross-origin" jsonschema:"enum=strict-origin-when-cross-origin,enum=strict-origin,enum=same-origin,enum=origin,enum=off" jsonschema_description:"Referrer-Policy. no-referrer is not offered: Flask-WTF's CSRF check needs the Referer over HTTPS."`
	PermissionsPolicy string         `toml:"permissions-policy" default:"camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), midi=(), accelerometer=(), gyroscope=(), magnetometer=(), display-capture=(), browsing-topics=()" jsonschema_description:"Permissions-Policy: browser features that the app does without; off does not send it."`
	OpenerPolicy      string         `toml:"opener-policy" default:"same-origin" jsonschema:"enum=same-origin,enum=same-origin-allow-popups,enum=off" jsonschema_description:"Cross-Origin-Opener-Policy. same-origin-allow-popups is for apps that talk to the login or payment windows they open."`
	ResourcePolicy    string         `toml:"resource-policy" default:"same-origin" jsonschema:"enum=same-origin,enum=same-site,enum=cross-origin,enum=off" jsonschema_description:"Cross-Origin-Resource-Policy: who may load the app's answers into other pages. Not sent on images, audio, video and fonts, which mails and other sites may show."`
	EmbedderPolicy    string         `toml:"embedder-policy" default:"off" jsonschema:"enum=off,enum=require-corp,enum=credentialless" jsonschema_description:"Cross-Origin-Embedder-Policy on pages. Off by default: with it everything that a page loads from elsewhere must say that it may be loaded."`
	Integrity         guard.Mode     `toml:"integrity" default:"off" jsonschema:"enum=enforce,enum=off" jsonschema_description:"Add integrity (Subresource Integrity) to the scripts and style sheets of this site in pages, by what was served under their address last. Only for addresses whose content a browser cannot have kept from before: files that Flask serves with no-cache, as it does by default (a file edited in place is noticed), or immutable ones; and only in pages that are not kept either. Pages are rewritten for it."`
	PrivateCookies    guard.Mode     `toml:"private-cookies" default:"enforce" jsonschema:"enum=enforce,enum=off" jsonschema_description:"Mark answers that say nothing about caching: as private where they set a cookie or the visitor is known, so that no shared cache hands one visitor's page to another; as no-store where the source says that the route is a login, a reset, a registration, a token or the administration."`
}

const (
	defaultCSPMax      = 3072
	defaultCSP         = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; media-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	defaultPermissions = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), midi=(), accelerometer=(), gyroscope=(), magnetometer=(), display-capture=(), browsing-topics=()"
)

// texts lists the settings with a fixed set of values or free text.
func (c *Config) texts() []textSetting {
	return []textSetting{
		{"csp-mode", &c.CSPMode, "report-only", []string{"enforce", "report-only", "off"}},
		{"csp", &c.CSP, defaultCSP, nil},
		{"frame-ancestors", &c.FrameAncestors, "'none'", nil},
		{"referrer-policy", &c.ReferrerPolicy, "strict-origin-when-cross-origin", []string{"strict-origin-when-cross-origin", "strict-origin", "same-origin", "origin", "off"}},
		{"permissions-policy", &c.PermissionsPolicy, defaultPermissions, nil},
		{"opener-policy", &c.OpenerPolicy, "same-origin", []string{"same-origin", "same-origin-allow-popups", "off"}},
		{"csp-report", &c.CSPReport, "auto", nil},
		{"csp-own", &c.CSPOwn, "weak", []string{"weak", "always", "never"}},
		{"embedder-policy", &c.EmbedderPolicy, "off", []string{"off", "require-corp", "credentialless"}},
		{"resource-policy", &c.ResourcePolicy, "same-origin", []string{"same-origin", "same-site", "cross-origin", "off"}},
	}
}

type textSetting struct {
	key   string
	value *string
	zero  string // what an empty value stands for
	known []string
}

// reportTo returns where browsers send violations, or "".
func (c *Config) reportTo() string {
	switch c.CSPReport {
	case "auto":
		return ReportPath
	case "off":
		return ""
	}
	return c.CSPReport
}

// withDefaults fills in what a zero Config leaves open, with the values of the
// default tags; a zero HSTS stays off, because it cannot be told from a
// deliberate one.
func (c Config) withDefaults() Config {
	for _, s := range c.texts() {
		if *s.value = strings.TrimSpace(*s.value); *s.value == "" {
			*s.value = s.zero
		}
	}
	c.CSPMax = cmp.Or(c.CSPMax, defaultCSPMax)
	return c
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	add := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	for _, s := range c.texts() {
		switch v := strings.TrimSpace(*s.value); {
		case v != "" && s.known != nil && !slices.Contains(s.known, v):
			add(s.key, "%q is none of %s", v, strings.Join(s.known, ", "))
		case strings.ContainsAny(v, "\r\n\x00"):
			add(s.key, "a header cannot hold a line break")
		}
	}
	if c.CSPClients < 0 || c.CSPClients > maxClients {
		add("csp-clients", "%d is not between 1 and %d", c.CSPClients, maxClients)
	}
	if c.CSPMax != 0 && (c.CSPMax < 1024 || c.CSPMax > 64<<10) {
		add("csp-max", "%d is not between 1024 and 65536", c.CSPMax)
	}
	if strings.ContainsAny(c.CSPReport, " ;,\r\n\x00") {
		add("csp-report", "%q is not a URL", c.CSPReport)
	}
	switch bare := strings.ToLower(strings.TrimSpace(c.FrameAncestors)); {
	case strings.ContainsAny(bare, ";,"):
		add("frame-ancestors", "%q: separate origins by spaces", c.FrameAncestors)
	case bare == "none" || bare == "self":
		add("frame-ancestors", "write \"'%s'\" with the inner quotes, or browsers take it for a host name", bare)
	case strings.Contains(bare, "'none'") && bare != "'none'":
		add("frame-ancestors", "'none' stands alone")
	}
	if c.HSTS < 0 {
		add("hsts", "must not be negative")
	}
	if c.HSTSPreload && (!c.HSTSSubdomains || c.HSTS < guard.Duration(yearOfHSTS)) {
		add("hsts-preload", "needs hsts-subdomains = true and hsts of at least 365d (hstspreload.org)")
	}
	return out
}
