package monitoring

import (
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
)

func TestSelfTest(t *testing.T) {
	if err := SelfTest(Config{}); err != nil {
		t.Fatal(err)
	}
	// A canary that nothing takes out must be noticed.
	canaries = append(canaries, event.Event{Message: "canary-plain"})
	defer func() { canaries = canaries[:len(canaries)-1] }()
	if err := SelfTest(Config{}); err == nil {
		t.Error("a leak goes unnoticed")
	}
}

// TestEveryCanaryIsOne: each test secret holds something of which the self
// test looks.
func TestEveryCanaryIsOne(t *testing.T) {
	for i, c := range canaries {
		text := c.Query + c.Detail + c.Message + c.UserAgent + c.Path + c.Attributes["set-cookie"]
		found := false
		for _, l := range leaks {
			found = found || strings.Contains(text, l)
		}
		if !found {
			t.Errorf("canary %d holds nothing that is looked for", i)
		}
	}
}

type brokenSink struct{}

func (brokenSink) Write([]byte) error { return errDisk }
func (brokenSink) Sync() error        { return nil }
func (brokenSink) Close() error       { return nil }

var errDisk = &diskError{}

type diskError struct{}

func (*diskError) Error() string { return "no space left on device" }

func TestEvidence(t *testing.T) {
	good := event.NewBus(event.BusOptions{})
	defer good.Close()
	good.Publish(event.Event{Name: "http_request"})
	if e := Evidence(Config{Log: "x"}, good, nil, time.Now()); e.Outcome != evidence.Pass || !strings.Contains(e.Summary, "1 events written") {
		t.Errorf("%+v", e)
	}
	if e := Evidence(Config{}, good, errDisk, time.Now()); e.Outcome != evidence.Fail {
		t.Errorf("a leak is a pass: %+v", e)
	}
	full := event.NewBus(event.BusOptions{Sinks: []event.Sink{brokenSink{}}})
	defer full.Close()
	full.Publish(event.Event{Name: "http_request"})
	if e := Evidence(Config{}, full, nil, time.Now()); e.Outcome != evidence.Fail || !strings.Contains(e.Summary, "no space left") {
		t.Errorf("a full disk is a pass: %+v", e)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	_, err := Open(Config{Log: t.TempDir() + "/no/such/folder/log"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "monitoring.log") {
		t.Errorf("%v", err)
	}
}
