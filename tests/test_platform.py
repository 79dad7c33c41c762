"""Does the platform probe compare versions as versions, and refuse what it cannot read?"""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from probes.api import Finding
from probes.environment.platform import PROBE, PlatformParams
from probes.testing import RecordedWorld, run_recorded, verify


def findings(params: dict[str, object], **host: object) -> list[str]:
    facts, end = run_recorded(PROBE, params, RecordedWorld({"host": host}))  # type: ignore[arg-type]
    assert end == ""
    return [fact.rule for fact in facts if isinstance(fact, Finding)]


def test_the_contract_holds() -> None:
    assert verify(PROBE) == []


@pytest.mark.parametrize(
    ("python", "old"), [("3.9.1", True), ("3.10.0", True), ("3.11.0", False), ("3.14.0rc2", False), ("4.0.0", False)]
)
def test_versions_are_compared_as_numbers_not_as_text(python: str, old: bool) -> None:
    assert ("platform-python-old" in findings({}, python=python)) is old


def test_an_unreadable_version_is_never_new_enough() -> None:
    for junk in ("", "three", "3", "\x00"):
        _, end = run_recorded(PROBE, {}, RecordedWorld({"host": {"python": junk}}))
        assert end.startswith("error: ValueError")


def test_without_expectations_any_architecture_will_do() -> None:
    assert findings({}, python="3.12.0", architecture="riscv64") == []
    assert findings({"architectures": ["x86_64"]}, python="3.12.0") == ["platform-architecture-unexpected"]


def test_a_minimum_that_is_no_version_is_refused_with_the_config() -> None:
    with pytest.raises(ValidationError):
        PlatformParams(minimum_python="new")
