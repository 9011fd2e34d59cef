"""What gunicorn and the flask command import."""

from shop import create_app

app = create_app()
