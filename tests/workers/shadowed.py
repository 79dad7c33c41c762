"""Imports a module that has a namesake beside kit.py and beside this worker."""

import statistics


def bench(kit, params):
    kit.data(statistics=statistics.__file__)
