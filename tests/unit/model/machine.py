"""A modelled machine on which one thing happens after the other."""

from collections.abc import Callable
from typing import Any

from mvolatile.model.pgtable import describe
from mvolatile.model.properties import PROPERTIES, check
from mvolatile.model.state import Config, kernel
from mvolatile.model.steps import run
from mvolatile.model.vmscan import age_all_pages, reclaim


class Machine:
    def __init__(self, variant: str = "fixed", **sizes: Any) -> None:
        self.k = kernel(variant, Config(**sizes))
        self.world = self.k.world

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.world, result = run(self.world, function(self.k, *args, **kwargs))
        return result

    def age(self) -> None:
        self.world, _ = age_all_pages(self.k).perform(self.world)

    def scan(self, times: int = 1) -> int:
        freed: int = self(reclaim, times)
        return freed

    def pte(self, mm: int, address: int) -> str:
        return describe(self.world[self.k.pte(mm, address)])

    def rss(self, mm: int) -> int:
        pages: int = self.world[self.k.anon_rss(mm)]
        return pages

    def free_pages(self) -> int:
        return len(self.world[self.k.free_pages])

    def vmas(self, mm: int) -> list[tuple[int, int, int]]:
        """(start, end, vm_flags) of each VMA."""
        return [
            (*self.world[self.k.extent(vma)][1:3], self.world[self.k.vm_flags(vma)])
            for vma in self.world[self.k.mmap(mm)]
        ]

    def wrong(self) -> str | None:
        return "; ".join(check(self.k, tuple(PROPERTIES), self.world, True)) or None
