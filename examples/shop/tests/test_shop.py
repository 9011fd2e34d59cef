"""Search, cart, checkout, admin, API, and what every response carries."""

from __future__ import annotations

import re

import pytest
from conftest import ADMIN, USER

from shop.extensions import db
from shop.models import Order, Product, Role, User


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kett", True),
        ("COPPER", True),
        ("100%", True),
        ("%", True),
        ("_", False),
        ("' OR 1=1 --", False),
        ("secret", False),
        ("", True),
    ],
)
def test_search(browser, text, found):
    answer = browser.get("/", query_string={"q": text})
    assert answer.status_code == 200
    assert ("/product/1" in answer.text) == found
    assert "/product/2" not in answer.text
    total = browser.get("/api/products", query_string={"q": text}).json["total"]
    assert total == int(found)


def test_search_text_is_escaped(browser):
    page = browser.get("/", query_string={"q": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page


@pytest.mark.parametrize("page", ["0", "-1", "x", "99999999999999999999", "1e9"])
def test_odd_pages(browser, page):
    assert browser.get("/", query_string={"page": page}).status_code == 200


def test_order(app, browser):
    browser.enter(USER)
    assert browser.send("/cart/1", {"quantity": "2"}).status_code == 302
    assert "21.00 €" in browser.get("/cart/").text
    answer = browser.send("/checkout", {"address": "1 Tea Street"})
    path = answer.headers["Location"]
    assert re.fullmatch(r"/orders/[0-9a-f]{16}", path)
    assert "21.00 €" in browser.get(path).text
    with app.app_context():
        assert db.session.get(Product, 1).stock == 1
    other = app.test_client()
    other.enter(ADMIN)
    assert other.get(path).status_code == 404, "another customer's order"


def test_cart_survives_login(browser):
    browser.send("/cart/1", {"quantity": "1"})
    browser.enter(USER)
    assert "Kettle" in browser.get("/cart/").text


@pytest.mark.parametrize("quantity", ["-1", "21", "x", "", "1.5"])
def test_cart_refuses(browser, quantity):
    browser.send("/cart/1", {"quantity": quantity})
    assert "The cart is empty" in browser.get("/cart/").text


def test_cart_change_and_empty(browser):
    browser.send("/cart/1", {"quantity": "1"})
    browser.send("/cart/1", {"quantity": "0"})
    assert "The cart is empty" in browser.get("/cart/").text
    browser.send("/cart/1", {"quantity": "1"})
    browser.send("/cart/empty")
    assert "The cart is empty" in browser.get("/cart/").text
    assert browser.send("/cart/2", {"quantity": "1"}).status_code == 404


def test_out_of_stock_takes_nothing(app, browser):
    browser.enter(USER)
    browser.send("/cart/1", {"quantity": "4"})
    browser.send("/checkout", {"address": "1 Tea Street"})
    with app.app_context():
        assert db.session.get(Product, 1).stock == 3
        assert db.session.scalar(db.select(Order)) is None


ADMIN_POSTS = [
    "/admin/products/new",
    "/admin/products/1",
    "/admin/products/1/picture",
    "/admin/orders/1",
    "/admin/users/1/active",
]
ADMIN_PAGES = [
    "/admin/",
    "/admin/products",
    "/admin/products/new",
    "/admin/products/1",
    "/admin/orders",
    "/admin/users",
]


def test_admin_lists_are_complete(app):
    rules = [r for r in app.url_map.iter_rules() if r.endpoint.startswith("admin.")]
    concrete = {re.sub(r"<int:\w+>", "1", r.rule) for r in rules}
    assert concrete == {*ADMIN_PAGES, *ADMIN_POSTS}


def test_admin_pages(app, browser):
    for path in ADMIN_PAGES:
        assert browser.get(path).headers["Location"].startswith("/login?next=")
    browser.enter(USER)
    for path in ADMIN_PAGES:
        assert browser.get(path).status_code == 403
    for path in ADMIN_POSTS:
        assert browser.send(path).status_code == 403
    admin = app.test_client()
    admin.enter(ADMIN)
    for path in ADMIN_PAGES:
        assert admin.get(path).status_code == 200


def test_admin_edits(app, browser):
    browser.enter(ADMIN)
    form = {
        "name": "Cup",
        "description": "Thin.",
        "price_cents": "500",
        "stock": "4",
        "listed": "y",
    }
    assert browser.send("/admin/products/new", form).status_code == 302
    assert "Another product" in browser.send("/admin/products/new", form).text
    assert browser.get("/api/products", query_string={"q": "cup"}).json["total"] == 1


def test_admin_order_status(app, browser):
    with app.app_context():
        db.session.add(Order(user_id=2, address="x"))
        db.session.commit()
    browser.enter(ADMIN)
    browser.send("/admin/orders/1", {"status": "shipped"})
    browser.send("/admin/orders/1", {"status": "stolen"})
    with app.app_context():
        assert db.session.get(Order, 1).status.value == "shipped"


def test_role_cannot_be_registered(app, browser):
    password = "a long enough password"
    form = {"email": "m@shop.example", "name": "M", "password": password, "repeat": password}
    browser.send("/register", {**form, "role": "admin", "is_admin": "1"})
    with app.app_context():
        user = db.session.scalar(db.select(User).where(User.email == "m@shop.example"))
        assert user.role is Role.CUSTOMER


def post(browser, body, **headers):
    headers = {"Referer": "https://localhost/", **headers}
    return browser.post("/api/orders", json=body, headers=headers)


GOOD = {"address": "1 Tea Street", "lines": [{"product": 1, "quantity": 1}]}


def test_api_order(browser):
    token = browser.get("/api/session").json["csrf_token"]
    answer = post(browser, GOOD, **{"X-CSRFToken": token})
    assert (answer.status_code, answer.json) == (401, {"error": "Log in first."})
    browser.enter(USER)
    assert browser.get("/api/session").json["user"] == USER
    assert post(browser, GOOD).status_code == 400
    token = browser.get("/api/session").json["csrf_token"]
    answer = post(browser, GOOD, **{"X-CSRFToken": token})
    assert answer.status_code == 201
    assert answer.json["total_cents"] == 1050
    assert browser.get("/api/orders").json["orders"] == [answer.json]
    many = {**GOOD, "lines": [{"product": 1, "quantity": 20}]}
    assert post(browser, many, **{"X-CSRFToken": token}).status_code == 409


def line(product, quantity):
    return {"address": "x", "lines": [{"product": product, "quantity": quantity}]}


@pytest.mark.parametrize(
    "body",
    [
        [], "x", 1, {}, {"address": "x"}, {"address": "", "lines": GOOD["lines"]},
        {"address": "x" * 401, "lines": GOOD["lines"]}, {"address": {}, "lines": GOOD["lines"]},
        {"address": "x", "lines": []}, {"address": "x", "lines": [1]}, line(1, 0), line(1, -1),
        line(1, 21), line(1, True), line(1, 1.5), line("1", 1), line(2, 1), line(99, 1),
        line(2**64, 1), line({"$gt": 0}, 1), {"address": "x", "lines": GOOD["lines"] * 2},
        {"address": "x", "lines": [{"product": n, "quantity": 1} for n in range(31)]},
    ],
)  # fmt: skip
def test_api_refuses(app, browser, body):
    browser.enter(USER)
    token = browser.get("/api/session").json["csrf_token"]
    answer = post(browser, body, **{"X-CSRFToken": token})
    assert answer.status_code == 400 and answer.json["error"]
    with app.app_context():
        assert db.session.scalar(db.select(Order)) is None


def test_api_wants_json(browser):
    browser.enter(USER)
    answer = browser.send("/api/orders", {"address": "x"})
    assert answer.status_code == 415 and answer.is_json
    token = browser.get("/api/session").json["csrf_token"]
    headers = {"X-CSRFToken": token, "Referer": "https://localhost/"}
    answer = browser.post("/api/orders", data="{", content_type="application/json", headers=headers)
    assert answer.status_code == 400 and answer.is_json


def test_errors(app, browser, monkeypatch):
    def broken(*_args):
        raise RuntimeError("the inner life of the shop")

    monkeypatch.setitem(app.view_functions, "catalog.index", broken)
    for path, status in (("/none", 404), ("/", 500), ("/logout", 405)):
        answer = browser.get(path)
        assert answer.status_code == status
        assert "Traceback" not in answer.text and "inner life" not in answer.text
    assert "POST" in browser.get("/logout").headers["Allow"]
    assert browser.get("/api/none").json == {"error": "There is no such page."}


@pytest.mark.parametrize("path", ["/", "/login", "/none", "/api/products", "/static/shop.css"])
def test_headers(browser, path):
    with browser.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_inline(app, browser):
    browser.enter(ADMIN)
    browser.send("/cart/1", {"quantity": "1"})
    for path in ["/", "/product/1", "/cart/", "/checkout", "/account", "/orders", *ADMIN_PAGES]:
        answer = browser.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text), path
        for form in re.findall(r'<form[^>]*method="post".*?</form>', answer.text, re.S):
            assert 'name="csrf_token"' in form, path


def test_health(browser):
    assert browser.get("/healthz").json == {"status": "ok"}


def test_seed_twice(app, monkeypatch):
    monkeypatch.delenv("SEED_USER_PASSWORD", raising=False)
    with app.app_context():
        db.session.execute(db.delete(User).where(User.id == 2))
        db.session.commit()
    runner = app.test_cli_runner()
    first = runner.invoke(args=["seed"])
    assert first.exit_code == 0 and "shown only now" in first.output
    password = re.search(r"password (\S+) \(shown", first.output)[1]
    assert app.test_client().enter(USER, password).status_code == 302
    second = runner.invoke(args=["seed"])
    assert second.exit_code == 0 and "shown only now" not in second.output
