"""The oracle of TestDocumentsAsPythonReadsThem: documents, and what Python's own readers do with them.

Prints one JSON object a line: language, the document in Base64, and whether its
reader was asked for an object or an entity (harm), or it is plain data that a
program wrote (plain). The seed is fixed.
"""

import base64
import collections
import datetime
import decimal
import io
import json
import os
import pickle
import random
import resource
import sys
import xml.parsers.expat
import zlib

import yaml

chance = random.Random(7)
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))  # a changed length may ask for a great deal


def say(language, data, harm, plain=False):
    print(json.dumps({"language": language, "data": base64.b64encode(data).decode(), "harm": harm, "plain": plain}))


# --- pickle

PLAIN = {
    ("datetime", "datetime"), ("datetime", "date"), ("datetime", "time"), ("datetime", "timedelta"), ("datetime", "timezone"),
    ("decimal", "Decimal"), ("collections", "OrderedDict"), ("collections", "deque"), ("_codecs", "encode"),
    ("__builtin__", "set"), ("__builtin__", "frozenset"), ("__builtin__", "complex"), ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "complex"), ("builtins", "slice"),
}


class Watched(pickle.Unpickler):
    asked = False

    def find_class(self, module, name):
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        # A name that no module can have is an error, and no more.
        self.asked = self.asked or module.isprintable() and name.isprintable() and bool(module) and bool(name)
        raise pickle.UnpicklingError


class WatchedInPython(pickle._Unpickler):
    asked = False

    def find_class(self, module, name):
        if (module, name) in PLAIN:
            return super().find_class(module, name)
        self.asked = self.asked or module.isprintable() and name.isprintable() and bool(module) and bool(name)
        raise pickle.UnpicklingError


def unpickles(data):
    asked = False
    for reader in Watched, WatchedInPython:
        one = reader(io.BytesIO(data))
        try:
            one.load()
        except Exception:
            pass
        asked = asked or one.asked
    return asked


class Evil:
    def __init__(self, call, *args):
        self.what = call, args

    def __reduce__(self):
        return self.what


values = [
    None, 1, -1, 2**70, 1.5, "", "text", "a\nb", "\u20ac", b"", b"bytes\x93c\n", [1, 2], (1,), (1, 2, 3), {"a": [1], "b": {"c": None}}, {1, 2}, frozenset([3]),
    "os\nsystem\n.", ["datetime", "date"], list(range(300)), {"k" * 300: "v" * 300}, datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    [datetime.timedelta(1), datetime.timedelta(2)], decimal.Decimal("1.50"), collections.OrderedDict(a=1), [datetime.date(2026, 1, n) for n in range(1, 9)], 1j,
]
evil = [
    Evil(os.system, "true"), Evil(eval, "1"), Evil(exec, "1"), Evil(__import__, "os"), Evil(getattr, "a", "b"), [1, Evil(os.system, "true")], {"date": datetime.date(2026, 1, 1), "x": Evil(print, 1)}, os.system,
]
made = []
for protocol in range(6):
    for value in values:
        data = pickle.dumps(value, protocol)
        say("pickle", data, False, value != b"" or protocol > 2)  # b"" is a call of bytes before
        made.append(data)
    for value in evil:
        data = pickle.dumps(value, protocol)
        assert unpickles(data)
        say("pickle", data, True)
        say("pickle", data[:-1], unpickles(data[:-1]))
        made.append(data)
by_hand = [
    b"cos\nsystem\n(S'true'\ntR.", b"(S'true'\nios\nsystem\n.", b"\x8c\x02os\x8c\x06system\x93.", b"(cos\nsystem\nS'true'\no.", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93.",
    b"Vos\np7\n0Vsystem\np8\n0g7\ng8\n\x93.", b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system2\x930\x93.", b"S'o\\x73'\nVsystem\n\x93.", b"N0NNN000cos\nsystem\n.", b"(K\x01K\x021cos\nsystem\n.", b"Ppersistent\ncos\nsystem\n.",
    b"\x80\x02c__builtin__\neval\nq\x00X\x01\x00\x00\x001q\x01\x85q\x02Rq\x03.", b"c_codecs\nencode\n(Vx\nVlatin1\ntR0cos\nsystem\n.", b"cos\r\nsystem\n.", b"Vos\nVsystem\nh\x05\x93.", b"c builtins\neval\n.",
]
for data in by_hand:
    say("pickle", data, unpickles(data))
    made.append(data)
for _ in range(3000):
    data = bytearray(chance.choice(made))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        other = chance.choice(made)
        match chance.randrange(4):
            case 0:
                data[at:at] = other[: chance.randrange(len(other) + 1)]
            case 1:
                del data[at : at + chance.randint(1, 4)]
            case 2:
                data[at:at] = bytes([chance.choice(b"(0123INRVacbdg}eh]lpqst)u.\x80\x81\x85\x86\x88\x8c\x93\x94")])
            case 3:
                data[at : at + 1] = bytes([chance.randrange(256)])
    data = bytes(data[:4000])
    if unpickles(data):
        say("pickle", data, True)
for value in values:
    data = base64.urlsafe_b64encode(zlib.compress(pickle.dumps(value)))
    say("pickle", data, False, True)
for value in evil:
    for protocol in 0, 4:
        data = pickle.dumps(value, protocol)
        for wrapped in base64.b64encode(data), base64.encodebytes(data), base64.urlsafe_b64encode(data), b"!" + base64.b64encode(data), zlib.compress(data), base64.b64encode(zlib.compress(data)), zlib.compress(data, wbits=31), zlib.compress(data, wbits=-15):
            say("pickle", wrapped, True)


# --- YAML


class Named(Exception):
    pass


class Loader(yaml.UnsafeLoader):
    pass


def named(loader, *_):
    raise Named


Loader.yaml_multi_constructors = {"tag:yaml.org,2002:python/": named}
Loader.yaml_constructors = {k: v for k, v in yaml.SafeLoader.yaml_constructors.items()}


def loads(data):
    for stream in data, io.BytesIO(data):
        try:
            for _ in yaml.load_all(stream, Loader=Loader):
                pass
        except Named:
            return True
        except Exception:
            pass
    return False


plain = [
    {"a": 1, "b": [1, 2.5, None, True], "c": {"d": "text", "e": "two\nlines\n"}}, ["!", "!!python/name is a tag", "wow !important", "a: !b", "* star", "& and"], {"Hello !": "x!y", "&a": "*b", "%TAG": 1, "x": "%TAG ! y"},
    {"n": "Great!!! Really", "q": "wait, what?!", "list": ["- !x", "[!NOTE]"]}, {"when": datetime.date(2026, 1, 1), "bytes": b"\x00\xff", "set": {1, 2}}, "just a text!", "!", [],
]
for value in plain[:1] + plain[2:]:
    for flow in False, True:
        data = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow).encode()
        say("yaml", data, False, True)
say("yaml", b"a: &x {b: 1}\nc: *x\nd:\n  <<: *x\ne: !!str 12\nf: !!set {a, b}\ng: !!binary aGk=\nh: !<tag:yaml.org,2002:int> 3\n", False, True)
say("yaml", b"# Uses !include elsewhere\ntitle: Read me!! now\nnote: >\n  Stop! It is important!\n  Really!\n", False, True)
head = ["", "%TAG ! tag:yaml.org,2002:\n---\n", "%TAG !e! tag:yaml.org,2002:python/\n--- ", "--- ", "\ufeff", "# c\n", "%YAML 1.1\n---\n", "a: 1\n---\n", "%TAG !! tag:yaml.org,2002:python/\n---\n"]
before = ["", "- ", "a: ", "? ", "- - ", "[", "{a: ", "[1,", "&x ", "- &x ", "a:\n  ", '{"a":', "a:\r  ", "a:\u2028  ", "a:\u0085  ", "{? ", "-   ", "[1, &y ", "- 1\n- ", "a: b\u2029c: ", "x\n", "'a': ", '"b"\n: ', "-\t"]
tags = ["!!python/name:os.system", "!<tag:yaml.org,2002:python/name:os.system>", "!!pytho%6e/name:os.system", "!python/name:os.system", "!e!name:os.system", "!!name:os.system", "!!python/tuple", "!<tag:yaml.org,2002:pyth%6Fn/none>", "!<!python/none>", "!!p%79thon/object/apply:os.system"]
after = ["", " ''", " [x]", " x", "]", " ''}", "\n- 1", " &z x", "\n", " {}", " |\n  x"]
for h in head:
    for b in before:
        for t in tags:
            for a in after if b else after[:3]:
                if chance.random() > 0.06:
                    continue
                data = (h + b + t + a).encode()
                if loads(data):
                    say("yaml", data, True)
    data = ("\ufeff" + h + "- !!python/none ''").encode("utf-16-le")
    say("yaml", data, loads(data))
    say("yaml", base64.b64encode((h + "!!python/none ''").encode()), loads((h + "!!python/none ''").encode()))


# --- XML


def declares(data):
    seen = []
    p = xml.parsers.expat.ParserCreate()
    p.StartDoctypeDeclHandler = lambda *a: seen.append(a)
    try:
        p.Parse(data, True)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError):
        pass
    return bool(seen)


DTD = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
prolog = ["", "<?xml version='1.0'?>", "\ufeff", "<?xml version='1.0' encoding='ENC'?>\n", "<?xml version=\"1.0\" encoding=\"ENC\" standalone='no'?>", " ", "\ufeff<?xml version='1.0' encoding='ENC'?>"]
middle = ["", "<!-- a -->", "\n\n", "<?a b?>", "<!-- <r/> --><!---->", "<?x <!-- ?>", "<!-- ?> -->\t<?y?>", "<!--->-->", "<?xml-stylesheet href='a'?>"]
codecs = ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "us-ascii", "utf-7", "cp037", "utf-32", "windows-1252", "koi8-r", "cp500"]
for p in prolog:
    for m in middle:
        for codec in codecs:
            for dtd in DTD, '<!DOCTYPE r SYSTEM "http://x.example/d">', "<!DOCTYPE r>", "":
                text = p.replace("ENC", codec) + m + dtd + "<r>&#x41;<![CDATA[<!DOCTYPE html>]]><!-- <!DOCTYPE x> --></r>"
                try:
                    data = text.encode(codec)
                except UnicodeEncodeError:
                    continue
                harm = declares(data)
                say("xml", data, harm, not dtd and codec not in ("utf-7", "cp037", "cp500", "utf-32"))
sys.stdout.flush()
