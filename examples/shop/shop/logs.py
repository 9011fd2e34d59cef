"""What is logged: who did what, by number; never a password, token or mail address."""

from __future__ import annotations

import logging

from flask import Flask, has_request_context, request
from flask.logging import default_handler

security = logging.getLogger("shop.security")


def configure(app: Flask) -> None:
    """Send the shop's log to standard error, where gunicorn's goes."""
    default_handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger("shop")
    root.setLevel(app.config["LOG_LEVEL"])
    if default_handler not in root.handlers:
        root.addHandler(default_handler)
    root.propagate = app.testing


def client() -> str:
    """The client's address for a log line."""
    return (request.remote_addr or "local") if has_request_context() else "cli"
