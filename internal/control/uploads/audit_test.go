package uploads

import (
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

func TestOwnExtension(t *testing.T) {
	name := pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars, Labels: []pyflow.Label{{Kind: "file", Note: "name of an uploaded file"}}}
	clean := name
	clean.Harmless = pyflow.Harmless{"path-write"}
	digits := name
	digits.Chars = pyflow.CharRange("0-9")
	lit := func(s string) pyflow.Piece { return pyflow.Piece{Literal: s} }
	other := pyflow.Piece{Unknown: true, Chars: pyflow.AnyChars}
	tests := []struct {
		name   string
		pieces []pyflow.Piece
		want   bool
	}{
		{"the name", []pyflow.Piece{lit("uploads/"), name}, true},
		{"a safe path is no safe type", []pyflow.Piece{lit("uploads/"), clean}, true},
		{"an extension of ours", []pyflow.Piece{lit("uploads/"), name, lit(".png")}, false},
		{"a number", []pyflow.Piece{lit("uploads/"), digits}, false},
		{"a name of ours", []pyflow.Piece{lit("uploads/"), name, other}, false},
		{"nothing", nil, false},
	}
	for _, tt := range tests {
		if _, got := ownExtension(tt.pieces); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestUnpacks(t *testing.T) {
	archive := pyflow.Value{Kind: pyflow.Object, Type: "tarfile.TarFile", Labels: []pyflow.Label{{Kind: "file"}}}
	text := func(s string) pyflow.Value {
		return pyflow.Value{Kind: pyflow.Text, Known: true, Pieces: []pyflow.Piece{{Literal: s}}}
	}
	hit := func(path string, self pyflow.Value, keywords map[string]pyflow.Value, args ...pyflow.Value) *pyflow.Hit {
		return &pyflow.Hit{Verb: "use", Kind: "archive-extract", Path: path, Self: self, Keywords: keywords, Args: args}
	}
	const all = "tarfile.TarFile.extractall"
	tests := []struct {
		name string
		h    *pyflow.Hit
		want bool
	}{
		{"all", hit(all, archive, nil, text("dir")), true},
		{"our own archive", hit(all, pyflow.Value{Kind: pyflow.Object}, nil, text("dir")), false},
		{"filtered", hit(all, archive, map[string]pyflow.Value{"filter": text("data")}), false},
		{"filtered by a function", hit(all, archive, map[string]pyflow.Value{"filter": {Kind: pyflow.Function, Type: "tarfile.data_filter"}}), false},
		{"trusted", hit(all, archive, map[string]pyflow.Value{"filter": text("fully_trusted")}), true},
		{"members of ours", hit(all, archive, map[string]pyflow.Value{"members": {Kind: pyflow.List}}), false},
		{"zip", hit("zipfile.ZipFile.extractall", archive, nil), false},
		{"by name", hit("shutil.unpack_archive", pyflow.Value{}, nil, archive), true},
	}
	for _, tt := range tests {
		if _, got := unpacks(tt.h); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
