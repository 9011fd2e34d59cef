package csrf

import "github.com/dewar-security/dewar/internal/guard"

// Config is the [csrf] section of dewar.toml.
type Config struct {
	Mode           guard.Mode `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the csrf layer. Exempt single routes with [[route]] and modes = { csrf = \"observe\" }."`
	TrustedOrigins []string   `toml:"trusted-origins" jsonschema_description:"Other origins whose pages may change state here, exact, such as https://admin.shop.example. Sibling subdomains are not trusted unless listed."`
	SessionCookies []string   `toml:"session-cookies" jsonschema_description:"Cookies, beside the app's session and remember cookies, that prove who the visitor is. Names that contain sess, auth, token, jwt or remember count without being listed."`
	Token          bool       `toml:"token" jsonschema_description:"Put a hidden token into the app's own HTML forms, for browsers and other clients that send neither Origin nor Sec-Fetch-Site with a session cookie: with the token (a signed double-submit cookie) they are let in instead of refused. Off by default: pages with forms are rewritten, and every current browser says where a request comes from."`
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	for _, s := range c.TrustedOrigins {
		if _, err := guard.ParseOrigin(s); err != nil {
			out = append(out, guard.Problem{Key: "trusted-origins", Message: err.Error()})
		}
	}
	return out
}
