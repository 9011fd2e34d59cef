package headers

import (
	"fmt"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [headers] section of dewar.toml. An empty value leaves a
// header to the app; "off" is spelled out where that is meant.
type Config struct {
	Mode              guard.Mode     `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the headers layer."`
	HSTS              guard.Duration `toml:"hsts" default:"365d" staging:"1d" development:"0s" jsonschema_description:"How long browsers refuse plain HTTP for this host (Strict-Transport-Security max-age); 0s does not send it."`
	HSTSSubdomains    bool           `toml:"hsts-subdomains" jsonschema_description:"Extend that to every subdomain. Off by default: one subdomain without HTTPS would be unreachable for a year."`
	HSTSPreload       bool           `toml:"hsts-preload" jsonschema_description:"Ask browsers to ship this host in their preload list. Nearly irrevocable; needs hsts of a year and hsts-subdomains."`
	CSPMode           string         `toml:"csp-mode" default:"report-only" jsonschema:"enum=enforce,enum=report-only,enum=off" jsonschema_description:"Content-Security-Policy: report-only sends csp as Content-Security-Policy-Report-Only and enforces only what no app misses (plugins, base, framing); enforce sends csp in force; off sends none. An app's own policy goes before."`
	CSP               string         `toml:"csp" default:"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; media-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'" jsonschema_description:"The policy."`
	CSPReport         string         `toml:"csp-report" jsonschema_description:"URL to which browsers send violations (report-uri)."`
	FrameAncestors    string         `toml:"frame-ancestors" default:"'none'" jsonschema_description:"Who may show the app in a frame: 'none', 'self', or 'self' and origins. Also decides X-Frame-Options."`
	ReferrerPolicy    string         `toml:"referrer-policy" default:"strict-origin-when-cross-origin" jsonschema:"enum=strict-origin-when-cross-origin,enum=strict-origin,enum=same-origin,enum=origin,enum=off" jsonschema_description:"Referrer-Policy. no-referrer is not offered: Flask-WTF's CSRF check needs the Referer over HTTPS."`
	PermissionsPolicy string         `toml:"permissions-policy" default:"camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), bluetooth=(), hid=(), midi=(), accelerometer=(), gyroscope=(), magnetometer=(), display-capture=(), browsing-topics=()" jsonschema_description:"Permissions-Policy: browser features that the app does without; off does not send it."`
	OpenerPolicy      string         `toml:"opener-policy" default:"same-origin" jsonschema:"enum=same-origin,enum=same-origin-allow-popups,enum=off" jsonschema_description:"Cross-Origin-Opener-Policy. same-origin-allow-popups is for apps that talk to the login or payment windows they open."`
	ResourcePolicy    string         `toml:"resource-policy" default:"same-origin" jsonschema:"enum=same-origin,enum=same-site,enum=cross-origin,enum=off" jsonschema_description:"Cross-Origin-Resource-Policy: who may load the app's answers into other pages. Not sent on images, audio, video and fonts, which mails and other sites may show."`
	PrivateCookies    guard.Mode     `toml:"private-cookies" default:"enforce" jsonschema:"enum=enforce,enum=off" jsonschema_description:"Mark answers that set a cookie and say nothing about caching as private, so that no shared cache hands one visitor's session to another."`
}

const (
	defaultCSP         = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; media-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	defaultPermissions = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), bluetooth=(), hid=(), midi=(), accelerometer=(), gyroscope=(), magnetometer=(), display-capture=(), browsing-topics=()"
)

// withDefaults fills in what a zero Config leaves open, with the values of the
// default tags; a zero HSTS stays off, because it cannot be told from a
// deliberate one. It refuses values that do not work.
func (c Config) withDefaults() (Config, error) {
	for _, s := range []struct {
		p     *string
		v     string
		key   string
		known []string
	}{
		{&c.CSPMode, "report-only", "csp-mode", []string{"enforce", "report-only", "off"}},
		{&c.CSP, defaultCSP, "csp", nil},
		{&c.FrameAncestors, "'none'", "frame-ancestors", nil},
		{&c.ReferrerPolicy, "strict-origin-when-cross-origin", "referrer-policy", []string{"strict-origin-when-cross-origin", "strict-origin", "same-origin", "origin", "off"}},
		{&c.PermissionsPolicy, defaultPermissions, "permissions-policy", nil},
		{&c.OpenerPolicy, "same-origin", "opener-policy", []string{"same-origin", "same-origin-allow-popups", "off"}},
		{&c.ResourcePolicy, "same-origin", "resource-policy", []string{"same-origin", "same-site", "cross-origin", "off"}},
	} {
		if *s.p == "" {
			*s.p = s.v
		}
		*s.p = strings.TrimSpace(*s.p)
		if s.known != nil && !contains(s.known, *s.p) {
			return c, fmt.Errorf("[headers] %s: %q is none of %s", s.key, *s.p, strings.Join(s.known, ", "))
		}
		if strings.ContainsAny(*s.p, "\r\n\x00") {
			return c, fmt.Errorf("[headers] %s: a header cannot hold a line break", s.key)
		}
	}
	if strings.ContainsAny(c.CSPReport, " ;,\r\n\x00") {
		return c, fmt.Errorf("[headers] csp-report: %q is not a URL", c.CSPReport)
	}
	if strings.ContainsAny(c.FrameAncestors, ";,") {
		return c, fmt.Errorf("[headers] frame-ancestors: %q: separate origins by spaces", c.FrameAncestors)
	}
	switch bare := strings.ToLower(c.FrameAncestors); {
	case bare == "none" || bare == "self":
		return c, fmt.Errorf("[headers] frame-ancestors: write '%s' with its quotes, or browsers take it for a host name", bare)
	case strings.Contains(bare, "'none'") && bare != "'none'":
		return c, fmt.Errorf("[headers] frame-ancestors: 'none' stands alone")
	}
	if c.HSTSPreload && (!c.HSTSSubdomains || c.HSTS < guard.Duration(yearOfHSTS)) {
		return c, fmt.Errorf("[headers] hsts-preload needs hsts-subdomains = true and hsts of at least 365d (hstspreload.org)")
	}
	return c, nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
