package session

import "github.com/dewar-security/dewar/internal/guard"

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
