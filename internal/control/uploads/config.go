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
	Memory        guard.Size `toml:"memory" default:"64 MB" jsonschema_description:"Most memory that request bodies take together while they are gathered; beyond it they lie in unlinked files."`
	Disk          guard.Size `toml:"disk" default:"4 GB" jsonschema_description:"Most disk ($TMPDIR) that request bodies take together; beyond it they are refused with 503."`
	Directories   bool       `toml:"directories" jsonschema_description:"Accept relative paths in file names, as browsers send them when a visitor uploads a whole directory."`
}

// withDefaults fills in what the zero Config leaves open, with the values of
// the default tags.
func (c Config) withDefaults() Config {
	for _, s := range []struct {
		p *guard.Size
		v guard.Size
	}{{&c.MaxBody, 10 << 20}, {&c.MaxForm, 1 << 20}, {&c.MaxFile, 10 << 20}} {
		if *s.p == 0 {
			*s.p = s.v
		}
	}
	if c.MaxFiles == 0 {
		c.MaxFiles = 20
	}
	if c.MaxFields == 0 {
		c.MaxFields = 1000
	}
	return c
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	for _, n := range []struct {
		key string
		v   int64
	}{{"max-body", int64(c.MaxBody)}, {"max-form", int64(c.MaxForm)}, {"max-file", int64(c.MaxFile)}, {"memory", int64(c.Memory)}, {"disk", int64(c.Disk)}, {"max-files", int64(c.MaxFiles)}, {"max-fields", int64(c.MaxFields)}} {
		if n.v < 0 {
			out = append(out, guard.Problem{Key: n.key, Message: "must be positive"})
		}
	}
	for _, t := range c.ContentTypes {
		if !validTypePattern(t) {
			out = append(out, guard.Problem{Key: "content-types", Message: fmt.Sprintf("%q is not a content type: write \"application/json\" or \"image/*\"", t)})
		}
	}
	return out
}
