// Package uploads makes sure that a file is what it says, small, clean, and
// cannot run.
package uploads

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: a file is what it says, small, clean, and cannot run.
var Control = &control.Control{
	ID:      "uploads",
	Title:   "Uploads are bounded and harmless",
	Promise: "a file is what it says, small, clean, and cannot run",
	Why: "An upload without limits fills the disk; one whose name or type is believed lands " +
		"outside its folder or runs as a page of the site.",
	Fix: "Set MAX_CONTENT_LENGTH, choose the stored name yourself, check the content and not " +
		"only the extension, and serve uploads as attachments from outside static/.",
	CWE:    []int{434, 400, 22, 409},
	ASVS:   []string{"5.2.1", "5.2.2", "5.3.1", "5.3.2"},
	OWASP:  []string{"A06:2025", "A05:2025"},
	Layers: layers,
	Rules:  rules,
	Checks: checks,
	Empty: map[evidence.Face]control.Absence{
		evidence.Detect: control.NotYet("detectors are not built yet; the events they will read are already written"),
	},
}
