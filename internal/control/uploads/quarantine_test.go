package uploads

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/content"
	"github.com/dewar-security/dewar/internal/guard"
)

// TestQuarantineOfMany: however many small files somebody has refused, their
// number is bounded, and one more does not cost a look at all the others.
func TestQuarantineOfMany(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	looks := 0
	q, err := openQuarantine(dir, 30*24*time.Hour, 1<<30, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for range maxRecords + 500 {
		before := q.looked
		now = now.Add(time.Millisecond)
		rec, err := q.put(Record{Reason: "file-svg-script", Size: 2}, strings.NewReader("ab"))
		if err != nil {
			t.Fatal(err)
		}
		last = rec.ID
		if q.looked != before {
			looks++
		}
	}
	records, err := q.records()
	if err != nil || len(records) > maxRecords || len(records) < maxRecords/2 || records[len(records)-1].ID != last {
		t.Errorf("%d files are kept, %v", len(records), err)
	}
	if looks > 5 {
		t.Errorf("the folder was looked through %d times", looks)
	}
}

type panics struct{ io.ReaderAt }

func (panics) ReadAt([]byte, int64) (int, error) { panic("no such table") }

// TestDecoderFails: an image that a decoder does not survive is refused, and
// the guard goes on.
func TestDecoderFails(t *testing.T) {
	_, err := rewriteImage(&guard.Exchange{}, content.File{Name: "a.png", Data: panics{}, Size: 100}, &content.Report{Kind: content.Kind{MIME: "image/png", Family: content.Image}})
	if err == nil || !strings.Contains(err.Error(), "the decoder failed") {
		t.Error(err)
	}
}

// TestWaitingIsBounded: what waits for a scanner that does not answer counts
// into quarantine-size and takes half of it at most; what there is no room for
// then is refused, or passed and noted, as clamav-failure says, and what was
// found bad before is still there.
func TestWaitingIsBounded(t *testing.T) {
	for failure, verdict := range map[string]guard.Verdict{"closed": guard.Deny, "open": guard.Observed} {
		t.Run(failure, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "q")
			// Nobody listens there: all that comes waits.
			cfg := Config{ClamAV: "unix:" + filepath.Join(t.TempDir(), "none"), ClamAVWhen: "later", ClamAVFailure: failure, Quarantine: dir, QuarantineSize: 100_000}
			l := newFiles(t, cfg, guard.Env{})
			kept := func() (bytes int64) {
				records, err := l.quarantine.records()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range records {
					bytes += r.Size
				}
				return bytes
			}
			send := func(name, text string) guard.Decision {
				return l.Request(exchange(mp, typed(name, "text/plain", text)+end))
			}
			text := strings.Repeat("a note, ", 1250) // 10,000 bytes
			for range 12 {
				if _, err := l.quarantine.put(Record{Reason: "file-svg-script", Size: 10_000}, strings.NewReader(text)); err != nil {
					t.Fatal(err)
				}
			}
			if n := kept(); n < 50_000 || n > 100_000 {
				t.Fatalf("%d bytes are kept", n)
			}
			for i := range 5 {
				if d := send("a.txt", text); d.Verdict != guard.Allow {
					t.Fatalf("file %d: %+v", i, d)
				}
			}
			for range 3 {
				if d := send("a.txt", text); d.Verdict != verdict || d.Reason != "file-unscanned" || !strings.Contains(d.Detail, "50000 bytes wait") {
					t.Errorf("full: %+v", d)
				}
			}
			// A small one has no room either, and neither has one larger than all.
			if d := send("a.txt", "x"); d.Reason != "file-unscanned" {
				t.Errorf("%+v", d)
			}
			if d := send("a.txt", strings.Repeat(text, 11)); d.Reason != "file-unscanned" {
				t.Errorf("%+v", d)
			}
			_, waiting, err := l.quarantine.waitingFiles()
			if n := kept(); err != nil || waiting != 50_000 || n < 30_000 || n+waiting > 100_000 {
				t.Errorf("%d bytes wait, %d are kept, %v", waiting, n, err)
			}
			// What is refused now finds room beside what waits.
			if _, err := l.quarantine.put(Record{Size: 10_000}, strings.NewReader(text)); err != nil {
				t.Error(err)
			}
			if _, err := l.quarantine.put(Record{Size: 60_000}, strings.NewReader(strings.Repeat(text, 6))); err == nil {
				t.Error("60,000 bytes have room beside 50,000")
			}
			if n := kept(); n+waiting > 100_000 {
				t.Errorf("%d bytes are kept beside %d", n, waiting)
			}
			// One that is done makes room for one.
			ids, _, _ := l.quarantine.waitingFiles()
			l.quarantine.forget(ids[0])
			if d := send("a.txt", text); d.Verdict != guard.Allow {
				t.Errorf("after one was scanned: %+v", d)
			}
			// The next guard finds the same.
			l.Close()
			next := newFiles(t, cfg, guard.Env{})
			if d := next.Request(exchange(mp, typed("a.txt", "text/plain", text)+end)); d.Reason != "file-unscanned" {
				t.Errorf("after a restart: %+v", d)
			}
		})
	}
}
