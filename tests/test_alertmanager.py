"""Does each alert reach who should hear it, and is each silent when another one says more?

Routes are asked of amtool, inhibition of a real Alertmanager. Which alerts there are is read from the rule files.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import yaml

from exporter import registry
from exporter.inbox import PAGERS, WATCHDOG
from exporter.shipped import ALERTS
from tests.stack.servers import alertmanager, until, webhook

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(not shutil.which("amtool"), reason="no amtool: apt-get install prometheus-alertmanager"),
]

FILE = ALERTS / "alertmanager.yml"
INBOX = "http://exporter:19835/api/v1/inbox"
RECEIVERS = {"critical": "page", "warning": "ticket", "info": "ticket", "none": "nobody"}
SETTING = re.compile(r"^( *)#(?! \S)(?=.)", re.MULTILINE)  # "#url: x" and "#  - url: x" are settings, "# x" is prose

Labels = Mapping[str, str]


def rules() -> Iterator[dict[str, Any]]:
    """Every alert of every rule file."""
    for path in ALERTS.glob("*.yml"):
        groups = yaml.safe_load(path.read_text()).get("groups", ())
        yield from (rule for group in groups for rule in group["rules"] if "alert" in rule)


NAMES = sorted({rule["alert"] for rule in rules()})


def amtool(*words: str) -> str:
    done = subprocess.run(["amtool", *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_file_is_valid():
    assert "SUCCESS" in amtool("check-config", str(FILE))


def test_it_is_valid_with_every_receiver_that_it_offers(tmp_path):
    head, start, receivers = FILE.read_text().partition("\nreceivers:\n")
    receivers, offered = SETTING.subn(r"\1", receivers)
    text = head + start + receivers
    path = tmp_path / "alertmanager.yml"
    path.write_text(text)
    assert "SUCCESS" in amtool("check-config", str(path))
    kinds = {kind for receiver in yaml.safe_load(text)["receivers"] for kind in receiver if kind != "name"}
    assert kinds == {"webhook_configs", "pagerduty_configs", "slack_configs", "email_configs"}
    assert offered > 20
    assert not re.search(r"(password|_url|_key|credentials): ", text), "secrets are in files of their own"


def test_the_inbox_knows_the_names_of_the_receivers_and_of_the_watchdog():
    receivers = {receiver["name"]: receiver for receiver in yaml.safe_load(FILE.read_text())["receivers"]}
    assert [receivers[name]["webhook_configs"][0]["url"] for name in (*PAGERS, "watchdog")] == [INBOX] * 3
    assert WATCHDOG in NAMES


@pytest.mark.parametrize(("name", "severity"), [*product(NAMES, RECEIVERS)])
def test_every_alert_reaches_the_receiver_of_its_severity(name, severity):
    labels = (f"alertname={name}", f"severity={severity}", "job=gpu-canary", "instance=ws")
    expected = "watchdog" if name == WATCHDOG else RECEIVERS[severity]
    for more in ((), ("injected=true", "scope=check")):
        assert amtool("config", "routes", "test", f"--config.file={FILE}", *labels, *more).strip() == expected


def test_an_alert_of_no_known_severity_is_somebody_s_ticket():
    for labels in (["alertname=Theirs"], ["alertname=Theirs", "severity=page"]):
        assert amtool("config", "routes", "test", f"--config.file={FILE}", *labels).strip() == "ticket"


def test_severities_and_scopes_are_those_that_the_routes_know():
    assert {rule["labels"]["severity"] for rule in rules()} <= RECEIVERS.keys()
    assert {rule["labels"].get("scope", "") for rule in rules()} <= {"", "cause", "check"}
    named = set(re.findall(r"GpuCanary[A-Za-z]+\b(?![.(])", FILE.read_text()))
    assert named <= set(NAMES), "an alert that the file names is gone, or has another name"


def test_a_check_s_failure_waits_until_its_cause_may_have_fired():
    """An alert with `scope: cause` may have a `for`; what it mutes must not be sent before that is over."""
    routes = yaml.safe_load(FILE.read_text())["route"]["routes"]
    page = next(route for route in routes if route["receiver"] == "page")
    waits = next(route for route in page["routes"] if "GpuCanaryCheckFailing" in route["matchers"][0])
    seconds = [
        _seconds(rule["for"]) for rule in rules() if rule["labels"].get("scope") == "cause" and _on_a_finding(rule)
    ]
    assert seconds
    assert _seconds(page["group_wait"]) <= 1 < max(seconds) < _seconds(waits["group_wait"])
    assert "check" in waits["group_by"], "one that joins a group which was sent already does not wait"


def test_what_a_dying_card_says_in_many_ways_is_one_message():
    routes = yaml.safe_load(FILE.read_text())["route"]["routes"]
    page = next(route for route in routes if route["receiver"] == "page")
    card = next(route for route in page["routes"] if matches(route["matchers"], {"alertname": "GpuCanaryGpuXid"}))
    together = {name for name in NAMES if matches(card["matchers"], {"alertname": name})}
    assert {f"GpuCanaryGpu{name}" for name in ("Missing", "Xid", "EccErrors", "RowRemap", "RecoveryNeeded")} <= together
    assert "GpuCanaryVramNearLimit" not in together, "which is paged within seconds"
    assert card["group_by"] == ["job", "instance"]
    missing = [_seconds(r["for"]) for r in rules() if r["alert"] == "GpuCanaryGpuMissing" and _on_a_finding(r)]
    assert max(missing) < _seconds(card["group_wait"])


def _on_a_finding(rule: Mapping[str, Any]) -> bool:
    return rule["labels"]["severity"] == "critical" and "gpucanary_finding" in rule["expr"] and "for" in rule


def _seconds(text: str) -> int:
    return sum(
        int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in re.findall(r"(\d+)(\w)", text)
    )


# -- inhibition ---------------------------------------------------------------------------------------------------------

HOST = {"job": "gpu-canary", "instance": "ws"}
CARD, OTHER = {"uuid": "GPU-1"}, {"uuid": "GPU-2"}


def alert(name: str, severity: str = "critical", scope: str = "", **labels: str) -> dict[str, str]:
    return {
        **HOST,
        "alertname": f"GpuCanary{name}",
        "severity": severity,
        **({"scope": scope} if scope else {}),
        **labels,
    }


def check(name: str, severity: str = "critical", **labels: str) -> dict[str, str]:
    return alert(name, severity, "check", **{"check": "disk", **labels})


def cause(name: str, severity: str = "critical", **labels: str) -> dict[str, str]:
    return alert(name, severity, "cause", **{"check": "disk", **labels})


ELSEWHERE = {"instance": "render-1"}
INJECTED = {"injected": "true"}
MUTED = {  # what fires, what that mutes, what it leaves alone
    "maintenance": (
        alert("Maintenance", "none"),
        [check("CheckFailing"), alert("ExporterDown"), check("CheckFailing", **INJECTED), alert("GpuHot", **CARD)],
        [
            alert("Maintenance", "none", **ELSEWHERE),
            check("CheckFailing", **ELSEWHERE),
            {"alertname": WATCHDOG, "severity": "none"},
            {**HOST, "alertname": WATCHDOG, "severity": "none"},
            {"alertname": "OfNoHost", "severity": "critical"},
        ],
    ),
    "exporter down": (
        alert("ExporterDown", scope="cause", tier="server"),
        [
            *(check(name, "warning") for name in ("CheckOverdue", "CheckNeverRan", "CheckBlind", "CheckError")),
            alert("SchedulerLate", "warning"),
        ],
        [check("CheckOverdue", "warning", **ELSEWHERE), check("CheckFailing"), alert("GpuMissing")],
    ),
    "driver broken": (
        cause("DriverBroken", check="gpu_driver"),
        [
            cause("TorchBroken", check="torch_import"),
            cause("GpuMissing", check="gpu"),
            cause("VramNearLimit", check="gpu", **CARD),
            cause("VramNotReleased", "warning", check="vram_leak", **CARD),
            check("CheckFailing", check="gpu_driver"),
            check("CheckFailing", check="matmul"),
            check("TargetMissed", "warning", check="memory_copy:4090", metric="bytes_per_second"),
        ],
        [
            cause("TorchBroken", check="torch_import", **ELSEWHERE),
            check("CheckFailing", check="matmul", **ELSEWHERE),
            check("CheckFailing", check="matmulish"),
            cause("DriverBroken", check="matmul"),
            check("CheckFailing", check="matmul", **INJECTED),
            check("CheckFailing"),
            cause("DiskLow"),
        ],
    ),
    "torch broken": (
        cause("TorchBroken", check="torch_import"),
        [check("CheckFailing", check="matmul"), check("CheckFailing", check="torch_import")],
        [
            check("CheckFailing", check="gpu"),
            cause("GpuHot", check="gpu", **CARD),
            check("CheckFailing", check="matmul", **ELSEWHERE),
        ],
    ),
    "a card is gone": (
        cause("GpuMissing", check="gpu", **CARD),
        [
            cause("GpuHot", "warning", check="gpu", **CARD),
            check("TargetMissed", check="gpu", metric="power_watts", **CARD),
            check("CheckFailing", check="matmul"),
            cause("VramNotReleased", "warning", check="vram_leak", **CARD),
        ],
        [
            cause("GpuHot", "warning", check="gpu", **OTHER),
            cause("VramNotReleased", "warning", check="vram_leak", **OTHER),
            cause("GpuMissing", check="gpu", **OTHER),
            check("TargetMissed", check="gpu", metric="power_watts", **OTHER),
            check("TargetMissed", check="matmul", metric="flops_per_second", **OTHER),
            cause("GpuHot", "warning", check="gpu", **CARD, **ELSEWHERE),
            cause("GpuHot", "warning", check="gpu", **CARD, **INJECTED),
            check("CheckFailing", check="matmul", **ELSEWHERE),
            check("CheckFailing", check="matmul", **INJECTED),
            cause("HostCpuHigh", "warning", check="host"),
        ],
    ),
    "a card is gone that nobody can name": (
        cause("GpuMissing", check="gpu_driver", subject="0000:01:00.0"),
        [check("CheckFailing", check="matmul")],
        [cause("DiskLow"), cause("GpuHot", "warning", check="gpu", **CARD), alert("ConfigReloadFailed", "warning")],
    ),
    "a card that warns": (
        cause("GpuMissing", "warning", check="gpu", **CARD),
        [check("CheckFailing", "warning", check="gpu")],
        [cause("GpuHot", "warning", check="gpu", **CARD), cause("VramNearLimit", check="gpu", **CARD)],
    ),
    "a cause, critical": (
        cause("DiskLow", subject="/models", rule="disk-low"),
        [
            check("CheckFailing"),
            check("CheckFailing", "warning"),
            check("TargetMissed", metric="free_bytes", path="/models"),
        ],
        [
            check("CheckFailing", check="dotenv"),
            check("CheckFailing", **ELSEWHERE),
            check("CheckFailing", **INJECTED),
            check("CheckOverdue", "warning"),
            cause("DiskFillsSoon", "warning", path="/models"),
        ],
    ),
    "a cause, warning": (
        cause("DiskLow", "warning", subject="/models", rule="disk-low"),
        [check("CheckFailing", "warning"), check("TargetMissed", "warning", metric="free_bytes", path="/models")],
        [
            check("CheckFailing"),
            check("CheckOverdue", "warning"),
            check("TargetMissed", metric="free_bytes"),
            check("TargetMissed", "warning", **CARD),
            *(check(name, "warning", **ELSEWHERE) for name in ("CheckFailing", "TargetMissed")),
            *(check(name, "warning", **INJECTED) for name in ("CheckFailing", "TargetMissed")),
            *(check(name, "warning", check="dotenv") for name in ("CheckFailing", "TargetMissed")),
        ],
    ),
    "a wrong bit": (
        cause("Corruption", check="corruption", rule="corruption-bits-differ", subject="GPU-1"),
        [
            check("CheckFailing", check="corruption"),
            check("CheckFailing", "warning", check="corruption"),
            check("Regression", "warning", check="corruption", metric="differing_values"),
        ],
        [
            cause("Corruption", "warning", check="corruption", rule="corruption-seen", subject="GPU-1"),
            cause("Corruption", check="corruption", rule="corruption-bits-differ", subject="GPU-1", **INJECTED),
            check("CheckFailing", check="training_step"),
            check("CheckFailing", check="corruption", **ELSEWHERE),
            check("CheckFailing", check="corruption", **INJECTED),
        ],
    ),
    "a cause of one card": (
        cause("VramNearLimit", check="gpu", metric="memory_used_ratio", **CARD),
        [check("TargetMissed", check="gpu", metric="power_watts", **CARD), check("CheckFailing", check="gpu")],
        [
            check("TargetMissed", check="gpu", metric="power_watts", **OTHER),
            check("TargetMissed", check="gpu", metric="power_watts", **CARD, **ELSEWHERE),
            check("TargetMissed", check="gpu", metric="power_watts", **CARD, **INJECTED),
            check("TargetMissed", check="bench", metric="power_watts", **CARD),
        ],
    ),
    "the same, worse": (
        cause("VramNearLimit", check="gpu", metric="memory_used_ratio", **CARD),
        [cause("VramNearLimit", "warning", check="gpu", metric="memory_used_ratio", **CARD)],
        [
            cause("VramNearLimit", "warning", check="gpu", metric="memory_used_ratio", **OTHER),
            cause("VramNearLimit", "warning", check="gpu", metric="memory_used_ratio", **CARD, **ELSEWHERE),
            cause("VramNearLimit", "warning", check="gpu", metric="memory_used_ratio", **CARD, **INJECTED),
            cause("VramNearLimit", "warning", check="gpu:2", metric="memory_used_ratio", **CARD),
            cause("VramNearLimit", "warning", check="gpu", metric="memory_used_bytes", **CARD),
            cause("GpuHot", "warning", check="gpu", **CARD),
            {**HOST, "alertname": "Theirs", "severity": "warning"},
        ],
    ),
    "the same, worse than an info": (
        cause("GpuXid", "warning", check="gpu", rule="gpu-xid-warning", **CARD),
        [cause("GpuXid", "info", check="gpu", rule="gpu-xid-warning", **CARD)],
        [cause("GpuXid", "info", check="gpu", rule="gpu-xid-warning", **OTHER)],
    ),
    "an injected cause": (
        cause("DriverBroken", check="gpu_driver", **INJECTED),
        [cause("TorchBroken", check="torch_import", **INJECTED), check("CheckFailing", check="gpu_driver", **INJECTED)],
        [
            cause("TorchBroken", check="torch_import"),
            check("CheckFailing", check="gpu_driver"),
            check("CheckFailing", check="matmul"),
        ],
    ),
    "a warning of the container": (
        cause("GpuMissing", "warning", check="gpu_driver"),
        [check("CheckFailing", "warning", check="gpu_driver")],
        [check("CheckFailing", check="matmul"), check("CheckFailing", "warning", check="matmul")],
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real Alertmanager with our file; its receivers are a webhook of the test's own."""
    with webhook() as pages:
        text = FILE.read_text().replace(INBOX, pages.url)
        with alertmanager(tmp_path_factory.mktemp("alertmanager"), text) as url:
            yield url


def post(url: str, *alerts: Labels, seconds: float = 60) -> None:
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    body = json.dumps([{"labels": dict(labels), "endsAt": ends} for labels in alerts]).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def inhibited(url: str) -> dict[frozenset[tuple[str, str]], bool]:
    """Of each alert there is, whether another one mutes it."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
        found = json.load(answer)
    return {
        frozenset(a["labels"].items()): bool(a["status"]["inhibitedBy"])
        for a in found
        if a["status"]["state"] != "unprocessed"
    }


def key(labels: Labels) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


@pytest.mark.parametrize("case", MUTED)
def test_an_alert_mutes_what_it_explains_and_nothing_else(server, case):
    """Each effect meets the cause alone: in a `job` of its own, so that it is muted by nothing else."""
    source, muted, heard = MUTED[case]
    pairs = [(_in(f"{case} {n}", source), _in(f"{case} {n}", effect)) for n, effect in enumerate([*muted, *heard])]
    post(server, *(effect for _, effect in pairs))
    until(lambda: {key(effect) for _, effect in pairs} <= inhibited(server).keys(), "Alertmanager took the effects")
    before = inhibited(server)
    assert not [effect for _, effect in pairs if before[key(effect)]], "no cause yet"
    post(server, *(source for source, _ in reversed(pairs)))
    until(lambda: {key(source) for source, _ in pairs} <= inhibited(server).keys(), "Alertmanager took the causes")
    expected = {key(effect) for _, effect in pairs[: len(muted)]}
    with suppress(AssertionError):  # it learns of a cause a moment after it takes it
        until(lambda: {labels for labels, by in inhibited(server).items() if by} >= expected, "they are muted", 5)
    after = inhibited(server)
    assert [effect for _, effect in pairs if after[key(effect)]] == [effect for _, effect in pairs[: len(muted)]]
    assert not [source for source, _ in pairs if after[key(source)]]


def _in(job: str, labels: Labels) -> Labels:
    return {**labels, "job": job} if "job" in labels else labels


def test_every_inhibition_rule_has_a_case():
    """A rule is used by a case when its source matches the case's and one of its targets a muted one."""
    for rule in yaml.safe_load(FILE.read_text())["inhibit_rules"]:
        assert any(
            matches(rule["source_matchers"], source) and any(matches(rule["target_matchers"], one) for one in muted)
            for source, muted, _ in MUTED.values()
        ), rule


def matches(matchers: list[str], labels: Labels) -> bool:
    """As Alertmanager does it: a label that is missing is empty, patterns match whole values."""
    for matcher in matchers:
        name, sign, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()
        holds = re.fullmatch(value, labels.get(name, "")) if "~" in sign else labels.get(name, "") == value
        if bool(holds) == (sign[0] == "!"):
            return False
    return True


def test_no_alert_of_ours_is_source_and_target_of_one_rule():
    for rule in yaml.safe_load(FILE.read_text())["inhibit_rules"]:
        for source, muted, heard in MUTED.values():
            for labels in (source, *muted, *heard):
                assert not (matches(rule["source_matchers"], labels) and matches(rule["target_matchers"], labels)), rule


def test_every_benchmark_is_known_by_its_name():
    """The label `family` is on no alert; the names of checks begin with their probe's unless the config says otherwise."""
    patterns = set(re.findall(r'check=~"(.*?)"', FILE.read_text()))
    assert len(patterns) == 1
    ours = registry.load().probes.items()  # a disk is no better for a broken driver
    probes = [name for name, probe in ours if probe.family == "benchmarks" and probe.needs.lane == "gpu"]
    assert probes
    for name in probes:
        assert re.fullmatch(*patterns, name), f"{name}: add it to the inhibition rules of {FILE}"
        assert re.fullmatch(*patterns, f"{name}:4090")
