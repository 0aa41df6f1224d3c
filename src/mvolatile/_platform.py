"""Refuses, in a sentence, what could only fail obscurely: imported before everything else."""

from __future__ import annotations

import sys

if sys.platform != "linux":
    raise ImportError("mvolatile works on Linux alone: it is made of the kernel's own calls")
if sys.maxsize < 2**32:
    raise ImportError("mvolatile needs a 64-bit Python: it reserves address space by the gigabyte")
