"""Raises whatever params.type says."""

import builtins


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def bench(kit, params):
    kit.data(here=True)
    if params["type"] == "no torch":
        import torch  # noqa: F401
    raise {**vars(builtins), "OutOfMemoryError": OutOfMemoryError}[params["type"]](params.get("message", "boom"))
