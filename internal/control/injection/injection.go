// Package injection keeps untrusted input from becoming code: SQL, shell
// commands, templates, HTML, paths.
package injection

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: untrusted input never becomes code.
var Control = &control.Control{
	ID:      "injection",
	Title:   "Input never becomes code",
	Promise: "untrusted input never becomes code",
	Why: "A query, command, template or page glued together from a visitor's text does what " +
		"the visitor wants: read the database, run programs, act as another user.",
	Fix: "Bind parameters, leave autoescaping on, pass argument lists instead of shell " +
		"strings, and open only paths that stay inside their folder.",
	CWE:      []int{74, 78, 79, 89, 94, 22, 502, 611, 1336},
	ASVS:     []string{"1.2.1", "1.2.4", "1.2.5", "1.3.2", "1.5.1", "1.5.2"},
	OWASP:    []string{"A05:2025"},
	Layers:   layers,
	Services: services,
	Checks:   checks,
	Rules:    rules,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
