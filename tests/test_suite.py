"""Is every benchmark that was promised configured, on /metrics with its verdict, in `bench`'s table and in the reference?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from exporter import runner
from exporter.about import Own
from exporter.baseline import Past, judged_metrics, remembered
from exporter.commands.bench import HEADS, _rows, selected
from exporter.config import Config
from exporter.config import load as load_config
from exporter.expected import SERIES, held
from exporter.exposition import Exposition
from exporter.judge import judge
from exporter.registry import load
from exporter.result import Check, Latest, Result, Target
from exporter.scores import scores
from exporter.world.token import Token
from probes.testing import RecordedWorld
from tests.conftest import ROOT
from tests.scrape import Series, assert_well_formed, series

# The suite, by the names under which it was promised.
PROMISED = (
    *("matmul", "memory_copy", "host_copy", "peer_copy", "attention", "convolution"),
    *("diffusion_step", "optimisations", "max_batch", "training_step", "llm_decode", "sustained", "corruption"),
    *("disk_io", "model_load", "vram_leak", "command", "monitor_accuracy"),
)
WITH_EXPECTED_VALUE = {"matmul", "memory_copy", "host_copy"}  # what somebody measured across models
CARD = {"device_name": "NVIDIA GeForce RTX 4090", "device_memory": "24 GiB", "pcie_slot": "gen 4 x16"}
REGISTRY = load()
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Ran:
    """A recorded run of a benchmark, with a target on one series, judged by thirty like it."""

    check: Check
    result: Result
    target: Target


def ran(name: str) -> Ran:
    probe = REGISTRY.probes[name]
    recorded = [(_recorded(name, example.params, example.world)) for example in probe.examples]
    check, result = max((pair for pair in recorded if pair[1].measured), key=lambda pair: len(_judged(*pair)))
    result = replace(result, conditions={**result.conditions, **CARD})
    metric = _judged(check, result)[0]
    target = Target(metric, at_least=0.0) if judged_metrics(check)[metric] == "higher" else Target(metric, at_most=1e18)
    better = judged_metrics(check)
    past = Past([remembered(replace(result, started=float(n)), better) for n in range(30)], better)
    return Ran(replace(check, targets=(target,)), judge(held(result), (target,), past), target)


def _recorded(name: str, params: Mapping[str, Any], world: Mapping[str, Any]) -> tuple[Check, Result]:
    probe = REGISTRY.probes[name]
    check = Check(name, probe, probe.params(**params), 3600.0, 60.0)
    return check, runner.run(check, RecordedWorld(world), Token(60.0))


def _judged(check: Check, result: Result) -> list[str]:
    return [m.metric for m in result.measurements if m.metric in judged_metrics(check)]


@pytest.fixture(scope="module")
def runs() -> dict[str, Ran]:
    return {name: ran(name) for name in PROMISED}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The example config with all of it switched on."""
    file = tmp_path_factory.mktemp("config") / "gpu-canary.yml"
    text = (ROOT / "deploy" / "config.example.yml").read_text(encoding="utf-8")
    file.write_text(text.replace("enabled: false", "enabled: true"), encoding="utf-8")
    return load_config(Path(file), REGISTRY.probes)


def scraped(run: Ran) -> Series:
    exposition = Exposition(Own((), "", "").blocks, lambda: b"")
    try:
        exposition.update(run.check, Latest.first(run.result))
        text = exposition.plain().decode()
    finally:
        exposition.close()
    assert_well_formed(text)
    return series(text)


def test_what_was_promised_is_the_family() -> None:
    assert {name for name, probe in REGISTRY.probes.items() if probe.family == "benchmarks"} == set(PROMISED)


def test_each_is_a_check_of_the_example_config(example: Config) -> None:
    assert {check.probe.name for check in example.checks if check.family == "benchmarks"} == set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_each_is_on_metrics_with_its_target_expected_value_baseline_and_verdict(
    runs: dict[str, Ran], name: str
) -> None:
    run = runs[name]
    found = scraped(run)
    metrics = {metric for metric, labels in found if dict(labels).get("check") == name}
    of_target = {metric for metric, labels in found if dict(labels).get("metric") == run.target.metric}
    assert f"gpucanary_{name}_{run.target.metric}" in metrics
    assert {"gpucanary_target_value", "gpucanary_target_met"} <= of_target
    assert {"gpucanary_baseline_median", "gpucanary_baseline_mad", "gpucanary_baseline_runs"} <= of_target
    assert ("gpucanary_expected_value" in metrics) == (name in WITH_EXPECTED_VALUE)
    told = {dict(labels)["verdict"] for metric, labels in found if metric == "gpucanary_verdict_info"}
    assert told == {"ok"}


def test_no_other_benchmark_has_an_expected_value_without_a_test() -> None:
    assert {probe for probe, _ in SERIES} == WITH_EXPECTED_VALUE


def test_bench_runs_all_that_the_example_configures(example: Config) -> None:
    assert {check.probe.name for check in selected((), None, example, REGISTRY)} == set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_each_is_in_the_table_of_bench_with_value_expected_baseline_and_verdict(
    runs: dict[str, Ran], name: str
) -> None:
    run = runs[name]
    made = scores(run.check, [run.result], {})
    rows = [dict(zip(HEADS, row, strict=True)) for row in _rows(run.check, [run.result], made, ())]
    (row, *_) = [row for row in rows if row["SERIES"].startswith(run.target.metric)]
    assert (row["CHECK"], row["VERDICT"], row["BASELINE"]) == (name, "ok", row["VALUE"])
    assert any(row["EXPECTED"] != "-" and row["RATIO"].endswith("%") for row in rows) == (name in WITH_EXPECTED_VALUE)


@pytest.mark.parametrize("name", PROMISED)
def test_each_is_in_the_reference_with_all_its_series_and_rules(name: str) -> None:
    (section,) = re.findall(rf"^### {name}\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    probe = REGISTRY.probes[name]
    assert [m.name for m in probe.metrics if f"`gpucanary_{name}_{m.name}" not in section] == []
    assert [rule.name for rule in probe.rules if f"`{rule.name}`" not in section] == []
