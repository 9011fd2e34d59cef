// Package deployment makes sure that production is served by production parts,
// over TLS.
package deployment

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: production is served by production parts, over TLS.
var Control = &control.Control{
	ID:      "deployment",
	Title:   "Production parts serve production",
	Promise: "production is served by production parts, over TLS",
	Why: "Flask's development server is neither fast nor hardened; clear text can be read and " +
		"changed on the way; a server that believes forged headers believes anything.",
	Fix: "Run gunicorn on a private socket behind the guard, end TLS 1.2 or later there, " +
		"redirect HTTP, and name the proxies that may speak for clients.",
	CWE:        []int{319, 295, 326, 444, 348, 489},
	ASVS:       []string{"12.1.1", "12.2.1", "12.2.2", "13.4.4", "13.4.6", "4.1.3"},
	OWASP:      []string{"A02:2025", "A04:2025"},
	Rules:      rules,
	Layers:     layers,
	Preflights: preflights,
	Services:   services,
	Checks:     checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
