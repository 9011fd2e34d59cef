"""Queues: what was put in comes out."""


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

    def get(self, block=True, timeout=None):
        # Somebody else may have put something in.
        return self._items.pop(0) if self._items else __unknown__()

    def get_nowait(self):
        return self.get()

    def qsize(self):
        return len(self._items)

    def empty(self):
        return __unknown__() or not self._items

    def full(self):
        return __unknown__()

    def task_done(self):
        pass

    def join(self):
        pass


class LifoQueue(Queue):
    def get(self, block=True, timeout=None):
        return self._items.pop() if self._items else __unknown__()


class PriorityQueue(Queue):
    def get(self, block=True, timeout=None):
        if not self._items:
            return __unknown__()
        out = min(self._items)
        self._items = [item for item in self._items]
        return out


class SimpleQueue(Queue):
    pass
