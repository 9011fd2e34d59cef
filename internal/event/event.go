// Package event is the security log: what happened, in one documented shape,
// with secrets and personal data taken out before anything is written.
//
// The guard publishes an [Event] for every decision; a [Bus] hands it to the
// detectors and, redacted, to every [Sink].
package event

import (
	"net/netip"
	"time"
)

// Severity follows the OpenTelemetry log data model's severity numbers, of
// which Dewar uses one per level.
type Severity uint8

// The levels in use, with OpenTelemetry's SeverityNumber as their value.
const (
	Debug    Severity = 5
	Info     Severity = 9
	Warn     Severity = 13
	High     Severity = 17 // OpenTelemetry ERROR
	Critical Severity = 21 // OpenTelemetry FATAL
)

// Event is one line of the security log. Field names follow the OpenTelemetry
// semantic conventions where they are stable (http, url, client, user_agent);
// Name follows the OWASP Logging Vocabulary. docs/events.md and the JSON
// schema are generated from this struct.
type Event struct {
	Time     time.Time `json:"time" jsonschema_description:"When it happened (RFC 3339, UTC)."`
	ID       string    `json:"id" jsonschema_description:"ULID: unique, sortable by time."`
	Name     string    `json:"event.name" jsonschema_description:"What happened, in the words of the OWASP Logging Vocabulary."`
	Severity Severity  `json:"severity" jsonschema_description:"debug, info, warn, high or critical."`
	Message  string    `json:"message,omitempty" jsonschema_description:"One sentence for a person."`

	Control string `json:"dewar.control,omitempty" jsonschema_description:"The control the event is about."`
	Layer   string `json:"dewar.layer,omitempty" jsonschema_description:"The layer that decided."`
	Verdict string `json:"dewar.verdict,omitempty" jsonschema_description:"allow, note, answer, observe or deny."`
	Reason  string `json:"dewar.reason,omitempty" jsonschema_description:"Stable name of the reason, such as csrf-cross-site."`
	Detail  string `json:"dewar.detail,omitempty" jsonschema_description:"What exactly was seen, redacted."`

	RequestID string     `json:"http.request.id,omitempty" jsonschema_description:"The request's id, as the error page shows it to the visitor."`
	Method    string     `json:"http.request.method,omitempty" jsonschema_description:"The request's method."`
	Scheme    string     `json:"url.scheme,omitempty" jsonschema_description:"http or https, as the client used it."`
	Host      string     `json:"server.address,omitempty" jsonschema_description:"The host the client asked for."`
	Path      string     `json:"url.path,omitempty" jsonschema_description:"The path, redacted."`
	Query     string     `json:"url.query,omitempty" jsonschema_description:"The query string, redacted by key and by shape."`
	Status    int        `json:"http.response.status_code,omitempty" jsonschema_description:"The status the client got."`
	Bytes     int64      `json:"http.response.body.size,omitempty" jsonschema_description:"Body bytes sent to the client."`
	Client    netip.Addr `json:"client.address,omitzero" jsonschema_description:"The client's address, after trusted proxies."`
	UserAgent string     `json:"user_agent.original,omitempty" jsonschema_description:"The client's User-Agent, cut and redacted."`
	Duration  float64    `json:"duration_ms,omitempty" jsonschema_description:"Milliseconds from the request's head to the answer's end."`

	// Attributes holds what only some events have, under documented keys.
	Attributes map[string]string `json:"attributes,omitempty" jsonschema_description:"What only some events have."`
}
