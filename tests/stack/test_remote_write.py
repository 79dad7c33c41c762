"""Does what Prometheus sends on by remote_write answer our dashboards there too? VictoriaMetrics from Debian receives.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#remote_write
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from dashboards.preview.ask import Prometheus, Window
from dashboards.queries import panels, targets
from exporter.shipped import DASHBOARDS
from tests.process import ROOT, Exporter, free_port
from tests.stack.fleet import RULES
from tests.stack.servers import Asked, prometheus, until

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(180)]

CONFIG = """
checks:
  - {probe: host, every: 2s, timeout: 1s, objective: 0.99}
  - {probe: disk, every: 2s, timeout: 1s, objective: 0.99, params: {path: /, minimum_free: 100000TiB}}
"""
PAST = 25  # seconds that the tests look back
DIGITS = 1e-4  # VictoriaMetrics keeps 15 digits, ten of which are the seconds of a timestamp
OTHER_LABELS = {
    "Maintenance": "in MetricsQL `a == 1 or on () 0 * count(a)` keeps the labels of `a`; the value is the same 0",
}
FIRING = 'ALERTS{alertname="GpuCanaryWatchdog",alertstate="firing"}'
RECORDED = "check:gpucanary_check_failed:avg_over_time5m"


@contextmanager
def victoria(folder: Path) -> Iterator[Asked]:
    """VictoriaMetrics on a free port. `search.latencyOffset=0s`: the newest half minute is shown at once."""
    binary, port = shutil.which("victoria-metrics"), free_port()
    if binary is None:
        pytest.skip("no victoria-metrics: apt-get install victoria-metrics")
    flags = (
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder / 'victoria'}",
        "-search.latencyOffset=0s",
        "-memory.allowedBytes=128MB",
        "-loggerLevel=WARN",
    )
    with (folder / "victoria.log").open("wb") as log:
        process = subprocess.Popen([binary, *flags], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: urlopen(f"{url}/health", timeout=1).close() is None, "VictoriaMetrics is ready")
        yield Asked(url)
    finally:
        process.terminate()
        process.wait(15)


def as_documented() -> dict[str, Any]:
    """docs/fleet.md's `remote_write`, with its filter; sent each second."""
    block = re.search(r"```yaml\n(remote_write:.*?)```", (ROOT / "docs" / "fleet.md").read_text(), re.DOTALL)
    assert block
    written: dict[str, Any] = yaml.safe_load(block[1])["remote_write"][0]
    assert written["write_relabel_configs"]
    return {**written, "queue_config": {"batch_send_deadline": "1s"}}


@dataclass(frozen=True)
class Fleet:
    near: Asked
    far: Asked
    exporter: Exporter


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An exporter, the Prometheus that scrapes it under our rules, and what that one writes to."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "canary.yml").write_text(CONFIG)
    exporter = Exporter(folder, "--config.file", str(folder / "canary.yml"))
    try:
        exporter.until(lambda found: any(name == "gpucanary_check_outcome" for name, _ in found))
        with victoria(folder) as far:
            sent_on = {"remote_write": [{**as_documented(), "url": f"{far.url}/api/v1/write"}]}
            target, labels = f"127.0.0.1:{exporter.port}", {"instance": "gpu1", "tier": "server"}
            with prometheus(folder, [target], rules=RULES, labels=labels, **sent_on) as near:
                until(lambda: near.query(RECORDED) and near.query(FIRING), "the rules are evaluated", 60)
                until(lambda: far.query(RECORDED) and far.query(FIRING), "it arrives", 60)
                until(lambda: far.query(f"{RECORDED} offset {PAST}s"), "there is some past to look at", 60)
                yield Fleet(near, far, exporter)
    finally:
        exporter.end()


def labelled(rows: list[dict[str, Any]]) -> set[str]:
    return {json.dumps(row["metric"], sort_keys=True) for row in rows}


def test_every_series_recorded_one_and_alert_arrives(fleet: Fleet) -> None:
    at = time.time() - 5  # what was sent five seconds ago has arrived
    ours = '{__name__=~"gpucanary_.+|up|ALERTS|.+:gpucanary_.+|instance_.+:.+"}'
    near = labelled(fleet.near.query(ours, at))
    until(lambda: near <= labelled(fleet.far.query(ours, at)), "all of them arrive")
    assert labelled(fleet.far.query(ours, at)) == near
    names = {json.loads(row)["__name__"] for row in near}
    assert {"gpucanary_finding", "gpucanary_check_outcome", RECORDED, "ALERTS", "up"} <= names
    alerts = {json.loads(row)["alertname"] for row in near if '"ALERTS"' in row}
    assert {"GpuCanaryWatchdog"} <= alerts
    assert all(json.loads(row)["tier"] == "server" for row in near if '"gpucanary_finding"' in row)


def test_the_overview_answers_there_what_it_answers_here(fleet: Fleet) -> None:
    """Every panel of it, over one range, with the same labels and the same values."""
    board = json.loads((DASHBOARDS / "gpucanary-overview.json").read_text())
    end = float(int(time.time()) - 5)
    window = Window(end - PAST + 10, end, 5)
    here, there = Prometheus(fleet.near.url), Prometheus(fleet.far.url)
    chosen = here.choose(board, {})
    assert there.choose(board, {}) == chosen
    asked = [panel for panel in panels(board) if list(targets(panel))]
    assert len(asked) > 10
    for panel in asked:
        mine, theirs = shown(here, panel, chosen, window), shown(there, panel, chosen, window)
        assert sorted(mine.values()) == pytest.approx(sorted(theirs.values()), abs=DIGITS), panel["title"]
        if panel["title"] not in OTHER_LABELS:
            assert mine == pytest.approx(theirs, abs=DIGITS), panel["title"]


def shown(door: Prometheus, panel: Any, chosen: dict[str, str], window: Window) -> dict[tuple[str, str, float], float]:
    """Every value of a panel, by its query, labels and time."""
    return {
        (one.ref, json.dumps(one.labels, sort_keys=True), at): value
        for one in door.panel(panel, chosen, window)
        for at, value in one.points
    }
