"""Does a benchmark tell the joules of its cards, whatever the driver tells? A stub libnvidia-ml behind the real door."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.exposition import Exposition
from exporter.interpreters import Interpreter
from exporter.result import Check, Latest, Result
from exporter.scores import scores, values_of
from exporter.world.energy import Meter
from exporter.world.gpus import GpuDoor, Places
from exporter.world.load import Load
from exporter.world.nvml import THROTTLE
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import Energy, Evidence, Measurement, Metric, SubjectFailed, facts_of
from probes.benchmarks import matmul
from probes.world.gpus import Gpu, Gpus
from tests.nvml import UUIDS, Stub, build_stub

BEGAN = 123_456_000  # millijoules, where the stub's counters begin
SPEED = Metric("flops_per_second", "Operations.", ("dtype", "device"))
WORKERS = {
    "waits": "import time\ndef bench(kit, params):\n    kit.progress(0, 1)\n    time.sleep(0.6)\n    "
    "kit.fact('flops_per_second', 1, dtype='fp32', device='cuda')\n",
    "short": "def bench(kit, params):\n    kit.fact('flops_per_second', 1, dtype='fp32', device='cuda')\n",
    "processor": "def bench(kit, params):\n    kit._start(device='cpu')\n"
    "    kit.fact('flops_per_second', 1, dtype='fp32', device='cpu')\n",
    "raises": "import time\ndef bench(kit, params):\n    kit.progress(0, 1)\n    time.sleep(0.6)\n    "
    "raise ValueError('no such kernel')\n",
}  # fmt: skip


def card(energy: float | None = None, power: float | None = None) -> Gpu:
    return Gpu(0, "GPU-1", energy=energy, power=power)


def metered(*looks: tuple[float, float | None, float | None]) -> tuple[float, str] | None:
    """Of looks at (seconds, joules by the counter, watts)."""
    meter = Meter()
    for at, energy, power in looks:
        meter.add(at, card(energy, power))
    return meter.told()


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def test_a_counter_that_grows_is_believed_whatever_the_power() -> None:
    assert metered((0, 10.0, 500.0), (1, 40.0, 500.0), (2, 90.5, None)) == (80.5, "by the card's own counter")


def test_without_a_counter_it_is_the_power_between_two_looks_times_the_time_between_them() -> None:
    told = metered((0, None, 100.0), (2, None, 300.0), (3, None, None), (4, None, 300.0))
    assert told == (2 * 200.0 + 2 * 300.0, "by its power at 4 looks")


@pytest.mark.parametrize(
    "counter",
    [(50.0, 60.0, 5.0), (50.0, 5.0, 70.0), (50.0, None, 70.0), (None, 60.0, 70.0), (50.0, 50.0, 50.0)],
    ids=["began anew", "began anew and grew past it", "lost in between", "told late", "stands still"],
)
def test_a_counter_that_does_not_grow_throughout_is_none(counter: tuple[float | None, ...]) -> None:
    told = metered(*((float(at), energy, 100.0) for at, energy in enumerate(counter)))
    assert told == (200.0, "by its power at 3 looks")


def test_a_card_that_tells_neither_has_no_energy() -> None:
    assert metered((0, None, None), (1, None, None)) is None
    assert metered((0, 5.0, 100.0)) is None, "one look is no time"


@pytest.mark.parametrize("joules", [-1.0, float("nan"), float("inf")])
def test_no_card_uses_less_than_nothing_or_all_there_is(joules: float) -> None:
    with pytest.raises(ValueError, match="energy"):
        Energy(0, "GPU-1", joules)


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("energy"))


@pytest.fixture
def stub(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub(library, f"{tmp_path.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(made.file))
    return made


@pytest.fixture
def launched(library: Path, tmp_path: Path) -> Iterator[Callable[..., list[object]]]:
    """Runs one of WORKERS on these cards; `meanwhile` happens when it has begun. Its facts, also of a run that failed."""
    for name, text in WORKERS.items():
        (tmp_path / f"{name}.py").write_text(text)
    door = GpuDoor(Places((str(library),), str(tmp_path), str(tmp_path), ()))
    launcher = Launcher(
        lambda: (Interpreter("ours", sys.executable),), gpus=door.look, scratch=str(tmp_path), folder=tmp_path
    )

    def run(worker: str, *uuids: str, meanwhile: Callable[[], None] = lambda: None) -> list[object]:
        facts: list[object] = []
        try:
            rows = launcher.rows(worker, {}, gpu=",".join(uuids), token=Token(30))
            for fact in facts_of(rows, [SPEED]):
                if not facts:
                    meanwhile()
                facts.append(fact)
        except SubjectFailed as stop:
            facts += [stop.finding, *stop.facts]
        return facts

    yield run
    launcher.close()
    door.close()


def told(facts: list[object]) -> tuple[list[Energy], str]:
    """What was used, and what the evidence says of it."""
    evidence = {fact.name: fact.text for fact in facts if isinstance(fact, Evidence)}
    return [fact for fact in facts if isinstance(fact, Energy)], evidence.get("energy", "")


@pytest.mark.nvml
def test_the_joules_of_a_run_are_those_that_the_counter_grew_by(
    stub: Stub, launched: Callable[..., list[object]]
) -> None:
    grown = {"gpu0.energy": BEGAN + 250_000, "gpu1.energy": BEGAN + 999_000}
    energy, evidence = told(launched("waits", UUIDS[0], meanwhile=lambda: stub.set(grown)))
    assert energy == [Energy(0, UUIDS[0], 250.0)]
    assert evidence == "250 J of card 0 by the card's own counter"


@pytest.mark.nvml
def test_of_two_cards_each_tells_its_own(stub: Stub, launched: Callable[..., list[object]]) -> None:
    grown = {"gpu0.energy": BEGAN + 250_000, "gpu1.energy": BEGAN + 1_500_000}
    energy, evidence = told(launched("waits", *reversed(UUIDS), meanwhile=lambda: stub.set(grown)))
    assert sorted(energy, key=lambda used: used.gpu) == [Energy(0, UUIDS[0], 250.0), Energy(1, UUIDS[1], 1500.0)]
    assert "1.5 kJ of card 1 by the card's own counter" in evidence


@pytest.mark.nvml
@pytest.mark.parametrize("counter", [None, 7_000], ids=["has none", "begins anew with the driver"])
def test_a_card_without_a_counter_to_believe_is_reckoned_by_its_power(
    stub: Stub, launched: Callable[..., list[object]], counter: int | None
) -> None:
    stub.set({"gpu0.power": 200_000} | ({"gpu0.energy": None} if counter is None else {}))
    began = time.monotonic()
    energy, evidence = told(launched("waits", UUIDS[0], meanwhile=lambda: stub.set({"gpu0.energy": counter})))
    assert [(used.gpu, used.uuid) for used in energy] == [(0, UUIDS[0])]
    assert 200 * 0.6 < energy[0].joules < 200 * (time.monotonic() - began)
    assert "of card 0 by its power at" in evidence


def test_a_run_that_is_over_before_the_first_sample_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(WORKERS["short"])
    looks = []

    def gpus(token: Token) -> Gpus:
        looks.append(1)
        return Gpus(True, gpus=(card(energy=100.0 * len(looks)),))

    launcher = Launcher(
        lambda: (Interpreter("ours", sys.executable),), gpus=gpus, scratch=str(tmp_path), folder=tmp_path
    )
    energy, _ = told(list(facts_of(launcher.rows("short", {}, gpu="GPU-1", token=Token(20)), [SPEED])))
    assert energy == [Energy(0, "GPU-1", 100.0 * (len(looks) - 1))]
    assert 2 <= len(looks) <= 4, "one before, one after, and hardly one between"


@pytest.mark.nvml
def test_a_run_that_failed_tells_what_it_used_and_what_the_card_did(
    stub: Stub, launched: Callable[..., list[object]]
) -> None:
    facts = launched("raises", UUIDS[0], meanwhile=lambda: stub.set({"gpu0.energy": BEGAN + 250_000}))
    assert told(facts)[0] == [Energy(0, UUIDS[0], 250.0)]
    assert any(isinstance(fact, Evidence) and fact.name == "card under load" for fact in facts)


@pytest.mark.nvml
def test_a_run_on_the_processor_does_not_tell_the_energy_of_the_card_that_it_left_alone(
    stub: Stub, launched: Callable[..., list[object]]
) -> None:
    grown = {"gpu0.energy": BEGAN + 250_000}
    energy, evidence = told(launched("processor", UUIDS[0], meanwhile=lambda: stub.set(grown)))
    assert (energy, evidence) == ([], "")


def test_a_long_run_keeps_numbers_alone_of_its_looks() -> None:
    clocks, throttle = {"sm": 2.5e9, "memory": 1e10}, dict.fromkeys(THROTTLE, False)

    def gpus() -> Gpus:
        seen = card(1.0, 300.0)
        return Gpus(True, gpus=(replace(seen, clocks=dict(clocks), throttle=dict(throttle), utilization=1.0),))

    load = Load(gpus, "GPU-1")
    tracemalloc.start()
    for _ in range(5400):  # an hour and a half
        load._next = 0.0
        load.sample()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1024**2
    assert "5400 samples" in str(load.evidence()["card under load"])
    assert "memory clock 10000/10000/10000/10000 MHz" in str(load.evidence()["card under load"])


def test_what_a_card_did_is_told_as_least_mean_p95_and_most() -> None:
    busy = iter([0.0, *(at / 100 for at in range(1, 101))])  # the look before the run, then 1 % to 100 %

    def gpus() -> Gpus:
        return Gpus(True, gpus=(replace(card(1.0, 300.0), utilization=next(busy, 0.0)),))

    load = Load(gpus, "GPU-1")
    for _ in range(100):
        load._next = 0.0
        load.sample()
    told = str(load.evidence()["card under load"])
    assert told.startswith("100 samples (least/mean/P95/most), utilization 1/50/95/100 %"), "a mean of 50.5 is even"
    assert "power 300/300/300/300 W" in told


# -- where it is seen -------------------------------------------------------------------------------------------------

RAN = Result(
    "matmul", "matmul", 1.0, 2.0, "ok", (Measurement("flops_per_second", 1.0, (("dtype", "fp32"), ("device", "cuda"))),),
    energy=(Energy(0, "GPU-1", 300.0), Energy(1, "GPU-2", 400.0)),
)  # fmt: skip
CHECK = Check("matmul", matmul.PROBE, matmul.PROBE.params(), 21600.0, 300.0)


def test_every_benchmark_tells_it_in_one_series_by_card() -> None:
    exposition = Exposition(dict, lambda: b"")
    exposition.update(CHECK, Latest.first(RAN))
    shown = {tuple(labels.items()): value for name, labels, value in _samples(exposition.plain().decode())}
    exposition.close()
    assert shown == {
        (("check", "matmul"), ("gpu", "0"), ("uuid", "GPU-1")): 300.0,
        (("check", "matmul"), ("gpu", "1"), ("uuid", "GPU-2")): 400.0,
    }


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if line.startswith("gpucanary_benchmark_energy_joules{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            pairs = (pair.partition("=") for pair in labels.split(","))
            yield line, {name: quoted.strip('"') for name, _, quoted in pairs}, float(value)


def test_history_keeps_it_and_reads_rows_of_before() -> None:
    assert Result.from_dict(RAN.to_dict()) == RAN
    older = {name: value for name, value in RAN.to_dict().items() if name != "energy"}
    assert Result.from_dict(older).energy == ()


def test_bench_lists_it_beside_the_values_and_calls_no_change_of_it_a_loss() -> None:
    twice = Result(**{**{f: getattr(RAN, f) for f in RAN.__dataclass_fields__}, "energy": (Energy(0, "GPU-1", 900.0),)})
    *_, first = scores(CHECK, [twice], values_of([RAN]))
    assert (first.name, first.value, first.before, first.change) == (
        "benchmark_energy_joules{gpu=0}",
        900.0,
        300.0,
        2.0,
    )
    assert not first.lost
