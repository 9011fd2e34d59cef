package uploads

import (
	"io"
	"os"
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
