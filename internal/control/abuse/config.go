package abuse

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// Config is the [abuse] section of dewar.toml.
//
// The general rate is for people: a page with sixty files, a whole office
// behind one address. It stops floods and careless scrapers. The sensitive
// rate is for guessing and counts only requests that can guess.
type Config struct {
	Bans          guard.Mode     `toml:"bans" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the bans layer."`
	RateLimit     guard.Mode     `toml:"rate-limit" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the rate-limit layer."`
	Rate          store.Rate     `toml:"rate" default:"1200/m burst 400" jsonschema_description:"What one client may ask for, such as \"1200/m burst 400\", or \"off\"."`
	SensitiveRate store.Rate     `toml:"sensitive-rate" default:"10/m burst 20" jsonschema_description:"What one client may send (POST, PUT, PATCH, DELETE) to the paths in sensitive, all of them together."`
	Sensitive     []string       `toml:"sensitive" default:"**/login,**/log-in,**/logon,**/signin,**/sign-in,**/auth,**/auth/**,**/signup,**/sign-up,**/register,**/forgot*,**/forgot*/**,**/reset*,**/reset*/**,**/password*,**/password*/**,**/token,**/2fa,**/2fa/**,**/mfa,**/mfa/**,**/otp,**/otp/**" jsonschema_description:"Patterns of the paths where guessing pays: login, registration, password reset, tokens, second factors. Compared without regard to case."`
	Allow         []string       `toml:"allow" jsonschema_description:"Addresses or networks without limit, such as the monitoring's: 203.0.113.7, 2001:db8::/48."`
	Lists         []string       `toml:"lists" jsonschema_description:"Files of networks to refuse: an address, a network or an autonomous system (AS64500) a line, # and ; begin comments. Read again when they change; abuse.allow wins."`
	ASNDatabase   string         `toml:"asn-database" jsonschema_description:"Database in MaxMind's format that says which autonomous system announces an address, such as GeoLite2-ASN.mmdb. Read again when it changes."`
	ASNs          []int          `toml:"asns" jsonschema_description:"Numbers of autonomous systems to refuse, looked up in asn-database."`
	BanAfter      store.Rate     `toml:"ban-after" default:"100/10m" jsonschema_description:"How many points for refused attacks (ban-points) ban a client, or \"off\". Visitors' browsers that another site's page made ask collect none; this machine, trusted proxies and abuse.allow are never banned."`
	BanFor        guard.Duration `toml:"ban-for" default:"1h" jsonschema_description:"How long such a ban lasts, and \"dewar ban add\" without --for."`
	BanPoints     map[string]int `toml:"ban-points" jsonschema_description:"What a refusal counts, by the event's name, over the built-in numbers: 10 for malicious_attack_tool, malicious_direct_reference, malicious_credential_stuffing and malicious_password_spraying, 2 for input_validation_fail, upload_validation and authn_login_fail_max, none for any other."`
	IPv4Prefix    int            `toml:"ipv4-prefix" default:"32" jsonschema:"minimum=8,maximum=32" jsonschema_description:"How many leading bits of an IPv4 address make one client."`
	IPv6Prefix    int            `toml:"ipv6-prefix" default:"64" jsonschema:"minimum=16,maximum=128" jsonschema_description:"How many leading bits of an IPv6 address make one client: one subscriber commonly has a whole /64 (RFC 6177)."`
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	for _, s := range c.Sensitive {
		if err := guard.CheckPattern(s); err != nil {
			out = append(out, guard.Problem{Key: "sensitive", Message: err.Error()})
		}
	}
	for _, s := range c.Allow {
		if _, err := parseNetwork(s); err != nil {
			out = append(out, guard.Problem{Key: "allow", Message: err.Error()})
		}
	}
	if len(c.Lists) > maxLists {
		out = append(out, guard.Problem{Key: "lists", Message: fmt.Sprintf("more than %d files", maxLists)})
	}
	for _, n := range c.ASNs {
		if n <= 0 || int64(n) > math.MaxUint32 {
			out = append(out, guard.Problem{Key: "asns", Message: fmt.Sprintf("%d is no autonomous system: write 1 to 4294967295", n)})
		}
	}
	if len(c.ASNs) > 0 && c.ASNDatabase == "" {
		out = append(out, guard.Problem{Key: "asns", Message: "there is no asn-database to look addresses up in"})
	}
	if d := time.Duration(c.BanFor); d > maxBanFor {
		out = append(out, guard.Problem{Key: "ban-for", Message: fmt.Sprintf("%s is longer than 366d: nothing here is for ever", c.BanFor)})
	}
	for name, n := range c.BanPoints {
		if !slices.ContainsFunc(event.Names, func(e event.Name) bool { return e.Name == name }) {
			out = append(out, guard.Problem{Key: "ban-points", Message: fmt.Sprintf("there is no event %q: docs/events.md lists them", name)})
		}
		if n < 0 || n > 1_000_000 {
			out = append(out, guard.Problem{Key: "ban-points", Message: fmt.Sprintf("%s = %d: write 0 to 1000000", name, n)})
		}
	}
	// 0 is a Config nobody decoded: New takes the defaults for it.
	if p := c.IPv4Prefix; p != 0 && (p < 8 || p > 32) {
		out = append(out, guard.Problem{Key: "ipv4-prefix", Message: fmt.Sprintf("%d is out of range: write 8 to 32", p)})
	}
	if p := c.IPv6Prefix; p != 0 && (p < 16 || p > 128) {
		out = append(out, guard.Problem{Key: "ipv6-prefix", Message: fmt.Sprintf("%d is out of range: write 16 to 128", p)})
	}
	return out
}

// parseNetwork reads an address or a network in CIDR form.
func parseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network in IPv6 clothes: write it as IPv4", s)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network: write 203.0.113.7 or 2001:db8::/48", s)
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
