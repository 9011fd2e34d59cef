"""Accounts: register, log in and out, change and reset the password."""

from __future__ import annotations

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy.exc import IntegrityError
from werkzeug.security import generate_password_hash

from . import media
from .access import local_url
from .extensions import db, limiter
from .forms import (
    ChangePasswordForm,
    ConfirmForm,
    LoginForm,
    NewPasswordForm,
    PictureForm,
    RegisterForm,
    ResetForm,
)
from .logs import client, security
from .models import Mail, User, digest

RESET_LIFETIME = 30 * 60

bp = Blueprint("accounts", __name__)

# Compared with when no such account exists, so that both answers take as long.
_NO_ACCOUNT = User(password_hash=generate_password_hash("no such account"))


def _account_key() -> str:
    """Count attempts per account too: guessing may come from many addresses."""
    return "account:" + digest(_normal(request.form.get("email", "")))


def _normal(email: str) -> str:
    return email.strip().lower()


def _find(email: str) -> User | None:
    return db.session.scalar(db.select(User).where(User.email == _normal(email)))


def _enter(user: User, *, remember: bool = False) -> None:
    """Log the user in with a fresh session; only the cart survives."""
    cart = session.get("cart")
    session.clear()
    if cart:
        session["cart"] = cart
    session.permanent = True
    user.start_login()
    db.session.commit()
    login_user(user, remember=remember)


@bp.route("/register", methods=["GET", "POST"])
@limiter.limit("10 per hour", methods=["POST"])
def register() -> ResponseReturnValue:
    form = RegisterForm()
    if not form.validate_on_submit():
        return render_template("accounts/register.html", form=form)
    user = User(email=_normal(form.email.data), name=form.name.data)
    user.set_password(form.password.data)
    db.session.add(user)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        form.email.errors = ["This address cannot be registered."]
        return render_template("accounts/register.html", form=form)
    _enter(user)
    security.info("account created user=%s client=%s", user.id, client())
    flash("Welcome.")
    return redirect(url_for("catalog.index"))


@bp.route("/login", methods=["GET", "POST"])
@limiter.limit("30 per minute", methods=["POST"])
@limiter.limit("10 per 15 minutes", methods=["POST"], key_func=_account_key)
def login() -> ResponseReturnValue:
    form = LoginForm()
    if not form.validate_on_submit():
        return render_template("accounts/login.html", form=form)
    user = _find(form.email.data)
    right = (user or _NO_ACCOUNT).check_password(form.password.data)
    if user is None or not right or not user.is_active:
        security.warning("login failed user=%s client=%s", user.id if user else "unknown", client())
        form.password.errors = ["Email or password is wrong."]
        return render_template("accounts/login.html", form=form), 401
    _enter(user, remember=form.remember.data)
    security.info("login succeeded user=%s client=%s", user.id, client())
    return redirect(local_url(request.args.get("next")))


@bp.post("/logout")
@login_required
def logout() -> ResponseReturnValue:
    security.info("logout user=%s client=%s", current_user.id, client())
    current_user.end_login()
    db.session.commit()
    logout_user()
    session.clear()
    return redirect(url_for("catalog.index"))


@bp.get("/account")
@login_required
def account() -> ResponseReturnValue:
    return render_template(
        "accounts/account.html",
        picture=PictureForm(),
        password=ChangePasswordForm(),
        everywhere=ConfirmForm(),
    )


@bp.post("/account/picture")
@login_required
@limiter.limit("20 per hour")
def picture() -> ResponseReturnValue:
    form = PictureForm()
    if not form.validate_on_submit():
        flash("Choose a picture.")
        return redirect(url_for(".account"))
    try:
        name = media.store(form.picture.data)
    except media.NotAPicture as error:
        flash(str(error))
        return redirect(url_for(".account"))
    old, current_user.avatar = current_user.avatar, name
    db.session.commit()
    media.remove(old)
    flash("Picture saved.")
    return redirect(url_for(".account"))


@bp.post("/account/password")
@login_required
@limiter.limit("10 per hour")
def change_password() -> ResponseReturnValue:
    form = ChangePasswordForm()
    if not form.validate_on_submit() or not current_user.check_password(form.current.data):
        security.warning("password change failed user=%s client=%s", current_user.id, client())
        flash("The password was not changed.")
        return redirect(url_for(".account"))
    user = current_user._get_current_object()
    user.set_password(form.password.data)
    user.end_all_logins()
    _enter(user)
    security.info("password changed user=%s client=%s", user.id, client())
    flash("Password changed; every other login has ended.")
    return redirect(url_for(".account"))


@bp.post("/account/logout-everywhere")
@login_required
def logout_everywhere() -> ResponseReturnValue:
    security.info("logout everywhere user=%s client=%s", current_user.id, client())
    current_user.end_all_logins()
    db.session.commit()
    logout_user()
    session.clear()
    return redirect(url_for(".login"))


@bp.route("/reset", methods=["GET", "POST"])
@limiter.limit("10 per hour", methods=["POST"])
@limiter.limit("3 per hour", methods=["POST"], key_func=_account_key)
def reset() -> ResponseReturnValue:
    form = ResetForm()
    if not form.validate_on_submit():
        return render_template("accounts/reset.html", form=form)
    user = _find(form.email.data)
    if user is not None and user.is_active:
        link = url_for(".reset_with_token", token=_reset_token(user), _external=True)
        db.session.add(
            Mail(
                recipient=user.email,
                subject="Choose a new password",
                body=f"Open this link within {RESET_LIFETIME // 60} minutes:\n\n{link}\n",
            )
        )
        db.session.commit()
    security.info("reset asked user=%s client=%s", user.id if user else "unknown", client())
    flash("If the address has an account, a mail is on its way.")
    return redirect(url_for(".login"))


@bp.route("/reset/<token>", methods=["GET", "POST"])
@limiter.limit("20 per hour")
def reset_with_token(token: str) -> ResponseReturnValue:
    user = _user_of_reset_token(token)
    if user is None:
        abort(404)
    form = NewPasswordForm()
    if not form.validate_on_submit():
        return render_template("accounts/new_password.html", form=form)
    user.set_password(form.password.data)
    user.end_all_logins()
    db.session.commit()
    security.info("password reset user=%s client=%s", user.id, client())
    flash("Password saved. Please log in.")
    return redirect(url_for(".login"))


def _serializer() -> URLSafeTimedSerializer:
    keys = [*current_app.config["SECRET_KEY_FALLBACKS"], current_app.config["SECRET_KEY"]]
    return URLSafeTimedSerializer(keys, salt="password-reset")


def _reset_token(user: User) -> str:
    # Bound to the old hash: using the link, or any other change, ends it.
    return _serializer().dumps([user.id, digest(user.password_hash)])


def _user_of_reset_token(token: str) -> User | None:
    try:
        user_id, fingerprint = _serializer().loads(token, max_age=RESET_LIFETIME)
    except BadData:
        return None
    user = db.session.get(User, user_id)
    if user is None or not user.is_active or digest(user.password_hash) != fingerprint:
        return None
    return user
