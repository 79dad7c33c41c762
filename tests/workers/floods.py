"""Prints without end for a while: a driver's debug log."""

import os


def bench(kit, params):
    os.write(1, b"the first line\n")
    for _ in range(params["megabytes"]):
        os.write(1, b"x" * 1_000_000)
    os.write(2, b"\nthe last line\n")
