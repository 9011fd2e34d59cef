# What is called from outside by the name of the method.
import t
from t import sink


class Query(t.Node):
    def resolve_user(self, info, name, limit=10):
        sink(name)  # want {?}
        sink(info)
        sink(self)
        return name

    def resolve_all(root, _info, **filters):
        sink(filters["a"])  # want {?}

    def helper(self, value="x"):
        sink(value)

    def resolve_(self, value="x"):
        sink(value)


class Change(t.Change):
    @staticmethod
    def mutate(root, info, text):
        sink(text)  # want {?}

    @classmethod
    def mutate_later(cls, text="x"):
        sink(text)


class Room(t.Namespace):
    def on_say(self, data):
        sink(data["text"])  # want {?}

    def say(self, data="x"):
        sink(data)


class Sub(Room):
    def on_sing(self, song):
        sink(song)  # want {?}


class Other:
    def on_say(self, data="x"):
        sink(data)


def show(name):
    sink(name)  # want "b"{?}


def make(name, f):
    def view():
        f(name + t.args["x"] if name == "b" else "")

    return view


for path, f in (("/a", str), ("/b", show)):
    t.route(path)(make(path[1:], f))
