package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/invopop/jsonschema"
)

// Sink takes finished lines of the security log. Write gets one JSON object
// with its newline; it is called from one goroutine at a time and must not
// keep the slice.
type Sink interface {
	Write(line []byte) error
	// Sync makes what was written safe, as far as the sink promises that. It
	// may be called while Write is, and should not hold that up.
	Sync() error
	Close() error
}

// Detector turns events into alerts.
type Detector struct {
	Name    string
	Control string
	Doc     string // one sentence: what it notices
	// New makes the detector's state; the function it returns sees every
	// event, redacted, in order, from one goroutine, and returns the alerts
	// to write. Alerts do not come back to detectors. A detector that panics
	// is switched off, and the log says so.
	New func() func(Event) []Event
}

// BusOptions says where events go.
type BusOptions struct {
	Sinks     []Sink
	Detectors []*Detector
	Redactor  *Redactor // nil means NewRedactor()
	// Queue is how many events may wait for the sinks; 0 means 8192.
	Queue int
	// Wait is how long Publish waits when the queue is full before the event
	// counts as lost; 0 means 50 ms. A request waits for its log line rather
	// than losing it, but it does not wait for a dead disk for ever.
	Wait time.Duration
	// Recent is how many events [Bus.Recent] keeps; 0 means 512.
	Recent int
}

// syncEvery is how old a line may be that a crash of the machine takes away:
// sinks are synced so often, not after every line, and when the bus closes.
const syncEvery = 100 * time.Millisecond

// closeWait bounds how long Close waits for a sink that takes nothing.
const closeWait = 5 * time.Second

// Tally is what [Bus.Counts] counts by.
type Tally struct{ Layer, Verdict, Reason string }

// maxTallies bounds [Bus.Counts]: layers and reasons are a fixed vocabulary,
// and a mistake in that must not fill the memory.
const maxTallies = 1024

// Bus takes events from any goroutine, redacts them, and hands them to the
// detectors and the sinks, in order, from one goroutine of its own. What
// cannot be written is counted, and a dewar_gap event says so as soon as
// something can be written again.
type Bus struct {
	o        BusOptions
	queue    chan Event
	done     chan struct{}
	closing  sync.RWMutex
	closed   bool
	flush    chan chan struct{}
	detect   []func(Event) []Event
	written  atomic.Uint64
	lost     atomic.Uint64
	reported uint64

	mu     sync.Mutex
	recent []Event
	next   int
	counts map[Tally]uint64
	err    error // of the last write
	// syncErr is of the last sync. A write that works does not end it: what
	// could not be made safe is not safe.
	syncErr error
}

// NewBus starts a bus. Close it to write what waits.
func NewBus(o BusOptions) *Bus {
	if o.Queue <= 0 {
		o.Queue = 8192
	}
	if o.Wait <= 0 {
		o.Wait = 50 * time.Millisecond
	}
	if o.Recent <= 0 {
		o.Recent = 512
	}
	if o.Redactor == nil {
		o.Redactor = NewRedactor()
	}
	b := &Bus{o: o, queue: make(chan Event, o.Queue), done: make(chan struct{}), flush: make(chan chan struct{}), counts: map[Tally]uint64{}}
	for _, d := range o.Detectors {
		b.detect = append(b.detect, d.New())
	}
	go b.run()
	return b
}

// Publish takes an event. It fills in a missing Time, ID and Severity (Info).
func (b *Bus) Publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e = complete(e, e.Time)
	b.closing.RLock()
	defer b.closing.RUnlock()
	if b.closed {
		b.lost.Add(1)
		return
	}
	select {
	case b.queue <- e:
		return
	default:
	}
	t := time.NewTimer(b.o.Wait)
	defer t.Stop()
	select {
	case b.queue <- e:
	case <-t.C:
		b.lost.Add(1)
	}
}

func (b *Bus) run() {
	defer close(b.done)
	var due <-chan time.Time  // set while something waits to be synced
	var syncing chan struct{} // set while a sync runs beside the writes
	settle := func() {
		if syncing != nil {
			<-syncing
			syncing = nil
		}
		due = nil
		b.gap(time.Now())
		b.sync()
	}
	for {
		select {
		case e, ok := <-b.queue:
			if !ok {
				settle()
				return
			}
			b.handle(e)
			if due == nil {
				due = time.After(syncEvery)
			}
		case <-due:
			if due = nil; syncing != nil {
				due = time.After(syncEvery) // a slow disk: one at a time
				continue
			}
			b.gap(time.Now())
			// A disk may take a second for it, and the queue would be full
			// before it is done.
			ended := make(chan struct{})
			syncing = ended
			go func() {
				defer close(ended)
				b.sync()
			}()
		case <-syncing:
			syncing = nil
		case ack := <-b.flush:
			for range len(b.queue) {
				if e, ok := <-b.queue; ok {
					b.handle(e)
				}
			}
			settle()
			close(ack)
		}
	}
}

// sync makes safe what was written, in every sink.
func (b *Bus) sync() {
	var errs []error
	for _, s := range b.o.Sinks {
		errs = append(errs, s.Sync())
	}
	b.mu.Lock()
	b.syncErr = errors.Join(errs...)
	b.mu.Unlock()
}

func (b *Bus) handle(e Event) {
	e = b.o.Redactor.Event(e)
	b.gap(e.Time)
	b.write(e)
	for i, detect := range b.detect {
		for _, alert := range b.consult(i, detect, e) {
			b.write(b.o.Redactor.Event(complete(alert, e.Time)))
		}
	}
}

// complete fills in what every event has.
func complete(e Event, now time.Time) Event {
	if e.Time.IsZero() {
		e.Time = now
	}
	if e.ID == "" {
		e.ID = NewID(e.Time)
	}
	if e.Severity == 0 {
		e.Severity = Info
	}
	return e
}

// gap says in the log how many events are missing since it last could.
func (b *Bus) gap(now time.Time) {
	lost := b.lost.Load()
	if lost == b.reported {
		return
	}
	gap := Event{Time: now, ID: NewID(now), Name: "dewar_gap", Severity: Critical, Message: "events were lost", Control: "monitoring",
		Attributes: map[string]string{"lost": strconv.FormatUint(lost-b.reported, 10)}}
	if b.write(gap) {
		b.reported = lost
	}
}

// consult asks a detector. One that panics takes no request down, and no
// event.
func (b *Bus) consult(i int, detect func(Event) []Event, e Event) (alerts []Event) {
	if detect == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			b.detect[i] = nil
			d := b.o.Detectors[i]
			alerts = []Event{{Name: "sys_crash", Severity: Critical, Control: d.Control, Message: "a detector failed and is switched off",
				Detail: fmt.Sprintf("%s: %v", d.Name, v)}}
		}
	}()
	return detect(e)
}

// write hands a redacted event to every sink; false if one of them failed.
func (b *Bus) write(e Event) bool {
	line, err := json.Marshal(e)
	if err != nil {
		b.lost.Add(1)
		b.fail(err)
		return false
	}
	line = append(line, '\n')
	ok := true
	for _, s := range b.o.Sinks {
		if err := s.Write(line); err != nil {
			ok = false
			b.fail(err)
		}
	}
	if ok {
		b.written.Add(1)
	} else if e.Name != "dewar_gap" {
		b.lost.Add(1)
	}
	b.mu.Lock()
	if ok {
		b.err = nil
	}
	if e.Layer != "" {
		t := Tally{e.Layer, e.Verdict, e.Reason}
		if _, known := b.counts[t]; !known && len(b.counts) >= maxTallies {
			t = Tally{Layer: "other"}
		}
		b.counts[t]++
	}
	if len(b.recent) < b.o.Recent {
		b.recent = append(b.recent, e)
	} else {
		b.recent[b.next] = e
		b.next = (b.next + 1) % b.o.Recent
	}
	b.mu.Unlock()
	return ok
}

func (b *Bus) fail(err error) {
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
}

// Err returns what the last write to the sinks and their last sync failed
// with, or nil if both worked.
func (b *Bus) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.err, b.syncErr)
}

// Written counts the events that every sink took.
func (b *Bus) Written() uint64 { return b.written.Load() }

// Lost counts the events that no sink has: the queue was full too long, or a
// sink failed.
func (b *Bus) Lost() uint64 { return b.lost.Load() }

// Recent returns the last events, redacted, the oldest first.
func (b *Bus) Recent() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(append([]Event(nil), b.recent[b.next:]...), b.recent[:b.next]...)
}

// Waiting counts the events that no sink has seen yet.
func (b *Bus) Waiting() int { return len(b.queue) }

// Counts returns how often each layer came to each verdict for each reason
// since the start.
func (b *Bus) Counts() map[Tally]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.counts)
}

// Flush waits until everything published before is written.
func (b *Bus) Flush(ctx context.Context) error {
	ack := make(chan struct{})
	select {
	case b.flush <- ack:
	case <-b.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ack:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what waits and closes the sinks. It gives up after five
// seconds on a sink that takes nothing. It is safe to call twice.
func (b *Bus) Close() error {
	b.closing.Lock()
	already := b.closed
	b.closed = true
	if !already {
		close(b.queue)
	}
	b.closing.Unlock()
	select {
	case <-b.done:
	case <-time.After(closeWait):
		return fmt.Errorf("the security log takes nothing: %d events were not written", len(b.queue))
	}
	if already {
		return nil
	}
	var errs []error
	for _, s := range b.o.Sinks {
		errs = append(errs, s.Close())
	}
	if n := b.Lost(); n > 0 {
		errs = append(errs, fmt.Errorf("%d events were lost", n))
	}
	return errors.Join(errs...)
}

// Schema returns the JSON schema (draft 2020-12) of a line of the log.
func Schema() ([]byte, error) {
	r := &jsonschema.Reflector{Anonymous: true, ExpandedStruct: true}
	s := r.Reflect(&Event{})
	s.ID, s.Title = "", "Dewar security event"
	s.Required = []string{"time", "id", "event.name", "severity"}
	if p, ok := s.Properties.Get("severity"); ok {
		p.Ref, p.Type = "", "string"
		p.Enum = []any{"debug", "info", "warn", "high", "critical"}
	}
	if p, ok := s.Properties.Get("client.address"); ok {
		// It is written as text; the reflector only sees a struct.
		p.Ref, p.Type, p.Properties, p.AdditionalProperties = "", "string", nil, nil
	}
	delete(s.Definitions, "Addr")
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}
