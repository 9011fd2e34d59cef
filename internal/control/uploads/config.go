package uploads

import (
	"fmt"

	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [uploads] section of dewar.toml: how large and of what kind a
// request body may be.
type Config struct {
	Mode          guard.Mode `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the body layer."`
	MaxBody       guard.Size `toml:"max-body" default:"10 MB" jsonschema_description:"Largest request body; a route's max-body goes before."`
	MaxForm       guard.Size `toml:"max-form" default:"1 MB" jsonschema_description:"Largest form, JSON, XML or text body, and the most that the fields of a multipart body may hold together, files not counted."`
	MaxFile       guard.Size `toml:"max-file" default:"10 MB" jsonschema_description:"Largest single file in a multipart body."`
	MaxFiles      int        `toml:"max-files" default:"20" jsonschema:"minimum=1" jsonschema_description:"Most files in one multipart body."`
	MaxFields     int        `toml:"max-fields" default:"1000" jsonschema:"minimum=1" jsonschema_description:"Most fields in one multipart body."`
	ContentTypes  []string   `toml:"content-types" jsonschema_description:"Content types of request bodies that are accepted, such as \"application/json\" or \"image/*\". Empty: all."`
	RequireLength bool       `toml:"require-length" jsonschema_description:"Refuse bodies whose length is not announced (chunked transfer coding)."`
	Directories   bool       `toml:"directories" jsonschema_description:"Accept relative paths in file names, as browsers send them when a visitor uploads a whole directory."`
}

// withDefaults fills in what the zero Config leaves open, with the values of
// the default tags, and refuses values that contradict one another.
func (c Config) withDefaults() (Config, error) {
	for _, s := range []struct {
		name string
		p    *guard.Size
		v    guard.Size
	}{{"max-body", &c.MaxBody, 10 << 20}, {"max-form", &c.MaxForm, 1 << 20}, {"max-file", &c.MaxFile, 10 << 20}} {
		if *s.p == 0 {
			*s.p = s.v
		}
		if *s.p < 0 {
			return c, fmt.Errorf("[uploads] %s must be positive", s.name)
		}
	}
	for _, n := range []struct {
		name string
		p    *int
		v    int
	}{{"max-files", &c.MaxFiles, 20}, {"max-fields", &c.MaxFields, 1000}} {
		if *n.p == 0 {
			*n.p = n.v
		}
		if *n.p < 0 {
			return c, fmt.Errorf("[uploads] %s must be positive", n.name)
		}
	}
	for _, t := range c.ContentTypes {
		if !validTypePattern(t) {
			return c, fmt.Errorf("[uploads] content-types: %q is not a content type: write \"application/json\" or \"image/*\"", t)
		}
	}
	return c, nil
}
