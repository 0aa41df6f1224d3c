"""A Django project of one database, which is django-q's broker, too; max_rss is its documented cure for leaks."""

from __future__ import annotations

import os

SECRET_KEY = "none"
INSTALLED_APPS = ["django_q"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DJANGO_Q_DATABASE"],
        # Several processes write: each waits for its turn, and takes it before it reads.
        "OPTIONS": {"timeout": 100, "transaction_mode": "IMMEDIATE"},
    }
}
Q_CLUSTER = {
    "orm": "default",
    "workers": 1,
    "max_rss": 200_000,  # KiB
    "timeout": 100,
    "retry": 1000,
    "bulk": 50,
    "queue_limit": 100,
    "poll": 0.02,
    "save_limit": 0,
}
