"""The oracle of TestAgainstJinja: Jinja's own tree in the form of dump_test.go.

Reads a JSON array of templates from standard input, writes one with, for each,
the dump, or {"error": why Jinja refuses it}.
"""

import json
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import InternationalizationExtension


class Trans(InternationalizationExtension):
    """Keeps what a trans block says instead of the calls of gettext."""

    def _make_node(self, singular, plural, context, variables, plural_expr, vars_referenced, num_called_num):
        names = {k: v for k, v in variables.items()}
        return nodes.ExprStmt(nodes.Const(("trans", singular, plural, context, names)))


def string(s):
    return json.dumps(s, ensure_ascii=False)


def group(*parts):
    return "(" + " ".join(p for p in parts if p) + ")"


def args(n):
    out = [expr(a) for a in n.args]
    out += [k.key + "=" + expr(k.value) for k in n.kwargs]
    if n.dyn_args is not None:
        out.append("*" + expr(n.dyn_args))
    if n.dyn_kwargs is not None:
        out.append("**" + expr(n.dyn_kwargs))
    return out


BINARY = {
    nodes.Add: "+", nodes.Sub: "-", nodes.Mul: "*", nodes.Div: "/", nodes.FloorDiv: "//",
    nodes.Mod: "%", nodes.Pow: "**", nodes.And: "and", nodes.Or: "or",
}
UNARY = {nodes.Not: "not", nodes.Neg: "-", nodes.Pos: "+"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "lteq": "<=", "gteq": ">=", "in": "in", "notin": "not-in"}


def line(n):
    return "@%d" % n.lineno if n.lineno is not None else ""


def expr(n):
    t = type(n)
    if n is None:
        return "-"
    if t is nodes.Name:
        return n.name + line(n)
    if t is nodes.Const:
        v = n.value
        if isinstance(v, str):
            return string(v) + line(n)
        if v is None:
            return "none" + line(n)
        if isinstance(v, bool):
            return str(v).lower() + line(n)
        if isinstance(v, float):
            return "%.17g" % v + "f" + line(n)
        return "%d" % v + line(n)
    if t is nodes.NSRef:
        return group("attr", n.name + line(n), n.attr)
    if t is nodes.Getattr:
        return group("attr", expr(n.node), n.attr)
    if t is nodes.Getitem:
        return group("item", expr(n.node), expr(n.arg))
    if t is nodes.Slice:
        return group("slice", expr(n.start), expr(n.stop), expr(n.step))
    if t is nodes.Call:
        return group("call", expr(n.node), *args(n))
    if t is nodes.Filter:
        return group("filter", n.name, expr(n.node), *args(n))
    if t is nodes.Test:
        return group("test", n.name, expr(n.node), *args(n))
    if t in BINARY:
        return group("bin", BINARY[t], expr(n.left), expr(n.right))
    if t in UNARY:
        return group("un", UNARY[t], expr(n.node))
    if t is nodes.Compare:
        return group("cmp", expr(n.expr), *(group(COMPARE[o.op], expr(o.expr)) for o in n.ops))
    if t is nodes.CondExpr:
        return group("cond", expr(n.expr1), expr(n.test), expr(n.expr2))
    if t is nodes.Concat:
        return group("concat", *map(expr, n.nodes))
    if t is nodes.List:
        return group("list", *map(expr, n.items))
    if t is nodes.Tuple:
        return group("tuple", *map(expr, n.items))
    if t is nodes.Dict:
        return group("dict", *(expr(p.key) + ":" + expr(p.value) for p in n.items))
    raise Exception("no form for %r" % n)


def params(n):
    first = len(n.args) - len(n.defaults)
    out = []
    for i, a in enumerate(n.args):
        out.append(a.name if i < first else a.name + "=" + expr(n.defaults[i - first]))
    return group("params", *out)


def trans(n, call):
    _, singular, plural, context, names = n.node.value
    out = []
    for k in sorted(names):
        v = names[k]
        if isinstance(v, nodes.Name) and v.name == "_trans" and call is not None:
            v = call
        if isinstance(v, nodes.Name) and v.lineno is None:
            v = nodes.Name(v.name, "load")
        out.append(k + "=" + expr(v))
    return group("trans", string(singular), string(plural) if plural is not None else "-", string(context or ""), *out)


def is_trans(n):
    return isinstance(n, nodes.ExprStmt) and isinstance(n.node, nodes.Const) and isinstance(n.node.value, tuple)


def body(ns):
    out = []
    text = ""

    def flush():
        nonlocal text
        if text:
            out.append(group("text", string(text)))
        text = ""

    call = None
    for n in ns:
        if isinstance(n, nodes.Output):
            for k in n.nodes:
                if isinstance(k, nodes.TemplateData):
                    text += k.data
                    continue
                flush()
                if isinstance(k, nodes.Call) and isinstance(k.node, nodes.ExtensionAttribute):
                    out.append("(debug)")
                else:
                    out.append(group("output", expr(k)))
            continue
        flush()
        if isinstance(n, nodes.Assign) and isinstance(n.target, nodes.Name) and n.target.name == "_trans":
            call = n.node
            continue
        out.append(trans(n, call) if is_trans(n) else stmt(n))
        call = None
    flush()
    return "[" + " ".join(out) + "]"


def flag(on, name):
    return name if on else ""


def stmt(n):
    t = type(n)
    if t is nodes.If:
        out = []
        for b in [n] + list(n.elif_):
            out += [expr(b.test), body(b.body)]
        return group("if", *out, "else", body(n.else_))
    if t is nodes.For:
        return group("for", expr(n.target), expr(n.iter), expr(n.test), flag(n.recursive, "recursive"), body(n.body), "else", body(n.else_))
    if t is nodes.Block:
        return group("block", n.name, flag(n.scoped, "scoped"), flag(n.required, "required"), body(n.body))
    if t is nodes.Extends:
        return group("extends", expr(n.template))
    if t is nodes.Include:
        return group("include", expr(n.template), flag(n.ignore_missing, "ignore"), flag(n.with_context, "context"))
    if t is nodes.Import:
        return group("import", expr(n.template), n.target, flag(n.with_context, "context"))
    if t is nodes.FromImport:
        names = [":".join(x) if isinstance(x, tuple) else x + ":" + x for x in n.names]
        return group("from", expr(n.template), *names, flag(n.with_context, "context"))
    if t is nodes.Macro:
        return group("macro", n.name, params(n), body(n.body))
    if t is nodes.CallBlock:
        return group("callblock", params(n), expr(n.call), body(n.body))
    if t is nodes.FilterBlock:
        return group("filterblock", expr(n.filter), body(n.body))
    if t is nodes.Assign:
        return group("set", expr(n.target), expr(n.node))
    if t is nodes.AssignBlock:
        return group("setblock", expr(n.target), expr(n.filter), body(n.body))
    if t is nodes.With:
        return group("with", *(expr(k) + "=" + expr(v) for k, v in zip(n.targets, n.values)), body(n.body))
    if t is nodes.Scope:  # autoescape
        (m,) = n.body
        return group("autoescape", expr(m.options[0].value), body(m.body))
    if t is nodes.ExprStmt:
        return group("do", expr(n.node))
    if t is nodes.Break:
        return "(break)"
    if t is nodes.Continue:
        return "(continue)"
    raise Exception("no form for %r" % n)


def main():
    env = jinja2.Environment(extensions=[Trans, "jinja2.ext.do", "jinja2.ext.loopcontrols", "jinja2.ext.debug"])
    out = []
    for source in json.load(sys.stdin):
        try:
            tree = env.parse(source)
            names = [b.name for b in tree.find_all(nodes.Block)]
            for n in names:  # what compiling says
                if names.count(n) > 1:
                    raise jinja2.TemplateSyntaxError("block %r defined twice" % n, 1)
            out.append(body(tree.body))
        except (jinja2.TemplateSyntaxError, RecursionError) as e:
            out.append({"error": str(e)})
    json.dump(out, sys.stdout)


main()
