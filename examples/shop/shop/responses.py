"""What every response says to the browser, and how templates write money."""

from __future__ import annotations

from flask import Flask, Response, request
from flask_login import current_user

HEADERS = {
    # No inline script or style anywhere: everything comes from /static.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Flask-WTF compares the Referer of a POST with the host.
    "Referrer-Policy": "same-origin",
}


def init_app(app: Flask) -> None:
    app.after_request(_harden)
    app.add_template_filter(money)


def money(cents: int) -> str:
    """An amount in euros."""
    return f"{cents // 100}.{cents % 100:02d} €"


def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static" and current_user and current_user.is_authenticated:
        response.headers["Cache-Control"] = "private, no-store"
    return response
