// Package guard decides about every request before the app sees it, and about
// every answer before the client does.
//
// A [Layer] looks at one thing (the client's rate, the Origin header, the
// body) and returns a [Decision]. The [Chain] runs the layers in the order of
// catalog.Layers, applies the mode in force for the request's route, writes
// the one error page, counts and records. Layers never write to the client
// and never know of one another.
//
//	           request                                  answer
//	client ──▶ request ▸ client ▸ https ▸ … ▸ waf ──▶ app ──▶ mask ▸ cookies ▸ headers ──▶ client
//	             │ deny                                           ▲
//	             └──────────── error page ────────────────────────┘
//
// Request hooks run in traffic order, response hooks in the same order too:
// the last line of catalog.Layers has the last word on a header. The guard's
// own pages pass through the response hooks like the app's.
package guard

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

// Mode says what a layer's refusal means.
type Mode uint8

const (
	// Enforce refuses the request. It is the zero value: a layer nobody
	// configured protects.
	Enforce Mode = iota
	// Observe lets the request pass and records what would have happened.
	Observe
	// Off does not run the layer.
	Off
)

// Verdict is a layer's answer about one request or response.
type Verdict uint8

const (
	// Allow passes the exchange on to the next layer.
	Allow Verdict = iota
	// Noted passes the exchange on, too: something worth an event happened.
	// Layers do not return it, they call [Exchange.Note].
	Noted
	// Answer ends the exchange with an answer that is no refusal: a redirect
	// to https, a CORS preflight. It is given in Observe mode too.
	Answer
	// Observed is a Deny that the mode turned into a note. Only the chain
	// sets it.
	Observed
	// Deny refuses the request with Status.
	Deny
)

// Decision is what a layer found. The zero Decision allows.
type Decision struct {
	Verdict Verdict
	// Reason is a stable, documented name such as "csrf-cross-site": what
	// metrics count by, and what an override's comment refers to.
	Reason string
	// Detail says what exactly was seen, for the log, never for the visitor.
	// It may quote the request: the event's redaction takes secrets out.
	Detail string
	// Status is the HTTP status of an Answer (0 means 204) or a Deny (0, and
	// whatever is no error, means 403).
	Status int
	// Header is set on the answer: Retry-After, Location, Allow.
	Header http.Header
	// Body is what an Answer says, in the type that Header gives. A Deny has
	// the error page instead, unless there is a Body: the app's own page.
	Body []byte
	// Event is the OWASP Logging Vocabulary name; empty lets the layer's
	// Spec decide.
	Event string
	// Severity is the event's; 0 lets the layer's Spec decide.
	Severity event.Severity
	// Attributes are more fields for the event, under keys that the layer's
	// documentation names. Nothing in them may quote the request unless the
	// redaction can judge it by the key.
	Attributes map[string]string

	// Quiet is set on an Answer that is no news: it is counted, and the
	// request is logged as one that no layer had anything to say about.
	Quiet bool

	// Layer and Mode are filled in by the chain.
	Layer string
	Mode  Mode
}

// Pass is the Decision of a layer with nothing to say.
func Pass() Decision { return Decision{} }

// Refuse returns the Decision that refuses a request with an HTTP status.
func Refuse(status int, reason, detail string) Decision {
	return Decision{Verdict: Deny, Status: status, Reason: reason, Detail: detail}
}

// A Layer is one line of defence. Request is called once per request, from
// many goroutines at once, and must not keep x. It may change x.Request (take
// away a forged header) and x.Client; it must not read the body except
// through [Exchange.Body].
//
// A reload makes every layer anew, while requests are still in the old ones.
// What must outlive it belongs into [Env.Store]. A Layer with a Close method
// is closed when it has been replaced and its last request has ended.
type Layer interface {
	Request(x *Exchange) Decision
}

// A Responder is a Layer that also looks at the answer before its header is
// sent. It may change r's header and replace its body. Denying here replaces
// the whole answer by the error page. When the layer only observes, the chain
// takes back its changes of the header and status, but it cannot take back a
// change of the body: a layer that makes one says so in its Describe.
type Responder interface {
	Layer
	Response(x *Exchange, r *http.Response) Decision
}

// A Reporter is a Layer that knows more about its own state than the chain
// does: that its rules are loaded, that its store answers. Health is asked
// for every snapshot; an error there means that the control is not enforced,
// and the checklist says so.
type Reporter interface {
	Layer
	Health() error
	// Describe says in half a sentence what is enforced, for evidence:
	// "Core Rule Set 4.25.0, paranoia level 1, 3 exclusions".
	Describe() string
}

// ErrDegraded is wrapped by the Health of a layer that refuses all that it
// should and cannot offer something: the provider of logins is down. Evidence
// says so; readiness does not count it, because no other node could do better.
var ErrDegraded = errors.New("degraded")

// An Idler stands for a layer that is off. Idle says why when no setting has
// switched it off: "not configured: …".
type Idler interface {
	Layer
	Idle() string
}

// A Prover is a Layer that can speak of more than itself: of findings of the
// audit that it holds shut.
type Prover interface {
	Layer
	// Proves returns evidence; the chain fills in face, layer and time. It is
	// asked only while the layer enforces on every route.
	Proves() []evidence.Evidence
}

// FailureMode says what a layer does when it cannot work.
type FailureMode uint8

const (
	// FailClosed refuses the request with 503.
	FailClosed FailureMode = iota
	// FailOpen lets the request pass, says so in metrics and evidence.
	FailOpen
)

// Spec describes a layer once: for the chain, the documentation, "dewar
// explain" and the checklist.
type Spec struct {
	// Name is the layer's name in settings, metrics and events.
	Name string
	// Control is the promise that the layer keeps.
	Control evidence.ControlID
	// Does says in one sentence what is refused or changed.
	Does string
	// Partial layers keep only a part of the control's promise: what they
	// enforce is evidence, but no proof. See evidence.Evidence.
	Partial bool
	// Advises says that the layer observes unless settings say otherwise: what
	// it then notes is advice, and that it refuses nothing is no fault.
	Advises bool
	// Blocking layers can refuse; the others only change what passes.
	Blocking bool
	// Reasons documents every Decision.Reason the layer can return.
	Reasons []Reason
	// Failure is what happens when the layer itself fails (panics, or
	// reports that its store is gone).
	Failure FailureMode
	// Event is the default event name of a refusal (OWASP Logging
	// Vocabulary), Severity its default severity (0: event.Warn).
	Event    string
	Severity event.Severity
	// Commands documents what an operator can ask the layer to do; a layer
	// that has some is an [Operator].
	Commands []Command
}

// Reason documents one reason for a refusal.
type Reason struct {
	Name string // "csrf-cross-site"
	Why  string // one sentence: the attack it stops
	Fix  string // what an operator does when the refusal was wrong
}

// Client is who asks, as far as the guard could establish.
type Client struct {
	// Peer is the other end of the connection.
	Peer netip.Addr
	// Addr is the client behind trusted proxies; Peer when there are none.
	Addr netip.Addr
	// TrustedPeer reports whether Peer is a proxy whose forwarding headers
	// are believed.
	TrustedPeer bool
	// Scheme is http or https, as the client used it; Host is the authority
	// it asked for, lower case, with the port if one was given.
	Scheme string
	Host   string
	// Certificate is the client's, verified and not expired; nil when it
	// showed none.
	Certificate *x509.Certificate
}

// ClientNetwork returns the network that an address is one client of, where no
// setting says otherwise: an IPv4 address itself, and the /64 of an IPv6 one,
// all of which one subscriber commonly has (RFC 6177). The zero Prefix stands
// for no address, which all clients without one share.
func ClientNetwork(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	p, _ := addr.Prefix(min(addr.BitLen(), 64))
	return p
}

// Facts is what the running app says about itself, read inside a worker by
// the gateway's gunicorn hook. Known is false when nothing could be read (an
// app that something else runs): then every fact is unproven, not fine.
type Facts struct {
	Known bool
	// Why says why Known is false.
	Why string

	AppFound           bool // a flask.Flask object was found behind the WSGI callable
	Debug, Testing     bool
	DebuggerWrapped    bool   // werkzeug's DebuggedApplication is in the WSGI stack
	Server             string // "gunicorn 27.0.1"
	SecretKey          Secret
	SecretKeyFallbacks []Secret
	SessionCookieName  string
	RememberCookieName string
	Sessions           SessionFacts
	FlaskVersion       string
	WerkzeugVersion    string
	PythonVersion      string
	Routes             []FactRoute
	// Elsewhere says why a path that no rule of Routes has may be answered
	// all the same: WSGI middleware, a hook that returns an answer, an error
	// handler that does not answer with an error. Empty: nothing can.
	Elsewhere []string
	UID       int
	// Patched is the library that has put its own in place of Python's
	// threads and sockets ("gevent", "eventlet"), Worker gunicorn's worker
	// class ("gthread").
	Patched, Worker string
}

// SessionFacts says how the app keeps sessions.
type SessionFacts struct {
	// Kind is "cookie" for Flask's own, which keeps everything in a signed
	// cookie, "id" for an interface that keeps it elsewhere under an id,
	// "none" for an app without a key, which has none; empty: unknown.
	Kind string
	// Interface is the class.
	Interface string
	// Salt and Derivation are how a signed cookie's key follows from
	// SECRET_KEY; empty: Flask's.
	Salt, Derivation string
	// Lifetime is PERMANENT_SESSION_LIFETIME; 0: unknown.
	Lifetime time.Duration
	// Path and Domain are those of the cookie.
	Path, Domain string
	// Tells is set when the worker says on request what a session of Kind
	// "id" holds: see the session layer.
	Tells bool
}

// FactRoute is one rule of the app's url_map.
type FactRoute struct {
	Rule     string
	Methods  []string
	Endpoint string
	// Converters are the regular expressions (Python's) of the variable parts
	// that a converter of the project reads, by name.
	Converters map[string]string
	// Folder is where the files are that Flask serves under the rule by
	// itself: the static folder of the app or of a blueprint. Empty: none.
	Folder string
}

// Secret is a value that cannot be printed by accident: every formatting verb
// and encoder writes "[secret]". Reveal is spelled out where it is meant.
type Secret struct{ value string }

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{s} }

// Reveal returns the secret itself. The caller must not log or store it.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

// String implements [fmt.Stringer] without the value.
func (Secret) String() string { return "[secret]" }

// GoString implements [fmt.GoStringer] without the value.
func (Secret) GoString() string { return "[secret]" }

// MarshalText implements [encoding.TextMarshaler] without the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Profile is where the app runs; it chooses the defaults.
type Profile string

// The profiles, strictest first. The zero Profile means Production.
const (
	Production  Profile = "production"
	Staging     Profile = "staging"
	Development Profile = "development"
)

// A Preflight looks at the app before the first request is let in. It refuses
// to start rather than to serve something that cannot be safe.
type Preflight struct {
	Name    string // "debug-off"
	Control evidence.ControlID
	Does    string // one sentence
	Why     string
	Fix     string
	// Check returns the problem, or "" when there is none. An error means
	// that it could not look: the start goes on, the checklist says unproven.
	Check func(Facts) (problem string, err error)
	// RelaxedIn lists the profiles in which a problem is a warning.
	RelaxedIn []Profile
}

// Clock is the time source of layers; tests replace it.
type Clock func() time.Time

// Env is what every layer may lean on. All fields but Profile are set before
// the first layer is made.
type Env struct {
	Profile Profile
	Store   store.Store
	Now     Clock
	// CertificateNames returns the DNS names and addresses that the TLS
	// certificate in use covers; nil when TLS ends elsewhere.
	CertificateNames func() []string
	// Facts returns what the running app said about itself, once it runs.
	Facts func() Facts
	// Secret reads a secret that a setting only refers to: env:NAME or
	// file:/path. Nil reads none.
	Secret func(ref string) (Secret, error)
	// DataDir is a folder of this project's guard that outlives a reboot and
	// that nobody else can enter. It is made when it is first asked for; an
	// error says why there is none. Nil: there is none.
	DataDir func() (string, error)
	// Policy returns what the app's source says of its requests; nil while
	// that is not known, or never will be. Nil itself means never.
	Policy func() *policy.Policy
	// Publish writes an event about what happens outside of a request. Nil
	// writes nothing.
	Publish func(event.Event)
}

// Service is something that keeps a promise beside the layers: the security
// log, the egress proxy. Its evidence comes from whoever runs it.
type Service struct {
	Name    string
	Control evidence.ControlID
	Does    string // one sentence
	Why     string
	Fix     string
}
