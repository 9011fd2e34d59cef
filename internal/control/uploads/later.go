package uploads

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/clamd"
	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
)

// later scans files after the app has got them. A copy of each waits in the
// quarantine's folder, as ID.wait with its record beside it, so that none is
// forgotten when the guard ends before the scanner has answered. What is found
// bad moves into the quarantine, with an event; the rest is deleted. What waits
// counts into quarantine-size, and may take half of it: what there is no room
// for is as good as not scanned, and clamav-failure says what becomes of it.
type later struct {
	clam   *clamd.Client
	q      *quarantine
	env    guard.Env
	queue  chan string
	left   atomic.Bool // there is more in the folder than the queue took
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Bounds on what waits.
const (
	laterFiles   = 1000
	laterWorkers = 2
)

func newLater(clam *clamd.Client, q *quarantine, env guard.Env) *later {
	ctx, cancel := context.WithCancel(context.Background())
	l := &later{clam: clam, q: q, env: env, queue: make(chan string, laterFiles), ctx: ctx, cancel: cancel}
	for range laterWorkers {
		l.done.Go(func() {
			for {
				select {
				case id := <-l.queue:
					l.scan(id)
					if len(l.queue) == 0 && l.left.CompareAndSwap(true, false) {
						l.refill()
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	l.refill()
	return l
}

// refill takes up what the guard before did not get to, as much as the queue
// holds.
func (l *later) refill() {
	waiting, _, err := l.q.waitingFiles()
	l.left.Store(err != nil)
	for _, id := range waiting {
		select {
		case l.queue <- id:
		default:
			l.left.Store(true) // for the next time
			return
		}
	}
}

func (l *later) close() {
	l.cancel()
	l.done.Wait()
}

// add copies a file for the scanner. It waits for nothing; an error says that
// too much is waiting already, or that there is no room.
func (l *later) add(x *guard.Exchange, b *guard.Body, p *formdata.Part) error {
	if len(l.queue) >= laterFiles-laterWorkers {
		return errors.New("too many files wait for the scanner")
	}
	now := l.env.Now()
	id := event.NewID(now)
	h := sha256.New()
	if err := l.q.wait(id, p.Size, io.TeeReader(p.Content(b), h)); err != nil {
		return err
	}
	rec := recordOf(x, p, "file-malware", "", hex.EncodeToString(h.Sum(nil)))
	rec.ID, rec.Time = id, now.UTC().Truncate(time.Second)
	// The record waits under a name that no listing shows.
	if err := l.q.saveWaiting(rec); err != nil {
		l.q.forget(id)
		return err
	}
	select {
	case l.queue <- id:
		return nil
	default:
		l.q.forget(id)
		return errors.New("too many files wait for the scanner")
	}
}

// scan asks about one file, again and again while the scanner is away.
func (l *later) scan(id string) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		signature, err := l.once(id)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return // another process was faster
		case errors.Is(err, clamd.ErrTooLarge):
			l.publish(id, event.High, "file-unscanned", err.Error())
			l.q.forget(id)
			return
		case err == nil && signature == "":
			l.q.forget(id)
			return
		case err == nil:
			rec, err := l.q.take(id, signature)
			if err != nil {
				l.publish(id, event.High, "file-malware", signature+"; it could not be put into the quarantine: "+err.Error())
				return
			}
			l.publishRecord(rec, event.Critical, "file-malware", "found after the app got the file: "+signature)
			return
		}
		select {
		case <-time.After(pause):
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *later) once(id string) (string, error) {
	f, err := os.Open(l.q.file(id, ".wait"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return l.clam.Scan(l.ctx, f)
}

func (l *later) publish(id string, s event.Severity, reason, detail string) {
	rec, _ := l.q.waitingRecord(id)
	rec.ID = id
	l.publishRecord(rec, s, reason, detail)
}

func (l *later) publishRecord(rec Record, s event.Severity, reason, detail string) {
	l.env.Publish(event.Event{
		Time: l.env.Now(), ID: event.NewID(l.env.Now()), Name: "upload_validation", Severity: s, Control: "uploads", Layer: filesSpec.Name, Verdict: guard.Observed.String(),
		Reason: reason, Detail: oneLine(quote(rec.Name) + ": " + detail), RequestID: rec.Request, Path: rec.Path,
		Attributes: map[string]string{"quarantine": rec.ID, "sha256": rec.SHA256},
	})
}
