package abuse

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
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
	Bans           guard.Mode     `toml:"bans" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the bans layer."`
	RateLimit      guard.Mode     `toml:"rate-limit" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the rate-limit layer."`
	Rate           store.Rate     `toml:"rate" default:"1200/m burst 400" jsonschema_description:"What one client may ask for, such as \"1200/m burst 400\", or \"off\"."`
	SensitiveRate  store.Rate     `toml:"sensitive-rate" default:"20/m burst 25" jsonschema_description:"What one client may send (POST, PUT, PATCH, DELETE) to the paths in sensitive, all of them together."`
	Sensitive      []string       `toml:"sensitive" default:"**/login,**/log-in,**/logon,**/signin,**/sign-in,**/auth,**/auth/**,**/signup,**/sign-up,**/register,**/forgot*,**/forgot*/**,**/reset*,**/reset*/**,**/password*,**/password*/**,**/token,**/2fa,**/2fa/**,**/mfa,**/mfa/**,**/otp,**/otp/**" jsonschema_description:"Patterns of the paths where guessing pays: login, registration, password reset, tokens, second factors. Compared without regard to case."`
	Allow          []string       `toml:"allow" jsonschema_description:"Addresses or networks without limit, such as the monitoring's: 203.0.113.7, 2001:db8::/48."`
	Lists          []string       `toml:"lists" jsonschema_description:"Files of networks to refuse: an address, a network or an autonomous system (AS64500) a line, # and ; begin comments. Read again when they change; abuse.allow wins."`
	ASNDatabase    string         `toml:"asn-database" jsonschema_description:"Database in MaxMind's format that says which autonomous system announces an address, such as GeoLite2-ASN.mmdb. Read again when it changes."`
	ASNs           []int          `toml:"asns" jsonschema_description:"Numbers of autonomous systems to refuse, looked up in asn-database."`
	BanAfter       store.Rate     `toml:"ban-after" default:"100/10m" jsonschema_description:"How many points for refused attacks (ban-points) ban a client, or \"off\". Visitors' browsers that another site's page made ask collect none; this machine, trusted proxies and abuse.allow are never banned. It wants HTTPS: over plain http browsers do not say that another site's page made a request, so a page could have its visitors banned."`
	BanFor         guard.Duration `toml:"ban-for" default:"1h" jsonschema_description:"How long such a ban lasts, and \"dewar ban add\" without --for."`
	BanPoints      map[string]int `toml:"ban-points" jsonschema_description:"What a refusal counts, by the event's name, over the built-in numbers: 10 for malicious_direct_reference, 5 for malicious_attack_tool, malicious_session and malicious_script, 1 for input_validation_fail and upload_validation, none for any other."`
	Login          guard.Mode     `toml:"login" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the login layer: guessing."`
	LoginAccount   store.Rate     `toml:"login-account" default:"6/h burst 10" jsonschema_description:"How many failed logins one account may have from browsers that never logged in to it, and each browser that did. Then it is held, for other browsers only, until the rate allows another try."`
	LoginClient    store.Rate     `toml:"login-client" default:"60/h burst 30" jsonschema_description:"How many failed logins one client may have over all accounts; eight times as many a /24 of IPv4, four a /56 and sixteen a /48 of IPv6. What a user mistyped before a success does not count."`
	LoginDelay     guard.Duration `toml:"login-delay" default:"2s" jsonschema_description:"How long a login waits at most after failures, doubled from a tenth of a second from the third on. 64 wait at once at most; 0s means none."`
	AccountRate    store.Rate     `toml:"account-rate" default:"off" jsonschema_description:"What one logged-in account may ask for, from all its clients together, such as \"600/m burst 200\"."`
	Spraying       int            `toml:"spraying" default:"15" jsonschema:"minimum=0,maximum=60000" jsonschema_description:"On how many accounts one password is tried without success within 10 minutes before that is an attack; 0 means never."`
	Stuffing       int            `toml:"stuffing" default:"100" jsonschema:"minimum=0" jsonschema_description:"How many failed logins from unknown browsers within 10 minutes, over many accounts, are an attack: when they are three times as many as succeed, or five times as many as usual; 0 means never."`
	Challenge      string         `toml:"challenge" default:"pow" jsonschema:"enum=pow,enum=page,enum=off" jsonschema_description:"What an unknown browser does before another try when half of the failures are used up, or during an attack: pow (a proof of work on a page of the guard's), page (a page of the operator's, such as one with a CAPTCHA: challenge-page) or off. Forms that no browser sent get 429 during an attack."`
	ChallengePage  string         `toml:"challenge-page" jsonschema_description:"Address of the operator's page for challenge = \"page\": https://check.example/captcha. It is opened with the parameters ticket and back; who passes is sent to the address in back with dewar-proof=TICKET.TAG added to its query, TAG being the base64url form (without padding) of the HMAC-SHA256 of the ticket under challenge-secret."`
	ChallengeKey   string         `toml:"challenge-secret" jsonschema_description:"The secret that signs for challenge-page, as env:NAME or file:/path; at least 32 characters."`
	ChallengeBits  int            `toml:"challenge-bits" default:"18" jsonschema:"minimum=8,maximum=28" jsonschema_description:"Difficulty of the proof of work: 18 means some 260,000 hashes, about a second. Each more doubles it."`
	Breached       string         `toml:"breached" jsonschema_description:"File of SHA-1 hashes of known passwords, one a line in ascending order, as Have I Been Pwned publishes it. Searched where it lies. Empty: only a built-in list of the 3,000 most common."`
	BreachedRefuse bool           `toml:"breached-refuse" jsonschema_description:"Refuse known passwords with 422 where one is chosen: registration, reset, change. They are reported in any case."`
	StoreGone      store.Gone     `toml:"store-gone" default:"share" jsonschema_description:"What rate allows while the store that nodes share (store.url) is gone: share (this node its part, by store.nodes), tighten (half of that), refuse (nothing) or pass (everything)."`
	LoginStoreGone store.Gone     `toml:"login-store-gone" default:"tighten" jsonschema_description:"The same for sensitive-rate, logins, resets and account-rate."`
	IPv4Prefix     int            `toml:"ipv4-prefix" default:"32" jsonschema:"minimum=8,maximum=32" jsonschema_description:"How many leading bits of an IPv4 address make one client."`
	IPv6Prefix     int            `toml:"ipv6-prefix" default:"64" jsonschema:"minimum=16,maximum=128" jsonschema_description:"How many leading bits of an IPv6 address make one client: one subscriber commonly has a whole /64 (RFC 6177)."`
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
	switch c.Challenge {
	case "", "pow", "off":
	case "page":
		u, err := url.Parse(c.ChallengePage)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
			out = append(out, guard.Problem{Key: "challenge-page", Message: fmt.Sprintf("%q is no address of a page: write https://check.example/captcha", c.ChallengePage)})
		}
		if !strings.HasPrefix(c.ChallengeKey, "env:") && !strings.HasPrefix(c.ChallengeKey, "file:") {
			out = append(out, guard.Problem{Key: "challenge-secret", Message: "write env:NAME or file:/path: a secret has no place in a settings file"})
		}
	default:
		out = append(out, guard.Problem{Key: "challenge", Message: fmt.Sprintf("%q: write \"pow\", \"page\" or \"off\"", c.Challenge)})
	}
	if b := c.ChallengeBits; b != 0 && (b < 8 || b > 28) {
		out = append(out, guard.Problem{Key: "challenge-bits", Message: fmt.Sprintf("%d is out of range: write 8 to 28", b)})
	}
	if c.Spraying < 0 || c.Spraying > 60000 {
		out = append(out, guard.Problem{Key: "spraying", Message: fmt.Sprintf("%d is out of range: write 0 to 60000", c.Spraying)})
	}
	if c.Stuffing < 0 {
		out = append(out, guard.Problem{Key: "stuffing", Message: fmt.Sprintf("%d is out of range: write 0 or more", c.Stuffing)})
	}
	for key, r := range map[string]store.Rate{"login-account": c.LoginAccount, "login-client": c.LoginClient} {
		if r.Requests > 1_000_000 || r.Burst > 1_000_000 {
			out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf("%s is no limit: write \"off\"", r)})
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
