"""What does a probe ask, what may it be told, and what do its answers mean?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from exporter import registry
from exporter.config.conversion import dump
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from exporter.registry import Registry
from exporter.units import human
from probes.api import HOUSE_RULES, Metric, Probe, Rule


def main(args: argparse.Namespace, console: Console) -> int:
    probes = registry.load()
    probe = probes.probes.get(args.probe)
    if probe is None:
        return _rule(args.probe, probes, console)
    if args.json:
        console.json(as_data(probe, probes))
        return 0
    console.line(probe.title, style="bold")
    console.line(f"{probe.name}, family {probe.family}, from {probes.sources[probe.name]}")
    console.line(f"runs every {probe.every}, for at most {probe.timeout}, {_needs(probe)}")
    _params(probe, console)
    _metrics(probe, console)
    _rules(probe, console)
    _examples(probe, console)
    console.line("\nhow to configure it", style="bold")
    console.line(snippet(probe).rstrip(), indent=2)
    return 0


def _rule(name: str, probes: Registry, console: Console) -> int:
    """The rule of that name, which is what a finding shows first; Mistake where there is none."""
    declared = [(rule, probe.name) for probe in probes.probes.values() for rule in probe.rules]
    found = [(rule, whose) for rule, whose in (*declared, *((rule, "") for rule in HOUSE_RULES)) if rule.name == name]
    if not found:
        hint = nearest(name, [*probes.probes, *(rule.name for rule, _ in declared)])
        raise Mistake(f"there is no probe {name!r}{hint}; see `gpu-canary list`")
    if console.as_json:
        console.json([{**_rule_data(rule), "probe": whose or None} for rule, whose in found])
        return 0
    for rule, whose in found:
        console.line(f"{rule.severity} {rule.name}: {rule.summary}", style=rule.severity)
        console.line(rule.remedy, indent=2)
        console.line(f"a rule of the probe {whose}" if whose else "a rule that may be told of any check")
    return 0


def as_data(probe: Probe[Any], probes: Registry) -> Mapping[str, object]:
    """All that is declared, for `--json`."""
    return {
        "name": probe.name,
        "family": probe.family,
        "title": probe.title,
        "source": probes.sources[probe.name],
        "every": probe.every,
        "timeout": probe.timeout,
        "lane": probe.needs.lane,
        "params": probe.params.model_json_schema(),
        "metrics": [
            {"name": _series(probe, m), "kind": m.kind, "labels": m.labels, "better": m.better, "help": m.help}
            for m in probe.metrics
        ],
        "rules": [_rule_data(rule) for rule in probe.rules],
        "examples": [{"title": e.title, "params": e.params, "skip": e.skip} for e in probe.examples],
        "config": snippet(probe),
    }


def _rule_data(rule: Rule) -> dict[str, str]:
    return {"name": rule.name, "severity": rule.severity, "summary": rule.summary, "remedy": rule.remedy}


def snippet(probe: Probe[Any]) -> str:
    """The YAML of one check, with the params of the first example."""
    entry: dict[str, Any] = {"probe": probe.name, "every": probe.every}
    if probe.examples and probe.examples[0].params:
        entry["params"] = dict(probe.examples[0].params)
    return dump({"checks": [entry]})


def _needs(probe: Probe[Any]) -> str:
    return "only on an idle GPU of its own" if probe.needs.idle else f"in the lane {probe.needs.lane}"


def _params(probe: Probe[Any], console: Console) -> None:
    rows = params(probe)
    if rows:
        console.line("\nparams", style="bold")
    console.table((), rows, indent=2)


def params(probe: Probe[Any]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of each param, for people."""
    schema = probe.params.model_json_schema()
    required = set(schema.get("required", ()))
    return [
        (name, _type(field), "required" if name in required else _default(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _type(field: Mapping[str, Any]) -> str:
    """A param's type for people; a size or a time is a number that is written as text."""
    if "enum" in field:
        return "|".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(option) for option in field["anyOf"]))
    if "pattern" in field and field.get("type") == ["string", "integer"]:
        return "size"
    if "pattern" in field and isinstance(field.get("default"), int | float):
        return "duration"
    return str(field.get("type", "object")).replace("object", "mapping").replace("array", "list")


def _default(field: Mapping[str, Any]) -> str:
    """As one would write it in the config; empty where the code makes it."""
    value, kind = field.get("default"), _type(field)
    if isinstance(value, int | float) and kind in ("size", "duration"):
        return human("_bytes" if kind == "size" else "_seconds", value).replace("min", "m").replace(" ", "")
    return json.dumps(value) if "default" in field else ""


def _metrics(probe: Probe[Any], console: Console) -> None:
    if probe.metrics:
        console.line("\nmetrics", style="bold")
    rows = []
    for metric in probe.metrics:
        labels = f"{{{','.join(metric.labels)}}}" if metric.labels else ""
        better = f"{metric.better} is better" if metric.better else ""
        rows.append((f"{_series(probe, metric)}{labels}", metric.kind, better, metric.help))
    console.table((), rows, indent=2)


def _series(probe: Probe[Any], metric: Metric) -> str:
    return f"gpucanary_{probe.name}_{metric.name}"


def _rules(probe: Probe[Any], console: Console) -> None:
    if probe.rules:
        console.line("\nrules", style="bold")
    for rule in probe.rules:
        console.line(f"{rule.severity} {rule.name}: {rule.summary}", style=rule.severity, indent=2)
        console.line(rule.remedy, indent=4)


def _examples(probe: Probe[Any], console: Console) -> None:
    if probe.examples:
        console.line("\nexamples", style="bold")
    for example in probe.examples:
        params = f"  {json.dumps(dict(example.params))}" if example.params else ""
        console.line(f"{example.title}{params}", indent=2)
