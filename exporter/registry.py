"""Which probes are there? Built-in and third-party ones take one path; the only importer of concrete probes."""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from probes import BUILTIN
from probes.api import Fact, Params, Probe, Rule, World
from probes.rules import HOUSE_RULES, PLUGIN_BROKEN

GROUP = "gpu_canary.probes"
# Metric names of the house are gpucanary_<one of these>_...; a probe of such a name would write into them.
HOUSE_PREFIXES = frozenset(
    {"baseline", "benchmark", "build", "check", "checks", "config", "expected", "finding", "history", "inbox", "lane"}
    | {"links", "maintenance", "objective", "rule", "scheduler", "target", "verdict"}
)


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded: shown as a check in `error`, never a dead exporter."""

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """Every probe by name, where it came from, and the plugins that did not load."""

    probes: dict[str, Probe[Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()

    def rules(self) -> Iterator[Rule]:
        """Every rule any check can fire."""
        yield from HOUSE_RULES
        for probe in self.probes.values():
            yield from probe.rules


def load() -> Registry:
    """Import all probes: ours from `probes.BUILTIN`, then strangers from the entry-point group, in order of name."""
    probes: dict[str, Probe[Any]] = {}
    sources: dict[str, str] = {}
    broken: list[Broken] = []
    for family, stems in BUILTIN.items():
        for stem in stems:
            probes[stem] = importlib.import_module(f"probes.{family}.{stem}").PROBE
            sources[stem] = "gpu-canary"
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
        try:
            probe = point.load()
            accept(probe, probes)
        except (Exception, SystemExit) as error:  # whatever a stranger's import does, the exporter lives
            reason = "".join(traceback.format_exception_only(error)).strip()
            broken.append(Broken(point.name, distribution, f"{point.value}: {reason}"))
            continue
        probes[probe.name] = probe
        sources[probe.name] = distribution
    return Registry(probes, sources, tuple(broken))


def accept(probe: object, known: dict[str, Probe[Any]]) -> None:
    """ValueError when a third-party probe cannot join: no Probe, a taken name, rule or metric."""
    if not isinstance(probe, Probe):
        raise ValueError(f"it is a {type(probe).__name__}, not a probes.api.Probe")
    if probe.name in known:
        raise ValueError(f"there is a probe {probe.name!r} already; the one that was there first stays")
    if probe.name.split("_")[0] in HOUSE_PREFIXES:
        raise ValueError(f"the name {probe.name!r} begins like metrics of the house; choose another")
    rules = {rule.name for other in known.values() for rule in other.rules} | {rule.name for rule in HOUSE_RULES}
    metrics = set(metric_names(known.values()))
    taken = [r.name for r in probe.rules if r.name in rules] + [m for m in metric_names([probe]) if m in metrics]
    if taken:
        raise ValueError(f"already taken by another probe: {', '.join(taken)}")


def metric_names(probes: Iterable[Probe[Any]]) -> Iterator[str]:
    """Full names of every metric of some probes."""
    return (f"gpucanary_{probe.name}_{metric.name}" for probe in probes for metric in probe.metrics)


class NoParams(Params):
    """A check without parameters."""


def broken_probe(plugin: Broken) -> Probe[NoParams]:
    """The stand-in for a plugin that did not load: it says so at every run."""

    def run(params: NoParams, world: World) -> Iterator[Fact]:
        yield PLUGIN_BROKEN(plugin.reason, subject=plugin.distribution)
        raise ImportError(f"{plugin.distribution}: {plugin.reason}")

    name = re.sub(r"[^a-z0-9]+", "_", plugin.name.lower()).strip("_")
    return Probe(f"plugin_{name}".strip("_"), NoParams, run, family="environment", every="1h")
