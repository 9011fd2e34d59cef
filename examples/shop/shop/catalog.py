"""The shop window: list, search and single products."""

from __future__ import annotations

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy.pagination import Pagination

from .extensions import db
from .forms import CartForm
from .models import Product

PER_PAGE = 12
MAX_QUERY = 80

bp = Blueprint("catalog", __name__)


def search(text: str, page: int) -> Pagination:
    """Listed products whose name or description contains the text."""
    query = db.select(Product).where(Product.listed).order_by(Product.name)
    if text:
        query = query.where(
            Product.name.icontains(text, autoescape=True)
            | Product.description.icontains(text, autoescape=True)
        )
    return db.paginate(query, page=page, per_page=PER_PAGE, error_out=False)


def wanted() -> tuple[str, int]:
    """The search text and page of the request."""
    page = request.args.get("page", 1, type=int)
    return request.args.get("q", "").strip()[:MAX_QUERY], min(max(page, 1), 10_000)


@bp.get("/")
def index() -> ResponseReturnValue:
    text, page = wanted()
    return render_template("catalog/index.html", products=search(text, page), text=text)


@bp.get("/product/<int:product_id>")
def product(product_id: int) -> ResponseReturnValue:
    found = db.session.get(Product, product_id)
    if found is None or not found.listed:
        abort(404)
    return render_template("catalog/product.html", product=found, form=CartForm())
