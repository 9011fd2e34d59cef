from .account import bp as account_bp
from .admin import admin
from ..api import api_v1


def register_views(application):
    for blueprint in [account_bp, admin]:
        application.register_blueprint(blueprint)
    application.register_blueprint(api_v1, url_prefix="/api/v1")
    application.register_blueprint(account_bp, url_prefix="/me", name="me")
