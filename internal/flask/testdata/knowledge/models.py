"""Runs the models and the real modules side by side. Each function below is
given a module and returns what it saw; both must have seen the same.

Usage: models.py DIRECTORY-OF-MODELS; prints one line for each difference and,
at the end, how many functions were run.
"""
import builtins
import importlib
import importlib.util
import os
import sys
import types

builtins.__unknown__ = lambda *args: None
# What the engine gives to models.
sys.modules["_dewar"] = engine = types.ModuleType("_dewar")
engine.render_text = lambda source, *args, **kwargs: __import__("flask").render_template_string(source, *args, **kwargs)
engine.render_name = lambda name, *args, **kwargs: __import__("flask").render_template(name, *args, **kwargs)
directory = sys.argv[1]


def model(name):
    spec = importlib.util.spec_from_file_location("model_" + name.replace(".", "_"), os.path.join(directory, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = {}
# Not in every test environment: compared where they are.
optional = ("lxml", "flask_restful")


def of(name):
    def add(function):
        cases.setdefault(name, []).append(function)
        return function
    return add


# --- jinja2

@of("jinja2")
def rendered(jinja2):
    out = []
    for escapes in (True, jinja2.select_autoescape(default_for_string=True)):
        template = jinja2.Environment(autoescape=escapes).from_string("<p>{{ x }}{{ y|safe }}</p>")
        out.append(template.render(x="<b>", y="<i>"))
    out.append(jinja2.Template("<p>{{ x }}</p>", autoescape=True).render(x="<b>"))
    return out


# --- flask_restful

@of("flask_restful.reqparse")
def parsed(reqparse):
    parser = reqparse.RequestParser()
    parser.add_argument("word", type=str, location="args")
    parser.add_argument("many", type=int, action="append", location="args", dest="numbers")
    parser.add_argument("sort", choices=("a", "b"), location="args")
    with __import__("flask").Flask("test").test_request_context("/?word=x&many=3&sort=b"):
        args = parser.copy().parse_args()
        return [args["word"], args.word, args.get("numbers"), args["sort"], sorted(args.keys()), "word" in args]


# --- io

@of("io")
def written_in_order(io):
    out = []
    for make, a, b in ((io.StringIO, "ab", "\ncd\n"), (io.BytesIO, b"ab", b"\ncd\n")):
        f = make()
        out += [f.write(a), f.write(b), f.tell(), f.getvalue(), f.read(), f.seek(0), f.read(1), f.readline(), f.readline(), f.readline()]
        f.seek(0)
        out += [f.readlines(), f.read()]
        f.close()
        out.append(f.closed)
    return out


@of("io")
def starts_with_text(io):
    f = io.StringIO("hello\nworld")
    out = [f.read(2), f.read(), f.seek(0), list(f)]
    f.seek(0)
    f.write("J")
    out += [f.getvalue(), f.seek(0, 2)]
    f.write("!")
    out += [f.getvalue(), f.seek(3), f.read(), f.seek(2), f.truncate(), f.getvalue(), f.truncate(1), f.getvalue()]
    f.writelines(["x", "y"])
    return out + [f.readable(), f.writable(), f.seekable(), f.isatty()]


@of("io")
def as_context(io):
    with io.BytesIO(b"123") as f:
        return [f.read(), bytes(f.getbuffer()), f.read1(5)]


# --- string

@of("string")
def constants(string):
    return [string.ascii_letters, string.ascii_lowercase, string.ascii_uppercase, string.digits, string.hexdigits, string.octdigits,
            string.punctuation, string.printable, string.whitespace, string.capwords("one two")]


@of("string")
def templates(string):
    t = string.Template("$who owes ${what}, $$5")
    return [t.template, t.substitute(who="Ann", what="tea"), t.substitute({"who": "Bob"}, what="milk"), t.safe_substitute(who="Eve"),
            string.Formatter().format("{0}-{k}", 1, k=2)]


# --- collections

@of("collections")
def mappings(collections):
    d = collections.defaultdict(list, {"a": [1]})
    d["b"].append(2)
    d["a"].append(3)
    o = collections.OrderedDict(x=1)
    o["y"] = 2
    u = collections.UserDict({"k": 1})
    u["l"] = 2
    return [sorted(d), d["a"], d["b"], len(d), "c" in d, d.get("c"), d["c"], list(o.items()), o.pop("x"), list(o), dict(u), u.get("m", 5),
            u.setdefault("n", 6), sorted(u.values()), u.data]


@of("collections")
def missing(collections):
    out = []
    for make in (lambda: collections.UserDict(), lambda: collections.defaultdict(None), lambda: collections.ChainMap()):
        try:
            make()["a"]
        except KeyError as e:
            out.append(e.args)
    return out


@of("collections")
def counters(collections):
    c = collections.Counter("abracadabra")
    c.update({"b": 5})
    c["z"] += 1
    return [c["a"], c["b"], c["none"], c.most_common(2), len(c.most_common()), sorted(c.elements()), sorted(c.keys())]


@of("collections")
def sequences(collections):
    d = collections.deque([1, 2, 3], 3)
    d.append(4)
    d.appendleft(0)
    out = [list(d), d.popleft(), d.pop(), len(d), d[0]]
    d = collections.deque("ab")
    d.extend("cd")
    d.extendleft("xy")
    d.rotate(1)
    l = collections.UserList([3, 1])
    l.append(2)
    l.sort()
    return out + [list(d), "a" in d, list(l), l[0], l.index(2), len(l)]


@of("collections")
def chains(collections):
    c = collections.ChainMap({"a": 1}, {"a": 2, "b": 3})
    c["n"] = 4
    child = c.new_child({"b": 9})
    return [c["a"], c["b"], c.get("z", 0), "n" in c, sorted(c.items()), child["b"], child["a"], len(c), c.maps]


@of("collections")
def named(collections):
    P = collections.namedtuple("P", "x, y z", defaults=[7])
    p = P(1, y=2)
    q = P._make([4, 5, 6])
    return [p.x, p.y, p.z, p[0], p[-1], list(p), len(p), p._asdict(), p._replace(x=9).x, q.y, P._fields, tuple(q)]


# --- configparser

@of("configparser")
def sections(configparser):
    c = configparser.ConfigParser()
    c.add_section("one")
    c.set("one", "Key", "v")
    c["two"] = {"a": "1", "b": "yes"}
    c["two"]["c"] = "2.5"
    out = [c.sections(), c.get("one", "key"), c["one"]["KEY"], c.getint("two", "a"), c.getboolean("two", "b"), c["two"].getfloat("c"),
           c.has_section("one"), c.has_option("two", "A"), sorted(c.options("two")), sorted(c.items("two")), "two" in c,
           c.get("one", "none", fallback="f"), c["one"].get("none", "g")]
    out.append(c["two"].setdefault("d", "x"))
    out += [sorted(c["two"]), sorted(c["two"].keys()), "a" in c["two"]]
    c.remove_option("two", "a")
    out.append(sorted(c.options("two")))
    return out


@of("configparser")
def dictionaries(configparser):
    c = configparser.ConfigParser({"base": "b"})
    c.read_dict({"s": {"K": 1}})
    return [c.get("s", "k"), c.get("s", "base"), dict(c.defaults())]


# --- Flask's answers

@of("flask")
def types(flask):
    out = []
    for r in (
        flask.Response("a"), flask.Response("a", mimetype="text/plain"), flask.Response("a", content_type="application/xml"),
        flask.Response("a", headers={"Content-Type": "text/csv"}), flask.Response("a", 201, [("X-A", "1")]),
        flask.make_response("a"), flask.make_response("a", 404), flask.make_response("a", {"X-B": "2"}), flask.make_response(("a", 400, {"X-C": "3"})),
        flask.make_response({"k": 1}), flask.make_response([1, 2]), flask.jsonify(k=1), flask.jsonify([1]), flask.jsonify(1, 2),
        flask.make_response(flask.Response("b", mimetype="text/plain"), 500),
    ):
        out.append((r.content_type, r.mimetype, r.status_code if isinstance(r.status_code, int) else 200,
                    sorted((k, v) for k, v in r.headers.items() if k.startswith("X-"))))
    return out


@of("flask")
def changed_later(flask):
    r = flask.make_response("a")
    r.headers["content-type"] = "text/plain"
    r.headers.set("X-A", "1")
    r.headers["X-b"] = "2"
    out = [r.mimetype, r.headers.get("x-a"), r.headers["X-B"], "x-A" in r.headers]
    r.mimetype = "text/html"
    out.append(r.mimetype)
    r.content_type = "application/json"
    out.append(r.mimetype)
    r.set_data("b")
    out.append(r.get_data(as_text=True))
    r.data = "c"
    out.append(r.get_data(as_text=True))
    out.append(flask.jsonify(a=[1]).get_json())
    return out


@of("werkzeug.datastructures")
def headers(module):
    h = module.Headers({"A-b": "1"})
    h.add("c", "2")
    h["D"] = "3"
    h.setdefault("d", "4")
    h.extend({"E": "5"})
    h.update({"f": "6"}, x_y="7")
    out = [h.get("a-B"), h["c"], h.get("none"), h.get("none", "n"), "C" in h, h.getlist("D"), sorted(k.lower() for k, v in h), len(h)]
    h.remove("C")
    del h["d"]
    return out + [h.pop("e"), h.pop("e", None), sorted(k.lower() for k in h.keys()), sorted(h.values())]


# --- XML parsers: what they are told is kept, the parsing is not modelled

@of("lxml.etree")
def parsers(etree):
    etree.XMLParser(resolve_entities=False, no_network=True)
    return [etree.XMLPullParser(events=("end",), resolve_entities=False) is not None, issubclass(etree.XMLPullParser, etree.XMLParser)]


@of("xml.sax.handler")
def features(handler):
    return [getattr(handler, "feature_" + name) for name in ("namespaces", "namespace_prefixes", "string_interning", "validation", "external_ges", "external_pes")]


@of("xml.sax.xmlreader")
def readers(xmlreader):
    return [issubclass(xmlreader.IncrementalParser, xmlreader.XMLReader), callable(xmlreader.XMLReader().setFeature)]


@of("xml.sax")
def reader(sax):
    return callable(sax.make_parser().setFeature)


def seen(function, module):
    try:
        return repr(function(module))
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)


# Names of earlier Pythons, and some that only instances have.
HIDDEN = {"SafeConfigParser", "readfp", "letters", "lowercase", "uppercase", "getint", "getfloat", "getboolean"}


def unknown_names(name, real, mine):
    """The public names of a model that the real module does not have."""
    for n, value in vars(mine).items():
        if n.startswith("_") or n in HIDDEN or type(value).__name__ == "module":
            continue
        if not hasattr(real, n):
            yield n
            continue
        if isinstance(value, type) and value.__module__ == mine.__name__:
            for m in vars(value):
                if not m.startswith("_") and m not in HIDDEN and not hasattr(getattr(real, n), m) and isinstance(getattr(real, n), type):
                    yield n + "." + m


import flask as real_flask  # noqa: E402

run = 0
with real_flask.Flask("test").test_request_context():
    for name in sorted(name[:-3] for name in os.listdir(directory) if name.endswith(".py")):
        try:
            real = importlib.import_module(name)
        except ModuleNotFoundError as e:
            if name.partition(".")[0] not in optional:
                raise
            print("NOT COMPARED", name, e)
            cases.pop(name, None)
            continue
        if name == "flask":
            import werkzeug.datastructures as kept
            sys.modules["werkzeug.datastructures"] = model("werkzeug.datastructures")
            mine = model(name)
            sys.modules["werkzeug.datastructures"] = kept
        else:
            mine = model(name)
        for n in unknown_names(name, real, mine):
            print("%s: the real module has no %s" % (name, n))
        for function in cases.pop(name, []):
            run += 1
            a, b = seen(function, real), seen(function, mine)
            if a != b:
                print("%s %s:\n  real  %s\n  model %s" % (name, function.__name__, a, b))
for name in cases:
    print("no model for the cases of", name)
print(run)
