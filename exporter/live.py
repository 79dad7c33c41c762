"""Which series are made at scrape time? Progress and ETA of the long runs in progress, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.families import PREFIX, Family, Renderer, Rows
from exporter.schedule import Running


def live_series(running: Mapping[str, Running]) -> bytes:
    """Exposition text of the runs that report progress; empty when there is none."""
    ratios = {check: run.ratio for check, run in sorted(running.items()) if run.ratio is not None}
    if not ratios:
        return b""
    etas = {check: run.eta for check, run in sorted(running.items()) if run.eta is not None}
    blocks = Renderer()(
        (
            _family("check_progress_ratio", "How far the run in progress is.", ratios),
            _family("check_eta_seconds", "Seconds until the run in progress ends.", etas),
        )
    )
    return b"".join(part for block in blocks.values() for part in block)


def _family(name: str, documentation: str, values: Mapping[str, float]) -> Family:
    rows: Rows = tuple(("", (("check", check),)) for check in values)
    return Family(f"{PREFIX}{name}", documentation, rows, list(values.values()))
