"""Does a load of known size show an honest measurement to be right, a lying one to be wrong, and noise to be neither?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import pytest

from exporter.world.gpus import GpuDoor, Places
from exporter.world.host import HostDoor
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import MIB, Blind, Evidence, Fact, Finding, Json
from probes.benchmarks.monitor_accuracy import PROBE
from probes.benchmarks.monitor_accuracy_looks import READERS, Look, Seen, burned, free, paired, seen
from probes.testing import RecordedWorld
from probes.world.gpus import Gpu, GpuProcess
from probes.world.host import Host, Limits
from tests.torch_side import inside, measured, run

SIZE = 256 * MIB
LOAD: Mapping[str, Json] = {"memory": SIZE, "rounds": 2, "seconds": "200ms"}


class Quiet(HostDoor):
    """A machine on which nothing but our worker runs, of whose work this share is seen."""

    def __init__(self, launcher: Launcher, share: float = 1.0) -> None:
        super().__init__()
        self._launcher, self._share = launcher, share

    def look(self) -> Host:
        held, spent = 0, 0.0
        for child in tuple(self._launcher._children):
            assert child._process
            process = psutil.Process(child._process.pid)
            held, spent = process.memory_info().rss, sum(process.cpu_times()[:2])
        seen = self._share * spent
        idle = 2 * time.monotonic() - seen
        free = 64 * 1024 * MIB - round(self._share * held)
        cpu = {"user": seen, "idle": idle}
        return Host(cpus=2, cpu_seconds=cpu, memory_total=64 * 1024 * MIB, memory_available=free)


def told(share: float = 1.0) -> tuple[list[Fact], str]:
    """One real run on a quiet machine, in which every phase of the load was looked at in time."""
    why = ""
    for _ in range(5):
        launcher = Launcher(lambda: ())
        doors = Doors(GpuDoor(Places((), "/nonexistent")), Quiet(launcher, share), launcher)
        try:
            facts = run(PROBE, RealWorld(doors, Token(120.0)), **LOAD)
        except Blind as stop:
            why = str(stop)
        else:
            return facts, loads(facts)
    pytest.fail(f"our own looks were always late: {why}")


def loads(facts: Sequence[Fact]) -> str:
    return next(fact.text for fact in facts if isinstance(fact, Evidence) and fact.name == "loads")


def wrong(facts: Sequence[Fact]) -> set[str]:
    return {fact.subject for fact in facts if isinstance(fact, Finding) and fact.rule == "measurement-inaccurate"}


# -- real loads -----------------------------------------------------------------------------------------------------


def test_what_is_seen_as_it_is_is_right() -> None:
    facts, text = told()
    values = measured(facts)
    assert values["held_bytes", "memory"] == SIZE
    assert values["error_ratio", "memory"] < 0.05
    assert "memory: 256 MiB done, 25" in text
    assert wrong(facts) == set()
    # The load may not get a core of its own from those who test beside us.
    assert values.get(("error_ratio", "cpu"), 0.0) < 0.05
    assert ("error_ratio", "cpu") in values or "cpu: others left the load only 0." in text or "cpu: without" in text


def test_a_door_that_sees_half_of_it_is_found() -> None:
    facts, _ = told(share=0.5)
    assert measured(facts)["error_ratio", "memory"] == pytest.approx(0.5, abs=0.05)
    assert "memory" in wrong(facts)


def test_on_the_machine_as_it_is_each_resource_is_judged_or_says_why_not() -> None:
    doors = Doors(GpuDoor(Places((), "/nonexistent")), HostDoor(), Launcher(lambda: ()))
    facts: list[Fact] = []
    why = ""
    try:
        facts.extend(PROBE.run(PROBE.params(**LOAD), RealWorld(doors, Token(120.0))))
        why = loads(facts)
    except Blind as stop:
        why = str(stop)
    assert ("held_bytes", "memory") in measured(facts) or "memory: " in why
    assert all(f"{resource}: " in why for resource in ("memory", "cpu"))


def test_the_worker_really_holds_what_it_says_and_works_on_one_core_only_under_load() -> None:
    launcher = Launcher(lambda: ())
    params: dict[str, Json] = {"device": "cpu", "memory": 200 * MIB, "vram": 0, "rounds": 1, "seconds": 0.5}
    held: dict[int, list[int]] = {}
    looks = []
    for row in launcher.rows("monitor_accuracy", params, interpreter="self", token=Token(60.0)):
        if row.kind == "data":
            child = next(iter(launcher._children))
            assert child._process
            phase = int(str(row.data["phase"]))
            held.setdefault(phase, []).append(psutil.Process(child._process.pid).memory_info().rss)
            looks.append(Look(phase, float(str(row.data["at"])), float(str(row.data["cpu"])), Host()))
    assert [len(of) for of in held.values()] == [2, 2, 2]
    assert min(held[1]) - max(held[0] + held[2]) > 190 * MIB
    pairs = paired(looks, 3)
    cores = burned(pairs)
    idle = burned([None, pairs[0], None])
    assert cores is not None
    assert idle is not None
    assert idle + 0.02 < cores < 1.1  # of a machine that others use too


# -- arithmetic -----------------------------------------------------------------------------------------------------


def look(phase: int, host: Host | None = None, card: Gpu | None = None) -> Look:
    return Look(phase, 0.0, 0.0, host or Host(), card)


def test_a_load_is_what_it_adds_to_the_mean_of_the_rests_around_it_and_noise_what_these_differ() -> None:
    # Rests 10, 12, 30, 10; loads 111, 121, 120 hold 100, 100, 100 more than the means 11, 21, 20.
    levels = [10, 111, 12, 121, 30, 120, 10]
    pairs = paired([look(n, Host(memory_total=level)) for n, level in enumerate(levels) for _ in "ab"], 7)
    assert seen(pairs, READERS["memory"]) == Seen(100.0, 18.0)  # of 2, 18 and 20


def test_a_phase_that_was_looked_at_too_late_takes_its_rounds_out() -> None:
    looks = [look(n, Host(memory_total=50 * (n % 2))) for n in range(5) for _ in "ab"]
    assert seen(paired(looks, 5), READERS["memory"]) == Seen(50.0, 0.0)
    assert paired(looks[1:], 5)[0] is None
    assert seen(paired(looks[1:], 5), READERS["memory"]) == Seen(50.0, 0.0)
    assert seen(paired([*looks[:4], *looks[5:]], 5), READERS["memory"]) is None


def test_time_stolen_by_the_hypervisor_is_no_work_of_ours() -> None:
    before = Host(cpus=4, cpu_seconds={"user": 1.0, "steal": 0.0, "idle": 0.0})
    after = Host(cpus=4, cpu_seconds={"user": 2.0, "steal": 1.0, "idle": 2.0})
    assert READERS["cpu"](look(0, before), look(0, after)) == 1.0  # of four cores, a quarter of the time
    assert READERS["cpu"](look(0, before), look(0, before)) is None


@pytest.mark.parametrize(
    ("processes", "bytes_"),
    [
        ((GpuProcess(7, "compute", 300, "python", True), GpuProcess(9, "compute", 50, "ollama")), 300),
        ((GpuProcess(7, "compute", 300, "python", True), GpuProcess(7, "graphics", 300, "python", True)), 300),
        ((GpuProcess(7, "compute", 300),), None),  # a foreign pid namespace
        ((GpuProcess(7, "compute", None, "python", True),), None),  # Windows
        ((), None),
        (None, None),
    ],
)
def test_whose_memory_is_not_told_is_not_known(processes: Any, bytes_: int | None) -> None:
    at = look(0, card=Gpu(0, "GPU-1", memory_used=900, processes=processes))
    assert READERS["process_vram"](at, at) == bytes_
    assert READERS["vram"](at, at) == 900
    assert READERS["vram"](at, look(0)) is None


def test_in_a_container_only_what_its_limit_leaves_is_taken() -> None:
    assert free(Host(memory_available=1000)) == 1000
    assert free(Host(memory_available=1000, limits=Limits(memory=800, memory_used=500))) == 300
    assert free(Host(memory_available=200, limits=Limits(memory=800, memory_used=500))) == 200
    assert free(Host(memory_available=200, limits=Limits(memory=800))) == 200


# -- what cannot be told is never well --------------------------------------------------------------------------------


def changed(title: str, **world: Any) -> tuple[RecordedWorld, Mapping[str, Json]]:
    example = next(example for example in PROBE.examples if title in example.title)
    return RecordedWorld({**example.world, **world}), example.params


def test_looks_that_come_too_late_are_no_measurement() -> None:
    world, params = changed("what is done is what is seen", now=1_700_000_001.5)
    with pytest.raises(Blind, match="too late"):
        run(PROBE, world, **params)


def test_one_resource_that_cannot_be_told_leaves_the_others() -> None:
    example = next(example for example in PROBE.examples if "what is done is what is seen" in example.title)
    later = [dict(host) for host in example.world["later"]["host"]]  # type: ignore[index,call-overload,union-attr]
    for host in later[4:]:
        host["memory_available"] -= 200 * MIB
    world, params = changed("what is done is what is seen", later={"host": later})
    facts = run(PROBE, world, **params)
    assert ("error_ratio", "memory") not in measured(facts)
    assert measured(facts)["error_ratio", "cpu"] == 0.0
    text = next(fact.text for fact in facts if isinstance(fact, Evidence) and fact.name == "loads")
    assert "memory: without the load it varies by 19.5% of it" in text


def test_a_machine_with_little_memory_left_gets_a_smaller_load() -> None:
    sent: dict[str, Json] = {}

    class World(RecordedWorld):
        def worker(self, name: str, params: Mapping[str, Json], **_: str) -> Any:
            sent.update(params)
            return iter(())

    with pytest.raises((Blind, ValueError)):
        run(PROBE, World({"host": {"memory_total": 900 * MIB, "memory_available": 400 * MIB}}))
    assert sent["memory"] == 100 * MIB
    assert (sent["device"], sent["interpreter"]) == ("cpu", "self")


# -- a card, which this machine may not have ----------------------------------------------------------------------------

ON_CARD = """
class Torch:
    class cuda:
        empty_cache = staticmethod(lambda: said.append("gave back"))

class Kit:
    clock = staticmethod(__import__("time").perf_counter)
    torch = lambda self, device: (Torch, "cuda")
    data = lambda self, **row: said.append("phase %d" % row["phase"])
    fact = lambda self, name, value, **labels: said.append([name, value, labels["resource"]])

said = []
bench.__globals__.update(SLACK=0.01, take=lambda torch, size: said.append("took %d" % size))
bench(Kit(), {"device": "auto", "memory": 4096, "vram": 512, "rounds": 1, "seconds": 0.01})
print(json.dumps(said))
"""


@pytest.mark.torch
def test_the_card_s_load_is_taken_before_its_phase_and_given_back_after_it_and_its_kernel_before_all() -> None:
    rest, load, again = (["phase 0"] * 2, ["phase 1"] * 2, ["phase 2"] * 2)
    held = [["held_bytes", 4096, "memory"], ["held_bytes", 512, "vram"]]
    steps = ["took 1", *rest, "gave back", "took 512", *load, "gave back", *again, "gave back", *held]
    assert inside("monitor_accuracy", ON_CARD) == steps
