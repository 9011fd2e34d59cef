// Package session makes a stolen, fixed or forged session worthless.
package session

import (
	"slices"

	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: a stolen, fixed or forged session is worthless.
var Control = &control.Control{
	ID:      "session",
	Title:   "Sessions cannot be stolen or forged",
	Promise: "a stolen, fixed or forged session is worthless",
	Why: "A session cookie that scripts can read, that travels in clear text or that lives for " +
		"a year is a password that leaks. Flask's own is signed, not encrypted, and kept nowhere: whoever " +
		"has SECRET_KEY writes any user's, and no logout ends a copy of it.",
	Fix: "Set SESSION_COOKIE_SECURE, SESSION_COOKIE_HTTPONLY and SESSION_COOKIE_SAMESITE, the " +
		"same for REMEMBER_COOKIE_*, and a PERMANENT_SESSION_LIFETIME of hours. Let the guard's session " +
		"layer seal the cookie (session.seal): it does by itself where dewar runs the app.",
	CWE:    []int{614, 1004, 1275, 613, 384, 565, 321},
	ASVS:   []string{"3.3.1", "3.3.2", "3.3.3", "3.3.4", "7.2.4", "7.3.1", "7.3.2", "7.4.1", "7.4.2", "7.4.5"},
	OWASP:  []string{"A07:2025"},
	Rules:  slices.Concat(rules, flowRules),
	Layers: layers,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
