"""Rendered tiles in a web application.

A WSGI application, as Flask's are, that renders map-like tiles. `@volatile_cache` keeps them as long as the
container has memory to spare; requests that come together for one missing tile render it once.

    python examples/wsgi_tile_cache.py             (standard library alone; serves a few requests to itself)
    gunicorn --chdir examples wsgi_tile_cache:application
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, make_server

import numpy as np

import mvolatile as mv

SIZE = 256


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@mv.volatile_cache(ttl=3600, name="tiles")
def tile(zoom: int, x: int, y: int) -> bytes:
    """Render one tile: slow, and worth keeping."""
    step = 4.0 / (1 << zoom) / SIZE
    real = (x * SIZE + np.arange(SIZE)) * step - 2.5
    imaginary = (y * SIZE + np.arange(SIZE)) * step - 2
    c = real[None, :] + 1j * imaginary[:, None]
    z, count = np.zeros_like(c), np.zeros(c.shape, np.uint8)
    for _ in range(40):
        inside = np.abs(z) <= 2
        z[inside] = z[inside] ** 2 + c[inside]
        count[inside] += 6
    return png(count)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/zoom/x/y.png``, and ``/stats``."""
    path = environ["PATH_INFO"].strip("/")
    if path == "stats":
        body, kind = repr(tile.cache_info()).encode(), "text/plain"
    else:
        try:
            zoom, x, y = map(int, path.removesuffix(".png").split("/"))
        except ValueError:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"no such tile\n"]
        body, kind = tile(zoom, x, y), "image/png"
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> int:
    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        here = f"http://127.0.0.1:{server.server_port}"
        try:
            with ThreadPoolExecutor(4) as pool:
                tiles = list(pool.map(lambda _: urlopen(f"{here}/2/1/1.png").read(), range(8)))
            assert len(set(tiles)) == 1
            assert tiles[0].startswith(b"\x89PNG")
            print(urlopen(f"{here}/stats").read().decode())
        finally:
            server.shutdown()
            thread.join()
    assert tile.cache_info().misses == 1
    tile.cache.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
