package guard

import (
	"net/http"
	"time"
)

// Exchange is one request on its way through the chain, and its answer. It is
// owned by the goroutine that serves the request.
type Exchange struct {
	// ID is the request's id: 26 characters of ULID, shown to the visitor on
	// the error page, sent to the app and the client as X-Request-Id.
	ID string
	// Start is when the head had been read.
	Start time.Time
	// Request is what the app will get. Layers take away what must not reach
	// it; what they leave is forwarded unchanged.
	Request *http.Request
	// Client is who asks.
	Client Client
	// Path is the decoded path on which overrides and policies match: the
	// one the app will see as PATH_INFO. The request layer has refused every
	// path that two parsers read differently.
	Path string
	// Override is the first route override whose pattern matches, or nil.
	Override *Override
	// Decisions holds every Decision that was not Allow, in order.
	Decisions []Decision
	// ThroughProbe is set when the request carries a valid probe signature.
	ThroughProbe bool

	body      *Body
	bodyErr   error
	spilled   *Body // what was read of a body that Buffer refused
	bodyLimit Size
	limited   bool
	spool     *Spool            // nil means the one that everybody shares
	stacks    map[string]string // of layers that panicked, by name
}
