package monitoring

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/guard"
)

var services = []*guard.Service{{
	Name:    "event-log",
	Control: "monitoring",
	Does:    "writes one redacted JSON line for every decision, and counts what it could not write",
	Why:     "What nobody recorded nobody can investigate; what was recorded in full is a second place to steal from.",
	Fix:     "See that the place named by monitoring.log can be written, and read it.",
}}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	if strings.TrimSpace(c.Log) == "" {
		out = append(out, guard.Problem{Key: "log", Message: "the security log cannot be switched off: write a file, \"stdout\" or \"stderr\""})
	}
	if c.MaxSize > 0 && c.MaxSize < 64<<10 {
		out = append(out, guard.Problem{Key: "max-size", Message: fmt.Sprintf("%v would rotate with nearly every line: write at least \"64 KB\"", c.MaxSize)})
	}
	return out
}

// Open starts the security log. It writes to the file, or to one of the
// streams given.
func Open(c Config, stdout, stderr io.Writer) (*event.Bus, error) {
	var sink event.Sink
	switch c.Log {
	case "stdout":
		sink = event.WriterSink(stdout)
	case "", "stderr":
		sink = event.WriterSink(stderr)
	default:
		f, err := event.OpenFile(c.Log, int64(c.MaxSize), c.Keep)
		if err != nil {
			return nil, fmt.Errorf("%w: set monitoring.log to a file that can be written, \"stdout\" or \"stderr\"", err)
		}
		sink = f
	}
	return event.NewBus(event.BusOptions{Sinks: []event.Sink{sink}, Redactor: event.NewRedactor(c.Redact...)}), nil
}

// canaries are fake secrets in the places where real ones travel. None of
// them is valid anywhere.
var canaries = []event.Event{
	{Query: "user=kim&password=canary-Tr0ub4dor-1&next=%2F"},
	{Query: "a=1;API_KEY=canary-apikey-2;b=%zz"},
	{Query: "reset%5Ftoken=canary-reset-3"},
	{Detail: "Authorization: Bearer canary-bearer-4"},
	{Detail: "Cookie: session=canary-cookie-5; theme=dark"},
	{Detail: `form field {"new_password": "canary-json-6", "n": 1}`},
	{Detail: "matched eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeS03LWNhbmFyeQ"},
	{Detail: "value .eJyrVkrOT0lVslIqLU4tUtJRKi1OLYrPTFGyMtRRKkktLgEAxCANDA.ZzQx1w.Cn4ryFl4skS3ss10nSignatureX8"},
	{Message: "connecting to postgresql://shop:canary-db-9@db/shop"},
	{UserAgent: "tool AK" + "IACANARYCANARY2345"},
	{Path: "/reset/Canary10AbCdEfGhIjKlMnOpQrStUv"},
	{Detail: "card 4242 4242 4242 4242 entered"},
	{Attributes: map[string]string{"set-cookie": "canary-attribute-13", "note": "x-api-key=canary-note-14"}},
	{Detail: "-----BEGIN EC PRIVATE KEY-----\\nMHcCAQEEIcanary15\\n-----END EC PRIVATE KEY-----"},
}

// leaks are the parts of the canaries that must not come out again. None of
// them can stand in a timestamp or an id by chance.
var leaks = []string{
	"canary-", "eyJzdWIi", "c2lnbmF0", "eJyrVkrO", "Cn4ryFl4sk", "IACANARY", "Canary10", "4242 4242", "canary15",
}

// SelfTest sends the canaries through a log made from the settings and
// returns an error if one of them comes out. It is evidence for this control
// at every start, not only in the project's tests.
func SelfTest(c Config) error {
	var b bytes.Buffer
	bus := event.NewBus(event.BusOptions{Sinks: []event.Sink{event.WriterSink(&b)}, Redactor: event.NewRedactor(c.Redact...)})
	for _, e := range canaries {
		e.Name = "http_request"
		bus.Publish(e)
	}
	if err := bus.Close(); err != nil {
		return err
	}
	out := b.String()
	if n := strings.Count(out, "\n"); n != len(canaries) {
		return fmt.Errorf("%d of %d test events were written", n, len(canaries))
	}
	for _, l := range leaks {
		if i := strings.Index(out, l); i >= 0 {
			return fmt.Errorf("the test secret %q was written in clear", l)
		}
	}
	return nil
}

// Evidence says whether the log works now.
func Evidence(c Config, bus *event.Bus, selfTest error, now time.Time) evidence.Evidence {
	e := evidence.Evidence{Control: "monitoring", Face: evidence.Guard, Check: "event-log", Time: now}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	flush := bus.Flush(ctx)
	switch {
	case selfTest != nil:
		e.Outcome, e.Summary = evidence.Fail, "the security log leaks: "+selfTest.Error()
		e.Fix = "report this as a bug of Dewar, privately"
	case bus.Err() != nil || flush != nil:
		e.Outcome, e.Summary = evidence.Fail, fmt.Sprintf("the security log cannot be written: %v", firstError(bus.Err(), flush))
		e.Fix = "see that " + c.Log + " can be written"
	case bus.Lost() > 0:
		e.Outcome, e.Summary = evidence.Fail, fmt.Sprintf("%d events were lost", bus.Lost())
		e.Fix = "write the log to a faster place"
	default:
		e.Outcome = evidence.Pass
		e.Summary = fmt.Sprintf("every decision goes to %s: %d events written, none lost, %d test secrets stayed out", c.Log, bus.Written(), len(canaries))
	}
	return e
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
