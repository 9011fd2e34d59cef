package egress

import (
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

func TestHostDanger(t *testing.T) {
	query := pyflow.Label{Kind: "query", Note: `query parameter "u"`}
	free := pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars, Labels: []pyflow.Label{query}}
	digits, checked := free, free
	digits.Chars = pyflow.CharRange("0-9")
	checked.Harmless = pyflow.Harmless{"url"}
	lit := func(s string) pyflow.Piece { return pyflow.Piece{Literal: s} }
	text := func(p ...pyflow.Piece) pyflow.Value { return pyflow.Value{Kind: pyflow.Text, Pieces: p} }
	tests := []struct {
		name string
		v    pyflow.Value
		want bool
	}{
		{"all of it", text(free), true},
		{"host", text(lit("https://"), free, lit("/status")), true},
		{"host's end", text(lit("https://api.example.com"), free), true},
		{"path", text(lit("https://api.example.com/"), free), false},
		{"port", text(lit("http://127.0.0.1:"), digits, lit("/")), false},
		{"checked", text(checked), false},
		{"unknown", pyflow.Value{Labels: []pyflow.Label{query}}, true},
		{"one of two", pyflow.Value{Alternatives: []pyflow.Value{text(lit("https://a.example/")), text(free)}}, true},
		{"address", pyflow.Value{Kind: pyflow.List, Items: []pyflow.Value{text(free), {Kind: pyflow.Number}}}, true},
		{"port of an address", pyflow.Value{Kind: pyflow.List, Items: []pyflow.Value{text(lit("localhost")), text(free)}}, false},
		{"number", pyflow.Value{Kind: pyflow.Number, Labels: []pyflow.Label{query}}, false},
	}
	for _, tt := range tests {
		if _, why := hostDanger(tt.v, false, 0); (why != "") != tt.want {
			t.Errorf("%s: %q", tt.name, why)
		}
	}
}
