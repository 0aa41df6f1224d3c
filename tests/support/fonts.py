"""matplotlib keeps a font file open from its first use on, which a check for leaks would blame on a test."""

from __future__ import annotations

import io

__all__ = ["open_all"]


def open_all() -> None:
    """Have every font opened that the demo's picture uses."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0, 0, "plain")
    figure.text(0, 0, "bold", fontweight="bold")
    figure.savefig(io.BytesIO(), format="png")
