"""Templates of an environment that the app makes itself: whether they escape
is the environment's business, and it does not unless it is told to."""

from _dewar import render_name as _render_name
from _dewar import render_text as _render_text


class Template:
    def __init__(self, source, *args, **kwargs):
        self._source = source
        self._name = None
        self._escapes = kwargs.get("autoescape", False)

    def render(self, *args, **kwargs):
        if self._escapes and self._name is not None:
            return _render_name(self._name, *args, **kwargs)
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

    def get_template(self, name, parent=None, globals=None):
        t = Template(None)
        t._name = name
        t._escapes = self._escapes
        return t

    def get_or_select_template(self, name, parent=None, globals=None):
        return self.get_template(name)

    def select_template(self, names, parent=None, globals=None):
        return self.get_template(names)


def select_autoescape(*args, **kwargs):
    return True
