"""What is wrong with a card, beyond doubt? Thresholds of taste are targets in the config, not rules."""

from __future__ import annotations

import math
from collections.abc import Iterator

from probes.api import Finding, Rule
from probes.world.gpus import Gpu

LOST = Rule(
    "gpu-lost",
    "critical",
    "A card that was there does not answer any more: it fell off the bus or needs a reset.",
    "1. `nvidia-smi -L` and `lspci | grep -i nvidia` tell who still sees it.\n"
    "2. `dmesg | grep -i xid` tells why: 79 is the bus, 119 the card's firmware.\n"
    "3. Switch the machine off and on; a warm `reboot` is often not enough.\n"
    "4. Again? Reseat the card, try another power cable and slot, and watch its temperature.",
)
HOT = Rule(
    "gpu-hot",
    "warning",
    "The card is as hot as it may get, and slows itself down.",
    "1. `nvidia-smi -q -d TEMPERATURE` shows the card's own limits.\n"
    "2. Clean dust, free the fans and the case's air, and look at the room.\n"
    "3. `nvidia-smi -i INDEX -pl WATTS` with 80 % of its power limit costs a few percent of speed and many degrees.",
)
THROTTLED = Rule(
    "gpu-throttled-thermal",
    "warning",
    "The card lowers its clocks because of heat, or because the power supply told it to.",
    "1. `nvidia-smi -q -d PERFORMANCE` shows the reasons as they are now.\n"
    "2. hw_thermal, sw_thermal: cool it, as for `gpu-hot`.\n"
    "3. hw_power_brake: the supply or the server's power management holds it back; check cables and the BMC.",
)
ECC = Rule(
    "gpu-ecc-uncorrectable",
    "critical",
    "The card's memory had errors since the driver was loaded that it could not correct: results may be wrong.",
    "1. `nvidia-smi -q -d ECC,ROW_REMAPPER` shows where.\n"
    "2. Stop the workloads and `nvidia-smi --gpu-reset -i INDEX`, which also applies pending row remaps.\n"
    "3. When it comes again, ask the maker for a replacement.",
)
REMAP_PENDING = Rule(
    "gpu-row-remap-pending",
    "warning",
    "A bad memory row waits for a reset to be replaced by a spare one.",
    "1. `nvidia-smi -q -d ROW_REMAPPER` confirms it.\n"
    "2. When it suits, stop the workloads and `nvidia-smi --gpu-reset -i INDEX`.",
)
REMAP_FAILED = Rule(
    "gpu-row-remap-failed",
    "critical",
    "A bad memory row could not be replaced: there are no spare ones left.",
    "1. `nvidia-smi -q -d ROW_REMAPPER` is what the maker's support asks for.\n2. Take the card out of service.",
)
RECOVERY = Rule(
    "gpu-recovery-needed",
    "critical",
    "The driver itself asks for the card to be reset, drained or rebooted.",
    "1. `nvidia-smi -q | grep -A1 -i recovery` confirms what it asks for.\n"
    "2. reset: stop all that uses the card and `nvidia-smi --gpu-reset -i INDEX`. reboot: do so. drain: let running work "
    "end, start none.",
)
UNREADABLE = Rule(
    "gpu-unreadable",
    "warning",
    "The card fails to answer what it supports, which often comes before worse.",
    "1. `nvidia-smi -q -i INDEX` shows the same readings as `Unknown Error`.\n"
    "2. `dmesg | grep -i -e xid -e nvrm` tells more.\n3. Reset the card when nothing runs on it.",
)
NVML_FAILED = Rule(
    "gpu-nvml-failed",
    "critical",
    "The driver's management library is there but does not start: no card can be used or watched.",
    "1. `nvidia-smi` says the same in more words.\n"
    "2. driver_not_loaded: `modprobe nvidia`, and `dmesg | grep -i nvrm` if that fails.\n"
    "3. lib_rm_version_mismatch: the driver was updated under a running kernel module; reboot.",
)
CARD_RULES = (LOST, HOT, THROTTLED, ECC, REMAP_PENDING, REMAP_FAILED, RECOVERY, UNREADABLE)
LIMITS = ("gpu_max", "slowdown", "assumed")  # the first that a card has is how hot it may get
BRAKES = ("sw_thermal", "hw_thermal", "hw_power_brake")


def troubles(gpu: Gpu) -> Iterator[Finding]:
    """The rules that fire for one card, at most once each."""
    card = f"card {gpu.index}{f' at {gpu.pci_bus_id}' if gpu.pci_bus_id else ''}"
    if gpu.error:
        yield LOST(f"{card}: {gpu.error}", subject=gpu.uuid)
        return
    yield from _heat(gpu, card)
    brakes = [reason for reason in BRAKES if gpu.throttle and gpu.throttle.get(reason)]
    if brakes:
        yield THROTTLED(f"{card}: {', '.join(brakes)}", subject=gpu.uuid)
    if gpu.ecc_volatile.get("uncorrected"):
        yield ECC(f"{card}: {gpu.ecc_volatile['uncorrected']} since the driver was loaded", subject=gpu.uuid)
    if gpu.remapped_rows.get("pending"):
        yield REMAP_PENDING(f"{card}: a remap is pending", subject=gpu.uuid)
    if gpu.remapped_rows.get("failure"):
        yield REMAP_FAILED(f"{card}: a remap failed", subject=gpu.uuid)
    if gpu.recovery_action not in (None, "none"):
        yield RECOVERY(f"{card}: {gpu.recovery_action}", subject=gpu.uuid)
    if gpu.unreadable:
        answers = ", ".join(f"{function} says {word}" for function, word in sorted(gpu.unreadable.items()))
        yield UNREADABLE(f"{card}: {answers}", subject=gpu.uuid)


def _heat(gpu: Gpu, card: str) -> Iterator[Finding]:
    limit = next((gpu.temperature_limits[name] for name in LIMITS if name in gpu.temperature_limits), math.inf)
    if gpu.temperature_margin is not None and gpu.temperature_margin <= 0:
        yield HOT(f"{card}: {gpu.temperature_margin:.0f} C left until it slows itself down", subject=gpu.uuid)
    elif gpu.temperature is not None and gpu.temperature >= limit:
        yield HOT(f"{card}: {gpu.temperature:.0f} C, its limit is {limit:.0f} C", subject=gpu.uuid)
