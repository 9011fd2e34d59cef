package catalog

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/control/abuse"
	"github.com/dewar-security/dewar/internal/control/authn"
	"github.com/dewar-security/dewar/internal/control/csrf"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/headers"
	"github.com/dewar-security/dewar/internal/control/injection"
	"github.com/dewar-security/dewar/internal/control/monitoring"
	"github.com/dewar-security/dewar/internal/control/secrets"
	"github.com/dewar-security/dewar/internal/control/session"
	"github.com/dewar-security/dewar/internal/control/settings"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// Profiles lists the profiles, strictest first.
var Profiles = []guard.Profile{guard.Production, guard.Staging, guard.Development}

// Config is dewar.toml, or [tool.dewar] of pyproject.toml: one section per
// control that has something to set, and four about Dewar's own work. The
// reference page and the JSON schema in docs/ are generated from it.
type Config struct {
	Profile guard.Profile `toml:"profile" reload:"restart" default:"production" jsonschema:"enum=production,enum=staging,enum=development" jsonschema_description:"Where the app runs; it chooses the defaults. Any section can be repeated as [profiles.NAME.SECTION] for one profile only."`

	App   App   `toml:"app" jsonschema_description:"Which app, and how to reach it."`
	Audit Audit `toml:"audit" jsonschema_description:"What dewar audit reads and when it fails."`
	Probe Probe `toml:"probe" jsonschema_description:"How dewar probe behaves towards the site."`
	Store Store `toml:"store" jsonschema_description:"Where bans, sessions, lockouts and limits are kept."`

	Settings   settings.Config   `toml:"settings" jsonschema_description:"Nothing meant for development reaches production."`
	Secrets    secrets.Config    `toml:"secrets" jsonschema_description:"Keys live outside the source and are strong."`
	Injection  injection.Config  `toml:"injection" jsonschema_description:"Untrusted input never becomes code: the WAF."`
	Uploads    uploads.Config    `toml:"uploads" jsonschema_description:"Bodies and files are bounded."`
	Authn      authn.Config      `toml:"authn" jsonschema_description:"Protected views need an identity: login at the edge, and bearer tokens."`
	Session    session.Config    `toml:"session" jsonschema_description:"Cookies are hardened."`
	CSRF       csrf.Config       `toml:"csrf" jsonschema_description:"State-changing requests come from our own pages."`
	Headers    headers.Config    `toml:"headers" jsonschema_description:"The browser is told to defend the user."`
	Abuse      abuse.Config      `toml:"abuse" jsonschema_description:"Guessing and flooding do not pay: rate limits."`
	Deployment deployment.Config `toml:"deployment" jsonschema_description:"Listeners, TLS, gunicorn, trusted proxies."`
	Monitoring monitoring.Config `toml:"monitoring" jsonschema_description:"The security log."`

	Routes []guard.Override `toml:"route" jsonschema_description:"Exceptions for some routes, each a [[route]] table; the first that matches applies."`
}

// App is the [app] section.
type App struct {
	Target   string `toml:"target" reload:"restart" jsonschema_description:"The WSGI app as module:name or module:factory('argument'). Empty: found as flask does (FLASK_APP, .flaskenv, wsgi.py, app.py)."`
	Upstream string `toml:"upstream" reload:"restart" jsonschema_description:"URL of an app that something else runs (http://127.0.0.1:8000 or unix:/run/app.sock); dewar then starts no gunicorn."`
	Python   string `toml:"python" reload:"restart" jsonschema_description:"The Python interpreter of the app's virtual environment. Empty: $VIRTUAL_ENV, .venv, venv, then PATH."`
	Policy   string `toml:"policy" reload:"restart" default:"auto" jsonschema_description:"The app's route map for the guard: auto (dewar.policy.json if the project has one, else the project is audited at every start), off, or a file that dewar routes --json made."`
	Name     string `toml:"name" jsonschema_description:"The app's name in reports. Empty: the folder's name."`
}

// Audit is the [audit] section.
type Audit struct {
	Exclude  []string     `toml:"exclude" jsonschema_description:"Paths that are not read, as patterns from the project's root: tests/**, *.min.js."`
	FailOn   audit.FailOn `toml:"fail-on" default:"medium" jsonschema_description:"Severity from which a finding makes dewar audit exit with 1: low, medium, high, critical or never; high/likely asks for a least confidence, too."`
	Baseline string       `toml:"baseline" jsonschema_description:"File of findings that are known and not to be reported again."`
	Disable  []string     `toml:"disable" jsonschema_description:"Rules that do not run, by id."`
	MaxFile  guard.Size   `toml:"max-file" default:"8 MB" jsonschema_description:"Larger files are skipped, and the report says so."`
}

// Probe is the [probe] section.
type Probe struct {
	Budget  int        `toml:"budget" default:"200" jsonschema:"minimum=1,maximum=10000" jsonschema_description:"Requests at most in one run."`
	Rate    store.Rate `toml:"rate" default:"10/s" jsonschema_description:"Pace of requests."`
	Writes  bool       `toml:"writes" default:"true" jsonschema_description:"Send the harmless POST requests that ask whether the site refuses forged ones."`
	Uploads string     `toml:"uploads" default:"off" jsonschema:"enum=off,enum=markers,enum=eicar" jsonschema_description:"Files that the probe may leave on the site through its upload forms: off, markers (small harmless files called dewar…, some of them pages whose script does nothing) or eicar (the test file of malware scanners, too)."`
}

// problems collects what is wrong with values that are each well formed. Keys
// are absolute.
func (c *Config) problems() []guard.Problem {
	var out []guard.Problem
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		section, ok := v.Field(i).Addr().Interface().(interface{ Problems() []guard.Problem })
		if !ok {
			continue
		}
		name := v.Type().Field(i).Tag.Get("toml")
		for _, p := range section.Problems() {
			out = append(out, guard.Problem{Key: name + "." + p.Key, Message: p.Message})
		}
	}
	if u := c.App.Upstream; u != "" {
		if c.App.Target != "" {
			out = append(out, guard.Problem{Key: "app.upstream", Message: "app.target is set too: either dewar runs the app or something else does"})
		}
		if p, err := url.Parse(u); err != nil || !(p.Scheme == "http" && p.Host != "" && strings.Trim(p.Path, "/") == "" || p.Scheme == "unix" && p.Path != "") {
			out = append(out, guard.Problem{Key: "app.upstream", Message: fmt.Sprintf("%q is no upstream: write http://127.0.0.1:8000 or unix:/run/app.sock", u)})
		}
	}
	for _, o := range c.Routes {
		if strings.TrimSpace(o.Reason) == "" {
			out = append(out, guard.Problem{Key: "route", Message: fmt.Sprintf("the exception for %q gives no reason: add reason = \"why this route is different\"", o.Path)})
		}
	}
	return out
}
