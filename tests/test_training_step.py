"""Does training_step learn, and does it see a training that goes on otherwise after it was killed?"""

from __future__ import annotations

from typing import Any

import pytest

from exporter.world.workers import OUT_OF_MEMORY_WORDS
from probes.api import Fact, Finding, Json
from probes.benchmarks import training_step
from probes.testing import RecordedWorld
from tests.torch_side import WorkingWorld, inside, measured, run

NAMES = ["step_seconds", "checkpoint_load_seconds", "checkpoint_save_seconds", "checkpoint_bytes"]

# One torch for all: the worker's own `bench` again and again, its second process beside it in this one (the real one is
# in the first test), and now and then with a method that forgets something.
RUNS = """
import os, tempfile
names = bench.__globals__
real, straight = names["killed"], {name: getattr(Training, name) for name in ("step", "load")}

def beside(device, shape, path):
    torch.use_deterministic_algorithms(True)
    training = Training(torch, device, shape)
    [training.step() for _ in range(STEPS)]
    training.save(path)
    training.step()

class Kit:
    cuda = None
    def torch(self, device): return torch, "cpu"
    def fitting(self, classes, cpu): return cpu
    def budget(self, params, cuda, cpu=2.0): return 0.0
    def seconds(self, work, budget): return 1.0
    def clock(self): return 0.0
    def progress(self, *_): pass
    def fact(self, *_, **__): pass
    def data(self, **data): self.said = data

def ran(**instead):
    for name, method in {**straight, **instead}.items():
        setattr(Training, name, method)
    kit = Kit()
    bench(kit, {})
    return kit.said

def without(part):
    def load(self, path):
        kept = {"optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state()}[part]
        straight["load"](self, path)
        if part == "optimizer":
            self.optimizer.load_state_dict(kept)
        else:
            self.generator.set_state(kept)
    return load

def wrong(loss):
    return lambda self, after=None: (straight["step"](self), loss)[1]

os.chdir(tempfile.mkdtemp())
names["killed"] = beside
told = {
    "straight": ran(),
    "no optimizer": ran(load=without("optimizer")),
    "no generator": ran(load=without("generator")),
    "not finite": ran(step=wrong(float("nan"))),
    "stays": ran(step=wrong(1.0)),
}
for name, method in straight.items():
    setattr(Training, name, method)
told["weights"] = sum(p.numel() for p in network(torch, TOY[0]).parameters())

training = Training(torch, "cpu", TOY)
weight = training.model.last[2].weight
before = weight.detach().clone()
chosen = torch.randperm(PICTURES, generator=torch.Generator().manual_seed(1))[:BATCH]
said = training.model(0.7 * training.pictures[chosen] + 0.7 * training.noise[chosen], training.text)
by_hand = float(((said - training.noise[chosen]) ** 2).mean())
(gradient,) = torch.autograd.grad(((said - training.noise[chosen]) ** 2).mean(), weight)
loss = training.step()
# AdamW's first step: decay by lr x 0.01, then lr times the gradient's sign (its moments are the gradient and its square)
expected = before * (1 - 3e-4 * 0.01) - 3e-4 * gradient / (gradient.abs() + 1e-8)
told["first step"] = [float((weight - expected).abs().max()), abs(loss - by_hand)]

with open("training_step.py", "w") as file:  # its second process ends by itself, before torch
    file.write(open(sys.argv[1]).read().replace("        import torch\\n", '        raise RuntimeError("CUDA out\\\\nof memory")\\n'))
names["__file__"] = os.path.abspath("training_step.py")
try:
    real("cpu", TOY, "checkpoint.pt")
except RuntimeError as error:
    told["ended before"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> Any:
    return inside("training_step", RUNS)


def judged(losses: Json) -> list[tuple[str, str]]:
    """Rules that the probe fires for what the worker told."""
    fact = {"kind": "fact", "metric": "step_seconds", "value": 1.0, "labels": {"device": "cpu"}}
    rows = [{"kind": "start", "data": {"device": "cpu"}}, fact, {"kind": "data", "data": losses}, {"kind": "end"}]
    return found(run(training_step.PROBE, RecordedWorld({"workers": {"training_step": rows}})))


def found(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(f.rule, f.severity) for f in facts if isinstance(f, Finding)]


@pytest.mark.torch
def test_a_killed_training_goes_on_exactly_and_learns_on_this_processor(told: Any) -> None:
    facts = run(training_step.PROBE, WorkingWorld(), seconds="50ms")
    values = measured(facts)
    assert list(values) == [*((name, "cpu") for name in NAMES), ("loss_ratio",)]
    assert found(facts) == []
    assert 0.1 < values["loss_ratio",] < 1
    # four bytes each for the weight and its two moments; the rest names them, and grows with their count, not their size
    weights = told["weights"]
    assert 12 * weights < values["checkpoint_bytes", "cpu"] < 12 * weights + 64 * 1024


@pytest.mark.torch
@pytest.mark.parametrize(
    ("ran", "rules"),
    [
        ("straight", []),
        ("no optimizer", [("training-step-resume-differs", "critical")]),
        ("no generator", [("training-step-resume-differs", "critical")]),
        ("not finite", [("training-step-loss-not-finite", "critical")]),
        ("stays", [("training-step-loss-stays", "warning")]),
    ],
)
def test_a_checkpoint_that_forgets_something_and_a_loss_that_is_wrong_are_found(
    told: Any, ran: str, rules: list[tuple[str, str]]
) -> None:
    assert judged(told[ran]) == rules


@pytest.mark.torch
def test_the_end_of_the_other_process_by_itself_is_told_in_its_words(told: Any) -> None:
    assert told["ended before"].endswith("ended before: RuntimeError: CUDA out of memory")
    assert OUT_OF_MEMORY_WORDS.search(told["ended before"])


@pytest.mark.torch
def test_the_optimizer_does_what_a_hand_calculation_says(told: Any) -> None:
    worst, loss = told["first step"]
    assert worst < 1e-6
    assert loss < 1e-6
