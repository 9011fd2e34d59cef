"""Texts and bytes in memory: what was written is what comes out."""

SEEK_SET = 0
SEEK_CUR = 1
SEEK_END = 2


class _Buffer:
    def __init__(self, initial_value, empty):
        self._empty = empty
        self._text = empty if initial_value is None else initial_value
        self._at = 0
        self._end = False  # writing adds; before, it replaces from the start
        self.closed = False

    def getvalue(self):
        return self._text

    def getbuffer(self):
        return self._text

    def read(self, size=-1):
        if size is None or size == -1:
            out = self._text[self._at:]
            self._at = len(self._text)
            return out
        out = self._text[self._at:self._at + size]
        self._at = self._at + len(out)
        return out

    def read1(self, size=-1):
        return self.read(size)

    def readline(self, size=-1):
        rest = self._text[self._at:]
        lines = rest.splitlines(True)
        if not lines:
            return self._empty
        self._at = self._at + len(lines[0])
        return lines[0]

    def readlines(self, hint=-1):
        rest = self._text[self._at:]
        self._at = len(self._text)
        return rest.splitlines(True)

    def write(self, s):
        if self._at == 0:
            self._text = s + self._text[len(s):]
        elif self._at == len(self._text):
            self._text = self._text + s
        else:
            self._text = self._text[:self._at] + s + self._text[self._at + len(s):]
        self._at = self._at + len(s)
        return len(s)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def seek(self, offset, whence=0):
        if whence == 0:
            self._at = offset
        elif whence == 2:
            self._at = len(self._text)
        return self._at

    def tell(self):
        return self._at

    def truncate(self, size=None):
        if size is None:
            size = self._at
        self._text = self._text[:size]
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
        _Buffer.__init__(self, initial_value, "")


class BytesIO(_Buffer):
    def __init__(self, initial_bytes=b""):
        _Buffer.__init__(self, initial_bytes, b"")
