"""DELIBERATELY VULNERABLE: one way each of turning a visitor's text into code, a path or a connection."""

import os
import re

import requests
import yaml
from flask import Blueprint, redirect, render_template, render_template_string, request, send_file

from .extensions import db
from .models import Product

MANUALS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "docs")

bp = Blueprint("tools", __name__, url_prefix="/tools")


@bp.get("/")
def index():
    return render_template("tools.html")


@bp.get("/greet")
def greet():
    return render_template_string(  # what a template says is code
        "{% extends 'base.html' %}{% block main %}Hello " + request.args.get("name", "") + "{% endblock %}"  # LEAK[injection]: SSTI: ?name={{ config }}
    )


@bp.get("/ping")
def ping():
    status = os.system("getent hosts " + request.args.get("host", "localhost"))  # LEAK[injection]: command: ?host=;id
    return {"status": status}


@bp.get("/calculate")
def calculate():
    return {"result": eval(request.args.get("sum", "1+1"))}  # LEAK[injection]: code: ?sum=__import__('os').getpid()


@bp.get("/manual")
def manual():
    return send_file(os.path.join(MANUALS, request.args.get("file", "flask.txt")))  # LEAK[injection]: path: ?file=../../../../etc/passwd


@bp.get("/go")
def go():
    return redirect(request.args.get("to", "/"))  # LEAK[injection]: open redirect: ?to=https://evil.example


@bp.post("/import")
def import_products():
    entries = yaml.load(request.get_data(), Loader=yaml.UnsafeLoader)  # LEAK[injection]: YAML builds any object, and so runs any code
    for entry in entries:
        db.session.add(Product(**entry))  # LEAK[injection]: trust boundary: the client fills every column
    db.session.commit()
    return {"imported": len(entries)}


@bp.get("/check")
def check():
    return {"valid": bool(re.fullmatch(r"(\w+\s?)+", request.args.get("text", "")))}  # LEAK[injection]: ReDoS: thirty letters and a "!" take minutes


@bp.get("/preview")
def preview():
    page = requests.get(request.args["url"], verify=False)  # LEAK[egress]: any address, cloud metadata included; no certificate check; no timeout
    return render_template("preview.html", page=page.text)
