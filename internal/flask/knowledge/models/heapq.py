"""Heaps: any of what is in comes out first."""


def heapify(x):
    pass


def heappush(heap, item):
    heap.append(item)


def heappop(heap):
    return min(heap)


def heappushpop(heap, item):
    heap.append(item)
    return min(heap)


def heapreplace(heap, item):
    out = min(heap)
    heap.append(item)
    return out
