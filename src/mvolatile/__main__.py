"""``python -m mvolatile``: the same as the command ``mvolatile``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
