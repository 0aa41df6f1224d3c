"""A request makes ten values, and tells who answered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable

from integrations.recycled.recycled_tasks import work

source = random.Random(3)


def application(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    told = [work(source.randrange(600)) for _ in range(10)]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([told[0][0], sum(made for _, made, _ in told), told[-1][2]]).encode()]
