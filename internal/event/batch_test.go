package event

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// batchSink takes batches; lines that hold bad are refused.
type batchSink struct {
	memorySink
	calls int
	bad   string
}

func (s *batchSink) WriteBatch(lines []byte) (n int, err error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	for l := range strings.Lines(string(lines)) {
		if s.bad != "" && strings.Contains(l, s.bad) {
			return n, errors.New("no such line")
		}
		if err := s.Write([]byte(l)); err != nil {
			return n, err
		}
		n += len(l)
	}
	return n, nil
}

// TestBatches: what is published together is written together, whatever a
// sink does not take is counted to the event, and the rest is there, in order.
func TestBatches(t *testing.T) {
	s, other := &batchSink{bad: "refuse me"}, &memorySink{}
	b := NewBus(BusOptions{Sinks: []Sink{s, other}, Queue: 10000})
	const n = 4000
	for i := range n {
		m := fmt.Sprint(i)
		if i%1000 == 999 {
			m += " refuse me"
		}
		b.Publish(Event{Name: "http_request", Message: m})
	}
	flush(t, b)
	if b.Lost() != 4 || b.Written() < n-4 || b.Written() > n { // up to four gaps among them
		t.Errorf("%d lost, %d written", b.Lost(), b.Written())
	}
	b.Close()
	if s.calls > n/20 {
		t.Errorf("%d calls for %d events", s.calls, n)
	}
	for _, sink := range []*memorySink{&s.memorySink, other} {
		last, kept, told := -1, 0, 0
		for _, e := range sink.events(t) {
			if e.Name == "dewar_gap" {
				var lost int
				fmt.Sscan(e.Attributes["lost"], &lost)
				told += lost
				continue
			}
			kept++
			var i int
			if fmt.Sscan(e.Message, &i); i <= last {
				t.Fatalf("%d behind %d", i, last)
			}
			last = i
		}
		want := n
		if sink == &s.memorySink {
			want = n - 4
		}
		if kept != want || told != 4 {
			t.Errorf("%d of %d events, %d told of as lost", kept, want, told)
		}
	}
}

// TestEventIsWrittenSoon: nobody has to flush.
func TestEventIsWrittenSoon(t *testing.T) {
	s := &batchSink{}
	b := NewBus(BusOptions{Sinks: []Sink{s}})
	defer b.Close()
	b.Publish(Event{Name: "http_request"})
	for range 12000 {
		if b.Written() == 1 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("an event waits for the next one")
}

// TestFileSinkBatch: a batch is parted between lines where a file is full, and
// where the disk is; every file and every line is what single writes make.
func TestFileSinkBatch(t *testing.T) {
	dir := t.TempDir()
	lines := []string{"aaa\n", "bb\n", "cccc\n", "longer than a file may be\n", "d\n", "e\n", "ffffff\n", "g\n"}
	for i, batches := range [][]int{{1, 1, 1, 1, 1, 1, 1, 1}, {8}, {3, 5}, {2, 2, 4}} {
		name := filepath.Join(dir, fmt.Sprint("log", i))
		s := open(t, name, 8, 9)
		at := 0
		for _, k := range batches {
			text := strings.Join(lines[at:at+k], "")
			if n, err := s.WriteBatch([]byte(text)); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
			at += k
		}
		for f, want := range []string{"g\n", "ffffff\n", "d\ne\n", "longer than a file may be\n", "cccc\n", "aaa\nbb\n"} {
			file := name
			if f > 0 {
				file = fmt.Sprint(name, ".", f)
			}
			if got := content(t, file); got != want {
				t.Errorf("batches of %v: %s holds %q, want %q", batches, file, got, want)
			}
		}
	}

	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip("SKIPPED: no limit on file size here: ", err)
	}
	name := filepath.Join(dir, "full")
	s := open(t, name, 0, 1)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 11, Max: was.Max}); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	n, err := s.WriteBatch([]byte("one\ntwo\nthree\nfour\n"))
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); e != nil {
		t.Fatal(e)
	}
	if n != len("one\ntwo\n") || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	write(t, s, "after")
	if got := content(t, name); got != "one\ntwo\nafter\n" {
		t.Errorf("%q", got)
	}
	if err := os.Rename(name, name+".old"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.WriteBatch([]byte("x\ny\n")); n != 4 || err != nil || content(t, name) != "x\ny\n" {
		t.Errorf("a moved file: %d, %v, %q", n, err, content(t, name))
	}
}
