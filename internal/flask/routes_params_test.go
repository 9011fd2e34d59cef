package flask_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// TestConverters: what the project's own converters accept and give.
func TestConverters(t *testing.T) {
	src := `
from flask import Flask
from werkzeug.routing import BaseConverter, IntegerConverter

class Slug(BaseConverter):
    regex = r"[a-z0-9-]+"

class Even(BaseConverter):
    regex = "[0-9]*[02468]"

    def to_python(self, value):
        return int(value)

class Page(IntegerConverter):
    pass

class Thing(BaseConverter):
    def to_python(self, value):
        return find(value)

app = Flask(__name__)
app.url_map.converters["slug"] = Slug
app.url_map.converters.update(even=Even)
app.url_map.converters.update({"page": Page, "thing": Thing})

@app.get("/<slug:a>/<even:b>/<page:c>/<thing:d>/<int(min=2):e>/<other:f>")
def view(a, b, c, d, e, f):
    return ""
`
	m := flask.Analyze([]flask.Source{{Path: "app.py", Python: pysyntax.Parse("app.py", []byte(src)), Data: []byte(src)}})
	var got []flask.Param
	for _, r := range m.Routes {
		if r.Function != "" {
			got = r.Params
		}
	}
	want := []flask.Param{
		{Name: "a", Converter: "slug", Type: "str", Regex: "[a-z0-9-]+"},
		{Name: "b", Converter: "even", Type: "int", Regex: "[0-9]*[02468]"},
		{Name: "c", Converter: "page", Type: "int"},
		{Name: "d", Converter: "thing"},
		{Name: "e", Converter: "int", Args: "min=2", Type: "int"},
		{Name: "f", Converter: "other"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
