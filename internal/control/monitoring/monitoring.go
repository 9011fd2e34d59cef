// Package monitoring makes sure that abuse is seen, and that logs hold no
// secrets.
package monitoring

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: abuse is seen, and logs hold no secrets.
var Control = &control.Control{
	ID:      "monitoring",
	Title:   "Abuse is seen, logs hold no secrets",
	Promise: "abuse is seen, and logs hold no secrets",
	Why: "An attack that nobody sees goes on for months; a log with passwords in it is a " +
		"second database to steal.",
	Fix: "Log authentication, refusals and administration, without passwords, tokens and " +
		"cookies; the guard writes a redacted security log of its own.",
	CWE:      []int{778, 532, 117, 223},
	ASVS:     []string{"16.2.5", "16.3.1", "16.3.2", "16.4.1"},
	OWASP:    []string{"A09:2025"},
	Services: services,
	Rules:    rules,
	Empty: map[evidence.Face]control.Absence{
		evidence.Probe:  control.Never("logs are private: nothing of them can be seen from outside"),
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
