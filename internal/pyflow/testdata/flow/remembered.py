"""Calls that look like one before, and are not."""
import t

app = t.App()


class Box:
    x = "of the class"


KEPT = []


def kept():
    return KEPT[0].x


@app.route("/an-object-that-a-global-holds-has-changed")
def holds():
    b = Box()
    b.x = "safe"
    KEPT.append(b)
    kept()
    b.x = t.source()
    t.sink(kept())  # want {?}


SHARED = []


def through(o):
    o.x = t.source()
    return SHARED[0].x


@app.route("/an-argument-is-what-a-global-holds")
def alias():
    a, b = Box(), Box()
    a.x = b.x = "safe"
    SHARED.append(a)
    through(b)
    a.x = b.x = "safe"
    t.sink(through(a))  # want {?}


def two(a, b):
    a.x = t.source()
    return b.x


@app.route("/two-arguments-are-one")
def same():
    a, b = Box(), Box()
    a.x = b.x = "safe"
    t.sink(two(a, b))
    a.x = b.x = "safe"
    t.sink(two(a, a))  # want {?}


def field(o):
    t.sink(o.x)  # want {?}


@app.route("/what-is-known-of-a-field")
def known_field():
    o = Box()
    o.x = t.source()
    y = o.x
    if y in ("a", "b"):
        field(o)
    else:
        field(o)


def asked():
    t.sink(t.args["q"])  # want {?}


@app.route("/what-is-known-of-the-input")
def known_input():
    if t.args["q"] == "a":
        asked()
    asked()


def down(n):
    if n:
        return up(n)
    return t.source()


def up(n):
    return down(n)


@app.route("/a-recursion-that-was-cut-short")
def recursion():
    down(t.other())
    t.sink(up(t.other()))  # want {?}


def default(v, seen=[]):
    seen.append(v)
    return seen


@app.route("/a-default-that-changes")
def changes():
    default("a")
    default(t.source())
    t.sink(default("a")[1])  # want {?}


@app.route("/a-variable-of-a-closure")
def closure():
    x = "a"

    def inner():
        return x

    def outer(fn):
        return fn()

    t.sink(outer(inner))
    x = t.source()
    t.sink(outer(inner))  # want {?}


def parts(o):
    yield o.x
    o.x = t.source()
    yield o.x


@app.route("/a-generator-writes")
def generator():
    a, b = Box(), Box()
    a.x = b.x = "safe"
    list(parts(a))
    t.sink(b.x)
    list(parts(b))
    t.sink(b.x)  # want {?}


WRITTEN = Box()


def writes():
    WRITTEN.x = t.source()


@app.route("/the-caller-wrote-to-it-just-before")
def wrote_before():
    WRITTEN.x = "safe"
    writes()
    t.sink(WRITTEN.x)  # want {?}
    WRITTEN.x = "safe"
    writes()
    t.sink(WRITTEN.x)  # want {?}
