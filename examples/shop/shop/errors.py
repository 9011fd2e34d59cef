"""Errors as pages, or as JSON under /api; never a traceback."""

from __future__ import annotations

from flask import Flask, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_url
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import (
    HTTPException,
    InternalServerError,
    SecurityError,
    Unauthorized,
)

from .extensions import login_manager
from .logs import client, security

# What the page says instead of Werkzeug's own words.
TEXTS = {
    400: "The request could not be understood.",
    403: "You may not do that.",
    404: "There is no such page.",
    405: "This page does not work that way.",
    413: "That is too large.",
    429: "Too many attempts. Please wait.",
    500: "Something went wrong on our side.",
}


def init_app(app: Flask) -> None:
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(CSRFError, _csrf)
    app.register_error_handler(SecurityError, _untrusted_host)
    app.register_error_handler(InternalServerError, _internal)
    login_manager.unauthorized_handler(_unauthorized)


def _wants_json() -> bool:
    return request.path.startswith("/api/")


def _answer(error: HTTPException, text: str) -> ResponseReturnValue:
    code = error.code or 500
    body: Response | str
    if _wants_json():
        body = jsonify(error=text)
    else:
        body = render_template("error.html", code=code, text=text)
    # The error's own headers carry what the status needs, such as Allow.
    headers = [h for h in error.get_headers() if h[0].lower() != "content-type"]
    return body, code, headers


def _http(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None:
        return error.response
    text = TEXTS.get(error.code or 500, error.name)
    if _wants_json() and error.code in (400, 409) and error.description:
        text = error.description
    if error.code == 429:
        security.warning("rate limited endpoint=%s client=%s", request.endpoint, client())
    return _answer(error, text)


def _csrf(error: CSRFError) -> ResponseReturnValue:
    security.warning("csrf refused endpoint=%s client=%s", request.endpoint, client())
    return _answer(error, "The form has expired. Please go back, reload the page and try again.")


def _untrusted_host(_error: SecurityError) -> ResponseReturnValue:
    # Without a host Flask builds no URL, so there can be no page either.
    return TEXTS[400], 400, {"Content-Type": "text/plain; charset=utf-8"}


def _internal(error: InternalServerError) -> ResponseReturnValue:
    # Flask has logged the exception already.
    return _answer(error, TEXTS[500])


def _unauthorized() -> ResponseReturnValue:
    if _wants_json():
        return _answer(Unauthorized(), "Log in first.")
    target = request.full_path.rstrip("?") if request.method == "GET" else None
    if target is None:
        return redirect(url_for("accounts.login"))
    return redirect(login_url("accounts.login", next_url=target))
