"""The pictures of the docs: `make pictures` draws them from the benchmarks' results."""
