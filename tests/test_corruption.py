"""Does corruption see a single flipped bit, at once and against what the card computed before a restart?"""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.interpreters import Interpreter
from exporter.world.workers import WORKERS, Launcher
from probes.api import Conditions, Fact, Finding, Remember
from probes.benchmarks import corruption
from probes.testing import RecordedWorld
from tests.torch_side import CALM, WorkingWorld, at_our_clock, inside, measured, run

KERNELS = ("product", "softmax", "sort", "copy")
# Appended to a copy of the worker: one bit of one value of the product's third output is another one.
FLIPPED = """
straight = made
def made(torch, *arguments):
    kernels, calls = straight(torch, *arguments), []
    product = kernels["product"]
    def flipping():
        output = product()
        calls.append(1)
        if len(calls) == 3:
            output.view(torch.int32)[5, 7] ^= 1
        return output
    return {**kernels, "product": flipping}
"""


def found(facts: list[Fact]) -> list[tuple[str, str, str]]:
    return [(f.rule, f.severity, f.detail) for f in facts if isinstance(f, Finding)]


def remembered(facts: list[Fact]) -> dict[str, dict[str, dict[str, str]]]:
    return next(dict(f.data) for f in reversed(facts) if isinstance(f, Remember))  # type: ignore[arg-type]


@pytest.mark.torch
def test_this_processor_computes_the_same_bits_in_one_run_and_in_the_next_process() -> None:
    first = run(corruption.PROBE, WorkingWorld(), seconds="100ms")
    values = measured(first)
    assert list(values) == [(m, k, "cpu") for k in KERNELS for m in ("compared_values", "differing_values")]
    assert all(values["differing_values", kernel, "cpu"] == 0 for kernel in KERNELS)
    assert values["compared_values", "product", "cpu"] % 256**2 == 0
    (reference,) = remembered(first)["references"].values()
    assert list(reference) == list(KERNELS)
    again = run(corruption.PROBE, WorkingWorld({"previous": remembered(first)}), seconds="100ms")
    assert (found(again), remembered(again)) == ([], remembered(first))
    other = run(corruption.PROBE, WorkingWorld({"previous": remembered(first)}), seconds="100ms", seed=1)
    assert (found(other), len(remembered(other)["references"])) == ([], 2)


@pytest.mark.torch
def test_one_flipped_bit_of_one_output_is_a_critical_finding_and_no_reference(tmp_path: Path) -> None:
    source = (WORKERS / "corruption.py").read_text(encoding="utf-8")
    (tmp_path / "corruption.py").write_text(source + FLIPPED, encoding="utf-8")
    world = WorkingWorld()
    world._launcher = Launcher(lambda: (Interpreter("here", str(CALM)),), folder=tmp_path)
    facts = run(corruption.PROBE, world, seconds="400ms")
    assert found(facts) == [("corruption-bits-differ", "critical", "product: 1 values differ from the first output")]
    assert measured(facts)["differing_values", "product", "cpu"] == 1
    (reference,) = remembered(facts)["references"].values()
    assert list(reference) == ["softmax", "sort", "copy"]


@pytest.mark.torch
def test_other_bits_than_before_the_restart_are_a_critical_finding_until_they_are_right_again() -> None:
    past = remembered(run(corruption.PROBE, WorkingWorld(), seconds="50ms"))
    ((key, reference),) = past["references"].items()
    digest = reference["sort"]
    reference["sort"] = f"{int(digest, 16) ^ 1:064x}"
    facts = run(corruption.PROBE, WorkingWorld({"previous": past}), seconds="50ms")
    assert found(facts) == [("corruption-reference-differs", "critical", "sort: not the bits of earlier runs")]
    assert remembered(facts)["references"][key] == reference, "the reference stays what it was"


@pytest.mark.torch
def test_values_are_counted_as_by_hand() -> None:
    # A kernel may take 2 / 4 s, and a look at the clock is 0.25 s: begun at 0, then 0.25 and 0.5; so two repetitions.
    values = at_our_clock("corruption", device="cpu", seconds=2)
    assert values["compared_values", "product", "cpu"] == 2 * 256 * 256
    assert values["compared_values", "copy", "cpu"] == 2 * 2**20 / 4
    assert sum(value for key, value in values.items() if key[0] == "differing_values") == 0


@pytest.mark.torch
def test_bits_are_compared_not_numbers_and_the_digest_is_of_all_of_them() -> None:
    same, signed, digests = inside(
        "corruption",
        """
odd = torch.tensor([[float("nan"), 0.0], [1.0, float("inf")]])
zero = odd.clone(); zero[0, 1] = -0.0
import hashlib, struct
by_hand = hashlib.sha256(struct.pack("2q", 2, 2) + struct.pack("4f", *odd.flatten().tolist())).hexdigest()
print(json.dumps([differences(torch, odd, odd.clone()), differences(torch, odd, zero),
                  [digest(torch, odd) == by_hand, digest(torch, odd) == digest(torch, zero)]]))
""",
    )
    assert (same, signed, digests) == (0, 1, [True, False])


FACTS = [{"kind": "fact", "metric": "compared_values", "value": 9, "labels": {"kernel": "copy", "device": "cuda"}}]
START = {"kind": "start", "data": {"device": "cuda", "uuid": "GPU-1"}}
DAY = 86400.0


def computed(differing: int, at: float, past: list[Fact]) -> list[Fact]:
    """A run at that time, after one that left these facts."""
    fact = {**FACTS[0], "metric": "differing_values", "value": differing}
    data = {"kind": "data", "data": {"kernel": "copy", "digest": "d"}}
    told = [START, data, *FACTS, fact, {"kind": "end", "data": {}}]
    world = RecordedWorld({"now": at, "previous": remembered(past) if past else {}, "workers": {"corruption": told}})
    return run(corruption.PROBE, world)


def test_a_right_run_does_not_make_a_wrong_one_forgotten_for_a_week() -> None:
    wrong = computed(2, 0.0, [])
    assert [rule for rule, *_ in found(wrong)] == ["corruption-bits-differ"]
    right = computed(0, DAY / 2, wrong)
    assert found(right) == [("corruption-seen", "warning", "wrong bits 12 hours ago, right ones now")]
    assert [rule for rule, *_ in found(computed(0, 6.9 * DAY, right))] == ["corruption-seen"]
    assert [rule for rule, *_ in found(computed(1, 6.9 * DAY, right))] == ["corruption-bits-differ"]
    assert found(computed(0, 7.1 * DAY, right)) == []
    assert "wrong" not in remembered(computed(0, 7.1 * DAY, right)), "and nothing of it is kept"


def test_a_wrong_bit_is_remembered_also_when_the_run_is_stopped_at_that_moment() -> None:
    facts = iter(corruption.PROBE.run(corruption.CorruptionParams(), RecordedWorld({"workers": {"corruption": [
        START, {**FACTS[0], "metric": "differing_values", "value": 1},
    ]}})))  # fmt: skip
    until_found: list[Fact] = []
    while not found(until_found):
        until_found.append(next(facts))
    assert remembered(until_found)["wrong"]


def test_another_processor_begins_a_reference_of_its_own_for_the_inputs_come_from_it() -> None:
    def seen(processor: str, digest: str, past: list[Fact]) -> list[Fact]:
        start = {"kind": "start", "data": {"device": "cpu", "processor": processor}}
        data = {"kind": "data", "data": {"kernel": "copy", "digest": digest}}
        rows = [start, data, *FACTS, {"kind": "end", "data": {}}]
        world = RecordedWorld({"previous": remembered(past) if past else {}, "workers": {"corruption": rows}})
        return run(corruption.PROBE, world)

    first = seen("EPYC 7763", "d", [])
    assert found(seen("EPYC 9654", "e", first)) == []
    assert [rule for rule, *_ in found(seen("EPYC 7763", "e", first))] == ["corruption-reference-differs"]


@pytest.mark.torch
def test_the_worker_tells_whose_processor_it_was() -> None:
    known = {
        k: v
        for f in run(corruption.PROBE, WorkingWorld(), seconds="10ms")
        if isinstance(f, Conditions)
        for k, v in f.values.items()
    }
    assert known["processor"]
