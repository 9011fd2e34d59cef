from flask import Blueprint, abort, request
from flask_login import current_user

from ..auth import admin_required

admin = Blueprint("admin", __name__, url_prefix="/admin")
reports = Blueprint("reports", __name__, url_prefix="/reports")


@admin.before_request
def only_known():
    if request.endpoint == "admin.public":
        return None
    if not current_user.is_authenticated:
        abort(401)


@admin.route("/")
def dashboard():
    return "dashboard"


@admin.route("/public")
def public():
    return "public"


@reports.route("/<any(day, week):span>/<uuid:report>")
@admin_required
def report(span, report):
    return "report"


admin.register_blueprint(reports, url_prefix="/r")
