"""Variables of a context: one context, in which they keep what was set."""


class Token:
    def __init__(self, var, old):
        self.var = var
        self.old_value = old


class ContextVar:
    def __init__(self, name, *, default=None):
        self.name = name
        self._value = default

    def get(self, default=None):
        if self._value is None:
            return default
        return self._value

    def set(self, value):
        token = Token(self, self._value)
        self._value = value
        return token

    def reset(self, token):
        self._value = token.old_value


class Context:
    def run(self, callable, *args, **kwargs):
        return callable(*args, **kwargs)


def copy_context():
    return Context()
