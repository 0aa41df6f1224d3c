"""Celery's documented cure for leaks: worker_max_memory_per_child, 150 MB."""

from __future__ import annotations

import os

from celery import Celery

from integrations.recycled import recycled_tasks

SOCKET = os.environ["CELERY_SOCKET"]
app = Celery("t", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")
app.conf.worker_max_memory_per_child = 150_000  # KiB
app.conf.worker_prefetch_multiplier = 1


@app.task
def work(key: int) -> tuple[int, int, int]:
    return recycled_tasks.work(key)
