package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// memorySink keeps lines; it fails or blocks on demand.
type memorySink struct {
	mu    sync.Mutex
	lines []string
	fail  error
	block chan struct{} // Write waits until it is closed
	syncs int
}

func (s *memorySink) Write(line []byte) error {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.lines = append(s.lines, string(line))
	return nil
}
func (s *memorySink) Sync() error  { s.mu.Lock(); defer s.mu.Unlock(); s.syncs++; return nil }
func (s *memorySink) Close() error { return nil }

func (s *memorySink) setFail(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.fail = err }

func (s *memorySink) events(t *testing.T) []Event {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Event
	for _, l := range s.lines {
		var e Event
		if err := json.Unmarshal([]byte(l), &e); err != nil || strings.Count(l, "\n") != 1 {
			t.Fatalf("%q is not one JSON line: %v", l, err)
		}
		out = append(out, e)
	}
	return out
}

func flush(t *testing.T, b *Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestBusKeepsEverything: from many goroutines at once, every event arrives at
// every sink once, each goroutine's in its order, and complete.
func TestBusKeepsEverything(t *testing.T) {
	one, two := &memorySink{}, &memorySink{}
	b := NewBus(BusOptions{Sinks: []Sink{one, two}, Queue: 16, Wait: time.Minute})
	const writers, each = 8, 500
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b.Publish(Event{Name: "http_request", Message: fmt.Sprintf("%d/%d", w, i)})
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, sink := range []*memorySink{one, two} {
		next, ids := map[int]int{}, map[string]bool{}
		for _, e := range sink.events(t) {
			var w, i int
			fmt.Sscanf(e.Message, "%d/%d", &w, &i)
			if i != next[w] {
				t.Fatalf("event %d of writer %d came, %d was due", i, w, next[w])
			}
			next[w]++
			if ids[e.ID] || e.Time.IsZero() || e.Severity != Info {
				t.Fatalf("not complete, or an id twice: %+v", e)
			}
			ids[e.ID] = true
		}
		if len(ids) != writers*each || sink.syncs == 0 {
			t.Errorf("%d of %d events, %d syncs", len(ids), writers*each, sink.syncs)
		}
	}
	if b.Written() != writers*each || b.Lost() != 0 || b.Waiting() != 0 {
		t.Errorf("written %d, lost %d, waiting %d", b.Written(), b.Lost(), b.Waiting())
	}
}

// TestGapWhenFull: a sink that hangs costs Publish no more than Wait, and
// what did not fit is told in the log as soon as it can be, to the event.
func TestGapWhenFull(t *testing.T) {
	s := &memorySink{block: make(chan struct{})}
	b := NewBus(BusOptions{Sinks: []Sink{s}, Queue: 4, Wait: 5 * time.Millisecond})
	begin := time.Now()
	const n = 20
	for i := range n {
		b.Publish(Event{Name: "http_request", Message: fmt.Sprint(i)})
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("Publish hung for %v", took)
	}
	lost := int(b.Lost())
	if lost < n-9 || lost > n-5 { // four wait, one to five are being written
		t.Errorf("%d lost", lost)
	}
	close(s.block)
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(lost)) {
		t.Errorf("Close says %v, %d were lost", err, lost)
	}
	told, kept := 0, 0
	for _, e := range s.events(t) {
		if e.Name == "dewar_gap" {
			var n int
			fmt.Sscan(e.Attributes["lost"], &n)
			told += n
			if e.Severity != Critical {
				t.Errorf("a gap is %v", e.Severity)
			}
		} else {
			kept++
		}
	}
	if told != lost || kept != n-lost {
		t.Errorf("the log tells of %d missing and has %d, %d of %d are missing", told, kept, lost, n)
	}
}

// TestGapAtTheEnd: losses after which nothing more is published are told by
// Close.
func TestGapAtTheEnd(t *testing.T) {
	s := &memorySink{fail: errors.New("no space left on device")}
	b := NewBus(BusOptions{Sinks: []Sink{s}})
	b.Publish(Event{Name: "http_request"})
	b.Publish(Event{Name: "http_request"})
	flush(t, b)
	if b.Err() == nil || b.Lost() != 2 || b.Written() != 0 {
		t.Fatalf("%v, %d lost, %d written", b.Err(), b.Lost(), b.Written())
	}
	s.setFail(nil)
	b.Close()
	all := s.events(t)
	if len(all) != 1 || all[0].Name != "dewar_gap" || all[0].Attributes["lost"] != "2" {
		t.Errorf("%+v", all)
	}
	if b.Err() != nil {
		t.Errorf("the log works again, Err says %v", b.Err())
	}
}

func TestPublishAfterClose(t *testing.T) {
	s := &memorySink{}
	b := NewBus(BusOptions{Sinks: []Sink{s}})
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.Publish(Event{Name: "http_request"})
	if b.Lost() != 1 || len(s.lines) != 0 {
		t.Errorf("%d lost, %d written", b.Lost(), len(s.lines))
	}
	flush(t, b) // does not hang
}

func TestPublishWhileClosing(t *testing.T) {
	for range 50 {
		s := &memorySink{}
		b := NewBus(BusOptions{Sinks: []Sink{s}, Queue: 2, Wait: time.Microsecond})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					b.Publish(Event{Name: "http_request"})
				}
			})
		}
		b.Close()
		wg.Wait()
		kept := 0
		for _, e := range s.events(t) {
			if e.Name != "dewar_gap" {
				kept++
			}
		}
		if got := kept + int(b.Lost()); got != 200 {
			t.Fatalf("%d kept and %d lost of 200", kept, b.Lost())
		}
	}
}

// TestDetectors: they see every event, redacted, in order, and not each
// other's alerts; one that panics costs nothing but itself.
func TestDetectors(t *testing.T) {
	var seen []string
	burst := &Detector{Name: "burst", Control: "csrf", Doc: "Three refusals in a row.", New: func() func(Event) []Event {
		n := 0
		return func(e Event) []Event {
			seen = append(seen, e.Detail)
			if e.Verdict != "deny" {
				n = 0
				return nil
			}
			if n++; n < 3 {
				return nil
			}
			n = 0
			return []Event{{Name: "http_request", Severity: High, Message: "burst password=hunter2"}}
		}
	}}
	broken := &Detector{Name: "broken", Control: "csrf", New: func() func(Event) []Event {
		return func(e Event) []Event { panic("index out of range") }
	}}
	s := &memorySink{}
	b := NewBus(BusOptions{Sinks: []Sink{s}, Detectors: []*Detector{broken, burst}})
	for i := range 6 {
		b.Publish(Event{Name: "malicious_csrf", Verdict: "deny", Layer: "csrf", Reason: "csrf-cross-site", Detail: fmt.Sprintf("%d token=hunter2", i)})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 6 {
		t.Errorf("the detector saw %q", seen)
	}
	alerts, crashes := 0, 0
	for _, e := range s.events(t) {
		switch {
		case strings.Contains(e.Message+e.Detail, "hunter2"):
			t.Errorf("leaks: %+v", e)
		case strings.HasPrefix(e.Message, "burst"):
			alerts++
		case e.Name == "sys_crash" && strings.Contains(e.Detail, "broken: index out of range"):
			crashes++
		}
		if e.ID == "" || e.Time.IsZero() || e.Severity == 0 {
			t.Errorf("not complete: %+v", e)
		}
	}
	if alerts != 2 || crashes != 1 {
		t.Errorf("%d alerts, %d crashes; want 2 and 1", alerts, crashes)
	}
	for _, d := range seen {
		if strings.Contains(d, "hunter2") {
			t.Errorf("the detector sees secrets: %q", d)
		}
	}
}

func TestRecentAndCounts(t *testing.T) {
	b := NewBus(BusOptions{Recent: 4})
	for i := range 10 {
		b.Publish(Event{Name: "http_request", Message: fmt.Sprint(i), Layer: "csrf", Verdict: "deny", Reason: []string{"a", "b"}[i%2]})
	}
	b.Publish(Event{Name: "http_request", Message: "password=hunter2"})
	flush(t, b)
	var got []string
	for _, e := range b.Recent() {
		got = append(got, e.Message)
	}
	if s := strings.Join(got, " "); s != "7 8 9 password=[redacted]" {
		t.Errorf("recent: %s", s)
	}
	counts := b.Counts()
	if counts[Tally{"csrf", "deny", "a"}] != 5 || counts[Tally{"csrf", "deny", "b"}] != 5 || len(counts) != 2 {
		t.Errorf("%v", counts)
	}
	for i := range 2 * maxTallies {
		b.Publish(Event{Name: "http_request", Layer: "x", Reason: fmt.Sprint(i)})
	}
	flush(t, b)
	if counts := b.Counts(); len(counts) > maxTallies+1 || counts[Tally{Layer: "other"}] == 0 {
		t.Errorf("%d tallies", len(counts))
	}
	b.Close()
}

func TestFlushGivesUp(t *testing.T) {
	s := &memorySink{block: make(chan struct{})}
	b := NewBus(BusOptions{Sinks: []Sink{s}})
	b.Publish(Event{Name: "http_request"})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := b.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush on a sink that hangs: %v", err)
	}
	close(s.block)
	b.Close()
}

// TestSchemaHoldsForLines: what the log writes is what its schema says, and a
// line that is something else is not.
func TestSchemaHoldsForLines(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("event.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("event.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(line string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	s := &memorySink{}
	b := NewBus(BusOptions{Sinks: []Sink{s}})
	for _, n := range Names {
		b.Publish(Event{Name: n.Name, Severity: n.Level})
	}
	b.Publish(Event{
		Name: "http_request", Severity: Warn, Message: "m", Control: "csrf", Layer: "csrf", Verdict: "deny", Reason: "r", Detail: "d", RequestID: "id",
		Method: "GET", Scheme: "https", Host: "h", Path: "/", Query: "a=1", Status: 403, Bytes: 12, Client: netip.MustParseAddr("2001:db8::1"),
		UserAgent: "ua", Duration: 1.5, Attributes: map[string]string{"k": "v"},
	})
	b.Close()
	if len(s.lines) != len(Names)+1 {
		t.Fatalf("%d lines", len(s.lines))
	}
	for _, l := range s.lines {
		if err := check(l); err != nil {
			t.Errorf("%s%v", l, err)
		}
	}
	full := s.lines[len(s.lines)-1]
	for _, change := range [][2]string{
		{`"severity":"warn"`, `"severity":"bad"`}, {`"id":"`, `"no-id":"`}, {`"http.response.status_code":403`, `"http.response.status_code":"403"`},
		{`"client.address":"2001:db8::1"`, `"client.address":1`}, {`"k":"v"`, `"k":2`}, {`"url.path":`, `"url.poth":`},
	} {
		bad := strings.Replace(full, change[0], change[1], 1)
		if bad == full {
			t.Fatalf("%s is not in %s", change[0], full)
		}
		if check(bad) == nil {
			t.Errorf("the schema takes %s", change[1])
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range Names {
		if seen[n.Name] || n.Means == "" || severityNames[n.Level] == "" {
			t.Errorf("%+v", n)
		}
		seen[n.Name] = true
	}
	for _, ours := range []string{"dewar_gap", "sys_crash"} { // written by this package
		if !seen[ours] {
			t.Errorf("%s is not documented", ours)
		}
	}
}

func TestSeverityText(t *testing.T) {
	for s, name := range severityNames {
		text, err := s.MarshalText()
		var back Severity
		if err != nil || string(text) != name || back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%v: %q %v", s, text, err)
		}
	}
	var s Severity
	for _, bad := range []string{"", "WARN", "fatal", "9"} {
		if s.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestID(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 891e6, time.UTC)
	var mu sync.Mutex
	all := map[string]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := ""
			for i := range 5000 {
				// The clock may stand still and go back; ids go on.
				id := NewID(now.Add(time.Duration(i%7-3) * time.Millisecond))
				if len(id) != 26 || strings.Trim(id, crockford) != "" || id[0] > '7' {
					t.Errorf("%q is no ULID", id)
					return
				}
				if id <= last {
					t.Errorf("%s after %s", id, last)
					return
				}
				last = id
				mu.Lock()
				if all[id] {
					t.Errorf("%s twice", id)
				}
				all[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// Its first ten characters are the time, for whoever sorts or reads them.
	later := time.Now().Add(time.Hour)
	var ms int64
	for _, c := range NewID(later)[:10] {
		ms = ms<<5 | int64(strings.IndexRune(crockford, c))
	}
	if ms != later.UnixMilli() {
		t.Errorf("the id says %v, it is %v", time.UnixMilli(ms), later)
	}
	if id := NewID(time.Time{}); len(id) != 26 {
		t.Errorf("before 1970: %q", id)
	}
}

func BenchmarkNewID(b *testing.B) {
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		NewID(now)
	}
}

// BenchmarkBus is what one core writes: redaction, JSON and the sink.
func BenchmarkBus(b *testing.B) {
	bus := NewBus(BusOptions{Sinks: []Sink{WriterSink(io.Discard)}, Wait: time.Hour})
	e := Event{Name: "http_request", Severity: Info, RequestID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Method: "GET", Scheme: "https", Host: "shop.example", Path: "/products/17/shoes",
		Query: "page=2&sort=price", Status: 200, Client: netip.MustParseAddr("192.0.2.1"), UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", Duration: 1.5}
	b.ReportAllocs()
	for b.Loop() {
		bus.Publish(e)
	}
	bus.Close()
}
