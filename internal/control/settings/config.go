package settings

import "github.com/dewar-security/dewar/internal/guard"

// Config is the [settings] section of dewar.toml: what must not be seen
// outside of development.
type Config struct {
	NeverPublic guard.Mode `toml:"never-public" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the never-public layer: debugger, repository folders, dotfiles, backups, keys and databases answer 404."`
	Private     []string   `toml:"private" jsonschema_description:"More paths that nobody outside may see, as patterns: /internal/**, **/*.log."`
	Public      []string   `toml:"public" jsonschema_description:"Paths that look private and are not, as patterns: /console, /downloads/*.db. The app's own fixed rules need no entry."`
	CORS        guard.Mode `toml:"cors" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the cors layer, which takes back permission to read answers with the visitor's cookies from origins not listed in cors-origins."`
	CORSOrigins []string   `toml:"cors-origins" jsonschema_description:"Origins of other sites that may read answers with the visitor's cookies, such as https://app.partner.example. Origins of the same site over the same scheme need no entry."`
	Mask        guard.Mode `toml:"mask" default:"enforce" development:"observe" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the mask layer, which replaces tracebacks and debugger pages by the error page."`
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	for _, p := range []struct {
		key  string
		list []string
	}{{"private", c.Private}, {"public", c.Public}} {
		for _, s := range p.list {
			if err := guard.CheckPattern(s); err != nil {
				out = append(out, guard.Problem{Key: p.key, Message: err.Error()})
			}
		}
	}
	for _, s := range c.CORSOrigins {
		if _, err := guard.ParseOrigin(s); err != nil {
			out = append(out, guard.Problem{Key: "cors-origins", Message: err.Error()})
		}
	}
	return out
}
