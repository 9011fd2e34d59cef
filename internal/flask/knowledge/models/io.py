"""Texts and bytes in memory: what was written is what comes out."""

SEEK_SET = 0
SEEK_CUR = 1
SEEK_END = 2


class _Buffer:
    # The text lies in two halves, before and after the position, so that
    # writing one after the other needs no lengths, which are seldom known.
    def __init__(self, initial, empty, newline):
        self._before = empty
        self._after = empty if initial is None else initial
        self._empty = empty
        self._newline = newline
        self.closed = False

    def getvalue(self):
        return self._before + self._after

    def getbuffer(self):
        return self._before + self._after

    def read(self, size=-1):
        out = self._after
        if size is None or size < 0:
            self._before = self._before + out
            self._after = self._empty
            return out
        self._before = self._before + out[:size]
        self._after = out[size:]
        return out[:size]

    def read1(self, size=-1):
        return self.read(size)

    def readline(self, size=-1):
        head, newline, rest = self._after.partition(self._newline)
        self._before = self._before + head + newline
        self._after = rest
        return head + newline

    def readlines(self, hint=-1):
        lines = self._after.splitlines(True)
        self._before = self._before + self._after
        self._after = self._empty
        return lines

    def write(self, s):
        self._before = self._before + s
        if self._after:
            self._after = self._after[len(s):]
        return len(s)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def seek(self, offset, whence=0):
        text = self._before + self._after
        if whence == 2:
            self._before = text
            self._after = self._empty
        elif whence == 0:
            if offset == 0:
                self._before = self._empty
                self._after = text
            else:
                self._before = text[:offset]
                self._after = text[offset:]
        return len(self._before)

    def tell(self):
        return len(self._before)

    def truncate(self, size=None):
        if size is None:
            self._after = self._empty
            return len(self._before)
        text = (self._before + self._after)[:size]
        self._before = text[:len(self._before)]
        self._after = text[len(self._before):]
        return size

    def flush(self):
        pass

    def close(self):
        self.closed = True

    def readable(self):
        return True

    def writable(self):
        return True

    def seekable(self):
        return True

    def isatty(self):
        return False

    def __iter__(self):
        return iter(self.readlines())

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


class StringIO(_Buffer):
    def __init__(self, initial_value="", newline="\n"):
        _Buffer.__init__(self, initial_value, "", "\n")


class BytesIO(_Buffer):
    def __init__(self, initial_bytes=b""):
        _Buffer.__init__(self, initial_bytes, b"", b"\n")
