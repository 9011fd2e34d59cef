package guard

import (
	"strings"
	"testing"
)

// TestRuleOverrides: an override may name a route as the app does, and then
// holds for what that route answers and nothing beside it.
func TestRuleOverrides(t *testing.T) {
	for rule, paths := range map[string]map[string]bool{
		"/orders/<int:order_id>":     {"/orders/7": true, "/orders/7/": true, "/orders/new": false, "/orders/": false, "/orders/7/items": false},
		"/files/<path:name>":         {"/files/a/b": true, "/files/": false, "/filesx/a": false},
		"/<user>/posts/<uuid:id>":    {"/kim/posts/0d5f2e0c-6b3e-4a53-9b0a-3f1c7d2e9a10": true, "/kim/posts/7": false, "/a/b/posts/7": false},
		"/a.b/<any(x, y):which>":     {"/a.b/x": true, "/a.b/y": true, "/a.b/z": false, "/aXb/x": false},
		"/v/<string(length=2):code>": {"/v/de": true, "/v/deu": false},
	} {
		o := &Override{Path: rule, Methods: []string{"GET"}, Reason: "a test"}
		if _, err := compileOverrides([]Override{*o}, nil); err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		for path, want := range paths {
			if o.Matches("GET", path) != want {
				t.Errorf("%s on %s: want %v", rule, path, want)
			}
			if o.Matches("POST", path) {
				t.Errorf("%s matches a method that it does not name", rule)
			}
		}
	}
	for _, bad := range []string{"/orders/<int:order_id", "/orders/<ours:order_id>", "/orders/<>", "**/<int:x>"} {
		if _, err := compileOverrides([]Override{{Path: bad, Reason: "a test"}}, nil); err == nil || !strings.Contains(err.Error(), "rule") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
