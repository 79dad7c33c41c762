"""How is NVML asked, one call at a time, and what does its answer mean? The only importer of pynvml."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# glibc's search path first; WSL2 keeps the library where not every distribution looks.
LIBRARIES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")

# NVML's own constants, https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html, in lower case.
ABSENT = frozenset(
    {
        "not_supported",
        "function_not_found",
        "no_permission",
        "invalid_argument",
        "argument_version_mismatch",
        "no_data",
        "deprecated",
        "vgpu_ecc_not_supported",
    }
)
CARD_GONE = frozenset({"gpu_is_lost", "gpu_not_found", "reset_required"})
CLOSED = frozenset({"uninitialized", "driver_not_loaded", "lib_rm_version_mismatch"})
THROTTLE = {
    "gpu_idle": 0x001,
    "clocks_setting": 0x002,
    "power_cap": 0x004,
    "hw_slowdown": 0x008,
    "sync_boost": 0x010,
    "sw_thermal": 0x020,
    "hw_thermal": 0x040,
    "hw_power_brake": 0x080,
    "display_clocks": 0x100,
}
RECOVERY = (
    "none",
    "reset",
    "reboot",
    "drain",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)


class NvmlError(Exception):
    """NVML's answer was an error; `word` is its constant, like `gpu_is_lost`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


@dataclass(frozen=True, slots=True)
class Call:
    """A call into the library that has not returned yet."""

    function: str
    card: int | None
    since: float  # monotonic


def load(libraries: Sequence[str] = LIBRARIES) -> ctypes.CDLL | None:
    """The driver's library, or None where there is none. It is not asked anything yet, and pynvml is not imported."""
    for name in libraries:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


class Nvml:
    """The library. One thread asks; any thread may look at `call`, which is set while a call is under way."""

    def __init__(self, library: ctypes.CDLL) -> None:
        import pynvml  # 8,000 lines: only machines with a driver pay for them

        pynvml.nvmlLib = library  # else it would search for itself, and not find WSL2's
        self._binding: ModuleType = pynvml
        self._words: Mapping[int, str] = {
            value: name.removeprefix("NVML_ERROR_").lower()
            for name, value in vars(pynvml).items()
            if name.startswith("NVML_ERROR_") and isinstance(value, int)
        }
        self.call: Call | None = None
        self.open = False

    def ask(self, function: str, *args: object, card: int | None = None) -> Any:
        """The binding's answer. NvmlError when NVML says no, `unknown` too when it answers junk."""
        self.call = Call(function, card, time.monotonic())
        try:
            return getattr(self._binding, function)(*args)
        except self._binding.NVMLError as error:
            raise NvmlError(self._words.get(error.value, f"code_{error.value}")) from None
        except UnicodeDecodeError:
            raise NvmlError("unknown") from None
        finally:
            self.call = None

    def start(self) -> None:
        """Open the session if it is not open. NvmlError: no driver, another version than the library's, ..."""
        if not self.open:
            self.ask("nvmlInit")
            self.open = True

    def stop(self) -> None:
        """Close the session; what NVML thinks of that changes nothing."""
        if self.open:
            self.open = False
            try:
                self.ask("nvmlShutdown")
            except NvmlError:
                return

    def driver(self) -> str:
        return self._text("nvmlSystemGetDriverVersion")

    def cuda(self) -> str:
        """The newest CUDA the driver supports: NVML's 12080 is 12.8."""
        try:
            number = int(self.ask("nvmlSystemGetCudaDriverVersion_v2"))
        except NvmlError:
            return ""
        return f"{number // 1000}.{number % 1000 // 10}"

    def _text(self, function: str) -> str:
        try:
            return str(self.ask(function))
        except NvmlError:
            return ""


class XidEvents:
    """NVML's own XID events. Where a card or the driver has none, there are simply no events from it."""

    TYPE, AT_ONCE = 0x8, 32

    def __init__(self, nvml: Nvml, cards: Mapping[int, Any]) -> None:
        self._nvml = nvml
        self._cards = {ctypes.cast(handle, ctypes.c_void_p).value: index for index, handle in cards.items()}
        try:
            self._set = nvml.ask("nvmlEventSetCreate")
        except NvmlError:
            self._set = None
            return
        for index, handle in cards.items():
            try:
                if int(nvml.ask("nvmlDeviceGetSupportedEventTypes", handle, card=index)) & self.TYPE:
                    nvml.ask("nvmlDeviceRegisterEvents", handle, self.TYPE, self._set, card=index)
            except NvmlError:
                continue

    def take(self) -> list[tuple[int, int]]:
        """(card's index, XID) of what happened since the last call; never waits."""
        events: list[tuple[int, int]] = []
        while self._set is not None and len(events) < self.AT_ONCE:
            try:
                event = self._nvml.ask("nvmlEventSetWait_v2", self._set, 0)
            except NvmlError:  # `timeout`: no more of them
                break
            index = self._cards.get(ctypes.cast(event.device, ctypes.c_void_p).value)
            if event.eventType == self.TYPE and index is not None:
                events.append((index, int(event.eventData)))
        return events
