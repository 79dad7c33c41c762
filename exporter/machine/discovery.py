"""Which checks suit this machine? A config, as plain data, for a machine that has none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from exporter.config.entries import Probes
from exporter.interpreters import pick
from exporter.machine.suite import suite
from exporter.machine.survey import App, Server, Survey
from probes.api import Json

MAX_IMPORTS = 4  # a torch import costs seconds and a gigabyte of reading; a home full of venvs must not fill the day
# vLLM takes 0.90 to 0.92 of a card for itself and is healthy: https://docs.vllm.ai/en/latest/configuration/engine_args.html
MEMORY_LIMITS = (0.90, 0.95)
MEMORY_LIMITS_PREALLOCATED = (0.96, 0.98)

Entry = dict[str, Json]


def discover(found: Survey, probes: Probes) -> Entry:
    """A config for what was found, in the shape of a config file: it takes the same way through validation."""
    config: Entry = {}
    if found.interpreters:
        config["interpreters"] = {i.name: i.path for i in found.interpreters}
    benchmarks = suite(found, benchmarked(found), probes)
    config["checks"] = [*_environment(found), *_hardware(found), *benchmarks, *_services(found.servers)]
    return config


def benchmarked(found: Survey) -> str:
    """The interpreter in which benchmarks run: the newest torch; `auto` while none is there (one is being prepared)."""
    best = pick(found.interpreters, "auto")
    return best.name if best else "auto"


def _environment(found: Survey) -> Iterator[Entry]:
    yield {"probe": "platform"}
    if found.gpu:
        yield {"probe": "gpu_driver", **({"params": {"expected_cards": found.cards}} if found.cards else {})}
    for name, path in found.directories.items():
        own = {} if name == "root" else {"name": f"disk:{_slug(name)}"}
        yield {"probe": "disk", **own, "params": {"path": path}}
    names = [benchmarked(found)]
    names += [i.name for i in found.interpreters if i.name not in names]
    for number, name in enumerate(names[:MAX_IMPORTS] if found.torch else ()):
        own = {"name": f"torch_import:{_slug(name)}"} if number else {}
        yield {"probe": "torch_import", **own, "interpreter": name}
    for app in found.apps:
        yield from _app(app)


def _app(app: App) -> Iterator[Entry]:
    if app.requirements:
        yield {
            "probe": "packages",
            "name": f"packages:{_slug(app.interpreter)}",
            "interpreter": app.interpreter,
            "params": {"requirements": app.requirements},
        }
    if app.dotenv:
        yield {"probe": "dotenv", "name": f"dotenv:{_slug(app.interpreter)}", "params": {"path": app.dotenv}}


def _hardware(found: Survey) -> Iterator[Entry]:
    yield {"probe": "host"}
    if found.gpu:
        preallocated = any(server.name == "vllm" for server in found.servers)
        warning, critical = MEMORY_LIMITS_PREALLOCATED if preallocated else MEMORY_LIMITS
        yield {
            "probe": "gpu",
            "targets": [
                {"metric": "memory_used_ratio", "at_most": warning, "severity": "warning"},
                {"metric": "memory_used_ratio", "at_most": critical, "severity": "critical"},
            ],
        }


def _services(servers: tuple[Server, ...]) -> Iterator[Entry]:
    for server in servers:
        params: Entry = {"url": f"http://{server.address}:{server.port}{server.check}"}
        if server.method != "GET":
            params["method"] = server.method
        yield {"probe": "http", "name": f"http:{server.name}", "params": params}


def _slug(name: str) -> str:
    """What may stand in a check's name."""
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)[:40]
