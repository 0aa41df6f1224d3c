"""450 tasks over 300 keys, one worker process at a time; after 500 django-q would replace it anyhow."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

KEYS, TASKS = 300, 450


def main(where: Path) -> None:
    os.environ["DJANGO_Q_DATABASE"] = str(where / "db.sqlite3")
    os.environ["DJANGO_SETTINGS_MODULE"] = "integrations.recycled.django_q_settings"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction
    from django_q.models import Task
    from django_q.tasks import async_task

    call_command("migrate", verbosity=0)
    source = random.Random(4)
    with transaction.atomic():
        for _ in range(TASKS):
            async_task("integrations.recycled.recycled_tasks.work", source.randrange(KEYS))
    with open(where / "log", "w") as log:
        cluster = subprocess.Popen([sys.executable, "-m", "django", "qcluster"], stdout=log, stderr=log)
    try:
        while Task.objects.count() < TASKS:
            assert cluster.poll() is None
            time.sleep(0.1)
        got = [task.result for task in Task.objects.order_by("stopped")]
    finally:
        cluster.terminate()
        cluster.wait()
    print(
        json.dumps(
            {
                "processes": len({pid for pid, _, _ in got}),
                "made": sum(made for _, made, _ in got),
                "held": got[-1][2],
                "keys": KEYS,
                "asked": TASKS,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
