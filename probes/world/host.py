"""What does the operating system say about the host, and about us?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DiskIo:
    """Absolute counters of one block device since boot, in bytes."""

    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class NetIo:
    """Absolute counters of one network interface since boot, in bytes."""

    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Process:
    """Our own process: resident and proportional bytes, and CPU seconds since it started."""

    resident_bytes: int
    cpu_seconds: float
    started: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container was given (cgroup v2); None where it may use all of the host. `memory_used` leaves out page cache."""

    memory: int | None = None
    memory_used: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One look at the host. CPU seconds are absolute counters since boot, per mode, summed over cores."""

    os: str = ""  # linux, darwin, windows
    release: str = ""
    architecture: str = ""
    distribution: str = ""
    python: str = ""
    container: str = ""  # docker, podman, kubernetes, lxc, containerd, systemd-nspawn, ..., or "" where there is none
    wsl: bool = False
    cpus: int = 0
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    memory_total: int = 0
    memory_available: int = 0
    swap_total: int = 0
    swap_used: int = 0
    load: tuple[float, float, float] | None = None
    boot_time: float = 0.0
    disks: Mapping[str, DiskIo] = field(default_factory=dict)
    networks: Mapping[str, NetIo] = field(default_factory=dict)
    limits: Limits | None = None  # in a container whose limits we can read
    own: Process | None = None
