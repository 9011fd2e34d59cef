package catalog

import (
	"fmt"
	"slices"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/control/abuse"
	"github.com/dewar-security/dewar/internal/control/authn"
	"github.com/dewar-security/dewar/internal/control/csrf"
	"github.com/dewar-security/dewar/internal/control/deployment"
	"github.com/dewar-security/dewar/internal/control/headers"
	"github.com/dewar-security/dewar/internal/control/injection"
	"github.com/dewar-security/dewar/internal/control/session"
	"github.com/dewar-security/dewar/internal/control/settings"
	"github.com/dewar-security/dewar/internal/control/uploads"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// Layer is one line of the guard: what it is, why it stands where it stands,
// and how it is made from the settings.
type Layer struct {
	Spec   *guard.Spec
	Reason string
	Mode   func(*Config) guard.Mode
	New    func(*Config, guard.Env) (guard.Layer, error)
}

// Layers is the order of traffic. Requests pass from top to bottom; cors
// and the last three look at answers, in this order, too.
var Layers = []Layer{
	{spec(deployment.Control, "request"), "one unambiguous request or none: every later layer relies on it",
		func(c *Config) guard.Mode { return c.Deployment.Request }, func(c *Config, e guard.Env) (guard.Layer, error) { return deployment.NewRequest(c.Deployment, e) }},
	{spec(deployment.Control, "client"), "who asks: every decision about a client needs its true address, and the app must not see a forged one",
		func(*Config) guard.Mode { return guard.Enforce }, func(c *Config, e guard.Env) (guard.Layer, error) { return deployment.NewClient(c.Deployment, e) }},
	{spec(deployment.Control, "https"), "nothing is answered in clear text, or for a host that is not ours",
		func(c *Config) guard.Mode { return c.Deployment.HTTPS }, func(c *Config, e guard.Env) (guard.Layer, error) { return deployment.NewHTTPS(c.Deployment, e) }},
	{spec(deployment.Control, "client-certificate"), "the handshake has said who is asking: a path for known clients costs nothing more for others",
		func(c *Config) guard.Mode { return c.Deployment.ClientCert }, func(c *Config, e guard.Env) (guard.Layer, error) { return deployment.NewClientCert(c.Deployment, e) }},
	{spec(abuse.Control, "bans"), "who may not come in at all costs one look at a table",
		func(c *Config) guard.Mode { return c.Abuse.Bans }, func(c *Config, e guard.Env) (guard.Layer, error) { return abuse.NewBans(c.Abuse, e) }},
	{spec(abuse.Control, "rate-limit"), "a cheap refusal before anything expensive",
		func(c *Config) guard.Mode { return c.Abuse.RateLimit }, func(c *Config, e guard.Env) (guard.Layer, error) { return abuse.NewRateLimit(c.Abuse, e) }},
	{spec(settings.Control, "never-public"), "what no visitor may see needs no further look",
		func(c *Config) guard.Mode { return c.Settings.NeverPublic }, func(c *Config, e guard.Env) (guard.Layer, error) { return settings.NewNeverPublic(c.Settings, e) }},
	{spec(headers.Control, "csp-reports"), "browsers' reports come from pages, not from people: answered here, they need no cookie, no app and no rules",
		func(c *Config) guard.Mode { return c.Headers.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return headers.NewReports(c.Headers, e) }},
	{spec(settings.Control, "cors"), "who may read an answer is judged beside who may ask for it; it acts on the answer",
		func(c *Config) guard.Mode { return c.Settings.CORS }, func(c *Config, e guard.Env) (guard.Layer, error) { return settings.NewCORS(c.Settings, e) }},
	{spec(session.Control, "session"), "whose session it is is known before anything is decided about it, and no forged one gets further",
		func(c *Config) guard.Mode { return c.Session.SealMode(c.App.Upstream != "") }, func(c *Config, e guard.Env) (guard.Layer, error) {
			return session.NewSession(c.Session, c.App.Upstream != "", e)
		}},
	{spec(authn.Control, "authn"), "who asks is proven before anything is done for them, and is known to every layer behind",
		func(c *Config) guard.Mode { return c.Authn.LayerMode() }, func(c *Config, e guard.Env) (guard.Layer, error) { return authn.NewAuthn(c.Authn, e) }},
	{spec(csrf.Control, "csrf"), "where a request comes from is known from its head: no body is read for a forged one",
		func(c *Config) guard.Mode { return c.CSRF.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return csrf.NewCSRF(c.CSRF, e) }},
	{spec(injection.Control, "routes"), "what the app has no route for needs no body, and nothing of the app",
		func(c *Config) guard.Mode { return c.Injection.Routes }, func(c *Config, e guard.Env) (guard.Layer, error) { return injection.NewRoutes(c.Injection, e) }},
	{spec(uploads.Control, "body"), "the whole body is here, bounded, before rules read it or the app is bothered",
		func(c *Config) guard.Mode { return c.Uploads.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return uploads.NewBody(c.Uploads, e) }},
	{spec(abuse.Control, "login"), "what is tried is known once the body is here; the answer tells what came of it",
		func(c *Config) guard.Mode { return c.Abuse.Login }, func(c *Config, e guard.Env) (guard.Layer, error) { return abuse.NewLogin(c.Abuse, e) }},
	{spec(injection.Control, "parameters"), "fields are compared with what the source reads once the body is here",
		func(c *Config) guard.Mode { return c.Injection.Parameters }, func(c *Config, e guard.Env) (guard.Layer, error) { return injection.NewParameters(c.Injection, e) }},
	{spec(injection.Control, "virtual-patches"), "what the audit found open is held shut at the very parameter, before a net with holes is asked",
		func(c *Config) guard.Mode { return c.Injection.VirtualPatches }, func(c *Config, e guard.Env) (guard.Layer, error) { return injection.NewPatches(c.Injection, e) }},
	{spec(uploads.Control, "files"), "what a file holds costs more than anything before; rules read the body that the app will get",
		func(c *Config) guard.Mode { return c.Uploads.Files }, func(c *Config, e guard.Env) (guard.Layer, error) { return uploads.NewFiles(c.Uploads, e) }},
	{spec(injection.Control, "waf"), "the most expensive look comes last, at what nothing cheaper refused",
		func(c *Config) guard.Mode { return c.Injection.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return injection.NewWAF(c.Injection, e) }},
	{spec(settings.Control, "mask"), "an answer that gives the app away is replaced before anything is added to it",
		func(c *Config) guard.Mode { return c.Settings.Mask }, func(c *Config, e guard.Env) (guard.Layer, error) { return settings.NewMask(c.Settings, e) }},
	{spec(session.Control, "cookies"), "cookies are hardened on whatever answer is left",
		func(c *Config) guard.Mode { return c.Session.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return session.NewCookies(c.Session, e) }},
	{spec(headers.Control, "headers"), "the last word on every header, the error page's included",
		func(c *Config) guard.Mode { return c.Headers.Mode }, func(c *Config, e guard.Env) (guard.Layer, error) { return headers.NewHeaders(c.Headers, e) }},
}

// spec returns the layer of a control by its name. A name that is not there is
// a mistake in the table above, found when any test starts.
func spec(c *control.Control, name string) *guard.Spec {
	for _, l := range c.Layers {
		if l.Name == name {
			return l
		}
	}
	panic(fmt.Sprintf("catalog: control %s has no layer %q", c.ID, name))
}

// Bind makes every layer from the settings, in the order of traffic. One that
// is off everywhere is not made: the WAF's rules alone take 40 MB.
func Bind(c *Config, env guard.Env) ([]guard.Bound, error) {
	if env.Publish == nil {
		env.Publish = func(event.Event) {}
	}
	var out []guard.Bound
	for _, l := range Layers {
		mode := l.Mode(c)
		if mode == guard.Off && !slices.ContainsFunc(c.Routes, func(o guard.Override) bool {
			m, ok := o.Modes[l.Spec.Name]
			return ok && m != guard.Off
		}) {
			why := ""
			if f := idle[l.Spec.Name]; f != nil {
				why = f(c)
			}
			out = append(out, guard.Bound{Spec: l.Spec, Layer: absent{why}, Mode: mode})
			continue
		}
		layer, err := l.New(c, env)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Spec.Name, err)
		}
		out = append(out, guard.Bound{Spec: l.Spec, Layer: layer, Mode: mode})
	}
	return out, nil
}

// idle says, for layers that are off until something is configured, what is
// missing; "" when the settings have switched the layer off.
var idle = map[string]func(*Config) string{
	"authn": func(c *Config) string { return c.Authn.Idle() },
}

// absent stands for a layer that is off on every route, and says why.
type absent struct{ why string }

// Idle implements [guard.Idler].
func (a absent) Idle() string { return a.why }

// Request implements [guard.Layer]. The chain never calls it.
func (absent) Request(*guard.Exchange) guard.Decision { return guard.Pass() }
