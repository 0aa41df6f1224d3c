"""Memory cgroups, version 1 and 2: where this process is, what holds there, and children with their own
limit.
"""

from mvolatile.kernel.cgroup.child import ChildCgroup
from mvolatile.kernel.cgroup.locate import MemoryCgroup, memory_cgroup
from mvolatile.kernel.cgroup.state import CgroupState, memory_state

__all__ = ["CgroupState", "ChildCgroup", "MemoryCgroup", "memory_cgroup", "memory_state"]
