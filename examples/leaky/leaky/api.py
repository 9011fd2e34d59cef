"""DELIBERATELY VULNERABLE: the JSON API."""

import traceback

import jwt
from flask import Blueprint, current_app, jsonify, request

from .extensions import db
from .models import Order, Product, User

bp = Blueprint("api", __name__)


@bp.errorhandler(Exception)
def failed(error):
    return jsonify(error=str(error), trace=traceback.format_exc()), 500  # LEAK[settings]: tracebacks for everybody


@bp.post("/token")  # LEAK[abuse]: as many guesses as one likes
def token():
    body = request.get_json()
    user = db.session.scalar(db.select(User).filter_by(email=body["email"]))
    if user is None or not user.check_password(body["password"]):
        return jsonify(error="wrong"), 401
    return jsonify(token=jwt.encode({"sub": str(user.id)}, current_app.config["JWT_KEY"], "HS256"))  # LEAK[authn]: no expiry, no audience


def _user_id():
    bearer = request.headers["Authorization"].removeprefix("Bearer ")
    return jwt.decode(bearer, options={"verify_signature": False})["sub"]  # LEAK[authn]: any token is as good as ours, "alg": "none" included


@bp.get("/products")
def products():
    return jsonify([{"id": p.id, "name": p.name} for p in db.session.scalars(db.select(Product))])


@bp.get("/orders")
def orders():
    found = db.session.scalars(db.select(Order).filter_by(user_id=_user_id()))
    return jsonify([{"id": o.id, "product": o.product_id, "card": o.card} for o in found])


@bp.post("/orders")
def new_order():
    body = request.get_json()
    order = Order(user_id=_user_id(), product_id=body["product"], card=body["card"])
    db.session.add(order)
    db.session.commit()
    return jsonify(id=order.id), 201
