"""DELIBERATELY VULNERABLE: the back office."""

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask_login import current_user, login_required

from .extensions import db
from .models import Order, Product, User

bp = Blueprint("admin", __name__)


@bp.get("/")
@login_required
def index():
    if current_user.role != "admin":
        abort(403)
    return render_template("admin.html", users=[], products=db.session.scalars(db.select(Product)))


@bp.get("/orders")
@login_required
def orders():
    if current_user.role != "admin":
        abort(403)
    return render_template("orders.html", orders=db.session.scalars(db.select(Order)).all())


@bp.get("/users")  # LEAK[authn]: the only view here without @login_required
def users():
    return render_template("admin.html", users=db.session.scalars(db.select(User)), products=[])


@bp.post("/products/<int:product_id>")
@login_required
def price(product_id):
    if current_user.role != "admin":
        abort(403)
    db.get_or_404(Product, product_id).price_cents = int(request.form["price_cents"])
    db.session.commit()  # LEAK[monitoring]: an administrator's change leaves no trace
    return redirect(url_for(".index"))
