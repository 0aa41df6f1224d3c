"""The caches as backends of other frameworks, one module each; a module imports its framework, and nothing imports it.

Each needs what the extra of its name installs: `pip install mvolatile[django]`. What several have in common, or one has
beside its framework:

    backing.py     which cache is behind a backend    filelock.py      locks that processes share
    near.py        a Redis server's values here       generations.py   nothing older than the last change
    chunks.py      zarr's decoded chunks              fileversion.py   which content a file has
"""
