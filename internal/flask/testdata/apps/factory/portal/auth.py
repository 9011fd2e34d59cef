from functools import wraps

from flask import abort, g, redirect, session, url_for
from flask_login import current_user


def signed_in(view):
    @wraps(view)
    def wrapped(*args, **kwargs):
        if g.get("user") is None and "user_id" not in session:
            return redirect(url_for("auth.login"))
        return view(*args, **kwargs)

    return wrapped


def admin_required(view):
    @wraps(view)
    def wrapped(*args, **kwargs):
        if not current_user.is_authenticated or not current_user.is_admin:
            abort(403)
        return view(*args, **kwargs)

    return wrapped


def remember(user):
    session["user_id"] = user
