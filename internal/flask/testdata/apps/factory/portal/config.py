import os
from datetime import timedelta


def env_bool(name, default=False):
    return os.environ.get(name, str(default)).lower() in ("1", "true", "yes")


class Config:
    SECRET_KEY = os.environ["SECRET_KEY"]
    SESSION_COOKIE_SECURE = env_bool("SESSION_SECURE", True)
    SESSION_COOKIE_NAME = "portal" + "_" + "sid"
    PERMANENT_SESSION_LIFETIME = timedelta(hours=12)
    WTF_CSRF_TIME_LIMIT = 60 * 60
    SQLALCHEMY_DATABASE_URI = os.getenv("DATABASE_URL") or "sqlite:///portal.db"
    DEBUG = False


class DevelopmentConfig(Config):
    DEBUG = True
    SESSION_COOKIE_SECURE = False


class ProductionConfig(Config):
    pass
