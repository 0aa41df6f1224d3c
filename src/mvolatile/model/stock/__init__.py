"""`stock`: the library's own protocol over a stock kernel, at its steps. To be read beside the C sources of `_core/`.

- ``machine``: sizes, cells, the switches that break the protocol on purpose. ``kernel``: what the kernel does.
- ``atomics``: what C11 and pthreads give. ``loss``, ``hold``, ``ranges``, ``peek``, ``forks``: the C files, function by
  function, under the same names; ``stores`` (large values), ``put``, ``watch``, ``listener``, ``linger``, ``shared``,
  ``shared_makers``, ``shared_deletions``, ``behind`` and ``behind_shared`` likewise, and ``kernel_fork`` for the
  kernel's side of a fork. ``properties``: what must hold. ``programs``: what programs do with it.
- ``acts``: the frame of those that are no memory's: ``behind``, ``behind_shared``, ``listener``, ``put``, ``shared``,
  ``shared_makers``, ``shared_deletions``.

Not here: byte granularity (a page is one number), `generation`, which is counted where `changes` is and read by nobody
in the protocol; raw memory (`raw.c`), whose pages are held by the same functions; huge pages, which make the kernel's
steps larger.
"""
