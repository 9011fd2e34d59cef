package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditCache: a second run tells the same in every format, and says in
// the text where it knows it from.
func TestAuditCache(t *testing.T) {
	dir := project1(t, map[string]string{"app.py": debugApp + "password = \"hunter2hunter2\"\n", "templates/x.html": "<form method=post>{{ x|safe }}</form>"})
	cache := "XDG_CACHE_HOME=" + t.TempDir()
	for _, format := range []string{"json", "sarif", "concise"} {
		_, fresh, _ := dewar(t, nil, "audit", dir, "--no-cache", "-f", format)
		_, first, _ := dewar(t, []string{cache}, "audit", dir, "-f", format)
		code, second, errs := dewar(t, []string{cache}, "audit", dir, "-f", format)
		if fresh != first || first != second || code != exitFindings || errs != "" || !strings.Contains(first, "DW-SETTINGS-001") {
			t.Errorf("%s differs, ended with %d, %s:\n%s\n%s\n%s", format, code, errs, fresh, first, second)
		}
	}
	said := func(args ...string) (string, bool) {
		_, out, _ := dewar(t, []string{cache}, append([]string{"audit", dir}, args...)...)
		return out, strings.Contains(out, "read from the cache")
	}
	if out, ok := said(); !ok || !strings.Contains(out, "app.py:5") {
		t.Errorf("text:\n%s", out)
	}
	if out, ok := said("--no-cache"); ok {
		t.Errorf("--no-cache:\n%s", out)
	}
	if out, ok := said("--set", "audit.disable=[\"DW-SETTINGS-001\"]"); ok || strings.Contains(out, "error[DW-SETTINGS-001]") {
		t.Errorf("other rules:\n%s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(strings.ReplaceAll(debugApp, "DEBUG=True", "DEBUG=False")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, ok := said(); ok || strings.Contains(out, "DW-SETTINGS-001") {
		t.Errorf("changed:\n%s", out)
	}
}

// TestOutputDevice: a report to a device leaves the device what it is.
func TestOutputDevice(t *testing.T) {
	link := filepath.Join(t.TempDir(), "null") // were it replaced, the link would be
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	dir := project1(t, map[string]string{"app.py": debugApp})
	if code, _, errs := dewar(t, nil, "audit", dir, "-f", "json="+link); code != exitFindings || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	if st, err := os.Stat(link); err != nil || st.Mode()&os.ModeDevice == 0 {
		t.Errorf("the device was replaced: %v, %v", st, err)
	}
}
