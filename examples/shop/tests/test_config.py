"""Settings: safe without configuration, and no start without a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEY
from flask import request

from shop import create_app, models

ROOT = Path(__file__).parent.parent


def test_no_key_no_start(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.delenv("SECRET_KEY", raising=False)
    with pytest.raises(RuntimeError, match="SECRET_KEY is not set"):
        create_app()


def test_short_key_no_start(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", "dev")
    with pytest.raises(RuntimeError, match="has 3 characters"):
        create_app()


def test_bad_number(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", KEY)
    monkeypatch.setenv("PROXY_HOPS", "all")
    with pytest.raises(RuntimeError, match="PROXY_HOPS must be a whole number, not 'all'"):
        create_app()


def test_trusted_hosts(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", KEY)
    monkeypatch.setenv("TRUSTED_HOSTS", "shop.example")
    client = create_app().test_client()
    assert client.get("/healthz", base_url="https://shop.example").status_code == 200
    assert client.get("/healthz", base_url="https://evil.example").status_code == 400


def test_forwarded_headers_need_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTANCE_PATH", str(tmp_path))
    monkeypatch.setenv("SECRET_KEY", KEY)
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}

    def scheme_and_host() -> tuple[str, str]:
        app = create_app({"TESTING": True})

        @app.get("/seen")
        def seen() -> list[str]:
            return [request.scheme, request.host]

        client = app.test_client()
        answer = client.get("/seen", headers=forged, base_url="https://shop.example")
        return tuple(answer.json)

    assert scheme_and_host() == ("https", "shop.example")
    monkeypatch.setenv("PROXY_HOPS", "1")
    assert scheme_and_host() == ("http", "evil.example")


def test_workers_may_start_together(tmp_path):
    """Every worker creates the tables; none may fail because another was first."""
    code = "from shop import create_app; create_app()"
    environment = {"INSTANCE_PATH": str(tmp_path), "SECRET_KEY": KEY}
    workers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) for _ in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]


def test_every_table_is_created(app):
    with app.app_context():
        tables = set(models.db.inspect(models.db.engine).get_table_names())
    assert tables == {"user", "login", "product", "order", "order_line", "mail"}
