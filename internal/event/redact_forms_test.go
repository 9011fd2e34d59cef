package event

import (
	"strings"
	"testing"
)

// TestForms: values behind secret names in the forms of other languages:
// headers with a scheme, XML, command lines, tabs.
func TestForms(t *testing.T) {
	r := NewRedactor()
	for _, c := range []struct{ in, want string }{
		{"X-Auth-Token: Bearer ab12cd; next", "X-Auth-Token: [redacted] next"},
		{"token=Token ab12cd next", "token=[redacted] next"},
		{"<password>hunter2</password>", "<password>[redacted]</password>"},
		{`<ns:Password type="s">hunter2 x</ns:Password>`, `<ns:Password type="s">[redacted]</ns:Password>`},
		{"<password>hunter2", "<password>[redacted]"},
		{"<password/><user>kim</user>", "<password/><user>kim</user>"},
		{"<code>404</code> <key>a</key>", "<code>404</code> <key>a</key>"},
		{"password\t=\thunter2\tx", "password\t=\t[redacted]\tx"},
		{`password\u0009:\u0009hunter2`, `password\u0009:\u0009[redacted]`},
		{"run --password hunter2 --user kim", "run --password [redacted] --user kim"},
		{"run --db-password 'a b' x", "run --db-password '[redacted]' x"},
		{"run --password --user kim", "run --password --user kim"},
		{"run --password=hunter2 x", "run --password=[redacted] x"},
		{"run --page 2 -- token x", "run --page 2 -- token x"},
		{"x-goog-signature=abc&b=1", "x-goog-signature=[redacted]&b=1"},
		{"mail kim@müller.example.", "mail k***@müller.example."},
		{"needs left-pad@v1.2.3 and a@1.0.0-rc.1", "needs left-pad@v1.2.3 and a@1.0.0-rc.1"},
		{"a -> b, c => d, 1 > 0", "a -> b, c => d, 1 > 0"},
	} {
		got := r.Text(c.in)
		if got != c.want {
			t.Errorf("Text(%q)\n  = %q\nwant %q", c.in, got, c.want)
		}
		if again := r.Text(got); again != got {
			t.Errorf("Text(%q) = %q, then %q", c.in, got, again)
		}
	}
	if d := r.Event(Event{Detail: "password\t=\thunter2"}).Detail; strings.Contains(d, "hunter2") {
		t.Error(d)
	}
}
