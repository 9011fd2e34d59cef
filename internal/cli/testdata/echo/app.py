"""Says what reached it: the WSGI environment as JSON. For tests only."""
import json
import os

from flask import Flask, Response, abort, make_response, request

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]


@app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT", "DELETE"])
@app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
def echo(path):
    env = {k: v for k, v in request.environ.items() if isinstance(v, str)}
    env["body"] = request.get_data(as_text=True)
    return Response(json.dumps(env), mimetype="application/json")


@app.get("/cookie")
def cookie():
    answer = make_response("set")
    answer.set_cookie("session", "x")
    answer.headers.add("Set-Cookie", "theme=dark; Path=/; Partitioned; Future=1")
    return answer


@app.get("/crash")
def crash():
    answer = make_response('Traceback (most recent call last):\n  File "app.py", line 1, in crash\nValueError: hunter2', 500)
    answer.headers["Server"] = "Werkzeug/3.1"
    return answer


@app.get("/stream")
def stream():
    def chunks():
        for n in range(3):
            yield f"data: {n}\n\n"

    return Response(chunks(), mimetype="text/event-stream")


@app.get("/admin")
def admin():
    abort(418)
