from collections import OrderedDict, defaultdict
from t import source, sink


def default_list():
    d = defaultdict(list)
    d["a"].append(source())
    d["b"].append("b")
    sink(d["a"][0])  # want {?}
    sink(d["b"][0])
    for x in d["c"]:
        sink(x)


def ordered():
    d = OrderedDict()
    d["a"] = "a"
    d["b"] = source()
    for k, v in d.items():
        if k == "a":
            sink(v)
        else:
            sink(v)  # want {?}


def grouped():
    d = defaultdict(list)
    for k in unknown():
        d[k].append(source())
    for k in d:
        sink(d[k][0])  # want ({?} | {?})
