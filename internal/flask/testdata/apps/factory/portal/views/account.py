from flask import Blueprint, flash, redirect, render_template_string, request, session
from flask.views import MethodView
from flask_login import login_required, login_user, logout_user

from ..auth import remember, signed_in
from ..extensions import csrf, db
from ..forms import LoginForm, PictureForm

bp = Blueprint("auth", __name__, url_prefix="/account/", static_folder="../files", static_url_path="/files")


@bp.route("/login", methods=["GET", "POST"])
def login():
    form = LoginForm()
    if form.validate_on_submit():
        remember(form.email.data)
        return redirect(request.args.get("next", "/"))
    return render_template_string("login")


@bp.route("/logout", methods=("POST",))
@login_required
def logout():
    logout_user()
    session.clear()
    return redirect("/")


@login_required  # above the route: Flask never sees it
@bp.get("/wrong-order")
def wrong_order():
    return "open to all"


@bp.route("/profile/<int:user_id>/<path:rest>", endpoint="profile")
@bp.route("/profile/<int:user_id>", endpoint="profile")
@signed_in
def show_profile(user_id, rest=""):
    return str(user_id)


@csrf.exempt
@bp.post("/hook")
def hook():
    data = request.get_json() or {}
    db.session.add(data["kind"])
    db.session.commit()
    return data.get("id", "")


class Picture(MethodView):
    decorators = [login_required]

    def get(self, name):
        return name

    def post(self, name):
        form = PictureForm()
        request.files["picture"].save("/dev/null")
        return name

    def delete(self, name):
        return name


bp.add_url_rule("/picture/<name>", view_func=Picture.as_view("picture"))


def plain():
    q = request.args["q"]
    page = request.values.get("page")
    return q + page + request.form["note"]


bp.add_url_rule("plain", "renamed", login_required(plain), methods=["GET", "PUT"])
