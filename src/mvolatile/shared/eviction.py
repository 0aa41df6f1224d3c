"""The seam between a keeper and the private cache: what goes, and how much. Clients load nothing of it."""

from __future__ import annotations

from ..cache.ages import Ages
from ..cache.budget import Budget
from ..cache.cost import SECONDS
from ..cache.eviction import Evictor, make_policy
from ..cache.queues import KEPT
from ..cache.tags import Tags

__all__ = ["KEPT", "SECONDS", "Ages", "Budget", "Evictor", "Tags", "make_policy"]
