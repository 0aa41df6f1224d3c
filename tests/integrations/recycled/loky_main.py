"""3,000 tasks over 1,200 keys in two of joblib's workers."""

from __future__ import annotations

import json
import random

from joblib import Parallel, delayed

from integrations.recycled.recycled_tasks import work

source = random.Random(2)
keys = [source.randrange(1200) for _ in range(3000)]
got = Parallel(n_jobs=2, batch_size=1, return_as="list")(delayed(work)(key, 0.004) for key in keys)
print(
    json.dumps(
        {
            "processes": len({pid for pid, _, _ in got}),
            "made": sum(made for _, made, _ in got),
            "held": got[-1][2],
            "keys": 1200,
            "asked": 3000,
        }
    )
)
