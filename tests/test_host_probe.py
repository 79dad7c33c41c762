"""Do the host's counters only ever go forward, and does the probe judge our own cost fairly?"""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from exporter.world.host import HostDoor
from probes.api import Finding, Measurement, Remember
from probes.hardware.host import PROBE
from probes.testing import RecordedWorld, run_recorded, verify

HOST: dict[str, Any] = {"cpus": 2, "memory_total": 1000, "memory_available": 600, "boot_time": 1.0}


class Machine:
    """Looks at a host again and again, each run remembering the last as the exporter would have it."""

    def __init__(self) -> None:
        self.previous: dict[str, Any] = {}

    def look(self, now: float, **host: Any) -> dict[str, float]:
        """The run's measurements by name (and label, where there is one); findings are kept in `findings`."""
        world = RecordedWorld({"now": now, "host": {**HOST, **host}, "previous": self.previous})
        facts, end = run_recorded(PROBE, {}, world)
        assert end == ""
        self.previous = dict(next(fact.data for fact in facts if isinstance(fact, Remember)))
        self.findings = [f"{fact.rule}:{fact.subject}" for fact in facts if isinstance(fact, Finding)]
        measured = [fact for fact in facts if isinstance(fact, Measurement)]
        return {" ".join([fact.metric, *(value for _, value in fact.labels)]): fact.value for fact in measured}


def test_the_contract_holds() -> None:
    assert verify(PROBE) == []


def test_utilisation_is_that_of_the_time_since_the_last_look() -> None:
    machine = Machine()
    assert machine.look(0, cpu_seconds={"user": 10, "idle": 90})["cpu_utilization_ratio"] == 0.1
    assert machine.look(5, cpu_seconds={"user": 18, "idle": 92})["cpu_utilization_ratio"] == 0.8
    assert machine.look(9, cpu_seconds={"user": 18, "idle": 96, "iowait": 4})["cpu_utilization_ratio"] == 0


def test_a_counter_that_steps_back_a_little_stands_still_until_it_is_overtaken() -> None:
    machine = Machine()
    machine.look(0, cpu_seconds={"user": 100, "idle": 900, "iowait": 50})
    assert machine.look(5, cpu_seconds={"user": 101, "idle": 909, "iowait": 49.5})["cpu_seconds_total iowait"] == 50
    assert machine.look(6, cpu_seconds={"user": 101, "idle": 909, "iowait": 49.0})["cpu_seconds_total iowait"] == 50
    assert machine.look(9, cpu_seconds={"user": 101, "idle": 909, "iowait": 51.0})["cpu_seconds_total iowait"] == 51


def test_two_looks_at_the_same_moment_make_no_utilisation_up() -> None:
    machine = Machine()
    machine.look(0, cpu_seconds={"user": 10, "idle": 90})
    assert "cpu_utilization_ratio" not in machine.look(0, cpu_seconds={"user": 10, "idle": 90})


def test_a_restarted_machine_counts_from_its_new_beginning() -> None:
    machine = Machine()
    machine.look(0, cpu_seconds={"user": 5000, "idle": 9000})
    fresh = machine.look(60, cpu_seconds={"user": 6, "idle": 14})
    assert fresh["cpu_seconds_total user"] == 6
    assert fresh["cpu_utilization_ratio"] == 0.3


def own(cpu: float, *, started: float = 0.0, resident: int = 50_000_000) -> dict[str, Any]:
    return {"cpu_seconds": cpu, "started": started, "resident_bytes": resident}


def test_our_own_share_is_that_of_the_time_since_the_last_look_of_this_very_process() -> None:
    machine = Machine()
    assert machine.look(10, own=own(1.0))["self_cpu_ratio"] == 0.1
    assert machine.look(20, own=own(1.2))["self_cpu_ratio"] == pytest.approx(0.02)
    restarted = machine.look(32, own=own(0.6, started=30.0))
    assert restarted["self_cpu_ratio"] == pytest.approx(0.3)


def test_a_busy_start_is_not_an_overhead_and_a_lasting_one_is() -> None:
    machine = Machine()
    machine.look(3, own=own(1.5))
    assert machine.findings == []
    for second in range(5, 400, 5):
        machine.look(3 + second, own=own(1.5 + second * 0.01))
        assert machine.findings == []
    spent = 1.5 + 395 * 0.01
    for second in range(5, 400, 5):
        machine.look(398 + second, own=own(spent + second * 0.04))
    assert machine.findings == ["host-self-overhead:cpu"]


def test_more_memory_than_promised_is_an_overhead() -> None:
    machine = Machine()
    machine.look(5, own=own(0.0, resident=100_000_000))
    assert machine.findings == []
    machine.look(10, own=own(0.0, resident=100_000_001))
    assert machine.findings == ["host-self-overhead:memory"]


def test_a_clock_that_jumps_back_makes_no_number_up() -> None:
    machine = Machine()
    machine.look(1000, own=own(1.0))
    jumped = machine.look(400, own=own(1.1))
    assert "self_cpu_ratio" not in jumped
    assert machine.look(410, own=own(1.2))["self_cpu_ratio"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "junk",
    [{"cpu": "x", "own": 7}, {"cpu": {"user": "many"}, "own": {"started": None}}, {"cpu": [], "own": []}, {"x": 1}],
)
def test_a_memory_of_another_version_is_ignored(junk: dict[str, Any]) -> None:
    machine = Machine()
    machine.previous = junk
    assert machine.look(10, cpu_seconds={"user": 1, "idle": 9}, own=own(1.0))["cpu_utilization_ratio"] == 0.1


def test_interfaces_that_come_and_go_with_containers_have_no_series() -> None:
    networks = {
        name: {"received_bytes": 1, "sent_bytes": 1} for name in ("lo", "veth3f", "docker0", "br-9a", "enp5s0", "wlan0")
    }
    names = [name for name in Machine().look(0, networks=networks) if name.startswith("network_received")]
    assert names == ["network_received_bytes_total enp5s0", "network_received_bytes_total wlan0"]


def test_memory_that_cannot_be_true_is_our_error_and_never_ok() -> None:
    for memory in ({"memory_total": 0}, {"memory_available": -1}, {"memory_available": 1001}):
        _, end = run_recorded(PROBE, {}, RecordedWorld({"host": {**HOST, **memory}}))
        assert end.startswith("error: ValueError")


def test_this_very_machine_yields_every_metric_it_can_have() -> None:
    class Here(RecordedWorld):
        def host(self) -> Any:
            return HostDoor().look()

    facts, end = run_recorded(PROBE, {}, Here({"now": time.time()}))
    measured = {fact.metric: fact.value for fact in facts if isinstance(fact, Measurement)}
    assert end == ""
    assert {"cpu_utilization_ratio", "memory_utilization_ratio", "self_cpu_ratio", "load_averages"} <= measured.keys()
    assert all(math.isfinite(value) for value in measured.values())
    assert 0 < measured["memory_utilization_ratio"] < 1
