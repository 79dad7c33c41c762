"""Which system, Python and container does the exporter run on, and are they the expected ones?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field

from probes.api import Fact, Metric, Params, Probe, Rule, World, recorded


class PlatformParams(Params):
    minimum_python: str = Field(
        "3.11", pattern=r"^[0-9]+\.[0-9]+$", description="Oldest Python that may run the exporter."
    )
    architectures: tuple[str, ...] = Field(
        (), description="Machine architectures that are expected, like `x86_64`; empty allows any."
    )


SYSTEM = Metric(
    "host_info",
    "What the exporter runs on; `container` is empty where there is none.",
    ("os", "release", "architecture", "distribution", "python", "container", "wsl"),
    kind="info",
)
OLD_PYTHON = Rule(
    "platform-python-old",
    "warning",
    "The exporter's Python is older than the config allows.",
    "1. `uv python install 3.13` brings a newer one; without uv, `apt-get install python3` or `pyenv install 3.13`.\n"
    "2. `uv tool install --python 3.13 gpu-canary` (or `pipx reinstall --python python3.13 gpu-canary`) uses it.\n"
    "3. The Python of the workloads is another one: the checks of `packages` and `torch_import` look at that.",
)
OTHER_ARCHITECTURE = Rule(
    "platform-architecture-unexpected",
    "warning",
    "The machine, or the Python on it, has another architecture than expected.",
    "1. `uname -m` tells what the kernel is, `python3 -c 'import platform; print(platform.machine())'` what Python sees.\n"
    "2. Where the two differ, Python is emulated: install the build for this machine.\n"
    "3. In a container, `docker image inspect IMAGE --format '{{.Architecture}}'` shows what was pulled; "
    "`docker pull --platform linux/amd64 IMAGE` chooses.",
)


def run(params: PlatformParams, world: World) -> Iterator[Fact]:
    host = world.host()
    python, oldest = _version(host.python), _version(params.minimum_python)
    yield SYSTEM(
        os=host.os,
        release=host.release,
        architecture=host.architecture,
        distribution=host.distribution,
        python=host.python,
        container=host.container,
        wsl=str(host.wsl).lower(),
    )
    if python < oldest:
        yield OLD_PYTHON(f"Python {host.python}, and at least {params.minimum_python} is wanted", subject="python")
    if params.architectures and host.architecture not in params.architectures:
        wanted = " or ".join(params.architectures)
        yield OTHER_ARCHITECTURE(f"{host.architecture or 'unknown'}, and {wanted} is wanted", subject="architecture")


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a Python version")
    return int(match[1]), int(match[2])


PROBE = Probe(
    "platform",
    PlatformParams,
    run,
    metrics=(SYSTEM,),
    rules=(OLD_PYTHON, OTHER_ARCHITECTURE),
    every="1h",
    timeout="10s",
    examples=recorded(__file__),
)
