"""Processes of joblib that share results: prints how often each was computed, and what one that is killed leaves."""

from __future__ import annotations

import json
import os
import signal
import sys

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

import mvolatile.integrations.joblib  # noqa: F401 - it registers itself
from integrations.computing.notes import made, note

LOG = sys.argv[1]
memory = joblib.Memory("features", backend="volatile", verbose=0)


@memory.cache
def feature(number: int) -> np.ndarray:
    note(LOG)
    return np.full(20_000, number)


def right(number: int) -> bool:
    got = feature(number)
    got += 1  # it is the caller's own
    return bool((got == number + 1).all())


def dies(number: int) -> bool:
    got = right(number)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return got


if __name__ == "__main__":
    told: dict[str, object] = {}
    parallel = joblib.Parallel(n_jobs=2)
    told["right"] = all(parallel(joblib.delayed(right)(number % 10) for number in range(100)))
    told["computed"] = made(LOG)  # two workers may compute one at the same time
    told["again"] = all(parallel(joblib.delayed(right)(number) for number in range(10)))
    told["parent"] = all(map(right, range(10)))
    told["computed again"] = made(LOG) - int(str(told["computed"]))
    references = parallel(joblib.delayed(feature.call_and_shelve)(number) for number in range(10))
    told["references"] = [int(one.get()[0]) for one in references]
    try:
        parallel(joblib.delayed(dies)(number) for number in range(20))
        told["killed"] = False
    except TerminatedWorkerError:
        told["killed"] = True
    told["after"] = all(joblib.Parallel(n_jobs=2)(joblib.delayed(right)(number) for number in range(20)))
    told["purged"] = memory.store_backend.volatile.purge()
    told["after the purge"] = all(
        joblib.Parallel(n_jobs=2)(joblib.delayed(right)(number) for number in range(20))
    )
    memory.clear(warn=False)
    told["left"] = len(list(memory.store_backend.volatile))
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    print(json.dumps(told))
