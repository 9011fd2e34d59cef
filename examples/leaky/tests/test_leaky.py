"""The flaws are really there, and leaky really stays on this machine.

A flaw that no longer works would make every test that expects it pass for
nothing, so each is used here once.
"""

import base64
import os
import pickle
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import jwt
import pytest
from itsdangerous import URLSafeTimedSerializer

ROOT = Path(__file__).parent.parent
CONTROLS = {
    "settings", "secrets", "injection", "uploads", "authn", "session", "csrf", "headers",
    "abuse", "dependencies", "container", "deployment", "monitoring", "egress",
}  # fmt: skip


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.delenv("LEAKY_DATABASE_URL", raising=False)
    from leaky import create_app

    app = create_app()
    app.static_folder = str(tmp_path / "static")
    return app


@pytest.fixture
def client(app):
    return app.test_client()


def enter(client, email="user@leaky.example", password="password", path="/login"):
    return client.post(path, data={"email": email, "password": password})


def test_every_control_is_broken():
    found = set()
    for path in ROOT.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and path != Path(__file__):
            found.update(re.findall(r"LEAK\[([a-z]+)\]: \S", path.read_text(errors="replace")))
    assert found == CONTROLS


@pytest.mark.parametrize(
    ("peer", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("", 200), ("192.0.2.1", 403), ("10.0.0.1", 403)],
)
def test_loopback_only(client, peer, status):
    forged = {"X-Forwarded-For": "127.0.0.1"}
    answer = client.get("/healthz", environ_base={"REMOTE_ADDR": peer}, headers=forged)
    assert answer.status_code == status


def test_main_refuses_the_network(tmp_path):
    environment = {"HOST": "0.0.0.0", "INSTANCE_PATH": str(tmp_path)}
    main = subprocess.run(
        [sys.executable, "wsgi.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert main.returncode == 1 and "loopback only" in main.stderr


def test_gunicorn_refuses_the_network(tmp_path):
    environment = {"INSTANCE_PATH": str(tmp_path), "HOME": str(tmp_path)}
    server = subprocess.run(
        [sys.executable, "-m", "gunicorn", "wsgi:app"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert server.returncode == 1 and "refuses to listen on 0.0.0.0" in server.stderr


@pytest.mark.parametrize(
    "path", ["/", "/product/1", "/login", "/register", "/reset", "/cart/", "/tools/", "/admin/users"]
)
def test_banner(client, path):
    answer = client.get(path)
    assert answer.status_code == 200 and "Deliberately vulnerable" in answer.text


def test_settings(app, client):
    assert app.debug and app.testing
    assert "Werkzeug Debugger" in client.get("/?q='").text
    assert "Werkzeug Debugger" in client.get("/console").text
    assert "Traceback" in client.get("/api/orders").json["trace"]
    assert client.get("/").headers["Access-Control-Allow-Origin"] == "*"


def test_forged_session(app, client):
    from flask.sessions import SecureCookieSessionInterface

    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert isinstance(serializer, URLSafeTimedSerializer) and app.secret_key == "dev"
    client.set_cookie("session", serializer.dumps({"_user_id": "1", "_fresh": True}))
    assert client.get("/admin/").status_code == 200


def test_sql(client):
    page = client.get("/", query_string={"q": "' UNION SELECT id, password_hash, 0 FROM user --"}).text
    assert len(re.findall(r">[0-9a-f]{32}<", page)) == 2


def test_xss(client):
    script = "<script>alert(1)</script>"
    assert f"Results for {script}" in client.get("/", query_string={"q": script}).text
    assert f"<em>{script}</em>" in client.get("/product/1", query_string={"note": script}).text
    client.post("/product/1/review", data={"text": script})
    assert f"<blockquote>{script}" in client.get("/product/1").text


def test_code(client, tmp_path):
    assert "1337" in client.get("/tools/greet", query_string={"name": "{{ 7 * 191 }}"}).text
    assert client.get("/tools/calculate", query_string={"sum": "7 * 191"}).json["result"] == 1337
    witness = tmp_path / "command"
    client.get("/tools/ping", query_string={"host": f"localhost; echo ran > {witness}"})
    assert witness.read_text() == "ran\n"


def test_yaml(client, tmp_path):
    client.post("/tools/import", data=f"!!python/object/apply:os.mkdir ['{tmp_path / 'yaml'}']")
    assert (tmp_path / "yaml").is_dir()


class MakeFolder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickle(client, tmp_path):
    client.set_cookie("cart", base64.b64encode(pickle.dumps(MakeFolder(tmp_path / "pickle"))).decode())
    client.get("/cart/")
    assert (tmp_path / "pickle").is_dir()


def test_path_and_redirect(client):
    with client.get("/tools/manual?file=../wsgi.py") as answer:
        assert b"DELIBERATELY" in answer.data
    assert client.get("/tools/go?to=https://evil.example").location == "https://evil.example"
    answer = enter(client, path="/login?next=https://evil.example")
    assert answer.location == "https://evil.example"


def test_upload(app, client):
    enter(client)
    file = (BytesIO(b"<script>alert(1)</script>"), "x.png.html")
    client.post("/account/picture", data={"picture": file})
    with client.get("/static/uploads/x.png.html") as answer:
        assert answer.status_code == 200 and answer.mimetype == "text/html"


def test_authn(client):
    assert client.get("/admin/").status_code == 302
    assert "admin@leaky.example" in client.get("/admin/users").text
    token = jwt.encode({"sub": "1"}, "", algorithm="none")
    assert client.get("/api/orders", headers={"Authorization": f"Bearer {token}"}).json == []
    client.post("/register", data={"email": "m@x.example", "name": "M", "password": "m", "role": "admin"})
    enter(client, "m@x.example", "m")
    assert client.get("/admin/").status_code == 200


def test_session(app, client):
    cookies = enter(client).headers.getlist("Set-Cookie")
    session = next(c for c in cookies if c.startswith("session="))
    for flag in ("HttpOnly", "Secure", "SameSite"):
        assert flag not in session
    stolen = client.get_cookie("session").value
    client.get("/logout")
    thief = app.test_client()
    thief.set_cookie("session", stolen)
    assert thief.get("/account").status_code == 200


def test_csrf(client):
    enter(client)
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/product/1/review", data={"text": "x"}, headers=elsewhere).status_code == 302
    client.get("/account/email?email=evil@x.example", headers=elsewhere)
    assert "evil@x.example" in client.get("/account").text


def test_abuse(client):
    assert {enter(client, password="wrong").status_code for _ in range(50)} == {200}


def test_monitoring(client, caplog):
    enter(client, password="hunter2")
    assert "hunter2" in caplog.text


def test_egress(client, monkeypatch):
    seen = {}

    def get(url, **options):
        seen.update(url=url, **options)
        return type("Page", (), {"text": "inner page"})

    monkeypatch.setattr("leaky.tools.requests.get", get)
    assert "inner page" in client.get("/tools/preview?url=http://169.254.169.254/").text
    assert seen == {"url": "http://169.254.169.254/", "verify": False}


def test_backoffice(client):
    assert "users" in client.get("/backoffice/report").json
    assert client.post("/backoffice/door", data={"password": "Bootsverleih7"}).text == "open"
    assert client.post("/stock/1/lose").status_code == 204
    assert client.post("/stock/1/sell").status_code == 302
    assert client.post("/backoffice/vault", data={"name": "a", "password": "b"}).status_code == 204
    assert len(client.post("/backoffice/vault/digest", data={"password": "b"}).text) == 64
    token = jwt.encode({"name": "anybody"}, "", algorithm="none")
    assert client.get(f"/backoffice/badge?token={token}").json == {"name": "anybody"}
    enter(client)
    assert client.post("/stock/1/sell").status_code == 204
    assert client.post("/stock/1/add").status_code == 403
    assert client.post("/backoffice/products/1/close").status_code == 302
    assert client.get("/backoffice/products/clear").status_code == 302
