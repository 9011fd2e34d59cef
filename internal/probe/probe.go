// Package probe asks the live site from outside what it promises.
//
// A [Check] sends a few harmless requests through a [Client], which holds to
// the host the user named, to a budget and to a pace, and turns the answers
// into findings. It knows no control; the checks live in control/*/probe.go.
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
	// Requests is the most this check may send; the client enforces it.
	Requests int
	// Writes is set when the check sends anything but GET, HEAD or OPTIONS.
	// What it sends must be refused by a site that keeps the promise, and
	// must do no harm on one that does not.
	Writes bool
	// Run asks. It returns every answer it got; no answers means that it
	// could not tell, and the runner turns that into an error outcome.
	Run func(ctx context.Context, c *Client) []Answer
}

// Answer is what a check learnt from one URL.
type Answer struct {
	Outcome evidence.Outcome
	Summary string // one sentence, no full stop
	URL     string
	// Seen is what was read (a header line, a status), for the report;
	// redacted by the runner.
	Seen string
}
