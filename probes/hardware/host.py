"""What are the host's processors, memory, disks and networks doing, and does watching it stay cheap?"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Mapping

from pydantic import Field

from probes.api import MIB, Bytes, Fact, Json, Params, Probe, Regex, Remember, Rule, World, recorded
from probes.hardware import host_metrics as m
from probes.world.host import Host, Process

# iowait and idle step back a little now and then: https://github.com/prometheus/node_exporter/blob/master/collector/cpu_linux.go
STEP_BACK = 3.0
SMOOTHING = 300.0  # seconds over which our own CPU time is averaged before it is judged: a start is not an overhead
WINDOWS = ("1m", "5m", "15m")


class HostParams(Params):
    minimum_available_memory: float = Field(
        0.05, ge=0, le=1, description="Share of memory below which `host-memory-low` fires."
    )
    maximum_self_cpu: float = Field(0.02, gt=0, description="CPU seconds a second that the exporter may use.")
    maximum_self_memory: Bytes = Field(100_000_000, description="Resident bytes that the exporter may use.")
    ignored_networks: Regex = Field(
        r"lo|veth.*|br-.*|docker.*|podman.*|cni.*|cali.*|flannel.*|virbr.*|vnet.*|tap.*|ifb.*|dummy.*",
        description="Network interfaces without series: those that containers bring and take are without end.",
    )
    ignored_disks: Regex = Field(
        r"loop\d+|ram\d+|zram\d+|sr\d+|fd\d+|dm-\d+|md\d+",
        description="Block devices without series: those that lie on others would count bytes twice.",
    )


MEMORY_LOW = Rule(
    "host-memory-low",
    "warning",
    "Memory is nearly used up: the kernel will swap, then kill.",
    "1. `ps -eo rss,pid,args --sort=-rss | head` shows who holds it.\n"
    "2. Load models one at a time, or with `low_cpu_mem_usage=True` and safetensors, which are mapped and not copied.\n"
    "3. In a container, raise its limit: `docker update --memory 24g CONTAINER`.",
)
OVERHEAD = Rule(
    "host-self-overhead",
    "warning",
    "gpu-canary itself uses more than it promises.",
    "1. `gpu-canary list` shows all checks: raise `every:` of the frequent ones, drop what nobody looks at.\n"
    "2. `curl -s 127.0.0.1:19835/metrics | wc -l` counts the series: thousands come from a check that is too wide.\n"
    "3. If it uses this much with the default config, please report it with `gpu-canary version`.",
)


def run(params: HostParams, world: World) -> Iterator[Fact]:
    host, now = world.host(), world.now()
    if not 0 <= host.memory_available <= host.memory_total or host.memory_total == 0:
        raise ValueError(f"{host.memory_available} of {host.memory_total} bytes available cannot be true")
    before = _numbers(world.previous.get("cpu"))
    if sum(host.cpu_seconds.values()) < sum(before.values()) - STEP_BACK:
        before = {}  # the machine started anew
    counters = {mode: max(seconds, before.get(mode, 0.0)) for mode, seconds in host.cpu_seconds.items()}
    yield from _processors(host, before, counters)
    yield from _memory(params, host)
    yield m.BOOT(host.boot_time)
    for name, disk in host.disks.items():
        if not re.fullmatch(params.ignored_disks, name):
            yield m.READ(disk.read_bytes, device=name)
            yield m.WRITTEN(disk.written_bytes, device=name)
    for name, network in host.networks.items():
        if not re.fullmatch(params.ignored_networks, name):
            yield m.RECEIVED(network.received_bytes, device=name)
            yield m.SENT(network.sent_bytes, device=name)
    own = (yield from _overhead(params, host.own, _numbers(world.previous.get("own")), now)) if host.own else {}
    yield Remember({"cpu": {**counters}, "own": {**own}})


def _processors(host: Host, before: Mapping[str, float], counters: Mapping[str, float]) -> Iterator[Fact]:
    spent = {mode: seconds - before.get(mode, 0.0) for mode, seconds in counters.items()}
    for mode, seconds in counters.items():
        yield m.CPU(seconds, mode=mode)
    total, unused = sum(spent.values()), spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    if total > 0:
        yield m.CPU_BUSY((total - unused) / total)
    yield m.CPUS(host.cpus)
    for window, average in zip(WINDOWS, host.load or (), strict=False):
        yield m.LOAD(average, window=window)
    if host.limits is not None and host.limits.cpus is not None:
        yield m.CPU_LIMIT(host.limits.cpus)


def _memory(params: HostParams, host: Host) -> Iterator[Fact]:
    used = host.memory_total - host.memory_available
    yield m.MEMORY(host.memory_total)
    yield m.MEMORY_USED(used)
    yield m.MEMORY_BUSY(used / host.memory_total)
    yield m.SWAP(host.swap_total)
    yield m.SWAP_USED(host.swap_used)
    totals = [("host", used, host.memory_total)]
    if host.limits is not None and host.limits.memory and host.limits.memory_used is not None:
        yield m.LIMIT(host.limits.memory)
        yield m.LIMIT_USED(host.limits.memory_used)
        totals.append(("container", host.limits.memory_used, host.limits.memory))
    for subject, taken, total in totals:
        if total - taken < params.minimum_available_memory * total:
            yield MEMORY_LOW(f"{(total - taken) / MIB:.0f} of {total / MIB:.0f} MiB available", subject=subject)


def _overhead(
    params: HostParams, own: Process, before: Mapping[str, float], now: float
) -> Generator[Fact, None, dict[str, float]]:
    if before.get("started") != own.started:
        before = {}  # another process remembered that
    average, seconds = before.get("average", 0.0), now - before.get("at", own.started)
    spent = own.cpu_seconds - before.get("cpu_seconds", 0.0)
    if seconds > 0 and spent >= 0:
        yield m.SELF_CPU(spent / seconds)
        average += (spent / seconds - average) * (1 - math.exp(-seconds / SMOOTHING))
    yield m.SELF_MEMORY(own.resident_bytes)
    if average > params.maximum_self_cpu:
        yield OVERHEAD(f"{average:.1%} of a core over the last five minutes", subject="cpu")
    if own.resident_bytes > params.maximum_self_memory:
        yield OVERHEAD(f"{own.resident_bytes / 1e6:.0f} MB of memory", subject="memory")
    return {"started": own.started, "at": now, "cpu_seconds": own.cpu_seconds, "average": average}


def _numbers(remembered: Json) -> dict[str, float]:
    table = remembered if isinstance(remembered, dict) else {}
    return {key: float(value) for key, value in table.items() if isinstance(value, int | float)}


PROBE = Probe(
    "host",
    HostParams,
    run,
    metrics=m.METRICS,
    rules=(MEMORY_LOW, OVERHEAD),
    every="5s",
    timeout="4s",
    examples=recorded(__file__),
)
