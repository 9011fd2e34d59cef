# Forms, APIs, tasks, sockets, commands.
import click
import flask_restx
import wtforms
from celery import shared_task
from flask import Flask, request
from flask.views import MethodView
from flask_admin import BaseView, expose
from flask_jwt_extended import get_jwt_identity, jwt_required
from flask_limiter import Limiter
from flask_login import login_required
from flask_restful import Api, Resource, reqparse
from flask_socketio import SocketIO
from flask_wtf import FlaskForm
from wtforms import IntegerField, SelectField, StringField

app = Flask(__name__)
api = Api(app)
namespace = flask_restx.Api(app).namespace("n")
limiter = Limiter(app)
sockets = SocketIO(app)
parser = reqparse.RequestParser()
parser.add_argument("q")


class Search(FlaskForm):
    q = StringField("q")
    n = IntegerField("n")
    s = SelectField("s")
    t = wtforms.TextAreaField("t")


@app.route("/form", methods=["POST"])
@login_required
@limiter.limit("1/minute")
def form():
    f = Search()
    if f.validate_on_submit():
        eval(f.q.data)  #! code
        eval(f.t.data)  #! code
        eval(f.s.data)
        eval(f.data["q"])  #! code
    return ""


class Item(Resource):
    @jwt_required()
    def get(self, name):
        eval(parser.parse_args()["q"])  #! code
        eval(name)  #! code
        eval(get_jwt_identity())
        return {}


api.add_resource(Item, "/item/<name>")


@namespace.route("/thing/<name>")
class Thing(flask_restx.Resource):
    @namespace.expect(parser)
    def post(self, name):
        eval(namespace.payload["a"])  #! code
        eval(name)  #! code


class View(MethodView):
    decorators = [login_required]

    def get(self, name):
        eval(name)  #! code
        return ""


app.add_url_rule("/view/<name>", view_func=View.as_view("view"))


class Admin(BaseView):
    @expose("/")
    def index(self):
        eval(request.args["a"])  #! code
        return ""


@sockets.on("message")
def message(data):
    eval(data["x"])  #! code


@shared_task
def task(a):
    eval(a)


@app.cli.command("c")
@click.argument("n")
def command(n):
    eval(n)
