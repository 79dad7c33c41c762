"""Does every panel show what it should, and nothing where there is nothing? All queries, on a real Prometheus."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from dashboards.preview.ask import Prometheus, QueryError, Window
from dashboards.preview.page import page
from dashboards.queries import Json, panels, targets, variables
from exporter.shipped import DASHBOARDS
from tests.nvml import GPU_IS_LOST, UUIDS, Stub, build_stub
from tests.process import Exporter
from tests.stack.fleet import RULES, watched
from tests.stack.servers import prometheus, until

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}

# What the sick fleet cannot have, and why.
WITHOUT = {
    "Progress of long runs": "no run of the demo takes long",
    "Time left of long runs": "no run of the demo takes long",
    "Clock under the runs": "a simulated run holds no card's lane",
    "Held back under the runs": "as above",
    "Heat of the runs": "only for a minute after a benchmark",
    "Power of the runs": "as above",
}
# What a fleet without trouble must leave empty. Everything else must have data there too, but what says how much
# trouble there was.
TROUBLE = {
    "Findings",
    "Alerts firing",
    "Blind spots",
    "Failed runs in a row",
    "Not measured last time",
    "Skipped runs by reason",
    "Skipped runs per hour, by reason",
    "Worse than their own past",
    "XIDs",
}
# Where a machine of the demo has no such thing, healthy or not.
NOT_THERE = {"Memory of the container": "no host of the healthy fleet is a container"}


def choices(door: Prometheus, board: Json) -> list[dict[str, str]]:
    """The variables, once for every value of those of which one must be chosen."""
    first = door.choose(board, {})
    single = [v for v in variables(board) if not v.get("includeAll")]
    assert len(single) <= 1
    return [{**first, v["name"]: value} for v in single for value in door.options(v, first)] or [first]


def empty(door: Prometheus, board: Json) -> set[str]:
    """Titles of the panels that show nothing, whatever is chosen. QueryError on a query that Prometheus refuses."""
    end = time.time()
    window = Window(end - 60, end, 2)
    silent = {panel["id"]: panel for panel in panels(board) if list(targets(panel))}
    for values in choices(door, board):
        found = [number for number, panel in silent.items() if door.panel(panel, values, window)]
        for number in found:
            del silent[number]
    return {panel["title"] for panel in silent.values()}


def settled(door: Prometheus) -> bool:
    """Every check of the three hosts has run, was scraped more than once, and the rules were evaluated over it."""
    late = "gpucanary_check_info unless on (instance, check) gpucanary_check_outcome offset 5s"
    hosts = door.get("/api/v1/query", query="count(gpucanary_build_info offset 20s)")["result"]
    waiting = door.get("/api/v1/query", query=late)["result"]
    watchdog = door.get("/api/v1/query", query="gpucanary_inbox_watchdog_timestamp_seconds > 0")["result"]
    return bool(hosts and hosts[0]["value"][1] == "3" and not waiting and watchdog)


def test_every_panel_has_data_of_a_sick_fleet(tmp_path: Path) -> None:
    with watched(tmp_path, "--scenario", "sick") as server:
        door = Prometheus(server.url)
        until(lambda: settled(door), "the fleet is watched", 120)
        silent = {title for board in BOARDS.values() for title in empty(door, board)}
        assert silent <= set(WITHOUT), silent - set(WITHOUT)
        for board in BOARDS.values():
            drawn = page(board, door, Window(time.time() - 60, time.time(), 2), {})
            assert "This is not Grafana" in drawn
            assert all(panel["title"].replace("&", "&amp;").replace("'", "&#x27;") in drawn for panel in panels(board))
        assert server.firing() >= {"GpuCanaryVramNearLimit", "GpuCanaryServiceDown", "GpuCanaryWatchdog"}


def test_a_healthy_fleet_shows_no_trouble_and_everything_else(tmp_path: Path) -> None:
    with watched(tmp_path, "--scenario", "healthy") as server:
        door = Prometheus(server.url)
        until(lambda: settled(door), "the fleet is watched", 120)
        silent = {title for board in BOARDS.values() for title in empty(door, board)}
        assert silent >= TROUBLE
        assert silent <= TROUBLE | set(WITHOUT) | set(NOT_THERE), silent
        assert server.firing() == {"GpuCanaryWatchdog"}


REAL = """
checks:
  - probe: gpu
    every: 1s
    timeout: 900ms
    targets: [{metric: memory_used_ratio, at_most: 0.90}]
  - {probe: host, every: 1s, timeout: 900ms}
"""


@pytest.mark.nvml
def test_cards_of_nvml_are_shown_and_a_lost_one_shows_no_healthy_number(tmp_path: Path) -> None:
    """Not the demo's simulated world: the real doors, to a stub of NVML and to this machine's /proc."""
    (tmp_path / "canary.yml").write_text(REAL)
    stub = Stub(build_stub(tmp_path / "nvml"))
    exporter = Exporter(tmp_path, f"--config.file={tmp_path / 'canary.yml'}", env=stub.env())
    board = BOARDS["gpucanary-hardware"]
    numbers = [panel for panel in panels(board) if panel["title"].endswith(" now")]
    assert len(numbers) == 3
    try:
        with prometheus(tmp_path, [f"127.0.0.1:{exporter.port}"], rules=RULES) as server:
            door = Prometheus(server.url)
            until(lambda: server.query("gpucanary_gpu_temperature_celsius offset 10s"), "the cards are watched", 60)
            assert {values["gpu"] for values in choices(door, board)} == set(UUIDS)
            assert empty(door, board) - {"Memory of the container"} == {"Findings", "XIDs"}

            stub.set({"gpu1.err.nvmlDeviceGetTemperature": GPU_IS_LOST})
            until(lambda: server.query('gpucanary_finding{rule="gpu-lost"} == 1'), "the loss is told")
            assert "Findings" not in empty(door, board)
            window = Window(time.time() - 10, time.time(), 1)
            shown = {
                values["gpu"]: [panel["title"] for panel in numbers if door.panel(panel, values, window)]
                for values in choices(door, board)
            }
            assert shown.pop(UUIDS[1], []) == []
            assert shown == {UUIDS[0]: [panel["title"] for panel in numbers]}
    finally:
        exporter.end(signal.SIGKILL)


@pytest.mark.parametrize("stem", BOARDS)
def test_where_nothing_is_scraped_no_panel_shows_a_healthy_zero(blank: Prometheus, stem: str) -> None:
    """A Prometheus that scrapes but itself: only what is about that one may have data."""
    board = BOARDS[stem]
    about_itself = {
        panel["title"] for panel in panels(board) if any("prometheus_" in target.expr for target in targets(panel))
    }
    asked = {panel["title"] for panel in panels(board) if list(targets(panel))}
    assert asked - about_itself <= empty(blank, board)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    with prometheus(tmp_path_factory.mktemp("blank")) as server:
        until(lambda: server.query("up"), "it scrapes itself")
        yield Prometheus(server.url)


def test_a_query_that_prometheus_refuses_is_named(blank: Prometheus) -> None:
    board: Json = {"panels": [{"id": 1, "title": "x", "type": "stat", "targets": [{"refId": "A", "expr": "sum("}]}]}
    board["templating"] = {"list": []}
    with pytest.raises(QueryError, match=r"sum\("):
        empty(blank, board)
