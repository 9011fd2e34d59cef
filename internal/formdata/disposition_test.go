package formdata

import (
	"mime"
	"testing"
)

// What clients send is read, what parsers disagree about is not.
func TestParseDisposition(t *testing.T) {
	for in, want := range map[string]Disposition{
		`form-data; name="a"`:                                           {Name: "a"},
		`form-data; name="a"; filename=""`:                              {Name: "a", File: true},
		`form-data; name="files[]"; filename="Foto vom Strand (1).jpg"`: {Name: "files[]", Filename: "Foto vom Strand (1).jpg", File: true},                // browsers
		`form-data; name="a\"b"; filename="c\\d"`:                       {Name: `a"b`, Filename: `c\d`, File: true},                                        // Go, curl
		`form-data; name=a; filename=b.txt; filename*=utf-8''b.txt`:     {Name: "a", Filename: "b.txt", Extended: "b.txt", File: true, ExtendedLast: true}, // .NET
		`form-data; name="a"; filename*=utf-8''%C3%BCber.jpg`:           {Name: "a", Extended: "über.jpg", File: true, ExtendedLast: true},                 // urllib3 1
		`Form-Data;name="a";filename="b"`:                               {Name: "a", Filename: "b", File: true},
		`form-data; filename="b"; name="a"`:                             {Name: "a", Filename: "b", File: true},
	} {
		if got, ok := ParseDisposition(in); !ok || got != want {
			t.Errorf("%s: %+v %v", in, got, ok)
		}
	}
	for _, in := range []string{
		``, `form-data`, `attachment; name="a"`, `form-datax; name="a"`, `form-data; filename="x"`, `form-data; name="a"; filename ="x"`, `form-data; name="a"; filename= "x"`,
		`form-data; name="a"; filename="x"; filename="y"`, `form-data; name="a"; name="b"`, `form-data; name="a"; FILENAME="x"`, `form-data; name="a"; filename*0="x"`,
		`form-data; name="a"; filename*="utf-8''x"`, `form-data; name="a"; filename*=utf-16''x`, `form-data; name="a"; filename*=x`, `form-data; name="a"; filename*=utf-8''%zz`,
		`form-data; name="a`, `form-data; name="a\`, `form-data; name="a\n"`, `form-data; name=`, `form-data; name="a";`, `form-data, name="a"`, `form-data; name="a" x`, "form-data; name=\"a\x00\"",
	} {
		if d, ok := ParseDisposition(in); ok {
			t.Errorf("%q was read as %+v", in, d)
		}
	}
}

func FuzzParseDisposition(f *testing.F) {
	f.Add(`form-data; name="a"; filename="b\"c"; filename*=utf-8''d`)
	f.Add(`form-data;name=a;filename=`)
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ParseDisposition(s)
		if !ok {
			return
		}
		// Whatever is read here, Go's parser reads as the same part.
		kind, params, err := mime.ParseMediaType(s)
		if err != nil || kind != "form-data" || params["name"] != d.Name {
			t.Fatalf("%q: %+v, but Go has %q %q %v", s, d, kind, params, err)
		}
	})
}
