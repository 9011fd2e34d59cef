"""Containers made of the built-in ones."""


class OrderedDict(dict):
    def move_to_end(self, key, last=True):
        pass


class defaultdict(dict):
    def __init__(self, default_factory=None, *args, **kwargs):
        dict.__init__(self, *args, **kwargs)
        self.default_factory = default_factory

    def __missing__(self, key):
        value = self.default_factory()
        self[key] = value
        return value


class Counter(dict):
    def __init__(self, iterable=None, **kwargs):
        dict.__init__(self)
        if iterable is not None:
            for element in iterable:
                self[element] = 1

    def __missing__(self, key):
        return 0

    def most_common(self, n=None):
        return list(self.items())[:n]

    def elements(self):
        return list(self.keys())


class deque(list):
    def __init__(self, iterable=(), maxlen=None):
        list.__init__(self, iterable)
        self.maxlen = maxlen

    def appendleft(self, x):
        self.insert(0, x)

    def popleft(self):
        return self.pop(0)

    def extendleft(self, iterable):
        for x in iterable:
            self.insert(0, x)

    def rotate(self, n=1):
        for _ in range(n):
            self.insert(0, self.pop())


class ChainMap:
    def __init__(self, *maps):
        self.maps = list(maps) or [{}]

    def __getitem__(self, key):
        for mapping in self.maps:
            if key in mapping:
                return mapping[key]
        raise KeyError(key)

    def get(self, key, default=None):
        for mapping in self.maps:
            if key in mapping:
                return mapping[key]
        return default

    def __setitem__(self, key, value):
        self.maps[0][key] = value

    def __contains__(self, key):
        for mapping in self.maps:
            if key in mapping:
                return True
        return False

    def new_child(self, m=None, **kwargs):
        return ChainMap(m or dict(kwargs), *self.maps)

    def _merged(self):
        out = {}
        for mapping in reversed(self.maps):
            out.update(mapping)
        return out

    def keys(self):
        return self._merged().keys()

    def values(self):
        return self._merged().values()

    def items(self):
        return self._merged().items()

    def __iter__(self):
        return iter(self._merged())


class UserDict(dict):
    @property
    def data(self):
        return self


class UserList(list):
    @property
    def data(self):
        return self


class UserString(str):
    @property
    def data(self):
        return self


def namedtuple(typename, field_names, rename=False, defaults=None, module=None):
    if isinstance(field_names, str):
        field_names = field_names.replace(",", " ").split()
    names = list(field_names)
    preset = dict(zip(reversed(names), reversed(list(defaults or ()))))

    class _Named(tuple):
        _fields = tuple(names)

        def __new__(cls, *args, **kwargs):
            values = list(args)
            for name in names[len(args):]:
                if name in kwargs:
                    values.append(kwargs[name])
                else:
                    values.append(preset.get(name))
            return tuple.__new__(cls, values)

        def __getattr__(self, name):
            return self[names.index(name)]

        def _asdict(self):
            return dict(zip(names, self))

        def _replace(self, **kwargs):
            return _Named(*[kwargs.get(name, value) for name, value in zip(names, self)])

        @classmethod
        def _make(cls, iterable):
            return _Named(*iterable)

    return _Named
