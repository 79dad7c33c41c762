"""What is measured of a card?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from probes.api import Measurement, Metric
from probes.hardware.xids import CLASSES, policy
from probes.world.gpus import Gpu, GpuProcess

CARD = ("gpu", "uuid")
INFO = Metric("info", "The card; join it on gpu and uuid.", (*CARD, "model", "pci_bus_id", "driver", "cuda"), "info")
PROCESSES = Metric(
    "processes", "Processes on the card: ours, other, or of a foreign pid namespace.", (*CARD, "kind", "class")
)
XIDS = Metric("xid_events_total", "XID errors since the exporter started.", (*CARD, "class"), "counter")
XID_LAST = Metric("xid_last_timestamp_seconds", "When this XID was last seen.", (*CARD, "xid"))
RECOVERY = Metric("recovery_action_info", "What the driver wants done: none, reset, ...", (*CARD, "action"), "info")

# Attribute of Gpu -> its metric. Where the card does not tell, there is no series.
NUMBERS = {
    "utilization": Metric("utilization_ratio", "Share of the last moments in which a kernel ran.", CARD),
    "memory_utilization": Metric("memory_utilization_ratio", "Share in which the memory was read or written.", CARD),
    "memory_total": Metric("memory_total_bytes", "Memory of the card.", CARD),
    "memory_used": Metric("memory_used_bytes", "Memory that is allocated.", CARD),
    "memory_used_ratio": Metric("memory_used_ratio", "Share of the memory that is allocated.", CARD),
    "memory_reserved": Metric("memory_reserved_bytes", "Memory the driver keeps for itself.", CARD),
    "temperature": Metric("temperature_celsius", "Temperature of the chip.", CARD),
    "temperature_margin": Metric("temperature_margin_celsius", "Degrees left until it slows itself down.", CARD),
    "power": Metric("power_watts", "Power the card draws.", CARD),
    "power_limit": Metric("power_limit_watts", "Power the card may draw.", CARD),
    "power_default_limit": Metric("power_default_limit_watts", "Power it may draw when nobody changes that.", CARD),
    "pcie_generation": Metric("pcie_link_generation", "PCIe generation now (low while idle).", CARD),
    "pcie_generation_max": Metric("pcie_link_max_generation", "PCIe generation card and slot are capable of.", CARD),
    "pcie_width": Metric("pcie_link_lanes", "PCIe lanes now.", CARD),
    "pcie_width_max": Metric("pcie_link_max_lanes", "PCIe lanes card and slot are capable of.", CARD),
    "pcie_replays": Metric("pcie_replays_total", "PCIe packets that were sent again.", CARD, "counter"),
    "energy": Metric("energy_joules_total", "Energy used since the driver was loaded.", CARD, "counter"),
    "mig": Metric("mig_active", "1 when the card is divided (MIG).", CARD),
}
# The same for attributes that hold several values, with the label that tells them apart.
TABLES = {
    "temperature_limits": ("limit", Metric("temperature_limit_celsius", "The card's limits.", (*CARD, "limit"))),
    "clocks": ("domain", Metric("clock_hertz", "Clock now.", (*CARD, "domain"))),
    "clocks_max": ("domain", Metric("clock_max_hertz", "Highest clock.", (*CARD, "domain"))),
    "throttle": ("reason", Metric("throttle_active", "1 while this keeps the clocks down.", (*CARD, "reason"))),
    "ecc": ("kind", Metric("ecc_errors_total", "Memory errors over the card's life.", (*CARD, "kind"), "counter")),
    "ecc_volatile": (
        "kind",
        Metric("ecc_volatile_errors_total", "Memory errors since the driver was loaded.", (*CARD, "kind"), "counter"),
    ),
    "remapped_rows": ("kind", Metric("remapped_rows", "Remapped rows; 1 for yes.", (*CARD, "kind"))),
}
PEAKS = {
    "utilization": Metric("utilization_peak_ratio", "Highest utilisation in the last minute.", CARD),
    "memory_used": Metric("memory_used_peak_bytes", "Most memory in use in the last minute.", CARD),
    "temperature": Metric("temperature_peak_celsius", "Highest temperature in the last minute.", CARD),
    "power": Metric("power_peak_watts", "Highest power in the last minute.", CARD),
}
METRICS = (
    *(INFO, PROCESSES, XIDS, XID_LAST, RECOVERY, *NUMBERS.values(), *PEAKS.values()),
    *(metric for _, metric in TABLES.values()),
)


def measurements(gpu: Gpu, driver: str, cuda: str) -> Iterator[Measurement]:
    """Everything the card tells, and nothing it does not; of a lost card, who it was and what its XIDs were."""
    card = {"gpu": str(gpu.index), "uuid": gpu.uuid}
    yield INFO(1, **card, model=gpu.name, pci_bus_id=gpu.pci_bus_id, driver=driver, cuda=cuda)
    yield from _xids(gpu, card)
    if gpu.error:
        return
    for name, metric in NUMBERS.items():
        if getattr(gpu, name) is not None:
            yield metric(getattr(gpu, name), **card)
    for name, (label, metric) in TABLES.items():
        for key, value in (getattr(gpu, name) or {}).items():
            yield metric(value, **card, **{label: key})
    for name, value in gpu.peaks.items():
        yield PEAKS[name](value, **card)
    if gpu.recovery_action is not None:
        yield RECOVERY(1, **card, action=gpu.recovery_action)
    if gpu.processes is not None:
        yield from _processes(gpu.processes, card)


def _xids(gpu: Gpu, card: dict[str, str]) -> Iterator[Measurement]:
    for kind in CLASSES:  # all of them, so that increase() sees the first event
        count = sum(xid.count for code, xid in gpu.xids.items() if policy(code).kind == kind)
        yield XIDS(count, **card, **{"class": kind})
    for code, xid in gpu.xids.items():
        yield XID_LAST(xid.last, **card, xid=code)


def _processes(processes: tuple[GpuProcess, ...], card: dict[str, str]) -> Iterator[Measurement]:
    counts = Counter((p.kind, "ours" if p.ours else "other" if p.name else "foreign") for p in processes)
    for kind in ("compute", "graphics"):
        for group in ("ours", "other", "foreign"):
            yield PROCESSES(counts[kind, group], **card, kind=kind, **{"class": group})
