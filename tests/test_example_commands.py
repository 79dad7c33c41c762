"""Do the example configs of deploy/examples/ run? Their commands, against small stand-ins that really use torch."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter import registry
from exporter.config import load
from exporter.interpreters import Interpreter
from exporter.judge import judge
from exporter.result import Check, Result
from exporter.runner import run
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import Json, Row
from probes.benchmarks.optimisations_rules import BATCH, CHECKPOINTING, HALF, RESOLUTION
from probes.testing import RecordedWorld
from tests.torch_side import TORCH

ROOT = Path(__file__).parent.parent
STAND_INS = ROOT / "tests" / "standins"
HOMES = {"wan": "Wan2.2", "comfyui": "ComfyUI", "dreambooth": "dreambooth"}  # by the example's file


class Workstation(RecordedWorld):
    """A machine without a card whose Pythons are those of one config."""

    def __init__(self, interpreters: Mapping[str, str], token: Token) -> None:
        super().__init__({})
        found = tuple(Interpreter(name, str(Path(path).expanduser())) for name, path in interpreters.items())
        self._launcher, self._token = Launcher(lambda: found), token

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        return self._launcher.rows(name, params, interpreter=interpreter, gpu=gpu, token=self._token)


def commands() -> list[tuple[str, str]]:
    """Every check of the probe `command` in the examples: file and name."""
    probes = registry.load().probes
    configs = {path.stem: load(path, probes) for path in sorted((ROOT / "deploy" / "examples").glob("*.yml"))}
    return [(stem, c.name) for stem, config in configs.items() for c in config.checks if c.probe.name == "command"]


def result_of(
    stem: str, name: str, home: Path, monkeypatch: pytest.MonkeyPatch, without: str = ""
) -> tuple[Check, Result]:
    """One run of that check, judged, in a home that has the stand-in where the config looks for the app."""
    monkeypatch.setenv("HOME", str(home))
    folder = home / HOMES[stem]
    shutil.copytree(STAND_INS / stem, folder, ignore=shutil.ignore_patterns(without))
    (folder / "venv").symlink_to(TORCH.parent.parent.resolve())
    config = load(ROOT / "deploy" / "examples" / f"{stem}.yml", registry.load().probes)
    check = next(check for check in config.checks if check.name == name)
    token = Token(120.0)
    return check, judge(run(check, Workstation(config.interpreters, token), token), check.targets)


def test_the_sources_commands_are_checks() -> None:
    assert [name for stem, name in commands() if stem == "wan"] == [
        "vram_test", "app_benchmark", "app_profile", "video_720p", "video_1080p",
    ]  # fmt: skip
    assert {stem for stem, _ in commands()} == set(HOMES)


def test_the_training_is_told_to_save_what_the_remedies_say_it_can() -> None:
    config = load(ROOT / "deploy" / "examples" / "dreambooth.yml", registry.load().probes)
    (check,) = config.checks
    flags = set(check.params.command)  # type: ignore[attr-defined]
    remedies = CHECKPOINTING.remedy + HALF.remedy + BATCH.remedy + RESOLUTION.remedy
    named = set(re.findall(r"--[a-z_]+(?:=[0-9]+)?", remedies))
    assert named == {"--gradient_checkpointing", "--mixed_precision", "--train_batch_size=1", "--resolution=512"}
    assert named - {"--mixed_precision"} | {"--mixed_precision=fp16"} <= flags


@pytest.mark.torch
@pytest.mark.skipif(sys.platform == "win32", reason="the examples name Pythons as POSIX has them")
@pytest.mark.parametrize(("stem", "name"), commands())
def test_a_command_of_the_examples_runs_and_tells_what_its_check_asks(
    stem: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, result = result_of(stem, name, tmp_path, monkeypatch)
    told = {(m.metric, *(v for _, v in m.labels)): m.value for m in result.measurements}
    assert told["exit_code",] == 0, result.evidence
    assert {key[1] for key in told if key[0] == "figures"} == set(check.params.figures)  # type: ignore[attr-defined]
    assert told["wall_seconds",] > 0
    assert result.conditions["torch"]
    # There is no card here, so nothing is known of its memory or work, and a target on what is unknown is no pass.
    of_cards = [
        t.metric for t in check.targets if t.metric in {"peak_vram_bytes", "gpu_utilization_ratio", "gpu_power_watts"}
    ]
    unknown = [("target-missed", metric) for metric in of_cards]
    assert [(f.rule, f.subject) for f in result.findings] == unknown


@pytest.mark.torch
def test_a_generation_that_fails_meets_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, result = result_of("wan", "video_720p", tmp_path, monkeypatch, without="generate.py")
    assert result.outcome == "failed"
    assert [(f.rule, f.subject) for f in result.findings] == [("command-failed", "")]
    assert [m.metric for m in result.measurements if m.metric == "wall_seconds"] == []


# -- docs/programs.md ------------------------------------------------------------------------------------------------


def shown(language: str) -> str:
    page = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
    return "".join(re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL))


def test_the_config_of_the_page_on_own_programs_is_one(tmp_path: Path) -> None:
    (tmp_path / "canary.yml").write_text(shown("yaml"), encoding="utf-8")
    config = load(tmp_path / "canary.yml", registry.load().probes)
    assert [check.name for check in config.checks] == ["video_720p", "profile", "raid"]


@pytest.mark.torch
def test_a_program_with_the_lines_of_that_page_tells_its_fragmentation() -> None:
    token = Token(120.0)
    world = Workstation({"torch": str(TORCH)}, token)
    params = {"command": ["python", "-c", shown("python")], "interpreter": "torch", "device": "cpu"}
    probe = registry.load().probes["command"]
    result = run(Check("own", probe, probe.params.model_validate(params), 3600.0, 120.0), world, token)
    told = {(m.metric, *(v for _, v in m.labels)): m.value for m in result.measurements}
    assert told["figures", "vram_fragmentation_ratio"] == 0.0, result.evidence  # without a card nothing is held
    assert result.outcome == "ok"
