package session

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [session] section of dewar.toml: the app's cookies.
type Config struct {
	Mode       guard.Mode `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the cookies layer."`
	Cookies    []string   `toml:"cookies" jsonschema_description:"More cookies that prove who the visitor is, and so get HttpOnly. The app's session and remember cookies need no entry."`
	JSReadable []string   `toml:"js-readable" jsonschema_description:"Cookies that the app's own scripts read and that never get HttpOnly, such as \"csrf_token\"."`
	SameSite   string     `toml:"same-site" default:"Lax" jsonschema:"enum=Lax,enum=Strict" jsonschema_description:"SameSite for cookies that the app sets without one. What the app says explicitly stays."`
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
	for _, l := range []struct {
		key  string
		list []string
	}{{"cookies", c.Cookies}, {"js-readable", c.JSReadable}} {
		for _, name := range l.list {
			if name == "" || strings.ContainsAny(name, "=; \t\r\n") {
				out = append(out, guard.Problem{Key: l.key, Message: fmt.Sprintf("%q is not a cookie's name", name)})
			}
		}
	}
	for _, name := range c.JSReadable {
		if slices.Contains(c.Cookies, name) {
			out = append(out, guard.Problem{Key: "js-readable", Message: fmt.Sprintf("%q stands in cookies too: a session cookie that scripts can read is stolen by the first injected script", name)})
		}
	}
	return out
}
