"""Why did a run end early, and whose fault is it? (DESIGN.md section 2; the reasons are a closed list.)

Skipped          nothing was learnt about the subject
  Blind          our own means are missing
  NotApplicable  the question does not apply to this machine
  Deferred       put off by the idle gate, quiet hours, a lane or an abort
Aborted          the run's cancel token fired; the runner knows why
SubjectFailed    the subject did something no door can answer for: its finding travels with the exception
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

from probes.facts import Fact, Finding

SkipClass = Literal["blind", "not_applicable", "deferred"]
BlindReason = Literal["permission", "no_interpreter", "no_torch", "no_browser", "no_library", "no_source", "platform"]
InapplicableReason = Literal["no_gpu", "no_device", "not_configured", "no_generator", "unsupported"]
GateReason = Literal["gpu_busy", "quiet_hours", "lock_file", "service_busy"]
DeferredReason = Literal[GateReason, "other_run", "preparing", "lane_busy", "overlap", "shutdown", "removed", "aborted"]
AbortReason = Literal[GateReason, "deadline", "shutdown", "removed", "aborted"]


class Skipped(Exception):
    """Nothing was learnt. `reason` is one of the class's closed list and becomes a label; `detail` is for people."""

    skip_class: ClassVar[SkipClass]
    reasons: ClassVar[tuple[str, ...]]

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in self.reasons:
            raise ValueError(f"{type(self).__name__} reason {reason!r} is not one of {self.reasons}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Blind(Skipped):
    """Our own means are missing: no permission, no interpreter with torch, no browser."""

    skip_class = "blind"
    reasons = get_args(BlindReason)


class NotApplicable(Skipped):
    """The question does not apply to this machine, and that is fine."""

    skip_class = "not_applicable"
    reasons = get_args(InapplicableReason)


class Deferred(Skipped):
    """The run was put off; the last measured result stands."""

    skip_class = "deferred"
    reasons = get_args(DeferredReason)


SKIP_REASONS: dict[SkipClass, tuple[str, ...]] = {c.skip_class: c.reasons for c in (Blind, NotApplicable, Deferred)}


class Aborted(Exception):
    """A door stopped because the run's cancel token fired (its deadline passed, the exporter stops, ...)."""

    def __init__(self, reason: AbortReason) -> None:
        super().__init__(reason)
        self.reason: AbortReason = reason


class SubjectFailed(Exception):
    """The subject ended the run (a worker crashed, a driver hangs). A probe may catch it to say more than the finding.

    `facts`: what was learnt of the run all the same, such as what its card did.
    """

    def __init__(self, finding: Finding, evidence: str = "", facts: Sequence[Fact] = ()) -> None:
        super().__init__(f"{finding.rule}: {finding.detail}")
        self.finding = finding
        self.evidence = evidence
        self.facts = facts
