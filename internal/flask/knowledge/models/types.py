"""Objects of fields."""


class SimpleNamespace:
    def __init__(self, mapping=None, /, **kwargs):
        if mapping:
            self.__dict__.update(mapping)
        self.__dict__.update(kwargs)
