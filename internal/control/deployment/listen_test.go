package deployment

import (
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

// TestSettingsThatDoNothing: a setting that another one makes void is an
// error that names both and a way out.
func TestSettingsThatDoNothing(t *testing.T) {
	second := guard.Duration(1e9)
	base := Config{
		Listen: []string{":443"}, ListenHTTP: []string{":80"}, TLS: "files", MaxConns: 4096, MaxPerClient: 512, MaxHeader: 32 << 10,
		Timeout: second, HeaderTimeout: second, BodyTimeout: second, IdleTimeout: second, Grace: second,
		ACME: ACME{Directory: "https://acme-v02.api.letsencrypt.org/directory", Challenges: []string{"http-01", "tls-alpn-01"}, DNSAlgorithm: "hmac-sha256"},
	}
	if p := base.Problems(); len(p) > 0 {
		t.Fatalf("%+v", p)
	}
	for _, c := range []struct {
		name, key, fix string
		change         func(*Config)
	}{
		{"PROXY protocol and HTTP/3", "http3", "Leave one of the two out", func(c *Config) { c.HTTP3, c.ProxyProtocol = true, []string{"10.0.0.1"} }},
		{"HTTP/3 alone", "", "", func(c *Config) { c.HTTP3 = true }},
		{"PROXY protocol alone", "", "", func(c *Config) { c.ProxyProtocol = []string{"10.0.0.1"} }},
		{"paths that want certificates, and nobody asks", "client-certificate", "enforce", func(c *Config) {
			c.ClientCA, c.ClientCertPaths, c.ClientCert = "ca.pem", []string{"/admin/**"}, guard.Off
		}},
		{"they are observed", "", "", func(c *Config) {
			c.ClientCA, c.ClientCertPaths, c.ClientCert = "ca.pem", []string{"/admin/**"}, guard.Observe
		}},
		{"off without paths", "", "", func(c *Config) { c.ClientCA, c.ClientCert = "ca.pem", guard.Off }},
		{"more for one than for all", "max-connections-per-client", "write less", func(c *Config) { c.MaxConns = 100 }},
		{"no limit for one", "", "", func(c *Config) { c.MaxConns, c.MaxPerClient = 100, 0 }},
		{"names for nobody", "acme.names", `tls = "acme"`, func(c *Config) { c.ACME.Names = []string{"shop.example.com"} }},
		{"an authority for nobody", "acme.directory", "take the section away", func(c *Config) { c.ACME.Directory = "https://ca.example/dir" }},
		{"challenges for nobody", "acme.challenges", "take the section away", func(c *Config) { c.ACME.Challenges = []string{"http-01"} }},
		{"an authority in use", "", "", func(c *Config) {
			c.TLS, c.ACME.Names, c.ACME.Directory = "acme", []string{"shop.example.com"}, "https://ca.example/dir"
		}},
	} {
		cfg := base
		c.change(&cfg)
		p := cfg.Problems()
		switch {
		case c.key == "" && len(p) > 0:
			t.Errorf("%s: %+v", c.name, p)
		case c.key != "" && (len(p) != 1 || p[0].Key != c.key || !strings.Contains(p[0].Message, c.fix)):
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}
