"""A fresh shop for every test, with two accounts and two products."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from shop import create_app
from shop.extensions import db, limiter
from shop.models import Product, Role, User

KEY = "only-for-tests-" * 4
PASSWORD = "a long enough password"
ADMIN, USER = "admin@shop.example", "user@shop.example"
# Hashing takes its time; once is enough for all tests.
HASH = generate_password_hash(PASSWORD)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


class Browser(FlaskClient):
    """A client that speaks HTTPS and fetches the CSRF token as a page would."""

    def open(self, *args, **kwargs) -> TestResponse:
        kwargs.setdefault("base_url", "https://localhost")
        return super().open(*args, **kwargs)

    def token(self, path: str = "/") -> str:
        page = self.get(path).get_data(as_text=True)
        found = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert found, page
        return found[1]

    def send(self, path: str, data: dict | None = None, **kwargs) -> TestResponse:
        """POST a form with its token and a Referer, as a browser does."""
        data = {**(data or {}), "csrf_token": self.token()}
        headers = {"Referer": "https://localhost/"}
        return self.post(path, data=data, headers=headers, **kwargs)

    def enter(self, email: str, password: str = PASSWORD, **data: str) -> TestResponse:
        return self.send("/login", {"email": email, "password": password, **data})


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", KEY)
    for name in ("DATABASE_URL", "TRUSTED_HOSTS", "PROXY_HOPS", "RATELIMIT_STORAGE_URI"):
        monkeypatch.delenv(name, raising=False)
    app = create_app({"TESTING": True, "PROPAGATE_EXCEPTIONS": False})
    app.test_client_class = Browser
    with app.app_context():
        limiter.reset()
        for email, role in ((ADMIN, Role.ADMIN), (USER, Role.CUSTOMER)):
            db.session.add(User(email=email, name=email, role=role, password_hash=HASH))
        db.session.add(
            Product(id=1, name="Kettle", description="100% copper", price_cents=1050, stock=3)
        )
        db.session.add(
            Product(id=2, name="Secret", description="", price_cents=1, stock=9, listed=False)
        )
        db.session.commit()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def browser(app: Flask) -> Browser:
    return app.test_client()
