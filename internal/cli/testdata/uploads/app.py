"""An app that takes files in the ways Flask apps do, and says what it got."""
import hashlib
import hmac
import os

from flask import Flask, abort, jsonify, request

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
app.config["MAX_CONTENT_LENGTH"] = 2 * 1024 * 1024 * 1024
ALLOWED_EXTENSIONS = {"png", "jpg", "jpeg", "gif"}


def allowed_file(filename):
    return "." in filename and filename.rsplit(".", 1)[1].lower() in ALLOWED_EXTENSIONS


def told(field, f):
    h, size = hashlib.sha256(), 0
    while chunk := f.stream.read(1 << 20):
        h.update(chunk)
        size += len(chunk)
    return {"field": field, "name": f.filename, "type": f.content_type, "size": size, "sha256": h.hexdigest()}


@app.get("/")
def form():
    return '<form method="post" action="/upload" enctype="multipart/form-data"><input type="file" name="f"><button>Send</button></form>'


@app.post("/upload")
def upload():
    files = [told(field, f) for field, f in request.files.items(multi=True)]
    return jsonify(files=files, fields=request.form.to_dict(flat=False), boundary=request.mimetype_params.get("boundary", ""))


@app.post("/picture")
def picture():
    f = request.files["picture"]
    if not allowed_file(f.filename):
        abort(400, "the app says no")
    return jsonify(told("picture", f))


@app.put("/raw/<name>")
def raw(name):
    return jsonify(size=len(request.get_data()), sha256=hashlib.sha256(request.get_data()).hexdigest(), type=request.content_type)


@app.post("/hooks/mail")
def hook():
    mac = hmac.new(b"shared", request.get_data(parse_form_data=False), hashlib.sha256).hexdigest()
    return jsonify(ok=hmac.compare_digest(mac, request.headers.get("X-Signature", "")))


@app.post("/stream")
def stream():
    return jsonify(size=sum(len(f.read()) for f in request.files.values()))
