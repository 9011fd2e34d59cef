// Package abuse makes guessing and flooding cost more than they gain.
package abuse

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: guessing and flooding cost more than they gain.
var Control = &control.Control{
	ID:      "abuse",
	Title:   "Guessing and flooding do not pay",
	Promise: "guessing and flooding cost more than they gain",
	Why: "A login form without a limit is tried with millions of leaked passwords; a search " +
		"without a limit is a way to stop the site.",
	Fix:    "Limit requests per client, and logins, resets and tokens much more tightly.",
	CWE:    []int{307, 799, 770, 400},
	ASVS:   []string{"2.4.1", "6.1.1", "6.3.1"},
	OWASP:  []string{"A06:2025", "A07:2025"},
	Rules:  flowRules,
	Layers: layers,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
