"""Does the demo show what its scenarios say: every metric, boring hosts, a sick one, and a past that Prometheus takes?"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from exporter import registry
from exporter.config import ConfigError
from exporter.demo import scenario
from exporter.demo.backfill import STEP, backfill
from exporter.demo.changes import Wave
from exporter.demo.hosts import before, simulated
from exporter.demo.scenario import Host, Scenario
from exporter.demo.worlds import Subject, card_uuid
from exporter.past import Pasts
from exporter.result import Latest, Result
from exporter.world.token import Token
from probes.api import Probe
from tests.process import free_port
from tests.scrape import assert_well_formed, series, value
from tests.stack.servers import prometheus, until

ROOT = Path(__file__).parent.parent
PROBES: Mapping[str, Probe[Any]] = registry.load().probes
MINUTE, HOUR = 60.0, 3600.0
START = 1_800_000_000.0


def scene(name: str) -> Scenario:
    return scenario.load(name, PROBES)


def subject(script: Scenario, host: str, check: str) -> Subject:
    return next(s for h in script.hosts if h.name == host for s in h.subjects if s.check.name == check)


def at(who: Subject, moment: float, latest: Latest | None = None) -> Result:
    return simulated(who, moment, START + moment, latest, Token(30))


def everything(script: Scenario, *moments: float) -> Iterator[tuple[Host, Subject, Result]]:
    for host in script.hosts:
        for who in host.subjects:
            for moment in moments:
                yield host, who, at(who, moment)


def rules(result: Result) -> set[str]:
    return {finding.rule for finding in result.findings}


def measured(result: Result, metric: str, **labels: str) -> float:
    found = [m.value for m in result.measurements if m.metric == metric and labels.items() <= dict(m.labels).items()]
    assert len(found) == 1, (metric, labels, result.detail)
    return found[0]


# -- what is shown ------------------------------------------------------------------------------------------------


def test_every_metric_of_every_probe_is_shown_somewhere_within_ten_minutes() -> None:
    shown = {
        (w.check.probe.name, m.metric) for _, w, r in everything(scene("scenario"), 1.0, 400.0) for m in r.measurements
    }
    assert {(probe.name, metric.name) for probe in PROBES.values() for metric in probe.metrics} - shown == set()


def test_every_rule_of_every_probe_fires_in_the_sick_state() -> None:
    fired = {rule for _, _, result in everything(scene("sick"), 1.0) for rule in rules(result)}
    assert {rule.name for probe in PROBES.values() for rule in probe.rules} - fired == set()


def test_in_the_healthy_state_every_check_is_ok_whenever_one_looks() -> None:
    outcomes = {(h.name, w.check.name, r.outcome) for h, w, r in everything(scene("healthy"), -HOUR, 0.0, 50 * HOUR)}
    assert {outcome for _, _, outcome in outcomes} == {"ok"}


def test_the_sick_state_is_the_same_at_any_time() -> None:
    script = scene("sick")
    first, later = ([(w.check.name, r.outcome, rules(r)) for _, w, r in everything(script, m)] for m in (1.0, 9 * HOUR))
    assert first == later
    assert {(w.check.name, r.outcome) for h, w, r in everything(script, 1.0) if h.name == "render-2"} == {
        ("gpu", "failed"),
        ("host", "degraded"),
        ("disk", "failed"),
        ("api", "failed"),
        ("slow", "degraded"),
        ("log_tail", "degraded"),
        ("trainer-log", "skipped"),
        ("dotenv", "error"),
        ("gpu_driver", "failed"),
        ("torch_import", "failed"),
        ("matmul", "degraded"),
    }


def test_a_probe_that_no_scenario_names_is_asked_on_one_host_all_the_same() -> None:
    disk = PROBES["disk"]
    late = Probe("late", disk.params, disk.run, disk.metrics, disk.rules, examples=disk.examples, family="models")
    hosts = scenario.load("scenario", {**PROBES, "late": late}).hosts
    assert [(h.name, c.name) for h in hosts for c in h.checks if c.probe is late] == [("workstation", "late")]


def test_a_card_has_one_uuid_in_every_check_of_its_host() -> None:
    script = scene("scenario")
    seen = {dict(m.labels)["uuid"] for m in at(subject(script, "render-1", "gpu"), 0).measurements}
    assert seen == {card_uuid("render-1", 0), card_uuid("render-1", 1)}
    assert at(subject(script, "render-1", "matmul-1"), 0).identity["uuid"] == card_uuid("render-1", 1)


# -- the story ----------------------------------------------------------------------------------------------------


def test_healthy_hosts_are_boring_for_ten_hours() -> None:
    script = scene("scenario")
    boring = Scenario(tuple(host for host in script.hosts if host.name != "render-2"), ())
    moments = (number * 7 * MINUTE for number in range(86))
    assert {(h.name, w.check.name) for h, w, r in everything(boring, *moments) if r.outcome != "ok"} == set()


def test_the_sick_host_crosses_ninety_percent_of_vram_for_more_than_ten_minutes_and_then_ninety_five() -> None:
    gpu, card = subject(scene("scenario"), "render-2", "gpu"), card_uuid("render-2", 0)
    used = [measured(at(gpu, minute * MINUTE), "memory_used_ratio", uuid=card) for minute in range(60)]
    assert used[0] < 0.9
    assert sum(0.9 < ratio < 0.95 for ratio in used) > 10
    assert sum(ratio > 0.95 for ratio in used) > 10
    assert used[59] < 0.9, "somebody restarted the program"


def test_a_service_is_down_and_slow_in_turns() -> None:
    api = subject(scene("scenario"), "render-2", "api")
    assert rules(at(api, 1 * MINUTE)) == {"http-tls-expiring"}
    assert rules(at(api, 5 * MINUTE)) == {"http-unreachable"}
    assert rules(at(api, 20 * MINUTE)) == {"http-tls-expiring", "http-slow"}
    assert rules(at(api, 35 * MINUTE)) == {"http-unreachable"}, "again"


def test_one_check_is_blind_one_is_in_error_and_one_import_breaks() -> None:
    script = scene("scenario")
    assert at(subject(script, "render-2", "trainer-log"), 0).skip == ("blind", "permission")
    assert at(subject(script, "render-2", "dotenv"), 0).outcome == "error"
    assert rules(at(subject(script, "render-2", "torch_import"), 0)) == {"torch-import-failed"}
    assert at(subject(script, "render-2", "torch_import"), 3 * HOUR).outcome == "ok"


def test_one_matmul_is_a_tenth_slower_since_the_driver_changed() -> None:
    matmul = subject(scene("scenario"), "render-2", "matmul")
    before, since = (measured(at(matmul, hours * HOUR), "flops_per_second", dtype="bf16") for hours in (-21, -19))
    assert since / before == pytest.approx(0.88, abs=0.02)
    drivers = [at(matmul, hours * HOUR).conditions["driver"] for hours in (-21, -19)]
    assert drivers == ["570.86.15", "580.65.06"]


@pytest.mark.parametrize(
    ("name", "host", "state"),
    [("scenario", "render-2", "regressed"), ("sick", "render-2", "regressed"), ("healthy", "render-2", "ok")],
)
def test_a_matmul_is_judged_against_a_past_of_its_own(name: str, host: str, state: str) -> None:
    who = subject(scene(name), host, "matmul")
    pasts = Pasts(lambda check, limit: before(who, 0.0, START))
    result = simulated(who, 1.0, START + 1, None, Token(30), past=pasts.of(who.check))
    assert {c.state for c in result.comparisons} == {state}
    regressed = [f.detail for f in result.findings if f.rule == "regressed"]
    assert bool(regressed) == (state == "regressed")
    assert all("driver 570.86.15 -> 580.65.06" in detail for detail in regressed)


def test_an_xid_is_dated_at_the_start_of_its_window_and_ages() -> None:
    gpu = subject(scene("scenario"), "render-2", "gpu")
    assert {measured(at(gpu, m), "xid_last_timestamp_seconds", xid="94") for m in (400.0, 2 * HOUR)} == {START + 300}
    assert "gpu-xid-warning" in rules(at(gpu, 400.0))
    assert "gpu-xid-warning" not in rules(at(gpu, 2 * HOUR))


def test_the_same_moment_looks_the_same_in_every_demo() -> None:
    first, again = ([r.measurements for _, _, r in everything(scene("scenario"), 1234.0)] for _ in range(2))
    assert first == again


@pytest.mark.parametrize("host", ["workstation", "render-1", "render-2"])
def test_counters_never_fall(host: str) -> None:
    before: dict[tuple[str, object], float] = {}
    for check in ("gpu", "host"):
        who, latest = subject(scene("scenario"), host, check), None
        counters = {metric.name for metric in who.check.probe.metrics if metric.kind == "counter"}
        for step in range(100):
            result = at(who, 600 + step * 97.0, latest)
            latest = latest.after(result) if latest else Latest.first(result)
            for m in (m for m in result.measurements if m.metric in counters):
                assert m.value >= before.get((m.metric, m.labels), 0.0), (m, step)
                before[m.metric, m.labels] = m.value
    assert before


def test_processors_are_as_busy_as_their_counters_say() -> None:
    who = subject(scene("scenario"), "render-2", "host")
    first = Latest.first(at(who, 0.0))
    assert 0.85 < measured(at(who, 5.0, first), "cpu_utilization_ratio") <= 1.0
    assert 0 < measured(at(who, 5.0, first), "self_cpu_ratio") < 0.02


# -- scenario files -----------------------------------------------------------------------------------------------

CHECK = "hosts: [{name: a, cards: [X], checks: [{probe: gpu, changes: [%s]}]}]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "hosts: this key is required"),
        ("[]", "expected keys"),
        ("hosts: []", "hosts"),
        ("hosts: {}", "hosts"),
        ("hosts: [{name: a}, {name: a}]", ":1: hosts[a]: a second host of this name"),
        ("hosts: [{name: ../etc}]", "hosts[0].name"),
        ("hosts: [{name: a, tier: servr}]", "did you mean server?"),
        ("hosts: [{name: a, chekcs: []}]", "did you mean checks?"),
        ("hosts: [{name: a, checks: [{probe: dsk}]}]", "disk"),
        (
            "hosts: [{name: a, checks: [{probe: disk, example: a modl disk with room}]}]",
            "did you mean a model disk with room?",
        ),
        ("hosts: [{name: a, checks: [{probe: disk, params: {pth: /}}]}]", "did you mean path?"),
        ("hosts: [{name: a, checks: [{probe: disk}, {probe: disk}]}]", "'disk' is taken"),
        ("hosts: [{name: a}]\nalerts: [{alert: X, host: b, during: [-2h, -1h]}]", ":2: alerts[0].host: 'b' is none of"),
        (CHECK % "{plus: {gpus.gpus.*.heat: 1}}", "'gpus.gpus.*.heat' is nowhere in the examples"),
        (CHECK % "{plus: {gpus.gpus.9.temperature: 1}}", "is nowhere"),
        (CHECK % "{drop: [disks]}", "they record gpus, now"),
        (CHECK % "{put: {gpus.gpus.0.clok.sm: 1}}", "'gpus.gpus.0.clok' is nowhere"),
        (CHECK % "{put: {..: 1}}", "is not a place in a world"),
        (CHECK % "{times: {gpus.gpus.0.power: {swng: 1}}}", "did you mean swing?"),
        (CHECK % "{times: {gpus.gpus.0.power: .inf}}", "finite"),
        (CHECK % "{plus: {gpus.gpus.0.power: {rate: 1e308}}}", "less than or equal to 1000000000000000000"),
        (CHECK % "{times: {gpus.gpus.0.power: {swing: 1, period: 0s}}}", "greater than 0"),
        (CHECK % "{during: [2h, 1h]}", "the earlier one first"),
        (CHECK % "{during: [5, 10]}", "is not a duration"),
        (CHECK % "{every: 1h}", "`every` repeats `during`"),
        (CHECK % "{during: [0s, 2h], every: 1h}", "no longer than it"),
        (CHECK % "{example: none such}", "has no example 'none such'"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        scenario.load(str(path), PROBES)
    assert told in str(caught.value)
    assert "mine.yml" in str(caught.value)


def test_a_scenario_of_ones_own_needs_a_probe_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("hosts: [{name: a, checks: [{probe: disk, every: 20s}]}]")
    (host,) = scenario.load(str(tmp_path / "mine.yml"), PROBES).hosts
    assert [(c.name, c.every, at(s, 0).outcome) for c, s in zip(host.checks, host.subjects, strict=True)] == [
        ("disk", 20.0, "ok")
    ]


def test_alerts_of_the_past_are_those_that_the_rules_would_have_made() -> None:
    shipped = [
        (rule["alert"], set(rule["labels"].items()))
        for path in (ROOT / "alerts").glob("*.yml")
        for group in yaml.safe_load(path.read_text()).get("groups", ())
        for rule in group["rules"]
        if "alert" in rule
    ]
    for alert in scene("scenario").alerts:
        assert any(alert.alert == name and labels <= alert.labels.items() for name, labels in shipped), alert


# -- the program --------------------------------------------------------------------------------------------------


@contextmanager
def demo(folder: Path, *flags: str) -> Iterator[dict[str, str]]:
    """`gpu-canary demo`; the URL of each host by its name."""
    out = folder / "out"
    with out.open("wb") as file, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "demo", *flags], cwd=ROOT, stdout=file, stderr=err
        )
    try:
        until(lambda: "/sd" in out.read_text() or process.poll() is not None, "the demo says where it is")
        assert process.poll() is None, (folder / "err").read_text()
        yield dict(re.findall(r"^(\S+): (http://\S+)/$", out.read_text(), re.MULTILINE))
    finally:
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(15) == 0, (folder / "err").read_text()
        assert time.monotonic() - began < 6


def get(url: str) -> str:
    with urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def settled(url: str, holds: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    until(lambda: holds(series(get(f"{url}/metrics"))), f"{url} shows it", seconds)
    return series(get(f"{url}/metrics"))


def outcome(found: Any, check: str) -> str:
    """ "" while there is none."""
    states = [dict(labels) for (name, labels), state in found.items() if name == "gpucanary_check_outcome" and state]
    return next((labels["outcome"] for labels in states if labels["check"] == check), "")


def test_each_host_is_a_whole_exporter_and_the_first_one_knows_them_all(tmp_path: Path) -> None:
    with demo(
        tmp_path, "--web.listen-address=127.0.0.1:0", "--scenario=sick", "--grafana-url=http://grafana:3000"
    ) as urls:
        assert list(urls) == ["workstation", "render-2", "lab"]
        groups = json.loads(get(f"{urls['workstation']}/sd"))
        assert {f"http://{group['targets'][0]}": group["labels"] for group in groups} == {
            urls["workstation"]: {"instance": "workstation"},
            urls["render-2"]: {"instance": "render-2", "tier": "server"},
            urls["lab"]: {"instance": "lab"},
        }
        found = settled(urls["render-2"], lambda s: outcome(s, "gpu") != "")
        assert outcome(found, "gpu") == "failed"
        links = next(dict(labels) for (name, labels) in found if name == "gpucanary_links_info")
        assert links == {"grafana": "http://grafana:3000", "self": urls["render-2"]}
        assert value(found, "gpucanary_gpu_memory_used_ratio", {"gpu": "0"}) == pytest.approx(0.97, abs=0.01)
        for url in urls.values():
            assert_well_formed(get(f"{url}/metrics"))
        assert "gpu-ecc-uncorrectable" in get(f"{urls['render-2']}/checks/gpu")
        assert get(f"{urls['workstation']}/-/healthy")


def test_time_flies_with_speed_in_a_scenario_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yml"
    mine.write_text(
        "hosts: [{name: a, checks: [{probe: disk, every: 1s, changes: [{during: [20m, 9d], drop: [disks]}]}]}]"
    )
    with demo(tmp_path, "--web.listen-address=127.0.0.1:0", f"--scenario={mine}", "--speed=400") as urls:
        settled(urls["a"], lambda s: outcome(s, "disk") == "ok")
        settled(urls["a"], lambda s: outcome(s, "disk") == "failed")


@pytest.mark.parametrize("speed", [0.1, 20.0, 500.0])
def test_healthy_hosts_are_healthy_at_any_speed(speed: float) -> None:
    for host in scene("scenario").hosts:
        for who in host.subjects if host.name != "render-2" else ():
            latest = None
            for second in range(0, 7200, 900):
                result = simulated(who, second * speed, START + second, latest, Token(60.0), speed=speed)
                latest = latest.after(result) if latest else Latest.first(result)
                assert result.outcome == "ok", (host.name, who.check.name, second, result.findings)


def test_what_grows_at_a_rate_keeps_it_at_any_speed() -> None:
    wave = Wave(rate=0.005, swing=3.0, period=60.0)
    for speed in (1.0, 20.0):
        minute = wave.at(60.0 * speed, 60.0 * speed, "a", speed) - wave.at(0.0, 0.0, "a", speed)
        assert minute == pytest.approx(0.3)


def test_ports_follow_one_another_and_the_past_s_page_is_in_the_inbox(tmp_path: Path) -> None:
    port = free_port()
    with demo(tmp_path, f"--web.listen-address=127.0.0.1:{port}", "--hosts=workstation,render-1") as urls:
        assert list(urls.values()) == [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
        assert "render-1" in get(urls["render-1"]).partition("<h1")[0]
        assert "GpuCanaryServiceDown" in get(urls["workstation"])
        assert "Alertmanager" not in get(urls["render-1"]), "alerts of all hosts go to the first"


def test_the_first_host_is_reached_as_one_says_and_a_busy_port_is_told_with_another(tmp_path: Path) -> None:
    url = "http://127.0.0.1:29835"  # what a container's port 19835 may be outside
    hosts = ("--web.listen-address=127.0.0.1:0", "--hosts=workstation,render-1", f"--web.external-url={url}")
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", "demo", *hosts], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        told = [process.stdout.readline().strip() for _ in range(3)]
        process.terminate()
    assert (told[0], told[2]) == (f"workstation: {url}/", f"Prometheus finds all of them at {url}/sd")
    assert re.fullmatch(r"render-1: http://127\.0\.0\.1:(?!29835)\d+/", told[1])
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"--web.listen-address=127.0.0.1:{held.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "exporter", "demo", address], cwd=ROOT, capture_output=True, text=True
        )
    assert (done.returncode, "is in use by" in done.stderr, "like --web.listen-address=" in done.stderr) == (
        2,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--scenario=/nowhere.yml",), "/nowhere.yml: cannot be read"),
        (("--hosts=rendr-2",), "did you mean render-2?"),
        (("--web.listen-address=127.0.0.1:65534",), "begin at a lower one"),
        (("--backfill=30d",), "up to 7d"),
        (("--speed=0",), "expected a number above 0"),
        (("--speed=nan",), "expected a number above 0"),
        (("--speed=inf",), "up to 10000"),
        (("--backfill=2 days",), "is not a duration"),
        (("--backfill=1h", "--step=1s"), "expected a step of at least 5s"),
        (("--backfill=1m", "--step=1h"), "longer than it"),
    ],
)
def test_flags_that_make_no_sense_are_told(flags: tuple[str, ...], told: str) -> None:
    done = subprocess.run([sys.executable, "-m", "exporter", "demo", *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr


# -- the past -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 hours as OpenMetrics, until now."""
    path = tmp_path_factory.mktemp("past") / "past.om"
    script = scene("scenario")
    with path.open("w") as file:
        backfill(script.hosts, script.alerts, time.time(), 48 * HOUR, STEP, file.write)
    return path


def test_two_days_of_three_hosts_stay_under_ninety_megabytes(past: Path) -> None:
    assert 10e6 < past.stat().st_size < 90e6


def test_the_past_is_openmetrics_with_contiguous_families_and_times_that_rise(past: Path) -> None:
    families, last, counters, final = [], defaultdict(float), set(), ""
    with past.open() as file:
        for final in file:
            if final.startswith("# TYPE "):
                _, _, family, kind = final.split()
                families.append(family)
                counters |= {f"{family}_total"} if kind == "counter" else set()
            elif not final.startswith("#"):
                key, _, rest = final.rpartition("} ")
                name, moment = key.partition("{")[0], float(rest.split()[1])
                assert name == families[-1] or (name in counters and name == f"{families[-1]}_total"), final
                assert moment > last[key], final
                last[key] = moment
    assert final == "# EOF\n"
    assert len(families) == len(set(families))
    assert {"gpucanary_check_runs_total", "gpucanary_host_cpu_seconds_total"} <= counters


@pytest.mark.prometheus
def test_prometheus_takes_the_past_and_answers_without_a_gap_until_now(past: Path, tmp_path: Path) -> None:
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", past, tmp_path / "tsdb"],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    now = past.stat().st_mtime
    with prometheus(tmp_path) as server:
        ups = server.range("up", now - 47 * HOUR, now, 60)
        assert [up["metric"] for up in sorted(ups, key=lambda up: up["metric"]["instance"])] == [
            {"__name__": "up", "instance": "render-1", "job": "gpu-canary", "tier": "server"},
            {"__name__": "up", "instance": "render-2", "job": "gpu-canary", "tier": "server"},
            {"__name__": "up", "instance": "workstation", "job": "gpu-canary"},
        ]
        assert {len(up["values"]) for up in ups} == {47 * 60 + 1}, "a gap"
        used = server.range("gpucanary_gpu_memory_used_ratio", now - 47 * HOUR, now, 60)
        assert {len(card["values"]) for card in used} == {47 * 60 + 1}, "a gap"
        bf16 = 'gpucanary_matmul_flops_per_second{instance="render-2",dtype="bf16"}'
        lost = f"{bf16} / ({bf16} offset 24h)"
        assert float(server.query(lost, now)[0]["value"][1]) == pytest.approx(0.88, abs=0.02)
        (fired,) = server.query('ALERTS{alertstate="firing"}', now - 8.5 * HOUR)
        assert fired["metric"].items() >= {"alertname": "GpuCanaryServiceDown", "instance": "render-1"}.items()
        assert server.query("ALERTS", now) == []
        failed = 'gpucanary_check_outcome{instance="render-1",check="api",outcome="failed"} == 1'
        assert server.query(failed, now - 8.5 * HOUR)
        assert server.query(failed, now) == []
        busy = 'rate(gpucanary_host_cpu_seconds_total{instance="render-2",mode="idle"}[15m])'
        assert 0 < float(server.query(busy, now)[0]["value"][1]) < 4
