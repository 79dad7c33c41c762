"""What would a scrape of every probe look like? One file, reviewed as a diff; `make golden` rewrites it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from exporter import registry
from exporter.about import Own
from exporter.expected import held
from exporter.exposition import Exposition
from exporter.judge import judge
from exporter.result import Check, Latest, Target
from exporter.runner import run
from exporter.world.token import Token
from probes.params import parse_duration
from probes.testing import RecordedWorld
from tests.scrape import assert_well_formed

GOLDEN = Path(__file__).parent / "golden" / "scrape.txt"
# What differs from run to run or from version to version; the rest is what dashboards and alerts stand on.
VOLATILE = re.compile(r"^(process_|python_|gpucanary_build_info|gpucanary_rule_info)|# (HELP|TYPE) (process_|python_)")

REPEATED = re.compile(r'^gpucanary_check_\w+\{check="(?!disk-0")')  # the house's own series, shown for one check


@pytest.fixture
def exposition():
    made = Exposition(
        Own(registry.load().rules(), "http://grafana.example", "http://canary.example").blocks, lambda: b""
    )
    yield made
    made.close()


def examples():
    """Every example of every probe, as a check of its own with a target on its first metric."""
    for name, probe in sorted(registry.load().probes.items()):
        for number, example in enumerate(probe.examples):
            metric = probe.metrics[0].name if probe.metrics else ""
            targets = (Target(metric, at_least=0.5),) if metric else ()
            every, timeout = parse_duration(probe.every), parse_duration(probe.timeout)
            params = probe.params(**example.params)
            yield Check(f"{name}-{number}", probe, params, every, timeout, targets), example


def scrape(exposition):
    for check, example in examples():
        result = judge(held(run(check, RecordedWorld(example.world), Token(30.0))), check.targets)
        exposition.update(check, Latest.first(replace(result, started=1_700_000_000.0, duration=0.25)))
    text = exposition.plain().decode()
    assert_well_formed(text)
    return "\n".join(line for line in text.splitlines() if not (VOLATILE.match(line) or REPEATED.match(line))) + "\n"


def test_the_scrape_of_every_example_is_the_golden_one(exposition):
    text = scrape(exposition)
    if os.environ.get("GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "run `make golden` and review the diff"


def test_every_metric_of_every_probe_is_in_the_golden_scrape(exposition):
    names = set(re.findall(r"^# TYPE (\S+)", scrape(exposition), re.MULTILINE))
    assert set(registry.metric_names(registry.load().probes.values())) <= names
