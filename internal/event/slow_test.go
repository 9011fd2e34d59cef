package event

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// slowDisk takes lines at once and lets every Sync wait.
type slowDisk struct {
	mu      sync.Mutex
	lines   int
	syncing int
	syncErr error
	release chan struct{}
}

func (s *slowDisk) Write([]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	return nil
}

func (s *slowDisk) Sync() error {
	s.mu.Lock()
	s.syncing++
	err := s.syncErr
	s.mu.Unlock()
	<-s.release
	return err
}

func (s *slowDisk) Close() error { return nil }

func (s *slowDisk) count() (lines, syncing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines, s.syncing
}

// TestSlowSyncLosesNothing: while the disk works on one sync, events are
// written, and nobody waits.
func TestSlowSyncLosesNothing(t *testing.T) {
	disk := &slowDisk{release: make(chan struct{})}
	b := NewBus(BusOptions{Sinks: []Sink{disk}, Queue: 8, Wait: time.Minute})
	b.Publish(Event{Name: "http_request"})
	for range 12000 {
		if _, n := disk.count(); n == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	const n = 1000
	begin := time.Now()
	for range n {
		b.Publish(Event{Name: "http_request"})
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("publishing took %v while a sync ran", took)
	}
	time.Sleep(3 * syncEvery)
	if _, syncs := disk.count(); syncs != 1 {
		t.Errorf("%d syncs at once", syncs)
	}
	close(disk.release)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if lines, _ := disk.count(); lines != n+1 || b.Lost() != 0 {
		t.Errorf("%d lines written, %d lost", lines, b.Lost())
	}
}

// TestSyncErrorStays: lines that can be written do not hide that they cannot
// be made safe; a sync that works ends it.
func TestSyncErrorStays(t *testing.T) {
	broken := errors.New("input/output error")
	disk := &slowDisk{release: make(chan struct{}), syncErr: broken}
	close(disk.release)
	b := NewBus(BusOptions{Sinks: []Sink{disk}})
	defer b.Close()
	flush := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.Publish(Event{Name: "http_request"})
	flush()
	b.Publish(Event{Name: "http_request"})
	for range 12000 {
		if b.Written() == 2 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !errors.Is(b.Err(), broken) {
		t.Errorf("Err = %v after a write that worked", b.Err())
	}
	disk.mu.Lock()
	disk.syncErr = nil
	disk.mu.Unlock()
	flush()
	if b.Err() != nil {
		t.Errorf("Err = %v after a sync that worked", b.Err())
	}
}
