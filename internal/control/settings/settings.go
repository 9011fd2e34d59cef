// Package settings keeps what is meant for development out of production:
// debug mode, the Werkzeug debugger, tracebacks, permissive CORS, files that
// no visitor should read.
package settings

import (
	"slices"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: nothing meant for development reaches production.
var Control = &control.Control{
	ID:      "settings",
	Title:   "Development settings stay in development",
	Promise: "nothing meant for development reaches production",
	Why: "Flask's debug mode answers an error with an interactive console: remote code " +
		"execution for anyone who finds it (CWE-489). Tracebacks, backups and repository " +
		"folders hand out source code and keys.",
	Fix: "Set DEBUG and TESTING to false for production, start the app with a production " +
		"server, and let a CORS policy name its origins.",
	CWE:        []int{489, 215, 16, 209, 538, 942},
	ASVS:       []string{"13.4.1", "13.4.2", "13.4.3", "13.4.7", "16.5.1", "3.4.2"},
	OWASP:      []string{"A02:2025", "A10:2025"},
	Rules:      slices.Concat(rules, flowRules),
	Layers:     layers,
	Preflights: preflights,
	Checks:     checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
