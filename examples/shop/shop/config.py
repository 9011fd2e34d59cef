"""Settings: what always holds stands in Config, the rest comes from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

MIN_SECRET_KEY = 32


class Config:
    """Settings that are the same on every machine."""

    # The __Host- prefix makes browsers refuse the cookie unless it is Secure,
    # for the whole site, and set by this very host.
    SESSION_COOKIE_NAME = "__Host-session"
    SESSION_COOKIE_SECURE = True
    SESSION_COOKIE_HTTPONLY = True
    SESSION_COOKIE_SAMESITE = "Lax"
    PERMANENT_SESSION_LIFETIME = timedelta(hours=12)

    REMEMBER_COOKIE_NAME = "__Host-remember"
    REMEMBER_COOKIE_SECURE = True
    REMEMBER_COOKIE_HTTPONLY = True
    REMEMBER_COOKIE_SAMESITE = "Lax"
    REMEMBER_COOKIE_DURATION = timedelta(days=14)

    WTF_CSRF_TIME_LIMIT = 4 * 60 * 60
    WTF_CSRF_SSL_STRICT = True

    MAX_CONTENT_LENGTH = 2 * 1024 * 1024
    MAX_FORM_MEMORY_SIZE = 64 * 1024
    MAX_FORM_PARTS = 40

    RATELIMIT_HEADERS_ENABLED = True
    RATELIMIT_STRATEGY = "moving-window"


def from_environment(environ: Mapping[str, str], instance_path: str) -> dict[str, Any]:
    """Read the settings that differ between machines; an empty value counts as unset."""
    instance = Path(instance_path)
    settings: dict[str, Any] = {
        "SECRET_KEY": environ.get("SECRET_KEY") or None,
        "SECRET_KEY_FALLBACKS": _words(environ.get("SECRET_KEY_FALLBACKS")),
        "SQLALCHEMY_DATABASE_URI": environ.get("DATABASE_URL")
        or f"sqlite:///{instance / 'shop.db'}",
        "UPLOAD_FOLDER": str(instance / "uploads"),
        "RATELIMIT_STORAGE_URI": environ.get("RATELIMIT_STORAGE_URI") or "memory://",
        "LOG_LEVEL": environ.get("LOG_LEVEL") or "INFO",
        "PROXY_HOPS": _number("PROXY_HOPS", environ.get("PROXY_HOPS")),
    }
    if hosts := _words(environ.get("TRUSTED_HOSTS")):
        settings["TRUSTED_HOSTS"] = hosts
    return settings


def check(settings: Mapping[str, Any]) -> None:
    """Refuse to start with settings nobody should run."""
    key = settings.get("SECRET_KEY")
    if not key:
        raise RuntimeError(
            "SECRET_KEY is not set. Create one with "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(48))' "
            "and put it in the environment."
        )
    if len(key) < MIN_SECRET_KEY:
        raise RuntimeError(
            f"SECRET_KEY has {len(key)} characters; at least {MIN_SECRET_KEY} are needed."
        )


def _words(value: str | None) -> list[str]:
    return [word.strip() for word in (value or "").split(",") if word.strip()]


def _number(name: str, value: str | None) -> int:
    if not value:
        return 0
    if not value.isdecimal():
        raise RuntimeError(f"{name} must be a whole number, not {value!r}.")
    return int(value)
