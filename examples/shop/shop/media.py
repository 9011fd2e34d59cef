"""Pictures that people upload, kept outside of static/ under names of our own."""

from __future__ import annotations

import secrets
from pathlib import Path

from flask import Blueprint, Response, abort, current_app, send_from_directory
from werkzeug.datastructures import FileStorage
from werkzeug.utils import secure_filename

bp = Blueprint("media", __name__)

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


class NotAPicture(ValueError):
    """The upload is not what its name says; the message is for the user."""


def store(upload: FileStorage) -> str:
    """Keep a picture and return its new name. Raises NotAPicture."""
    suffix = Path(secure_filename(upload.filename or "")).suffix.lower()
    if suffix not in TYPES:
        raise NotAPicture("Only PNG, JPEG, GIF and WebP pictures are taken.")
    head = upload.stream.read(12)
    upload.stream.seek(0)
    if _type_of(head) != TYPES[suffix]:
        raise NotAPicture("The file is not the kind of picture its name says.")
    name = secrets.token_hex(16) + suffix
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    upload.save(folder / name)
    return name


def remove(name: str | None) -> None:
    """Delete a picture that nothing refers to any more."""
    if name:
        (_folder() / name).unlink(missing_ok=True)


@bp.get("/media/<name>")
def picture(name: str) -> Response:
    kind = TYPES.get(Path(name).suffix)
    if kind is None:
        abort(404)
    # An image element ignores "attachment"; a browser sent here directly does
    # not render the file in our origin.
    response = send_from_directory(_folder(), name, mimetype=kind, as_attachment=True, max_age=3600)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _folder() -> Path:
    return Path(current_app.config["UPLOAD_FOLDER"])


def _type_of(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return None
