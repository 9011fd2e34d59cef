"""Commands: flask seed, flask outbox."""

from __future__ import annotations

import os
import secrets

import click
from flask import Flask
from flask.cli import with_appcontext

from .extensions import db
from .models import Mail, Product, Role, User

PRODUCTS = (
    ("Dewar flask, 1 litre", "Silvered glass, keeps tea hot for a day.", 3490, 40),
    ("Dewar flask, half a litre", "Fits into every bag.", 2490, 60),
    ("Cork stopper", "Cut from Portuguese bark.", 390, 500),
    ("Copper kettle", "Two litres, tinned inside, whistles in G.", 8900, 12),
    ("Tea glass, set of six", "Thin walls, thick bottoms.", 1890, 80),
    ("Enamel mug", "White with a blue rim. Survives a fall.", 990, 200),
    ("Assam, 250 g", "Strong and malty. Takes milk.", 1290, 150),
    ("Darjeeling, 250 g", "First flush, light as April.", 1990, 70),
    ("Lapsang Souchong, 100 g", "Dried over pine fires.", 1190, 55),
    ("Honey, 500 g", "Linden blossom, from the roof next door.", 850, 90),
    ("Tea strainer", "Steel, fine enough for rooibos.", 690, 120),
    ("Bottle brush", "Bends into every corner of a flask.", 450, 300),
)


def init_app(app: Flask) -> None:
    app.cli.add_command(seed)
    app.cli.add_command(outbox)


@click.command()
@with_appcontext
def seed() -> None:
    """Create products, an administrator and a customer; existing ones stay as they are."""
    names = set(db.session.scalars(db.select(Product.name)))
    for name, description, price_cents, stock in PRODUCTS:
        if name not in names:
            db.session.add(
                Product(name=name, description=description, price_cents=price_cents, stock=stock)
            )
    _account("admin@shop.example", "Ada Admin", Role.ADMIN, "SEED_ADMIN_PASSWORD")
    _account("user@shop.example", "Uma User", Role.CUSTOMER, "SEED_USER_PASSWORD")
    db.session.commit()
    click.echo("The shop is stocked.")


def _account(email: str, name: str, role: Role, variable: str) -> None:
    if db.session.scalar(db.select(User.id).where(User.email == email)):
        click.echo(f"{email} exists already.")
        return
    password = os.environ.get(variable) or secrets.token_urlsafe(15)
    user = User(email=email, name=name, role=role)
    user.set_password(password)
    db.session.add(user)
    if os.environ.get(variable):
        click.echo(f"{email} has the password from {variable}.")
    else:
        click.echo(f"{email} has the password {password} (shown only now)")


@click.command()
@click.option("--last", default=1, show_default=True, help="How many mails to show.")
@with_appcontext
def outbox(last: int) -> None:
    """Show mails that wait in the outbox."""
    for mail in db.session.scalars(db.select(Mail).order_by(Mail.id.desc()).limit(last)):
        click.echo(f"To: {mail.recipient}\nSubject: {mail.subject}\n\n{mail.body}")
