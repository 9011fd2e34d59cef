// Package secrets keeps keys outside the source and strong.
package secrets

import (
	"slices"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: keys live outside the source and are strong.
var Control = &control.Control{
	ID:      "secrets",
	Title:   "Keys are secret and strong",
	Promise: "keys live outside the source and are strong",
	Why: "Whoever knows SECRET_KEY forges any user's session, and a key in the source is known " +
		"to everybody who ever saw the repository. Flask's tutorial keys are in every " +
		"attacker's word list.",
	Fix: "Read every key from the environment or a secret store, without a default; make " +
		"SECRET_KEY with python -c \"import secrets; print(secrets.token_hex(32))\"; rotate one " +
		"that was ever committed.",
	CWE:        []int{798, 321, 1391, 540, 331},
	ASVS:       []string{"13.3.1", "13.3.4", "11.2.3"},
	OWASP:      []string{"A04:2025", "A07:2025"},
	Rules:      slices.Concat(rules, flowRules),
	Preflights: preflights,
	Checks:     checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
