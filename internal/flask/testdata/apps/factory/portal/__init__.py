import os

from flask import Flask

from . import config as settings
from .extensions import csrf, db, login_manager
from .views import register_views

CONFIGS = {
    "development": settings.DevelopmentConfig,
    "production": settings.ProductionConfig,
}


def create_app(config_name=None, test_config=None):
    app = Flask(__name__, static_folder="assets", instance_relative_config=True)
    name = config_name or os.environ.get("APP_PROFILE", "production")
    app.config.from_object(CONFIGS[name])
    app.config.from_mapping(test_config)
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024 * 1024
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", REMEMBER_COOKIE_SECURE=True)
    for extension in (db, csrf):
        extension.init_app(app)
    login_manager.init_app(app)
    register_views(app)

    @app.route("/")
    def index():
        return "hello"

    @app.get("/health")
    def health():
        return "ok"

    return app
