package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
)

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	ticks := make(chan time.Time)
	p := startProgress(&b, ticks)
	p.tell(audit.Reading, 2, 9)
	ticks <- time.Now()
	p.tell(audit.Parsing, 3, 9)
	p.tell(audit.Parsing, 2, 9) // late
	p.tell(audit.Interpreting, 0, 0)
	ticks <- time.Now()
	ticks <- time.Now() // the second line is drawn by now, and not drawn twice
	p.tell(audit.Judging, 1, 5)
	p.tell(audit.Interpreting, 1, 1)
	ticks <- time.Now()
	p.finish()
	const clear = "\r\x1b[2K"
	want := clear + "reading 2/9 files" + clear + "interpreting, parsing 3/9 files" + clear + "judging 1/5 rules" + clear
	// What is told right after a tick may be drawn with it.
	if got := b.String(); !bytes.HasSuffix([]byte(got), []byte("judging 1/5 rules"+clear)) || len(got) > len(want) {
		t.Errorf("%q, want %q", got, want)
	}
	b.Reset()
	p = startProgress(&b, ticks)
	p.tell(audit.Reading, 1, 1)
	p.finish()
	if b.Len() != 0 {
		t.Errorf("a run shorter than a tick drew %q", b.String())
	}
	if (&app{stderr: &b}).wantsProgress() {
		t.Error("a buffer is no terminal")
	}
}
