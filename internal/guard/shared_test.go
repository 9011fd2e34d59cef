package guard

import (
	"net/netip"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// TestClientNetwork: who is one client, where no setting says otherwise.
func TestClientNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.9": "203.0.113.9/32", "::ffff:203.0.113.9": "203.0.113.9/32", "2001:db8::1": "2001:db8::/64",
		"2001:db8:0:0:ffff::1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64", "": "invalid Prefix",
	} {
		addr, _ := netip.ParseAddr(in)
		if got := ClientNetwork(addr).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestTOMLString: whatever a layer proposes is read back as it was, and what
// is no UTF-8 is still TOML.
func TestTOMLString(t *testing.T) {
	for _, s := range []string{"", `a "b" \c`, "a\tb\nc\x01\x7f\u0085", "\u2028 😀 \U000e0001", "default-src 'self'"} {
		var back struct{ V string }
		if err := toml.Unmarshal([]byte("V = "+TOMLString(s)), &back); err != nil || back.V != s {
			t.Errorf("%q: %s gives %q, %v", s, TOMLString(s), back.V, err)
		}
	}
	var back struct{ V string }
	if err := toml.Unmarshal([]byte("V = "+TOMLString("a\xffb")), &back); err != nil || back.V != "a\ufffdb" {
		t.Errorf("%q, %v", back.V, err)
	}
}
