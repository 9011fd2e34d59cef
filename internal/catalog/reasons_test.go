package catalog_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/catalog"
)

// A reason as the code writes it: guard.Refuse(status, "name", …), or a field.
var given = regexp.MustCompile(`Refuse\([^,\n]+, "([a-z][a-z-]*[a-z])"|\bReason: +"([a-z][a-z-]*[a-z])"`)

// TestReasonsExplained reads the code of the guard: whatever it gives as a
// reason in an event, "dewar explain" knows.
func TestReasonsExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range []string{"../guard", "../gateway", "../wire", "../control"} {
		err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			b, err := os.ReadFile(name)
			for _, m := range given.FindAllSubmatch(b, -1) {
				seen[string(m[1])+string(m[2])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 20 || !seen["upstream-broken"] {
		t.Fatalf("the code was not understood: only %d reasons", len(seen))
	}
	for r := range seen {
		if len(catalog.Find(r)) == 0 {
			t.Errorf("%q is given as a reason and not explained", r)
		}
	}
}
