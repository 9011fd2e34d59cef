package cli

import (
	"strings"
	"testing"
)

// TestPrintAnswer: rows are a table in the order of their members, and nothing
// that a visitor chose reaches the terminal as a command.
func TestPrintAnswer(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`[]`, "nothing\n"},
		{`[{"id":"1","last_used":"now"},{"id":"222","last_used":""}]`, "ID   LAST USED\n1    now\n222  -\n"},
		{`{"ended":3}`, "ENDED\n3\n"},
		{`"lifted"`, "lifted\n"},
		{`3`, "3\n"},
		{`"[headers]\ncsp = \"x\"\n\u009b"`, "[headers]\ncsp = \"x\"\n\"\\u009b\"\n"},
		{`[{"account":"\u001b[2Jx"}]`, "ACCOUNT\n\"\\x1b[2Jx\"\n"},
		{`[{"account":"a\nb"}]`, "ACCOUNT\n\"a\\nb\"\n"},
		{`[{"id":"1"},{"other":"x"}]`, "ID\n1\nOTHER\nx\n"},
	} {
		var b strings.Builder
		if err := printAnswer(&b, []byte(c.in)); err != nil || b.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.in, b.String(), err, c.want)
		}
	}
}
