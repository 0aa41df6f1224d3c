"""Data frames: expensive to compute, cheap to keep, and cheap to get back.

A hit is a frame of one's own: an analysis may change it, and the next hit does not know. Where nobody changes one,
``copy=False`` leaves the columns in the cache's pages: read-only, and without a copy.

    python examples/pandas_frame_cache.py          (needs: pip install pandas)
"""

from __future__ import annotations

import sys
import time

import numpy as np

import mvolatile as mv


def main() -> int:
    try:
        import pandas as pd
    except ImportError:
        print("this example needs pandas: pip install pandas")
        return 77

    @mv.volatile_cache(copy=False)
    def daily(station: str) -> pd.DataFrame:
        """A year of readings, by minute, summed up by day."""
        random = np.random.default_rng(len(station))
        index = pd.date_range("2024-01-01", periods=365 * 1440, freq="min")
        readings = pd.DataFrame(random.random((len(index), 4)), index, columns=list("abcd"))
        return readings.rolling(60).mean().dropna()

    for turn in ("computed", "from the cache"):
        start = time.perf_counter()
        frame = daily("north")
        print(f"{turn:<16}{(time.perf_counter() - start) * 1e3:9.3f} ms, {frame.shape}")
    pd.testing.assert_frame_equal(frame, daily.__wrapped__("north"))
    changed = frame.copy()
    changed["a"] = 0
    print(daily.cache_info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
