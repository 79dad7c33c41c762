"""What do NVML, the PCI bus and our own sampler say about the cards?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Vendor = Literal["nvidia", "amd", "intel", "apple", "other"]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds a context. `name` is empty where the pid belongs to another pid namespace; `memory` None: not told."""

    pid: int
    kind: Literal["compute", "graphics"]
    memory: int | None = None
    name: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Xid:
    """XID events of one card since the exporter started, from the NVML event set and the kernel log."""

    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. Base units; None means the card or driver does not tell.

    `error` and `unreadable` (by NVML function) hold NVML's own constants, like `gpu_is_lost` and `unknown`.
    """

    index: int
    uuid: str
    name: str = ""
    pci_bus_id: str = ""  # as sysfs and lspci write it: 0000:c6:00.0
    error: str = ""  # set when the card is gone; then nothing else is known
    utilization: float | None = None  # ratio, 0 to 1
    memory_utilization: float | None = None
    memory_total: int | None = None  # bytes
    memory_used: int | None = None
    memory_reserved: int | None = None
    memory_free: int | None = None
    temperature: float | None = None  # celsius
    temperature_margin: float | None = None  # degrees left until the card slows itself down
    temperature_limits: Mapping[str, float] = field(default_factory=dict)  # slowdown, shutdown, memory_max, gpu_max
    power: float | None = None  # watts
    power_limit: float | None = None
    power_default_limit: float | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)  # hertz by domain: sm, memory
    clocks_max: Mapping[str, float] = field(default_factory=dict)
    throttle: Mapping[str, bool] | None = None  # reason -> active
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_replays: int | None = None
    ecc: Mapping[str, int] = field(default_factory=dict)  # corrected, uncorrected: over the card's life
    ecc_volatile: Mapping[str, int] = field(default_factory=dict)  # the same since the driver loaded
    remapped_rows: Mapping[str, int] = field(default_factory=dict)  # corrected, uncorrected, pending, failure
    energy: float | None = None  # joules since the driver loaded
    recovery_action: str | None = None  # none, reset, reboot, drain, drain_and_reset, ...
    mig: bool = False
    processes: tuple[GpuProcess, ...] | None = None
    xids: Mapping[int, Xid] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)  # of the last minute: utilization, memory_used, power, ...
    unreadable: Mapping[str, str] = field(default_factory=dict)  # what NVML should answer, and fails to

    @property
    def memory_used_ratio(self) -> float | None:
        """Share of the memory that is allocated."""
        return self.memory_used / self.memory_total if self.memory_used is not None and self.memory_total else None


@dataclass(frozen=True, slots=True)
class PciGpu:
    """A display or 3D controller on the PCI bus, whether or not a driver speaks for it.

    `name` is vendor:device as `lspci -nn` writes it; `driver` the kernel module bound to it (nvidia, nouveau, vfio-pci).
    """

    address: str
    vendor: Vendor
    name: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Gpus:
    """All cards at one moment. `library` False: there is no libnvidia-ml here; `error`: NVML's word when it will not start
    (`driver_not_loaded`, `lib_rm_version_mismatch`, ...); `bus` False: nobody may look at the PCI bus here."""

    library: bool = False
    error: str = ""
    driver: str = ""
    cuda: str = ""  # the newest CUDA the driver supports, e.g. 12.8
    gpus: tuple[Gpu, ...] = ()
    pci: tuple[PciGpu, ...] = ()
    kernel_log: bool = False  # XIDs are read from the kernel log too
    bus: bool = True

    @property
    def nvidia(self) -> tuple[PciGpu, ...]:
        """The NVIDIA cards on the PCI bus, but for those that were handed to a virtual machine."""
        return tuple(card for card in self.pci if card.vendor == "nvidia" and card.driver != "vfio-pci")


@dataclass(frozen=True, slots=True)
class Idle:
    """May a benchmark take the card? `weak`: judged by utilisation and memory alone; `reason` says why not; `never`: this
    card does not tell what the gate must know, and waiting changes nothing."""

    idle: bool
    weak: bool = False
    reason: str = ""
    never: bool = False
