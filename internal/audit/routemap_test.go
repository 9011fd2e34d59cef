package audit_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/audit/audittest"
	"github.com/dewar-security/dewar/internal/flask"
)

const mappedApp = `
-- app.py --
import sqlite3
import requests
from flask import Flask, redirect, request
from flask.views import MethodView
from flask_restful import Api, Resource, reqparse
from flask_login import login_required
from flask_wtf import CSRFProtect, FlaskForm
from marshmallow import Schema, fields
from webargs.flaskparser import use_args
from werkzeug.routing import BaseConverter
from wtforms import BooleanField, IntegerField, StringField

app = Flask(__name__)
csrf = CSRFProtect(app)


class Slug(BaseConverter):
    regex = "[a-z]+"


app.url_map.converters["slug"] = Slug


class Order(FlaskForm):
    number = IntegerField()
    gift = BooleanField()
    note = StringField()


@app.get("/list/<slug:what>/<int(min=1):page>")
def listing(what, page):
    limit = int(request.args.get("limit", 10))
    price = request.args.get("price", type=float)
    tags = request.args.getlist("tag")
    return {"found": sqlite3.connect("x").execute("SELECT 1 LIMIT ?", (limit,)).fetchall(), "n": [price, tags, request.headers["X-Lang"], request.cookies.get("theme")]}


@app.post("/order")
@login_required
def order():
    form = Order()
    if form.validate_on_submit():
        requests.post("https://pay.example.com/" + form.note.data, timeout=5)
    return redirect("/")


@csrf.exempt
@app.put("/hook")
def hook():
    return {"name": request.json["name"], "file": request.files["photo"].filename}


class Thing(MethodView):
    def get(self, n):
        return eval(request.args["expression"])

    def delete(self, n):
        return request.form["reason"]


app.add_url_rule("/thing/<n>", view_func=Thing.as_view("thing"))

api = Api(app)
parser = reqparse.RequestParser()
parser.add_argument("count", type=int, location="args")
parser.add_argument("label", location="form")
parser.add_argument("tag", action="append", location="json")


class Pet(Schema):
    name = fields.Str(required=True)
    age = fields.Int()
    born = fields.Date(data_key="birthday")


@app.post("/pet")
@use_args(Pet())
@use_args({"page": fields.Int(), "verbose": fields.Bool()}, location="query")
def pet(data, query):
    return data["name"]


class Parsed(Resource):
    def post(self):
        return parser.parse_args()


api.add_resource(Parsed, "/parsed")
`

// TestRouteMap: what each route is for, reads with which type, and reaches.
func TestRouteMap(t *testing.T) {
	p := audittest.Project(t, txtar.Parse([]byte(mappedApp)))
	m := p.RouteMap(t.Context())
	got := map[string]audit.MappedRoute{}
	for _, r := range m.Routes {
		got[r.Rule] = r
	}
	type want struct {
		fields []audit.RouteField
		params []audit.RouteParam
		kinds  []flask.RouteKind
		sinks  []string
		csrf   string
		login  bool
	}
	for rule, w := range map[string]want{
		"/list/<slug:what>/<int(min=1):page>": {
			fields: []audit.RouteField{{In: "query", Name: "limit", Type: "int"}, {In: "query", Name: "price", Type: "float"}, {In: "query", Name: "tag", Type: "list"},
				{In: "header", Name: "X-Lang"}, {In: "cookie", Name: "theme"}},
			params: []audit.RouteParam{{Name: "what", Converter: "slug", Type: "str", Regex: "[a-z]+"}, {Name: "page", Converter: "int", Args: "min=1", Type: "int"}},
			kinds:  []flask.RouteKind{"page"}, sinks: []string{"sql"}, csrf: "not-needed",
		},
		"/order": {
			fields: []audit.RouteField{{In: "form", Name: "csrf_token"}, {In: "form", Name: "gift", Type: "bool"}, {In: "form", Name: "note"}, {In: "form", Name: "number", Type: "int"}},
			kinds:  []flask.RouteKind{"page", "redirect", "fetch"}, sinks: []string{"redirect", "url"}, csrf: "checked", login: true,
		},
		"/hook": {
			fields: []audit.RouteField{{In: "json", Name: "name"}, {In: "file", Name: "photo"}},
			kinds:  []flask.RouteKind{"api", "upload", "write"}, csrf: "exempt",
		},
		"/pet": {
			fields: []audit.RouteField{{In: "query", Name: "page", Type: "int"}, {In: "query", Name: "verbose", Type: "bool"},
				{In: "json", Name: "age", Type: "int"}, {In: "json", Name: "birthday", Type: "date"}, {In: "json", Name: "name"}},
			kinds: []flask.RouteKind{"api"}, csrf: "checked",
		},
		"/parsed": {
			fields: []audit.RouteField{{In: "query", Name: "count", Type: "int"}, {In: "form", Name: "label"}, {In: "json", Name: "tag", Type: "list"}},
			kinds:  []flask.RouteKind{"api"}, csrf: "checked",
		},
		"/thing/<n>": {
			fields: []audit.RouteField{{In: "query", Name: "expression"}, {In: "form", Name: "reason"}},
			params: []audit.RouteParam{{Name: "n", Converter: "string", Type: "str"}},
			kinds:  []flask.RouteKind{"api", "write"}, sinks: []string{"code"}, csrf: "checked",
		},
	} {
		r, ok := got[rule]
		if !ok {
			t.Errorf("no route %s", rule)
			continue
		}
		if d := cmp.Diff(w, want{r.Fields, r.Params, r.Kinds, r.Sinks, r.CSRF, r.Login.Required}, cmp.AllowUnexported(want{})); d != "" {
			t.Errorf("%s: %s", rule, d)
		}
	}
}

// TestRouteMapSchema: what is printed is what the schema says.
func TestRouteMapSchema(t *testing.T) {
	raw, err := audit.RouteMapSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("map.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("map.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	for _, src := range []string{mappedApp, "-- app.py --\nx = 1\n"} {
		text, err := json.Marshal(audittest.Project(t, txtar.Parse([]byte(src))).RouteMap(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if err := check(text); err != nil {
			t.Error(err)
		}
	}
	if check([]byte(`{"version": 1, "routes": [{"rule": "/"}]}`)) == nil {
		t.Error("a route without an endpoint is accepted")
	}
	if check([]byte(`{"version": 7, "routes": []}`)) == nil {
		t.Error("another version is accepted")
	}
}

// TestRouteMapRichText asks for fields that hold markup by design: by the
// form's class, by what the code does with them, by the page that edits them.
func TestRouteMapRichText(t *testing.T) {
	p := audittest.Project(t, txtar.Parse([]byte(`
-- app.py --
import bleach
from flask import Flask, request, render_template
from flask_ckeditor import CKEditorField
from flask_wtf import FlaskForm
from wtforms import StringField

app = Flask(__name__)


class Article(FlaskForm):
    title = StringField()
    body = CKEditorField()


@app.post("/article")
def article():
    form = Article()
    if form.validate_on_submit():
        return form.body.data
    return ""


@app.post("/comment")
def comment():
    return bleach.clean(request.form["text"]) + request.form["who"]


@app.route("/page", methods=["GET", "POST"])
def page():
    return render_template("page.html", old=request.form.get("story"), plain=request.form.get("plain"))
-- templates/page.html --
<form method="post">
<textarea class="form-control {{ x }} tinymce" name="story">{{ old }}</textarea>
<textarea class="form-control" name="plain">{{ plain }}</textarea>
</form>
`)))
	got := map[string]string{}
	for _, r := range p.RouteMap(t.Context()).Routes {
		for _, f := range r.Fields {
			got[r.Rule+" "+f.Name] = f.Type
		}
	}
	for key, want := range map[string]string{"/article body": "html", "/article title": "", "/comment text": "html", "/comment who": "", "/page story": "html", "/page plain": ""} {
		if typ, ok := got[key]; !ok || typ != want {
			t.Errorf("%s: %q (%v), want %q", key, typ, ok, want)
		}
	}
}

const uploadApp = `
-- app.py --
import os
from flask import Flask, abort, request, current_app
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileAllowed
from werkzeug.utils import secure_filename
import media
app = Flask(__name__)
app.config["UPLOAD_EXTENSIONS"] = [".PDF", ".txt"]
ALLOWED_EXTENSIONS = {"png", "jpg", "jpeg"}
WORDS = {"red", "green"}

def allowed_file(filename):
    return "." in filename and filename.rsplit(".", 1)[1].lower() in ALLOWED_EXTENSIONS

@app.post("/picture")
def picture():
    f = request.files["picture"]
    if f and allowed_file(f.filename):
        f.save(os.path.join("uploads", secure_filename(f.filename)))
    return "ok"

@app.post("/config")
def config():
    f = request.files["f"]
    ext = os.path.splitext(f.filename)[1]
    if ext not in current_app.config["UPLOAD_EXTENSIONS"]:
        abort(400)
    f.save("x")
    return "ok"

@app.post("/stored")
def stored():
    return media.keep(request.files["f"])

@app.post("/two")
def two():
    a, b = request.files["a"], request.files["b"]
    if not allowed_file(a.filename):
        abort(400)
    return "ok"

@app.post("/any")
def anything():
    f = request.files["f"]
    if request.form["colour"] in WORDS:
        f.save("x")
    return "ok"

@app.post("/both")
def both():
    f = request.files["f"]
    ext = f.filename.rsplit(".", 1)[-1]
    if ext in ("png", "gif"):
        return "image"
    if ext in ("pdf",):
        return "document"
    abort(400)

class Upload(FlaskForm):
    photo = FileField(validators=[FileAllowed(["jpg", "png"], "Images only")])

@app.route("/form", methods=["GET", "POST"])
def form():
    form = Upload()
    if form.validate_on_submit():
        form.photo.data.save("x")
    return "ok"
-- media.py --
from pathlib import Path
TYPES = {".png": "image/png", ".webp": "image/webp"}

def keep(upload):
    suffix = Path(upload.filename).suffix.lower()
    if suffix not in TYPES:
        raise ValueError("no")
    upload.save("x" + suffix)
    return "ok"
`

// TestRouteExtensions: the lists that the code compares a file's name with, in
// the usual styles, and no list where it is not sure that there is one.
func TestRouteExtensions(t *testing.T) {
	m := audittest.Project(t, txtar.Parse([]byte(uploadApp))).RouteMap(t.Context())
	want := map[string][]string{
		"/picture": {"jpeg", "jpg", "png"}, "/config": {"pdf", "txt"}, "/stored": {"png", "webp"}, "/two": nil, "/any": nil, "/both": nil, "/form": {"jpg", "png"},
	}
	for _, r := range m.Routes {
		w, ok := want[r.Rule]
		if ok && !slices.Equal(r.Extensions, w) {
			t.Errorf("%s: %q, want %q", r.Rule, r.Extensions, w)
		}
		delete(want, r.Rule)
	}
	if len(want) > 0 {
		t.Errorf("no routes %v", want)
	}
}
