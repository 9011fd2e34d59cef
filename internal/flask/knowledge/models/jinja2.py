"""Templates of an environment that the app makes itself: whether they escape
is the environment's business, and it does not unless it is told to."""

from _dewar import render_text as _render_text


class Template:
    def __init__(self, source, *args, **kwargs):
        self._source = source
        self._escapes = kwargs.get("autoescape", False)

    def render(self, *args, **kwargs):
        if self._escapes:
            return _render_text(self._source, *args, **kwargs)
        return __unknown__(args, kwargs)


class Environment:
    def __init__(self, *args, **kwargs):
        self._escapes = kwargs.get("autoescape", False)
        self.globals = {}
        self.filters = {}
        self.tests = {}

    def from_string(self, source, globals=None, template_class=None):
        t = Template(source)
        t._escapes = self._escapes
        return t


def select_autoescape(*args, **kwargs):
    return True
