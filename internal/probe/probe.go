// Package probe asks the live site from outside what it promises.
//
// A [Check] sends a few harmless requests through a [Client], which holds to
// the host the user named, to a budget and to a pace, and turns the answers
// into findings. It knows no control; the checks live in control/*/probe.go.
//
// What a run may do is decided here and not in the checks. The client takes
// paths and no addresses, dials the one address that the named host had at
// the start, follows no redirect, and counts. A check that could not look, ran
// out of its allowance, or panicked yields error evidence: silence is never a
// pass. Answers carry no cookie values and no secrets.
//
// Every request says who it is (User-Agent: dewar-probe) and, when a guard of
// the same user runs, is signed; the guard's signature on the answer shows
// whether the probe looked through the guard or around it.
package probe

import (
	"context"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Check is one question to the live site. One literal holds its
// documentation and its code.
type Check struct {
	// ID is the check's stable name, such as "csrf-cross-site-post".
	ID      string
	Control evidence.ControlID
	// Asks says in one sentence what is asked of the site.
	Asks string
	Why  string
	Fix  string
	CWE  []int
	// Partial is set when a pass proves only a part of the promise: three
	// parameters that reflect no script say little about the others.
	Partial bool
	// Requests is the most this check may send; the client enforces it.
	Requests int
	// Writes is set when the check sends anything but GET, HEAD or OPTIONS.
	// What it sends must be refused by a site that keeps the promise, and
	// must do no harm on one that does not.
	Writes bool
	// Last is set when asking may use up what the site grants this client (a
	// rate-limit burst): such checks run after all others.
	Last bool
	// Run asks. It returns every answer it got; no answers means that it
	// could not tell, and the runner turns that into an error outcome.
	Run func(ctx context.Context, c *Client) []Answer
}

// Answer is what a check learnt from one URL.
type Answer struct {
	Outcome evidence.Outcome
	// Summary is one sentence, without a full stop and without anything
	// secret: only Seen is redacted.
	Summary string
	URL     string
	// Seen is what was read (a header line, a status), for the report;
	// redacted by the runner.
	Seen string
}
