package audit

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func FuzzIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x00"+strings.Repeat("\x00", 20)), false)
	entry := strings.Repeat("\x00", 24) + "\x00\x00\x81\xa4" + strings.Repeat("\x00", 32) + "\x00\x04.env\x00\x00\x00\x00\x00\x00"
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x01"+entry+strings.Repeat("\x00", 20)), false)
	f.Add([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"+entry+strings.Repeat("\x00", 20)), false)
	f.Fuzz(func(t *testing.T, b []byte, sha256 bool) {
		paths, err := parseIndex(b, sha256)
		if err != nil && paths != nil {
			t.Fatal("paths beside an error")
		}
		if len(paths)*40 > len(b) {
			t.Fatal("more paths than the file can hold")
		}
	})
}

// FuzzFile reads any bytes as any kind of file: positions must stay in it.
func FuzzFile(f *testing.F) {
	f.Add("a.py", []byte("x = '# nosec'  # dewar: ignore[DW-A-001] until 2027-01-01: y\n"))
	f.Add("templates/a.html", []byte("{# dewar: ignore[DW-A-001] x #}\r\n\xff\xfe"))
	f.Add("a.js", []byte("// dewar: ignore"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		x := newFile(name, data)
		x.parse(nil)
		for _, s := range suppressions(x) {
			if s.span.Line < 1 || s.span.Line > x.LineCount() || s.last > x.LineCount() || s.last < s.first {
				t.Fatalf("%+v in a file of %d lines", s, x.LineCount())
			}
			if !s.nosec && s.bad == "" && (len(s.ids) == 0 || s.reason == "") {
				t.Fatalf("a suppression without rule or reason counts: %+v", s)
			}
			s.expired(time.Now())
		}
		for off := -1; off <= len(data)+1; off += 1 + len(data)/50 {
			if l, c := x.Position(off); l < 1 || c < 1 {
				t.Fatalf("offset %d is at %d:%d", off, l, c)
			}
		}
		for n := range x.LineCount() + 2 {
			x.LineSpan(n)
		}
	})
}

func FuzzBaseline(f *testing.F) {
	f.Add([]byte(`{"version":1,"findings":[{"fingerprint":"0123456789abcdef0123456789abcdef","rule":"DW-A-001","file":"a.py","message":"m"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		base, err := ReadBaseline(bytes.NewReader(b), "b")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := base.Write(&out); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBaseline(&out, "b"); err != nil {
			t.Fatalf("cannot read what it wrote: %v", err)
		}
	})
}
