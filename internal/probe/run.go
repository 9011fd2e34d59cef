package probe

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Report is what a run learnt.
type Report struct {
	Site     string   `json:"site"`
	Address  string   `json:"address"` // the one address that was asked
	Results  []Result `json:"results"` // in the order of the checks given
	Requests int      `json:"requests"`
	Budget   int      `json:"budget"`
	// Notes says what limits the whole run: an unverified certificate, writing
	// requests switched off.
	Notes    []string      `json:"notes,omitempty"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration_ns"`
}

// Result is one check's evidence.
type Result struct {
	Check    *Check              `json:"-"`
	Evidence []evidence.Evidence `json:"evidence"` // at least one
	Requests int                 `json:"requests"`
}

// Evidence returns all evidence, in the order of the checks.
func (r *Report) Evidence() []evidence.Evidence {
	var out []evidence.Evidence
	for _, res := range r.Results {
		out = append(out, res.Evidence...)
	}
	return out
}

// Run asks the site everything in checks, one check at a time. Every check
// yields at least one piece of evidence, whatever happens: a cancelled ctx
// leaves errors for the checks not reached.
//
// The error says that nothing could be asked at all: raw is no URL of a site,
// or nothing answers there.
func Run(ctx context.Context, raw string, checks []*Check, o Options) (*Report, error) {
	o = o.withDefaults()
	s, err := parseSite(raw, o)
	if err != nil {
		return nil, err
	}
	r := &Report{Site: s.origin(), Budget: o.Budget, Started: time.Now(), Results: make([]Result, len(checks))}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	defer s.close()
	r.Address = s.addr.String()
	if err := s.greet(ctx); err != nil {
		return nil, err
	}
	switch {
	case s.trust != nil:
		r.Notes = append(r.Notes, fmt.Sprintf("the certificate is not trusted (%v), so nothing was sent over TLS: give the authority's certificate, or go on without verifying", s.trust))
	case o.Insecure && s.scheme == "https":
		r.Notes = append(r.Notes, "certificates were not verified: whoever sits in between could have answered")
	}
	if !o.Writes {
		r.Notes = append(r.Notes, "no writing requests were sent: checks that need one could not tell")
	}
	for _, last := range []bool{false, true} {
		for i, k := range checks {
			if k.Last == last {
				r.Results[i] = s.ask(ctx, k)
				if o.Progress != nil {
					o.Progress(r.Results[i])
				}
			}
		}
	}
	r.Requests, r.Duration = s.sent, time.Since(r.Started)
	return r, nil
}

// greet finds out whether the certificate can be trusted, before any request
// is sent to somebody who may not be the site.
func (s *site) greet(ctx context.Context) error {
	if s.scheme != "https" {
		return nil
	}
	c := s.client(&Check{ID: "connect", Requests: 1})
	st, err := c.Handshake(ctx, 0, 0)
	var refused *DialError
	switch {
	case errors.As(err, &refused) || ctx.Err() != nil:
		return fmt.Errorf("%s does not answer: %w", s.origin(), err)
	case err != nil:
		return fmt.Errorf("%s does not speak TLS: %w", s.origin(), err)
	}
	if err := s.Verify(st.PeerCertificates, time.Now()); err != nil && !s.o.Insecure {
		s.trust = err
	}
	return nil
}

// client returns the client for one check.
func (s *site) client(k *Check) *Client {
	return &Client{site: s, check: k, left: new(k.Requests), around: new(int), through: new(int)}
}

// ask runs one check.
func (s *site) ask(ctx context.Context, k *Check) (res Result) {
	c := s.client(k)
	start := time.Now()
	var answers []Answer
	why := ""
	switch {
	case ctx.Err() != nil:
		why = "not asked: the run was interrupted"
	case k.Writes && !s.o.Writes:
		why = "not asked: writing requests are switched off"
	default:
		answers, why = c.run(ctx)
		if len(answers) == 0 && why == "" {
			why = "could not tell"
			if ctx.Err() != nil {
				why = "could not tell: the run was interrupted"
			}
		}
	}
	if why != "" {
		answers = append(answers, Answer{Summary: why})
	}
	res = Result{Check: k, Requests: k.Requests - *c.left}
	for _, a := range answers {
		e := evidence.Evidence{
			Control: k.Control, Face: evidence.Probe, Check: k.ID, Outcome: a.Outcome,
			Summary: strings.TrimSuffix(clean(a.Summary), "."), URL: a.URL, Seen: redact(a.Seen), Partial: k.Partial, Time: start.UTC(),
		}
		if e.URL == "" {
			e.URL = s.origin()
		}
		if e.Summary == "" {
			e.Summary = e.Outcome.String()
		}
		if a.Outcome == evidence.Fail {
			e.Fix = k.Fix
		}
		s.mu.Lock()
		v, known := s.vantage[e.URL]
		switch {
		case known:
			e.Vantage = v
		// An answer about several URLs: one that came around the guard is
		// what matters.
		case *c.around > 0:
			e.Vantage = evidence.AroundGuard
		case *c.through > 0:
			e.Vantage = evidence.ThroughGuard
		}
		s.mu.Unlock()
		res.Evidence = append(res.Evidence, e)
	}
	return res
}

// run calls the check's code; a panic in it costs this check only.
func (c *Client) run(ctx context.Context) (answers []Answer, why string) {
	defer func() {
		if p := recover(); p != nil {
			at := ""
			for line := range strings.Lines(string(debug.Stack())) {
				if _, place, ok := strings.Cut(line, "/internal/control/"); ok && strings.Contains(place, ".go:") {
					place, _, _ = strings.Cut(strings.TrimSpace(place), " ")
					at = " at " + place
					break
				}
			}
			answers, why = nil, fmt.Sprintf("a mistake in the check stopped it: %v%s", p, at)
		}
	}()
	return c.check.Run(ctx, c), ""
}

var redactor = event.NewRedactor()

// maxSeen bounds what a report quotes of a site.
const maxSeen = 600

// redact makes text from the site fit to print: no cookie values, no secrets,
// no control characters (a terminal obeys them), not too long.
func redact(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		line = clean(strings.TrimRight(line, "\r\n"))
		if c, ok := redactCookies(line); ok {
			line = c // with its attributes, which are what a report is about
		} else {
			line = redactor.Text(line)
		}
		out = append(out, line)
	}
	s = strings.Join(out, "\n")
	if len(s) > maxSeen {
		s = strings.ToValidUTF8(s[:maxSeen], "") + " …"
	}
	return s
}

// redactCookies takes the values out of a Cookie or Set-Cookie line; ok is
// false for any other line.
func redactCookies(line string) (string, bool) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return line, false
	}
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "set-cookie":
		pair, attrs, more := strings.Cut(value, ";")
		if more {
			attrs = ";" + attrs
		}
		return name + ":" + hideValue(pair) + attrs, true
	case "cookie":
		var pairs []string
		for p := range strings.SplitSeq(value, ";") {
			pairs = append(pairs, hideValue(p))
		}
		return name + ":" + strings.Join(pairs, ";"), true
	}
	return line, false
}

func hideValue(pair string) string {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		if strings.TrimSpace(pair) == "" {
			return pair
		}
		return " " + event.Redacted // a value without a name
	}
	if value == "" {
		return pair
	}
	return name + "=" + event.Redacted
}

// clean makes control characters visible.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' || r == '\u2028' {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(s, "·"))
}
