"""What does a finished program leave behind?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended. `code` is the exit status, negative for a signal; None when it was killed at its timeout."""

    code: int | None
    stdout: str = ""
    stderr: str = ""

    @property
    def timed_out(self) -> bool:
        return self.code is None
