"""Does training_step learn, and does it see a training that goes on otherwise after it was killed?"""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.interpreters import Interpreter
from exporter.world.workers import WORKERS, Launcher
from probes.api import Fact, Finding, SubjectFailed
from probes.benchmarks import training_step
from tests.torch_side import TORCH, WorkingWorld, inside, measured, run

NAMES = ["step_seconds", "checkpoint_load_seconds", "checkpoint_save_seconds", "checkpoint_bytes"]


def changed(folder: Path, old: str, new: str) -> WorkingWorld:
    """A world whose worker has that line in the place of another."""
    source = (WORKERS / "training_step.py").read_text(encoding="utf-8")
    assert source.count(old) == 1
    (folder / "training_step.py").write_text(source.replace(old, new), encoding="utf-8")
    world = WorkingWorld()
    world._launcher = Launcher(lambda: (Interpreter("here", str(TORCH)),), folder=folder)
    return world


def found(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(f.rule, f.severity) for f in facts if isinstance(f, Finding)]


@pytest.mark.torch
def test_a_killed_training_goes_on_exactly_and_learns_on_this_processor() -> None:
    facts = run(training_step.PROBE, WorkingWorld(), seconds="100ms")
    values = measured(facts)
    assert list(values) == [*((name, "cpu") for name in NAMES), ("loss_ratio",)]
    assert found(facts) == []
    assert 0.1 < values["loss_ratio",] < 1
    weights = inside("training_step", "print(json.dumps(sum(p.numel() for p in network(torch, TOY[0]).parameters())))")
    # four bytes each for the weight and its two moments; the rest names them, and grows with their count, not their size
    assert 12 * weights < values["checkpoint_bytes", "cpu"] < 12 * weights + 64 * 1024


@pytest.mark.torch
@pytest.mark.parametrize(
    ("forgotten", "instead"),
    [
        ('self.optimizer.load_state_dict(state["optimizer"])', "pass"),
        ('self.generator.set_state(state["generator"].cpu())', "pass"),
    ],
)
def test_a_checkpoint_that_forgets_something_is_critical(tmp_path: Path, forgotten: str, instead: str) -> None:
    facts = run(training_step.PROBE, changed(tmp_path, forgotten, instead), seconds="100ms")
    assert found(facts) == [("training-step-resume-differs", "critical")]


@pytest.mark.torch
def test_the_end_of_the_other_process_by_itself_is_told_in_its_words(tmp_path: Path) -> None:
    world = changed(
        tmp_path, "training.save(path)\n        print", 'raise RuntimeError("CUDA out of memory")\n        print'
    )
    with pytest.raises(SubjectFailed, match=r"worker-out-of-memory.*CUDA out of memory"):
        run(training_step.PROBE, world, seconds="100ms")


@pytest.mark.torch
def test_a_loss_that_is_no_number_is_critical_and_one_that_stays_a_warning(tmp_path: Path) -> None:
    broken = changed(tmp_path, "return loss.item()", 'return float("nan")')
    assert found(run(training_step.PROBE, broken, seconds="100ms")) == [("training-step-loss-not-finite", "critical")]
    stays = changed(tmp_path, "return loss.item()", "return 1.0")
    assert found(run(training_step.PROBE, stays, seconds="100ms")) == [("training-step-loss-stays", "warning")]


@pytest.mark.torch
def test_the_optimizer_does_what_a_hand_calculation_says() -> None:
    worst, loss = inside(
        "training_step",
        """
training = Training(torch, "cpu", TOY)
weight = training.model.last[2].weight
before = weight.detach().clone()
chosen = torch.randperm(PICTURES, generator=torch.Generator().manual_seed(1))[:BATCH]
said = training.model(0.7 * training.pictures[chosen] + 0.7 * training.noise[chosen], training.text)
by_hand = float(((said - training.noise[chosen]) ** 2).mean())
(gradient,) = torch.autograd.grad(((said - training.noise[chosen]) ** 2).mean(), weight)
told = training.step()
# AdamW's first step: decay by lr x 0.01, then lr times the gradient's sign (its moments are the gradient and its square)
expected = before * (1 - 3e-4 * 0.01) - 3e-4 * gradient / (gradient.abs() + 1e-8)
print(json.dumps([float((weight - expected).abs().max()), abs(told - by_hand)]))
""",
    )
    assert worst < 1e-6
    assert loss < 1e-6
