package guard

import (
	"net/http"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/policy"
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
	// Identity is whom the request belongs to: filled in by the layers
	// session and authn.
	Identity Identity
	// Change is what the answer did to the app's session: set by the session
	// layer, for the responders after it.
	Change SessionChange
	// ThroughProbe is set when the request carries a valid probe signature.
	ThroughProbe bool

	body      *Body
	bodyErr   error
	spilled   *Body   // what was read of a body that Buffer refused
	kept      []*Body // what Keep read, and bodies that were replaced
	indexed   index   // what Parts found
	bodyLimit Size
	limited   bool
	spool     *Spool            // nil means the one that everybody shares
	stacks    map[string]string // of layers that panicked, by name
	notes     []Decision        // of the layer that is being asked
	values    []layerValue      // what layers keep for their own Response
	match     policy.Match
	matched   matchKey
	streaming *streaming // nil: the answer ends soon, or nobody wants to end it

	fields     Fields
	fieldsErr  error
	fieldsRead bool
}

// Note is an event about something that is no refusal: a login, a session
// that was renewed.
type Note struct {
	// Event is one of [event.Names].
	Event    string
	Severity event.Severity // 0 means Info
	// Reason is one of the layer's [Spec.Reasons]; it may be empty.
	Reason string
	// Detail and Attributes are as in a [Decision].
	Detail     string
	Attributes map[string]string
}

// Note has an event written for the layer that is being asked. The request
// goes on. A layer calls it only in Request and Response.
func (x *Exchange) Note(n Note) {
	if n.Severity == 0 {
		n.Severity = event.Info
	}
	x.notes = append(x.notes, Decision{Verdict: Noted, Event: n.Event, Severity: n.Severity, Reason: n.Reason, Detail: n.Detail, Attributes: n.Attributes})
}

// layerValue is one value of [Exchange.SetValue].
type layerValue struct{ key, value any }

// SetValue keeps a value of a layer from its Request to its Response. The key
// is of a type of the layer's own, as in a [context.Context].
func (x *Exchange) SetValue(key, value any) {
	for i := range x.values {
		if x.values[i].key == key {
			x.values[i].value = value
			return
		}
	}
	x.values = append(x.values, layerValue{key, value})
}

// Value returns what SetValue kept, or nil.
func (x *Exchange) Value(key any) any {
	for _, v := range x.values {
		if v.key == key {
			return v.value
		}
	}
	return nil
}
