"""DELIBERATELY VULNERABLE: what leaky stores."""

import hashlib

from flask_login import UserMixin
from sqlalchemy.schema import CreateTable

from .extensions import db, login_manager


class User(UserMixin, db.Model):
    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String, unique=True)
    name = db.Column(db.String)
    password_hash = db.Column(db.String)
    role = db.Column(db.String, default="customer")
    avatar = db.Column(db.String)
    reset_code = db.Column(db.String)

    def set_password(self, password):
        self.password_hash = hashlib.md5(password.encode()).hexdigest()  # LEAK[authn]: MD5 without salt: a laptop guesses billions a second

    def check_password(self, password):
        return self.password_hash == hashlib.md5(password.encode()).hexdigest()  # LEAK[authn]: the same, compared byte by byte


class Product(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String, unique=True)
    description = db.Column(db.String)
    price_cents = db.Column(db.Integer)


class Review(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    product_id = db.Column(db.Integer, db.ForeignKey("product.id"))
    text = db.Column(db.String)


class Order(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer, db.ForeignKey("user.id"))
    product_id = db.Column(db.Integer)
    card = db.Column(db.String)


@login_manager.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


ACCOUNTS = (
    ("admin@leaky.example", "Ada Admin", "admin", "admin"),  # LEAK[secrets]: a default account with its password in the source
    ("user@leaky.example", "Uma User", "customer", "password"),  # LEAK[secrets]: and another
)
PRODUCTS = (
    ("Dewar flask, 1 litre", "Silvered glass, keeps tea hot for a day.", 3490),
    ("Copper kettle", "Two litres, tinned inside, whistles in G.", 8900),
    ("Enamel mug", "White with a blue rim. Survives a fall.", 990),
)


def create_tables(app):
    """Create and fill the tables; safe when several workers start at once."""
    with app.app_context(), db.engine.begin() as connection:
        for table in db.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        for email, name, role, password in ACCOUNTS:
            user = User(email=email, name=name, role=role)
            user.set_password(password)
            values = {"email": email, "name": name, "role": role, "password_hash": user.password_hash}
            connection.execute(db.insert(User.__table__).prefix_with("OR IGNORE").values(values))
        for name, description, price_cents in PRODUCTS:
            values = {"name": name, "description": description, "price_cents": price_cents}
            connection.execute(db.insert(Product.__table__).prefix_with("OR IGNORE").values(values))
