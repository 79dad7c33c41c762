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
from exporter.expected import FILE, LEAST, Card, Table, held, load, table
from exporter.metrics import CheckSeries
from exporter.registry import load as registry
from exporter.result import Check, Latest, Result
from probes.api import Measurement
from tests.test_demo import at, scene, subject

GIB = 2**30
SHEETS = 1.15  # boards boost above the nominal clock: an RTX 5070 was measured at 1.11


def troubles(read: Table) -> Iterator[str]:
    """Everything in a table that cannot be: what the peers' tables got wrong, and what people copy from spec sheets."""
    for card in read.cards:
        for kind, value in card.values.items():
            share = value.value / value.specification
            if kind in ("memory", "bus") and not 0.2 <= share <= 1:
                yield f"{card.model}: {kind} is {share:.3g} of its specification"
            if kind in ("matmul", "fp8") and not 0.4 <= share <= SHEETS:
                yield f"{card.model}: {kind} is {share:.3g} of its specification"
        yield from sheet(card)
        for name in card.names:
            if len([other for other in read.cards if name in other.names]) > 1:
                yield f"{card.model}: {name} is two cards"


def sheet(card: Card) -> Iterator[str]:
    """Is the specification itself dense, accumulated in fp32, and in its unit?"""
    product, fp8, memory = (card.values.get(kind) for kind in ("matmul", "fp8", "memory"))
    if card.kind == "geforce" and product:
        formula = card.multiprocessors * 512 * card.boost_hertz
        if not 0.99 <= product.specification / formula <= 1.01:
            yield f"{card.model}: {product.specification:.4g} is not {formula:.4g} by multiprocessors and clock"
    if product and fp8 and not 1.98 <= fp8.specification / product.specification <= 2.02:
        yield f"{card.model}: fp8 is not twice bf16: one of them is sparse"
    if product and not 10e12 <= product.specification <= 5e15:
        yield f"{card.model}: {product.specification:.4g} operations a second is no card"
    if product and not 0.1e12 <= product.specification / card.watts <= 2.5e12:
        yield f"{card.model}: {product.specification / card.watts:.3g} operations a joule are nobody's: fp8, or sparse"
    if memory and not 200e9 <= memory.specification <= 10e12:
        yield f"{card.model}: {memory.specification:.4g} bytes a second is no card's memory"
    if not (8e9 <= card.memory <= 300e9 and 50 <= card.watts <= 1500):
        yield f"{card.model}: memory or watts are in another unit"


def test_the_shipped_table_is_sound() -> None:
    assert list(troubles(table())) == []


def test_every_source_has_a_link_and_a_day() -> None:
    sources = {value.source for card in table().cards for value in card.values.values()}
    for source in sources:
        assert re.fullmatch(r"https://\S+", source.link), source
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", source.date), source
    assert {card.values["memory"].basis for card in table().cards if "memory" in card.values} == {
        "measured",
        "inferred",
        "derived",
    }


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("{memory: 3110.0e+9, source: dcgm}", "{memory: 2.333e+9, source: dcgm}", "H200: memory is 0.000"),
        ("{memory: 1564.0e+9, source: dcgm}", "{memory: 183.3e+9, source: dcgm}", "A100 80GB SXM: memory is 0.09"),
        ("{memory: 700.0e+9, source: dcgm}", "{memory: 65.4e+9, source: dcgm}", "L40S: memory is 0.07"),
        ("memory: 782.0e+9, source: coffie", "memory: 1564.0e+9, source: coffie", "RTX 3090: memory is 1.67"),
        ("matmul: 209.5e+12", "matmul: 838.0e+12", "RTX 5090: 8.38e+14 is not 2.095e+14"),
        ("matmul: 165.2e+12", "matmul: 1321.0e+12", "RTX 4090: 1.321e+15 is not 1.652e+14"),
        ("matmul: 71.2e+12, memory: 936", "matmul: 142.4e+12, memory: 936", "RTX 3090: 1.424e+14 is not"),
        ("{matmul: 989.0e+12, fp8: 1979.0e+12, memory: 4800", "{matmul: 1979.0e+12, fp8: 1979.0e+12, memory: 4800", "sparse"),
        ("{matmul: 362.0e+12", "{matmul: 1466.0e+12", "L40S: 4.19e+12 operations a joule"),
        ("value: 25.0e+9", "value: 50.0e+9", "bus is 1.59"),
        ("matmul: 65.4e+12", "matmul: 65.4", "matmul is 9.19e-13"),
    ],
)  # fmt: skip
def test_the_errors_of_other_tables_would_be_seen(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "expected.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    assert any(told in trouble for trouble in troubles(load(tmp_path / "expected.yaml")))


# -- which card is it? ------------------------------------------------------------------------------------------------


VARIANTS = (" Laptop GPU", " with Max-Q Design", " Ti", " SUPER", " Ti SUPER", " D", " NVL", "S", " MIG 1g.10gb")


@pytest.mark.parametrize("name", sorted({name for card in table().cards for name in card.names}))
@pytest.mark.parametrize("suffix", VARIANTS)
def test_a_variant_of_a_card_is_another_card(name: str, suffix: str) -> None:
    known = {name for card in table().cards for name in card.names}
    found = table().card(name + suffix)
    assert found is None or f"{name}{suffix}".casefold() in known
    assert found is None or name not in found.names


@pytest.mark.parametrize(
    ("name", "gib", "model"),
    [
        ("NVIDIA GeForce RTX 4090", 24, "GeForce RTX 4090"),
        ("nvidia  geforce rtx 4090", 23.5, "GeForce RTX 4090"),
        ("NVIDIA GeForce RTX 4070 Ti", 12, "GeForce RTX 4070 Ti"),
        ("NVIDIA GeForce RTX 4070", 12, "GeForce RTX 4070"),
        ("NVIDIA H100 80GB HBM3", 85.5e9 / GIB, "H100 SXM"),  # what drivers report
        ("NVIDIA H200", 150.8e9 / GIB, "H200"),
        ("NVIDIA L40S", 48.3e9 / GIB, "L40S"),
        ("NVIDIA GeForce RTX 5090", 31.4, "GeForce RTX 5090"),
        ("AMD Instinct MI300X", 192, "Instinct MI300X"),
        ("NVIDIA GeForce RTX 3060", 12, "GeForce RTX 3060 12GB"),
        ("NVIDIA GeForce RTX 3060", 8, None),
        ("NVIDIA GeForce RTX 3060", None, None),  # it may be the other one
        ("NVIDIA GeForce RTX 3080", 10, "GeForce RTX 3080 10GB"),
        ("NVIDIA GeForce RTX 3080", 12, None),
        ("NVIDIA H100 NVL", 94, None),
        ("NVIDIA L40", 48, None),
        ("NVIDIA L400", 24, None),
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
    (expectation,) = held(ran(151.984e12)).expectations
    assert expectation.value == pytest.approx(0.92 * 165.2e12)
    assert expectation.ratio == pytest.approx(1.0)
    assert held(ran(151e12)).findings == ()


@pytest.mark.parametrize(("share", "outcome"), [(LEAST + 0.001, "ok"), (LEAST - 0.001, "degraded")])
def test_below_four_fifths_of_it_is_a_finding(share: float, outcome: str) -> None:
    result = held(ran(share * 0.92 * 165.2e12))
    assert result.outcome == outcome
    assert [f.rule for f in result.findings] == ["below-expected"] * (outcome == "degraded")


def test_the_finding_says_what_was_expected_where_from_and_that_no_cause_was_seen() -> None:
    (found,) = held(ran(76e12)).findings
    assert found.subject == "flops_per_second{dtype=bf16,device=cuda}"
    assert found.detail == (
        "76 TFLOP/s is 50% of the 152 TFLOP/s that a GeForce RTX 4090 reaches (derived); no cause was seen in this run"
    )


def test_a_card_held_back_is_told_with_its_cause() -> None:
    result = ran(76e12, power_limit="200 W", pcie_link="gen 3 x4")
    result = replace(result, evidence={"card under load": "8 samples, throttled by power_cap, sw_thermal, VRAM in use"})
    (found,) = held(result).findings
    for cause in (
        "power limit 200 W of 450 W",
        "PCIe link gen 3 x4 of gen 4 x16",
        "throttled by power_cap",
        "throttled by sw_thermal",
    ):
        assert cause in found.detail


@pytest.mark.parametrize(
    ("limit", "link"), [("450 W", "gen 4 x16"), ("500 W", "gen 5 x16"), ("445 W", "gen 5 x8"), ("", ""), ("?", "gen x")]
)
def test_a_card_as_it_was_made_has_no_cause(limit: str, link: str) -> None:
    (found,) = held(ran(76e12, power_limit=limit, pcie_link=link)).findings
    assert "no cause was seen in this run" in found.detail


@pytest.mark.parametrize(
    "result",
    [
        ran(1e9, name="NVIDIA GeForce RTX 4090 Laptop GPU"),
        ran(1e9, name="AMD Radeon RX 7900 XTX"),
        ran(1e9, name=""),
        ran(1e9, device="cpu", name=""),
        ran(1e9, dtype="fp32"),
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
    text = series(held(ran(0.9 * 0.92 * 165.2e12)))
    labels = 'check="matmul",device="cuda",dtype="bf16",metric="flops_per_second"'
    assert re.search(rf"^gpucanary_expected_value{{{labels}}} 1\.519\d*e\+14$", text, re.MULTILINE)
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


def test_references_are_ranges_of_known_cards() -> None:
    models = {card.model for card in table().cards}
    for reference in table().references:
        assert 0 < reference.low <= reference.high
        assert reference.card in models | {""}


# -- where people meet it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "known"), [("workstation", True), ("render-1", False)])
def test_the_demo_shows_it_for_the_card_that_the_table_knows(host: str, known: bool) -> None:
    ratios = [e.ratio for e in at(subject(scene("healthy"), host, "matmul"), 0).expectations]
    assert len(ratios) == (2 if known else 0)  # bf16 and fp16
    assert all(LEAST < ratio < 1.15 for ratio in ratios)


def test_it_is_beside_the_probes_wherever_they_are_installed() -> None:
    assert FILE.parent.name == "benchmarks"
    assert FILE.is_file()
    packages = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "probes" in packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
