"""Checkout, and a customer's own orders."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from . import cart
from .extensions import db, limiter
from .forms import CheckoutForm
from .logs import client, security
from .models import Order, OrderLine, Product, User

bp = Blueprint("orders", __name__)


class OutOfStock(Exception):
    """There is less of a product than was ordered; the message is for the user."""


def place(user: User, wanted: Sequence[tuple[Product, int]], address: str) -> Order:
    """Take the goods out of stock and write the order, or do nothing at all.

    Raises OutOfStock.
    """
    order = Order(user_id=user.id, address=address)
    db.session.add(order)
    # Always in the same order, so that two checkouts cannot wait for each other.
    for product, quantity in sorted(wanted, key=lambda pair: pair[0].id):
        # One statement decides: two customers cannot both get the last one.
        taken = db.session.execute(
            db.update(Product)
            .where(Product.id == product.id, Product.listed, Product.stock >= quantity)
            .values(stock=Product.stock - quantity)
        )
        if taken.rowcount != 1:  # type: ignore[attr-defined]
            name = product.name
            db.session.rollback()
            raise OutOfStock(f"There is not enough of {name} left.")
        order.lines.append(
            OrderLine(product_id=product.id, quantity=quantity, price_cents=product.price_cents)
        )
    db.session.commit()
    security.info("order placed order=%s user=%s client=%s", order.id, user.id, client())
    return order


@bp.route("/checkout", methods=["GET", "POST"])
@login_required
@limiter.limit("30 per hour", methods=["POST"])
def checkout() -> ResponseReturnValue:
    lines = cart.lines()
    if not lines:
        flash("The cart is empty.")
        return redirect(url_for("cart.show"))
    form = CheckoutForm()
    if form.validate_on_submit():
        wanted = [(line.product, line.quantity) for line in lines]
        try:
            order = place(current_user._get_current_object(), wanted, form.address.data)
        except OutOfStock as error:
            flash(str(error))
            return redirect(url_for("cart.show"))
        cart.empty()
        flash("Thank you.")
        return redirect(url_for(".show", number=order.number))
    return render_template(
        "orders/checkout.html",
        form=form,
        lines=lines,
        total_cents=sum(line.total_cents for line in lines),
    )


@bp.get("/orders")
@login_required
def index() -> ResponseReturnValue:
    orders = db.session.scalars(
        db.select(Order).where(Order.user_id == current_user.id).order_by(Order.id.desc())
    ).all()
    return render_template("orders/index.html", orders=orders)


@bp.get("/orders/<number>")
@login_required
def show(number: str) -> ResponseReturnValue:
    order = db.session.scalar(
        db.select(Order).where(Order.number == number, Order.user_id == current_user.id)
    )
    if order is None:
        abort(404)
    return render_template("orders/show.html", order=order)
