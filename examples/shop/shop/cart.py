"""The cart. It holds product numbers and quantities, in the signed session."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, abort, flash, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue

from .extensions import db
from .forms import MAX_QUANTITY, CartForm, ConfirmForm
from .models import Product

# The session travels in a cookie of at most 4 KB.
MAX_LINES = 30

bp = Blueprint("cart", __name__, url_prefix="/cart")


@dataclass(frozen=True)
class Line:
    product: Product
    quantity: int

    @property
    def total_cents(self) -> int:
        return self.product.price_cents * self.quantity


def lines() -> list[Line]:
    """The cart's lines with current prices; products no longer listed fall out."""
    quantities = {int(key): count for key, count in session.get("cart", {}).items()}
    if not quantities:
        return []
    found = db.session.scalars(
        db.select(Product).where(Product.id.in_(quantities), Product.listed).order_by(Product.name)
    )
    return [Line(product, quantities[product.id]) for product in found]


def empty() -> None:
    session.pop("cart", None)


@bp.get("/")
def show() -> ResponseReturnValue:
    content = lines()
    forms = {line.product.id: CartForm(quantity=line.quantity) for line in content}
    return render_template(
        "cart/show.html",
        lines=content,
        forms=forms,
        total_cents=sum(line.total_cents for line in content),
    )


@bp.post("/<int:product_id>")
def put(product_id: int) -> ResponseReturnValue:
    product = db.session.get(Product, product_id)
    if product is None or not product.listed:
        abort(404)
    form = CartForm()
    if not form.validate_on_submit():
        flash(f"Choose a quantity from 0 to {MAX_QUANTITY}.")
        return redirect(url_for("catalog.product", product_id=product_id))
    content = dict(session.get("cart", {}))
    if form.quantity.data == 0:
        content.pop(str(product_id), None)
    elif len(content) >= MAX_LINES and str(product_id) not in content:
        flash("The cart is full.")
    else:
        content[str(product_id)] = form.quantity.data
    session["cart"] = content
    return redirect(url_for(".show"))


@bp.post("/empty")
def clear() -> ResponseReturnValue:
    if ConfirmForm().validate_on_submit():
        empty()
    return redirect(url_for(".show"))
