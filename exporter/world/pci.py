"""Which cards are on the PCI bus, whether or not a driver speaks for them?"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from probes.world.gpus import PciGpu, Vendor

# https://pci-ids.ucw.cz: base class 03 is a display controller, 12 a processing accelerator (AMD Instinct).
CLASSES = ("0x03", "0x12")
VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}


def cards_on_the_bus(sysfs: str = "/sys") -> tuple[PciGpu, ...] | None:
    """The cards, by address; None where nobody may look. Virtual functions (SR-IOV) are parts of a card, not cards."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return (PciGpu("", "apple", "Apple silicon"),)
    devices = Path(sysfs, "bus/pci/devices")
    try:
        addresses = sorted(os.listdir(devices))
    except OSError:
        return None
    found = (_card(devices / address) for address in addresses)
    return tuple(card for card in found if card is not None)


def sysfs_address(bus_id: str) -> str:
    """NVML's `00000000:C6:00.0` as sysfs and lspci write it, `0000:c6:00.0`."""
    domain, colon, rest = bus_id.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}" if colon else bus_id


def slot(bus_id: str) -> str:
    """A card's address without its function, `0000:c6:00`: the kernel log tells no more."""
    return sysfs_address(bus_id).partition(".")[0]


def _card(device: Path) -> PciGpu | None:
    try:
        if not _word(device / "class").startswith(CLASSES) or (device / "physfn").exists():
            return None
        vendor, model = _word(device / "vendor"), _word(device / "device")
    except OSError:  # unplugged between listing and reading
        return None
    driver = device / "driver"
    name = f"{vendor[2:]}:{model[2:]}"
    bound = os.path.basename(os.readlink(driver)) if driver.is_symlink() else ""
    return PciGpu(device.name, VENDORS.get(vendor, "other"), name, bound)


def _word(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        return file.read(16).strip().lower()
