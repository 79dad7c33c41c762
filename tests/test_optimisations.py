"""Does each optimisation compute what the unoptimised run does, and is the memory that it saves counted right?"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from exporter import runner
from exporter.exposition import Exposition
from exporter.interpreters import Interpreter
from exporter.judge import judge
from exporter.result import Check, Latest, Target
from exporter.world.token import Token
from exporter.world.workers import WORKERS, Launcher
from probes.api import GIB, Conditions, Fact, Finding, SubjectFailed
from probes.benchmarks import optimisations
from probes.benchmarks.optimisations_rules import ADVICE
from probes.testing import RecordedWorld, run_recorded
from tests.torch_side import TORCH, WorkingWorld, at_our_clock, inside, measured, run

NAMES = set(ADVICE)


def told(facts: list[Fact]) -> dict[str, str]:
    """What is recommended, by optimisation."""
    names = {rule.name: name for name, rule in ADVICE.items()}
    return {names[f.rule]: f.detail for f in facts if isinstance(f, Finding) and f.rule in names}


@pytest.mark.torch
def test_a_real_worker_compares_all_of_them_on_this_processor() -> None:
    facts = run(optimisations.PROBE, WorkingWorld(), seconds="50ms")
    values = measured(facts)
    saved = {name: values["vram_reduction_ratio", name, "cpu"] for name in NAMES}
    assert {key[1] for key in values if key[0] == "time_ratio"} == NAMES
    assert all(0 < ratio < 1 for ratio in saved.values())
    assert saved["recommended"] >= 0.8, "the target of the set, also at the size of a toy"
    assert saved["recommended"] > max(ratio for name, ratio in saved.items() if name != "recommended")
    assert saved["half_precision"] == pytest.approx(0.5, abs=0.01)
    for part, name in (("denoise", "attention_slicing"), ("decode", "vae_tiling"), ("picture", "recommended")):
        before, after = (values["peak_memory_bytes", part, how, "cpu"] for how in ("none", name))
        assert saved[name] == pytest.approx(1 - after / before)
        ratio = values["run_seconds", part, name, "cpu"] / values["run_seconds", part, "none", "cpu"]
        assert values["time_ratio", name, "cpu"] == pytest.approx(ratio)
    stated = [f.values["unoptimised"] for f in facts if isinstance(f, Conditions) and "unoptimised" in f.values]
    assert stated == ["fp32, 2 pictures of 192 pixels each way"]
    assert told(facts) == {}, "a processor has no VRAM that could be short"


@pytest.mark.torch
def test_a_run_is_one_call() -> None:
    values = at_our_clock("optimisations", device="cpu", pixels=64, seconds=1)
    seconds = {value for key, value in values.items() if key[0] == "run_seconds"}
    assert seconds == {0.25}
    assert {value for key, value in values.items() if key[0] == "time_ratio"} == {1.0}


@pytest.mark.torch
def test_the_most_bytes_at_once_are_those_that_a_hand_would_count() -> None:
    chain, unsliced, sliced, offloaded = inside(
        "optimisations",
        """
import io, os
kit = runpy.run_path(os.path.join(os.path.dirname(sys.argv[1]), "kit.py"), run_name="kit")["Kit"](io.StringIO(), "r")
def chain():
    first = torch.zeros(1000)      # 4,000 bytes
    second = first + 1             # 8,000
    first = None                   # 4,000
    third = torch.cat([second, second])  # 12,000: the most
    second = None
    return third.sum()
def attention(*how):
    stack = Stack(torch, "cpu", 256, "denoise", how)
    parts = [torch.randn(4, 256, 8) for _ in "qkv"]
    return kit.peak_bytes(lambda: stack.attend(*parts), 0)
stack = Stack(torch, "cpu", 64, "denoise", ("cpu_offload",))
moved = kit.peak_bytes(lambda: [stack.here(stack.layers[:4]) for _ in range(3)] and None, 0)
print(json.dumps([kit.peak_bytes(chain, 5), attention(), attention("attention_slicing"), [moved, stack.resident]]))
""",
    )
    assert chain == 12_000 + 5
    matrix, out = 256 * 256 * 4, 256 * 8 * 4  # weights and result of one head
    assert unsliced == 2 * 4 * matrix, "the products, and their softmax"
    assert sliced == 2 * matrix + 3 * out, "those of the last head, beside the results of the others"
    assert offloaded == [3 * 12 * 64 * 64 * 4, 2 * 16 * 64 * 4], (
        "three blocks at once; the host's copy is none of the card's"
    )


@pytest.mark.torch
def test_slicing_and_offload_make_the_same_picture() -> None:
    apart = inside(
        "optimisations",
        """
with torch.no_grad():
    whole = Stack(torch, "cpu", 128, "picture", ()).work()
    found = {}
    for how in ("attention_slicing", "vae_slicing", "cpu_offload", "batch_size"):
        found[how] = float((Stack(torch, "cpu", 128, "picture", (how,)).work() - whole).abs().max() / whole.abs().max())
    half = Stack(torch, "cpu", 128, "picture", ("half_precision",)).work()
print(json.dumps([list(whole.shape), found, str(half.dtype), float(whole.abs().max()), bool(whole.std() > 0.1)]))
""",
    )
    shape, found, half, largest, alive = apart
    assert shape == [2, 3, 128, 128]
    assert found.pop("cpu_offload") == 0
    assert all(error < 1e-5 for error in found.values()), found
    assert half == "torch.bfloat16"
    assert alive
    assert largest < 1000, "far from the end of fp16, in which cards run it"


@pytest.mark.torch
def test_tiles_are_what_the_whole_is_where_nothing_beyond_their_edge_is_seen() -> None:
    inner, seams, spread, everywhere = inside(
        "optimisations",
        """
with torch.no_grad():
    whole, tiles = (Stack(torch, "cpu", 640, "decode", how).work() for how in ((), ("vae_tiling",)))
apart = (whole - tiles).abs()
# the first tile ends at 32 of 80 latent pixels and begins to fade at 24; a picture's pixel sees less than 7 around it
print(json.dumps([float(apart[..., :192, :192].max()), float(apart.mean()), float(whole.std()), list(tiles.shape)]))
""",
    )
    assert everywhere == [2, 3, 640, 640]
    assert inner < 1e-4 * spread
    assert 0 < seams < 0.05 * spread


@pytest.mark.torch
def test_gradients_are_the_same_with_checkpoints_and_in_parts() -> None:
    apart = inside(
        "optimisations",
        """
def gradients(*how):
    stack = Stack(torch, "cpu", 128, "training", how)
    stack.work()
    stack.work()  # once more: nothing may be left of the step before
    return torch.cat([weight.grad.flatten() for weight in stack.layers])
whole = gradients()
found = [float((gradients(how) - whole).abs().max()) for how in ("gradient_checkpointing", "gradient_accumulation")]
print(json.dumps([*found, float(whole.abs().max()), float((whole == 0).float().mean())]))
""",
    )
    checkpointed, accumulated, largest, zero = apart
    assert largest > 1e-4
    assert zero < 0.5
    assert checkpointed == pytest.approx(0, abs=1e-6 * largest)
    assert accumulated == pytest.approx(0, abs=1e-4 * largest)


@pytest.mark.torch
def test_where_the_unoptimised_run_does_not_fit_bytes_come_and_no_ratio() -> None:
    params: dict[str, Any] = {"device": "cpu", "pixels": 128, "seconds": "20ms", "memory": "1MiB"}
    facts, end = run_recorded(optimisations.PROBE, params, WorkingWorld())
    values = measured(facts)
    assert end == "not_applicable:unsupported"
    assert ("vram_reduction_ratio", "recommended", "cpu") not in values
    assert 0 < values["peak_memory_bytes", "picture", "recommended", "cpu"] <= 2**20
    assert "the unoptimised run does not fit (picture)" in told(facts)["recommended"]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("words", "end"), [("CUDA out of memory", "not_applicable"), ("an illegal memory access was encountered", "failed")]
)
def test_a_lack_of_memory_is_told_and_anything_else_ends_the_worker(words: str, end: str, tmp_path: Path) -> None:
    source = (WORKERS / "optimisations.py").read_text(encoding="utf-8")
    kernel = "    def whole(self, x, weights):\n"
    assert source.count(kernel) == 1
    broken = source.replace(kernel, f'{kernel}        if len(x) > 1:\n            raise RuntimeError("{words}")\n')
    (tmp_path / "optimisations.py").write_text(broken, encoding="utf-8")
    world = WorkingWorld()
    world._launcher = Launcher(lambda: (Interpreter("here", str(TORCH)),), folder=tmp_path)
    facts, ended = run_recorded(optimisations.PROBE, {"device": "cpu", "pixels": 64, "seconds": "20ms"}, world)
    assert ended.startswith(end)
    values = measured(facts)
    assert ("peak_memory_bytes", "decode", "none", "cpu") not in values
    assert (("peak_memory_bytes", "picture", "recommended", "cpu") in values) == (end == "not_applicable")
    assert (("vram_reduction_ratio", "gradient_checkpointing", "cpu") in values) == (end == "not_applicable")


def recorded(free: float, saved: float) -> RecordedWorld:
    labels = {"optimisation": "vae_tiling", "device": "cuda"}
    peaks = [("none", 2.0 * GIB), ("vae_tiling", 2 * GIB * (1 - saved))]
    rows: list[dict[str, Any]] = [
        {"kind": "start", "data": {"device": "cuda"}},
        {"kind": "data", "data": {"pixels": 640, "pictures": 2, "free_bytes": free}},
    ]
    for name, held in peaks:
        told = {"part": "decode", "optimisation": name, "device": "cuda"}
        rows.append({"kind": "fact", "metric": "peak_memory_bytes", "value": held, "labels": told})
    rows.append({"kind": "fact", "metric": "vram_reduction_ratio", "value": saved, "labels": labels})
    rows.append({"kind": "fact", "metric": "time_ratio", "value": 1.25, "labels": labels})
    gpus = {"library": True, "gpus": [{"index": 0, "uuid": "GPU-1"}]}
    return RecordedWorld({"gpus": gpus, "workers": {"optimisations": [*rows, {"kind": "end"}]}})


def test_what_saves_something_is_recommended_where_vram_is_short_and_only_there() -> None:
    def advised(free: float, saved: float = 0.75, **params: Any) -> dict[str, str]:
        return told(run(optimisations.PROBE, recorded(free, saved), **params))

    short = {"vae_tiling": "saves 75% of 2.00 GiB (decode) and takes 1.25 times as long; 8.0 GiB are free"}
    assert advised(8 * GIB) == short
    assert advised(12e9) == {}
    assert list(advised(12e9 - 1)) == ["vae_tiling"]
    assert advised(8 * GIB, enough="6GiB") == {}
    assert list(advised(20 * GIB, enough="24GB")) == ["vae_tiling"]
    assert list(advised(20 * GIB, memory="8GiB")) == ["vae_tiling"], "as if the card had no more"
    assert advised(8 * GIB, saved=0.05) == {}, "a twentieth is not worth it"


def test_the_target_of_the_recommended_set_is_judged_where_there_is_a_ratio_and_skipped_where_there_is_none() -> None:
    target = Target("vram_reduction_ratio", at_least=0.8, labels={"optimisation": "recommended"})

    def ended(example: int, share: float = 1.0) -> tuple[str, list[str], bool]:
        world = copy.deepcopy(optimisations.PROBE.examples[example].world)
        for row in world["workers"]["optimisations"]:  # type: ignore[index, call-overload]
            if row.get("metric") == "vram_reduction_ratio":
                row["value"] *= share
        check = Check("optimisations", optimisations.PROBE, optimisations.PROBE.params(), 86400, 300, (target,))
        result = judge(runner.run(check, RecordedWorld(world), Token(300)), check.targets)
        shown = Exposition(dict, lambda: b"")
        shown.update(check, Latest.first(result))
        text = shown.plain().decode()
        shown.close()
        missed = [f.subject for f in result.findings if f.rule == "target-missed"]
        return (
            result.outcome,
            missed,
            'optimisation="recommended"' in text and "optimisations_peak_memory_bytes" in text,
        )

    assert ended(0) == ("ok", [], True)
    subject = "vram_reduction_ratio{optimisation=recommended,device=cuda}"
    assert ended(0, share=0.8) == ("degraded", [subject], True)
    assert ended(2) == ("skipped", [], True), (
        "the card cannot hold the unoptimised run: its bytes are there all the same"
    )


def test_each_optimisation_of_the_worker_has_its_advice_and_its_command() -> None:
    runs, chosen = inside("optimisations", "print(json.dumps([RUNS, RECOMMENDED]))")
    assert {name for names in runs.values() for name in names} == {"none", *NAMES}
    assert set(chosen) < NAMES
    for call in ("attention_slicing", "vae.enable_tiling", "vae.enable_slicing", "cpu_offload", "torch.float16"):
        assert call in ADVICE["recommended"].remedy


@pytest.mark.torch
def test_each_class_of_cards_holds_the_unoptimised_runs() -> None:
    card, pixels, pictures = inside("optimisations", "print(json.dumps([CARD, PIXELS, PICTURES]))")
    width, heads, blocks, channels = card
    for least, side in pixels:
        weights = 12 * width * width * 4 * blocks
        tokens, trained = ((side * share // 64) ** 2 for share in (4, 3))
        denoise = weights + 2 * pictures * heads * tokens**2 * 4 + 10 * pictures * tokens * width * 4
        decode = 5 * pictures * channels[-1] * side**2 * 4
        kept = pictures * (heads * trained**2 + 24 * trained * width) * 4  # of each block, until the way back
        training = 2 * weights + blocks * kept + 2 * pictures * heads * trained**2 * 4
        assert max(denoise, weights + decode, training) < 0.75 * (least or 4 * GIB), side


def test_a_worker_that_fails_says_so() -> None:
    world = RecordedWorld({"workers": {"optimisations": {"rows": [], "rule": "worker-late", "detail": "not done"}}})
    with pytest.raises(SubjectFailed, match="worker-late"):
        run(optimisations.PROBE, world)
