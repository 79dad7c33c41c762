"""A torch that sees a card of 24 GiB, on which the first piece of work meets the fault of this Python (fault.py)."""

import sys
import types

import fault

sys.setprofile(None)  # what needs torch meets it here
__version__ = "2.13.0+cu128"
given = []


class Anything:
    """Whatever a worker may name; to call it is work."""

    def __getattr__(self, name):
        return Anything()

    __call__ = staticmethod(fault.befall)


class Cuda(Anything):
    OutOfMemoryError = fault.OutOfMemoryError

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def init():
        pass

    @staticmethod
    def get_device_capability():
        return 8, 9

    @staticmethod
    def get_device_properties(index):
        shape = {"major": 8, "minor": 9, "total_memory": 24 * 2**30, "L2_cache_size": 72 * 2**20}
        return types.SimpleNamespace(name="NVIDIA GeForce RTX 4090", **shape)


cuda, version = Cuda(), Anything()
version.cuda, version.hip = "12.8", None


def get_num_threads():
    return 8


def empty(*size, **how):
    """The first is what kit empties the L2 with."""
    if given:
        fault.befall()
    given.append(size)


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return Anything()
