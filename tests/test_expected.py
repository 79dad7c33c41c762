"""Is the table of expected values sound, does a card find its own row and no other, and is a slow card told why?"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter import expected
from exporter.baseline import strains
from exporter.config import load as load_config
from exporter.config.conversion import read
from exporter.config.document import ConfigError, Ledger
from exporter.expected import FILE, LEAST, UNITS, Card, Kind, Table, Value, held, link_of, load, table
from exporter.metrics import CheckSeries
from exporter.registry import load as registry
from exporter.result import Check, Latest, Result
from probes.api import Conditions, Measurement
from probes.benchmarks import host_copy
from tests.test_demo import at, scene, subject
from tests.test_host_copy import seen
from tests.torch_side import run

GIB = 2**30
SHEETS = 1.15  # boards boost above the nominal clock: an RTX 5090 was measured at 1.09 of it
PRODUCTS: tuple[Kind, ...] = ("fp32", "tf32", "matmul")
RATES = tuple(kind for kind in UNITS if kind not in PRODUCTS)


def values_of(card: Card, read: Table) -> dict[Kind, Value]:
    found = {kind: read.value(card, kind) for kind in UNITS}
    return {kind: value for kind, value in found.items() if value is not None}


def troubles(read: Table) -> Iterator[str]:
    """Everything in a table that cannot be: what the peers' tables got wrong, and what people copy from spec sheets."""
    for card in read.cards:
        for kind, value in values_of(card, read).items():
            share = value.value / value.specification
            least, most = (0.5, 1.0) if kind in RATES else (0.3 if kind == "fp32" else 0.4, SHEETS)
            if not least <= share <= most:
                yield f"{card.model}: {kind} is {share:.3g} of its specification"
        yield from sheet(card)
        for other in (other for other in read.cards if other is not card and other.names & card.names):
            if not (card.shared_name and other.shared_name and abs(card.memory - other.memory) > 0.2 * card.memory):
                yield f"{card.model} and {other.model} have one name"


def sheet(card: Card) -> Iterator[str]:
    """Is the specification itself dense, accumulated in fp32, and in its unit?"""
    product, half, memory = (card.values.get(kind) for kind in ("matmul", "tf32", "memory"))
    if card.kind == "geforce":
        formula = card.multiprocessors * 512 * card.boost_hertz
        if product is None or not 0.99 <= product.specification / formula <= 1.01:
            yield f"{card.model}: {product and product.specification:.4g} is not {formula:.4g} by multiprocessors and clock"
    if product and half and not 1.97 <= product.specification / half.specification <= 2.03:
        yield f"{card.model}: bf16 is not twice tf32: one of them is sparse"
    if product and not 10e12 <= product.specification <= 5e15:
        yield f"{card.model}: {product.specification:.4g} operations a second is no card"
    if product and not 0.1e12 <= product.specification / card.watts <= 2.5e12:
        yield f"{card.model}: {product.specification / card.watts:.3g} operations a joule are nobody's: fp8, or sparse"
    if memory is None or not 200e9 <= memory.specification <= 10e12 or memory.specification % 1e9:
        yield f"{card.model}: {memory and memory.specification:.6g} bytes a second is no card's memory, or in GiB"
    if not (8e9 <= card.memory <= 300e9 and 50 <= card.watts <= 1500) or card.memory % 1e9:
        yield f"{card.model}: memory or watts are in another unit"


def test_the_shipped_table_is_sound() -> None:
    assert list(troubles(table())) == []


def test_every_source_is_used_and_has_a_link_to_a_page_and_a_day() -> None:
    used = {value.source for card in table().cards for value in values_of(card, table()).values()}
    for source in used:
        assert re.fullmatch(r"https://[^/]+/\S+", source.link), source  # the front page of a site states nothing
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", source.date), source
    plain = read(FILE, Ledger()).plain()
    sheets = {entry["specification"]["source"] for entry in plain["cards"]} | {plain["references"]["source"]}
    buses = {bus["source"] for bus in plain["buses"].values()}
    listed = {name: entry["link"] for name, entry in plain["sources"].items()}
    assert set(listed.values()) == {source.link for source in used} | {listed[name] for name in sheets | buses}
    assert {card.values["memory"].basis for card in table().cards} == {"measured", "inferred", "derived"}


def test_only_a_geforce_has_derived_values_and_they_are_what_the_least_of_them_was_measured_at() -> None:
    shares = read(FILE, Ledger()).plain()["shares"]["geforce"]
    for kind, share in shares.items():
        found = [card.values[kind] for card in table().cards if card.kind == "geforce"]
        measured = [value.value / value.specification for value in found if value.basis == "measured"]
        assert share - 0.002 <= min(measured) <= share + 0.02, kind
        assert len(measured) >= 4, kind
    for card in table().cards:
        if card.kind != "geforce":
            assert "derived" not in {value.basis for value in card.values.values()}, card.model


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        # a figure in other units, of tables of NVIDIA's own (DCGM) and of Azure's health checks
        ("{memory: 3110.0e+9, source: dcgm}", "{memory: 2.333e+9, source: dcgm}", "H200: memory is 0.000"),
        ("{memory: 1564.0e+9, source: dcgm}", "{memory: 183.3e+9, source: dcgm}", "A100 80GB SXM: memory is 0.09"),
        ("{memory: 1293.0e+9, source: dcgm}", "{memory: 1830.0e+9, source: dcgm}", "A100 40GB PCIe: memory is 1.18"),
        ("memory: 469.0e+9, source: shah", "memory: 640.7e+9, source: shah", "A10: memory is 1.07"),
        ("{memory: 700.0e+9, source: dcgm}", "{memory: 65.4e+9, source: dcgm}", "L40S: memory is 0.07"),
        # one way of a copy instead of both, and both twice
        ("memory: 831.0e+9, source: shah", "memory: 391.0e+9, source: shah", "RTX 3090: memory is 0.41"),
        ("memory: 831.0e+9, source: shah", "memory: 1662.0e+9, source: shah", "RTX 3090: memory is 1.78"),
        # sparse, fp8, accumulated in fp16
        ("matmul: 209.5e+12", "matmul: 838.0e+12", "RTX 5090: 8.38e+14 is not 2.095e+14"),
        ("matmul: 165.2e+12", "matmul: 330.3e+12", "RTX 4090: 3.303e+14 is not 1.652e+14"),
        ("matmul: 165.2e+12", "matmul: 1321.0e+12", "RTX 4090: 1.321e+15 is not 1.652e+14"),
        ("matmul: 71.2e+12, memory: 936", "matmul: 142.4e+12, memory: 936", "RTX 3090: 1.424e+14 is not"),
        ("tf32: 494.5e+12, matmul: 989.0e+12", "tf32: 494.5e+12, matmul: 1979.0e+12", "H100 SXM: bf16 is not twice tf32"),
        ("tf32: 61.0e+12, matmul: 121", "tf32: 121.0e+12, matmul: 121", "L4: bf16 is not twice tf32"),
        ("matmul: 989.0e+12, memory: 4800", "matmul: 1979.0e+12, memory: 4800", "H200: 2.83e+12 operations a joule"),
        ("matmul: 125.0e+12", "matmul: 500.0e+12", "A10: 3.33e+12 operations a joule"),
        ("matmul: 155.0e+12", "matmul: 310.0e+12", "RTX 4090: matmul is 1.88"),
        ("fp32: 53.4e+12", "fp32: 106.0e+12", "RTX 4090: fp32 is 1.28"),
        ("matmul: 75.6e+12", "matmul: 75.6", "matmul is 1.06e-12"),
        # GiB for GB
        ("    memory: 24.0e+9\n    watts: 350", "    memory: 25.77e+9\n    watts: 350", "RTX 3090: memory or watts"),
        ("memory: 936.0e+9", "memory: 1005.02e+9", "RTX 3090: 1.00502e+12 bytes a second"),
        ("value: 26.2e+9", "value: 52.4e+9", "bus is 1.66"),
        ("value: 26.2e+9", "value: 3.3e+9", "bus is 0.105"),
        # one name for two cards
        ("[NVIDIA H200]", "[NVIDIA H100 PCIe]", "H100 PCIe and H200 have one name"),
        ("memory: 16.0e+9\n    watts: 165", "memory: 8.0e+9\n    watts: 165", "have one name"),
    ],
)  # fmt: skip
def test_the_errors_of_other_tables_would_be_seen(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "expected.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    assert any(told in trouble for trouble in troubles(load(tmp_path / "expected.yaml")))


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("source: torch-3060}", "source: nobody}", KeyError),
        ("kind: geforce", "kind: toaster", KeyError),
        ("pcie: gen 4 x16", "pcie: [gen, 4]", TypeError),
        ("memory: 831.0e+9", "memory: fast", None),
        ("cards:\n", "cards: [\n", ConfigError),
        ("cards:\n", "\tcards:\n", ConfigError),
        ("shares:\n", "shares:\n  geforce: {}\n", ConfigError),
        ("    watts: 170", "    watts: !!python/object/apply:os.system [true]", ConfigError),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, right: str, wrong: str, error: type[Exception] | None) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "expected.yaml").write_text(text.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(error or (KeyError, TypeError, ValueError)):
        list(troubles(load(tmp_path / "expected.yaml")))


# -- which card is it? ------------------------------------------------------------------------------------------------


# What follows a card's name in the names of other cards: laptops, later and lesser ones, slices and shares of one.
VARIANTS = (
    " Laptop GPU", " with Max-Q Design", " Mobile", " Ti", " SUPER", " Ti SUPER", " D", " D v2", " NVL", "S", "G", "M",
    " MIG 1g.10gb", " MIG 7g.80gb", "-24Q", "-40C", "-2B", " Ada Generation", " 480GB", " Max-Q Workstation Edition",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted({name for card in table().cards for name in card.names}))
@pytest.mark.parametrize("suffix", VARIANTS)
def test_a_variant_of_a_card_is_another_card(name: str, suffix: str) -> None:
    known = {name for card in table().cards for name in card.names}
    for memory in (None, *(card.memory for card in table().cards if name in card.names)):
        found = table().card(name + suffix, memory)
        assert found is None or f"{name}{suffix}".casefold() in known
        assert found is None or name not in found.names


@pytest.mark.parametrize(
    ("name", "gib", "model"),  # names as NVML writes them, memory as torch and drivers report it
    [
        ("NVIDIA GeForce RTX 4090", 24, "GeForce RTX 4090"),
        ("nvidia  geforce rtx 4090", 23.5, "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4070 Ti", 12, "GeForce RTX 4070 Ti"),
        ("NVIDIA GeForce RTX 4070", 12, "GeForce RTX 4070"),
        ("NVIDIA GeForce RTX 4070 SUPER", 12, "GeForce RTX 4070 SUPER"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16, None),
        ("NVIDIA GeForce RTX 4080 SUPER", 16, "GeForce RTX 4080 SUPER"),
        ("NVIDIA GeForce RTX 4080", 16, "GeForce RTX 4080"),
        ("NVIDIA GeForce RTX 4090 D", 24, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, None),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 8, None),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 16, None),
        ("NVIDIA GeForce RTX 3080 Ti", 12, None),
        ("NVIDIA GeForce RTX 3090 Ti", 24, None),
        ("NVIDIA GeForce RTX 3070 Ti", 8, None),
        ("NVIDIA GeForce RTX 3060 Ti", 8, "GeForce RTX 3060 Ti"),
        ("NVIDIA GeForce RTX 3070", 8, "GeForce RTX 3070"),
        ("NVIDIA GeForce RTX 5070", 12, "GeForce RTX 5070"),
        ("NVIDIA GeForce RTX 5070 Ti", 16, "GeForce RTX 5070 Ti"),
        ("NVIDIA GeForce RTX 5080", 16, "GeForce RTX 5080"),
        ("NVIDIA GeForce RTX 5090", 31.4, "GeForce RTX 5090"),
        ("NVIDIA GeForce RTX 5090 D", 32, None),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 24, None),
        ("NVIDIA GeForce RTX 3060", 12, "GeForce RTX 3060 12GB"),
        ("NVIDIA GeForce RTX 3060", 8, None),
        ("NVIDIA GeForce RTX 3060", None, None),  # it may be the other one
        ("NVIDIA GeForce RTX 3080", 10, "GeForce RTX 3080 10GB"),
        ("NVIDIA GeForce RTX 3080", 12, None),
        ("NVIDIA GeForce RTX 4060 Ti", 8, "GeForce RTX 4060 Ti 8GB"),
        ("NVIDIA GeForce RTX 4060 Ti", 15.6, "GeForce RTX 4060 Ti 16GB"),
        ("NVIDIA GeForce RTX 4060 Ti", None, None),
        ("NVIDIA H100 80GB HBM3", 85.5e9 / GIB, "H100 SXM"),
        ("NVIDIA H100 PCIe", 79.2, "H100 PCIe"),
        ("NVIDIA H100 NVL", 93.1, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.5, None),
        ("NVIDIA H100 80GB HBM2e", 79, None),
        ("NVIDIA H100 64GB HBM2", 63, None),
        ("NVIDIA H800", 79, None),
        ("NVIDIA H20", 95, None),
        ("NVIDIA H200", 150.8e9 / GIB, "H200"),
        ("NVIDIA H200 NVL", 140, None),
        ("NVIDIA GH200 480GB", 95, None),
        ("NVIDIA GH200 120GB", 95, None),
        ("NVIDIA GB200", 184, None),
        ("NVIDIA B200", 178, "B200"),
        ("NVIDIA L4", 22.0, "L4"),
        ("NVIDIA L40S", 48.3e9 / GIB, "L40S"),
        ("NVIDIA L40", 48, None),
        ("NVIDIA L400", 24, None),
        ("NVIDIA L40S-48Q", 48, None),
        ("NVIDIA A10", 22.0, "A10"),
        ("NVIDIA A10G", 22.2, None),
        ("NVIDIA A10-24Q", 24, None),
        ("NVIDIA A100-PCIE-40GB", 39.4, "A100 40GB PCIe"),
        ("NVIDIA A100-SXM4-40GB", 39.4, None),
        ("NVIDIA A100 80GB PCIe", 79.2, "A100 80GB PCIe"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100 80GB SXM"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 39.2, None),
        ("NVIDIA A100X", 79, None),
        ("NVIDIA A800-SXM4-80GB", 79, None),
        ("GRID A100-40C", 40, None),
        ("GRID A100D-80C", 80, None),
        ("NVIDIA A40", 44.4, None),
        ("NVIDIA RTX A6000", 47.5, None),
        ("NVIDIA RTX 6000 Ada Generation", 47.4, None),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 95, None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95, None),
        ("Quadro RTX 6000", 22, None),
        ("NVIDIA Graphics Device", 24, None),
        ("AMD Instinct MI300X", 192, None),
        ("GeForce RTX 4090", 24, None),
        ("NVIDIA GeForce RTX 4090", 48, None),  # a rebuilt card: nobody knows what it reaches
        ("", 24, None),
    ],
)
def test_a_name_and_a_size_of_memory_tell_the_model(name: str, gib: float | None, model: str | None) -> None:
    found = table().card(name, None if gib is None else gib * GIB)
    assert (found.model if found else None) == model


# -- results held against it ------------------------------------------------------------------------------------------


def ran(
    value: float, dtype: str = "bf16", device: str = "cuda", name: str = "NVIDIA GeForce RTX 4090", **conditions: str
) -> Result:
    told = {"device": device, "device_name": name, **conditions} if name else {"device": device}
    measured = Measurement("flops_per_second", value, (("dtype", dtype), ("device", device)))
    return Result("matmul", "matmul", 1.0, 2.0, "ok", (measured,), conditions=told)


def test_a_result_tells_the_expected_value_and_its_share() -> None:
    (expectation,) = held(ran(155e12)).expectations
    assert expectation.value == 155e12
    assert expectation.ratio == 1.0
    assert held(ran(151e12)).findings == ()


@pytest.mark.parametrize(
    ("dtype", "value"), [("fp32", 53.4e12), ("tf32", 85.6e12), ("fp16", 155e12), ("bf16", 155e12), ("fp8", None)]
)
def test_each_number_format_has_its_own_expected_value_or_none(dtype: str, value: float | None) -> None:
    assert [e.value for e in held(ran(1e15, dtype)).expectations] == ([] if value is None else [value])


@pytest.mark.parametrize(("share", "outcome"), [(LEAST + 0.001, "ok"), (LEAST - 0.001, "degraded")])
def test_below_four_fifths_of_it_is_a_finding(share: float, outcome: str) -> None:
    result = held(ran(share * 155e12))
    assert result.outcome == outcome
    assert [f.rule for f in result.findings] == ["below-expected"] * (outcome == "degraded")


def test_the_finding_says_what_was_expected_where_from_and_that_no_cause_was_seen() -> None:
    (found,) = held(ran(76e12)).findings
    assert found.subject == "flops_per_second{dtype=bf16,device=cuda}"
    assert found.detail == (
        "76 TFLOP/s is 49% of the 155 TFLOP/s that a GeForce RTX 4090 reaches (measured); no cause was seen in this run"
    )


def copied(value: float, name: str = "NVIDIA GeForce RTX 4090", **conditions: str) -> Result:
    told = {"device": "cuda", "device_name": name, **conditions}
    measured = Measurement("bytes_per_second", value, (("direction", "to_device"), ("device", "cuda")))
    return Result("host_copy", "host_copy", 1.0, 2.0, "ok", (measured,), conditions=told)


def test_a_card_held_back_is_told_with_its_cause() -> None:
    result = ran(76e12, power_limit="200 W", pcie_link="gen 3 x4")
    result = replace(result, evidence={"card under load": "8 samples, throttled by power_cap, sw_thermal, VRAM in use"})
    (found,) = held(result).findings
    for cause in ("power limit 200 W of 450 W", "throttled by power_cap", "throttled by sw_thermal"):
        assert cause in found.detail
    assert "PCIe" not in found.detail  # nothing of a matrix product goes over it


@pytest.mark.parametrize(
    ("limit", "link"), [("450 W", "gen 4 x16"), ("500 W", "gen 5 x16"), ("445 W", "gen 1 x1"), ("", ""), ("?", "gen x")]
)
def test_a_card_as_it_was_made_has_no_cause(limit: str, link: str) -> None:
    (found,) = held(ran(76e12, power_limit=limit, pcie_link=link)).findings
    assert "no cause was seen in this run" in found.detail


@pytest.mark.parametrize(
    ("link", "cause"),
    [
        ("gen 4 x4", "seen with it: PCIe link gen 4 x4 of gen 4 x16"),
        ("gen 1 x16", "seen with it: PCIe link gen 1 x16 of gen 4 x16"),
        ("gen 5 x8", "seen with it: PCIe link gen 5 x8 of gen 4 x16"),
        ("gen 4 x16", "no cause was seen in this run"),
        ("gen 5 x16", "no cause was seen in this run"),
        ("?", "no cause was seen in this run"),
        ("", "no cause was seen in this run"),
    ],
)
def test_a_slow_bus_is_told_with_its_link_and_not_with_the_power_limit(link: str, cause: str) -> None:
    (found,) = held(copied(6.5e9, power_limit="200 W", pcie_link=link)).findings
    assert found.subject == "bytes_per_second{direction=to_device,device=cuda}"
    assert found.detail == f"6.5 GB/s is 25% of the 26.2 GB/s that a GeForce RTX 4090 reaches (measured); {cause}"


@pytest.mark.parametrize(
    ("name", "slot", "value"),
    [
        ("NVIDIA GeForce RTX 4090", "", 26.2e9),
        ("NVIDIA GeForce RTX 4090", "gen 4", 26.2e9),
        ("NVIDIA GeForce RTX 4090", "gen 5", 26.2e9),  # a newer board makes the card no faster
        ("NVIDIA GeForce RTX 4090", "gen 3", 13.1e9),  # an older one is no fault that a step would mend
        ("NVIDIA GeForce RTX 4090", "gen 3 x8", 6.55e9),  # expected_lanes: 8
        ("NVIDIA GeForce RTX 5090", "gen 4", 26.2e9),
        ("NVIDIA GeForce RTX 5090", "gen 6 x32", 56.1e9),
        ("NVIDIA GeForce RTX 4090", "gen 2", None),  # of which nobody measured anything
        ("NVIDIA GeForce RTX 4090", "nonsense", 26.2e9),
    ],
)
def test_the_bus_is_held_against_what_the_slot_can_give(name: str, slot: str, value: float | None) -> None:
    told = held(copied(1e12, name, **({"pcie_slot": slot} if slot else {})))
    assert [e.value for e in told.expectations] == ([] if value is None else [pytest.approx(value)])


def test_a_card_of_eight_lanes_is_expected_to_reach_half() -> None:
    (told,) = held(copied(13e9, "NVIDIA GeForce RTX 4060 Ti", device_memory="8 GiB", pcie_link="gen 4 x8")).expectations
    assert told.value == pytest.approx(13.1e9)


def test_what_host_copy_says_of_its_slot_is_understood() -> None:
    for params, slot in (({}, "gen 3"), ({"expected_lanes": 8}, "gen 3 x8")):
        facts = run(host_copy.PROBE, seen({"pcie_generation_max": 3, "pcie_width_max": 16}), **params)
        (told,) = [fact.values for fact in facts if isinstance(fact, Conditions) and "pcie_slot" in fact.values]
        assert told == {"pcie_slot": slot}
        assert link_of(slot).generation == 3


@pytest.mark.parametrize(
    "result",
    [
        ran(1e9, name="NVIDIA GeForce RTX 4090 Laptop GPU"),
        ran(1e9, name="AMD Radeon RX 7900 XTX"),
        ran(1e9, name=""),
        ran(1e9, device="cpu", name=""),
        ran(1e9, dtype="fp8"),
        replace(ran(1e9), outcome="error"),
        replace(ran(1e9), probe="some_other"),
    ],
)
def test_what_the_table_says_nothing_about_has_no_expected_value_and_no_verdict(result: Result) -> None:
    got = held(result)
    assert (got.expectations, got.findings, got.outcome) == ((), (), result.outcome)


def test_every_series_of_the_table_is_one_that_a_probe_measures() -> None:
    probes = registry().probes
    for (probe, metric), labels in expected.SERIES.items():
        declared = probes[probe].metric(metric)
        assert declared is not None, (probe, metric)
        assert {name for name, _ in labels} <= set(declared.labels)
        assert "device" in declared.labels


def test_the_file_is_read_when_a_card_is_measured_and_not_before() -> None:
    table.cache_clear()
    held(ran(1e9, device="cpu", name=""))
    held(replace(ran(1e9), probe="http"))
    assert table.cache_info().currsize == 0
    held(ran(151e12))
    assert table.cache_info().currsize == 1


def test_a_stored_result_keeps_what_was_expected_of_it() -> None:
    result = held(ran(76e12))
    assert Result.from_dict(result.to_dict()) == result


def test_what_is_below_expected_is_no_cause_of_a_regression() -> None:
    assert strains(held(ran(76e12))) == []


def series(result: Result) -> str:
    probe = registry().probes["matmul"]
    shown = CheckSeries(Check("matmul", probe, probe.params(), 21600.0, 300.0))
    shown.latest = Latest.first(result)
    return "".join(text.decode() for _, text in shown.blocks().values())


def test_the_scrape_holds_expected_value_ratio_and_the_quiet_rule() -> None:
    text = series(held(ran(0.9 * 155e12)))
    labels = 'check="matmul",device="cuda",dtype="bf16",metric="flops_per_second"'
    assert re.search(rf"^gpucanary_expected_value{{{labels}}} 1\.55e\+14$", text, re.MULTILINE)
    assert re.search(rf"^gpucanary_expected_ratio{{{labels}}} 0\.9\d*$", text, re.MULTILINE)
    assert 'rule="below-expected",severity="warning",subject=""} 0.0' in text


def test_without_an_expected_value_the_scrape_says_nothing() -> None:
    text = series(held(ran(1e9, name="AMD Radeon RX 7900 XTX")))
    assert "gpucanary_expected" not in text
    assert "below-expected" not in text


# -- reference values -------------------------------------------------------------------------------------------------


def test_the_dreambooth_table_of_the_sources_is_there() -> None:
    steps = {r.card: (r.low, r.high) for r in table().references if r.name == "step_seconds"}
    assert steps == {
        "GeForce RTX 4090": (3, 4),
        "GeForce RTX 4080": (5, 6),
        "GeForce RTX 4070 Ti": (7, 8),
        "GeForce RTX 4070": (7, 8),
        "GeForce RTX 3090": (6, 7),
        "GeForce RTX 3080 10GB": (9, 10),
        "GeForce RTX 3060 12GB": (12, 15),
    }
    whole = {r.card: (r.low / 60, r.high / 60) for r in table().references if r.name == "training_seconds"}
    assert whole["GeForce RTX 4070"] == (90, 110)
    assert whole["GeForce RTX 3060 12GB"] == (160, 200)
    for card in steps.keys() & whole.keys():  # 800 steps and what is around them
        assert steps[card][0] * 800 / 60 <= whole[card][1]
        assert steps[card][1] * 800 / 60 >= 0.9 * whole[card][0]


def test_what_the_sources_say_of_checkpoints_memory_and_loss_is_there() -> None:
    told = {r.name: (r.low, r.high) for r in table().references if not r.card}
    assert told == {
        "lower_resolution_step_seconds": (5, 6),
        "lower_resolution_training_seconds": (4200, 4800),
        "checkpoint_save_seconds": (15, 30),
        "checkpoint_load_seconds": (10, 20),
        "validation_seconds": (120, 180),
        "vram_base_bytes": (3e9, 4e9),
        "vram_batch_bytes": (4e9, 5e9),
        "vram_optimizer_bytes": (1e9, 2e9),
        "vram_total_bytes": (8e9, 10e9),
        "vram_validation_bytes": (5e9, 6e9),
        "loss_first": (0.15, 0.15),
        "loss_final": (0.05, 0.08),
    }
    contradiction = next(r.note for r in table().references if r.name == "lower_resolution_step_seconds")
    assert "contradict" in contradiction
    assert "7 to 8 s at 512" in contradiction
    assert "not measured by gpu-canary" in table().basis
    assert "512 pixels, batch 1, gradient accumulation 1" in table().conditions


def test_references_are_ranges_of_known_cards() -> None:
    models = {card.model for card in table().cards}
    for reference in table().references:
        assert 0 < reference.low <= reference.high
        assert reference.card in models | {""}


def test_the_example_that_trains_dreambooth_has_its_targets_from_the_references() -> None:
    example = Path(__file__).parent.parent / "deploy" / "examples" / "dreambooth.yml"
    (check,) = load_config(example, registry().probes).checks
    most = {dict(t.labels).get("figure", t.metric): t.at_most for t in check.targets}
    told = {(r.card, r.name): r.high for r in table().references}
    assert most["step_seconds"] == told["GeForce RTX 4070", "step_seconds"]
    assert most["peak_vram_bytes"] == told["", "vram_total_bytes"]
    text = example.read_text(encoding="utf-8")
    for card in {r.card.removeprefix("GeForce ") for r in table().references if r.card}:
        assert card.removesuffix(" 10GB").removesuffix(" 12GB") in text
    for name in ("checkpoint_save_seconds", "vram_base_bytes", "loss_final"):
        assert name in text


# -- where people meet it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "known"), [("workstation", True), ("render-1", False)])
def test_the_demo_shows_it_for_the_card_that_the_table_knows(host: str, known: bool) -> None:
    ratios = [e.ratio for e in at(subject(scene("healthy"), host, "matmul"), 0).expectations]
    assert len(ratios) == (4 if known else 0)  # fp32, tf32, fp16 and bf16; nobody knows of fp8
    assert all(LEAST < ratio < 1.15 for ratio in ratios)


def test_it_is_beside_the_probes_wherever_they_are_installed() -> None:
    assert FILE.parent.name == "benchmarks"
    assert FILE.is_file()
    packages = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "probes" in packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
