"""Does `gpu-canary expected` tell a new user what a card should reach, where from, and what this machine's reached?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.expected import UNITS, held, table
from exporter.history import History
from exporter.result import Latest, Result
from probes.api import Measurement
from tests.nvml import DRIVER_NOT_LOADED, GPU_IS_LOST, UUIDS, Stub, build_stub
from tests.test_cli import gpu_canary, here, written

CONFIG = """\
storage: {path: STORE}
checks:
  - {name: matmul, probe: matmul}
  - {name: dreambooth, probe: command, params: {command: [python, train.py], figures: {step_seconds: {regex: "(.+)s/it"}}}}
"""


def test_it_shows_value_specification_basis_and_source_of_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = here(capsys, "expected", "--card", "geforce rtx 3090")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert out.startswith("GeForce RTX 3090: 24 GB, 350 W, PCIe gen 4 x16\n")
    link = "https://github.com/chsasank/device-benchmarks/blob/main/README.md"
    assert ["memory_copy", "831", "GB/s", "936", "GB/s", "measured", "2026-11-21", link] in lines
    link = "https://www.techpowerup.com/gpu-specs/geforce-rtx-3090.c3622"
    assert ["matmul", "tf32", "32", "TFLOP/s", "35.6", "TFLOP/s", "derived", "2026-11-21", link] in lines
    assert ["step_seconds", "6", "s", "to", "7", "s", "-"] in lines
    assert ["vram_total_bytes", "8", "GB", "to", "10", "GB", "-"] in lines  # as the sources count them
    assert "stated by the source systems, not measured by gpu-canary" in out
    assert "the sources contradict themselves" in out
    assert "every other series has no expected value" in out


def test_a_card_the_sources_say_nothing_of_has_no_references(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = here(capsys, "expected", "--card", "H200")
    assert "reference" not in out
    _, out, _ = here(capsys, "expected", "--card", "H200", "--json")
    assert json.loads(out)[0]["references"] == []


@pytest.mark.parametrize(
    ("asked", "models"),
    [
        ("NVIDIA L40S", ["L40S"]),
        ("rtx 3090", ["GeForce RTX 3090"]),
        (" 4090 ", ["GeForce RTX 4090"]),
        ("GeForce RTX 4070", ["GeForce RTX 4070"]),  # a whole name is that card alone
        ("4070", ["GeForce RTX 4070", "GeForce RTX 4070 SUPER", "GeForce RTX 4070 Ti"]),
        ("h100", ["H100 PCIe", "H100 SXM"]),
        ("NVIDIA GeForce RTX 4060 Ti", ["GeForce RTX 4060 Ti 8GB", "GeForce RTX 4060 Ti 16GB"]),
        ("all", [card.model for card in table().cards]),
    ],
)
def test_a_card_is_found_by_what_people_call_it(
    asked: str, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = here(capsys, "expected", "--card", asked, "--json")
    assert (code, [found["model"] for found in json.loads(out)]) == (0, models)


@pytest.mark.parametrize(
    "asked",
    ["GeForce RTX 4090 Laptop GPU", "NVIDIA H100 NVL", "RTX 6000", "a10g", "", "4090 4080", "NVIDIA L4 MIG 1g.10gb"],
)
def test_an_unknown_model_is_a_mistake_and_never_a_pass(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = here(capsys, "expected", f"--card={asked}")
    assert (code, out) == (2, "")
    assert f"there is no expected value for {asked!r}" in err


def test_a_machine_without_a_card_is_shown_the_whole_table(tmp_path: Path) -> None:
    code, out, err = gpu_canary(tmp_path, "expected")
    first, heads, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith("this machine has no card that the driver tells of; `--card 4090`")
    assert heads.split() == [
        "MODEL",
        "MATMUL",
        "FP32",
        "MATMUL",
        "TF32",
        "MATMUL",
        "BF16,",
        "FP16",
        "MEMORY_COPY",
        "HOST_COPY",
    ]
    assert [row.strip().partition("  ")[0] for row in rows] == [card.model for card in table().cards]
    assert gpu_canary(tmp_path, "expected", "--json")[:2] == (0, "[]\n")


def stub_of(tmp_path: Path, **first: object) -> Stub:
    """One card, whose answers these are."""
    stub = Stub(build_stub(tmp_path / "nvml"))
    stub.set({"count": 1, **{f"gpu0.{key}": value for key, value in first.items()}})
    return stub


RTX_3090 = {"name": "NVIDIA GeForce RTX 3090", "power_limit": 350_000, "memory_total": 24576 * 2**20}


@pytest.mark.nvml
def test_the_cards_of_this_machine_are_shown_and_a_laptops_is_no_desktops(tmp_path: Path) -> None:
    stub = Stub(build_stub(tmp_path / "nvml"))
    stub.set({"gpu1.name": "NVIDIA GeForce RTX 4090 Laptop GPU"})
    code, out, _ = gpu_canary(tmp_path, "expected", "--json", **stub.env())
    first, second = json.loads(out)
    assert (code, first["model"], first["uuid"], first["reached"]) == (0, "GeForce RTX 4090", UUIDS[0], [])
    assert set(first["values"]) == set(UNITS)
    assert (second["model"], second["values"], second["references"]) == (None, {}, [])
    _, out, _ = gpu_canary(tmp_path, "expected", **stub.env())
    assert "nothing of it was measured here yet" in out
    assert "NVIDIA GeForce RTX 4090 Laptop GPU: no expected value" in out


@pytest.mark.nvml
@pytest.mark.parametrize(
    ("answers", "told", "bus"),
    [
        ({}, [], 26.2e9),
        ({"power_limit": 280_000}, ["its power limit is 280 W of 350 W"], 26.2e9),
        ({"pcie_generation_max": 3}, ["its slot gives PCIe gen 3 at most"], 13.1e9),
        ({"pcie_generation_max": 2}, ["its slot gives PCIe gen 2 at most"], None),
        ({"power_limit": None, "power_default_limit": None, "pcie_generation_max": None}, [], 26.2e9),
    ],
)
def test_what_holds_this_very_card_back_is_told_before_anything_is_measured(
    answers: dict[str, Any], told: list[str], bus: float | None, tmp_path: Path
) -> None:
    stub = stub_of(tmp_path, **{**RTX_3090, **answers})
    code, out, _ = gpu_canary(tmp_path, "expected", "--json", **stub.env())
    (card,) = json.loads(out)
    assert (code, card["model"]) == (0, "GeForce RTX 3090")
    assert [line.partition(":")[0] for line in card["held_back"]] == told
    assert card["values"].get("bus", {"value": None})["value"] == bus
    _, out, _ = gpu_canary(tmp_path, "expected", **stub.env())
    assert all(line in out for line in card["held_back"])


@pytest.mark.nvml
def test_a_card_in_slices_and_a_lost_one_have_no_expected_value(tmp_path: Path) -> None:
    stub = stub_of(tmp_path, name="NVIDIA A100-SXM4-80GB", memory_total=80 * 10**9, mig=1)
    _, out, _ = gpu_canary(tmp_path, "expected", **stub.env())
    assert out.startswith("NVIDIA A100-SXM4-80GB: MIG cuts it into slices, which have no expected value\n")
    stub.set({"gpu0.mig": 0})
    _, out, _ = gpu_canary(tmp_path, "expected", **stub.env())
    assert out.startswith("A100 80GB SXM: 80 GB, 400 W")
    stub.set({"gpu0.err.nvmlDeviceGetName": GPU_IS_LOST})
    _, out, _ = gpu_canary(tmp_path, "expected", **stub.env())
    assert out.startswith("card 0 (gpu_is_lost): no expected value\n")


@pytest.mark.nvml
def test_a_driver_that_does_not_answer_is_told_and_is_not_no_card(tmp_path: Path) -> None:
    stub = stub_of(tmp_path)
    stub.set({"err.nvmlInitWithFlags": DRIVER_NOT_LOADED})
    code, out, err = gpu_canary(tmp_path, "expected", **stub.env())
    assert (code, err) == (
        0,
        "gpu-canary: the driver says driver_not_loaded: `gpu-canary run gpu_driver` says what to do\n",
    )
    assert "GeForce RTX 4090" in out  # the table all the same


@pytest.mark.nvml
def test_what_was_measured_here_stands_beside_it_and_a_programs_figures_beside_the_references(tmp_path: Path) -> None:
    stub = stub_of(tmp_path, **RTX_3090)
    told = {"device": "cuda", "device_name": "NVIDIA GeForce RTX 3090", "device_memory": "24 GiB"}
    product = Measurement("flops_per_second", 60.48e12, (("dtype", "bf16"), ("device", "cuda")))
    ran = Result("matmul", "matmul", time.time(), 2.0, "ok", (product,), conditions=told, identity={"uuid": UUIDS[0]})
    figure = Measurement("figures", 6.5, (("figure", "step_seconds"),))
    trained = Result("dreambooth", "command", time.time(), 2.0, "ok", (figure,))
    history = History(tmp_path / "store" / "history.sqlite", 1e9, 2**30)
    for result in (held(ran), trained):
        history.append(Latest.first(result))
    history.close()
    file = written(tmp_path, CONFIG.replace("STORE", str(tmp_path / "store")))
    code, out, err = gpu_canary(tmp_path, "expected", "--config.file", file, **stub.env())
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert ["matmul", "flops_per_second{dtype=bf16,device=cuda}", "60.5", "TFLOP/s", "80%"] in lines
    assert ["step_seconds", "6", "s", "to", "7", "s", "6.5", "s"] in lines
