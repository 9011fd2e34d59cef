"""The headers of an answer. All else of the module is told by facts."""


class Headers:
    def __init__(self, defaults=None):
        self._values = {}
        self._response = None
        if defaults is not None:
            for key, value in dict(defaults).items():
                self._put(key, value)

    def _of(self, response):
        """Says whose headers these are, for a response knows its type."""
        self._response = response

    def _put(self, key, value):
        name = key.title()
        self._values[name] = value
        if name == "Content-Type" and self._response is not None:
            self._response.content_type = value

    def __setitem__(self, key, value):
        self._put(key, value)

    def set(self, key, value, **kwargs):
        self._put(key, value)

    def add(self, key, value, **kwargs):
        self._put(key, value)

    def add_header(self, key, value, **kwargs):
        self._put(key, value)

    def setdefault(self, key, default):
        if key not in self:
            self._put(key, default)
        return self._values[key.title()]

    def extend(self, *args, **kwargs):
        self._take(args, kwargs)

    def update(self, *args, **kwargs):
        self._take(args, kwargs)

    def _take(self, args, kwargs):
        for headers in args:
            for key, value in dict(headers).items():
                self._put(key, value)
        for key, value in kwargs.items():
            self._put(key, value)

    def get(self, key, default=None, type=None):
        return self._values.get(key.title(), default)

    def getlist(self, key):
        if key in self:
            return [self._values[key.title()]]
        return []

    def __getitem__(self, key):
        return self._values[key.title()]

    def __delitem__(self, key):
        self._values.pop(key.title(), None)

    def remove(self, key):
        self._values.pop(key.title(), None)

    def pop(self, key, default=None):
        return self._values.pop(key.title(), default)

    def clear(self):
        self._values = {}

    def __contains__(self, key):
        return key.title() in self._values

    def __iter__(self):
        return iter(self._values.items())

    def __len__(self):
        return len(self._values)

    def keys(self):
        return self._values.keys()

    def values(self):
        return self._values.values()

    def items(self):
        return self._values.items()
