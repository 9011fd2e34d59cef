package redisstore

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"redis://h":                          "[h:6379]  false 0 false",
		"redis://h:1/3":                      "[h:1]  false 3 false",
		"redis://127.0.0.1:6380/":            "[127.0.0.1:6380]  false 0 false",
		"rediss://[::1]:7":                   "[[::1]:7]  false 0 true",
		"redis://[::1]":                      "[[::1]:6379]  false 0 false",
		"unix:/run/r.sock":                   "[/run/r.sock]  false 0 false",
		"unix:///run/r.sock":                 "[/run/r.sock]  false 0 false",
		"redis+sentinel://a,b:1/main":        "[a:26379 b:1] main false 0 false",
		"rediss+sentinel://a,b:1/my%20one/2": "[a:26379 b:1] my one false 2 true",
		"redis+cluster://a,b:1":              "[a:6379 b:1]  true 0 false",
		"rediss+cluster://a/0":               "[a:6379]  true 0 true",
	} {
		o, err := ParseURL(in)
		if got := fmt.Sprint(o.Addresses, " ", o.Master, " ", o.Cluster, " ", o.DB, " ", o.TLS != nil); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "redis", "redis:", "redis://", "http://h", "redis+x://h", "redis+://h", "redis://h:0", "redis://h:70000", "redis://h:x", "redis://a,b", "redis://h/x",
		"redis://h/-1", "redis+cluster://h/1", "redis+sentinel://h", "redis+sentinel://h/", "redis://::1", "redis://h?x=1", "unix:", "unix:/", "redis://:6379",
		"redis://user:hunter2@h", "redis://:hunter2@h/0", "redis+sentinel://:hunter2@h/main",
	} {
		if o, err := ParseURL(in); err == nil {
			t.Errorf("%q reads %+v", in, o)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"redis://h:1/3", "rediss+sentinel://a,b:1/m/2", "redis+cluster://[::1]:2,b", "unix:/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseURL(s)
		if err != nil {
			return
		}
		o.Secret = secret
		st, err := New(o)
		if err != nil {
			t.Fatalf("%q is read and cannot be used: %v", s, err)
		}
		st.Close()
	})
}
