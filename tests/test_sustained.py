"""Does sustained tell a card that keeps its speed from one that does not, and does it name what holds it back?"""

from __future__ import annotations

from typing import Any

import pytest

from probes.api import Evidence, Finding
from probes.benchmarks import sustained
from probes.testing import RecordedWorld
from probes.world.gpus import Gpus
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run

START = {"kind": "start", "data": {"device": "cuda"}}


def loaded(decay: float, *looks: dict[str, Any]) -> RecordedWorld:
    """A card that looks like that in one look under load after the other."""

    class Changing(RecordedWorld):
        count = -2  # before the first look under load: which card the worker takes, which card is looked at

        def gpus(self) -> Gpus:
            # each look under load asks twice: which card, and how it is
            self.count += 1
            seen = looks[min(max(self.count - 1, 0) // 2, len(looks) - 1)]
            self.world["gpus"] = {"library": True, "gpus": [{"index": 0, "uuid": "GPU-1", **seen}]}
            return super().gpus()

    labels = {"device": "cuda"}
    rows = [START, *({"kind": "progress", "done": n, "total": len(looks)} for n in range(len(looks) + 1))]
    rows += [{"kind": "fact", "metric": "flops_per_second", "value": 1e14, "labels": labels}]
    rows += [{"kind": "fact", "metric": "decay_ratio", "value": decay, "labels": labels}, {"kind": "end"}]
    return Changing({"workers": {"sustained": rows}})


def found(facts: Any) -> list[tuple[str, str]]:
    return [(f.rule, f.detail) for f in facts if isinstance(f, Finding)]


@pytest.mark.torch
def test_a_real_worker_loads_this_processor_and_tells_the_curve() -> None:
    facts = run(sustained.PROBE, WorkingWorld(), size=128, seconds="400ms", maximum_decay=1, maximum_variation=1)
    values = measured(facts)
    assert list(values) == [("flops_per_second", "cpu"), ("decay_ratio", "cpu"), ("variation_ratio",)]
    assert 1e7 < values["flops_per_second", "cpu"] < 1e14
    assert values["decay_ratio", "cpu"] < 1
    curve = next(f.text for f in facts if isinstance(f, Evidence) and f.name == "curve of the speed")
    assert curve.count(",") == 8, "eight slices"


@pytest.mark.torch
def test_speed_and_decay_are_those_of_a_hand_calculation() -> None:
    values = at_our_clock("sustained", device="cpu", size=64, seconds=8)
    assert values == {("flops_per_second", "cpu"): 2 * 64**3 / TICK, ("decay_ratio", "cpu"): 0.0}
    slower = inside(
        "sustained",
        """
class Kit:
    facts, slices = {}, iter([0, *[1, 1, 1, 1, 2, 2, 2, 2]])  # the warm-up, then twice as long from the middle on
    def torch(self, device): return torch, "cpu"
    def fitting(self, classes, cpu): return 8
    def budget(self, params, cuda, cpu): return 8.0
    def progress(self, *_): pass
    def data(self, **_): pass
    def fact(self, metric, value, **_): self.facts[metric] = value
    def seconds(self, work, budget, warm_up=0.5): return float(next(self.slices))
bench(Kit(), {})
print(json.dumps([Kit.facts["flops_per_second"], Kit.facts["decay_ratio"]]))
""",
    )
    # 2 n^3 = 1024 operations; half of the slices at 1024 a second, half at 512: the median is between, the decay a half.
    assert slower == [768.0, 0.5]


def test_curves_are_medians_by_quarter_and_reasons_the_share_of_the_looks() -> None:
    looks = [
        {
            "temperature": 50.0 + n,
            "clocks": {"sm": 2e9 - n},
            "power": 300.0,
            "throttle": {"power_cap": n > 5, "gpu_idle": True},
        }
        for n in range(8)
    ]
    values = measured(run(sustained.PROBE, loaded(0.01, *looks)))
    assert [values["temperature_celsius", str(q)] for q in (1, 2, 3, 4)] == [50.5, 52.5, 54.5, 56.5]
    assert values["clock_hertz", "4"] == 2e9 - 6.5
    assert values["power_watts", "1"] == 300.0
    assert {key: value for key, value in values.items() if key[0] == "throttled_ratio"} == {
        ("throttled_ratio", "power_cap"): 0.25
    }


@pytest.mark.parametrize(
    ("decay", "look", "rules"),
    [
        (0.05, {}, []),
        (0.2, {}, [("sustained-slows-down", "held back by nothing that the driver tells")]),
        (0.0, {"throttle": {"sw_thermal": True}, "temperature_margin": 20.0}, [("sustained-overheats", "the voltage regulators")]),
        (0.0, {"throttle": {"hw_thermal": True}, "temperature_margin": 0.0}, [("sustained-overheats", "the core was hot")]),
        (0.0, {"throttle": {"sw_thermal": True}}, [("sustained-overheats", "the card does not tell how hot its core may get")]),
        (0.0, {"throttle": {"power_cap": True}}, []),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(decay: float, look: dict[str, Any], rules: list[tuple[str, str]]) -> None:
    told = found(run(sustained.PROBE, loaded(decay, *[look] * 4)))
    assert [rule for rule, _ in told] == [rule for rule, _ in rules]
    assert all(detail.endswith(end) for (_, detail), (_, end) in zip(told, rules, strict=True))


@pytest.mark.parametrize(
    ("rates", "variation", "rules"),
    [
        ([100.0 - n for n in range(8)], 0.0, []),  # a steady loss is what `decay_ratio` tells
        ([92.0, 108.0, 108.0, 92.0] * 2, 0.08, []),  # by symmetry the trend is flat: 8 of 100 off, always
        ([80.0, 120.0, 120.0, 80.0] * 2, 0.2, ["sustained-unsteady"]),
    ],
)
def test_a_speed_that_comes_and_goes_is_somebody_else_and_one_that_only_falls_is_not(
    rates: list[float], variation: float, rules: list[str]
) -> None:
    world = loaded(0.0, {})
    world.world["workers"]["sustained"].insert(-1, {"kind": "data", "data": {"rates": rates}})
    facts = run(sustained.PROBE, world)
    assert measured(facts)["variation_ratio",] == pytest.approx(variation, abs=1e-6)
    assert [rule for rule, _ in found(facts)] == rules
