package authn

import (
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// TestProblems: settings that would let anybody in, or nobody, are errors that
// name the key.
func TestProblems(t *testing.T) {
	ok := func() Config {
		return Config{Provider: Provider{Issuer: "https://id.example", ClientID: "c", ClientSecret: "env:X"}, Bearer: Bearer{Audience: "api"}}
	}
	for _, tt := range []struct {
		key string // "" for no problem
		set func(*Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) { *c = Config{} }},
		{"", func(c *Config) { c.Provider.Issuer = "http://127.0.0.1:9000" }},
		{"", func(c *Config) { c.Provider.Issuer = "http://localhost:9000/realms/x" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "http://id.example" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "http://localhost.evil.example" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "id.example" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "https://user:pass@id.example" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "https://id.example/?x" }},
		{"provider.issuer", func(c *Config) { c.Provider.Issuer = "" }},
		{"provider.client-id", func(c *Config) { c.Provider.ClientID = "" }},
		{"provider.client-secret", func(c *Config) { c.Provider.ClientSecret = "hunter2" }},
		{"secrets", func(c *Config) { c.Secrets = []string{"0123456789abcdef0123456789abcdef"} }},
		{"secrets", func(c *Config) { c.Secrets = []string{""} }},
		{"provider.algorithms", func(c *Config) { c.Provider.Algorithms = []string{"RS256", "none"} }},
		{"provider.algorithms", func(c *Config) { c.Provider.Algorithms = []string{"HS256"} }},
		{"bearer.algorithms", func(c *Config) { c.Bearer.Algorithms = []string{"rs256"} }},
		{"provider.clock-skew", func(c *Config) { c.Provider.ClockSkew = guard.Duration(time.Hour) }},
		{"provider.scopes", func(c *Config) { c.Provider.Scopes = []string{"openid profile"} }},
		{"provider.origin", func(c *Config) { c.Provider.Origin = "shop.example" }},
		{"provider.origin", func(c *Config) { c.Provider.Origin = "https://shop.example/" }},
		{"provider.after-logout", func(c *Config) { c.Provider.AfterLogout = "//evil.example" }},
		{"provider.max-age", func(c *Config) { c.Provider.MaxAge = guard.Duration(time.Millisecond) }},
		{"session.idle", func(c *Config) {
			c.Session = Session{Idle: guard.Duration(2 * time.Hour), Absolute: guard.Duration(time.Hour)}
		}},
		{"session.idle", func(c *Config) { c.Session.Idle = guard.Duration(time.Second) }},
		{"session.absolute", func(c *Config) { c.Session.Absolute = guard.Duration(365 * 24 * time.Hour) }},
		{"path", func(c *Config) { c.Path = "/" }},
		{"path", func(c *Config) { c.Path = "/auth/" }},
		{"path", func(c *Config) { c.Path = "/a/../b" }},
		{"path", func(c *Config) { c.Path = "/<x>" }},
		{"bearer.audience", func(c *Config) { c.Bearer = Bearer{Issuer: "https://id.example"} }},
		{"bearer.issuer", func(c *Config) { c.Provider = Provider{} }},
		{"bearer.jwks-url", func(c *Config) { c.Bearer.JWKSURL = "http://id.example/keys" }},
		{"bearer.client-secret", func(c *Config) { c.Provider.ClientSecret = ""; c.Bearer.Introspection = "always" }},
		{"bearer.cache", func(c *Config) { c.Bearer.Cache = guard.Duration(24 * time.Hour) }},
		{"rule", func(c *Config) { c.Rules = []Rule{{Path: "admin"}} }},
		{"rule", func(c *Config) { c.Rules = []Rule{{Path: "/admin", Methods: []string{"post"}}} }},
		{"rule", func(c *Config) { c.Rules = []Rule{{Path: "/admin", Require: "anyone", Roles: []string{"x"}}} }},
		{"rule", func(c *Config) { c.Rules = []Rule{{Path: "/admin", Require: "nobody"}} }},
		{"rule", func(c *Config) { c.Rules = []Rule{{Path: "/admin", By: "cookie"}} }},
		{"rule", func(c *Config) { c.Bearer = Bearer{}; c.Rules = []Rule{{Path: "/admin", By: "bearer"}} }},
		{"rule", func(c *Config) { *c = Config{Rules: []Rule{{Path: "/admin"}}} }},
		{"default", func(c *Config) { *c = Config{Default: "login"} }},
		{"protect", func(c *Config) { *c = Config{Protect: "source"} }},
	} {
		c := ok()
		tt.set(&c)
		p := c.Problems()
		switch {
		case tt.key == "" && len(p) != 0:
			t.Errorf("%+v", p)
		case tt.key != "" && (len(p) == 0 || p[0].Key != tt.key):
			t.Errorf("%s: %+v", tt.key, p)
		}
		for _, p := range p {
			if strings.Contains(p.Message, "hunter2") {
				t.Errorf("%s: %s", p.Key, p.Message)
			}
		}
	}
	c := Config{}
	if c.LayerMode() != guard.Off || !strings.Contains(c.Idle(), "not configured") {
		t.Errorf("%v %q", c.LayerMode(), c.Idle())
	}
	c = ok()
	if c.LayerMode() != guard.Enforce || c.Idle() != "" {
		t.Errorf("%v %q", c.LayerMode(), c.Idle())
	}
}
