"""What this kernel and this container give; nothing here touches volatile memory itself.

- `files`: reading the small text files of proc, sysfs and cgroupfs.
- `cgroup`: this process's memory cgroup, and children of it with limits of their own.
- `room`: how much memory there is to be had.
- `pressure`: being told that memory grows short. `pressure_sources`: by what; `psi`: how much of the time tasks waited;
  `threads`: starting and ending one that waits.
- `trim`: memory of running processes, given back from outside.
- `lives`: whether a process is still the one it was.
- `smaps`: what a process's mappings hold.
- `features`: all of it in one frozen record, with the tier that serves us. `unsupported`: saying once that nothing can
  be purged here.
"""
