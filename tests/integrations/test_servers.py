"""Django and Flask under a real gunicorn of four workers that share one cache: killed, recycled, preloaded."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mvolatile as mv
from support.asking import ask
from support.gunicorns import WORKERS, Server, gunicorn
from support.keepers import kill_keeper, until

PAGES = 5

DJANGO = """
import os

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"BACKEND": "mvolatile.integrations.django.VolatileCache", "LOCATION": "site"}},
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)

import django
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.cache import cache_page

made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)
handler = get_wsgi_application()
fragment = engines["django"].from_string(
    "{% load cache %}{% cache 600 menu number %}{{ render }}{% endcache %}"
)


def application(environ, start_response):
    # Over a unix socket the host is its path.
    return handler({**environ, "HTTP_HOST": "localhost"}, start_response)


def note(what):
    os.write(made, what.encode() + b"\\n")
    return what


def who(request):
    return HttpResponse(str(os.getpid()))


@cache_page(600)
def view(request, number):
    return HttpResponse(note(f"view{number}"))


def part(request, number):
    return HttpResponse(fragment.render({"number": number, "render": lambda: note(f"part{number}")}))


def once(request, number):
    return HttpResponse(cache.get_or_set(f"once{number}", lambda: note(f"once{number}")))


def count(request, number):
    cache.add("count", 0)
    return HttpResponse(str(cache.incr("count")))


urlpatterns = [
    path("", who),
    path("view/<int:number>", view),
    path("part/<int:number>", part),
    path("once/<int:number>", once),
    path("count/<int:number>", count),
]

if "PRELOADED" in os.environ:
    cache.set("preloaded", 1)
"""

FLASK = """
import os

from flask import Flask
from flask_caching import Cache

made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)
application = Flask(__name__)
cache = Cache(
    application,
    config={
        "CACHE_TYPE": "mvolatile.integrations.cachelib.VolatileCache",
        "CACHE_OPTIONS": {"shared": "site"},
    },
)


def note(what):
    os.write(made, what.encode() + b"\\n")
    return what


@application.get("/")
def who():
    return str(os.getpid())


@application.get("/view/<int:number>")
@cache.cached(timeout=600)
def view(number):
    return note(f"view{number}")


@cache.memoize(timeout=600)
def _part(number):
    return note(f"part{number}")


@application.get("/part/<int:number>")
def part(number):
    return _part(number)


@application.get("/count/<int:number>")
def count(number):
    return str(cache.cache.inc("count"))


if "PRELOADED" in os.environ:
    with application.app_context():
        cache.set("preloaded", 1)
"""


def serve_all(server: Server, kinds: tuple[str, ...]) -> set[int]:
    """Ask for each page of each kind by turns, one at a time, so that none is made twice; and for who answers."""
    for kind in kinds:
        for number in range(PAGES):
            assert ask(server.listening, f"/{kind}/{number}") == [f"{kind}{number}".encode()]
    return set(map(int, ask(server.listening, *["/"] * 8)))


def check_site(directory: Path, source: str, kinds: tuple[str, ...]) -> None:
    (directory / "site_of_the_test.py").write_text(source)
    pages = PAGES * len(kinds)
    with mv.SharedCache[object, object]("site") as cache:

        def made_once() -> None:
            """But for what the kernel took meanwhile."""
            assert pages <= server.made() <= pages + cache.keeper_info()["purged"]

        with gunicorn(directory, "site_of_the_test:application") as server:
            serve_all(server, kinds)
            made_once()
            for pid in (first := server.workers()):
                os.kill(pid, signal.SIGKILL)
            until(lambda: server.replaced(first))
            assert serve_all(server, kinds) <= server.workers()
            made_once()
            counted = [int(one) for _ in range(5) for one in ask(server.listening, *["/count/0"] * 4)]
            if cache.keeper_info()["purged"] == 0:
                assert sorted(counted) == list(range(1, 21)), "no count is lost among the workers"

        recycled = ("--preload", "--max-requests", "10")
        with gunicorn(directory, "site_of_the_test:application", *recycled, PRELOADED="1") as server:
            answered: set[int] = set()
            while len(answered) <= WORKERS:
                answered |= serve_all(server, kinds)
            made_once()
            kill_keeper(cache)
            before = server.made()
            serve_all(server, kinds)
            assert server.made() > before, "all is a miss, and no page fails"


@pytest.fixture
def check(runtime: Path, tmp_path: Path) -> Callable[[str, tuple[str, ...]], None]:
    pytest.importorskip("gunicorn", reason="make integrations installs it")
    return lambda source, kinds: check_site(tmp_path, source, kinds)


@pytest.mark.slow
def test_django(check: Callable[[str, tuple[str, ...]], None]) -> None:
    pytest.importorskip("django", reason="make integrations installs it")
    check(DJANGO, ("view", "part", "once"))


@pytest.mark.slow
def test_flask(check: Callable[[str, tuple[str, ...]], None]) -> None:
    pytest.importorskip("flask_caching", reason="make integrations installs it")
    check(FLASK, ("view", "part"))
