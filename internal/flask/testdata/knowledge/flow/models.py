# What was put in is what comes out, and nothing else.
import collections
import configparser
import io
import string
from collections import namedtuple

from flask import Flask, request

app = Flask(__name__)


@app.route("/settings")
def settings():
    c = configparser.ConfigParser()
    c.add_section("s")
    c.set("s", "safe", "1")
    c.set("s", "a", request.args["a"])
    eval(c.get("s", "safe"))
    eval(c.get("s", "a"))  #! code
    eval(c["s"]["safe"])
    eval(c["s"]["A"])  #! code
    c["t"] = {"x": "1", "y": request.args["a"]}
    eval(c["t"]["x"])
    eval(c.get("t", "y"))  #! code
    d = configparser.ConfigParser()
    d.read_string(request.args["a"])
    eval(d.get("s", "a"))  #! code
    e = configparser.ConfigParser()
    e.read("settings.ini")
    eval(e.get("s", "a"))
    return ""


@app.route("/buffers")
def buffers():
    b = io.BytesIO()
    b.write(b"1")
    b.write(request.data)
    eval(b.getvalue())  #! code
    s = io.StringIO()
    print("x", file=s)
    s.write("1")
    eval(s.getvalue())
    s.seek(0)
    eval(s.read())
    t = io.StringIO(request.args["a"])
    eval(t.read())  #! code
    eval(t.read())
    for line in io.StringIO(request.args["a"]):
        eval(line)  #! code
    with io.StringIO() as f:
        f.writelines(["1", request.args["a"]])
        eval(f.getvalue())  #! code
    return ""


@app.route("/containers")
def containers():
    a = request.args["a"]
    o = collections.OrderedDict()
    o["a"], o["b"] = a, "1"
    eval(o["a"])  #! code
    eval(o["b"])
    d = collections.defaultdict(list)
    d["k"].append(a)
    d["l"].append("1")
    eval(d["k"][0])  #! code
    eval(d["l"][0])
    q = collections.deque(["1"])
    q.append(a)
    eval(q.popleft())
    eval(q.pop())  #! code
    Point = namedtuple("Point", "x y")
    p = Point(a, "1")
    eval(p.x)  #! code
    eval(p.y)
    x, y = p
    eval(x)  #! code
    eval(y)
    eval(p._replace(x="1").x)
    c = collections.ChainMap({"a": "1"}, {"a": a, "b": a})
    eval(c["a"])
    eval(c["b"])  #! code
    return ""


@app.route("/texts")
def texts():
    t = string.Template("$a or $b")
    eval(t.substitute(a="1", b="2"))
    eval(t.substitute(a="1", b=request.args["b"]))  #! code
    eval(string.digits)
    eval("".join(c for c in request.args["a"] if c in string.digits))  #! code
    return ""
