"""Runs the contract's tests on kernels that this machine does not run.

    python -m tools.kernels --help

matrix.py    which conditions are tried together          debian.py    where the kernels come from
image.py     the initramfs: Python, wheel, tests          machine.py   one cell under QEMU, or on the running kernel
results.py   what a cell gave, kept between runs          table.py     docs/kernels.md
guest/       what runs inside: init (sh) and run.py
"""
