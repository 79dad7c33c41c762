"""Does every alert and rule have a page that needs no network, and does a wrong name do no harm?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter import registry, shipped
from tests.checks import DOWN, check, quiet, result
from tests.process import Exporter
from tests.web_scene import check as configured
from tests.web_service import Canary, answering

EVIL = """# GpuCanaryEvil

<!-- remedies: disk-low, toy-down -->
1. `df -h`
<!-- /remedies -->

<script>alert(1)</script> and <img src=x onerror=alert(1)>

[run](javascript:alert(1)) [other](GpuCanaryOther.md) [rule](disk-low) [docs](../../docs/paging.md) [out](https://x.test/)
![picture](https://x.test/p.png)

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Hand-written pages of the test's own."""
    folder = tmp_path / "alerts" / "runbooks"
    folder.mkdir(parents=True)
    (folder / "GpuCanaryEvil.md").write_text(EVIL)
    (folder / "GpuCanaryOther.md").write_text("# GpuCanaryOther\n\nAll of it.\n")
    (folder / "README.md").write_text("no runbook\n")
    monkeypatch.setattr("exporter.web.runbooks.FOLDER", folder)
    return folder


@pytest.fixture
def site(tmp_path, pages):
    canary = Canary(tmp_path, configured("disk", params={"path": "/models"}), check(quiet), check(quiet, "a/b"))
    with answering(canary) as site:
        site.canary = canary
        yield site


def test_an_alert_s_page_is_the_hand_written_one(site):
    answer = site.ask("/runbooks/GpuCanaryOther")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>GpuCanaryOther</h1>" in answer.text
    assert "<title>GpuCanaryOther: gpu-canary on" in answer.text
    assert '<a href="../runbooks/">Runbooks</a>' in answer.text


def test_raw_html_in_a_page_is_text_and_its_links_run_nothing(site):
    text = site.ask("/runbooks/GpuCanaryEvil").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "p.png" not in re.findall(r"<img[^>]*>", text.partition("<main")[2])
    assert 'href="javascript:' not in text
    assert "remedies" not in text, "the marker is for programs"
    assert "<td>1</td>" in text


def test_links_lead_to_other_runbooks_or_out_and_no_link_leads_nowhere(site):
    text = site.ask("/runbooks/GpuCanaryEvil").text
    assert '<a href="GpuCanaryOther">other</a>' in text
    assert '<a href="disk-low">rule</a>' in text
    assert '<a href="https://x.test/">out</a>' in text
    assert "<a>docs</a>" in text


def test_a_rule_s_page_is_made_from_its_declaration_and_leads_to_the_alert_that_names_it(site):
    text = site.ask("/runbooks/disk-low").text
    (rule,) = (r for r in registry.load().probes["disk"].rules if r.name == "disk-low")
    assert "disk-low" in text
    assert rule.severity in text
    for command in re.findall(r"`([^`]+)`", rule.remedy):
        assert command.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in text, command
    assert '<a href="../checks/disk">disk</a>' in text
    assert '<a href="../runbooks/GpuCanaryEvil">GpuCanaryEvil</a>' in text
    assert "GpuCanaryOther" not in text


def test_every_rule_that_a_check_here_can_fire_has_its_page(site):
    listed = site.ask("/runbooks/").text
    for rule in {DOWN.name, *(rule.name for rule in registry.load().rules())}:
        assert f'href="../runbooks/{rule}"' in listed, rule
        assert site.ask(f"/runbooks/{rule}").status == 200


def test_the_list_has_the_alerts_too_and_nothing_that_is_none(site):
    for path in ("/runbooks/", "/runbooks"):
        text = site.ask(path).text
        assert re.search(r'href="(\.\./|\./)runbooks/GpuCanaryEvil"', text)
        assert "README" not in text


@pytest.mark.parametrize(("wrong", "near"), [("GpuCanaryOthr", "GpuCanaryOther"), ("disk-lo", "disk-low")])
def test_a_wrong_name_is_told_the_nearest_one(site, wrong, near):
    answer = site.ask(f"/runbooks/{wrong}")
    assert answer.status == 404
    assert f'Did you mean <a href="../runbooks/{near}">{near}</a>?' in answer.text


@pytest.mark.parametrize(
    "trick",
    [
        "../../../../etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "GpuCanaryOther%00",
        "%00",
        "GpuCanaryOther.md",
        "README",
        "/etc/passwd",
        "%ff%fe",
        "%3Cscript%3Ealert(1)%3C/script%3E",
        "..\\..\\etc\\passwd",
        "x" * 8000,
        "%0d%0aset-cookie:a=b",
    ],
)
def test_a_name_is_looked_up_and_never_a_path(site, trick):
    answer = site.ask(f"/runbooks/{trick}")
    assert answer.status == 404
    assert "root:" not in answer.text
    assert "no runbook\n" not in answer.text
    assert "<script>alert" not in answer.text
    assert b"\0" not in answer.body
    assert "set-cookie" not in answer.headers
    assert len(answer.body) < 10_000


def test_a_finding_leads_to_its_rule_s_page(site):
    site.canary.record(result("a/b", outcome="failed", findings=(DOWN("it is gone"),)))
    for path, root in (("/", "./"), ("/checks/a%2Fb", "../")):
        (link,) = re.findall(rf'href="({re.escape(root)}runbooks/{DOWN.name})"', site.ask(path).text)
        assert link


def test_it_works_under_a_prefix_and_an_outer_url(tmp_path, pages):
    canary = Canary(tmp_path, check(quiet), route_prefix="/canary", external_url="https://gpu.example/canary")
    with answering(canary) as site:
        text = site.ask("/canary/runbooks/GpuCanaryOther", host="gpu.example").text
        assert 'href="../runbooks/"' in text
        assert 'href="../static/page.css' in text
        listed = site.ask("/canary/runbooks/", host="gpu.example").text
        assert 'href="../runbooks/GpuCanaryOther"' in listed
        assert 'href="./runbooks/GpuCanaryOther"' in site.ask("/canary/runbooks", host="gpu.example").text


def test_a_page_may_load_nothing_from_elsewhere(site):
    answer = site.ask("/runbooks/GpuCanaryEvil")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "page.css" in answer.text, "the look of the status page, which is light and dark"


def test_every_shipped_page_is_rendered(tmp_path):
    names = [page.stem for page in sorted((shipped.ALERTS / "runbooks").glob("*.md"))]
    assert names
    with answering(Canary(tmp_path, check(quiet))) as site:
        for name in names:
            answer = site.ask(f"/runbooks/{name}")
            assert answer.status == 200, name
            assert f"<h1>{name}</h1>" in answer.text
            assert "&lt;!--" not in answer.text


def test_serving_loads_no_markdown_until_somebody_reads_a_page(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, env={"PYTHONPROFILEIMPORTTIME": "1"})
    try:
        exporter.until(lambda found: any(name == "gpucanary_check_outcome" for name, _ in found))
        assert exporter.get("/runbooks/disk-low")[0] == 200
        assert "markdown_it" not in exporter.log()
        assert exporter.get("/runbooks/GpuCanaryCheckFailing")[0] == 200
        assert "markdown_it" in exporter.log()
    finally:
        exporter.end()
