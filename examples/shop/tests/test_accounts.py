"""Accounts: an attacker's and a customer's way through them."""

from __future__ import annotations

import logging
import re
from io import BytesIO

import pytest
from conftest import ADMIN, PASSWORD, PNG, USER

from shop.access import local_url
from shop.extensions import db
from shop.models import Login, Mail, User


def test_register_then_account(browser):
    answer = browser.send(
        "/register",
        {
            "email": " New@Shop.Example",
            "name": "<b>New</b>",
            "password": PASSWORD,
            "repeat": PASSWORD,
        },
    )
    assert answer.status_code == 302
    page = browser.get("/account").get_data(as_text=True)
    assert "new@shop.example" in page
    assert "&lt;b&gt;New&lt;/b&gt;" in page and "<b>New" not in page


@pytest.mark.parametrize(
    ("field", "value"), [("password", "short"), ("repeat", "another password"), ("email", "nobody")]
)
def test_register_refuses(app, browser, field, value):
    form = {"email": "new@shop.example", "name": "New", "password": PASSWORD, "repeat": PASSWORD}
    if field == "password":
        form["repeat"] = value
    assert browser.send("/register", {**form, field: value}).status_code == 200
    with app.app_context():
        assert db.session.scalar(db.select(db.func.count()).select_from(User)) == 2


def test_register_twice(browser):
    form = {"email": USER.upper(), "name": "x", "password": PASSWORD, "repeat": PASSWORD}
    assert "cannot be registered" in browser.send("/register", form).get_data(as_text=True)


def test_passwords_are_hashed(app):
    with app.app_context():
        for stored in db.session.scalars(db.select(User.password_hash)):
            assert stored.startswith("scrypt:") and PASSWORD not in stored


def test_cookie(browser):
    cookies = browser.enter(USER, remember="y").headers.getlist("Set-Cookie")
    assert {c.split("=")[0] for c in cookies} == {"__Host-session", "__Host-remember"}
    for cookie in cookies:
        for flag in ("; Secure", "; HttpOnly", "; Path=/", "; SameSite=Lax"):
            assert flag in cookie
        assert "Domain" not in cookie


def test_login_without_token(browser):
    answer = browser.post("/login", data={"email": USER, "password": PASSWORD})
    assert answer.status_code == 400
    assert browser.get("/account").status_code == 302


def test_login_from_elsewhere(browser):
    answer = browser.post(
        "/login",
        data={"email": USER, "password": PASSWORD, "csrf_token": browser.token()},
        headers={"Referer": "https://evil.example/"},
    )
    assert answer.status_code == 400


def test_wrong_password_and_unknown_account_look_alike(browser):
    wrong = browser.enter(USER, "wrong password")
    unknown = browser.enter("nobody@shop.example", "wrong password")
    assert wrong.status_code == unknown.status_code == 401
    strip = re.compile(r'value="[^"]*"|content="[^"]*"')
    assert strip.sub("", wrong.text) == strip.sub("", unknown.text)


def test_log_has_no_secrets(browser, caplog):
    with caplog.at_level(logging.INFO, "shop"):
        browser.enter(USER, "a wrong password")
        browser.enter(USER)
    messages = " ".join(r.getMessage() for r in caplog.records)
    assert "login failed user=2" in messages and "login succeeded user=2" in messages
    for secret in (PASSWORD, "a wrong password", USER):
        assert secret not in messages


def test_guessing_is_limited_per_account(browser):
    statuses = [browser.enter(USER, "wrong password").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert browser.enter(ADMIN).status_code == 302


def test_logout_ends_a_stolen_session(app, browser):
    browser.enter(USER)
    stolen = browser.get_cookie("__Host-session").value
    browser.send("/logout")
    thief = app.test_client()
    thief.set_cookie("__Host-session", stolen, secure=True)
    assert thief.get("/account").status_code == 302
    with app.app_context():
        assert db.session.scalar(db.select(Login)) is None


def test_logout_needs_post_and_token(browser):
    browser.enter(USER)
    assert browser.get("/logout").status_code == 405
    assert browser.post("/logout").status_code == 400
    assert browser.get("/account").status_code == 200


def test_disabled_account(app, browser):
    admin = app.test_client()
    admin.enter(ADMIN)
    browser.enter(USER)
    admin.send("/admin/users/2/active", {"active": "no"})
    assert browser.get("/account").status_code == 302
    assert browser.enter(USER).status_code == 401


def test_change_password_ends_other_logins(app, browser):
    other = app.test_client()
    other.enter(USER)
    browser.enter(USER)
    new = "another good password"
    form = {"current": PASSWORD, "password": new, "repeat": new}
    assert browser.send("/account/password", {**form, "current": "wrong"}).status_code == 302
    assert other.get("/account").status_code == 200
    browser.send("/account/password", form)
    assert browser.get("/account").status_code == 200
    assert other.get("/account").status_code == 302


def _mailed(app) -> str:
    with app.app_context():
        body = db.session.scalar(db.select(Mail.body).order_by(Mail.id.desc()))
    found = re.search(r"https://localhost(/reset/\S+)", body)
    assert found
    return found[1]


def test_reset(app, browser):
    browser.send("/reset", {"email": USER})
    link = _mailed(app)
    new = "another good password"
    assert browser.send(link, {"password": new, "repeat": new}).status_code == 302
    assert browser.enter(USER).status_code == 401
    assert browser.enter(USER, new).status_code == 302
    assert browser.get(link).status_code == 404, "the link works once"


def test_reset_of_nobody(app, browser):
    answer = browser.send("/reset", {"email": "nobody@shop.example"})
    assert answer.status_code == 302
    with app.app_context():
        assert db.session.scalar(db.select(Mail)) is None


def test_forged_reset(app, browser):
    browser.send("/reset", {"email": USER})
    link = _mailed(app)
    assert browser.get(link[:-2]).status_code == 404
    assert browser.get("/reset/x").status_code == 404


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\/evil.example",
        "/\t/evil.example", "javascript:alert(1)", " //evil.example", "///evil.example",
        "http:evil.example", "account", "", None,
    ],
)  # fmt: skip
def test_next_stays_here(app, target):
    with app.test_request_context():
        assert local_url(target) == "/"


def test_next_works(app, browser):
    assert browser.get("/checkout").headers["Location"] == "/login?next=%2Fcheckout"
    data = {"email": USER, "password": PASSWORD, "csrf_token": browser.token()}
    answer = browser.post(
        "/login?next=/account?x=1", data=data, headers={"Referer": "https://localhost/"}
    )
    assert answer.headers["Location"] == "/account?x=1"


def upload(browser, name: str, content: bytes):
    return browser.send("/account/picture", {"picture": (BytesIO(content), name)})


def test_picture(app, browser):
    browser.enter(USER)
    upload(browser, "../../../me.png", PNG)
    with app.app_context():
        name = db.session.get(User, 2).avatar
    assert re.fullmatch(r"[0-9a-f]{32}\.png", name)
    with browser.get(f"/media/{name}") as answer:
        assert answer.data == PNG
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", b"<script>alert(1)</script>"),
        ("x.jpg", PNG),
        ("x.html", PNG),
        ("x.svg", b"<svg onload=alert(1)>"),
        ("x.png.php", PNG),
        ("png", PNG),
        ("x.png", b""),
        ("x.webp", b"RIFF1234WAVE"),
    ],
)
def test_not_a_picture(app, browser, name, content):
    browser.enter(USER)
    upload(browser, name, content)
    with app.app_context():
        assert db.session.get(User, 2).avatar is None


def test_too_large(browser):
    browser.enter(USER)
    assert upload(browser, "x.png", PNG + bytes(3 << 20)).status_code == 413


@pytest.mark.parametrize("name", ["..%2fshop.db", "%2e%2e/shop.db", "..%2fshop.png", "shop.db"])
def test_media_stays_in_its_folder(browser, name):
    assert browser.get(f"/media/{name}").status_code == 404
