"""Does Prometheus find the fleet at /sd, and is a wrong fleet refused when the config is loaded?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.config import Config, ConfigError, configured, load
from exporter.config.fleet import FleetEntry
from exporter.registry import load as probes
from exporter.world.control import Prometheus
from tests.checks import check, quiet
from tests.process import Exporter
from tests.stack.servers import running, until
from tests.web_service import Canary, answering

ROOT = Path(__file__).parent.parent


def fleet(*entries: object) -> Config:
    return configured({"checks": [], "fleet": list(entries)}, probes().probes)  # type: ignore[arg-type]


def own(tmp_path: Path, path: str = "/sd", entries: tuple[FleetEntry, ...] = (), **web: object) -> object:
    """What an exporter with that config says, asked as `gpu1.example`."""
    canary = Canary(tmp_path, check(quiet), **web)
    canary.config = replace(canary.config, fleet=entries)
    with answering(canary) as site:
        answer = site.ask(path, host="gpu1.local:19835")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def test_without_a_fleet_it_is_this_exporter_alone(tmp_path: Path) -> None:
    canary = Canary(tmp_path, check(quiet))
    with answering(canary) as site:
        assert site.ask("/sd").json == [{"targets": [f"127.0.0.1:{site.port}"], "labels": {}}]


@pytest.mark.parametrize(
    ("web", "target", "labels"),
    [
        ({"listen_address": "192.0.2.7:9000"}, "192.0.2.7:9000", {}),
        ({"listen_address": "[::1]:9000"}, "[::1]:9000", {}),
        ({"listen_address": ":9000"}, "gpu1.local:9000", {}),
        ({"listen_address": "0.0.0.0:9000"}, "gpu1.local:9000", {}),
        ({"external_url": "http://gpu1.local"}, "gpu1.local:80", {}),
        ({"external_url": "http://[2001:db8::1]:81", "allowed_hosts": (".local",)}, "[2001:db8::1]:81", {}),
        (
            {"external_url": "https://gpu1.local/canary/"},
            "gpu1.local:443",
            {"__scheme__": "https", "__metrics_path__": "/canary/metrics"},
        ),
    ],
)
def test_it_names_itself_as_it_is_reached(tmp_path: Path, web: dict[str, object], target: str, labels: object) -> None:
    web.setdefault("allowed_hosts", ("gpu1.local",))
    assert own(tmp_path, **web) == [{"targets": [target], "labels": labels}]


def test_under_a_prefix_the_path_of_the_scrape_is_told(tmp_path: Path) -> None:
    found = own(tmp_path, "/x/sd", route_prefix="/x", listen_address=":9000")
    assert found == [{"targets": ["gpu1.local:9000"], "labels": {"__metrics_path__": "/x/metrics"}}]


def test_the_fleet_follows_and_self_gives_this_one_its_labels(tmp_path: Path) -> None:
    entries = fleet(
        {"targets": ["self", "gpu2:19835"], "labels": {"tier": "server"}},
        {"targets": ["[2001:db8::2]:19835", "gpu1.local:9000"]},
    ).fleet
    assert own(tmp_path, entries=entries, listen_address=":9000") == [
        {"targets": ["gpu1.local:9000"], "labels": {"tier": "server"}},
        {"targets": ["gpu2:19835"], "labels": {"tier": "server"}},
        {"targets": ["[2001:db8::2]:19835"], "labels": {}},
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"targets": []}, "at least 1"),
        ({}, "required"),
        ({"targets": ["gpu2"]}, "write host:port"),
        ({"targets": ["gpu2:0"]}, "write host:port"),
        ({"targets": ["gpu2:70000"]}, "write host:port"),
        ({"targets": ["http://gpu2:80"]}, "write host:port"),
        ({"targets": ["gpu2:80/metrics"]}, "write host:port"),
        ({"targets": ["gpu 2:80\n"]}, "write host:port"),
        ({"targets": [7]}, "put it in quotes"),
        ({"targets": ["gpu2:80"], "labels": {"a-b": "x"}}, "no label name"),
        ({"targets": ["gpu2:80"], "labels": {"": "x"}}, "no label name"),
        ({"targets": ["gpu2:80"], "labels": {"tier": 1}}, "put it in quotes"),
        ({"targets": ["gpu2:80"], "label": {}}, "did you mean labels?"),
    ],
)
def test_a_wrong_fleet_is_refused_with_what_to_write(entry: object, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        fleet(entry)
    assert said in str(refusal.value)


def test_the_example_config_shows_a_fleet() -> None:
    entries = load(ROOT / "deploy" / "config.example.yml", probes().probes, environ={"HF_TOKEN": ""}).fleet
    assert entries


@pytest.mark.prometheus
def test_a_real_prometheus_finds_and_scrapes_the_fleet(tmp_path: Path) -> None:
    others = tmp_path / "other"
    others.mkdir()
    second = Exporter(others)
    (tmp_path / "canary.yml").write_text(
        json.dumps(
            {
                "checks": [{"probe": "platform"}],
                "fleet": [
                    {"targets": ["self"], "labels": {"tier": "server"}},
                    {"targets": [f"127.0.0.1:{second.port}"], "labels": {"tier": "workstation"}},
                ],
            }
        )
    )
    first = Exporter(tmp_path, f"--config.file={tmp_path / 'canary.yml'}")
    found = {"job_name": "gpu-canary", "http_sd_configs": [{"url": f"http://127.0.0.1:{first.port}/sd"}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [found]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    flags = (f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
    try:
        for exporter in (first, second):
            exporter.until(bool)
        with running(tmp_path, "prometheus", *flags) as url:
            door = Prometheus(url)
            tiers = {"server": f"127.0.0.1:{first.port}", "workstation": f"127.0.0.1:{second.port}"}
            until(
                lambda: (
                    {s.labels["tier"]: s.labels["instance"] for s in door.query("gpucanary_build_info == 1")} == tiers
                ),
                "both are scraped, with their labels",
            )
    finally:
        first.end()
        second.end()
