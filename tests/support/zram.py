"""A small compressed swap device for one test, where this machine lets us have one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Unavailable", "zram_swap"]


class Unavailable(Exception):  # noqa: N818 - it says why, for a skip
    """No such device can be set up here."""


def _free_device() -> Path:
    control = Path("/sys/class/zram-control/hot_add")
    for found in sorted(Path("/sys/block").glob("zram*")):
        if (found / "disksize").read_text().strip() == "0":
            return found
    if not control.exists():
        raise Unavailable("the zram module is not loaded")
    return Path(f"/sys/block/zram{control.read_text().strip()}")


@contextlib.contextmanager
def zram_swap(nbytes: int) -> Iterator[str]:
    """Swap of `nbytes`, on while the block runs; the device is given back as it was. Raises `Unavailable`."""
    if os.geteuid() != 0:
        raise Unavailable("swap needs root")
    if missing := [tool for tool in ("mkswap", "swapon", "swapoff") if shutil.which(tool) is None]:
        raise Unavailable(f"not installed: {', '.join(missing)}")
    try:
        device = _free_device()
        (device / "disksize").write_text(str(nbytes))
    except OSError as error:
        raise Unavailable(f"zram cannot be set up: {error}") from error
    node = f"/dev/{device.name}"
    try:
        subprocess.run(["mkswap", node], check=True, capture_output=True)
        try:
            subprocess.run(["swapon", "--priority", "-2", node], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"swapon: {error.stderr.decode().strip()}") from error
        try:
            yield node
        finally:
            subprocess.run(["swapoff", node], check=True, capture_output=True)
    finally:
        (device / "reset").write_text("1")
