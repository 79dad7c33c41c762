"""Which XID is whose fault, how bad is it, and what comes next? The one policy for all XIDs.

The sources disagree, so this is a judgement: NVIDIA's immediate action decides (https://docs.nvidia.com/deploy/xid-errors/),
what it calls a reset or worse is critical, what a program does to itself is no trouble of the card.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from probes.api import Finding, Rule, Severity
from probes.world.gpus import Gpu

XidClass = Literal["application", "driver", "memory", "link", "board", "other"]
CLASSES: tuple[XidClass, ...] = ("application", "driver", "memory", "link", "board", "other")


@dataclass(frozen=True, slots=True)
class Policy:
    """What one XID means. `severity` info is counted and never a finding."""

    kind: XidClass
    severity: Severity
    meaning: str
    next: str


RESTART = "restart the program that used the card"
RESET = "reset the card"
SUPPORT = "reset the card; when it comes again, ask for a replacement"
READ = "look it up in NVIDIA's XID catalog"
NOTHING = "nothing, unless others come with it"

UNKNOWN = Policy("other", "warning", "an XID this version does not know", READ)
ENGINE = Policy("application", "warning", "a channel, copy or video engine failed under a program", RESTART)
NVLINK = Policy("link", "warning", "an NVLink error", "`nvidia-smi nvlink --status`; reset all cards of the link")
UNPUBLISHED = Policy("driver", "warning", "a power, PCIe or firmware fault", READ)
QUIET = Policy("driver", "info", "the firmware or a context switch stopped a program", NOTHING)
HANG = Policy("driver", "critical", "the card or its power controller hangs", RESET)
GSP = Policy("driver", "critical", "the card's firmware processor (GSP) does not answer", RESET)
DOUBLE_BIT = Policy("memory", "critical", "an uncorrectable memory error", SUPPORT)

XIDS: dict[int, Policy] = {
    **dict.fromkeys((8, 32, 39, 40, 41, 60, *range(68, 73), 75, 76, 77, 80, *range(82, 87), 88, 89), ENGINE),
    **dict.fromkeys((*range(96, 106), *range(126, 136), 139), ENGINE),
    **dict.fromkeys((37, 38, 44, 66, 67), QUIET),
    **dict.fromkeys((46, 62, 109, 110), HANG),
    **dict.fromkeys((119, 120), GSP),
    **dict.fromkeys((48, 171, 172), DOUBLE_BIT),
    **dict.fromkeys(range(144, 151), NVLINK),
    **dict.fromkeys((*range(163, 169), 173), UNPUBLISHED),
    13: Policy("application", "info", "a program made an illegal access on the card", RESTART),
    31: Policy("application", "info", "a program touched memory that is not its own (MMU fault)", RESTART),
    43: Policy("application", "info", "a program was stopped on the card", NOTHING),
    45: Policy("application", "info", "a program was cleaned up after another error", NOTHING),
    54: Policy("board", "critical", "the auxiliary power is not connected", "switch off and check the power cables"),
    63: Policy("memory", "info", "a memory row will be remapped at the next reset", "reset the card when it suits"),
    64: Policy("memory", "critical", "a memory row could not be remapped", SUPPORT),
    74: Policy("link", "critical", "an NVLink error", NVLINK.next),
    78: Policy("driver", "warning", "the vGPU did not start", "update host and guest driver to matching versions"),
    79: Policy("board", "critical", "the card fell off the bus", "reboot; check power, riser, slot and temperature"),
    92: Policy("memory", "warning", "many single-bit memory errors", SUPPORT),
    94: Policy("memory", "warning", "a memory error that was contained to one program", RESTART),
    95: Policy("memory", "critical", "a memory error that was not contained", RESET),
    121: Policy("link", "info", "a chip-to-chip link error that was corrected", NOTHING),
    136: Policy("link", "critical", "the link training failed", RESET),
    137: Policy("link", "info", "an NVLink privilege error of a program", NOTHING),
    140: Policy("memory", "critical", "an unrecovered memory error", RESET),
    143: Policy("driver", "critical", "the card's initialisation failed", SUPPORT),
    151: Policy("driver", "warning", "a key rotation failed", "restart the virtual machine"),
    154: Policy("driver", "info", "the recovery action changed", "`nvidia-smi -q | grep -A1 Recovery`"),
    155: Policy("link", "critical", "the NVLink software gave up", RESET),
    156: Policy("memory", "critical", "a resource was retired", RESET),
    157: Policy("memory", "warning", "a resource could not be retired", SUPPORT),
    158: Policy("driver", "critical", "a security fault of the card", RESET),
    160: Policy("memory", "info", "a memory channel was retired", NOTHING),
    161: Policy("memory", "info", "a memory channel will be retired", NOTHING),
}

STEPS = (
    "1. `dmesg | grep -i xid` shows the driver's own lines and the program that was running.\n"
    "2. Do what the finding says last. To reset: stop all that uses the card, this exporter and `nvidia-persistenced` "
    "too, then `nvidia-smi --gpu-reset -i INDEX`; reboot when that is refused.\n"
    "3. If it comes again within a day: another slot, another cable, `nvidia-smi --query-gpu=temperature.gpu --format=csv -l 1` "
    "under load, then the maker's support."
)
CRITICAL = Rule("gpu-xid-critical", "critical", "The driver reported an error that the card does not survive.", STEPS)
WARNING = Rule("gpu-xid-warning", "warning", "The driver reported an error that ended somebody's work.", STEPS)


def policy(xid: int) -> Policy:
    """What that XID means; `UNKNOWN` when nobody told us."""
    return XIDS.get(xid, UNKNOWN)


def recent_xids(gpu: Gpu, since: float) -> Iterator[Finding]:
    """At most one finding a rule, of the card's XIDs after Unix time `since`."""
    for rule in (CRITICAL, WARNING):
        seen = [
            f"XID {code} ({policy(code).meaning}): {policy(code).next}"
            for code, xid in gpu.xids.items()
            if xid.last >= since and policy(code).severity == rule.severity
        ]
        if seen:
            yield rule("; ".join(seen), subject=gpu.uuid)
