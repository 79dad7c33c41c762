"""Does host_copy measure the bus, and does it read the link while the copies go on?"""

from __future__ import annotations

from typing import Any

import pytest

from probes.api import Finding, NotApplicable
from probes.benchmarks import host_copy, memory_copy
from probes.testing import RecordedWorld
from probes.world.gpus import Gpus
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run

MIB = 2**20
BOTH = [("bytes_per_second", "to_device", "cpu"), ("bytes_per_second", "from_device", "cpu")]
CARD = {"index": 0, "uuid": "GPU-1", "pcie_generation": 4, "pcie_width": 16, "pcie_generation_max": 4}
START = {"kind": "start", "data": {"device": "cuda"}}


def copied(value: float, direction: str) -> dict[str, Any]:
    labels = {"direction": direction, "device": "cuda"}
    return {"kind": "fact", "metric": "bytes_per_second", "value": value, "labels": labels}


ROWS = [
    START,
    {"kind": "progress", "done": 1, "total": 4},
    copied(20e9, "to_device"),
    {"kind": "progress", "done": 3, "total": 4},
    copied(10e9, "from_device"),
    {"kind": "progress", "done": 1, "total": 1},
    {"kind": "end"},
]


def seen(*cards: dict[str, Any]) -> RecordedWorld:
    """A world whose card looks like that in one look after the other, then as in the last."""

    class Changing(RecordedWorld):
        looks = 0

        def gpus(self) -> Gpus:
            self.world["gpus"] = {"library": True, "gpus": [{**CARD, **cards[min(self.looks, len(cards) - 1)]}]}
            self.looks += 1
            return super().gpus()

    return Changing({"workers": {"host_copy": ROWS}})


@pytest.mark.torch
def test_a_real_worker_copies_both_ways_where_the_cpu_was_asked_for() -> None:
    values = measured(run(host_copy.PROBE, WorkingWorld(), device="cpu", size="8MiB", seconds="100ms"))
    assert list(values) == BOTH
    assert all(1e6 < value < 1e13 for value in values.values())


@pytest.mark.torch
def test_each_byte_of_a_transfer_counts_once_and_of_a_copy_in_memory_twice() -> None:
    assert at_our_clock("host_copy", device="cpu", size=MIB) == dict.fromkeys(BOTH, MIB / TICK)
    assert at_our_clock("memory_copy", device="cpu", size=MIB) == {("bytes_per_second", "cpu"): 2 * MIB / TICK}


@pytest.mark.torch
def test_what_was_copied_arrives() -> None:
    same = inside(
        "host_copy",
        """
class Kit:
    def torch(self, device): return torch, "cpu"
    def fitting(self, classes, cpu): return 4096
    def budget(self, params, cuda, cpu=2.0): return 1.0
    def progress(self, *_): pass
    def fact(self, *_, **__): pass
    def seconds(self, copy, budget):
        source, target = copy.__defaults__
        target.zero_()
        copy()
        same.append(bool((source == target).all()) and bool(source.std() > 0) and source is not target)
        return 1.0
same = []
bench(Kit(), {})
print(json.dumps(same))
""",
    )
    # The source of the second direction was a target before: what is checked there is that zeros are not taken for data.
    assert same == [True] * 4


@pytest.mark.torch
def test_a_copy_in_memory_copies_all_of_random_numbers() -> None:
    same = inside(
        "memory_copy",
        """
class Kit:
    def torch(self, device): return torch, "cpu"
    def fitting(self, classes, cpu): return 4096
    def budget(self, params, cuda, cpu=2.0): return 1.0
    def progress(self, *_): pass
    def fact(self, metric, value, **_): told.append(value == 2 * 4096)
    def seconds(self, copy, budget):
        names = dict(zip(copy.__code__.co_freevars, (cell.cell_contents for cell in copy.__closure__)))
        here, there = names["here"], names["there"]
        there.zero_()
        copy()
        told.append(bool((here == there).all()) and bool(here.std() > 0) and here.data_ptr() != there.data_ptr())
        return 1.0
told = []
bench(Kit(), {})
print(json.dumps(told))
""",
    )
    assert same == [True, True]


def test_the_link_is_the_best_that_was_seen_while_copying() -> None:
    asleep, awake = {"pcie_generation": 1}, {"pcie_generation": 3, "pcie_width": 8}
    # The looks: which card; before the first copy's measurement, twice (card, link); before the second's, twice.
    values = measured(run(host_copy.PROBE, seen(asleep, asleep, asleep, awake, awake, asleep)))
    assert values["link_bytes_per_second",] == pytest.approx(8 * 984.6e6)
    assert values["link_ratio", "to_device"] == pytest.approx(20e9 / (8 * 984.6e6))
    assert values["link_ratio", "from_device"] == pytest.approx(10e9 / (8 * 984.6e6))


@pytest.mark.parametrize(
    ("card", "params", "detail"),
    [
        ({"pcie_width_max": 16}, {}, None),
        ({"pcie_generation": 3, "pcie_width_max": 16}, {}, "PCIe 3.0 x16 while copying, 4.0 x16 would be possible"),
        ({"pcie_width": 8, "pcie_width_max": 16}, {}, "PCIe 4.0 x8 while copying, 4.0 x16 would be possible"),
        ({"pcie_width": 8, "pcie_width_max": 16}, {"expected_lanes": 8}, None),
        ({"pcie_width": 4, "pcie_width_max": 8}, {"expected_lanes": 8}, "PCIe 4.0 x4 while copying, 4.0 x8 would be possible"),
        ({"pcie_width": 8, "pcie_width_max": None}, {}, None),
        ({"pcie_generation": 9, "pcie_width_max": 32}, {}, None),
    ],
)  # fmt: skip
def test_a_link_below_what_is_possible_is_a_finding(card: Any, params: Any, detail: str | None) -> None:
    facts = run(host_copy.PROBE, seen(card), **params)
    assert [f.detail for f in facts if isinstance(f, Finding)] == ([detail] if detail else [])


@pytest.mark.torch
def test_without_a_card_there_is_no_bus_to_measure() -> None:
    with pytest.raises(NotApplicable, match="no_gpu"):
        run(host_copy.PROBE, WorkingWorld(), size="1MiB", seconds="10ms")
    amd = WorkingWorld({"gpus": {"pci": [{"address": "0000:03:00.0", "vendor": "amd"}]}})
    with pytest.raises(NotApplicable, match="no_gpu"):
        run(host_copy.PROBE, amd, size="1MiB", seconds="10ms")


@pytest.mark.torch
def test_a_card_that_torch_does_not_see_is_told_and_nothing_is_copied() -> None:
    world = WorkingWorld({"gpus": {"library": True, "gpus": [CARD]}})
    facts = run(host_copy.PROBE, world, size="1MiB", seconds="10ms")
    assert [f.rule for f in facts if isinstance(f, Finding)] == ["benchmark-not-on-card"]
    assert measured(facts) == {}


def test_memory_copy_knows_the_bus_no_longer() -> None:
    assert [metric.name for metric in memory_copy.PROBE.metrics] == ["bytes_per_second"]
