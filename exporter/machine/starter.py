"""What does `gpu-canary init` write? The config that fits this machine, with comments that say why and what else."""

from __future__ import annotations

from exporter.config import DEFAULT_PORT
from exporter.config.conversion import dump
from exporter.config.entries import Probes
from exporter.interpreters import Interpreter
from exporter.machine.discovery import Entry, benchmarked
from exporter.machine.survey import Survey
from probes.api import Json

HEADER = f"""\
# gpu-canary: what it found on this machine, as `gpu-canary init` wrote it. From now on this file is yours.
#
#   gpu-canary config check FILE    every error, with its line
#   gpu-canary explain PROBE        the parameters, metrics and rules of a probe
#   gpu-canary serve --config.file FILE; kill -HUP it after a change
#
# Any text may hold ${{NAME}} from the environment ($$ is a plain $), and any `X_file:` in params reads X from a file.
# `--config.profile=test` lays a neighbour of FILE over it: canary.test.yml over canary.yml.

# web: {{listen_address: 127.0.0.1:{DEFAULT_PORT}, enable_lifecycle: false}}
# storage: {{retention_time: 30d, retention_size: 1GiB}}
# log: {{level: info, format: logfmt}}
# grafana_url: http://127.0.0.1:3000
"""
NO_TORCH = """\
# No Python with torch was found. gpu-canary prepares one of its own for the benchmarks; name yours to use it instead:
# interpreters: {comfyui: ~/ComfyUI/venv/bin/python}
"""
LEFT_OUT = """\
# No Python with torch was found, and TORCH=0 forbids to prepare one: torch_import and the benchmarks were left out. Name
# a Python that has torch, and add `{probe: torch_import}`, `{probe: matmul}` and other benchmarks to the checks:
# interpreters: {comfyui: ~/ComfyUI/venv/bin/python}
"""
TARGETS = """\
  # A bound on any metric of a check, and a share of runs that shall succeed:
  #   targets: [{metric: free_bytes, at_least: 50GiB, severity: critical}]
  #   objective: 0.99
"""


def starter(config: Entry, registry: Probes, found: Survey) -> str:
    """The config as commented YAML; it loads as the very config that was discovered."""
    parts = [HEADER, _interpreters(config, found), "checks:\n" + TARGETS]
    checks = config["checks"]
    asked: set[str] = set()
    for entry in checks if isinstance(checks, list) else ():
        comment = ""
        if isinstance(entry, dict) and entry["probe"] not in asked:
            probe = registry[str(entry["probe"])]
            asked.add(probe.name)
            comment = f"  # {probe.title} Every {entry.get('every', probe.every)}.\n" + _others(probe.name, found)
        parts.append(comment + _indented(dump(_escaped([entry]))))
    return "\n".join(parts)


def _interpreters(config: Entry, found: Survey) -> str:
    if "interpreters" not in config:
        return NO_TORCH if found.torch else LEFT_OUT
    versions = {i.name: _versions(i) for i in found.interpreters}
    named = config["interpreters"]
    lines = [
        "# The Pythons with torch that were found. Probes and benchmarks name them by `interpreter:`.",
        "interpreters:",
    ]
    for name, path in named.items() if isinstance(named, dict) else ():
        lines += [f"  # {versions.get(name, '')}", _indented(dump(_escaped({name: path}))).rstrip()]
    return "\n".join(lines) + "\n"


def _others(probe: str, found: Survey) -> str:
    """Benchmarks run in one interpreter; the comment names the rest."""
    used = benchmarked(found)
    others = [i for i in found.interpreters if i.name != used]
    if probe != "matmul" or not others:
        return ""
    listed = ", ".join(f"{i.name} ({_versions(i)})" for i in others)
    return f"  # Benchmarks run in one Python. To measure another too, add a check with a name of its own: {listed}.\n"


def _versions(interpreter: Interpreter) -> str:
    python = f", Python {interpreter.python_version}" if interpreter.python_version else ""
    return "".join(c for c in f"torch {interpreter.torch_version}{python}" if c.isprintable())


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _escaped(value: Json) -> Json:
    """`$` doubled: in a file it would begin a reference to the environment."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value
