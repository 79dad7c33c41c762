"""Does the probe `gpu_driver` know a missing driver from a missing card, and an old version from junk?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.api import Finding, Json, Measurement
from probes.environment.gpu_driver import PROBE, GpuDriverParams
from probes.testing import RecordedWorld, run_recorded, verify

NVIDIA = {"address": "0000:01:00.0", "vendor": "nvidia", "name": "10de:2684", "driver": "nvidia"}
SECOND = {**NVIDIA, "address": "0000:02:00.0"}
CARD = {"index": 0, "uuid": "GPU-0", "pci_bus_id": "0000:01:00.0", "memory_total": 2**34}
WELL: dict[str, object] = {"library": True, "driver": "570.86.15", "cuda": "12.8", "gpus": [CARD], "pci": [NVIDIA]}
Params = Mapping[str, Json]


def findings(gpus: Mapping[str, object], params: Params | None = None, container: str = "") -> list[tuple[str, str]]:
    """(rule, subject) of what fires."""
    world = RecordedWorld({"gpus": gpus, "host": {"os": "linux", "container": container}})
    facts, end = run_recorded(PROBE, params or {}, world)
    assert end == ""
    return [(fact.rule, fact.subject) for fact in facts if isinstance(fact, Finding)]


def test_it_keeps_the_contract() -> None:
    assert verify(PROBE) == []


def test_a_card_that_the_container_was_not_given_is_never_called_no_gpu() -> None:
    for gpus in (
        {"pci": [NVIDIA]},  # neither library nor devices
        {"library": True, "error": "driver_not_loaded", "pci": [NVIDIA]},  # the library, and no devices
        {"library": True, "error": "unknown", "pci": [NVIDIA]},  # after `systemctl daemon-reload` on the host
        {"library": True, "pci": [NVIDIA]},
    ):
        assert findings(gpus, container="docker") == [("gpu-not-passed-in", "0000:01:00.0")]


def test_one_card_of_two_is_a_finding_in_a_container_until_the_config_says_that_one_is_right() -> None:
    gpus = {**WELL, "pci": [NVIDIA, SECOND]}
    assert findings(gpus, container="docker") == [("gpu-not-passed-in", "0000:02:00.0")]
    assert findings(gpus, {"expected_cards": 1}, container="docker") == []


def test_on_the_host_the_same_is_a_missing_card() -> None:
    assert findings({**WELL, "pci": [NVIDIA, SECOND]}) == [("gpu-missing", "0000:02:00.0")]


def test_a_lost_card_is_not_counted_as_working() -> None:
    lost = {**WELL, "gpus": [{**CARD, "error": "gpu_is_lost"}]}
    assert findings(lost, {"expected_cards": 1}) == [("gpu-missing", "")]


@pytest.mark.parametrize(
    ("gpus", "rule"),
    [
        ({"pci": [{**NVIDIA, "driver": "nouveau"}]}, "gpu-driver-missing"),
        ({"pci": [{**NVIDIA, "driver": ""}]}, "gpu-driver-missing"),
        ({"library": True, "error": "driver_not_loaded", "pci": [NVIDIA]}, "gpu-driver-missing"),
        ({"library": True, "error": "unknown"}, "gpu-driver-missing"),
        ({"library": True, "error": "lib_rm_version_mismatch", "pci": [NVIDIA]}, "gpu-driver-mismatch"),
    ],
)
def test_a_driver_that_does_not_work_says_why(gpus: Mapping[str, object], rule: str) -> None:
    assert findings(gpus) == [(rule, "")]


@pytest.mark.parametrize(
    ("gpus", "end"),
    [
        ({}, "not_applicable:no_gpu"),
        ({"library": True, "error": "driver_not_loaded"}, "not_applicable:no_gpu"),
        ({"library": True}, "not_applicable:no_gpu"),
        ({"pci": [{**NVIDIA, "driver": "vfio-pci"}]}, "not_applicable:no_gpu"),
        ({"bus": False}, "blind:platform"),
        ({"bus": False, "library": True, "error": "driver_not_loaded"}, "blind:platform"),
    ],
)
def test_a_machine_without_a_card_is_calm_and_one_nobody_may_look_at_is_blind(
    gpus: Mapping[str, object], end: str
) -> None:
    assert run_recorded(PROBE, {}, RecordedWorld({"gpus": gpus})) == ([], end)


@pytest.mark.parametrize("vendor", ["amd", "intel", "apple"])
def test_a_card_of_another_vendor_is_counted_and_told_and_no_trouble(vendor: str) -> None:
    facts, end = run_recorded(PROBE, {}, RecordedWorld({"gpus": {"pci": [{"address": "x", "vendor": vendor}]}}))
    assert end == ""
    assert [fact.severity for fact in facts if isinstance(fact, Finding)] == ["info"]
    counts = [(dict(fact.labels)["vendor"], fact.value) for fact in facts if isinstance(fact, Measurement)]
    assert counts == [("nvidia", 0.0), (vendor, 1.0)]


def test_wsl_where_nvml_shows_a_card_that_is_not_on_the_bus_is_well() -> None:
    assert findings({**WELL, "pci": [{"address": "x", "vendor": "other"}]}) == []


@pytest.mark.parametrize(
    ("have", "want", "well"),
    [
        ("570.86.15", "570", True),
        ("570.86.15", "570.86.15", True),
        ("570.86", "570.86.0", True),
        ("570.86.15", "570.86.16", False),
        ("570.86.15", "1000", False),
        ("570.9", "570.10", False),
        ("580.65-open", "580.65", True),
        ("", "1", False),
        ("newest", "1", False),
        ("9" * 5000, "1", False),
    ],
)
def test_versions_are_compared_as_numbers_and_junk_is_too_old(have: str, want: str, well: bool) -> None:
    fired = findings({**WELL, "driver": have}, {"minimum_driver": want})
    assert (fired == []) is well


@given(st.text(), st.text())
def test_no_version_of_a_driver_breaks_the_probe(driver: str, cuda: str) -> None:
    params: Params = {"minimum_driver": "550.54", "minimum_cuda": "12.1", "cuda": "12"}
    assert all(
        rule in ("gpu-driver-old", "gpu-cuda-other")
        for rule, _ in findings({**WELL, "driver": driver, "cuda": cuda}, params)
    )


@pytest.mark.parametrize(
    ("wanted", "well"), [("12", True), ("12.8", True), ("12.1", False), ("1", False), ("12.80", False)]
)
def test_the_cuda_that_is_named_is_the_very_one(wanted: str, well: bool) -> None:
    assert (findings(WELL, {"cuda": wanted}) == []) is well


def test_memory_that_a_card_does_not_tell_is_not_enough() -> None:
    silent = {**WELL, "gpus": [{**CARD, "memory_total": None}]}
    assert findings(silent) == []
    assert findings(silent, {"minimum_memory": "1GiB"}) == [("gpu-memory-small", "GPU-0")]
    assert findings(WELL, {"minimum_memory": "16GiB"}) == []


@pytest.mark.parametrize("version", ["v570", "570.", "570.86.15.1.1", "latest", "570 || true"])
def test_a_version_in_the_config_is_a_version(version: str) -> None:
    with pytest.raises(ValidationError):
        GpuDriverParams(minimum_driver=version)
