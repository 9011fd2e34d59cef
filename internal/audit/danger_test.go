package audit

import (
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

// pieces makes pieces of texts; "\x00" is a piece that may be anything, and
// "\x00abc" one of those characters.
func pieces(texts ...string) []pyflow.Piece {
	var out []pyflow.Piece
	for _, t := range texts {
		switch {
		case t == "\x00":
			out = append(out, pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars})
		case t != "" && t[0] == 0:
			out = append(out, pyflow.Piece{Unknown: true, Chars: pyflow.CharRange(t[1:])})
		default:
			out = append(out, pyflow.Piece{Literal: t})
		}
	}
	return out
}

func TestHostFixed(t *testing.T) {
	tests := []struct {
		at    int
		texts []string
		want  bool
	}{
		{0, []string{"\x00"}, false},
		{1, []string{"https://api.example.com/", "\x00"}, true},
		{1, []string{"https://api.example.com/v1/users/", "\x00"}, true},
		{1, []string{"https://api.example.com?q=", "\x00"}, true},
		{1, []string{"https://api.example.com", "\x00"}, false},
		{1, []string{"https://api.example.com", "\x00", "/users"}, false},
		{1, []string{"https://", "\x00"}, false},
		{1, []string{"https://", "\x00", "/users"}, false},
		{1, []string{"https://", "\x00", ".example.com/users"}, false},
		{1, []string{"https://", "\x00a-z0-9-", ".example.com/users"}, true},
		{1, []string{"https://", "\x00a-z0-9-", ".com/users"}, false},
		{1, []string{"https://", "\x00a-z0-9-", ".example.com@other/"}, false},
		{1, []string{"http://localhost:", "\x00", "/x"}, false},
		{1, []string{"http://localhost:", "\x000-9", "/x"}, true},
		{1, []string{"http://10.0.0.", "\x000-9", "/x"}, true},
		{1, []string{"//", "\x00"}, false},
		{1, []string{"//cdn.example.com/", "\x00"}, true},
		{1, []string{`https:\\`, "\x00"}, false},
		{1, []string{"\x00", "\x00"}, true},
		{2, []string{"\x00", "/items/", "\x00"}, true},
		{1, []string{"/items/", "\x00"}, true},
		{1, []string{"mailto:", "\x00"}, true},
		{1, []string{"internal-", "\x00"}, false},
		{1, []string{"cache.example.com:", "\x000-9"}, true},
	}
	for _, tt := range tests {
		if got := HostFixed(pieces(tt.texts...), tt.at); got != tt.want {
			t.Errorf("HostFixed(%q, %d) = %v", tt.texts, tt.at, got)
		}
	}
}

func TestCanHold(t *testing.T) {
	p := pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars.Without("'"), Without: []string{".."}}
	for s, want := range map[string]bool{"a": true, "'": false, "..": false, "../": false, "./": true, "a'": false} {
		if CanHold(p, s) != want {
			t.Errorf("CanHold(%q) = %v", s, !want)
		}
	}
	if !CanHold(pyflow.Piece{Literal: "it's"}, "'") {
		t.Error("a literal holds what it holds")
	}
	if !Only(pyflow.Piece{Unknown: true, Chars: pyflow.CharRange("0-5")}, Digits) || Only(p, Digits) {
		t.Error("Only does not compare sets")
	}
}

func TestTextsAndLabels(t *testing.T) {
	query := pyflow.Label{Kind: "query", Note: `query parameter "q"`, At: pyflow.Span{File: "a.py", Start: 1}}
	stored := pyflow.Label{Kind: "stored", Note: "database row", At: pyflow.Span{File: "a.py", Start: 9}}
	whole := pyflow.Value{Kind: pyflow.Unknown, Labels: []pyflow.Label{query}}
	text := pyflow.Value{Kind: pyflow.Text, Pieces: []pyflow.Piece{{Literal: "a"}, {Unknown: true, Chars: pyflow.AnyChars, Labels: []pyflow.Label{stored}}}}
	number := pyflow.Value{Kind: pyflow.Number, Labels: []pyflow.Label{query}}
	v := pyflow.Value{Alternatives: []pyflow.Value{whole, text, number}}
	texts := Texts(v)
	if len(texts) != 2 || !texts[0].Whole || texts[1].Whole || len(texts[1].Pieces) != 2 {
		t.Fatalf("%+v", texts)
	}
	if n := len(LiveIn(v, FromOutside)); n != 1 {
		t.Errorf("%d labels from outside", n)
	}
	if n := len(LiveIn(v, Anything)); n != 2 {
		t.Errorf("%d labels", n)
	}
	clean := texts[0].Pieces[0]
	clean.Harmless = pyflow.Harmless{"sql"}
	if len(Live(clean, FromOutside, "sql")) != 0 || len(Live(clean, FromOutside, "command")) != 1 {
		t.Error("harmless for one kind is harmless for that kind")
	}
	stored.Harmless = pyflow.Harmless{"*"}
	if len(Live(pyflow.Piece{Unknown: true, Labels: []pyflow.Label{stored}}, Anything, "x")) != 0 {
		t.Error("a label that is harmless for all is live")
	}
	if FromOutside(stored) || !FromStore(stored) || FromOutside(pyflow.Label{Kind: "file-content", Note: "content of a file"}) {
		t.Error("kinds of labels are mixed up")
	}
}
