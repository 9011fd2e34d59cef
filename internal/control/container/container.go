// Package container makes sure that the image holds only what the app needs.
package container

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: the image holds only what it needs.
var Control = &control.Control{
	ID:      "container",
	Title:   "The image holds only what it needs",
	Promise: "the image holds only what it needs",
	Why: "A shell, a compiler, root rights or a key in an image turn a small hole in the app " +
		"into a foothold on the host.",
	Fix: "Build in stages on a pinned slim image, run as a user without rights, copy only what " +
		"is served, keep keys out of ENV and ARG.",
	CWE:   []int{250, 1188, 732, 526},
	ASVS:  []string{"13.2.2", "13.3.1", "15.2.3"},
	OWASP: []string{"A02:2025", "A03:2025"},
	Empty: map[evidence.Face]control.Absence{
		evidence.Audit:  control.NotYet("Dockerfiles and compose files are not read yet"),
		evidence.Guard:  control.NotYet("the guard does not yet refuse to run the app as root"),
		evidence.Probe:  control.Never("an image cannot be seen from outside"),
		evidence.Detect: control.Never("requests say nothing about the image that answers them"),
	},
}
