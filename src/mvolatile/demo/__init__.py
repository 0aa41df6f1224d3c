"""A run on real input: map tiles served under a real memory limit, kept in a dict, an LRU, volatile memory.

- `imagery`: cuts real maps into tiles, and keeps them encoded in one file, with their checksums.
- `walk`: the stream of tile requests, people panning and zooming over those maps.
- `contenders`: the ways of keeping decoded tiles in memory.
- `server`: the child process that serves the stream with one contender, and checks every tile.
- `neighbour`: the child process that takes memory from the same limit midway, and gives it back.
- `race`: runs one contender and its neighbour under the limit, and samples them.
- `outcome`: what a run has shown, as data.
- `live`, `picture`: what a person sees of it.

`python -m mvolatile.demo.server` is started by `race` alone; people run ``mvolatile demo``.
"""
