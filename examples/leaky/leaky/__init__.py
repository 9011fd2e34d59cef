"""DELIBERATELY VULNERABLE. The shop with every promise broken once.

Never deploy it. It answers only to clients on this machine: that, and that
alone, is not a mistake. Every flaw carries a mark on its own line: the word
LEAK, in brackets the control of Dewar's catalogue that should notice, and what
is wrong.
"""

import os

from flask import Flask
from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.proxy_fix import ProxyFix

from . import accounts, admin, api, backoffice, catalog, desk, models, orders, tools
from .extensions import csrf, db, login_manager
from .loopback import LoopbackOnly

__all__ = ["create_app", "csrf"]


def create_app():
    app = Flask(__name__, instance_path=os.environ.get("INSTANCE_PATH") or None)
    app.config.from_object("leaky.config.ProductionConfig")
    os.makedirs(app.instance_path, exist_ok=True)
    if not app.config["SQLALCHEMY_DATABASE_URI"]:
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{app.instance_path}/leaky.db"

    db.init_app(app)
    login_manager.init_app(app)  # LEAK[csrf]: CSRFProtect is created but csrf.init_app(app) is missing here

    app.register_blueprint(accounts.bp)
    app.register_blueprint(catalog.bp)
    app.register_blueprint(orders.bp)
    app.register_blueprint(tools.bp)
    app.register_blueprint(desk.bp)
    app.register_blueprint(backoffice.bp)
    app.register_blueprint(backoffice.stock)
    app.register_blueprint(admin.bp, url_prefix="/admin")
    app.register_blueprint(api.bp, url_prefix="/api")
    app.after_request(_headers)
    models.create_tables(app)

    if app.debug:
        app.wsgi_app = DebuggedApplication(app.wsgi_app, evalex=True)  # LEAK[settings]: tracebacks and /console under any server
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=5, x_proto=5, x_host=5)  # LEAK[deployment]: believes five proxies where there is one at most
    app.wsgi_app = LoopbackOnly(app.wsgi_app)
    return app


def _headers(response):
    response.headers["X-Frame-Options"] = "ALLOWALL"  # LEAK[headers]: not a value; every site may frame the shop
    response.headers["Content-Security-Policy"] = "default-src * 'unsafe-inline' 'unsafe-eval'"  # LEAK[headers]: a policy that allows everything
    response.headers["X-Powered-By"] = "Flask 3.1"  # LEAK[headers]: tells attackers what to look up
    response.headers["Access-Control-Allow-Origin"] = "*"  # LEAK[settings]: every site may read the API
    response.headers["Access-Control-Allow-Credentials"] = "true"  # LEAK[settings]: and with the visitor's cookies, if a browser allowed both
    return response
