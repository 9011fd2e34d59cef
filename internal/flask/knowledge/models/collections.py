"""Containers made of the built-in ones."""

OrderedDict = dict


class _Mapping:
    def __init__(self, *args, **kwargs):
        self.data = dict(*args, **kwargs)

    def __getitem__(self, key):
        if key in self.data:
            return self.data[key]
        return self.__missing__(key)

    def __missing__(self, key):
        raise KeyError(key)

    def __setitem__(self, key, value):
        self.data[key] = value

    def __delitem__(self, key):
        del self.data[key]

    def __contains__(self, key):
        return key in self.data

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)

    def get(self, key, default=None):
        return self.data.get(key, default)

    def setdefault(self, key, default=None):
        return self.data.setdefault(key, default)

    def pop(self, key, *default):
        return self.data.pop(key, *default)

    def popitem(self):
        return self.data.popitem()

    def update(self, *args, **kwargs):
        self.data.update(*args, **kwargs)

    def clear(self):
        self.data.clear()

    def keys(self):
        return self.data.keys()

    def values(self):
        return self.data.values()

    def items(self):
        return self.data.items()


class UserDict(_Mapping):
    def copy(self):
        return UserDict(self.data)


class defaultdict(_Mapping):
    def __init__(self, default_factory=None, *args, **kwargs):
        self.data = dict(*args, **kwargs)
        self.default_factory = default_factory

    def __missing__(self, key):
        if self.default_factory is None:
            raise KeyError(key)
        value = self.default_factory()
        self.data[key] = value
        return value

    def copy(self):
        return defaultdict(self.default_factory, self.data)


class Counter(_Mapping):
    def __init__(self, iterable=None, **kwargs):
        self.data = dict(kwargs)
        if iterable is not None:
            self.update(iterable)

    def __missing__(self, key):
        return 0

    def update(self, iterable=None, **kwargs):
        if isinstance(iterable, (dict, _Mapping)):
            for element, count in iterable.items():
                self.data[element] = self.data.get(element, 0) + count
        elif iterable is not None:
            for element in iterable:
                self.data[element] = self.data.get(element, 0) + 1

    def most_common(self, n=None):
        pairs = sorted(self.data.items(), key=lambda pair: pair[1], reverse=True)
        if n is None:
            return pairs
        return pairs[:n]

    def elements(self):
        out = []
        for element, count in self.data.items():
            out.extend([element] * count)
        return iter(out)


class _Sequence:
    def __getitem__(self, index):
        return self.data[index]

    def __setitem__(self, index, value):
        self.data[index] = value

    def __delitem__(self, index):
        del self.data[index]

    def __contains__(self, value):
        return value in self.data

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)

    def append(self, value):
        self.data.append(value)

    def extend(self, values):
        self.data.extend(values)

    def insert(self, index, value):
        self.data.insert(index, value)

    def pop(self, index=-1):
        return self.data.pop(index)

    def remove(self, value):
        self.data.remove(value)

    def clear(self):
        self.data.clear()

    def index(self, value):
        return self.data.index(value)

    def count(self, value):
        return self.data.count(value)

    def reverse(self):
        self.data.reverse()


class UserList(_Sequence):
    def __init__(self, initlist=None):
        self.data = list(initlist or [])

    def sort(self, **kwargs):
        self.data.sort(**kwargs)


class deque(_Sequence):
    def __init__(self, iterable=(), maxlen=None):
        self.data = list(iterable)
        self.maxlen = maxlen
        self._bound(True)

    def _bound(self, left):
        if self.maxlen is not None:
            if left:
                self.data = self.data[-self.maxlen:]
            else:
                self.data = self.data[:self.maxlen]

    def append(self, value):
        self.data.append(value)
        self._bound(True)

    def appendleft(self, value):
        self.data.insert(0, value)
        self._bound(False)

    def popleft(self):
        return self.data.pop(0)

    def extendleft(self, values):
        for value in values:
            self.appendleft(value)

    def rotate(self, n=1):
        for _ in range(n):
            self.data.insert(0, self.data.pop())

    def copy(self):
        return deque(self.data, self.maxlen)


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
        child = dict(kwargs) if m is None else m
        return ChainMap(child, *self.maps)

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

    def __len__(self):
        return len(self._merged())


def namedtuple(typename, field_names, rename=False, defaults=None, module=None):
    if isinstance(field_names, str):
        field_names = field_names.replace(",", " ").split()
    names = list(field_names)
    preset = list(defaults or ())

    class _Named:
        _fields = tuple(names)

        def __init__(self, *args, **kwargs):
            missing = len(names) - len(preset)
            for i, name in enumerate(names):
                if i < len(args):
                    setattr(self, name, args[i])
                elif name in kwargs:
                    setattr(self, name, kwargs[name])
                else:
                    setattr(self, name, preset[i - missing])

        def __getitem__(self, index):
            return tuple(self)[index]

        def __iter__(self):
            return iter([getattr(self, name) for name in names])

        def __len__(self):
            return len(names)

        def _asdict(self):
            return {name: getattr(self, name) for name in names}

        def _replace(self, **kwargs):
            values = self._asdict()
            values.update(kwargs)
            return type(self)(**values)

        @classmethod
        def _make(cls, iterable):
            return cls(*iterable)

    return _Named
