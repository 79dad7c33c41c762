"""What does a person's browser make of the page? Debian's Chromium and axe-core look at the real server."""

from __future__ import annotations

import time

import pytest

from exporter.result import Comparison, Expectation, Target
from tests import web_scene
from tests.checks import DOWN, SPEED, check, quiet, result
from tests.conftest import CHROMIUM
from tests.deliveries import alert, message
from tests.web_service import Canary, answering

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
RUNBOOKS = ["runbooks/", "runbooks/disk-low", "runbooks/GpuCanaryCheckFailing", "runbooks/nope"]


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def look(chromium):
    """Opens a page; at the end every request it made went to the server and nothing was blocked or failed."""
    opened = []

    def open_page(site, path="", scheme="light", size=DESK, scripts=True):
        context = chromium.new_context(color_scheme=scheme, viewport=size, java_script_enabled=scripts)
        page = context.new_page()
        page.set_default_timeout(10_000)
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))  # what the browser blocked, it tells here
        page.on("pageerror", lambda error: said.append(str(error)))
        opened.append((context, site.url, asked, said))
        page.goto(site.url + path)
        return page

    yield open_page
    for context, origin, asked, said in opened:
        context.close()
        assert asked
        assert [url for url in asked if not url.startswith(origin)] == []
        assert [text for text in said if not text.startswith("Failed to load resource")] == []


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """The site of a machine on which everything happens at once."""
    with answering(web_scene.scene(tmp_path_factory.mktemp("scene"), enable_lifecycle=True, enable_inbox=True)) as site:
        yield site


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "checks/disk", "checks/gpu", "checks/nope", *RUNBOOKS])
def test_axe_finds_no_violation(look, busy, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(look(busy, path, scheme)).response["violations"]
    assert [(v["id"], [node["target"] for node in v["nodes"]]) for v in found] == []


@pytest.mark.parametrize("path", ["", "checks/disk", "checks/gpu", *RUNBOOKS])
def test_a_phone_needs_no_sideways_scrolling(look, busy, path):
    page = look(busy, path, size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_reaches_everything_and_shows_where_it_is(look, busy):
    page = look(busy)
    wanted = page.locator("a, button:not([disabled]), summary").count()
    reached = set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        here = page.evaluate("""() => { const e = document.activeElement; const s = getComputedStyle(e);
            return [e.id || e.outerHTML, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0] }""")
        if not here[0].startswith("<body"):
            assert here[1], f"no outline on {here[0]}"
            reached.add(here[0])
    missed = (
        set(page.locator("a, button:not([disabled]), summary").evaluate_all("all => all.map(e => e.id || e.outerHTML)"))
        - reached
    )
    assert not missed
    page.keyboard.press("Home")
    page.locator(".skip-link").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_result_arrives_without_a_reload(look, tmp_path):
    canary = Canary(tmp_path, check(quiet), check(quiet, "other"))
    canary.record(result(), result("other"))
    with answering(canary) as site:
        page = look(site)
        page.wait_for_selector("#live:has-text('live')")
        page.evaluate("document.body.dataset.mine = 'kept'")
        page.locator("#to-check-toy").focus()
        canary.record(result(outcome="failed", findings=(DOWN("it is gone", "/a"),)))
        page.wait_for_selector("h1:has-text('One check has found something wrong.')")
        page.wait_for_selector("#check-toy.failed")
        assert page.locator(".trouble").inner_text().count("it is gone") == 1
        assert page.evaluate("document.body.dataset.mine") == "kept", "it was not loaded anew"
        assert page.evaluate("document.activeElement.id") == "to-check-toy", "the focus stays where it was"


def test_an_alert_arrives_without_a_reload(look, tmp_path):
    with answering(Canary(tmp_path, check(quiet), enable_inbox=True)) as site:
        page = look(site)
        page.wait_for_selector("#live:has-text('live')")
        page.evaluate("document.body.dataset.mine = 'kept'")
        assert site.ask("/api/v1/inbox", "POST", message(alert())).status == 200
        page.wait_for_selector(".inbox h4:has-text('The disk is low.')")
        assert page.evaluate("document.body.dataset.mine") == "kept", "it was not loaded anew"


def test_a_check_s_page_keeps_its_evidence_open_while_results_arrive(look, tmp_path):
    canary = Canary(tmp_path, check(quiet))
    canary.record(result(evidence={"log": "first tail"}))
    with answering(canary) as site:
        page = look(site, "checks/toy")
        page.wait_for_selector("#live:has-text('live')")
        page.locator("summary").click()
        canary.record(result(outcome="degraded", evidence={"log": "second tail"}))
        page.wait_for_selector("pre:has-text('second tail')")
        assert page.locator("details").get_attribute("open") is not None


def test_a_benchmark_s_value_stands_beside_its_target_its_expected_value_and_its_past(look, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    labels = (("path", "/a"),)
    compared = Comparison("speed_bytes_per_second", labels, "ok", 60, 5e9, 1e7, 0.002)
    expected = Expectation("speed_bytes_per_second", labels, 6e9, 5.01 / 6)
    canary = Canary(tmp_path, check(quiet, targets=(Target("speed_bytes_per_second", at_least=4e9),)))
    held = {"comparisons": (compared,), "expectations": (expected,)}
    canary.record(result(measurements=(SPEED(5.01e9, path="/a"),), **held))
    with answering(canary) as site:
        page = look(site, "checks/toy", size=PHONE)
        seen = page.locator(".tile dd").inner_text().split("\n")
        told = ["5.01 GB/s", "target met: at least 4 GB/s", "expected of this model: 6 GB/s, 84% reached"]
        assert [line for line in seen if line in told] == told
        assert "against its own past: ok, 0.2% above the median of 60 runs before: 5 GB/s" in seen
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert axe.Axe().run(page).response["violations"] == []
        assert "expected of this model" not in look(site).locator("#check-toy").inner_text(), "the overview is short"


def test_a_check_that_appears_is_shown(look, tmp_path):
    canary = Canary(tmp_path, check(quiet))
    with answering(canary) as site:
        page = look(site)
        page.wait_for_selector("#live:has-text('live')")
        canary.checks["fresh"] = check(quiet, "fresh")
        site.application.events.refetch()
        page.wait_for_selector("#check-fresh")


def test_where_events_do_not_come_through_the_page_polls(look, tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.web.events.CLIENTS", 0)
    with answering(Canary(tmp_path, check(quiet))) as site:
        look(site).wait_for_selector("#live:has-text('every 10 s')")


def test_run_now_asks_for_the_run_and_says_so(look, tmp_path):
    canary = Canary(tmp_path, check(quiet, "a/b"), enable_lifecycle=True)
    with answering(canary) as site:
        page = look(site)
        page.locator("button").click()
        page.wait_for_selector("button:has-text('Asked')")
        deadline = time.monotonic() + 5
        while not canary.asked and time.monotonic() < deadline:
            page.wait_for_timeout(20)
        assert canary.asked == ["a/b"]


def test_without_scripts_everything_is_there_and_the_button_works(look, tmp_path):
    canary = Canary(tmp_path, check(quiet, "a/b"), enable_lifecycle=True)
    canary.record(result("a/b", outcome="failed", findings=(DOWN("it is gone"),)))
    with answering(canary) as site:
        page = look(site, scripts=False)
        assert "it is gone" in page.locator(".trouble").inner_text()
        page.locator("button").click()
        page.wait_for_url("**/checks/a%2Fb")
        assert canary.asked == ["a/b"]
        assert "failed" in page.locator("h1").inner_text()


def test_without_a_gpu_nothing_on_the_page_is_red(look, tmp_path):
    with answering(web_scene.calm(tmp_path)) as site:
        page = look(site)
        red = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--failed')")
        assert red
        assert page.locator(".failed, .missed, .trouble").count() == 0
        assert "not applicable: no GPU" in page.locator("#check-gpu").inner_text()
