"""Every form of the shop. FlaskForm adds and checks the CSRF token."""

from __future__ import annotations

from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from wtforms import (
    BooleanField,
    EmailField,
    IntegerField,
    PasswordField,
    SelectField,
    StringField,
    SubmitField,
    TextAreaField,
)
from wtforms.validators import (
    DataRequired,
    Email,
    EqualTo,
    InputRequired,
    Length,
    NumberRange,
)

from .models import OrderStatus

MIN_PASSWORD = 12
# Hashing is slow on purpose; a longer password must not make it slower.
MAX_PASSWORD = 128
MAX_QUANTITY = 20


def stripped(text: str | None) -> str | None:
    """The text without the blanks that slip in around it."""
    return text.strip() if text else text


class LoginForm(FlaskForm):
    email = EmailField("Email", [DataRequired(), Length(max=254)])
    password = PasswordField("Password", [DataRequired(), Length(max=MAX_PASSWORD)])
    remember = BooleanField("Keep me logged in")
    submit = SubmitField("Log in")


class NewPasswordForm(FlaskForm):
    password = PasswordField("Password", [DataRequired(), Length(MIN_PASSWORD, MAX_PASSWORD)])
    repeat = PasswordField("Password again", [EqualTo("password", "The passwords differ.")])
    submit = SubmitField("Save password")


class RegisterForm(NewPasswordForm):
    email = EmailField("Email", [DataRequired(), Email(), Length(max=254)], filters=[stripped])
    name = StringField("Name", [DataRequired(), Length(max=80)], filters=[stripped])
    submit = SubmitField("Create account")


class ResetForm(FlaskForm):
    email = EmailField("Email", [DataRequired(), Length(max=254)])
    submit = SubmitField("Send link")


class ChangePasswordForm(NewPasswordForm):
    current = PasswordField("Current password", [DataRequired(), Length(max=MAX_PASSWORD)])


class PictureForm(FlaskForm):
    picture = FileField("Picture (PNG, JPEG, GIF or WebP)", [FileRequired()])
    submit = SubmitField("Upload")


class CartForm(FlaskForm):
    quantity = IntegerField("Quantity", [InputRequired(), NumberRange(0, MAX_QUANTITY)], default=1)
    submit = SubmitField("Put into cart")


class CheckoutForm(FlaskForm):
    address = TextAreaField("Delivery address", [DataRequired(), Length(max=400)])
    submit = SubmitField("Order and pay on delivery")


class ProductForm(FlaskForm):
    name = StringField("Name", [DataRequired(), Length(max=120)])
    description = TextAreaField("Description", [DataRequired(), Length(max=4000)])
    price_cents = IntegerField("Price in cents", [InputRequired(), NumberRange(0, 100_000_000)])
    stock = IntegerField("Stock", [InputRequired(), NumberRange(0, 1_000_000)])
    listed = BooleanField("Listed", default=True)
    submit = SubmitField("Save")


class OrderStatusForm(FlaskForm):
    status = SelectField("Status", choices=[status.value for status in OrderStatus])
    submit = SubmitField("Set")


class ConfirmForm(FlaskForm):
    """A button that changes something."""

    submit = SubmitField("Confirm")
