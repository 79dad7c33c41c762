"""What did the runs before measure? The newest of each check that is judged by its past: in memory, read once from history."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.accepted import Accepted
from exporter.baseline import NOTHING, VERDICTS, WINDOW, Past, Run, judged_metrics, remembered
from exporter.result import Check, Result
from probes.facts import Better
from probes.rules import BENCHMARK_NOT_ON_CARD, WORKER_OUT_OF_MEMORY

Runs = Callable[[str, int], Sequence[Result]]  # the newest measured runs of a check, oldest first, at most so many
# Warnings of a run that broke off or ran elsewhere; whatever is critical says as much.
PARTIAL = frozenset({WORKER_OUT_OF_MEMORY.name, BENCHMARK_NOT_ON_CARD.name})


@dataclass(slots=True)
class _Kept:
    """One check's past. It is another's once the check's identity or what is judged of it is another."""

    identity: str
    better: Mapping[str, Better]
    metrics: frozenset[str]
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=WINDOW))


class Pasts:
    """The pasts of all checks. Thread-safe. History is asked when a check first runs; then nobody reads it again."""

    def __init__(self, runs: Runs, accepted: Callable[[], Mapping[str, Accepted]] = dict) -> None:
        """`accepted`: since when a check's past counts, asked anew for each run."""
        self._read, self._accepted = runs, accepted
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def of(self, check: Check) -> Past:
        """What a run of the check is judged by; nothing for a check that keeps no past."""
        if not check.keeps_past:
            return NOTHING
        fresh = _fresh(check)
        with self._lock:
            kept = self._kept.get(check.name)
            if kept is not None and _same(kept, fresh):
                return self._counted(check.name, kept)
        for run in self._read(check.name, WINDOW):
            _remember(fresh, run)
        with self._lock:
            self._kept[check.name] = fresh
            return self._counted(check.name, fresh)

    def _counted(self, check: str, kept: _Kept) -> Past:
        entry = self._accepted().get(check)
        since = entry.since if entry else 0.0
        return Past(tuple(run for run in kept.runs if run.started >= since), kept.better)

    def add(self, result: Result) -> None:
        """A recorded run. Of a check whose past nobody asked for yet, history will tell."""
        with self._lock:
            kept = self._kept.get(result.check)
            if kept is not None and all(run.started != result.started for run in kept.runs):
                _remember(kept, result)

    def forget(self, check: str) -> None:
        """The check was removed."""
        with self._lock:
            self._kept.pop(check, None)


def _remember(kept: _Kept, result: Result) -> None:
    if result.measured and (_whole(result) or not kept.better):
        kept.runs.append(remembered(result, kept.metrics, kept.runs[-1] if kept.runs else None))


def _whole(result: Result) -> bool:
    """Is this a run of the benchmark that others may be held against? Not one that broke off or ran elsewhere.

    What it was told for its speed alone (a target, a regression) is no reason to leave it out.
    """
    told = (found for found in result.findings if found.rule not in VERDICTS)
    return not any(found.severity == "critical" or found.rule in PARTIAL for found in told)


def _fresh(check: Check) -> _Kept:
    better = judged_metrics(check)
    named = {target.metric for target in check.targets if target.quantile is not None}
    return _Kept(check.identity, better, frozenset({*better, *named}))


def _same(kept: _Kept, fresh: _Kept) -> bool:
    return (kept.identity, kept.metrics, kept.better) == (fresh.identity, fresh.metrics, fresh.better)
