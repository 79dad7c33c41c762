"""What does one entry under `checks:` say? Its shape, and the Check it becomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from exporter.baseline import WINDOW
from exporter.config.document import Ledger, Node
from exporter.config.overlay import check_name
from exporter.config.secret import revealed
from exporter.config.validation import nearest, shown, validated
from exporter.result import Check, Target
from probes.api import Duration, Params, Probe, Severity
from probes.params import DURATION_PATTERN, SIZE_PATTERN, parse_bytes, parse_duration

Probes = Mapping[str, Probe[Any]]
YEAR = 366 * 86400.0
CAP = 0.9  # a probe's default timeout gives way to a short `every`; a timeout that is written down does not
INTERPRETERS = ("auto", "self")
HOUSE_NAMES = re.compile(r"history|inbox|plugin:.*")  # checks that nobody configures; see exporter/app.py

Interval = Annotated[Duration, Field(ge=1, le=YEAR)]
Timeout = Annotated[Duration, Field(gt=0, le=YEAR)]
NAME_PATTERN = r"^[a-zA-Z0-9_.:/-]{1,63}$"


def parse_bound(value: object) -> float:
    """A number, a size (`50GiB`) or a duration (`250ms`), in base units. ValueError says what was expected."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    for parse in (parse_bytes, parse_duration):
        try:
            return float(parse(str(value)))
        except ValueError:
            continue
    raise ValueError(f"{value!r} is not a bound; write a number, a size like 50GiB or a duration like 250ms")


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(f"{value!r} is not a name; use at most 63 of the characters a-z A-Z 0-9 _ . : / -")
    if HOUSE_NAMES.fullmatch(value):
        raise ValueError(f"{value!r} is a name of the house; choose another")
    return value


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
Label = Annotated[str, WithJsonSchema({"type": ["string", "number"]})]
Bound = Annotated[
    float,
    BeforeValidator(parse_bound),
    WithJsonSchema({"type": ["number", "string"], "pattern": f"^({SIZE_PATTERN}|{DURATION_PATTERN})$"}),
]


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetryEntry(Entry):
    """A faster schedule while the check is failing, and how many failures in a row alerts wait for."""

    every: Interval | None = Field(default=None, description="Interval while the check is failing.")
    confirm: int = Field(default=1, ge=1, le=100, description="Failed runs in a row after which alerts believe it.")


class TargetEntry(Entry):
    """A bound on a metric of the check's probe."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    metric: str = Field(description="The metric's short name, as `gpu-canary explain PROBE` lists it.")
    at_least: Bound | None = Field(None, description="The metric must not be below it.")
    at_most: Bound | None = Field(None, description="The metric must not be above it.")
    severity: Severity = Field("warning", description="Of the finding when the target is missed.")
    labels: dict[str, Label] = Field({}, description="Only series that carry these labels.")
    quantile: float | None = Field(
        None, ge=0, le=1, description="Bound this quantile of the newest `runs` values instead of the newest one: 0.95."
    )
    runs: int | None = Field(
        None,
        ge=1,
        le=WINDOW,
        description="With `quantile`: over so many runs, default 20; fewer while there are fewer.",
    )

    @model_validator(mode="after")
    def _of_several(self) -> TargetEntry:
        if self.runs is not None and self.quantile is None:
            raise ValueError("`runs` says over how many runs a `quantile` is taken; give one, like quantile: 0.5")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> TargetEntry:
        if self.at_least is None and self.at_most is None:
            raise ValueError("expected at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}: no value can meet both")
        return self


class CheckEntry(Entry):
    """One check: a probe, and how to run it."""

    probe: str = Field(description="Which probe; `gpu-canary list` shows them.")
    name: Name | None = Field(None, description="Unique; default: the probe's name.")
    every: Interval | None = Field(None, description="Interval; default: the probe's.")
    timeout: Timeout | None = Field(None, description="Longest run; default: the probe's. Below `every`.")
    params: dict[str, Any] | None = Field(None, description="What the probe is told; `gpu-canary explain PROBE`.")
    interpreter: str | None = Field(None, description="Short for params.interpreter: a name of `interpreters:`.")
    targets: list[TargetEntry] = Field([], description="Bounds on the probe's metrics.")
    objective: float | None = Field(
        None, gt=0, lt=1, description="Share of measured time in which the check shall not be failed, like 0.99."
    )
    retry: RetryEntry = Field(default=RetryEntry(), description="What changes while the check is failing.")
    enabled: bool = Field(True, description="false: validated, never run.")


def checks(root: Node, registry: Probes, ledger: Ledger) -> tuple[Check, ...]:
    """Every enabled check under `checks:`; whatever is wrong with any of them lands in the ledger."""
    listed = root.get("checks")
    if listed is None or not isinstance(listed.value, tuple):
        place = listed or root
        ledger.wrong(place, "checks", "expected a list, like `checks: [{probe: disk}]`; `[]` for none at all")
        return ()
    built: list[Check] = []
    seen: dict[str, Node] = {}
    for index, node in enumerate(listed.items()):
        name = check_name(node)
        key = f"checks[{name or index}]"
        if name in seen:
            first = f"first at {seen[name].file}:{seen[name].line}"
            ledger.wrong(node, key, f"the name {name!r} is taken, {first}; give each its own `name:`")
        elif name:
            seen[name] = node
        check = _check(node, key, registry, ledger, (root.get("interpreters") or Node({})).pairs())
        built += [check] if check else []
    return tuple(built)


def _check(node: Node, key: str, registry: Probes, ledger: Ledger, interpreters: Mapping[str, Node]) -> Check | None:
    wanted = node.get("probe")
    probe = registry.get(wanted.value) if wanted is not None and isinstance(wanted.value, str) else None
    if probe is not None:
        node = _straightened(node, probe, key, ledger)
    entry = validated(CheckEntry, node, key, ledger)
    if wanted is None or not isinstance(wanted.value, str):
        return None
    if probe is None:
        hint = nearest(wanted.value, registry) or f"; known: {', '.join(sorted(registry))}"
        ledger.wrong(wanted, f"{key}.probe", f"there is no probe {wanted.value!r}{hint}")
        return None
    params = _params(node, probe, key, ledger)
    for index, target in enumerate((node.get("targets") or Node(())).items()):
        _target_fits(target, probe, f"{key}.targets[{index}]", ledger)
    if entry is None:
        return None
    _targets_differ(entry, node, key, ledger)
    every, timeout = _times(entry, probe, node, key, ledger)
    if params is None:
        return None
    _interpreter_known(node, params, key, ledger, interpreters)
    targets = tuple(_target(target) for target in entry.targets)
    retry = entry.retry
    name = entry.name or probe.name
    check = Check(name, probe, params, every, timeout, targets, entry.objective, retry.every, retry.confirm)
    return check if entry.enabled else None


def _target(entry: TargetEntry) -> Target:
    over = {} if entry.runs is None else {"runs": entry.runs}
    return Target(entry.metric, entry.at_least, entry.at_most, entry.severity, entry.labels, entry.quantile, **over)


def _straightened(node: Node, probe: Probe[Any], key: str, ledger: Ledger) -> Node:
    """Params that stand beside `params:` are told, and put where they belong for the sake of the other errors."""
    known = probe.params.model_fields.keys()
    stray = {
        name: child
        for name, child in node.pairs().items()
        if name not in CheckEntry.model_fields and {name, name.removesuffix("_file")} & known
    }
    for name, child in stray.items():
        message = f"is a param of the probe {probe.name}; it belongs under `params:`"
        ledger.wrong(replace(child, broken=False), f"{key}.{name}", message)
    rest = {name: child for name, child in node.pairs().items() if name not in stray}
    given = rest.get("params", Node(None, node.file, node.line))
    if stray and (given.value is None or isinstance(given.value, dict)):
        rest["params"] = replace(given, value={**stray, **given.pairs()})
    return replace(node, value=rest)


def _params(node: Node, probe: Probe[Any], key: str, ledger: Ledger) -> Params | None:
    given = node.get("params")
    if given is None or given.value is None:
        given = Node({}, node.file, node.line)
    if not isinstance(given.value, dict):
        return None  # the entry's own validation told it
    short = node.get("interpreter")
    if short is not None:
        if "interpreter" not in probe.params.model_fields:
            ledger.wrong(short, f"{key}.interpreter", f"the probe {probe.name} runs no interpreter; remove this key")
        elif "interpreter" in given.value:
            ledger.wrong(short, f"{key}.interpreter", "params.interpreter says it too; keep one of them")
        else:
            given = replace(given, value={**given.value, "interpreter": short})
    return validated(probe.params, revealed(given, probe.params, f"{key}.params", ledger), f"{key}.params", ledger)


def _interpreter_known(node: Node, params: Params, key: str, ledger: Ledger, interpreters: Mapping[str, Node]) -> None:
    """A name must be one of `interpreters:` once there are any; without, the exporter finds them and only it knows."""
    name = getattr(params, "interpreter", "")
    if not name or not isinstance(name, str) or not interpreters or "/" in name or "\\" in name:
        return
    if name not in interpreters and name not in INTERPRETERS:
        known = (*interpreters, *INTERPRETERS)
        place = node.get("interpreter") or (node.get("params") or Node({})).get("interpreter") or node
        hint = nearest(name, known) or f"; known: {', '.join(known)}"
        ledger.wrong(place, f"{key}.interpreter", f"{name!r} is neither a path nor one of `interpreters:`{hint}")


def _times(entry: CheckEntry, probe: Probe[Any], node: Node, key: str, ledger: Ledger) -> tuple[float, float]:
    every = parse_duration(probe.every) if entry.every is None else entry.every
    if entry.timeout is None:
        timeout = min(parse_duration(probe.timeout), every * CAP)
    else:
        timeout = entry.timeout
    if timeout >= every:
        place = node.get("timeout") or node
        which = "" if entry.every is not None else ", the probe's default"
        ledger.wrong(place, f"{key}.timeout", f"expected less than every ({every:g}s{which}){shown(place)}")
    if entry.retry.every is not None and entry.retry.every > every:
        place = (node.get("retry") or Node({})).get("every") or node
        ledger.wrong(place, f"{key}.retry.every", f"expected at most every ({every:g}s){shown(place)}")
    return every, timeout


def _target_fits(target: Node, probe: Probe[Any], key: str, ledger: Ledger) -> None:
    """Does the probe have this metric, the metric these labels, and the bound the metric's unit?"""
    name = target.get("metric")
    if name is None or not isinstance(name.value, str):
        return
    metric = probe.metric(name.value)
    if metric is not None and metric.kind != "gauge" and target.get("quantile") is not None:
        ledger.wrong(name, f"{key}.quantile", f"{metric.name} is a {metric.kind}, which has no quantile; use a gauge")
    if metric is None:
        known = sorted(m.name for m in probe.metrics)
        hint = nearest(name.value, known) or f"; it has {', '.join(known)}"
        ledger.wrong(name, f"{key}.metric", f"the probe {probe.name} has no metric {name.value!r}{hint}")
        return
    for label, place in (target.get("labels") or Node({})).pairs().items():
        if label not in metric.labels:
            hint = nearest(label, metric.labels) or f"; it has {', '.join(metric.labels) or 'none'}"
            ledger.wrong(place, f"{key}.labels", f"{metric.name} has no label {label!r}{hint}")
    for direction in ("at_least", "at_most"):
        bound = target.get(direction)
        unit = _unit(bound.value) if bound is not None and isinstance(bound.value, str) else ""
        if bound is not None and unit not in metric.name:
            ledger.wrong(bound, f"{key}.{direction}", f"{metric.name} is not in {unit}; give a number{shown(bound)}")


def _unit(text: str) -> str:
    """Of a bound: `bytes`, `seconds`, or "" for a plain number or what is no bound at all."""
    if re.fullmatch(DURATION_PATTERN, text):
        return "seconds"
    return "bytes" if re.fullmatch(SIZE_PATTERN, text) and not re.fullmatch(r"[0-9.]+", text) else ""


def _targets_differ(entry: CheckEntry, node: Node, key: str, ledger: Ledger) -> None:
    """Two series with equal labels would make Prometheus fail the alert rule's evaluation."""
    seen: set[str] = set()
    places = (node.get("targets") or Node(())).items()
    quantiles: dict[str, float | None] = {}
    for target, place in zip(entry.targets, places, strict=True):
        of_series = json.dumps([target.metric, target.labels, target.severity], sort_keys=True)
        if quantiles.setdefault(of_series, target.quantile) != target.quantile:
            message = f"bounds of {target.metric} on different quantiles are one series; give each another severity"
            ledger.wrong(place, f"{key}.targets", message)
        for direction in ("at_least", "at_most"):
            if getattr(target, direction) is not None:
                identity = json.dumps([target.metric, target.labels, target.severity, direction], sort_keys=True)
                if identity in seen:
                    what = f"{target.severity} {direction} of {target.metric}"
                    ledger.wrong(place, f"{key}.targets", f"a second {what} for the same series; keep one")
                seen.add(identity)
