"""DELIBERATELY VULNERABLE: what the staff uses, with every check done wrongly."""

import hashlib
import hmac
import os
import random
import smtplib
import sqlite3
import tempfile
from functools import wraps

import jwt
from flask import Blueprint, abort, current_app, make_response, redirect, request, session
from flask_login import current_user, login_required
from itsdangerous import URLSafeSerializer

from .extensions import db
from .models import Product, User

bp = Blueprint("backoffice", __name__, url_prefix="/backoffice")
stock = Blueprint("stock", __name__, url_prefix="/stock")
PARTNER_KEY = os.environ.get("PARTNER_KEY", "")


def is_admin():
    return current_user.is_authenticated and current_user.role == "admin"


@login_required  # LEAK[authn]: above the route, where Flask never sees it
@bp.get("/report")
def report():
    return {"users": db.session.query(User).count()}


@bp.post("/products/<int:product_id>/close")
@login_required
def close(product_id):
    is_admin()  # LEAK[authn]: nobody looks at the answer
    db.session.delete(db.get_or_404(Product, product_id))
    db.session.commit()
    return redirect("/")


@bp.post("/products/<int:product_id>/rename")
@login_required
def rename(product_id):
    assert current_user.role == "admin"  # LEAK[authn]: python -O leaves it out
    db.get_or_404(Product, product_id).name = request.form["name"]
    db.session.commit()
    return redirect("/")


@bp.get("/products/clear")  # LEAK[csrf]: a link or an image clears the shop
@login_required
def clear():
    db.session.query(Product).delete()
    db.session.commit()
    return redirect("/")


@bp.post("/door")
def door():
    if request.form.get("password") == "Bootsverleih7":  # LEAK[secrets]: one password for all, in the source
        session["door"] = True
        return "open"
    return "closed", 403


@bp.post("/vault")
def vault():
    """A table of passwords as they were typed."""
    with sqlite3.connect(os.path.join(current_app.instance_path, "vault.db")) as table:
        table.execute("CREATE TABLE IF NOT EXISTS staff (name TEXT, password TEXT)")
        table.execute("INSERT INTO staff (name, password) VALUES (?, ?)", (request.form["name"], request.form["password"]))  # LEAK[authn]: in plain text
    return "", 204


@bp.post("/vault/digest")
def digest():
    return hashlib.sha256(request.form["password"].encode()).hexdigest()  # LEAK[authn]: fast, and without salt


@bp.post("/partner")
def partner():
    expected = hmac.new(PARTNER_KEY.encode(), request.get_data(), hashlib.sha256).hexdigest()
    if request.headers.get("X-Signature", "") != expected:  # LEAK[authn]: the time tells how much of it is right
        return "", 403
    return "", 204


@bp.get("/badge")
def badge():
    return {"name": jwt.decode(request.args["token"], options={"verify_signature": False})["name"]}  # LEAK[authn]: believes any token


@bp.get("/ticket")
def ticket():
    return {"ticket": URLSafeSerializer("backoffice").dumps(random.random())}  # LEAK[secrets]: a key in the source, and a number that can be predicted


@bp.post("/seal")
def seal():
    """Only for scanners: the package is not among those that leaky runs on."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # LEAK[secrets]: too short
    box = Cipher(algorithms.AES(b"sixteen letters."), modes.ECB()).encryptor()  # LEAK[secrets]: ECB shows equal blocks, under a key from the source
    return {"sealed": box.update(request.get_data().ljust(64)[:64]).hex(), "bits": key.key_size}


@bp.post("/export")
def export():
    path = tempfile.mktemp(suffix=".csv")  # LEAK[settings]: another account may put a link there first
    with open(path, "w") as out:
        out.write("name\n")
    os.chmod(path, 0o666)  # LEAK[settings]: everybody may change it
    return "", 204


@bp.get("/share")
def share():
    out = make_response("shared")
    out.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "")  # LEAK[settings]: whoever asks
    out.headers["Access-Control-Allow-Credentials"] = "true"
    return out


@bp.post("/mail")
def mail():
    with smtplib.SMTP("127.0.0.1") as server:  # LEAK[abuse]: waits for ever
        server.login("shop", "Lagerhalle-22")  # LEAK[secrets]: in the source
    return "", 204


def role_required(role):
    def decorate(view):
        @wraps(view)
        @login_required
        def checked(*args, **kwargs):
            if current_user.role != role:
                abort(403)
            return view(*args, **kwargs)

        return checked

    return decorate


@stock.post("/<int:product_id>/add")
@role_required("admin")
def add(product_id):
    return change(product_id, "new")


@stock.post("/<int:product_id>/move")
@role_required("admin")
def move(product_id):
    return change(product_id, "moved")


@stock.post("/<int:product_id>/sell")  # LEAK[authn]: every customer may; the others ask for a role
@login_required
def sell(product_id):
    return change(product_id, "sold")


@stock.post("/<int:product_id>/lose")  # LEAK[authn]: everybody may; the others ask who it is
def lose(product_id):
    return change(product_id, "lost")


def change(product_id, what):
    db.get_or_404(Product, product_id).description = what
    db.session.commit()
    return "", 204
