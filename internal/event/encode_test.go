package event

import (
	"encoding/json"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// sameAsJSON compares a line with what encoding/json writes.
func sameAsJSON(t *testing.T, e Event) {
	t.Helper()
	want, wantErr := json.Marshal(e)
	got, err := appendLine([]byte("before"), &e)
	switch {
	case (err == nil) != (wantErr == nil):
		t.Errorf("%+v: %v, encoding/json says %v", e, err, wantErr)
	case err != nil && string(got) != "before":
		t.Errorf("%+v: left %q", e, got)
	case err == nil && string(got) != "before"+string(want)+"\n":
		t.Errorf("got  %swant %s", got[6:], want)
	}
}

// TestLineIsJSON: every field, alone and with the others, set to odd values.
func TestLineIsJSON(t *testing.T) {
	sameAsJSON(t, Event{})
	full := Event{Time: time.Now(), Severity: High, Attributes: map[string]string{"z": "1", "a": "<2>"}}
	odd := map[reflect.Kind][]any{
		reflect.String:  {"", "plain", "ü \u2028 <a href=\"x\">&amp;</a>\\", "\xff\x00\x7f\n"},
		reflect.Int:     {0, -1, 599},
		reflect.Int64:   {int64(0), int64(math.MaxInt64), int64(-7)},
		reflect.Uint8:   {Info, Critical, Severity(3)},
		reflect.Float64: {0.0, math.Copysign(0, -1), 1.5, 1e-9, 1e21, 123456.789, math.NaN(), math.Inf(1)},
		reflect.Map:     {map[string]string(nil), map[string]string{}, map[string]string{"k\"": "v\n"}},
	}
	structs := map[reflect.Type][]any{
		reflect.TypeFor[time.Time](): {
			time.Time{}, time.Unix(0, 0).UTC(), time.Unix(1, 5e8).In(time.FixedZone("", 3600)), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1, 0).In(time.FixedZone("", 17)), time.Unix(1, 0).In(time.FixedZone("", -25*3600)),
		},
		reflect.TypeFor[netip.Addr](): {netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1%e<0>"), netip.MustParseAddr("::ffff:1.2.3.4")},
	}
	typ := reflect.TypeFor[Event]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		values := structs[f.Type]
		if values == nil {
			values = odd[f.Type.Kind()]
		}
		if values == nil {
			t.Fatalf("%s: a type that this test does not know", f.Name)
		}
		for _, v := range values {
			for _, e := range []Event{{Severity: Info}, full} {
				reflect.ValueOf(&e).Elem().Field(i).Set(reflect.ValueOf(v))
				sameAsJSON(t, e)
				if _, err := appendLine(nil, &e); err == nil && !reflect.ValueOf(v).IsZero() && f.Type.Kind() != reflect.Map {
					full = e // the others come with it
				}
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("plain", "2 < 3", 1.5, 200, int64(9), "192.0.2.1", int64(1))
	f.Add("\xff", "\u2029", math.Copysign(0, -1), -1, int64(0), "::", int64(-62135596801))
	f.Fuzz(func(t *testing.T, a, b string, d float64, status int, n int64, addr string, sec int64) {
		e := Event{Time: time.Unix(sec, n%1e9).UTC(), ID: a, Name: b, Severity: Info, Message: b, Detail: a, Query: a + b, Status: status, Bytes: n, Duration: d}
		e.Client, _ = netip.ParseAddr(addr)
		if a != "" {
			e.Attributes = map[string]string{a: b}
		}
		sameAsJSON(t, e)
	})
}
