package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// SealMode is the mode of the session layer in the settings.
type SealMode string

// The values of [Config.Seal]. The zero value is SealAuto.
const (
	SealAuto    SealMode = "auto"
	SealEnforce SealMode = "enforce"
	SealObserve SealMode = "observe"
	SealOff     SealMode = "off"
)

// SealMode returns the mode of the session layer. upstream says that
// something else runs the app.
func (c Config) SealMode(upstream bool) guard.Mode {
	switch c.Seal {
	case SealOff:
		return guard.Off
	case SealObserve:
		return guard.Observe
	case SealEnforce:
		return guard.Enforce
	}
	if upstream {
		return guard.Observe
	}
	return guard.Enforce
}

// complete fills in what a Config that no file made leaves out.
func (c Config) complete() Config {
	if c.Seal == "" {
		c.Seal = SealAuto
	}
	if c.Renew == 0 {
		c.Renew = guard.Duration(15 * time.Minute)
	}
	if c.RotateKeys == 0 {
		c.RotateKeys = guard.Duration(30 * 24 * time.Hour)
	}
	if c.Bind == "" {
		c.Bind = "observe"
	}
	return c
}

// Config is the [session] section of dewar.toml: the app's cookies.
type Config struct {
	Mode       guard.Mode `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the cookies layer."`
	Cookies    []string   `toml:"cookies" jsonschema_description:"More cookies that prove who the visitor is, and so get HttpOnly. The app's session and remember cookies need no entry."`
	JSReadable []string   `toml:"js-readable" jsonschema_description:"Cookies that the app's own scripts read and that never get HttpOnly, such as \"csrf_token\"."`
	SameSite   string     `toml:"same-site" default:"Lax" jsonschema:"enum=Lax,enum=Strict" jsonschema_description:"SameSite for cookies that the app sets without one. What the app says explicitly stays."`

	Seal          SealMode       `toml:"seal" default:"auto" development:"observe" jsonschema:"enum=auto,enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the session layer, which seals the app's session cookies. auto enforces where dewar runs the app and the app says how it keeps its sessions, and observes where something else runs it (app.upstream): there nobody can say which cookie is the session, and whether another program reads it. Where an app that is not behind this guard reads the same cookie (SESSION_COOKIE_DOMAIN and one SECRET_KEY for several hosts), it must be observe or off: a sealed cookie says nothing to it."`
	AlsoSeal      []string       `toml:"also-seal" jsonschema_description:"More cookies of the app to seal, such as a JWT in a cookie. Not for one that scripts or other programs read."`
	Adopt         guard.Duration `toml:"adopt" default:"0s" jsonschema_description:"How long after sealing was switched on the app's own cookies from before are taken over, if they verify under its key and that is not weak. 0s: everybody logs in once. Within that time a stolen SECRET_KEY still makes sessions."`
	Idle          guard.Duration `toml:"idle" default:"0s" jsonschema_description:"A session ends after so long without a request. 0s: after the app's own PERMANENT_SESSION_LIFETIME."`
	Lifetime      guard.Duration `toml:"lifetime" default:"30d" jsonschema_description:"A session ends so long after its login, however busy it is (NIST SP 800-63B: 30 days at most). 0s: never. A remember token may log in again at once."`
	Renew         guard.Duration `toml:"renew" default:"15m" jsonschema_description:"How long a sealed cookie is taken without asking the store whether its session is still there; then it is made anew. What ended is known at once all the same."`
	Grace         guard.Duration `toml:"grace" default:"10s" jsonschema_description:"How long requests that were on their way at a login or change of rights may still use the cookie from before. They stay who they were."`
	Bind          string         `toml:"bind" default:"observe" jsonschema:"enum=off,enum=observe,enum=agent,enum=network" jsonschema_description:"What happens to a session that is used elsewhere than where it was opened: off; observe (an event, once a day); agent (it ends where another browser uses it); network (also where another network does: phones change theirs all day)."`
	UserKeys      []string       `toml:"user-keys" default:"_user_id,user_id,userid,uid,user,username,account_id,account,member_id,customer_id,email,logged_in" jsonschema_description:"Keys of the app's session that hold the user's id; the first that is there counts."`
	PrivilegeKeys []string       `toml:"privilege-keys" default:"_fresh,role,roles,is_admin,admin,is_staff,is_superuser,superuser,permissions,groups,scopes,mfa,mfa_verified,two_factor,impersonator,impersonated_by" jsonschema_description:"Keys of the app's session that speak of rights: when one changes the session gets a new cookie, and the old one ends."`
	HostPrefix    bool           `toml:"host-prefix" default:"true" jsonschema_description:"Give sealed cookies the prefix __Host- over https, where the app sets Path=/ and no Domain: no other host can set such a cookie. The app sees its own name."`
	Keys          string         `toml:"keys" jsonschema_description:"What the sealing keys follow from, so that several nodes open each other's cookies: env:NAME or file:/path, 16 characters or more. Empty: store.secret when nodes share a store, else random keys in a file of this project's state that only you can read."`
	RotateKeys    guard.Duration `toml:"rotate-keys" default:"30d" jsonschema_description:"How often a new sealing key is made. Old ones open as long as a cookie can live."`
}

// sameSite returns the SameSite attribute to add.
func (c Config) sameSite() string {
	if c.SameSite == "Strict" {
		return "Strict"
	}
	return "Lax"
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	switch c.SameSite {
	case "", "Lax", "Strict":
	default:
		out = append(out, guard.Problem{Key: "same-site", Message: fmt.Sprintf("%q: write \"Lax\" or \"Strict\"", c.SameSite)})
	}
	switch c.Seal {
	case "", SealAuto, SealEnforce, SealObserve, SealOff:
	default:
		out = append(out, guard.Problem{Key: "seal", Message: fmt.Sprintf("%q: write \"auto\", \"enforce\", \"observe\" or \"off\"", c.Seal)})
	}
	switch c.Bind {
	case "", "off", "observe", "agent", "network":
	default:
		out = append(out, guard.Problem{Key: "bind", Message: fmt.Sprintf("%q: write \"off\", \"observe\", \"agent\" or \"network\"", c.Bind)})
	}
	for _, d := range []struct {
		key         string
		v           guard.Duration
		least, most time.Duration
		orZero      bool
	}{
		{"renew", c.Renew, time.Second, 24 * time.Hour, true}, {"rotate-keys", c.RotateKeys, time.Hour, 365 * 24 * time.Hour, true},
		{"grace", c.Grace, 0, time.Minute, true}, {"idle", c.Idle, time.Minute, 366 * 24 * time.Hour, true},
		{"lifetime", c.Lifetime, time.Minute, 366 * 24 * time.Hour, true}, {"adopt", c.Adopt, 0, 62 * 24 * time.Hour, true},
	} {
		if v := time.Duration(d.v); !(d.orZero && v == 0) && (v < d.least || v > d.most) {
			out = append(out, guard.Problem{Key: d.key, Message: fmt.Sprintf("%s: choose %s to %s", d.v, guard.Duration(d.least), guard.Duration(d.most))})
		}
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"user-keys", c.UserKeys}, {"privilege-keys", c.PrivilegeKeys}} {
		for _, name := range l.list {
			if name == "" || strings.ContainsAny(name, ", \t\r\n") {
				out = append(out, guard.Problem{Key: l.key, Message: fmt.Sprintf("%q is not the key of a session", name)})
			}
		}
	}
	for _, l := range []struct {
		key  string
		list []string
	}{{"cookies", c.Cookies}, {"js-readable", c.JSReadable}, {"also-seal", c.AlsoSeal}} {
		for _, name := range l.list {
			if name == "" || strings.ContainsAny(name, "=; \t\r\n") {
				out = append(out, guard.Problem{Key: l.key, Message: fmt.Sprintf("%q is not a cookie's name", name)})
			}
		}
	}
	for _, name := range c.JSReadable {
		if slices.Contains(c.AlsoSeal, name) {
			out = append(out, guard.Problem{Key: "js-readable", Message: fmt.Sprintf("%q stands in also-seal too: a script cannot read a sealed cookie", name)})
		}
		if slices.Contains(c.Cookies, name) {
			out = append(out, guard.Problem{Key: "js-readable", Message: fmt.Sprintf("%q stands in cookies too: a session cookie that scripts can read is stolen by the first injected script", name)})
		}
	}
	return out
}
