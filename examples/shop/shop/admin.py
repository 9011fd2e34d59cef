"""The back office. Every view asks for an administrator; every change is logged."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.exc import IntegrityError

from . import media
from .access import admin_required
from .extensions import db
from .forms import ConfirmForm, OrderStatusForm, PictureForm, ProductForm
from .logs import client, security
from .models import Order, OrderStatus, Product, User

PER_PAGE = 50

bp = Blueprint("admin", __name__)


def _log(action: str, subject: int) -> None:
    security.info(
        "admin %s subject=%s user=%s client=%s", action, subject, current_user.id, client()
    )


@bp.get("/")
@admin_required
def index() -> ResponseReturnValue:
    counts = {
        name: db.session.scalar(db.select(db.func.count()).select_from(model))
        for name, model in (("products", Product), ("orders", Order), ("users", User))
    }
    return render_template("admin/index.html", counts=counts)


@bp.get("/products")
@admin_required
def products() -> ResponseReturnValue:
    found = db.paginate(db.select(Product).order_by(Product.name), per_page=PER_PAGE)
    return render_template("admin/products.html", products=found)


@bp.route("/products/new", methods=["GET", "POST"])
@admin_required
def new_product() -> ResponseReturnValue:
    return _edit(Product(), "product created")


@bp.route("/products/<int:product_id>", methods=["GET", "POST"])
@admin_required
def edit_product(product_id: int) -> ResponseReturnValue:
    return _edit(db.get_or_404(Product, product_id), "product changed")


def _edit(product: Product, action: str) -> ResponseReturnValue:
    form = ProductForm(obj=product)
    if form.validate_on_submit():
        form.populate_obj(product)
        db.session.add(product)
        try:
            db.session.commit()
        except IntegrityError:
            db.session.rollback()
            form.name.errors = ["Another product has this name."]
        else:
            _log(action, product.id)
            return redirect(url_for(".edit_product", product_id=product.id))
    return render_template("admin/product.html", form=form, product=product, picture=PictureForm())


@bp.post("/products/<int:product_id>/picture")
@admin_required
def product_picture(product_id: int) -> ResponseReturnValue:
    product = db.get_or_404(Product, product_id)
    form = PictureForm()
    if not form.validate_on_submit():
        flash("Choose a picture.")
        return redirect(url_for(".edit_product", product_id=product_id))
    try:
        name = media.store(form.picture.data)
    except media.NotAPicture as error:
        flash(str(error))
        return redirect(url_for(".edit_product", product_id=product_id))
    old, product.picture = product.picture, name
    db.session.commit()
    media.remove(old)
    _log("picture changed", product_id)
    return redirect(url_for(".edit_product", product_id=product_id))


@bp.get("/orders")
@admin_required
def orders() -> ResponseReturnValue:
    found = db.paginate(db.select(Order).order_by(Order.id.desc()), per_page=PER_PAGE)
    forms = {order.id: OrderStatusForm(status=order.status.value) for order in found}
    return render_template("admin/orders.html", orders=found, forms=forms)


@bp.post("/orders/<int:order_id>")
@admin_required
def order_status(order_id: int) -> ResponseReturnValue:
    order = db.get_or_404(Order, order_id)
    form = OrderStatusForm()
    if form.validate_on_submit():
        order.status = OrderStatus(form.status.data)
        db.session.commit()
        _log(f"order {order.status.value}", order_id)
    return redirect(url_for(".orders"))


@bp.get("/users")
@admin_required
def users() -> ResponseReturnValue:
    found = db.paginate(db.select(User).order_by(User.id), per_page=PER_PAGE)
    return render_template("admin/users.html", users=found, confirm=ConfirmForm())


@bp.post("/users/<int:user_id>/active")
@admin_required
def user_active(user_id: int) -> ResponseReturnValue:
    user = db.get_or_404(User, user_id)
    # An administrator who locks himself out helps nobody.
    if user.id == current_user.id or not ConfirmForm().validate_on_submit():
        abort(400)
    user.active = request.form.get("active") == "yes"
    if not user.active:
        user.end_all_logins()
    db.session.commit()
    _log("user enabled" if user.active else "user disabled", user_id)
    return redirect(url_for(".users"))
