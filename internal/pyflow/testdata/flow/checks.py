import os
import pathlib
import re
from urllib.parse import urljoin, urlparse
from t import App, args, go, names, open, request, sink, source, stop, table

app = App()
ROOT = table("root")


# What is not in a collection of the program's own is replaced.


def known():
    return {str(x): x for x in table("names")}


def replaced():
    name = source()
    ours = known()
    if name not in ours:
        name = "plain" if "plain" in ours else "other"
    sink(name)  # want ("other" | "plain" | {? ok *})


def replaced_in_list():
    name = source()
    if name not in list(table("names")):
        name = "plain"
    open("/a/" + name + "/b")  # want ("/a/"{? ok *}"/b" | "/a/plain/b")


def replaced_the_wrong_way():
    name = source()
    ours = known()
    if name in ours:
        name = "plain"
    sink(name)  # want ("plain" | {?})


def replaced_another():
    name = args.get("name")
    if args.get("other") not in known():
        name = "plain"
    sink(name)  # want ("plain" | {?})


def members_from_outside():
    name = source()
    if name not in list(source()):
        name = "plain"
    sink(name)  # want ("plain" | {?})


def equal_to_one_of_ours():
    name = source()
    ours = table("a") if table("b") else "plain"
    if name == ours:
        sink(name)  # want {? ok *}
    else:
        sink(name)  # want {?}


def one_of_two_equal():
    name = args.get("name")
    other = [name] if table("c") else args.get("other")
    ours = table("a") if table("b") else "plain"
    if other == ours:
        sink(name)  # want {?}


# A folder that holds: commonpath of the resolved path.


class Store:
    def __init__(self, folder):
        if not os.path.isabs(folder):
            raise ValueError(folder)
        self.__folder = folder

    def holds(self, p):
        top = os.path.commonpath((os.path.realpath(p), self.__folder))
        return top == self.__folder

    def holds_letters(self, p):
        top = os.path.commonprefix((os.path.realpath(p), self.__folder))
        return top == self.__folder

    def holds_unresolved(self, p):
        return os.path.commonpath((p, self.__folder)) == self.__folder

    def verify(self, p):
        if self.holds(p):
            if not os.path.exists(p):
                return True
            open(p)  # want {? ok path-read}
            if os.path.isfile(p) and os.path.basename(p).endswith(".gpg"):
                return True
        raise ValueError("outside")

    def path(self, folder, name=""):
        joined = os.path.join(os.path.realpath(self.__folder), folder, name)
        whole = os.path.realpath(joined)
        if not self.verify(whole):
            raise ValueError(folder)
        return whole

    def path_by_letters(self, name):
        whole = os.path.realpath(os.path.join(self.__folder, name))
        if not self.holds_letters(whole):
            raise ValueError(name)
        return whole

    def path_unresolved(self, name):
        whole = os.path.join(self.__folder, name)
        if not self.holds_unresolved(whole):
            raise ValueError(name)
        return whole


def the_store():
    try:
        folder = pathlib.Path(table("folder"))
    except ValueError:
        folder = pathlib.Path("/data")
    return Store(str(folder / "store"))


@app.route("/a/<folder>")
def stored(folder):
    open(the_store().path(folder))  # want {? ok path-read}


@app.route("/b")
def stored_by_letters():
    open(the_store().path_by_letters(source()))  # want {?}


@app.route("/c")
def stored_unresolved():
    open(the_store().path_unresolved(source()))  # want ("/"{? -}"/store/"{?} | "/data/store/"{?} | {?})


# relative_to raises.


def whole_path(folder, name):
    if folder is None:
        return name
    return "{0}{1}".format(folder, name)


def only_below(folder, name):
    p = os.path.realpath(whole_path(folder, name))
    try:
        pathlib.Path(p).relative_to(folder)
    except ValueError:
        raise PermissionError("denied")


def only_below_unresolved(folder, name):
    try:
        pathlib.Path(whole_path(folder, name)).relative_to(folder)
    except ValueError:
        raise PermissionError("denied")


def only_warns(folder, name):
    p = os.path.realpath(whole_path(folder, name))
    try:
        pathlib.Path(p).relative_to(folder)
    except ValueError:
        print("denied")


def below(folder=ROOT):
    name = source()
    only_below(folder, name)
    open("{0}{1}".format(folder, name))  # want {? -}{? ok path-read}


def below_unresolved():
    name = source()
    only_below_unresolved(ROOT, name)
    open("{0}{1}".format(ROOT, name))  # want {? -}{?}


def below_of_another():
    name = args.get("name")
    only_below(ROOT, args.get("other"))
    open("{0}{1}".format(ROOT, name))  # want {? -}{?}


def below_warned():
    name = source()
    only_warns(ROOT, name)
    open("{0}{1}".format(ROOT, name))  # want {? -}{?}


# Neither absolute nor upwards.


def neither():
    f = source().split(os.sep, 1)
    if len(f) < 2 or os.path.basename(f[1]) == "":
        return
    f = f[1]
    if os.path.isabs(f) or ".." in f:
        raise ValueError("bad")
    open(os.path.join("/up", f))  # want "/up/"{? not ".."}
    open(os.path.dirname(os.path.join("/up", f)))  # want "/up/"{? not ".."}
    where = os.path.join(ROOT or table("up"), f + ".txt")
    open(os.path.dirname(where))  # want {? -}"/"{? not ".."}


def folder_of_anything():
    open(os.path.dirname(os.path.join("/up", source())))  # want ("/up/"{?} | {?})


def only_isabs():
    f = source()
    if os.path.isabs(f):
        raise ValueError("bad")
    open(os.path.join("/up", f))  # want "/up/"{?}


def isabs_the_wrong_way():
    f = source()
    if not os.path.isabs(f):
        raise ValueError("bad")
    open(os.path.join("/up", f))  # want "/"{?}


# Digits stay digits.


def address(path, **values):
    url = path
    for k, v in values.items():
        url += "&" + k + "=" + str(v)
    return url


@app.route("/<int:number>/<word>")
def numbered(number, word):
    go(table(f"n:{number}"))  # want {? ok guess,html,redirect,response,sql,template}
    go(table(number))  # want {? ok guess,html,path-read,redirect,response,sql,template}
    go(table(f"n:{word}"))  # want {? ok guess}
    go(address("/a", modal=f"n:{number}"))  # want "/a&modal=n:"{-.0-9}
    go(address("/a", modal=f"n:{word}"))  # want "/a&modal=n:"{^/}


# The host of a URL, looked at without what a browser drops.


def is_ours(url):
    url = url.strip("".join(chr(i) for i in range(0x21)))
    url = url.translate({ord(c): None for c in "\t\n\r"})
    if not url:
        return False
    return _is_ours(url) and _is_ours(url.replace("\\", "/"))


def _is_ours(url):
    there = urlparse(urljoin(request.host_url, url))
    return there.scheme in ("http", "https") and urlparse(request.host_url).netloc == there.netloc


def is_either(url):
    url = url.translate({ord(c): None for c in "\t\n\r"})
    return _is_ours(url) or _is_ours(url.replace("\\", "/"))


def is_ours_without_colons(url):
    return _is_ours(url.translate({ord(c): None for c in "\t:"}))


def to_ours():
    url = args.get("next")
    if url and is_ours(url):
        go(url)  # want {? ok redirect,url}


def to_another():
    url = args.get("next")
    if url and not is_ours(url):
        go(url)  # want {?}


def to_ours_without_colons():
    url = args.get("next")
    if is_ours_without_colons(url):
        go(url)  # want {?}


def to_either():
    url = args.get("next")
    if is_either(url):
        go(url)  # want {?}


# A function that is called as a test is called gives back what it gives back.


def has_name(form):
    return form.get("name")


def is_plain(text):
    return text.isalnum()


def can_be(form):
    return has_name(form) and has_name(form).strip()


def is_named(form):
    return is_plain(form.get("name")) and has_name(form)


def has_any(form):
    return has_name(form) or "nobody"


def is_word(text):
    return is_plain(text) and bool(text) and str(text)


def named_as_tests():
    sink(can_be(args))  # want ("" | {?} | {?})
    sink(is_named(args))  # want ("" | false | {^\x00-/:-@[-`{-\x7f})
    sink(has_any(args))  # want ("nobody" | {?})
    name = args.get("name", "")
    if is_word(name):
        open(name)  # want {^\x00-/:-@[-`{-\x7f}


# What something is found under is one of the keys there are.


class Rooms:
    def __init__(self):
        self.kept = {"rooms": table("rooms")}


rooms = Rooms()


def found_under():
    name = source()
    if rooms.kept["rooms"].get(name):
        open("/rooms/" + name)  # want "/rooms/"{? ok *}
    else:
        open("/rooms/" + name)  # want "/rooms/"{?}
    open("/rooms/" + name)  # want "/rooms/"{?}


def found_or_not():
    name = source()
    if not rooms.kept["rooms"].get(name):
        return
    open("/rooms/" + name)  # want "/rooms/"{? ok *}


def found_under_with_default():
    name = source()
    if rooms.kept["rooms"].get(name, True):
        open("/rooms/" + name)  # want "/rooms/"{?}


def found_in_what_was_sent():
    name = source()
    if args.get(name):
        open("/rooms/" + name)  # want "/rooms/"{?}


# Names without dots and slashes stay where they are put, resolved or not.


def named():
    name = source()
    if not name or not re.match(r"^[0-9a-f-]{36}$", str(name)):
        return None
    base = os.path.realpath(os.path.join(ROOT, "drafts"))
    return os.path.realpath(os.path.join(base, str(name)))


def draft():
    where = named()
    if where and os.path.isdir(where):
        open(where)  # want {? ok path-read}


def dotted():
    name = source()
    if not re.match(r"^[0-9a-f.-]{36}$", name):
        return
    open(os.path.realpath(os.path.join(ROOT, name)))  # want {?}


def first_of_all():
    name = source()
    if not re.match(r"^[0-9a-f-]{36}$", name):
        return
    open(os.path.realpath(os.path.join(name, "x")))  # want {\n-/-9a-fx}
