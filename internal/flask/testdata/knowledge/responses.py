# The types that answers say they have; "page" where nothing says otherwise.
from flask import Flask, Response, jsonify, make_response, request
from flask.json import jsonify as other_jsonify
from werkzeug.wrappers import Response as OtherResponse

app = Flask(__name__)


@app.route("/1")
def one():
    return Response("x" + request.args["a"])  # text/html; charset=utf-8


@app.route("/2")
def two():
    return Response("x" + request.args["a"], mimetype="text/plain")  # text/plain; charset=utf-8


@app.route("/3")
def three():
    return Response("x" + request.args["a"], content_type="application/xml")  # application/xml


@app.route("/4")
def four():
    r = make_response("x" + request.args["a"])
    r.headers["Content-Type"] = "text/csv"
    return r  # text/csv


@app.route("/5")
def five():
    r = make_response("x" + request.args["a"], 200, {"content-type": "text/plain"})
    return r  # text/plain


@app.route("/6")
def six():
    return jsonify(a=request.args["a"])  # application/json


@app.route("/7")
def seven():
    return other_jsonify({"a": request.args["a"]})  # application/json


@app.route("/8")
def eight():
    r = OtherResponse(request.args["a"], 200, [("Content-Type", "image/png")])
    return r  # image/png


@app.route("/9")
def nine():
    r = make_response(request.args["a"])
    r.mimetype = "text/plain"
    return r  # text/plain


@app.route("/10")
def ten():
    r = Response()
    r.set_data(request.args["a"])
    r.content_type = "application/pdf"
    return r  # application/pdf


class Plain(Response):
    default_mimetype = "text/plain"


@app.route("/11")
def eleven():
    return Plain(request.args["a"])  # text/plain; charset=utf-8


@app.route("/12")
def twelve():
    r = make_response(jsonify(a=request.args["a"]), 201)
    return r  # application/json
