import t
from t import source, sink, check, ensure, stop, clean, quote


def constant_condition():
    x = source()
    bar = "safe"
    num = 106
    if (7 * 42) - num > 100:
        bar = "constant"
    else:
        bar = x
    sink(bar)
    if 7 * 18 + num > 200:
        bar = x
    sink(bar)  # want {?}


def ternary():
    x = source()
    y = x if 7 * 6 == 42 else "no"
    sink(y)  # want {?}
    z = "no" if 7 * 6 == 42 else x
    sink(z)


def match_constant(n=3):
    x = source()
    guess = "ABC"[1]
    match guess:
        case "A":
            bar = x
        case "B":
            bar = "bob"
        case "C" | "D":
            bar = x
        case _:
            bar = "bob's your uncle"
    sink(bar)


def match_unknown():
    x = source()
    match x:
        case "a" | "b":
            sink(x)
        case "c":
            sink(x)
        case other:
            sink(other)  # want {?}


def allow_list():
    x = source()
    if x not in ("a", "b"):
        stop()
    sink(x)


def allow_list_negative():
    x = source()
    if x in ["a", "b"]:
        sink(x)
    else:
        sink(x)  # want {?}


def equality():
    x = source()
    if x == "asc":
        sink(x)
    if x != "asc":
        return
    sink(x)


def digits_only():
    x = source()
    if not x.isdigit():
        return
    sink("a" + x)  # want "a"{^\x00-/:-\x7f}


def helper_predicate(v):
    if v not in ("a", "b"):
        return False
    return True


def uses_predicate():
    x = source()
    if not helper_predicate(x):
        stop()
    sink(x)


def assigned_predicate():
    x = source()
    ok = helper_predicate(x)
    if ok:
        sink(x)
    else:
        sink(x)  # want {?}


def raising_helper(v):
    if v not in {"a": 1, "b": 2}:
        raise ValueError(v)


def uses_raising():
    x = source()
    raising_helper(x)
    sink(x)


def facts():
    x = source()
    if check(x):
        sink(x)  # want {? ok *}
    sink(clean(x))
    sink(quote(x))  # want {? ok sql}
    ensure(x)
    sink(x)  # want {? ok *}


def contains_guard():
    x = source()
    if "../" in x:
        return
    sink(x)  # want {? not "../"}


def quote_guard():
    x = source()
    if "'" in x:
        return
    sink("a='" + x + "'")  # want "a='"{^\}"'"


def cast_in_try():
    x = source()
    try:
        n = int(x)
    except ValueError:
        return
    sink(n)  # want number
    sink("x" + x)  # want "x"{^\x00-*,./:-^`-\x7f}


def is_none():
    x = source()
    if x is None:
        x = "default"
    sink(x)  # want ("default" | {?})


def and_or():
    x = source()
    if x and x in ("a", "b"):
        sink(x)
    y = x or "none"
    sink(y)  # want ("none" | {?})


def nested(kind=None):
    x = source()
    if kind:
        if kind == "a":
            y = "a"
        else:
            y = x
    else:
        y = ""
    sink(y)  # want ("" | "a" | {?})


def loop_chars():
    x = source()
    for c in x:
        if c not in "abc":
            return
    sink("-" + x)  # want "-"{a-c}


def loop_filter():
    x = source()
    out = ""
    for c in x:
        if c in "0123456789":
            out += c
    sink("-" + out)  # want "-"{0-9}


def all_chars():
    x = source()
    if not all(c in "abc_" for c in x):
        return
    sink("-" + x)  # want "-"{_a-c}


def while_loop():
    x = source()
    y = ""
    i = 0
    while i < 3:
        y += "a"
        i += 1
    sink(y)
    while len(y) < 10:
        y += x
    sink(y)  # want ("aaa"{?} | "aaa"{?}{?})


def converted_by(kind=None, value=""):
    if kind is not None:
        value = kind(value)
    return value


def converted():
    sink(converted_by(None, t.args["a"]))  # want {?}
    sink(converted_by(value=t.args["b"]))  # want {?}
    sink(converted_by(int, t.args["c"]))  # want number


def checked_with_a_default():
    if not t.args.get("name", "").isalnum():
        t.stop()
    sink(t.args["name"])  # want {^\x00-/:-@[-`{-\x7f}


def checked_with_a_bad_default():
    if not t.args.get("name", "a").isalnum():
        t.stop()
    sink(t.args["name"])  # want {?}


def checked_by_either():
    if not t.args.get("name", t.args.get("other")).isalnum():
        t.stop()
    sink(t.args["name"])  # want {?}
    sink(t.args["other"])  # want {?}


def one_of_a_list():
    x = t.args["x"]
    if not any(x == a for a in ("ls", "df")):
        t.stop()
    sink(x)


def one_of_a_list_or_a_beginning():
    x = t.args["x"]
    if any([x == "ls", x.startswith("df")]):
        sink(x)  # want {?}


def none_of_a_list():
    x = t.args["x"]
    if any(x == a for a in ("ls", "df")):
        t.stop()
    sink(x)  # want {?}


class Held:
    x = ""


first, second, third = Held(), Held(), Held()


def one_of(a, b):
    if a:
        first.x, second.x, third.x = "1", "2", "3"
        return first
    h = Held()
    h.x = source()
    if b:
        h.x = "safe"
        return h
    return h


def unchanged_first(a, b):
    if a:
        first.x, second.x, third.x = "1", "2", "3"
        return first
    h = Held()
    h.x = source()
    if b:
        return h
    h.x = "safe"
    return h


def ways_that_end_apart(a, b):
    sink(one_of(a, b).x)  # want ("" | "1" | "safe" | {?})
    sink(unchanged_first(a, b).x)  # want ("" | "1" | "safe" | {?})
