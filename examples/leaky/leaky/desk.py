"""DELIBERATELY VULNERABLE: the help desk, with the ways of injection that the rest of the shop has no use for."""

import logging
import os
import re
import smtplib
import tarfile
import xml.sax
from xml.etree import ElementTree
from xml.sax.handler import feature_external_ges

from flask import Blueprint, current_app, make_response, render_template, request, session
from flask_login import current_user, login_required
from sqlalchemy import text

from .extensions import db

log = logging.getLogger(__name__)
bp = Blueprint("desk", __name__, url_prefix="/desk")


@bp.get("/")
def index():
    return render_template("desk.html", topic=request.args.get("topic", ""))


@bp.get("/hello")
def hello():
    return "<h1>Hello " + request.args.get("name", "") + "</h1>"  # LEAK[injection]: XSS: ?name=<script>alert(1)</script>


@bp.get("/staff")
def staff():
    import ldap3  # not installed: there is no directory to break into

    directory = ldap3.Connection("ldap://localhost", auto_bind=True)
    directory.search("ou=staff,dc=leaky", "(uid=" + request.args["uid"] + ")")  # LEAK[injection]: LDAP: ?uid=*
    return {"found": len(directory.entries)}


@bp.post("/staff")
def sign_in():
    from pymongo import MongoClient  # not installed either

    body = request.get_json()
    found = MongoClient().desk.staff.find_one({"name": body["name"], "code": body["code"]})  # LEAK[injection]: NoSQL: {"code": {"$ne": ""}}
    return {"ok": found is not None}


@bp.get("/phone")
def phone():
    book = ElementTree.parse(os.path.join(current_app.root_path, "phones.xml"))
    return {"phone": book.findtext("person[@name='" + request.args["name"] + "']")}  # LEAK[injection]: XPath: ?name=x'] | ...


@bp.post("/book")
def book():
    reader = xml.sax.make_parser()
    reader.setFeature(feature_external_ges, True)
    reader.parse(request.stream)  # LEAK[injection]: XXE: an entity that is file:///etc/passwd
    return {"read": True}


@bp.get("/orders")
@login_required
def orders():
    name = db.session.execute(text("SELECT name FROM user WHERE id = :id"), {"id": current_user.id}).scalar()
    found = db.session.execute(text("SELECT id FROM product WHERE name = '" + name + "'")).all()  # LEAK[injection]: SQL from the name that somebody registered with
    return {"found": len(found)}


@bp.post("/theme")
def theme():
    session["theme"] = request.form["theme"]  # LEAK[injection]: the session believes whatever it is given
    response = make_response({"ok": True})
    response.headers[request.form["header"]] = "1"  # LEAK[injection]: the client names the header: Set-Cookie, say
    return response


@bp.post("/profile")
@login_required
def profile():
    for key, value in request.form.items():
        setattr(current_user, key, value)  # LEAK[injection]: role=admin
    db.session.commit()
    return {"ok": True}


@bp.post("/ask")
def ask():
    log.info("question from %s", request.form["name"])  # LEAK[monitoring]: a line end in the name forges an entry
    mail = "Subject: " + request.form["subject"] + "\n\n" + request.form["text"]
    smtplib.SMTP("localhost", int(os.environ.get("SMTP_PORT", "25"))).sendmail("desk@leaky.example", ["desk@leaky.example"], mail)  # LEAK[injection]: a line end in the subject adds Bcc: everybody
    return {"sent": True}


@bp.post("/notes")
def notes():
    with open(os.path.join(current_app.instance_path, request.form["title"]), "w") as file:  # LEAK[injection]: path: title=../leaky/config.py
        file.write(request.form["text"])
    return {"saved": True}


@bp.get("/find")
def find():
    return {"found": bool(re.search(request.args["pattern"], "how do I clean a flask?"))}  # LEAK[injection]: a pattern of the client's: (a+)+$


@bp.post("/theme/upload")
def theme_upload():
    with tarfile.open(fileobj=request.files["theme"].stream) as archive:
        archive.extractall(current_app.static_folder)  # LEAK[uploads]: entries called ../../leaky/config.py
    return {"unpacked": True}
