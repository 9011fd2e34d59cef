package gateway

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/miekg/dns"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// dnsUpdate writes the records of DNS-01 by dynamic updates (RFC 2136) signed
// with a shared key (TSIG, RFC 8945): what BIND, Knot, PowerDNS, and the
// "nsupdate" interfaces of hosting companies speak. It implements the
// interfaces of libdns.
type dnsUpdate struct {
	server, zone string
	key, secret  string
	algorithm    string
}

var (
	_ libdns.RecordAppender = (*dnsUpdate)(nil)
	_ libdns.RecordDeleter  = (*dnsUpdate)(nil)
)

var tsigAlgorithms = map[string]string{"hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512}

// newDNSUpdate returns the solver for DNS-01.
func newDNSUpdate(c deployment.ACME, o acmeOptions) (acmez.Solver, error) {
	secret, err := deployment.Secret(c.DNSSecret, o.environ, o.dir)
	if err != nil {
		return nil, fmt.Errorf("deployment.acme.dns-secret: %w", err)
	}
	if _, err := base64.StdEncoding.DecodeString(secret); err != nil {
		return nil, fmt.Errorf("deployment.acme.dns-secret: the key is not base64, as tsig-keygen writes it")
	}
	server := c.DNSServer
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "53")
	}
	u := &dnsUpdate{server: server, zone: c.DNSZone, key: dns.Fqdn(c.DNSKey), secret: secret, algorithm: tsigAlgorithms[c.DNSAlgorithm]}
	if u.zone != "" {
		u.zone = dns.Fqdn(u.zone)
	}
	return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider: u, TTL: time.Minute,
		// The server that takes the update is asked whether it serves it: it
		// knows the zone, too.
		Resolvers: []string{server}, PropagationTimeout: 2 * time.Minute,
	}}, nil
}

// AppendRecords implements [libdns.RecordAppender].
func (u *dnsUpdate) AppendRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	return recs, u.update(ctx, zone, recs, (*dns.Msg).Insert)
}

// DeleteRecords implements [libdns.RecordDeleter].
func (u *dnsUpdate) DeleteRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	return recs, u.update(ctx, zone, recs, (*dns.Msg).Remove)
}

func (u *dnsUpdate) update(ctx context.Context, zone string, recs []libdns.Record, do func(*dns.Msg, []dns.RR)) error {
	if u.zone != "" {
		// Names are relative to the zone that was found.
		for i, r := range recs {
			rr := r.RR()
			rr.Name = libdns.RelativeName(libdns.AbsoluteName(rr.Name, zone), u.zone)
			recs[i] = rr
		}
		zone = u.zone
	}
	var rrs []dns.RR
	for _, r := range recs {
		rr := r.RR()
		if rr.Type != "TXT" {
			return fmt.Errorf("only TXT records are written, not %s", rr.Type)
		}
		rrs = append(rrs, &dns.TXT{
			Hdr: dns.RR_Header{Name: dns.Fqdn(libdns.AbsoluteName(rr.Name, zone)), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: uint32(rr.TTL / time.Second)},
			Txt: []string{strings.Trim(rr.Data, `"`)},
		})
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	do(m, rrs)
	m.SetTsig(u.key, u.algorithm, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", Timeout: 10 * time.Second, TsigSecret: map[string]string{u.key: u.secret}}
	in, _, err := c.ExchangeContext(ctx, m, u.server)
	if err != nil {
		return fmt.Errorf("dynamic update of %s at %s: %w", zone, u.server, err)
	}
	if in.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("dynamic update of %s at %s: the server answered %s (key %s)", zone, u.server, dns.RcodeToString[in.Rcode], u.key)
	}
	return nil
}
