"""A coverage-guided fuzzer over the raw call and over operations on a memory, with the patch's model as the judge.

    make fuzz              a million operations; OPERATIONS=20000, SEED=7 and ARGS='--json' change it

    encoding.py   bytes as programs       edges.py      a core that counts its edges
    fuzzer.py     mutates, keeps, judges  __main__.py   the command line
    corpus.txt    programs that together reach every edge ever reached, in hexadecimal

A program runs on both sides of `tests/conformance`, operation by operation: in the model, and in real processes on the
real kernel. What they may differ in is in its ``differences.py``; anything else is a divergence.
"""
