"""The JSON API: same session as the pages, CSRF token in the X-CSRFToken header."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from flask_wtf.csrf import generate_csrf

from .catalog import search, wanted
from .extensions import db, limiter
from .forms import MAX_QUANTITY
from .models import Order, Product
from .orders import OutOfStock, place

MAX_LINES = 30

bp = Blueprint("api", __name__)


@bp.get("/session")
def session_info() -> Response:
    """Who is logged in, and the token for the header of a POST."""
    name = current_user.name if current_user.is_authenticated else None
    return jsonify(user=name, csrf_token=generate_csrf())


@bp.get("/products")
def products() -> Response:
    found = search(*wanted())
    return jsonify(
        products=[_product(product) for product in found],
        page=found.page,
        pages=found.pages,
        total=found.total,
    )


@bp.get("/products/<int:product_id>")
def product(product_id: int) -> Response:
    found = db.session.get(Product, product_id)
    if found is None or not found.listed:
        abort(404)
    return jsonify(_product(found))


@bp.get("/orders")
@login_required
def orders() -> Response:
    found = db.session.scalars(
        db.select(Order).where(Order.user_id == current_user.id).order_by(Order.id.desc())
    )
    return jsonify(orders=[_order(order) for order in found])


@bp.post("/orders")
@login_required
@limiter.limit("30 per hour")
def new_order() -> ResponseReturnValue:
    """Order {"address": text, "lines": [{"product": id, "quantity": n}, …]}."""
    address, wanted_lines = _parse(request.get_json())
    try:
        order = place(current_user._get_current_object(), wanted_lines, address)
    except OutOfStock as error:
        abort(409, str(error))
    return jsonify(_order(order)), 201


def _parse(body: Any) -> tuple[str, list[tuple[Product, int]]]:
    """Read an order or answer 400; nothing in it is trusted."""
    if not isinstance(body, dict):
        abort(400, "The body must be an object.")
    address, lines = body.get("address"), body.get("lines")
    if not isinstance(address, str) or not 0 < len(address.strip()) <= 400:
        abort(400, "address must be a text of at most 400 characters.")
    if not isinstance(lines, list) or not 0 < len(lines) <= MAX_LINES:
        abort(400, f"lines must be a list of 1 to {MAX_LINES} entries.")
    quantities: dict[int, int] = {}
    for line in lines:
        if not isinstance(line, dict):
            abort(400, "Every line must be an object.")
        number, quantity = line.get("product"), line.get("quantity")
        # bool is an int in Python; type() keeps true and false out.
        if type(number) is not int or type(quantity) is not int:
            abort(400, "product and quantity must be whole numbers.")
        if not 0 < number < 2**63 or not 0 < quantity <= MAX_QUANTITY:
            abort(400, f"quantity must be 1 to {MAX_QUANTITY}.")
        if number in quantities:
            abort(400, "A product may occur once.")
        quantities[number] = quantity
    found = db.session.scalars(
        db.select(Product).where(Product.id.in_(quantities), Product.listed)
    ).all()
    if len(found) != len(quantities):
        abort(400, "There is no such product.")
    return address.strip(), [(product, quantities[product.id]) for product in found]


def _product(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "name": product.name,
        "description": product.description,
        "price_cents": product.price_cents,
        "in_stock": product.stock > 0,
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "number": order.number,
        "status": order.status.value,
        "total_cents": order.total_cents,
        "lines": [
            {
                "product": line.product_id,
                "quantity": line.quantity,
                "price_cents": line.price_cents,
            }
            for line in order.lines
        ],
    }
