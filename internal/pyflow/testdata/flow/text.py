import os
import re
import t
from t import table, source, sink


def building():
    x = source()
    sink("a %s b" % x)  # want "a "{?}" b"
    sink("a {} {b}".format(x, b="c"))  # want "a "{?}" c"
    sink(f"a {x} {1 + 1}")  # want "a "{?}" 2"
    sink("".join(["a", x]))  # want "a"{?}
    sink("%d" % int(x))  # want {-0-9}
    sink("%(a)s" % {"a": x})  # want {^\x00-*,./:-^`-\x7f}


def substitution():
    x = source()
    sink("-" + re.sub(r"[^a-z]", "", x))  # want "-"{a-z}
    sink("-" + x.replace("'", ""))  # want "-"{^\}
    sink("-" + re.sub(r"[^\w.-]", "_", x, flags=re.ASCII))  # want "-"{-.0-9A-Z_a-z}


def full_match():
    x = source()
    if not re.fullmatch(r"[a-z]+", x):
        return
    sink("-" + x)  # want "-"{a-z}


def match_anchored():
    x = source()
    m = re.match(r"^[a-z0-9]{1,8}\Z", x)
    if m is None:
        return
    sink("-" + x)  # want "-"{0-9a-z}


def match_open():
    x = source()
    if re.match(r"[a-z]+", x):
        sink("-" + x)  # want "-"{?}


def starts():
    x = source()
    if x.startswith("/"):
        sink(x)  # want "/"{?}
    if not x.startswith("https://example.com/"):
        return
    sink(x)  # want "https://example.com/"{?}


def paths():
    x = source()
    p = os.path.join("/srv/files", x)
    if not os.path.realpath(p).startswith("/srv/files/"):
        return
    sink(os.path.basename(x))  # want {^/ ok path-read}


def format_of_one_or_the_other(flag=table("f")):
    x = source()
    base = "{}/{}".format(table("host"), x) if flag else "plain"
    sink("{}/reset/{}".format(base, 1))  # want ("plain/reset/1" | {? -}"/"{?}"/reset/1")
    sink("{0}?{0}".format(base if flag else None))  # want ("None?"{?} | "plain?"{?} | {? -}"/"{?}"?"{?})


def joined_in_quotes():
    names = t.args.getlist("x")
    fixed = ['"{}"'.format(re.sub(r'[:."\s]', "_", n)) for n in names]
    sink("(" + ", ".join(fixed) + ")")  # want ("()" | "(\""{^\t-\r ".:}"\")" | "(\""{^\t-\r ".:}"\", \""{^\t-\r ".:}"\")")
    sink(", ".join(n + "!" for n in names))  # want ("" | {?}"!" | {?}"!, "{?}"!")
    if ", ".join(fixed):
        sink(names[0])  # want {?}
    else:
        sink(names[1])  # want {?}


def numbers_in_a_row():
    ids = [int(x) for x in source()]
    sink(str(tuple(ids)))  # want { ()+-.0-9[]e}
    sink(",".join(map(str, ids)))  # want {,-.0-9}
    ids.append(source())
    sink(str(ids))  # want {?}
