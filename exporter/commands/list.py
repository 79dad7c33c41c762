"""Which probes are there, and which checks are configured?"""

from __future__ import annotations

import argparse
import json

from exporter import flags, registry
from exporter.app import plugin_checks
from exporter.console import Console
from exporter.machine import Machine
from exporter.registry import Registry
from exporter.result import Check
from exporter.units import duration


def main(args: argparse.Namespace, console: Console) -> int:
    probes = registry.load()
    if args.checks:
        _checks(_configured(args, probes, console), console)
    else:
        _probes(probes, console)
    return 0


def _configured(args: argparse.Namespace, probes: Registry, console: Console) -> list[Check]:
    machine = Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
    finally:
        machine.close()
    console.redact.learn(config.secrets)
    return [*config.checks, *plugin_checks(probes)]


def _probes(probes: Registry, console: Console) -> None:
    listed = sorted(probes.probes.values(), key=lambda probe: (probe.family, probe.name))
    if console.as_json:
        known = [
            {"name": p.name, "family": p.family, "title": p.title, "every": p.every, "source": probes.sources[p.name]}
            for p in listed
        ]
        broken = [{"name": b.name, "source": b.distribution, "reason": b.reason} for b in probes.broken]
        console.json({"probes": known, "broken": broken})
        return
    rows = [(p.name, p.family, p.every, probes.sources[p.name], p.title) for p in listed]
    console.table(("PROBE", "FAMILY", "EVERY", "SOURCE", "ANSWERS"), rows)
    for plugin in probes.broken:
        console.note(f"error: the plugin {plugin.name} of {plugin.distribution} did not load: {plugin.reason}")


def _checks(checks: list[Check], console: Console) -> None:
    if console.as_json:
        console.json([_data(check) for check in checks])
        return
    rows = [
        (c.name, c.probe.name, c.family, duration(c.every), duration(c.timeout), _params(c, console)) for c in checks
    ]
    console.table(("CHECK", "PROBE", "FAMILY", "EVERY", "TIMEOUT", "PARAMS"), rows)


def _data(check: Check) -> dict[str, object]:
    return {
        "name": check.name,
        "probe": check.probe.name,
        "family": check.family,
        "every": check.every,
        "timeout": check.timeout,
        "params": check.params.model_dump(mode="json"),
    }


def _params(check: Check, console: Console) -> str:
    """The params that somebody set; the rest are the probe's defaults. Hidden before quoting could disguise a secret."""
    given = console.hidden(check.params.model_dump(mode="json", exclude_unset=True))
    return json.dumps(given, ensure_ascii=False).removeprefix("{").removesuffix("}")
