"""Who may call a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import abort, url_for
from flask_login import current_user, login_required

from .logs import client, security

P = ParamSpec("P")
R = TypeVar("R")


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    """Let only administrators in: others are sent to log in or get a 403."""

    @wraps(view)
    @login_required
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            security.warning("admin refused user=%s client=%s", current_user.id, client())
            abort(403)
        return view(*args, **kwargs)

    return checked


def local_url(target: str | None) -> str:
    """The target when it stays on this site, otherwise the front page.

    Browsers read a backslash as a slash and drop tabs and line ends, so
    "/\\evil.example" and "/\\t/evil.example" leave the site as "//" does.
    """
    if not target or "\\" in target or any(c <= " " for c in target):
        return url_for("catalog.index")
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not target.startswith("/") or target.startswith("//"):
        return url_for("catalog.index")
    return target
