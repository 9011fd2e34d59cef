"""Arguments of a request, each made into the type that it was declared with."""

from flask import request


class Namespace:
    def __init__(self, values):
        self._values = values

    def __getitem__(self, name):
        return self._values[name]

    def __getattr__(self, name):
        return self._values[name]

    def __contains__(self, name):
        return name in self._values

    def __iter__(self):
        return iter(self._values)

    def get(self, name, default=None):
        return self._values.get(name, default)

    def pop(self, name, default=None):
        return self._values.pop(name, default)

    def keys(self):
        return self._values.keys()

    def values(self):
        return self._values.values()

    def items(self):
        return self._values.items()


class Argument:
    def __init__(self, name, default=None, dest=None, required=False, ignore=False, type=None, location=None, choices=(), action="store", *args, **kwargs):
        self.name = name
        self.default = default
        self.dest = dest or name
        self.type = type
        self.location = location
        self.choices = choices
        self.action = action

    def _read(self):
        if self.location == "files":
            return request.files.get(self.name)
        if self.location == "headers":
            return request.headers.get(self.name)
        if self.location == "cookies":
            return request.cookies.get(self.name)
        if self.location == "args":
            return request.args.get(self.name)
        if self.location == "form":
            return request.form.get(self.name)
        if self.location == "json":
            return request.json.get(self.name)
        return request.values.get(self.name)

    def _value(self):
        v = self._read()
        if self.type is not None and self.location != "files":
            v = self.type(v)
        if self.choices:
            if v not in self.choices:
                raise ValueError(self.name)
        if self.action != "store":
            return [v]
        if self.default is not None and __unknown__():
            return self.default
        return v


class RequestParser:
    def __init__(self, *args, **kwargs):
        self.args = {}

    def add_argument(self, name, *args, **kwargs):
        a = name if isinstance(name, Argument) else Argument(name, *args, **kwargs)
        self.args[a.dest] = a
        return self

    def remove_argument(self, name):
        self.args.pop(name, None)
        return self

    def replace_argument(self, name, *args, **kwargs):
        return self.add_argument(name, *args, **kwargs)

    def copy(self):
        p = RequestParser()
        for dest, a in self.args.items():
            p.args[dest] = a
        return p

    def parse_args(self, req=None, strict=False, http_error_code=400):
        values = {}
        for dest, a in self.args.items():
            values[dest] = a._value()
        return Namespace(values)
