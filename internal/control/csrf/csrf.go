// Package csrf makes sure that every state-changing request comes from our own
// pages.
package csrf

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: every state-changing request proves it came from our own pages.
var Control = &control.Control{
	ID:      "csrf",
	Title:   "Other sites cannot act for the user",
	Promise: "every state-changing request proves it came from our own pages",
	Why: "A browser sends the visitor's cookies with a form that another site made: the " +
		"visitor pays, posts or deletes without knowing.",
	Fix: "Enable CSRFProtect for the whole app, put a token into every form, never change " +
		"state on GET; the guard refuses cross-site requests by Fetch-Metadata and Origin.",
	CWE:    []int{352, 1385, 346},
	ASVS:   []string{"3.5.1", "3.5.2", "3.5.3"},
	OWASP:  []string{"A01:2025"},
	Rules:  rules,
	Layers: layers,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
