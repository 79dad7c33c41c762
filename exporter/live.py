"""Which series are made at scrape time? Progress and ETA of the long runs in progress, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.metrics import PREFIX
from exporter.schedule import Running


def live_series(running: Mapping[str, Running]) -> bytes:
    """Exposition text of the runs that report progress; empty when there is none."""
    known = {check: run for check, run in running.items() if run.ratio is not None}
    return generate_latest(_Progress(known)) if known else b""


class _Progress:
    def __init__(self, running: Mapping[str, Running]) -> None:
        self._running = running

    def collect(self) -> list[Metric]:
        ratio = GaugeMetricFamily(f"{PREFIX}check_progress_ratio", "How far the run in progress is.", labels=("check",))
        eta = GaugeMetricFamily(
            f"{PREFIX}check_eta_seconds", "Seconds until the run in progress ends.", labels=("check",)
        )
        for check, run in sorted(self._running.items()):
            ratio.add_metric((check,), run.ratio or 0.0)
            if run.eta is not None:
                eta.add_metric((check,), run.eta)
        return [family for family in (ratio, eta) if family.samples]
