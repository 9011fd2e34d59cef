"""Queues: what was put in comes out. In one that somebody else may have, too,
there may be more."""

import _dewar


class Empty(Exception):
    pass


class Full(Exception):
    pass


class Queue:
    def __init__(self, maxsize=0):
        self.maxsize = maxsize
        self._items = []

    def put(self, item, block=True, timeout=None):
        self._items.append(item)

    def put_nowait(self, item):
        self._items.append(item)

    def _others(self):
        if _dewar.own(self):
            raise Empty  # or it waits for ever
        return __unknown__()

    def get(self, block=True, timeout=None):
        return self._items.pop(0) if self._items else self._others()

    def get_nowait(self):
        return self.get()

    def qsize(self):
        return len(self._items)

    def empty(self):
        if _dewar.own(self):
            return not self._items
        return __unknown__() or not self._items

    def full(self):
        return __unknown__()

    def task_done(self):
        pass

    def join(self):
        pass


class LifoQueue(Queue):
    def get(self, block=True, timeout=None):
        return self._items.pop() if self._items else self._others()


class PriorityQueue(Queue):
    def get(self, block=True, timeout=None):
        if not self._items:
            return self._others()
        if len(self._items) == 1:
            return self._items.pop()
        out = min(self._items)
        self._items = [item for item in self._items]
        return out


class SimpleQueue(Queue):
    pass
