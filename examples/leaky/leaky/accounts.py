"""DELIBERATELY VULNERABLE: accounts."""

import logging
import os
import random

from flask import Blueprint, current_app, flash, redirect, render_template, request, session, url_for
from flask_login import current_user, login_required, login_user, logout_user

from .extensions import db
from .models import User

log = logging.getLogger(__name__)
bp = Blueprint("accounts", __name__)


@bp.route("/register", methods=["GET", "POST"])
def register():
    if request.method == "POST":
        user = User(email=request.form["email"], name=request.form["name"])
        user.role = request.form.get("role", "customer")  # LEAK[authn]: whoever asks becomes an administrator
        user.set_password(request.form["password"])
        db.session.add(user)
        db.session.commit()
        return redirect(url_for(".login"))
    return render_template("register.html")


@bp.route("/login", methods=["GET", "POST"])  # LEAK[abuse]: as many guesses as one likes
def login():
    if request.method == "POST":
        email, password = request.form["email"], request.form["password"]
        log.warning("login of %s with password %s", email, password)  # LEAK[monitoring]: the log holds every password
        user = db.session.scalar(db.select(User).filter_by(email=email))
        if user is None:
            flash("There is no such account.")  # LEAK[authn]: tells which addresses have accounts
        elif not user.check_password(password):
            flash("The password is wrong.")  # LEAK[monitoring]: a failed login leaves no security event
        else:
            session.permanent = True
            session["password"] = password  # LEAK[session]: the cookie is signed, not encrypted: anybody can read it
            login_user(user, remember=True)
            return redirect(request.args.get("next") or "/")  # LEAK[injection]: open redirect: ?next=https://evil.example
    return render_template("login.html")


@bp.get("/logout")  # LEAK[csrf]: state change on GET: an image on any page logs the visitor out
def logout():
    logout_user()  # LEAK[session]: the old cookie still works; only this browser forgot it
    return redirect("/")


@bp.get("/account")
@login_required
def account():
    return render_template("account.html")


@bp.get("/account/email")  # LEAK[csrf]: state change on GET
@login_required
def change_email():
    current_user.email = request.args["email"]
    db.session.commit()
    return redirect(url_for(".account"))


@bp.post("/account/picture")
@login_required
def picture():
    upload = request.files["picture"]
    folder = os.path.join(current_app.static_folder, "uploads")
    os.makedirs(folder, exist_ok=True)
    if ".png" in upload.filename or ".svg" in upload.filename:  # LEAK[uploads]: x.png.html is a picture too; the content is never looked at
        upload.save(os.path.join(folder, upload.filename))  # LEAK[uploads]: the client chooses the path, and static/ serves it as HTML
        current_user.avatar = upload.filename
        db.session.commit()
    return redirect(url_for(".account"))


@bp.route("/reset", methods=["GET", "POST"])  # LEAK[abuse]: nothing limits guessing the four digits
def reset():
    if request.method == "POST":
        user = db.session.scalar(db.select(User).filter_by(email=request.form["email"]))
        if user and request.form.get("code") and request.form["code"] == user.reset_code:
            user.set_password(request.form["password"])
        elif user:
            user.reset_code = str(random.randint(1000, 9999))  # LEAK[authn]: four digits from a predictable generator, for ever
        db.session.commit()
        flash("If the address has an account, a code is on its way.")
    return render_template("reset.html")
