# mypy: ignore-errors
"""A site for Django's tests, as its own `runtests.py` sets one up, as far as those of the cache need it."""

import django
import pytest
from django.conf import settings

DATABASE = {"ENGINE": "django.db.backends.sqlite3"}

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": DATABASE, "other": DATABASE},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["cache"],
    MIDDLEWARE=[],
    ROOT_URLCONF="urls",
    SECRET_KEY="of the tests",
    USE_TZ=False,
)
django.setup()


@pytest.fixture(autouse=True, scope="session")
def _databases():
    from django.test.utils import (
        setup_databases,
        setup_test_environment,
        teardown_databases,
        teardown_test_environment,
    )

    setup_test_environment()
    made = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(made, verbosity=0)
    teardown_test_environment()
