"""Memory cgroups, version 1 and 2: where this process is, what holds there, and children with their own
limit.
"""

from .child import ChildCgroup
from .locate import MemoryCgroup, memory_cgroup
from .state import CgroupState, memory_state

__all__ = ["CgroupState", "ChildCgroup", "MemoryCgroup", "memory_cgroup", "memory_state"]
