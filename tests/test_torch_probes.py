"""Do the probes of torch hold their contract, and do their workers measure something true under a real torch?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.api import (
    Conditions,
    Evidence,
    Fact,
    Finding,
    Identity,
    Json,
    NotApplicable,
    Probe,
    Progress,
    Row,
    SubjectFailed,
    card_of,
    facts_of,
)
from probes.benchmarks import matmul, memory_copy
from probes.environment import packages, torch_import
from probes.environment.requirements import read
from probes.environment.torch_import_rules import install, version
from probes.rules import WORKER_OUT_OF_MEMORY
from probes.testing import RecordedWorld, verify
from tests.torch_side import TORCH, WorkingWorld, measured, run

FILE = "/srv/requirements.txt"


@pytest.mark.parametrize(
    "probe", [m.PROBE for m in (matmul, memory_copy, torch_import, packages)], ids=lambda p: p.name
)
def test_the_probe_keeps_every_promise(probe: Probe[Any]) -> None:
    assert verify(probe) == []


# ------------------------------------------------------------------ real workers


@pytest.mark.torch
def test_matmul_measures_this_processor_and_records_identity_and_conditions() -> None:
    world = WorkingWorld()
    facts = run(matmul.PROBE, world, size=256, seconds="200ms")
    values = measured(facts)
    assert list(values) == [("flops_per_second", "fp32", "cpu")]
    assert 1e8 < values["flops_per_second", "fp32", "cpu"] < 1e14
    identity = next(f.values for f in facts if isinstance(f, Identity))
    conditions = next(f.values for f in facts if isinstance(f, Conditions))
    assert len(identity["revision"]) == 12
    assert conditions["device"] == "cpu"
    assert conditions["torch"][0].isdigit()
    assert Progress(1.0, 1.0) in facts
    assert "peak RSS" in next(f.text for f in facts if isinstance(f, Evidence) and f.name == "worker memory")
    again = run(matmul.PROBE, world, size=64, seconds="10ms", dtypes=["bf16"])
    assert ("flops_per_second", "bf16", "cpu") in measured(again)
    assert settled(again) == settled(facts), "two runs differ in their numbers, in nothing that a baseline compares"


def settled(facts: list[Fact]) -> list[Mapping[str, str]]:
    return [f.values for f in facts if isinstance(f, Conditions | Identity)]


@pytest.mark.torch
def test_twice_the_bytes_of_a_copy_are_counted() -> None:
    value = measured(run(memory_copy.PROBE, WorkingWorld(), size="8MiB", seconds="200ms"))["bytes_per_second", "cpu"]
    assert 1e8 < value < 1e13


@pytest.mark.torch
def test_an_impossible_size_is_out_of_memory_not_a_crash() -> None:
    with pytest.raises(SubjectFailed) as caught:
        run(memory_copy.PROBE, WorkingWorld(), size="4000TiB")
    assert caught.value.finding.rule == "worker-out-of-memory"


@pytest.mark.torch
def test_torch_is_seen_from_inside_and_a_kernel_really_runs() -> None:
    facts = run(torch_import.PROBE, WorkingWorld())
    values = measured(facts)
    assert values["devices",] == 0
    assert values["import_seconds",] > 0.01
    assert not [f for f in facts if isinstance(f, Finding)]


@pytest.mark.torch
def test_a_card_that_this_torch_was_not_built_for_is_a_finding_with_the_command() -> None:
    world = WorkingWorld({"gpus": {"library": True, "cuda": "12.8", "gpus": [{"index": 0, "uuid": "GPU-1"}]}})
    finding = next(f for f in run(torch_import.PROBE, world) if isinstance(f, Finding))
    assert finding.rule == "torch-cuda-unavailable"
    assert (
        f"`{TORCH} -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128`"
        in finding.detail
    )


@pytest.mark.torch
def test_a_torch_with_one_broken_file_is_an_import_failure(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    site = next((TORCH.parent.parent / "lib").glob("python3*/site-packages"))
    import venv

    venv.create(tmp_path / "v", symlinks=True)
    own = next((tmp_path / "v" / "lib").glob("python3*/site-packages"))
    (own / "broken.pth").write_text(f"{tmp_path / 'site'}\n{site}\n")
    facts = run(torch_import.PROBE, WorkingWorld(python=str(tmp_path / "v/bin/python")))
    assert [(f.rule, "libcudart.so.12" in f.detail) for f in facts if isinstance(f, Finding)] == [
        ("torch-import-failed", True)
    ]
    assert "Traceback" in next(f.text for f in facts if isinstance(f, Evidence))


def test_a_named_python_without_torch_is_a_finding_and_a_guessed_one_is_not() -> None:
    world = WorkingWorld(python=sys.executable)
    facts = run(torch_import.PROBE, world, interpreter="here")
    assert [f.rule for f in facts if isinstance(f, Finding)] == ["torch-import-failed"]
    with pytest.raises(Exception, match="no_torch"):
        run(torch_import.PROBE, world)


def test_real_packages_are_compared_with_a_real_list() -> None:
    text = "pytest>=7\nPyYAML<1\nno-such-package\ntypes_requests\n"
    facts = run(packages.PROBE, WorkingWorld({"files": {FILE: text}}, sys.executable), requirements=FILE)
    assert measured(facts) == {
        ("requirements", "ok"): 2,
        ("requirements", "outdated"): 1,
        ("requirements", "missing"): 1,
    }
    found = {f.rule: f.detail for f in facts if isinstance(f, Finding)}
    assert found["packages-missing"].startswith("no-such-package in ")
    assert found["packages-outdated"].startswith("PyYAML ")


def test_a_version_written_longer_is_no_newer_one() -> None:
    assert version("12.8") == version("12.8.0")
    assert version("2.13.0+cu130") > version("2.4") > version("") == version("none")


# ------------------------------------------------------------------ what a benchmark needs


def test_the_card_of_a_benchmark_is_the_first_or_the_one_that_is_named() -> None:
    world = RecordedWorld({"gpus": {"gpus": [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]}})
    assert [card_of(world, "auto", wanted) for wanted in ("", "0", "1", "GPU-b")] == [
        "GPU-a",
        "GPU-a",
        "GPU-b",
        "GPU-b",
    ]
    assert card_of(world, "cpu", "1") == ""
    with pytest.raises(NotApplicable, match="no_device"):
        card_of(world, "auto", "2")


def test_a_card_that_nvml_does_not_know_is_left_to_torch() -> None:
    amd = RecordedWorld({"gpus": {"pci": [{"address": "0000:03:00.0", "vendor": "amd"}]}})
    assert card_of(amd, "cuda", "") == ""
    with pytest.raises(NotApplicable, match="no_gpu"):
        card_of(RecordedWorld(), "cuda", "")


def test_a_worker_that_measured_nothing_is_our_error() -> None:
    with pytest.raises(ValueError, match="without a measurement"):
        list(facts_of([Row("start"), Row("end")], matmul.PROBE.metrics))


def test_memory_that_others_fill_on_the_host_is_the_workers_own_finding() -> None:
    class Full(RecordedWorld):
        def worker(self, name: str, params: Mapping[str, Json], **_: Any) -> Iterator[Row]:
            raise SubjectFailed(WORKER_OUT_OF_MEMORY("MemoryError"))

    with pytest.raises(SubjectFailed, match="worker-out-of-memory"):
        run(torch_import.PROBE, Full())


@pytest.mark.parametrize(
    ("driver", "capability", "tag"),
    [
        ("13.2", (), "cu130"),
        ("13.0", (12, 0), "cu130"),
        ("13.0", (6, 1), "cu126"),
        ("12.9", (), "cu128"),
        ("12.2", (), "cu126"),
        ("11.4", (6, 1), "cu118"),
    ],
)
def test_the_build_fits_driver_and_card(driver: str, capability: tuple[int, ...], tag: str) -> None:
    assert f"/whl/{tag}`" in install("python", driver, capability)


def test_a_driver_older_than_every_build_must_be_renewed() -> None:
    assert "ubuntu-drivers" in install("python", "10.2")


@given(st.text())
def test_any_text_has_a_version(text: str) -> None:
    assert all(number >= 0 for number in version(text))


# ------------------------------------------------------------------ hostile requirements


def inside(requirements: str, more: Mapping[str, str] | None = None) -> list[Fact]:
    rows: list[Any] = [
        {"kind": "start", "data": {"executable": "/p/python"}},
        {"kind": "data", "data": {"markers": {"python_version": "3.12", "sys_platform": "linux"}}},
        {"kind": "data", "data": {"packages": {"Torch": "2.9.1", "odd": "not a version"}}},
    ]
    world = {"files": {FILE: requirements, **(more or {})}, "workers": {"packages": rows}}
    return run(packages.PROBE, RecordedWorld(world), requirements=FILE)


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("torch", "ok"),
        ("TORCH [extra] >= 2 , < 3 # why", "ok"),
        ("torch @ https://example.org/torch.whl", "ok"),
        ("torch==2.9.1 --hash=sha256:abc --hash=sha256:def", "ok"),
        ("torch===2.9.1", "ok"),
        ("torch~=3.0", "outdated"),
        ("odd>=1", "outdated"),
        ("absent; python_version >= '3.9'", "missing"),
        ("torch; python_version ~= 'banana'", "ok"),
    ],
)
def test_a_line_is_judged(line: str, state: str) -> None:
    values = measured(inside(line))
    assert {k[1]: v for k, v in values.items()} == {"ok": 0, "outdated": 0, "missing": 0, state: 1}


@pytest.mark.parametrize(
    "line", ["absent; sys_platform == 'win32'", "absent; extra == 'dev'", "--pre", "-c other.txt", "#", "\\"]
)
def test_a_line_that_asks_for_nothing_here_counts_nothing(line: str) -> None:
    facts = inside(line)
    assert set(measured(facts).values()) == {0}
    assert not [f for f in facts if isinstance(f, Finding)]


@pytest.mark.parametrize(
    "line",
    ["-e .", "./wheel.whl", "https://u:secret@example.org/x.whl", "torch>=", "torch==1.*.2", "<html>", "\x00", "HF_TOKEN=secret", "--what"],
)  # fmt: skip
def test_a_line_that_cannot_be_checked_is_named_by_place_and_never_repeated(line: str) -> None:
    findings = [f for f in inside(line) if isinstance(f, Finding)]
    assert [(f.rule, f.detail, f.subject) for f in findings] == [
        ("packages-line-unreadable", "requirements.txt:1", FILE)
    ]


def test_includes_that_go_in_a_circle_end() -> None:
    facts = inside(
        "-r b.txt\n--requirement=b.txt\ntorch",
        {"/srv/b.txt": "-r requirements.txt\n-r sub/c.txt", "/srv/sub/c.txt": "gone"},
    )
    assert {k[1]: v for k, v in measured(facts).items()} == {"ok": 1, "outdated": 0, "missing": 1}


def test_endless_includes_are_bounded_and_named() -> None:
    chain = {f"/srv/{n}.txt": f"-r {n + 1}.txt" for n in range(100)}
    facts = inside("-r 0.txt", chain)
    assert [f.rule for f in facts if isinstance(f, Finding)] == ["packages-line-unreadable"]


def test_many_missing_packages_make_one_short_finding() -> None:
    facts = inside("\n".join(f"absent{n}" for n in range(500)))
    finding = next(f for f in facts if isinstance(f, Finding))
    assert "and 490 more" in finding.detail
    assert len(finding.detail) < 300


@given(st.text(), st.text())
def test_no_requirements_file_can_break_the_reader(text: str, included: str) -> None:
    found = read(RecordedWorld({"files": {FILE: f"{text}\n-r more.txt", "/srv/more.txt": included}}), FILE)
    for group in found.groups:
        group.state({"torch": "2.9.1"}, {"python_version": "3.12"})
