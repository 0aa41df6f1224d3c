"""Rendered tiles in a Flask application that has less memory than it renders.

`@volatile_cache` keeps tiles as long as the container has memory to spare, and no longer: there is no size to
guess, and the process is not killed. Requests that come together for one missing tile render it once.

    python examples/flask_tile_cache.py            (needs: pip install flask; asks itself for more than it may keep)
    gunicorn --chdir examples --threads 4 flask_tile_cache:application

Run as a program it serves itself from a child process in a memory cgroup of its own, where one may be made.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from urllib.request import urlopen

import numpy as np

import mvolatile as mv
from mvolatile.kernel.cgroup import ChildCgroup

try:
    from flask import Flask, Response, jsonify
    from werkzeug.serving import WSGIRequestHandler, make_server
except ImportError:
    print("this example needs Flask: pip install flask")
    sys.exit(77)

SIZE = 512
LIMIT = 160 << 20
TILES = 320

application = Flask(__name__)
rendered: list[tuple[int, int, int]] = []


def png(pixels: np.ndarray) -> bytes:
    """An RGB image, not compressed: it takes less time and more memory."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@mv.volatile_cache(ttl=3600, name="tiles")
def tile(zoom: int, x: int, y: int) -> bytes:
    """Render one tile."""
    rendered.append((zoom, x, y))
    scale = np.float32(1 / (40 << zoom))
    across, down = (np.arange(place * SIZE, (place + 1) * SIZE, dtype="f4") * scale for place in (x, y))
    height = np.sin(across)[None, :] * np.cos(down)[:, None]
    return png(np.stack([(height * factor + 128).astype(np.uint8) for factor in (90, 120, 60)], axis=-1))


@application.get("/<int:zoom>/<int:x>/<int:y>.png")
def serve(zoom: int, x: int, y: int) -> Response:
    return Response(tile(zoom, x, y), mimetype="image/png")


@application.get("/stats")
def stats() -> Response:
    return jsonify(tile.cache_info()._asdict())


class Quiet(WSGIRequestHandler):
    def log_request(self, *unused: object) -> None:
        pass


def ask_oneself() -> None:
    """Over HTTP: one tile eight times at once, then more tiles than there is memory for, then the last ones again."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    thread = Thread(target=server.serve_forever)
    thread.start()

    def ask(number: int) -> tuple[int, int]:
        address = f"http://127.0.0.1:{server.server_port}/4/{number % 16}/{number // 16}.png"
        with urlopen(address) as answer:
            image = answer.read()
            return len(image), zlib.crc32(image)

    try:
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(ask, [0] * 8))) == 1
            print(f"8 requests for one tile: rendered {len(rendered)} time")
            nbytes = sum(size for size, _ in pool.map(ask, range(TILES)))
            once = len(rendered)
            again = list(pool.map(ask, range(TILES - 40, TILES)))
        info = tile.cache_info()
        print(f"{once} tiles rendered, {nbytes >> 20} MiB, of which {info.bytes >> 20} MiB are cached")
        print(
            f"{info.purged} tiles went to the kernel; of the last 40, {40 - len(rendered) + once} are there"
        )
        assert again[-1][1] == zlib.crc32(tile.__wrapped__(4, (TILES - 1) % 16, (TILES - 1) // 16))
        with urlopen(f"http://127.0.0.1:{server.server_port}/stats") as answer:
            print(answer.read().decode().strip())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> int:
    if "--inside" in sys.argv:
        ask_oneself()
        return 0
    command = [sys.executable, __file__, "--inside"]
    if not mv.features().can_purge:
        print("this kernel takes no volatile memory back, so no limit is set")
        return subprocess.run(command).returncode
    try:
        cgroup = ChildCgroup(LIMIT)
    except mv.UnsupportedError as error:
        print(f"no limit is set: {error}")
        return subprocess.run(command).returncode
    with cgroup:
        print(f"the limit is {LIMIT >> 20} MiB", flush=True)
        done = subprocess.run(cgroup.wrap(command))
        print(f"killed: {cgroup.oom_kills()} processes")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
