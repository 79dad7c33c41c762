"""What do probes and workers do with a real torch? Real workers for tests, and their arithmetic under a clock of ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exporter.interpreters import Interpreter
from exporter.world.token import Token
from exporter.world.workers import WORKERS, Launcher
from probes.api import Fact, Json, Measurement, Probe, Row
from probes.testing import RecordedWorld

TORCH = Path(__file__).parent.parent / ".venv-torch" / "bin" / "python"
CALM = Path(__file__).parent / "torch_python"  # the same on one thread
TICK = 0.25  # seconds: every call that a worker times takes exactly this long under `at_our_clock`

# kit.py as it is, under a clock that goes on by a tick whenever it is read.
CLOCKED = """
import io, itertools, json, runpy, sys, warnings
warnings.simplefilter("ignore")
kit, worker, params, tick = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
rows, ticks = io.StringIO(), itertools.count()
names = runpy.run_path(kit, run_name="kit")
bench = runpy.run_path(worker, run_name="bench")
bench["bench"](names["Kit"](rows, "r", lambda: tick * next(ticks)), params)
print(rows.getvalue())
"""
# A worker's functions by name, torch, and what the test says.
INSIDE = """
import json, runpy, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.manual_seed(7)
globals().update(runpy.run_path(sys.argv[1], run_name="bench"))
"""


class WorkingWorld(RecordedWorld):
    """A recorded world whose workers are real."""

    def __init__(self, world: Mapping[str, Any] | None = None, python: str = str(CALM)) -> None:
        super().__init__(world)
        self._launcher = Launcher(lambda: (Interpreter("here", python),))

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        return self._launcher.rows(name, params, interpreter=interpreter, gpu=gpu, token=Token(60.0))


def run(probe: Probe[Any], world: RecordedWorld, **params: Json) -> list[Fact]:
    """One run of the probe itself, without the runner."""
    return list(probe.run(probe.params(**params), world))


def measured(facts: list[Fact]) -> dict[tuple[str, ...], float]:
    """Values by metric and label values."""
    return {(f.metric, *(v for _, v in f.labels)): f.value for f in facts if isinstance(f, Measurement)}


def at_our_clock(stem: str, **params: Json) -> dict[tuple[str, ...], float]:
    """What that worker measures on the CPU when every timed call takes `TICK` seconds: its arithmetic alone."""
    said = _python(CLOCKED, str(WORKERS / "kit.py"), str(WORKERS / f"{stem}.py"), json.dumps(params), str(TICK))
    rows = [json.loads(line) for line in said.splitlines() if line]
    return {(row["metric"], *row["labels"].values()): row["value"] for row in rows if row["kind"] == "fact"}


def inside(stem: str, code: str) -> Any:
    """What `code` prints as JSON, run by the user's Python with the functions of that worker and torch at hand."""
    return json.loads(_python(INSIDE + code, str(WORKERS / f"{stem}.py")))


def _python(code: str, *arguments: str) -> str:
    ended = subprocess.run([CALM, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout
