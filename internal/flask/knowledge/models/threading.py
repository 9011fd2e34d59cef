"""Threads run where they are started, if they do: what never returns must not
take the rest with it. One that is started with the program is still there when
requests come."""

import _dewar


class Thread:
    def __init__(self, group=None, target=None, name=None, args=(), kwargs=None, *, daemon=None):
        self.name = name
        self.daemon = daemon
        self._target = target
        self._args = args
        self._kwargs = kwargs or {}

    def start(self):
        target = getattr(self, "_target", None)
        if target is None:
            _dewar.later(self.run)
        else:
            _dewar.later(target, self._args, self._kwargs)
        self.run()

    def run(self):
        if self._target is not None and __unknown__():
            self._target(*self._args, **self._kwargs)

    def join(self, timeout=None):
        pass

    def is_alive(self):
        return __unknown__()


class Timer(Thread):
    def __init__(self, interval, function, args=None, kwargs=None):
        self.interval = interval
        self._target = function
        self._args = args or ()
        self._kwargs = kwargs or {}

    def cancel(self):
        pass


class local:
    pass
