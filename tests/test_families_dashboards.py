"""Do the families' dashboards ask what they mean? With the rules they read, and with promtool's own evaluation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.cards import HELD_BACK, PEERS
from dashboards.conditions import DRIVER_CHANGED
from dashboards.findings import findings_table, outcome, outcome_of
from dashboards.hardware import GPU
from dashboards.preview.ask import matching
from dashboards.queries import filled
from exporter.shipped import ALERTS
from exporter.world.nvml import THROTTLE

EVERYTHING = {"job": ".+", "instance": ".+", "check": ".+"}
DRIVER = 'gpucanary_gpu_driver_versions_info{job="gpu-canary",instance="a",check="gpu_driver",cuda="12.8",driver="%s"}'
OUTCOME = 'gpucanary_check_outcome{job="gpu-canary",instance="a",check="c",outcome="%s"}'
ABOUT = 'gpucanary_check_info{job="gpu-canary",instance="a",check="c",probe="disk",family="environment"}'


def values(expr: str, series: dict[str, str], minutes: int, folder: Path, labels: str) -> None:
    """promtool evaluates `expr` at that minute over `series`; AssertionError unless it gives exactly `labels`."""
    asked = {"expr": filled(expr, EVERYTHING), "eval_time": f"{minutes}m", "exp_samples": yaml.safe_load(labels)}
    given = [{"series": name, "values": points} for name, points in series.items()]
    test = {"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": [asked]}]}
    (folder / "test.yml").write_text(yaml.safe_dump(test), encoding="utf-8")
    ended = subprocess.run(["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_hardware_dashboard_reads_every_series_that_peers_are_recorded_as() -> None:
    groups = yaml.safe_load((ALERTS / "peers.yml").read_text(encoding="utf-8"))["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"]}
    assert {name for name in recorded if name.startswith("instance_gpu:")} == {f"instance_gpu:{m}:max" for m in PEERS}


def test_every_reason_that_holds_clocks_down_has_a_word() -> None:
    worded = [reason for _, _, reasons in HELD_BACK.values() for reason in reasons.split("|")]
    assert sorted(worded) == sorted(THROTTLE.keys() - {"gpu_idle"})


def test_a_card_is_chosen_by_its_name_and_selected_by_its_uuid() -> None:
    cards = {"GPU-6f2a": "workstation gpu 1 NVIDIA GeForce RTX 4090", "GPU-0b7e": "10.0.0.7:19835 gpu 0 "}
    found = matching(GPU.regex, [{"uuid": uuid, "card": card} for uuid, card in cards.items()])
    assert found == [("10.0.0.7:19835 gpu 0 ", "GPU-0b7e"), ("workstation gpu 1 NVIDIA GeForce RTX 4090", "GPU-6f2a")]


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("what", "old", "new", "minute", "marked"),
    [
        ("just changed", "1x60 _x60", "_x60 1x60", 65, True),
        ("changed a while ago", "1x60 _x60", "_x60 1x60", 100, False),
        ("the exporter was restarted", "1x60 _x20 1x60", "_x150", 85, False),
        ("first seen", "_x150", "_x60 1x60", 65, False),
    ],
)
def test_a_mark_is_set_where_the_driver_changed_and_nowhere_else(
    what: str, old: str, new: str, minute: int, marked: bool, tmp_path: Path
) -> None:
    expr = DRIVER_CHANGED.build().expr
    assert expr
    expected = f"[{{labels: '{DRIVER % '580'}', value: 1}}]" if marked else "[]"
    values(expr, {DRIVER % "570": old, DRIVER % "580": new}, minute, tmp_path, expected)


@pytest.mark.prometheus
def test_an_outcome_is_a_number_and_a_check_that_never_ran_has_none(tmp_path: Path) -> None:
    labels = '{job="gpu-canary",instance="a",check="c"}'
    failed = {OUTCOME % word: f"{int(word == 'failed')}x5" for word in ("ok", "degraded", "failed", "skipped", "error")}
    values(outcome("environment"), failed | {ABOUT: "1x5"}, 5, tmp_path, f"[{{labels: '{labels}', value: 3}}]")
    values(outcome("environment"), {ABOUT: "1x5"}, 5, tmp_path, "[]")
    values(outcome("hardware"), failed | {ABOUT: "1x5"}, 5, tmp_path, "[]")
    values(outcome_of("disk").expr, failed | {ABOUT: "1x5"}, 5, tmp_path, f"[{{labels: '{labels}', value: 3}}]")


@pytest.mark.prometheus
@pytest.mark.parametrize("known", [True, False])
def test_a_finding_is_listed_whether_or_not_its_remedy_and_links_are_known(known: bool, tmp_path: Path) -> None:
    finding = 'job="gpu-canary",instance="a",check="c",rule="disk-low",severity="warning",subject="/"'
    given = {f"gpucanary_finding{{{finding}}}": "1x5", ABOUT: "1x5"}
    joined = ""
    if known:
        given['gpucanary_rule_info{job="gpu-canary",instance="a",rule="disk-low",remedy="Free it."}'] = "1x5"
        given['gpucanary_links_info{job="gpu-canary",instance="a",self="http://a",grafana=""}'] = "1x5"
        joined = ',remedy="Free it.",self="http://a",family="environment",board="gpucanary-environment"'
    first = findings_table("environment").builder.build().targets
    assert first
    expr = first[0].expr  # type: ignore[attr-defined]
    values(expr, given, 5, tmp_path, f"[{{labels: '{{{finding}{joined},injected=\"no\"}}', value: 2}}]")
