package catalog

import (
	"path/filepath"
	"reflect"

	"github.com/dewar-security/dewar/internal/control/deployment"
)

// Changed is a setting whose value is another one than before.
type Changed struct {
	Key    string            `json:"key"`
	Origin Origin            `json:"origin"`
	Effect deployment.Effect `json:"effect,omitempty"`
}

// String names the setting and where its new value stands.
func (c Changed) String() string { return c.Key + " (" + c.Origin.String() + ")" }

// Replace compares l with the settings in force. It lists what differs, and
// puts the values in force back into l where only a restart could change
// them: those are in waiting, the others in changed.
func (l *Loaded) Replace(inForce *Loaded) (changed, waiting []Changed) {
	a, b := reflect.ValueOf(l.Config).Elem(), reflect.ValueOf(inForce.Config).Elem()
	for _, leaf := range leavesOf(a.Type()) {
		v, old := leaf.value(a), leaf.value(b)
		if reflect.DeepEqual(v.Interface(), old.Interface()) || v.Kind() == reflect.Slice && v.Len() == 0 && old.Len() == 0 {
			continue
		}
		c := Changed{Key: leaf.key, Origin: l.Origin(leaf.key), Effect: deployment.Effect(leaf.field.Tag.Get("reload"))}
		if c.Effect == deployment.ByRestart {
			v.Set(old)
			if o, ok := inForce.origins[leaf.key]; ok {
				l.origins[leaf.key] = o
			} else {
				delete(l.origins, leaf.key)
			}
			waiting = append(waiting, c)
			continue
		}
		changed = append(changed, c)
	}
	return changed, waiting
}

// Files lists the files that the settings depend on: the settings file, or
// where one would be found, and the rule files that settings name. dir is the
// project's folder.
func (l *Loaded) Files(dir string) []string {
	out := []string{l.File}
	if l.File == "" {
		out = []string{filepath.Join(dir, "dewar.toml"), filepath.Join(dir, "pyproject.toml")}
	}
	root := reflect.ValueOf(l.Config).Elem()
	for _, leaf := range leavesOf(root.Type()) {
		base, ok := leaf.field.Tag.Lookup("file")
		if !ok {
			continue
		}
		var names []string
		switch v := leaf.value(root); v.Kind() {
		case reflect.String:
			names = []string{v.String()}
		case reflect.Slice:
			names, _ = v.Interface().([]string)
		}
		for _, n := range names {
			if n != "" && base == "project" && !filepath.IsAbs(n) {
				n = filepath.Join(dir, n)
			}
			if n != "" {
				out = append(out, n)
			}
		}
	}
	return out
}
