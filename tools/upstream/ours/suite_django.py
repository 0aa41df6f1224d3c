# mypy: ignore-errors
"""Django's `BaseCacheTests` with our backend, as its own `tests/cache/tests.py` has them for Django's backends."""

import os

from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.core.cache import caches
from django.test import TestCase, override_settings

BACKEND = "mvolatile.integrations.django.VolatileCache"
COUNTED = {"cull", "zero_cull"}
"""Django's own word for backends that do not cull, as memcached: its tests of that are skipped."""


def settings_for(location: str) -> dict[str, object]:
    """`CACHES` of a test."""
    return caches_setting_for_tests(BACKEND=BACKEND, LOCATION=location, exclude=COUNTED)


@override_settings(CACHES=settings_for(""))
class ProcessTests(BaseCacheTests, TestCase):
    """Each process its own."""

    incr_decr_type_error = TypeError


@override_settings(CACHES=settings_for(f"django-{os.getpid()}"))
class SharedTests(BaseCacheTests, TestCase):
    """One of the host."""

    incr_decr_type_error = TypeError

    @classmethod
    def tearDownClass(cls) -> None:
        """The keeper ends when nobody uses it."""
        caches["default"].volatile.close()
        super().tearDownClass()
