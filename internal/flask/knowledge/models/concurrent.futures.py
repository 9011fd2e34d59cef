"""Executors run what they are given at once."""


class Future:
    def __init__(self, value=None):
        self._value = value

    def result(self, timeout=None):
        return self._value

    def set_result(self, value):
        self._value = value

    def exception(self, timeout=None):
        return __unknown__()

    def done(self):
        return __unknown__()

    def cancel(self):
        return __unknown__()

    def add_done_callback(self, fn):
        fn(self)


class Executor:
    def __init__(self, *args, **kwargs):
        pass

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        if __unknown__():
            future._value = fn(*args, **kwargs)
        return future

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        return list(map(fn, *iterables))

    def shutdown(self, wait=True, *, cancel_futures=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *why):
        return False


class ThreadPoolExecutor(Executor):
    pass


class ProcessPoolExecutor(Executor):
    pass


def as_completed(fs, timeout=None):
    return list(fs)


def wait(fs, timeout=None, return_when="ALL_COMPLETED"):
    return list(fs), []
