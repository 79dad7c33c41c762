"""Where do tests get a libnvidia-ml? From `stub.c`, compiled once, which answers from a file that `Stub` rewrites.

stub = Stub(build_stub(directory))     # two healthy cards
stub.set({"gpu0.temperature": 93, "gpu1.err.nvmlDeviceGetName": GPU_IS_LOST, "gpu0.power": None})  # None takes a line away
subprocess.Popen(..., env={**os.environ, **stub.env()})
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH, UNKNOWN = 3, 9, 15, 18, 999
MIB = 1024 * 1024
UUIDS = tuple(f"GPU-{n}0000000-1111-2222-3333-444444444444" for n in range(2))
BUS_IDS = ("0000:01:00.0", "0000:c6:00.0")


def compiler() -> list[str] | None:
    """How C is compiled here: cc, gcc or clang, else the compiler in the PyPI wheel `ziglang`; None without any."""
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found:
        return [found]
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def build_stub(directory: Path) -> Path:
    """`directory/libnvidia-ml.so.1`, compiled. RuntimeError without a compiler (look at `compiler()` first)."""
    cc = compiler()
    if cc is None:
        raise RuntimeError("no C compiler: apt-get install gcc, or pip install ziglang")
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("stub.c")
    subprocess.run([*cc, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True, timeout=120)
    return library


class Stub:
    """The compiled library and the file it answers from, which lies beside it under `name`."""

    def __init__(self, library: Path, name: str = "answers") -> None:
        self.library = library
        self.file = library.parent / name
        self.values: dict[str, object] = {}
        self.events = 0
        self.set(HEALTHY)

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to find this library and this file."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "GPU_CANARY_STUB_NVML": str(self.file)}

    def set(self, values: Mapping[str, object]) -> None:
        """Change lines of the file, all at once; a value of None takes its line away (that is "not supported")."""
        self.values = {k: v for k, v in {**self.values, **values}.items() if v is not None}
        fresh = self.file.with_suffix(".new")
        text = "".join(f"{key} {value}\n" for key, value in self.values.items())
        fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
        os.replace(fresh, self.file)

    def raise_xid(self, card: int, xid: int) -> None:
        """Tell every event set that exists by now of one more XID."""
        self.events += 1
        self.set({f"event{self.events}": f"{card} {xid}"})


# A healthy, idle 24 GiB GeForce that tells nearly everything.
ALIKE: Mapping[str, object] = {
    "name": "NVIDIA GeForce RTX 4090",
    "event_types": 8,
    "utilization": 0,
    "memory_utilization": 0,
    "memory_total": 24564 * MIB,
    "memory_used": 512 * MIB,
    "memory_reserved": 346 * MIB,
    "temperature": 41,
    "temperature_margin": 49,
    "shutdown_limit": 100,
    "slowdown_limit": 97,
    "gpu_limit": 90,
    "power": 32_500,
    "power_limit": 450_000,
    "power_default_limit": 450_000,
    "energy": 123_456_000,
    "clock_sm": 210,
    "clock_memory": 405,
    "clock_max_sm": 3105,
    "clock_max_memory": 10501,
    "throttle": 1,
    "pcie_generation": 1,
    "pcie_generation_max": 4,
    "pcie_width": 16,
    "pcie_width_max": 16,
    "pcie_replays": 0,
    "ecc_corrected_volatile": 0,
    "ecc_uncorrected_volatile": 0,
    "ecc_corrected_aggregate": 3,
    "ecc_uncorrected_aggregate": 0,
    "remap_corrected": 0,
    "recovery_action": 0,
    "mig": 0,
    "processes": "",
    "work": "",
}


def _card(index: int) -> dict[str, object]:
    # NVML writes the PCI domain with eight digits.
    values = {**ALIKE, "uuid": UUIDS[index], "pci": f"0000{BUS_IDS[index].upper()}"}
    return {f"gpu{index}.{key}": value for key, value in values.items()}


HEALTHY: Mapping[str, object] = {"count": 2, "driver": "570.86.15", "cuda": 12080, **_card(0), **_card(1)}
