package cli

import (
	goflag "flag"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = goflag.Bool("update", false, "write the golden files")

// TestShopIsClean: the example that is written well has nothing to report,
// and nothing was left out of the look.
func TestShopIsClean(t *testing.T) {
	code, out, errs := dewar(t, nil, "audit", "../../examples/shop", "--fail-on", "low", "--strict", "--all")
	if code != exitOK || !strings.Contains(out, "no findings") {
		t.Errorf("ended with %d\n%s%s", code, out, errs)
	}
}

// TestLeakyIsFound: the findings on the example that breaks every promise are
// exactly those of the golden file, and each of them stands at or next to a
// line that is marked as broken.
func TestLeakyIsFound(t *testing.T) {
	code, out, _ := dewar(t, nil, "audit", "../../examples/leaky", "--format", "concise", "--all")
	if code != exitFindings {
		t.Errorf("ended with %d", code)
	}
	const golden = "testdata/leaky.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out); d != "" {
		t.Errorf("the findings changed (-update writes them):\n%s", d)
	}
	place := regexp.MustCompile(`^(\S+?):(\d+):\d+: \w+\[DW-([A-Z]+)-`)
	byControl := map[string]int{}
	for line := range strings.Lines(out) {
		m := place.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no place in %q", line)
		}
		byControl[m[3]]++
		text, err := os.ReadFile("../../examples/leaky/" + m[1])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		n, _ := strconv.Atoi(m[2])
		// The mark stands on the line, or above it where no comment can
		// follow; a finding about several routes stands at the extension.
		marked := strings.Contains(strings.Join(lines[max(0, n-2):min(len(lines), n+1)], "\n"), "LEAK[")
		if !marked && !strings.Contains(line, "routes change state") {
			t.Errorf("nothing is marked as broken at %s", line)
		}
	}
	for _, c := range []string{"SETTINGS", "SECRETS", "SESSION", "CSRF", "HEADERS", "DEPLOYMENT"} {
		if byControl[c] < 3 {
			t.Errorf("only %d findings of %s", byControl[c], c)
		}
	}
}
