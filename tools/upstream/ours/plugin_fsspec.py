# mypy: ignore-errors
"""fsspec's tests of its caches, of ours as well: they run over all that are registered. Loaded before them."""

import mvolatile.integrations.fsspec  # noqa: F401
