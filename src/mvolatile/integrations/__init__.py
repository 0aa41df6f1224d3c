"""The caches as backends of other frameworks, one module each; a module imports its framework, and nothing imports it.

Each needs what the extra of its name installs: `pip install mvolatile[django]`.
"""
