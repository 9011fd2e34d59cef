"""Logins in the styles in which Flask apps have them: what the guard must understand without their help."""

import base64
from flask import Flask, Blueprint, flash, get_flashed_messages, jsonify, redirect, render_template_string, request, session, url_for, abort, Response
from flask.sessions import SessionInterface, SecureCookieSessionInterface
from flask_login import LoginManager, UserMixin, login_user

app = Flask(__name__)
app.secret_key = "9f2c-not-for-real-use-6d1b8a7e5c3f4d2a1b0c"
logins = LoginManager(app)
accounts = {f"user{i}": f"right-{i}-pa55" for i in range(300)}

class User(UserMixin):
    def __init__(self, id): self.id = id

@logins.user_loader
def load(id): return User(id)

def right(name, password): return accounts.get((name or "").strip().lower()) == password

FORM = """<!doctype html><title>Log in</title>{% for m in get_flashed_messages() %}<p>{{ m }}</p>{% endfor %}<form method="post"><input name="username"><input name="password" type="password"><button>Go</button></form>"""

@app.route("/render/login", methods=["GET", "POST"])
def render():
    if request.method == "POST":
        if right(request.form["username"], request.form["password"]):
            session["user_id"] = request.form["username"]
            return redirect("/")
        return render_template_string(FORM + "Wrong name or password")
    return render_template_string(FORM)

@app.route("/flash/login", methods=["GET", "POST"])
def flashing():
    if request.method == "POST":
        if right(request.form["username"], request.form["password"]):
            session["username"] = request.form["username"]
            return redirect("/")
        flash("Please check your login details and try again.")
        return redirect(url_for("flashing"))
    return render_template_string(FORM)

@app.post("/api/login")
def api():
    data = request.get_json()
    if right(data.get("username"), data.get("password")):
        return jsonify(access_token=base64.b64encode(b"token-of-the-user").decode())
    return jsonify(msg="Bad username or password"), 401

@app.route("/fl/login", methods=["GET", "POST"])
def flasklogin():
    if request.method == "POST" and right(request.form.get("username"), request.form.get("password")):
        login_user(User(request.form["username"]), remember=True)
        return redirect(request.args.get("next") or "/")
    return render_template_string(FORM)

@app.route("/security/login", methods=["GET", "POST"])
def security():
    if request.method == "POST":
        if request.is_json:
            data = request.get_json()
            if right(data.get("email"), data.get("password")):
                return jsonify(meta={"code": 200}, response={"user": {"authentication_token": "WyIxIiwiYWJj"}})
            return jsonify(meta={"code": 400}, response={"errors": {"password": ["Invalid password"]}}), 400
        if right(request.form.get("email"), request.form.get("password")):
            login_user(User(request.form["email"]))
            return redirect("/")
        return render_template_string('<form method=post><input name=email><input type=password name=password required><ul><li>Invalid password</li></ul></form>')
    return render_template_string(FORM)

@app.route("/plain/signin", methods=["GET", "POST"])
def plain():
    if request.method == "POST":
        if right(request.form["user"], request.form["pwd"]):
            session["logged_in"] = True
            return "Welcome back"
        return "Invalid credentials"
    return render_template_string(FORM)

@app.route("/elsewhere/login", methods=["GET", "POST"])
def elsewhere():
    if request.method == "POST":
        if right(request.form["username"], request.form["password"]):
            session["uid"] = request.form["username"]
        else:
            flash("no")
        return redirect("/")
    return render_template_string(FORM)

@app.get("/basic")
def basic():
    a = request.authorization
    if not a or not right(a.username, a.password):
        return Response("no", 401, {"WWW-Authenticate": "Basic realm=x"})
    return "hello"

@app.get("/")
def index():
    get_flashed_messages()
    return "home of " + str(session.get("user_id") or session.get("username") or session.get("_user_id") or session.get("uid"))
