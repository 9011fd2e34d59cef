package catalog

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// TestReplace: what differs is named with its place, and what only a restart
// could change keeps the value in force.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) *Loaded {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "dewar.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Source{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	old := load("[deployment]\ntls = \"acme\"\nacme.names = [\"old.example\"]\nlisten = [\":443\"]\n[csrf]\nmode = \"enforce\"\n")
	now := load("[deployment]\nlisten = [\":8443\"]\nworkers = 3\nidle-timeout = \"9s\"\nacme.names = [\"a.example\"]\ntls = \"acme\"\n[csrf]\nmode = \"observe\"\n[injection]\nrules = [\"own.conf\"]\n")
	changed, waiting := now.Replace(old)
	var got []string
	for _, c := range changed {
		got = append(got, c.Key+" "+filepath.Base(c.Origin.String())+" "+string(c.Effect))
	}
	slices.Sort(got)
	want := []string{"csrf.mode dewar.toml:8 ", "deployment.acme.names dewar.toml:5 ", "deployment.idle-timeout dewar.toml:4 connection", "deployment.workers dewar.toml:3 app", "injection.rules dewar.toml:10 "}
	if !slices.Equal(got, want) {
		t.Errorf("changed %q, want %q", got, want)
	}
	if len(waiting) != 1 || waiting[0].Key != "deployment.listen" || !strings.HasSuffix(waiting[0].String(), "dewar.toml:2)") || waiting[0].Effect != deployment.ByRestart {
		t.Errorf("waiting %v", waiting)
	}
	if l := now.Config.Deployment.Listen; !slices.Equal(l, []string{":443"}) || now.Config.Deployment.Workers != 3 {
		t.Errorf("in force: %v, %d workers", l, now.Config.Deployment.Workers)
	}
	if files := now.Files(dir); !slices.Contains(files, "own.conf") || !slices.Contains(files, filepath.Join(dir, "dewar.toml")) {
		t.Errorf("files %v", files)
	}
	// Nothing, when nothing differs; but what waits goes on waiting.
	again := load("[deployment]\nlisten = [\":8443\"]\n")
	if changed, waiting := again.Replace(load("")); len(changed) != 0 || len(waiting) != 1 {
		t.Errorf("%v %v", changed, waiting)
	}
}

// TestEffects: every effect that a setting's tag names is one.
func TestEffects(t *testing.T) {
	for _, s := range Reference() {
		for _, f := range s.Fields {
			l, _ := (&loader{leaves: leavesOf(reflect.TypeFor[Config]())}).leaf(f.Key)
			if tag, ok := l.field.Tag.Lookup("reload"); ok && deployment.Effect(tag).Describe() == "" {
				t.Errorf("%s: reload:%q is no effect", f.Key, tag)
			}
		}
	}
}
