"""DELIBERATELY VULNERABLE: cart and orders."""

import base64
import logging
import pickle

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask_login import current_user, login_required

from .extensions import db
from .models import Order, Product

log = logging.getLogger(__name__)
bp = Blueprint("orders", __name__)


def _cart():
    try:
        return pickle.loads(base64.b64decode(request.cookies.get("cart", "")))  # LEAK[injection]: unpickling a cookie runs what it says
    except:  # LEAK[monitoring]: every error is swallowed, attacks included
        pass
    return []


@bp.get("/cart/")
def show():
    found = db.session.scalars(db.select(Product).where(Product.id.in_(_cart()))).all()
    return render_template("cart.html", products=found)


@bp.get("/cart/add/<int:product_id>")  # LEAK[csrf]: state change on GET
def add(product_id):
    response = make_response(redirect(url_for(".show")))
    cart = base64.b64encode(pickle.dumps([*_cart(), product_id])).decode()
    response.set_cookie("cart", cart)  # LEAK[session]: neither HttpOnly nor Secure nor SameSite
    return response


@bp.post("/checkout")
@login_required
def checkout():
    card = request.form["card"]
    for product_id in _cart():
        db.session.add(Order(user_id=current_user.id, product_id=product_id, card=card))
    db.session.commit()
    log.warning("order of %s paid with card %s", current_user.email, card)  # LEAK[monitoring]: card numbers in the log
    return redirect(url_for(".index"))


@bp.get("/orders")
@login_required
def index():
    found = db.session.scalars(db.select(Order).filter_by(user_id=current_user.id)).all()
    return render_template("orders.html", orders=found)


@bp.get("/orders/<int:order_id>")
@login_required
def order(order_id):
    found = db.get_or_404(Order, order_id)  # LEAK[authn]: anybody's order for anybody who counts
    return render_template("orders.html", orders=[found])
