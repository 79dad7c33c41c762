"""One process that runs HTTP checks as the exporter does, as fast as it can."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from exporter import runner
from exporter.about import Own
from exporter.exposition import Exposition
from exporter.history import History
from exporter.journal import Journal
from exporter.judge import judge
from exporter.result import Check, Target
from exporter.world.real import RealWorld
from exporter.world.token import Token
from probes.services.http import PROBE


def probes_per_second(url: str, authority: str, runs: int, flight: int, folder: str) -> float:
    """CPU seconds a run: world, runner, judge, journal, rendering, history; `flight` threads, a check each."""
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
    begun = time.process_time()
    threads = [threading.Thread(target=work, args=(check, runs // flight)) for check in checks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.process_time() - begun
    history.close()
    return spent / (runs // flight * flight)
