package abuse

import "net/netip"

// clients is how the layers of this control tell clients apart: by the
// address that the client layer established and by nothing else. Whatever a
// client could choose itself (a header, a cookie, the source port, the lower
// half of its IPv6 address) would be a fresh client per request.
type clients struct {
	allow  *networks
	v4, v6 int // leading bits that make one client
}

// newClients reads settings that [Config.Problems] has accepted.
func newClients(cfg Config) clients {
	c := clients{v4: cfg.IPv4Prefix, v6: cfg.IPv6Prefix}
	if c.v4 == 0 {
		c.v4 = 32
	}
	if c.v6 == 0 {
		c.v6 = 64
	}
	var allow []owned
	for _, s := range cfg.Allow {
		if p, err := parseNetwork(s); err == nil {
			allow = append(allow, owned{Prefix: p})
		}
	}
	c.allow = makeNetworks(allow)
	return c
}

// network returns the network that an address is one client of; the zero
// Prefix for no address, which all clients without one share.
func (c clients) network(addr netip.Addr) netip.Prefix {
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	bits := c.v6
	if addr.Is4() {
		bits = c.v4
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
