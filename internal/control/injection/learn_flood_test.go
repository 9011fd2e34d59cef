package injection

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
)

// TestLearnFlood: names that one client makes up keep those of the others out
// for a minute at most, and a request with thousands of fields is not compared
// field by field with itself.
func TestLearnFlood(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	l := newLearner(nil, func() time.Time { return now })
	honest := guard.Fields{{In: policy.Form, Name: "q", Value: "1"}, {In: policy.Form, Name: "q", Value: "2"}}
	for i := range 5 {
		l.note("/search", "POST", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), honest)
	}
	var made guard.Fields
	for i := range guard.MaxFields {
		made = append(made, guard.Field{In: policy.Form, Name: fmt.Sprint("made", i), Value: "x"})
	}
	l.note("/search", "POST", netip.MustParseAddr("198.51.100.1"), made)
	now = now.Add(2 * time.Minute)
	for i := range 5 {
		l.note("/orders", "POST", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), honest)
	}
	if f := l.fields[learntName{"/orders", "POST", policy.Form, "q"}]; f == nil || f.clients() != 5 || !f.Repeated {
		t.Errorf("what others sent afterwards: %+v of %d fields", f, len(l.fields))
	}
	if f := l.fields[learntName{"/search", "POST", policy.Form, "q"}]; f == nil || f.clients() != 5 || f.Requests != 10 {
		t.Errorf("what others sent before: %+v", f)
	}
	if l.dropped == 0 {
		t.Error("nothing says that names were dropped")
	}
}
