package guard

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/event"
)

// TestForwarderFails: a forwarder that panics, or that fails after its header
// is out, is a mistake of ours. The visitor gets a page where there still can
// be one, never half an answer that looks whole; the log says what happened.
func TestForwarderFails(t *testing.T) {
	half := func(w http.ResponseWriter) { w.WriteHeader(200); io.WriteString(w, "half") }
	for _, c := range []struct {
		name    string
		forward forwardFunc
		page    bool
		status  int
		reasons string
	}{
		{"panics", func(http.ResponseWriter, *Exchange, func(*http.Response) error) error { panic("the bug") }, true, 500, "guard-failed"},
		{"panics after the header", func(w http.ResponseWriter, _ *Exchange, _ func(*http.Response) error) error {
			half(w)
			panic("the bug")
		}, false, statusAborted, "guard-failed answer-cut"},
		{"fails after the header", func(w http.ResponseWriter, _ *Exchange, _ func(*http.Response) error) error {
			half(w)
			return errors.New("upstream went away")
		}, false, statusAborted, "answer-cut"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events journal
			var m counter
			s := httptest.NewUnstartedServer(newChain(t, Options{Forward: c.forward, Publish: events.publish, Metrics: &m, LogAllowed: true}))
			var printed strings.Builder
			s.Config.ErrorLog = log.New(&printed, "", 0)
			s.Start()
			res, err := s.Client().Get(s.URL)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if c.page {
				if err != nil || res.StatusCode != 500 || !strings.Contains(string(body), res.Header.Get("X-Request-Id")) || strings.Contains(string(body), "bug") {
					t.Errorf("%v %v %q", err, res, body)
				}
			} else if err == nil {
				t.Errorf("half an answer passes for a whole one: %q", body)
			}
			var reasons []string
			for _, e := range events.wait(t, len(strings.Fields(c.reasons))) {
				reasons = append(reasons, e.Reason)
				if e.Name != "sys_crash" || e.Status != c.status {
					t.Errorf("%+v", e)
				}
				if e.Reason == "guard-failed" && (e.Severity != event.Critical || !strings.Contains(e.Detail, "the bug") || !strings.Contains(e.Attributes["stack"], "crash_test.go")) {
					t.Errorf("the log does not say what happened: %+v", e)
				}
			}
			s.Close() // waits for the handler
			if got := strings.Join(reasons, " "); got != c.reasons {
				t.Errorf("events for %q, want %q", got, c.reasons)
			}
			if printed.Len() > 0 {
				t.Errorf("net/http prints: %s", printed.String())
			}
		})
	}
}

// TestNoRoomForTheBody: a body for which there is no room is told as the body
// layer tells it, also where the chain itself gathers the body.
func TestNoRoomForTheBody(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/gone")
	var log journal
	var m counter
	c := newChain(t, Options{Publish: log.publish, Metrics: &m, Spool: NewSpool(1, 1)})
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("more than a byte")))
	if w.Code != 503 || !slices.Equal(m.decisions, []string{"body deny body-storage"}) {
		t.Errorf("%d, %q", w.Code, m.decisions)
	}
	if e := log.wait(t, 1); len(e) != 1 || e[0].Layer != "body" || e[0].Reason != "body-storage" || e[0].Control != "uploads" || e[0].Name != "sys_crash" {
		t.Errorf("%+v", e)
	}
}
