"""Does the probe `gpu` say what is wrong with a card, and only that? Through the real door, where it matters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.token import Token
from probes.api import Evidence, Fact, Finding, Measurement
from probes.hardware.gpu import PROBE
from probes.hardware.xids import CLASSES, XIDS, policy
from probes.testing import RecordedWorld, run_recorded, verify
from probes.world.gpus import Gpus
from tests.nvml import UNKNOWN, UUIDS, Stub, build_stub

SERIES_OF_ONE_CHECK = 500


class StubWorld(RecordedWorld):
    """The real door to the stub cards."""

    def __init__(self, stub: Stub) -> None:
        super().__init__({"now": 2_000_000_000})  # after every XID of this test, before the year 2038
        self.stub = stub
        self.door = GpuDoor(Places((str(stub.library),), kernel_logs=()), Pace(sample=0.02))

    def gpus(self) -> Gpus:
        return self.door.look(Token(5.0))

    def run(self, params: Mapping[str, str | float] | None = None) -> tuple[list[Fact], str]:
        return run_recorded(PROBE, dict(params or {}), self)

    def findings(self, values: Mapping[str, object]) -> list[tuple[str, str]]:
        """(rule, subject) of what fires with these answers."""
        self.stub.set(values)
        facts, end = self.run()
        assert end == ""
        return [(fact.rule, fact.subject) for fact in facts if isinstance(fact, Finding)]


NO_LIMIT = {"gpu1.gpu_limit": None, "gpu1.slowdown_limit": None}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> Iterator[StubWorld]:
    stub = Stub(library, f"{tmp_path.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(stub.file))
    world = StubWorld(stub)
    yield world
    world.door.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("nvml"))


def test_it_keeps_the_contract() -> None:
    assert verify(PROBE) == []


@pytest.mark.nvml
def test_two_healthy_cards_are_two_times_the_same_series_and_no_finding(world: StubWorld) -> None:
    facts, end = world.run()
    assert end == ""
    assert not any(isinstance(fact, Finding) for fact in facts)
    series = [(fact.metric, fact.labels) for fact in facts if isinstance(fact, Measurement)]
    assert len(series) == len(set(series))
    per_card = [
        {(name, labels[2:]) for name, labels in series if ("uuid", uuid) in labels and name != "info"} for uuid in UUIDS
    ]
    assert per_card[0] == per_card[1]


@pytest.mark.nvml
@pytest.mark.parametrize(
    ("answers", "rule"),
    [
        ({"gpu1.temperature": 91}, "gpu-hot"),
        ({"gpu1.temperature": 86, **NO_LIMIT, "gpu1.temperature_margin": None}, "gpu-hot"),
        ({"gpu1.temperature": 70, "gpu1.temperature_margin": 0}, "gpu-hot"),
        ({"gpu1.throttle": 0x20}, "gpu-throttled-thermal"),
        ({"gpu1.throttle": 0x80}, "gpu-throttled-thermal"),
        ({"gpu1.ecc_uncorrected_volatile": 1}, "gpu-ecc-uncorrectable"),
        ({"gpu1.remap_pending": 1}, "gpu-row-remap-pending"),
        ({"gpu1.remap_failure": 1}, "gpu-row-remap-failed"),
        ({"gpu1.recovery_action": 2}, "gpu-recovery-needed"),
        ({"gpu1.err.nvmlDeviceGetTemperature": UNKNOWN}, "gpu-unreadable"),
        ({"gpu1.lost": 1}, "gpu-lost"),
    ],
)
def test_each_trouble_of_one_card_is_one_finding_about_that_card(
    world: StubWorld, answers: Mapping[str, object], rule: str
) -> None:
    assert world.findings({}) == []
    assert world.findings(answers) == [(rule, UUIDS[1])]


@pytest.mark.nvml
@pytest.mark.parametrize(
    "answers",
    [
        {"gpu1.temperature": 86},  # this card's own limit is 90
        {"gpu1.temperature": 86, **NO_LIMIT, "gpu1.temperature_margin": 4},  # it says itself that there is room
        {"gpu1.throttle": 0x04},  # at its power limit: that is what the limit is for
        {"gpu1.ecc_uncorrected_aggregate": 7},  # of the card's whole life, and no more news
        {"gpu1.remap_corrected": 3},
        {"gpu1.recovery_action": None, "gpu1.temperature": None, "gpu1.throttle": None},
    ],
)
def test_what_is_no_trouble_is_no_finding(world: StubWorld, answers: Mapping[str, object]) -> None:
    assert world.findings(answers) == []


@pytest.mark.nvml
def test_only_a_card_that_tells_nothing_of_its_limits_gets_the_assumed_one(world: StubWorld) -> None:
    world.stub.set({f"gpu1.{name}": None for name in ("gpu_limit", "slowdown_limit", "temperature_margin")})
    facts, _ = world.run()
    limits = [
        (fact.labels, fact.value)
        for fact in facts
        if isinstance(fact, Measurement) and "assumed" in dict(fact.labels).values()
    ]
    assert [(dict(labels)["uuid"], value) for labels, value in limits] == [(UUIDS[1], 85.0)]


@pytest.mark.nvml
def test_a_lost_card_keeps_its_name_and_loses_its_readings(world: StubWorld) -> None:
    world.run()
    world.stub.set({"gpu1.lost": 1})
    facts, _ = world.run()
    told = {fact.metric for fact in facts if isinstance(fact, Measurement) and ("uuid", UUIDS[1]) in fact.labels}
    assert told == {"info", "xid_events_total"}


@pytest.mark.nvml
def test_an_xid_is_a_finding_while_it_is_fresh_and_a_count_for_ever(world: StubWorld) -> None:
    world.run()
    for xid in (79, 48, 94, 31, 777):
        world.stub.raise_xid(0, xid)
    facts: list[Fact] = []
    deadline = time.monotonic() + 5.0
    while not any(isinstance(fact, Measurement) and dict(fact.labels).get("xid") == "777" for fact in facts):
        assert time.monotonic() < deadline
        facts, _ = world.run({"xid_window": "100000d"})
    found = {fact.rule: fact for fact in facts if isinstance(fact, Finding)}
    assert found.keys() == {"gpu-xid-critical", "gpu-xid-warning"}
    assert found["gpu-xid-critical"].detail.startswith("XID 48 (an uncorrectable memory error): reset the card;")
    assert "XID 777" in found["gpu-xid-warning"].detail
    counts = {
        dict(fact.labels)["class"]: fact.value
        for fact in facts
        if isinstance(fact, Measurement) and fact.metric == "xid_events_total" and ("uuid", UUIDS[0]) in fact.labels
    }
    assert counts == {"application": 1, "driver": 0, "memory": 2, "link": 0, "board": 1, "other": 1}
    assert world.findings({}) == []  # ten minutes later


@pytest.mark.nvml
def test_processes_are_counted_by_class_and_named_in_the_evidence(world: StubWorld) -> None:
    world.stub.set({"gpu0.processes": "compute:999999:1073741824 compute:999998:0 graphics:999997:0"})
    facts, _ = world.run()
    counts = {
        (dict(fact.labels)["kind"], dict(fact.labels)["class"]): fact.value
        for fact in facts
        if isinstance(fact, Measurement) and fact.metric == "processes" and ("uuid", UUIDS[0]) in fact.labels
    }
    assert counts[("compute", "foreign")] == 2
    assert counts[("graphics", "foreign")] == 1
    assert sum(counts.values()) == 3
    (evidence,) = (fact for fact in facts if isinstance(fact, Evidence))
    assert "999999  compute     1024 MiB" in evidence.text


@pytest.mark.nvml
def test_eight_cards_that_tell_everything_fit_into_one_check(world: StubWorld) -> None:
    gpus = world.gpus()
    eight = tuple(replace(gpus.gpus[0], index=index, uuid=f"GPU-{index}") for index in range(8))
    world.gpus = lambda: replace(gpus, gpus=eight)  # type: ignore[method-assign]
    facts, _ = world.run()
    assert sum(isinstance(fact, Measurement) for fact in facts) <= SERIES_OF_ONE_CHECK


def test_every_policy_names_a_class_and_a_next_step() -> None:
    for xid, entry in XIDS.items():
        assert entry.kind in CLASSES, xid
        assert entry.meaning, xid
        assert entry.next, xid


@pytest.mark.parametrize("xid", [48, 64, 74, 79, 95, 119, 120])
def test_what_all_others_call_critical_is_critical(xid: int) -> None:
    assert policy(xid).severity == "critical"


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_a_program_that_crashes_itself_is_no_trouble_of_the_card(xid: int) -> None:
    assert policy(xid).severity == "info"


def test_an_xid_nobody_knows_is_a_warning() -> None:
    assert policy(998).severity == "warning"
