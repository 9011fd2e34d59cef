// Package dependencies keeps packages with known vulnerabilities, and packages
// nobody pinned, out of the app.
package dependencies

import (
	"github.com/dewar-security/dewar/internal/control"
	"github.com/dewar-security/dewar/internal/evidence"
)

// Control is the promise: no known-vulnerable or unpinned package.
var Control = &control.Control{
	ID:      "dependencies",
	Title:   "No known-vulnerable packages",
	Promise: "no known-vulnerable or unpinned package",
	Why: "Most attacks on small sites use a published hole in a package that nobody updated, " +
		"or a package that was never meant to be there.",
	Fix:   "Pin every package with its hash in a lock file and update when an advisory names it.",
	CWE:   []int{1395, 1104, 829},
	ASVS:  []string{"15.1.1", "15.1.2", "15.2.1"},
	OWASP: []string{"A03:2025"},
	Empty: map[evidence.Face]control.Absence{
		evidence.Audit:  control.NotYet("manifests, lock files and advisories are not read yet"),
		evidence.Guard:  control.Never("traffic shows no package versions, so nothing at run time can keep this promise"),
		evidence.Probe:  control.Never("an honest answer does not name its packages, so nothing can be seen from outside"),
		evidence.Detect: control.NotYet("new advisories for a running app are not watched yet"),
	},
}
