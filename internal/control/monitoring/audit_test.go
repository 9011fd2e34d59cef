package monitoring

import (
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

func TestWritten(t *testing.T) {
	text := func(s string) pyflow.Value {
		return pyflow.Value{Kind: pyflow.Text, Known: true, Pieces: []pyflow.Piece{{Literal: s}}}
	}
	tests := []struct {
		path string
		args []string
		want int // values that come out as they are
	}{
		{"logging.info", []string{"plain"}, 1},
		{"logging.info", []string{"%s and %r", "a", "b"}, 2},
		{"logging.info", []string{"%5.2f%% of %-10s", "a", "b"}, 2},
		{"logging.log", []string{"10", "%s", "a"}, 2},
		{"logging.Logger.info", []string{"%(name)s", "a"}, 2},
		{"loguru.logger.info", []string{"{}", "a"}, 2},
	}
	for _, tt := range tests {
		h := &pyflow.Hit{Path: tt.path}
		for _, a := range tt.args {
			h.Args = append(h.Args, text(a))
		}
		if got := len(written(h)); got != tt.want {
			t.Errorf("%s%q: %d values", tt.path, tt.args, got)
		}
	}
}

func TestSecretAndLines(t *testing.T) {
	for note, want := range map[string]bool{
		`form field "password"`: true, `form field "new_password"`: true, `request header "X-Api-Key"`: true, `JSON body "card"`: true, `form field "card_number"`: true,
		"Authorization header": true, `query parameter "token"`: true, `form field "pin"`: true,
		`form field "email"`: false, `query parameter "shipping"`: false, "JSON body": false, `query parameter "q"`: false,
	} {
		if secret(pyflow.Label{Note: note}) != want {
			t.Errorf("%s: %v", note, !want)
		}
	}
	piece := pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars, Labels: []pyflow.Label{{Kind: "query"}}}
	if _, bad := lineDanger(pyflow.Value{Kind: pyflow.Text, Pieces: []pyflow.Piece{piece}}); !bad {
		t.Error("any text can hold a line end")
	}
	piece.Chars = pyflow.AnyChars.Without("\r\n")
	if _, bad := lineDanger(pyflow.Value{Kind: pyflow.Text, Pieces: []pyflow.Piece{piece}}); bad {
		t.Error("without line ends there is none")
	}
	header := pyflow.Value{Labels: []pyflow.Label{{Kind: "header"}}}
	if _, bad := lineDanger(header); bad {
		t.Error("a header has no line ends")
	}
}
