// Package egress makes sure that the app reaches only where it must.
package egress

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: the app reaches only where it must.
var Control = &control.Control{
	ID:      "egress",
	Title:   "The app reaches only where it must",
	Promise: "the app reaches only where it must",
	Why: "A URL that a visitor chose and the server fetches opens the inside of the network: " +
		"cloud metadata with its keys, databases, other services (SSRF).",
	Fix: "Fetch only from listed hosts, with verification and a timeout; send everything else " +
		"through a proxy that refuses private addresses.",
	CWE:   []int{918, 441, 295},
	ASVS:  []string{"1.3.6", "13.2.4", "13.2.5"},
	OWASP: []string{"A01:2025"},
	Rules: rules,
	Empty: map[evidence.Face]control.Absence{
		evidence.Guard:  control.NotYet("the egress proxy is not built yet"),
		evidence.Probe:  control.NotYet("asking the app to call back is not built yet"),
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
