"""Who restarts, pauses or kills this process for its RSS, as far as that can be known in it.

Nothing is imported for it: what a process has not loaded does not recycle it. Each looks at the settings that its
software has in this process now; where a newer version has moved them, it finds nothing, and nobody is harmed. What a
supervisor elsewhere watches (monit, systemd, pm2) cannot be known here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Of", "Recycler", "recyclers"]

Of = Literal["now", "peak", "growth"]
"""RSS as it is; the highest that it ever was; or what it has grown since the first task."""


@dataclass(frozen=True, slots=True)
class Recycler:
    """Software that looks at the RSS of this process, and acts beyond `most` bytes."""

    name: str
    setting: str
    most: int
    of: Of
    does: str


def _celery(expected: bool) -> Iterator[Recycler]:
    """In a child the pool's worker has the number, whoever set it; the parent, whose memory children begin with, knows
    the app's.
    """
    most: Any = None
    if process := sys.modules.get("billiard.process"):
        most = getattr(getattr(process.current_process(), "_target", None), "max_memory_per_child", None)
    state: Any = sys.modules.get("celery._state")
    if not most and state and (expected or "celery.concurrency.prefork" in sys.modules):
        most = state.get_current_app().conf.worker_max_memory_per_child
    if most:
        setting = f"worker_max_memory_per_child = {most}"
        yield Recycler("Celery", setting, int(most) << 10, "peak", "replaces the worker after its task")


def _loky(expected: bool) -> Iterator[Recycler]:
    multiprocessing = sys.modules.get("multiprocessing.process")
    name = "" if multiprocessing is None else multiprocessing.current_process().name
    if not expected and not name.startswith("LokyProcess"):
        return
    for module in ("joblib.externals.loky.process_executor", "loky.process_executor"):
        executor: Any = sys.modules.get(module)
        if getattr(executor, "_USE_PSUTIL", False):
            most = int(executor._MAX_MEMORY_LEAK_SIZE)  # noqa: SLF001 - there is no other name for it
            setting = f"LOKY_MAX_MEMORY_LEAK_SIZE = {most}"
            yield Recycler("loky", setting, most, "growth", "replaces the worker as one that leaks")
            return


def _dask(_: bool) -> Iterator[Recycler]:
    worker: Any = sys.modules.get("distributed.worker")
    for one in [] if worker is None else list(worker.Worker._instances):  # noqa: SLF001 - as above
        manager = one.memory_manager
        parts = [
            (manager.memory_spill_fraction, "spills results to disk"),
            (manager.memory_pause_fraction, "pauses the worker"),
            (
                sys.modules["dask.config"].get("distributed.worker.memory.terminate", False),
                "kills the worker",
            ),
        ]
        for part, does in parts:
            if manager.memory_limit and part:
                setting = f"memory_limit = {manager.memory_limit}, of which {part:.0%}"
                yield Recycler("Dask", setting, int(manager.memory_limit * part), "now", does)


def _uwsgi(_: bool) -> Iterator[Recycler]:
    uwsgi: Any = sys.modules.get("uwsgi")
    options = {} if uwsgi is None else uwsgi.opt
    for name in ("reload-on-rss", "evil-reload-on-rss"):
        most = options.get(name, options.get(name.encode()))
        if most:
            yield Recycler("uWSGI", f"{name} = {int(most)}", int(most) << 20, "now", "replaces the worker")


def _django_q(expected: bool) -> Iterator[Recycler]:
    conf: Any = sys.modules.get("django_q.conf") if expected or "django_q.cluster" in sys.modules else None
    most = conf.Conf.MAX_RSS if conf else None
    if most:
        yield Recycler("django-q", f"max_rss = {most}", int(most) << 10, "peak", "replaces the worker")


_KNOWN: tuple[Callable[[bool], Iterator[Recycler]], ...] = (_celery, _loky, _dask, _uwsgi, _django_q)


def recyclers(expected: bool = False) -> list[Recycler]:
    """Those of this process, now. `expected`: also those that would recycle workers of what is loaded here, be this one
    or not.
    """
    found: list[Recycler] = []
    for look in _KNOWN:
        # Other software's insides: whatever is not as it was known, or changes meanwhile, is not found.
        try:
            found += look(expected)
        except Exception:
            continue
    return found
