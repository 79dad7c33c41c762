"""One process that runs HTTP checks as the exporter does, as fast as it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from exporter import runner
from exporter.about import Own
from exporter.exposition import Exposition
from exporter.history import History
from exporter.journal import Journal
from exporter.judge import judge
from exporter.lanes import Lanes
from exporter.result import Check, Target
from exporter.world.real import RealWorld
from exporter.world.token import Token
from probes.services.http import PROBE


def probes_per_second(url: str, authority: str, runs: int, flight: int, folder: str) -> float:
    """CPU seconds a run: world, runner, judge, journal, rendering, history; `flight` checks due at once."""
    probe = PROBE
    params = {"url": url, "ca_file": authority} if url.startswith("https") else {"url": url}
    targets = (Target("status_code", at_most=299),) if probe.metric("status_code") else ()
    checks = [Check(f"c{i}", probe, probe.params(**params), 15.0, 5.0, targets) for i in range(flight)]
    history = History(Path(folder) / f"bench-{time.time_ns()}.sqlite", 1e9, 1 << 30)
    journal = Journal(history)
    exposition = Exposition(Own((), "", "").blocks, lambda: b"")
    named = {check.name: check for check in checks}
    journal.subscribe(lambda latest: exposition.update(named[latest.last.check], latest))

    def work(check: Check, number: int) -> None:
        for _ in range(number):
            token = Token(5.0)
            result = judge(runner.run(check, RealWorld(None, token), token), check.targets)  # type: ignore[arg-type]
            assert result.outcome == "ok", result
            journal.record(result)

    for check in checks:
        work(check, 5)
    lanes = Lanes({"light": flight})
    begun = time.process_time()
    if flight == 1:
        work(checks[0], runs)
    for _ in range(runs // flight if flight > 1 else 0):  # all are due at once, and the exporter's own lanes run them
        left, done = iter(range(flight - 1)), threading.Event()

        def run(check: Check, left: Iterator[int] = left, done: threading.Event = done) -> None:
            work(check, 1)
            if next(left, None) is None:  # the last one
                done.set()

        for check in checks:
            lanes.submit(frozenset({"light"}), partial(run, check))
        done.wait(60)
    spent = time.process_time() - begun
    lanes.close()
    history.close()
    return spent / (runs // flight * flight)
