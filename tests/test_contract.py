"""Does every probe keep the contract, alone and beside the others? (DESIGN.md section 4)"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from exporter import runner
from exporter.exposition import Exposition
from exporter.registry import HOUSE_PREFIXES, load, metric_names
from exporter.result import Check, Latest
from exporter.world.token import Token
from probes import BUILTIN
from probes.api import FAMILIES, Example, Probe
from probes.params import parse_duration
from probes.testing import RecordedWorld, verify
from tests.scrape import assert_well_formed, series

REGISTRY = load()
PROBES = sorted(REGISTRY.probes.values(), key=lambda probe: probe.name)
RULES = sorted(REGISTRY.rules(), key=lambda rule: rule.name)
EXAMPLES = [(probe, example) for probe in PROBES for example in probe.examples]

each_probe = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)


@each_probe
def test_a_probe_keeps_every_promise_of_the_contract(probe: Probe[Any]) -> None:
    assert verify(probe) == []


@pytest.mark.parametrize(("probe", "example"), EXAMPLES, ids=[f"{p.name}: {e.title}" for p, e in EXAMPLES])
def test_an_example_ends_as_a_result_and_a_well_formed_scrape(probe: Probe[Any], example: Example) -> None:
    params = probe.params(**example.params)
    check = Check("example", probe, params, parse_duration(probe.every), parse_duration(probe.timeout))
    result = runner.run(check, RecordedWorld(example.world), Token(check.timeout))
    assert result.outcome != "error", result.detail
    assert (result.outcome == "skipped") == bool(example.skip)
    exposition = Exposition(dict, lambda: b"")
    exposition.update(check, Latest.first(result))
    text = exposition.plain().decode()
    exposition.close()
    assert_well_formed(text)
    shown = {name for name, _ in series(text) if name in set(metric_names([probe]))}
    assert len(shown) == len({m.metric for m in result.measurements if result.measured})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_remedy_is_numbered_steps_with_a_command_in_them(rule: Any) -> None:
    steps = [line for line in rule.remedy.splitlines() if not line.startswith(" ")]
    assert [re.match(r"(\d+)\. \S", step) is not None for step in steps] == [True] * len(steps)
    assert [int(step.partition(".")[0]) for step in steps] == list(range(1, len(steps) + 1))
    assert re.search(r"`[^`]+`", rule.remedy)


def test_no_two_probes_share_a_metric_or_a_rule() -> None:
    names = Counter([*metric_names(PROBES), *(rule.name for rule in RULES)])
    assert [name for name, count in names.items() if count > 1] == []


@each_probe
def test_no_metric_of_a_probe_looks_like_one_of_the_house(probe: Probe[Any]) -> None:
    assert probe.name.split("_")[0] not in HOUSE_PREFIXES


def test_the_registry_holds_the_listed_probes_under_their_own_names_and_families() -> None:
    ours = {name: probe for name, probe in REGISTRY.probes.items() if REGISTRY.sources[name] == "gpu-canary"}
    assert {name: probe.name for name, probe in ours.items()} == {name: name for name in ours}
    listed = {stem: family for family, stems in BUILTIN.items() for stem in stems}
    assert {name: probe.family for name, probe in ours.items()} == listed
    assert tuple(BUILTIN) == tuple(FAMILIES)
