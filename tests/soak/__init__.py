"""The soak: many processes in one memory cgroup, for an hour, with everything done to them that production does.

    make soak                  an hour; MINUTES=5, SEED=7, ARGS='--processes 12 --json' change it

    tally.py    counters that outlive a killed process         works.py    what is verified: caches, arrays, raw memory
    worker.py   one process: threads, forks, its own leaks     squeeze.py  the limit and the swap, up and down
    run.py      starts, kills, replaces, watches               __main__.py the command line

A worker that finds a wrong byte prints its evidence and exits with `tally.WRONG`; all random choices come from one
seed.
"""
