# What comes in, and what goes out.
import io

from flask import Blueprint, Flask, Response, abort, current_app, jsonify, make_response, redirect, request, send_file, send_from_directory, session, url_for
from flask import render_template_string
from werkzeug.utils import safe_join, secure_filename

app = Flask(__name__)
bp = Blueprint("b", __name__)


@app.route("/in/<name>/<int:number>")
def comes_in(name, number):
    eval(request.args["a"])  #! code
    eval(request.args.get("a"))  #! code
    eval(request.args.getlist("a")[0])  #! code
    eval(request.form["a"])  #! code
    eval(request.values["a"])  #! code
    eval(request.json["a"])  #! code
    eval(request.get_json(force=True)["a"]["b"])  #! code
    eval(request.data)  #! code
    eval(request.get_data(as_text=True))  #! code
    eval(request.cookies.get("a"))  #! code
    eval(request.headers["User-Agent"])  #! code
    eval(request.query_string.decode())  #! code
    eval(request.files["f"].filename)  #! code
    eval(request.files["f"].read())  #! code
    eval(request.full_path)  #! code
    eval(request.user_agent.string)  #! code
    eval(request.referrer)  #! code
    eval(request.authorization.username)  #! code
    eval(request.stream.read())  #! code
    eval(request.environ["HTTP_X"])  #! code
    eval(request.view_args["name"])  #! code
    eval(name)  #! code
    eval(request.remote_addr)
    eval(request.method)
    eval(request.endpoint)
    eval(request.accept_languages.best_match(["en", "de"]))
    eval(current_app.config["X"])
    eval(session["a"])
    return ""


@app.post("/out")
def goes_out():
    a = request.args["a"]
    session["a"] = a  #! session
    session.update(request.form)  #! session
    current_app.logger.info("got %s", a)  #! log
    response = make_response("x")
    response.set_cookie("a", a)  #! cookie-value
    response.headers.add("X-A", a)  #! header
    response.headers["X-B"] = a  #! header
    send_file("files/" + a)  #! send-file
    send_from_directory("files", a)
    open(safe_join("files", a))
    request.files["f"].save("up/" + a)  #! path-write
    request.files["f"].save("up/" + secure_filename(a))
    render_template_string("Hi " + a)  #! template-text
    return redirect(a)  #! redirect


@bp.route("/refuses")
def refuses():
    if "a" not in request.args:
        abort(404)
        eval(request.args["b"])
    buffer = io.StringIO()
    buffer.write("x")
    buffer.write(request.args["a"])
    eval(buffer.getvalue())  #! code
    return Response("x" + request.args["a"], mimetype="text/plain")  #! response


@bp.get("/json")
def as_json():
    return jsonify(a=request.args["a"])  #! response


def register(application):
    @application.route("/late")
    def late():
        eval(request.args["a"])  #! code
        return ""
