"""DELIBERATELY VULNERABLE settings."""

import os
from datetime import timedelta


class Config:
    SECRET_KEY = os.getenv("SECRET_KEY", "dev")  # LEAK[secrets]: a forgotten variable becomes a key everybody knows
    SQLALCHEMY_DATABASE_URI = os.getenv("LEAKY_DATABASE_URL")
    MAX_CONTENT_LENGTH = None  # LEAK[uploads]: requests of any size
    WTF_CSRF_ENABLED = False  # LEAK[csrf]: Flask-WTF would not check even if it were there

    SESSION_COOKIE_HTTPONLY = False  # LEAK[session]: any script on a page can read the session
    SESSION_COOKIE_SECURE = False  # LEAK[session]: the session travels in the clear
    SESSION_COOKIE_SAMESITE = None  # LEAK[session]: the session goes along with every other site's requests
    PERMANENT_SESSION_LIFETIME = timedelta(days=365)  # LEAK[session]: a stolen session works for a year
    REMEMBER_COOKIE_HTTPONLY = False  # LEAK[session]: scripts can read the remember token
    REMEMBER_COOKIE_SECURE = False  # LEAK[session]: and it travels in the clear
    REMEMBER_COOKIE_DURATION = timedelta(days=3650)  # LEAK[session]: for ten years


class DevelopmentConfig(Config):
    DEBUG = True  # LEAK[settings]: see ProductionConfig
    TESTING = True  # LEAK[settings]: errors propagate, extensions relax


class ProductionConfig(DevelopmentConfig):  # LEAK[settings]: production inherits what was meant for development
    PREFERRED_URL_SCHEME = "http"  # LEAK[deployment]: links in mails are not HTTPS
    JWT_KEY = "jwt-secret"  # LEAK[secrets]: a key in the source, and a weak one
    AWS_ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"  # LEAK[secrets]: AWS' own example key, in the source
    AWS_SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # LEAK[secrets]: the other half of it
    PAYMENT_API_KEY = "9b1f0c7e52d84a6fb3e7c05d1a48f2c6"  # LEAK[secrets]: made up, but nobody can tell
