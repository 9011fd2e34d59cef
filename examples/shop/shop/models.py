"""What the shop stores."""

from __future__ import annotations

import enum
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask, current_app
from flask_login import UserMixin
from sqlalchemy import CheckConstraint, ForeignKey, String, Text, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.schema import CreateIndex, CreateTable
from werkzeug.security import check_password_hash, generate_password_hash

from .extensions import db, login_manager


def now() -> datetime:
    """The current time in UTC, without a zone, as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Role(enum.StrEnum):
    CUSTOMER = "customer"
    ADMIN = "admin"


class OrderStatus(enum.StrEnum):
    PLACED = "placed"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class User(UserMixin, db.Model):
    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    password_hash: Mapped[str] = mapped_column(String(256))
    role: Mapped[Role] = mapped_column(default=Role.CUSTOMER)
    active: Mapped[bool] = mapped_column(default=True)
    avatar: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)

    logins: Mapped[list[Login]] = relationship(back_populates="user", cascade="all, delete-orphan")
    orders: Mapped[list[Order]] = relationship(back_populates="user")

    # The token of the login this object was loaded for; never stored.
    login_token = None  # type: str | None

    @property
    def is_active(self) -> bool:
        return self.active

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    def get_id(self) -> str:
        """Flask-Login keeps this in the session: a login that can be revoked, not the user."""
        if self.login_token is None:
            raise RuntimeError("user has no login; call start_login first")
        return self.login_token

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def check_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)

    def start_login(self) -> None:
        """Open a login on the server; the caller commits."""
        self.login_token = secrets.token_urlsafe(32)
        lifetime: timedelta = current_app.config["REMEMBER_COOKIE_DURATION"]
        db.session.add(Login(digest=digest(self.login_token), user=self, expires=now() + lifetime))

    def end_login(self) -> None:
        """Revoke the login this object was loaded for; the caller commits."""
        if self.login_token is not None:
            db.session.execute(db.delete(Login).where(Login.digest == digest(self.login_token)))

    def end_all_logins(self) -> None:
        """Log the user out everywhere; the caller commits."""
        db.session.execute(db.delete(Login).where(Login.user_id == self.id))


class Login(db.Model):
    """One open login. Only a digest is kept: the table is of no use to a thief."""

    __tablename__ = "login"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    expires: Mapped[datetime]

    user: Mapped[User] = relationship(back_populates="logins")


class Product(db.Model):
    __tablename__ = "product"
    __table_args__ = (
        CheckConstraint("price_cents >= 0", name="product_price"),
        CheckConstraint("stock >= 0", name="product_stock"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    description: Mapped[str] = mapped_column(Text)
    price_cents: Mapped[int]
    stock: Mapped[int]
    picture: Mapped[str | None] = mapped_column(String(64))
    listed: Mapped[bool] = mapped_column(default=True)


class Order(db.Model):
    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)
    # What the customer sees: it does not count the shop's orders.
    number: Mapped[str] = mapped_column(
        String(16), unique=True, default=lambda: secrets.token_hex(8)
    )
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    address: Mapped[str] = mapped_column(String(400))
    status: Mapped[OrderStatus] = mapped_column(default=OrderStatus.PLACED)
    created: Mapped[datetime] = mapped_column(default=now)

    user: Mapped[User] = relationship(back_populates="orders")
    lines: Mapped[list[OrderLine]] = relationship(
        back_populates="order", cascade="all, delete-orphan"
    )

    @property
    def total_cents(self) -> int:
        return sum(line.quantity * line.price_cents for line in self.lines)


class OrderLine(db.Model):
    __tablename__ = "order_line"

    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True)
    quantity: Mapped[int]
    price_cents: Mapped[int]

    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


class Mail(db.Model):
    """The outbox: mails wait here for a mailer, so that no token meets a log."""

    __tablename__ = "mail"

    id: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[str] = mapped_column(String(254))
    subject: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=now)


def digest(token: str) -> str:
    """The form in which a random token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


@login_manager.user_loader
def load_user(token: str) -> User | None:
    """Find the user of an open login."""
    login = db.session.get(Login, digest(token))
    if login is None or login.expires < now():
        return None
    login.user.login_token = token
    return login.user


@event.listens_for(Engine, "connect")
def _enforce_foreign_keys(connection: object, _record: object) -> None:
    # SQLite ignores foreign keys unless every connection asks for them.
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA foreign_keys = ON")  # type: ignore[attr-defined]


def create_tables(app: Flask) -> None:
    """Create what is missing; safe when several workers start at once."""
    Path(app.instance_path).mkdir(mode=0o700, parents=True, exist_ok=True)
    with app.app_context(), db.engine.begin() as connection:
        # IF NOT EXISTS lets the database decide; asking first would be a race.
        for table in db.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
