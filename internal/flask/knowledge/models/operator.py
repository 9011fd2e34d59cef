"""Operators as functions."""


def add(a, b):
    return a + b


def concat(a, b):
    return a + b


def iadd(a, b):
    return a + b


def iconcat(a, b):
    return a + b


def mul(a, b):
    return a * b


def mod(a, b):
    return a % b


def or_(a, b):
    return a | b


def getitem(a, b):
    return a[b]


def setitem(a, b, c):
    a[b] = c


def contains(a, b):
    return b in a


def eq(a, b):
    return a == b


def ne(a, b):
    return a != b


def not_(a):
    return not a


def truth(a):
    return bool(a)


def itemgetter(item, *items):
    if not items:
        return lambda obj: obj[item]
    return lambda obj: tuple([obj[i] for i in (item, *items)])


def _attr(obj, path):
    for name in path.split("."):
        obj = getattr(obj, name)
    return obj


def attrgetter(attr, *attrs):
    if not attrs:
        return lambda obj: _attr(obj, attr)
    return lambda obj: tuple([_attr(obj, a) for a in (attr, *attrs)])


def methodcaller(name, /, *args, **kwargs):
    return lambda obj: getattr(obj, name)(*args, **kwargs)
