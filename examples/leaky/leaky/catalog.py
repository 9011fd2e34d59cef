"""DELIBERATELY VULNERABLE: list, search, products."""

from flask import Blueprint, redirect, render_template, request, url_for
from markupsafe import Markup
from sqlalchemy import text

from .extensions import csrf, db
from .models import Product, Review

bp = Blueprint("catalog", __name__)


@bp.get("/")
def index():
    words = request.args.get("q", "")
    found = db.session.execute(text(f"SELECT id, name, price_cents FROM product WHERE name LIKE '%{words}%'")).all()  # LEAK[injection]: SQL: ?q=' UNION SELECT id, password_hash, 0 FROM user --
    return render_template("index.html", products=found, words=words)


@bp.get("/product/<int:product_id>")
def product(product_id):
    found = db.get_or_404(Product, product_id)
    reviews = db.session.scalars(db.select(Review).filter_by(product_id=product_id))
    note = Markup("<em>" + request.args.get("note", "") + "</em>")  # LEAK[injection]: XSS: Markup trusts the query
    return render_template("product.html", product=found, reviews=reviews, note=note)


@bp.post("/product/<int:product_id>/review")
@csrf.exempt  # LEAK[csrf]: every other site may post in the visitor's name
def review(product_id):
    db.session.add(Review(product_id=product_id, text=request.form["text"]))
    db.session.commit()
    return redirect(url_for(".product", product_id=product_id))


@bp.get("/healthz")
def healthz():
    return {"status": "ok"}
