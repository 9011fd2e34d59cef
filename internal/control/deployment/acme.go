package deployment

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

// ACME is the [deployment.acme] section: certificates from an authority that
// speaks ACME (RFC 8555), with tls = "acme".
type ACME struct {
	Names         []string `toml:"names" jsonschema_description:"Names to get certificates for. Empty: those of deployment.allowed-hosts. *.example.com wants dns-01."`
	Email         string   `toml:"email" jsonschema_description:"Where the authority may write to. By using tls = \"acme\" you agree to its terms."`
	Directory     string   `toml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory" jsonschema_description:"URL of the authority's directory."`
	TrustedRoot   string   `toml:"trusted-root" file:"project" jsonschema_description:"PEM file with the root that the authority's own address is verified by, for one inside a company. Empty: the system's roots."`
	Challenges    []string `toml:"challenges" default:"http-01,tls-alpn-01" jsonschema_description:"How the authority sees that a name is ours: http-01 (needs port 80 to arrive at listen-http), tls-alpn-01 (port 443 at listen), or dns-01 alone (needs the dns- settings)."`
	Profile       string   `toml:"profile" jsonschema_description:"Certificate profile of the authority, such as shortlived."`
	Storage       string   `toml:"storage" jsonschema_description:"Folder for keys, certificates and the account, for this user only, or \"shared\" for the store that several nodes share. Empty: acme below $STATE_DIRECTORY or below dewar in the user's data folder."`
	StorageSecret string   `toml:"storage-secret" jsonschema_description:"What private keys are sealed with in a shared store: env:NAME or file:/path."`
	EABKey        string   `toml:"eab-key" jsonschema_description:"Key id of the external account binding that some authorities ask for."`
	EABSecret     string   `toml:"eab-secret" jsonschema_description:"Its secret: env:NAME or file:/path."`
	DNSServer     string   `toml:"dns-server" jsonschema_description:"For dns-01: the name server that takes dynamic updates (RFC 2136), with a port if it is not 53."`
	DNSZone       string   `toml:"dns-zone" jsonschema_description:"The zone that is updated. Empty: found by asking the server."`
	DNSKey        string   `toml:"dns-key" jsonschema_description:"Name of the TSIG key that signs updates."`
	DNSSecret     string   `toml:"dns-secret" jsonschema_description:"The TSIG key, in base64: env:NAME or file:/path."`
	DNSAlgorithm  string   `toml:"dns-algorithm" default:"hmac-sha256" jsonschema:"enum=hmac-sha256,enum=hmac-sha384,enum=hmac-sha512" jsonschema_description:"Algorithm of the TSIG key."`
}

// ACMENames returns the names to get certificates for.
func (c *Config) ACMENames() []string {
	if len(c.ACME.Names) > 0 {
		return c.ACME.Names
	}
	var out []string
	for _, h := range c.AllowedHosts {
		name, below := strings.CutPrefix(strings.ToLower(h), ".")
		out = append(out, name)
		if below {
			out = append(out, "*."+name)
		}
	}
	return out
}

// changed returns the settings that are not at their defaults.
func (a *ACME) changed() []string {
	var out []string
	v := reflect.ValueOf(a).Elem()
	for i := range v.NumField() {
		value, tag := v.Field(i), v.Type().Field(i).Tag
		text := fmt.Sprint(value.Interface())
		if list, ok := value.Interface().([]string); ok {
			text = strings.Join(list, ",")
		}
		if text != "" && text != tag.Get("default") {
			out = append(out, tag.Get("toml"))
		}
	}
	return out
}

// acmeProblems reports what cannot work.
func (c *Config) acmeProblems() []guard.Problem {
	var out []guard.Problem
	bad := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: "acme." + key, Message: fmt.Sprintf(format, args...)})
	}
	a := &c.ACME
	for _, s := range []struct{ key, ref string }{{"acme.storage-secret", a.StorageSecret}, {"acme.eab-secret", a.EABSecret}, {"acme.dns-secret", a.DNSSecret}, {"ticket-secret", c.TicketSecret}} {
		if s.ref != "" && !strings.HasPrefix(s.ref, "env:") && !strings.HasPrefix(s.ref, "file:") {
			out = append(out, guard.Problem{Key: s.key, Message: "a secret does not stand in settings: write env:NAME or file:/path"})
		}
	}
	if c.TLS != "acme" {
		if set := a.changed(); len(set) > 0 {
			bad(set[0], "nothing reads [deployment.acme] with tls = %q: write tls = \"acme\", or take the section away", c.TLS)
		}
		return out
	}
	dns := slices.Contains(a.Challenges, "dns-01")
	for _, ch := range a.Challenges {
		if !slices.Contains([]string{"http-01", "tls-alpn-01", "dns-01"}, ch) {
			bad("challenges", "%q is none: write http-01, tls-alpn-01 or dns-01", ch)
		}
	}
	switch {
	case len(a.Challenges) == 0:
		bad("challenges", "with none no certificate can be had: write http-01, tls-alpn-01 or dns-01")
	case dns && len(a.Challenges) > 1:
		bad("challenges", "dns-01 is used alone: leave the others out")
	case dns && (a.DNSServer == "" || a.DNSKey == "" || a.DNSSecret == ""):
		bad("challenges", "dns-01 needs dns-server, dns-key and dns-secret")
	}
	names := c.ACMENames()
	if len(names) == 0 {
		bad("names", "no name to get a certificate for: list them here or in deployment.allowed-hosts")
	}
	for _, n := range names {
		host, wild := strings.CutPrefix(n, "*.")
		_, _, err := guard.SplitAuthority(host)
		switch {
		case err != nil || strings.ContainsAny(host, "*:/") || !strings.Contains(host, ".") || net.ParseIP(host) != nil:
			bad("names", "%q is no public name: an authority gives certificates for names such as shop.example.com", n)
		case wild && !dns:
			bad("names", "%q: a wildcard wants challenges = [\"dns-01\"] (RFC 8555, 7.1.3); list the single names otherwise", n)
		}
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		bad("directory", "%q is no https URL", a.Directory)
	}
	if a.Email != "" && !strings.Contains(a.Email, "@") {
		bad("email", "%q is no address", a.Email)
	}
	if a.Storage == "shared" && a.StorageSecret == "" {
		bad("storage-secret", "in a shared store private keys are sealed: give the secret")
	}
	if a.EABKey != "" && a.EABSecret == "" {
		bad("eab-secret", "eab-key has no secret beside it")
	}
	return out
}

// Secret reads what a setting refers to: env:NAME in the environment given, or
// file:/path, whose last line ends are left out. A file that everybody on the
// machine can read keeps no secret and is refused.
func Secret(ref string, environ []string, dir string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		for _, kv := range environ {
			if k, v, _ := strings.Cut(kv, "="); k == name && v != "" {
				return v, nil
			}
		}
		return "", fmt.Errorf("$%s is not set", name)
	}
	name, ok := strings.CutPrefix(ref, "file:")
	if !ok || name == "" {
		return "", fmt.Errorf("write env:NAME or file:/path")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return "", err
	case !st.Mode().IsRegular() || st.Size() > 64<<10:
		return "", fmt.Errorf("%s is no file with a secret", name)
	case st.Mode().Perm()&0o004 != 0:
		return "", fmt.Errorf("%s can be read by everybody on this machine (mode %04o): chmod 600 it", name, st.Mode().Perm())
	}
	b, err := os.ReadFile(name)
	s := strings.TrimRight(string(b), "\r\n")
	if err == nil && s == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	return s, err
}
