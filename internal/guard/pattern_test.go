package guard

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatchPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{"/hooks/**", []string{"/hooks", "/hooks/", "/hooks/a", "/hooks/a/b"}, []string{"/", "/hook", "/hooksx", "/x/hooks", "/Hooks"}},
		{"**/login", []string{"/login", "/a/login", "/a/b/login"}, []string{"/login/", "/loginx", "/xlogin", "/a/login/b", "/"}},
		{"/u/*/edit", []string{"/u/1/edit", "/u//edit", "/u/a.b/edit"}, []string{"/u/edit", "/u/1/2/edit", "/u/1/edit/"}},
		{"/files/*.db", []string{"/files/a.db", "/files/.db"}, []string{"/files/a.dbx", "/files/a/b.db", "/files/db"}},
		{"/a/**/b/**/c", []string{"/a/b/c", "/a/x/b/y/z/c", "/a/b/b/c/c", "/a/b/x/b/c"}, []string{"/a/c", "/a/b", "/a/c/b"}},
		{"/a*b*c", []string{"/abc", "/axbxc", "/abbcc"}, []string{"/ab", "/acb", "/abcd"}},
		{"/**", []string{"/", "/a", "/a/b"}, nil},
		{"**", []string{"/", "/a", "/a/b"}, nil},
		{"/", []string{"/"}, []string{"/a", "//"}},
		{"/a", []string{"/a"}, []string{"/a/", "/", "/ab"}},
		{"**/a/**", []string{"/a", "/a/b", "/x/a", "/x/a/b/c"}, []string{"/x", "/ab"}},
	} {
		if err := CheckPattern(tt.pattern); err != nil {
			t.Error(err)
		}
		for _, s := range tt.yes {
			if !MatchPattern(tt.pattern, s) {
				t.Errorf("%s does not match %s", tt.pattern, s)
			}
		}
		for _, s := range tt.no {
			if MatchPattern(tt.pattern, s) {
				t.Errorf("%s matches %s", tt.pattern, s)
			}
		}
	}
	for _, p := range []string{"", "login", "*/x", "/a**", "/a/**b/c", "***"} {
		if CheckPattern(p) == nil {
			t.Errorf("%q is accepted as a pattern", p)
		}
	}
}

// The oracle is the regular expression that the documentation describes.
func FuzzMatchPattern(f *testing.F) {
	f.Add("/a/**/b", "/a/x/b")
	f.Add("**/l*n", "/x/login")
	f.Add("/**/a/**/a/*", "/a/a/a/a")
	f.Fuzz(func(t *testing.T, p, path string) {
		if len(p) > 40 || len(path) > 80 || !strings.HasPrefix(path, "/") || CheckPattern(p) != nil {
			return
		}
		segs := strings.Split(strings.TrimPrefix(p, "/"), "/")
		re := "^"
		for i, seg := range segs {
			last := i == len(segs)-1
			switch {
			case seg == "**" && last && i == 0:
				re += "(?s:/.*)"
			case seg == "**" && last:
				re += "(?s:/.*)?"
			case seg == "**":
				re += "(?:/[^/]*)*"
			default:
				parts := strings.Split(seg, "*")
				for j := range parts {
					parts[j] = regexp.QuoteMeta(parts[j])
				}
				re += "/" + strings.Join(parts, "[^/]*")
			}
		}
		r, err := regexp.Compile(re + "$")
		if err != nil {
			return // not UTF-8
		}
		if strings.ToValidUTF8(path, "") != path {
			return
		}
		if want, got := r.MatchString(path), MatchPattern(p, path); got != want {
			t.Fatalf("MatchPattern(%q, %q) = %v, the oracle %s says %v", p, path, got, re, want)
		}
	})
}
