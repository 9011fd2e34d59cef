// Package authn makes sure that protected views need a proven identity.
package authn

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: protected views need a proven identity.
var Control = &control.Control{
	ID:      "authn",
	Title:   "Protected views need an identity",
	Promise: "protected views need a proven identity",
	Why: "A view that forgot its login check is open to everybody, however good the login page " +
		"is.",
	Fix: "Put login_required below the route decorator, verify tokens with a fixed algorithm, " +
		"issuer and audience, and hash passwords with argon2 or scrypt.",
	CWE:    []int{287, 306, 862, 347, 916},
	ASVS:   []string{"6.3.4", "8.2.1", "8.3.1", "9.1.1", "9.1.2"},
	OWASP:  []string{"A01:2025", "A07:2025"},
	Rules:  rules,
	Layers: layers,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
