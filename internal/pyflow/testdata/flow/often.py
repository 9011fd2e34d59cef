import os
import unheard
from t import App, args, connect, names, open, sink, source, stop, table

app = App()


# What many ask for is followed for each of them.


def inside(root, name):
    path = os.path.realpath(os.path.join(root, name))
    if not path.startswith(root + os.sep):
        raise ValueError(name)
    return path


def asked_often():
    open(inside("/srv/r0", args["p0"]))  # want "/srv/r0/"{? ok path-read}
    open(inside("/srv/r1", args["p1"]))  # want "/srv/r1/"{? ok path-read}
    open(inside("/srv/r2", args["p2"]))  # want "/srv/r2/"{? ok path-read}
    open(inside("/srv/r3", args["p3"]))  # want "/srv/r3/"{? ok path-read}
    open(inside("/srv/r4", args["p4"]))  # want "/srv/r4/"{? ok path-read}
    open(inside("/srv/r5", args["p5"]))  # want "/srv/r5/"{? ok path-read}
    open(inside("/srv/r6", args["p6"]))  # want "/srv/r6/"{? ok path-read}
    open(inside("/srv/r7", args["p7"]))  # want "/srv/r7/"{? ok path-read}
    open(inside("/srv/r8", args["p8"]))  # want "/srv/r8/"{? ok path-read}
    open(inside("/srv/r9", args["p9"]))  # want "/srv/r9/"{? ok path-read}
    open(inside("/srv/r10", args["p10"]))  # want "/srv/r10/"{? ok path-read}
    open(inside("/srv/r11", args["p11"]))  # want "/srv/r11/"{? ok path-read}
    open(inside("/srv/r12", args["p12"]))  # want "/srv/r12/"{? ok path-read}
    open(inside("/srv/r13", args["p13"]))  # want "/srv/r13/"{? ok path-read}
    open(inside("/srv/r14", args["p14"]))  # want "/srv/r14/"{? ok path-read}
    open(inside("/srv/r15", args["p15"]))  # want "/srv/r15/"{? ok path-read}
    open(inside("/srv/r16", args["p16"]))  # want "/srv/r16/"{? ok path-read}
    open(inside("/srv/r17", args["p17"]))  # want "/srv/r17/"{? ok path-read}
    open(inside("/srv/r18", args["p18"]))  # want "/srv/r18/"{? ok path-read}
    open(inside("/srv/r19", args["p19"]))  # want "/srv/r19/"{? ok path-read}
    open(inside("/srv/r20", args["p20"]))  # want "/srv/r20/"{? ok path-read}
    open(inside("/srv/r21", args["p21"]))  # want "/srv/r21/"{? ok path-read}
    open(inside("/srv/r22", args["p22"]))  # want "/srv/r22/"{? ok path-read}
    open(inside("/srv/r23", args["p23"]))  # want "/srv/r23/"{? ok path-read}
    open(inside("/srv/r24", args["p24"]))  # want "/srv/r24/"{? ok path-read}
    open(inside("/srv/r25", args["p25"]))  # want "/srv/r25/"{? ok path-read}


# What a call of which nothing is known may give adds nothing to what is known.


def resolved(name):
    path = os.path.realpath(name)
    if os.path.commonpath((path, "/srv")) != "/srv":
        raise ValueError(name)
    return path


def checked_or_guessed():
    path = resolved(source())
    if table("a"):
        path = unheard.of(path)
    open(os.fspath(path))  # want {? ok path-read}


def guessed_or_not_checked():
    path = os.path.realpath(source())
    if table("a"):
        path = unheard.of(path)
    open(os.fspath(path))  # want {?}


class Store:
    def path(self, name):
        return resolved(name)


def store_or_something_else():
    where = Store() if table("a") else unheard.store()
    open(where.path(source()))  # want {? ok path-read}


# What is made when it is first asked for is there from then on.

made = None


def make():
    global made
    if made is None:
        made = Store()
    return made


# A path that is what realpath makes of it has no ".." in it.


def same_as_resolved():
    path = os.path.join("/srv", args["a"])
    if path != os.path.realpath(path):
        raise ValueError
    open(path)  # want ("/srv/"{? not ".."} | {? not ".."})


def same_as_resolved_elsewhere():
    path = os.path.join("/srv", args["a"])
    if os.path.join("/srv", args["b"]) != os.path.realpath(path):
        raise ValueError
    open(path)  # want ("/srv/"{?} | {?})


def relative_and_normal():
    if args["a"] == os.path.normpath(args["a"]):
        open("up/" + args["a"])  # want "up/"{?}


# What was checked with something around it is checked no longer when it is
# cut: "/\\../x" is below a folder and "../x" is not.


def cut_afterwards():
    name = args["a"]
    inside("/srv", name)
    open("/srv/" + name)  # want "/srv/"{? ok path-read}
    open("/srv/" + name.lstrip("/"))  # want "/srv/"{? ok path-read}
    open("/srv/" + name.lstrip("\\"))  # want "/srv/"{?}
    open("/srv/" + name.strip())  # want "/srv/"{?}


def made_once():
    one = make()
    if make() is None:
        sink(source())
    open(one.path(source()))  # want {? ok path-read}
