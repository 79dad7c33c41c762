"""Which checks does a word name? A check's name wins over a probe's, and that over a family's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from exporter.app import plugin_checks
from exporter.config import Config, ConfigError, configured
from exporter.config.document import Ledger, Node, plant
from exporter.config.validation import nearest, validated
from exporter.console import Mistake
from exporter.registry import Registry
from exporter.result import Check
from probes.api import FAMILIES, Json
from probes.params import parse_duration


def given(words: Sequence[str]) -> dict[str, Json]:
    """`KEY=VALUE` words as params: lists, mappings and quoted texts as JSON, everything else as the text it is."""
    params: dict[str, Json] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise Mistake(f"--param {word!r}: write KEY=VALUE, like --param url=http://127.0.0.1:8188/")
        params[key] = _value(key, text)
    return params


def _value(key: str, text: str) -> Json:
    if not text.startswith(("[", "{", '"')):
        return text
    try:
        value: Json = json.loads(text)
    except ValueError as error:
        raise Mistake(f"--param {key}: {error}; a value that begins like JSON must be JSON") from None
    return value


def selected(word: str, params: Mapping[str, Json], config: Config, registry: Registry) -> tuple[Check, ...]:
    """The checks that `word` names, with `params` laid over theirs. Mistake when there are none, or params do not fit."""
    everything = {check.name: check for check in (*config.checks, *plugin_checks(registry))}
    if word in everything:
        return (laid(everything[word], params),)
    if word in registry.probes:
        of_probe = tuple(check for check in config.checks if check.probe.name == word)
        return of_probe if of_probe and not params else (_unconfigured(word, params, config, registry),)
    of_family = tuple(check for check in config.checks if check.family == word)
    if params and word in FAMILIES:
        raise Mistake(f"--param and --interpreter go with one check or probe; {word} is a family")
    if word in FAMILIES and not of_family:
        probes = ", ".join(sorted(p.name for p in registry.probes.values() if p.family == word))
        raise Mistake(f"no check of the family {word} is configured; its probes: {probes or 'none yet'}")
    if not of_family:
        near = nearest(word, {*everything, *registry.probes, *FAMILIES})
        raise Mistake(f"{word!r} is no check, probe or family{near}; `gpu-canary list` and `list --checks` show them")
    return of_family


def timed(checks: Sequence[Check], timeout: str | None) -> tuple[Check, ...]:
    """The same checks with that timeout."""
    try:
        return tuple(checks) if timeout is None else tuple(replace(c, timeout=parse_duration(timeout)) for c in checks)
    except ValueError as error:
        raise Mistake(f"--timeout: {error}") from None


def _unconfigured(probe: str, params: Mapping[str, Json], config: Config, registry: Registry) -> Check:
    """A check of that probe as a config file would make it, from the defaults and `params`."""
    entry: dict[str, Json] = {"probe": probe, "params": dict(params)}
    named: dict[str, Json] = dict(config.interpreters)
    try:
        (check,) = configured({"interpreters": named, "checks": [entry]}, registry.probes).checks
    except ConfigError as error:
        raise _unfit(probe, error) from None
    return check


def laid(check: Check, params: Mapping[str, Json]) -> Check:
    """The same check with `params` laid over its own. Mistake when they do not fit."""
    if not params:
        return check
    ledger = Ledger()
    own = {key: Node(value, secret=True) for key, value in check.params if key in check.params.model_fields_set}
    node = Node({**own, **{key: plant(value) for key, value in params.items()}})
    changed = validated(type(check.params), node, "params", ledger)
    if changed is None:
        raise _unfit(check.probe.name, ConfigError(ledger.problems))
    return replace(check, params=changed)


def _unfit(probe: str, error: ConfigError) -> Mistake:
    wrong = "\n".join(f"  {problem.key.partition('.')[2]}: {problem.message}" for problem in error.problems)
    return Mistake(f"the params do not fit the probe {probe}:\n{wrong}\n`gpu-canary explain {probe}` tells all of them")
