"""Is the exporter's own history written, and is it the file it was?"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.history import History
from exporter.registry import NoParams
from probes.api import Fact, Metric, Probe, Rule, World
from probes.rules import HISTORY_MOVED

SIZE = Metric("size_bytes", "Bytes of the history file in use.")
UNWRITTEN = Rule(
    "history-not-written",
    "warning",
    "Results are not written to disk; after a restart the exporter will have forgotten them.",
    "1. `df -h` and `df -i` of the path the finding names: a full disk is the usual cause.\n"
    "2. `ls -ld` it: the exporter's user must own it.\n3. `gpu-canary serve --storage.path=DIR` moves it elsewhere.",
)


def history_probe(history: History) -> Probe[NoParams]:
    """The probe over one open history."""

    def run(params: NoParams, world: World) -> Iterator[Fact]:
        size = history.size()
        if size is not None:
            yield SIZE(size)
        if history.moved_aside:
            yield HISTORY_MOVED(history.moved_aside)
        if history.last_error:
            yield UNWRITTEN(f"{history.path}: {history.last_error}")

    return Probe(
        "history", NoParams, run, metrics=(SIZE,), rules=(UNWRITTEN,), family="environment", every="1m", timeout="10s"
    )
