// Package headers makes sure that the browser is told to defend the user.
package headers

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: the browser is told to defend the user.
var Control = &control.Control{
	ID:      "headers",
	Title:   "The browser defends the user",
	Promise: "the browser is told to defend the user",
	Why: "Without these headers a browser runs injected scripts, shows the site inside a " +
		"hostile frame, guesses content types and falls back to clear text.",
	Fix: "Send a Content-Security-Policy without unsafe-inline, Strict-Transport-Security, " +
		"X-Content-Type-Options, frame-ancestors, Referrer-Policy; the guard sets them, each " +
		"with one owner.",
	CWE:    []int{693, 1021, 319, 116},
	ASVS:   []string{"3.4.1", "3.4.3", "3.4.4", "3.4.5", "3.4.6", "3.4.8"},
	OWASP:  []string{"A02:2025"},
	Rules:  rules,
	Layers: layers,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("reports are collected and grouped (dewar csp report), and no detector raises an alert of them yet"),
	},
}
