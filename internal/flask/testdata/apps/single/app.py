"""One file, as tutorials write it."""
import os

from flask import Flask, redirect, request, session, url_for
from flask.views import View
from werkzeug.routing import BaseConverter

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "dev")
app.config["SESSION_COOKIE_HTTPONLY"] = False
app.config.from_prefixed_env()
STATES = ["POST"] + ["PUT"]


class ListConverter(BaseConverter):
    def to_python(self, value):
        return value.split("+")


app.url_map.converters["list"] = ListConverter


@app.route("/", defaults={"page": 1})
@app.route("/page/<int:page>")
def index(page):
    return str(page)


@app.route("/tags/<list:tags>", strict_slashes=False)
def tags(tags):
    return "".join(tags)


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        session["username"] = request.form["username"]
        return redirect(url_for("index"))
    return "<form>"


@app.route("/logout")
def logout():
    session.pop("username", None)
    return redirect("/")


@app.route("/upload", methods=STATES)
def upload():
    if not session.get("username"):
        return "who are you?", 401
    f = request.files["file"]
    f.save("/dev/null")
    return "ok"


class Page(View):
    methods = ["GET", "POST"]

    def dispatch_request(self, name):
        return name


app.add_url_rule("/p/<name>", view_func=Page.as_view("page"))
app.route("/late")(index)
app.add_url_rule("/raw", "raw", lambda: "raw", provide_automatic_options=False)
app.add_url_rule("/old", endpoint="old", redirect_to="/")


@app.errorhandler(404)
def not_found(e):
    return "no", 404


@app.after_request
def headers(response):
    response.headers["X-Frame-Options"] = "DENY"
    return response


if __name__ == "__main__":
    app.run(debug=True)
