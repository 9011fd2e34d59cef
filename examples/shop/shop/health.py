"""What a load balancer asks."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from .extensions import db, limiter

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@limiter.exempt
def healthz() -> Response:
    """Answer 200 when the database does; an exception becomes a 500."""
    db.session.execute(db.select(1))
    return jsonify(status="ok")
