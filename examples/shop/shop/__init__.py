"""A small shop: accounts, search, cart, checkout, pictures, admin and a JSON API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from . import (
    accounts,
    admin,
    api,
    cart,
    catalog,
    cli,
    config,
    errors,
    health,
    logs,
    media,
    models,
    orders,
    responses,
)
from .extensions import csrf, db, limiter, login_manager


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Build the application from the environment.

    Overrides replace settings after the environment was read; tests use them.
    Raises RuntimeError when a setting is missing or unsafe.
    """
    app = Flask(
        __name__,
        instance_path=os.environ.get("INSTANCE_PATH") or None,
        instance_relative_config=True,
    )
    app.config.from_object(config.Config)
    app.config.from_mapping(config.from_environment(os.environ, app.instance_path))
    app.config.from_mapping(overrides or {})
    config.check(app.config)
    logs.configure(app)

    if hops := app.config["PROXY_HOPS"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )

    db.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    login_manager.init_app(app)
    responses.init_app(app)
    errors.init_app(app)
    cli.init_app(app)

    app.register_blueprint(catalog.bp)
    app.register_blueprint(accounts.bp)
    app.register_blueprint(cart.bp)
    app.register_blueprint(orders.bp)
    app.register_blueprint(media.bp)
    app.register_blueprint(admin.bp, url_prefix="/admin")
    app.register_blueprint(api.bp, url_prefix="/api")
    app.register_blueprint(health.bp)

    models.create_tables(app)
    return app
