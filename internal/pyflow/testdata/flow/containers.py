import base64
import configparser
import json
from t import source, sink, args


def dict_keys():
    x = source()
    m = {}
    m["a"] = "safe"
    m["b"] = x
    sink(m["a"])
    sink(m["b"])  # want {?}
    sink(m.get("a", x))
    m.update({"a": x})
    sink(m["a"])  # want {?}


def list_index():
    x = source()
    l = ["safe"]
    l.append(x)
    l.append("moresafe")
    sink(l[1])  # want {?}
    l.pop(0)
    sink(l[1])
    sink(l[0])  # want {?}
    sink(l[-1])


def tuples():
    x = source()
    a, b = x, "b"
    sink(b)
    sink(a)  # want {?}
    (a, b), *rest = [(b, a), 1, x]
    sink(a)
    sink(rest[0])
    sink(rest[1])  # want {?}


class Box:
    kind = "box"

    def __init__(self, v, w="w"):
        self.v = v
        self.w = w

    def get(self):
        return self.v

    def constant(self):
        return "bar"

    @property
    def both(self):
        return self.w + self.v

    @staticmethod
    def same(x):
        return x

    @classmethod
    def make(cls, v):
        return cls(v)


def objects():
    b = Box(source())
    sink(b.get())  # want {?}
    sink(b.w)
    sink(b.constant())
    sink(b.both)  # want "w"{?}
    sink(Box.same(b.w))
    c = Box.make(b.v)
    sink(c.v)  # want {?}
    b.v = ""
    sink(b.get())
    sink(c.get())  # want {?}


class Lid(Box):
    def get(self):
        return super().get() + "!"


def inherits():
    sink(Lid(source()).get())  # want {?}"!"
    sink(Lid("a").get())


def closures():
    x = source()

    def inner(y):
        return x + y

    sink(inner("a"))  # want {?}"a"
    f = lambda v: v + "b"
    sink(f(x))  # want {?}"b"
    sink(f("a"))


def generator():
    def gen():
        yield "a"
        yield source()

    for g in gen():
        sink(g)  # want {?}
    l = [g for g in gen()]
    sink(l[0])
    sink(l[1])  # want {?}


def comprehension():
    x = source()
    l = [y + "a" for y in (x, "b")]
    sink(l[0])  # want {?}"a"
    sink(l[1])
    d = {k: v for k, v in [("a", x), ("b", "b")]}
    sink(d["b"])
    sink(d["a"])  # want {?}


def kwargs(**kw):
    sink(kw["a"])  # want {?}
    sink(kw["b"])


def call_kwargs():
    kwargs(a=source(), b="b")
    d = {"a": source(), "b": "c"}
    kwargs(**d)


def mapping():
    sink(args["q"])  # want {?}
    sink(args.get("q", "d"))  # want ("d" | {?})
    sink(args.get("n", type=int))  # want (None | number)
    for k, v in args.items():
        sink(v)  # want {?}


def round_trips():
    x = source()
    sink(base64.b64decode(base64.b64encode(x.encode())).decode())  # want {?}
    sink(json.loads(json.dumps({"a": x, "b": "b"}))["b"])


def slices():
    x = source()
    sink(x[1:-1])  # want {?}
    sink("abcdef"[1:3])
    sink(("SELECT " + x)[:6])
    sink("a,b".split(",")[0])
    sink(("fixed-" + x).split("-")[0])


class Parts:
    def __init__(self):
        self.a = ""
        self.b = ""


def growing_fields(n):
    p, q = Parts(), Parts()
    for i in range(n):
        p.a += source()
        p.b = p.b + "b" + source()
        q.a += p.a
    sink(q.a + "-")  # want {?}"-"
    sink(p.b + "-")  # want {?}"-"


class Given:
    def __init__(self):
        self.all = {"a": source(), "b": "b"}

    def keys(self):
        return self.all.keys()

    def __getitem__(self, key):
        return self.all[key]


def taking(a="", b="", c=""):
    sink(a)  # want {?}
    sink(b)
    sink(c)


def unpacked():
    taking(**Given())
