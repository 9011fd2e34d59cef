package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Batcher is a [Sink] that takes several lines at once, which costs it one
// call to the system.
type Batcher interface {
	Sink
	// WriteBatch writes lines, each with its newline, in their order. It
	// returns how many bytes of whole lines were written, and an error if
	// those are not all; the caller tries the lines behind the one that
	// failed again.
	WriteBatch(lines []byte) (n int, err error)
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

// linger is how long the first event of a batch waits for others before they
// are written together: under load a write for each would cost more than all
// layers. maxBatch bounds a batch, in bytes.
const (
	linger   = 5 * time.Millisecond
	maxBatch = 64 << 10
)

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
// detectors and the sinks, in order, from one goroutine of its own, a few
// milliseconds' events at a time. What cannot be written is counted, and a
// dewar_gap event says so as soon as something can be written again.
type Bus struct {
	o        BusOptions
	queue    chan Event
	done     chan struct{}
	hurry    chan struct{} // no time to linger
	closing  sync.RWMutex
	closed   bool
	flush    chan chan struct{}
	detect   []func(Event) []Event
	written  atomic.Uint64
	lost     atomic.Uint64
	reported uint64

	// Of the goroutine that writes: the lines that wait, and what they are.
	lines   []byte
	batch   []line
	gapping bool // a dewar_gap is among them

	mu     sync.Mutex
	recent []Event
	next   int
	counts map[Tally]uint64
	err    error // of the last write
	// syncErr is of the last sync. A write that works does not end it: what
	// could not be made safe is not safe.
	syncErr error
}

// line is an event of a batch.
type line struct {
	e      Event
	end    int    // in Bus.lines
	failed bool   // some sink does not have it
	gap    uint64 // of a dewar_gap: the losses that are told with it
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
	b := &Bus{o: o, queue: make(chan Event, o.Queue), done: make(chan struct{}), hurry: make(chan struct{}, 1), flush: make(chan chan struct{}), counts: map[Tally]uint64{}}
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
		if len(b.queue) > cap(b.queue)/2 {
			b.rouse()
		}
		return
	default:
	}
	b.rouse()
	t := time.NewTimer(b.o.Wait)
	defer t.Stop()
	select {
	case b.queue <- e:
	case <-t.C:
		b.lost.Add(1)
	}
}

// rouse ends the wait for more events of a batch.
func (b *Bus) rouse() {
	select {
	case b.hurry <- struct{}{}:
	default:
	}
}

func (b *Bus) run() {
	defer close(b.done)
	var due <-chan time.Time  // set while something waits to be synced
	var syncing chan struct{} // set while a sync runs beside the writes
	pause := time.NewTimer(time.Hour)
	pause.Stop()
	settle := func() {
		if syncing != nil {
			<-syncing
			syncing = nil
		}
		due = nil
		b.write() // what is lost with it is told, too
		b.gap(time.Now())
		b.write()
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
			pause.Reset(linger)
			select {
			case <-pause.C:
			case <-b.hurry:
				pause.Stop()
			}
			b.drain()
			b.write()
			if due == nil {
				due = time.After(syncEvery)
			}
		case <-b.hurry: // there is nothing to wait for
		case <-due:
			if due = nil; syncing != nil {
				due = time.After(syncEvery) // a slow disk: one at a time
				continue
			}
			b.gap(time.Now())
			b.write()
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
			b.drain()
			settle()
			close(ack)
		}
	}
}

// drain handles what is in the queue now.
func (b *Bus) drain() {
	for range len(b.queue) {
		e, ok := <-b.queue
		if !ok {
			return
		}
		b.handle(e)
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
	b.add(e, 0)
	for i, detect := range b.detect {
		for _, alert := range b.consult(i, detect, e) {
			b.add(b.o.Redactor.Event(complete(alert, e.Time)), 0)
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
	if lost == b.reported || b.gapping {
		return
	}
	b.gapping = true
	b.add(Event{Time: now, ID: NewID(now), Name: "dewar_gap", Severity: Critical, Message: "events were lost", Control: "monitoring",
		Attributes: map[string]string{"lost": strconv.FormatUint(lost-b.reported, 10)}}, lost)
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

// add puts a redacted event into the batch; gap is that of a dewar_gap.
func (b *Bus) add(e Event, gap uint64) {
	lines, err := appendLine(b.lines, &e)
	if err != nil {
		b.lost.Add(1)
		b.fail(err)
		return
	}
	b.lines = lines
	b.batch = append(b.batch, line{e: e, end: len(lines), gap: gap})
	if len(lines) >= maxBatch {
		b.write()
	}
}

// write hands the batch to every sink, and counts.
func (b *Bus) write() {
	if len(b.batch) == 0 {
		return
	}
	var failed error
	for _, s := range b.o.Sinks {
		if err := b.hand(s); err != nil {
			failed = err
		}
	}
	b.mu.Lock()
	b.err = failed
	for i := range b.batch {
		l := &b.batch[i]
		switch {
		case l.gap > 0 && !l.failed:
			b.reported = l.gap
			b.written.Add(1)
		case !l.failed:
			b.written.Add(1)
		case l.gap == 0:
			b.lost.Add(1)
		}
		b.note(&l.e)
	}
	b.mu.Unlock()
	clear(b.batch) // texts are not kept
	b.batch, b.gapping = b.batch[:0], false
	if b.lines = b.lines[:0]; cap(b.lines) > 2*maxBatch {
		b.lines = nil
	}
}

// hand gives the batch to one sink and marks what it did not take. The error
// is that of the last line that failed.
func (b *Bus) hand(s Sink) (failed error) {
	many, _ := s.(Batcher)
	at := 0
	for i := 0; i < len(b.batch); {
		if many == nil {
			if err := s.Write(b.lines[at:b.batch[i].end]); err != nil {
				failed, b.batch[i].failed = err, true
			}
			at = b.batch[i].end
			i++
			continue
		}
		n, err := many.WriteBatch(b.lines[at:])
		for n += at; i < len(b.batch) && b.batch[i].end <= n; i++ {
			at = b.batch[i].end
		}
		if i < len(b.batch) {
			if err == nil {
				err = io.ErrShortWrite
			}
			failed, b.batch[i].failed = err, true
			at = b.batch[i].end
			i++
		}
	}
	return failed
}

// note counts an event and keeps it among the last. The caller holds mu.
func (b *Bus) note(e *Event) {
	if e.Layer != "" {
		t := Tally{e.Layer, e.Verdict, e.Reason}
		if _, known := b.counts[t]; !known && len(b.counts) >= maxTallies {
			t = Tally{Layer: "other"}
		}
		b.counts[t]++
	}
	if len(b.recent) < b.o.Recent {
		b.recent = append(b.recent, *e)
	} else {
		b.recent[b.next] = *e
		b.next = (b.next + 1) % b.o.Recent
	}
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
	b.rouse()
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
		b.rouse()
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
