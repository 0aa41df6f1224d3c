"""A process that holds as many bytes as it is told: one number a line on standard input, until that closes.

Run as a script without the site module, so that it weighs little itself; it imports nothing of ours.
"""

import mmap
import sys

CHUNK = 1 << 20


def main() -> None:
    """Hold what was asked for last, every page written, rounded down to whole chunks."""
    held: list[mmap.mmap] = []
    for line in sys.stdin:
        wanted = int(line) // CHUNK
        while len(held) < wanted:
            chunk = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            chunk.write(b"\xaa" * CHUNK)
            held.append(chunk)
        while len(held) > wanted:
            held.pop().close()


if __name__ == "__main__":
    main()
