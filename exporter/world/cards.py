"""What does NVML say about one card? Every answer in base units; None where the card does not tell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from exporter.world.nvml import ABSENT, CARD_GONE, CLOSED, RECOVERY, THROTTLE, Nvml, NvmlError
from exporter.world.pci import sysfs_address
from exporter.world.presence import Presence
from exporter.world.samples import Sample
from probes.world.gpus import Gpu, GpuProcess

WORK_SECONDS = 1.0  # over which a process's share of the card is asked
ASK_AGAIN = 600.0  # seconds after which a card is asked again what it did not support: drivers are updated under us
NOT_AVAILABLE = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})  # NVML_VALUE_NOT_AVAILABLE, in both widths
RECOVERY_ACTION = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
MEMORY_V2 = 0x02000028  # nvmlMemory_v2: sizeof(struct) | version << 24
LIMITS = {"shutdown": 0, "slowdown": 1, "memory_max": 2, "gpu_max": 3}  # nvmlTemperatureThresholds_t
CLOCKS = {"sm": 1, "memory": 2}  # nvmlClockType_t
ECC = {"corrected": 0, "uncorrected": 1}  # nvmlMemoryErrorType_t
VOLATILE, AGGREGATE = 0, 1  # nvmlEccCounterType_t
REMAPPED = ("corrected", "uncorrected", "pending", "failure")
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in Linux's include/linux/proc_ns.h


class Processes:
    """Whose processes are on a card? NVML tells pids of the initial pid namespace; elsewhere they name strangers."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = Path(proc)
        try:
            self.visible = os.readlink(self._proc / "self/ns/pid") == INITIAL_PID_NAMESPACE
        except OSError:
            self.visible = False

    def name(self, pid: int) -> str:
        """The program's name as the kernel keeps it, "" when it is not ours to see."""
        return self._read(pid, "comm").strip()

    def ours(self, pid: int) -> bool:
        """Is it a child of this process, however many forks below?"""
        for _ in range(16 if self.visible else 0):
            if pid == os.getpid():
                return True
            after_name = self._read(pid, "stat").rpartition(")")[2].split()
            if len(after_name) < 2 or not after_name[1].isdigit() or pid <= 1:
                return False
            pid = int(after_name[1])
        return False

    def stranger(self, pid: int) -> bool:
        """Does it live, and is it no child of ours? One that `hidepid` hides from us is another user's."""
        if not self.visible:
            return False
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except OSError:
            return False
        return not self.ours(pid)

    def own(self) -> int:
        """How many processes are below this one, by the numbers of our own namespace."""
        parents: dict[int, int] = {}
        for entry in self._proc.iterdir():
            after_name = _text(entry / "stat").rpartition(")")[2].split() if entry.name.isdigit() else ()
            if len(after_name) > 1:
                parents[int(entry.name)] = int(after_name[1])
        below, found = {os.getpid()}, 0
        while len(below) > found:  # another generation was found
            found = len(below)
            below |= {pid for pid, parent in parents.items() if parent in below}
        return found - 1

    def _read(self, pid: int, name: str) -> str:
        if not self.visible:  # the number would be somebody else's
            return ""
        return _text(self._proc / str(pid) / name)


class Card:
    """One card of an open session, and what it was found not to tell. NvmlError `gpu_is_lost` when it is gone at once."""

    def __init__(self, nvml: Nvml, index: int, processes: Processes) -> None:
        self._nvml, self._processes = nvml, processes
        self._refused: dict[tuple[str, object], float] = {}
        self._unreadable: dict[str, str] = {}
        self.index = index
        self.handle = nvml.ask("nvmlDeviceGetHandleByIndex", index, card=index)
        uuid, name, pci = (self._ask(f"nvmlDeviceGet{what}") for what in ("UUID", "Name", "PciInfo"))
        self.uuid, self.name = str(uuid or ""), str(name or "")
        self.pci_bus_id = sysfs_address(_decode(pci.busId)) if pci else ""

    def read(self) -> Gpu:
        """Everything, in some fifty calls. NvmlError only when the session is over."""
        self._unreadable = {}
        try:
            return self._read()
        except NvmlError as error:
            if error.word in CLOSED:
                raise
            return self.gone(error.word)

    def gone(self, word: str) -> Gpu:
        """What is left to say of a card that does not answer."""
        return Gpu(self.index, self.uuid, self.name, self.pci_bus_id, error=word)

    def sample(self) -> Sample:
        """The four cheap readings. NvmlError when card or session are gone."""
        at = time.monotonic()  # before it is asked: what is said to be newer than a moment must not be older
        rates, memory = self._ask("nvmlDeviceGetUtilizationRates"), self._memory()
        return Sample(
            at,
            rates.gpu / 100 if rates else None,
            memory.get("used"),
            memory.get("free"),
            self._number("nvmlDeviceGetTemperature", 0),
            self._number("nvmlDeviceGetPowerUsage", scale=1e-3),
        )

    def presence(self) -> Presence:
        """Who is here, and who works. NvmlError when card or session are gone."""
        return Presence(time.monotonic(), self._processes_now(), self._work())

    def _work(self) -> Mapping[int, float] | None:
        """The share of the card that each process took in the last second; None where it is not told by process."""
        since = int((time.time() - WORK_SECONDS) * 1e6)
        try:
            told = self._nvml.ask("nvmlDeviceGetProcessUtilization", self.handle, since, card=self.index)
        except NvmlError as error:
            if error.word in CARD_GONE or error.word in CLOSED:
                raise
            return {} if error.word == "not_found" else None  # that word: nobody did anything
        newest = {entry.pid: entry for entry in sorted(told, key=lambda entry: int(entry.timeStamp))}
        return {int(pid): entry.smUtil / 100 for pid, entry in newest.items() if entry.smUtil <= 100}  # else junk

    def _read(self) -> Gpu:
        rates, memory = self._ask("nvmlDeviceGetUtilizationRates"), self._memory()
        limit = self._number("nvmlDeviceGetPowerManagementLimit", scale=1e-3)
        mig = self._ask("nvmlDeviceGetMigMode")
        return Gpu(
            self.index,
            self.uuid,
            self.name,
            self.pci_bus_id,
            utilization=rates.gpu / 100 if rates else None,
            memory_utilization=rates.memory / 100 if rates else None,
            memory_total=memory.get("total"),
            memory_used=memory.get("used"),
            memory_reserved=memory.get("reserved"),
            memory_free=memory.get("free"),
            temperature=self._number("nvmlDeviceGetTemperature", 0),
            temperature_margin=self._number("nvmlDeviceGetMarginTemperature"),
            temperature_limits=self._table("nvmlDeviceGetTemperatureThreshold", LIMITS),
            power=self._number("nvmlDeviceGetPowerUsage", scale=1e-3),
            # Laptops have no limit to manage, only one that is enforced.
            power_limit=self._number("nvmlDeviceGetEnforcedPowerLimit", scale=1e-3) if limit is None else limit,
            power_default_limit=self._number("nvmlDeviceGetPowerManagementDefaultLimit", scale=1e-3),
            clocks=self._table("nvmlDeviceGetClockInfo", CLOCKS, scale=1e6),
            clocks_max=self._table("nvmlDeviceGetMaxClockInfo", CLOCKS, scale=1e6),
            throttle=self._throttle(),
            pcie_generation=self._whole("nvmlDeviceGetCurrPcieLinkGeneration"),
            pcie_generation_max=self._whole("nvmlDeviceGetMaxPcieLinkGeneration"),
            pcie_width=self._whole("nvmlDeviceGetCurrPcieLinkWidth"),
            pcie_width_max=self._whole("nvmlDeviceGetMaxPcieLinkWidth"),
            pcie_replays=self._whole("nvmlDeviceGetPcieReplayCounter"),
            ecc=self._ecc(AGGREGATE),
            ecc_volatile=self._ecc(VOLATILE),
            remapped_rows=dict(zip(REMAPPED, self._ask("nvmlDeviceGetRemappedRows") or (), strict=False)),
            energy=self._number("nvmlDeviceGetTotalEnergyConsumption", scale=1e-3),
            recovery_action=self._recovery(),
            mig=bool(mig and mig[0]),
            processes=self._processes_now(),
            unreadable=self._unreadable,
        )

    def _memory(self) -> Mapping[str, int]:
        memory = self._ask("nvmlDeviceGetMemoryInfo", MEMORY_V2) or self._ask("nvmlDeviceGetMemoryInfo")
        values = {name: getattr(memory, name, None) for name in ("total", "used", "reserved", "free")}
        return {name: value for name, value in values.items() if value is not None and value not in NOT_AVAILABLE}

    def _throttle(self) -> Mapping[str, bool] | None:
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # the name before driver 535
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if mask is None else {reason: bool(mask & bit) for reason, bit in THROTTLE.items()}

    def _ecc(self, since: int) -> Mapping[str, int]:
        counts = {kind: self._whole("nvmlDeviceGetTotalEccErrors", number, since) for kind, number in ECC.items()}
        return {kind: count for kind, count in counts.items() if count is not None}

    def _recovery(self) -> str | None:
        fields = self._ask("nvmlDeviceGetFieldValues", (RECOVERY_ACTION,))
        if not fields or fields[0].nvmlReturn != 0:
            return None
        action = int(fields[0].value.uiVal)
        return RECOVERY[action] if action < len(RECOVERY) else f"action_{action}"

    def _processes_now(self) -> tuple[GpuProcess, ...] | None:
        # By their full names: of the short ones the binding says with an exception of its own that a driver before 510
        # does not know them.
        compute = self._ask("nvmlDeviceGetComputeRunningProcesses_v3")
        graphics = self._ask("nvmlDeviceGetGraphicsRunningProcesses_v3")
        if compute is None and graphics is None:
            return None
        return (
            *(self._process(entry, "compute") for entry in compute or ()),
            *(self._process(entry, "graphics") for entry in graphics or ()),
        )

    def _process(self, entry: Any, kind: Literal["compute", "graphics"]) -> GpuProcess:
        pid, memory = int(entry.pid), entry.usedGpuMemory
        known = memory is not None and memory not in NOT_AVAILABLE
        return GpuProcess(
            pid, kind, int(memory) if known else None, self._processes.name(pid), self._processes.ours(pid)
        )

    def _table(self, function: str, which: Mapping[str, int], scale: float = 1.0) -> Mapping[str, float]:
        values = {name: self._number(function, number, scale=scale) for name, number in which.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _whole(self, function: str, *args: object) -> int | None:
        value = self._number(function, *args)
        return None if value is None else int(value)

    def _number(self, function: str, *args: object, scale: float = 1.0) -> float | None:
        value = self._ask(function, *args)
        return None if value is None or value in NOT_AVAILABLE else value * scale

    def _ask(self, function: str, *args: object) -> Any:
        """NVML's answer; None where there is none. NvmlError when card or session are gone."""
        question = (function, args)
        if self._refused.get(question, 0.0) > time.monotonic():
            return None
        self._refused.pop(question, None)
        try:
            return self._nvml.ask(function, self.handle, *args, card=self.index)
        except NvmlError as error:
            if error.word in CARD_GONE or error.word in CLOSED:
                raise
            if error.word in ABSENT:
                self._refused[question] = time.monotonic() + ASK_AGAIN
            else:
                self._unreadable[function] = error.word
            return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process ended
        return ""


def _decode(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value
