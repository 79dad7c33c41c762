"""Is the stack in docker-compose.yml what we promise: hardened, pinned, on loopback, without a password, and complete?

Nothing is started here; tests/test_containers.py does that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.about import shortened
from exporter.commands.healthcheck import USUAL
from exporter.config import DEFAULT_PORT
from probes.environment.gpu_driver_rules import NOT_PASSED_IN

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
OVERRIDES = sorted((ROOT / "deploy").glob("compose.*.yaml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
WAYS = ("container", "host", "demo")


def interpolated(text: str) -> str:
    """Compose's variables at their defaults."""
    return VARIABLE.sub(lambda match: match[2], text)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(interpolated(path.read_text(encoding="utf-8")))


SERVICES: dict[str, dict[str, Any]] = read(COMPOSE)["services"]
LASTING = {name: s for name, s in SERVICES.items() if s["restart"] == "unless-stopped"}


def started(way: str) -> set[str]:
    return {name for name, service in SERVICES.items() if way in service["profiles"]}


@pytest.mark.parametrize("path", [COMPOSE, *OVERRIDES], ids=lambda path: path.name)
def test_each_compose_file_keeps_the_specification(path: Path) -> None:
    schema(path, "vendor.compose-spec")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_workflow_keeps_githubs_schema(path: Path) -> None:
    schema(path, "vendor.github-workflows")


def schema(path: Path, name: str) -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run([tool, "--builtin-schema", name, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_project_has_a_name_and_no_version() -> None:
    top = read(COMPOSE)
    assert top["name"] == "gpu-canary"
    assert "version" not in top


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])  # a number, and not root
    assert service["pids_limit"] > 0
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert all("size=" in mount for mount in service["tmpfs"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert set(service["networks"]) == {"stack"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & service.keys()


@pytest.mark.parametrize("name", LASTING)
def test_every_service_that_lasts_says_whether_it_is_well_and_needs_no_shell_for_it(name: str) -> None:
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] == "CMD"
    assert health.keys() >= {"interval", "timeout", "retries", "start_period"}


def test_only_the_two_steps_of_the_demo_end() -> None:
    assert SERVICES.keys() - LASTING.keys() == {"demo-past", "demo-blocks"}


def test_prometheus_waits_for_a_healthy_alertmanager_and_a_finished_past() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    conditions = {(name, on): how["condition"] for name, others in waits.items() for on, how in others.items()}
    assert conditions == {
        ("prometheus", "alertmanager"): "service_healthy",
        ("prometheus-host", "alertmanager-host"): "service_healthy",
        ("prometheus-demo", "alertmanager"): "service_healthy",
        ("prometheus-demo", "demo-blocks"): "service_completed_successfully",
        ("demo-blocks", "demo-past"): "service_completed_successfully",
    }
    for name, on in conditions:  # compose refuses to wait for what the profile does not start
        assert set(SERVICES[name]["profiles"]) <= set(SERVICES[on]["profiles"])


def test_images_are_pinned_to_one_version() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:v?\d+(\.\d+){2}", image)] == []
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    bases = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")]
    assert set(bases) == {"docker.io/library/python:${PYTHON_TAG}", "runtime"}
    assert "ARG PYTHON_TAG=3.13-slim-bookworm\n" in dockerfile


def test_every_port_is_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) >= len(WAYS)
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_what_is_mounted_from_the_checkout_is_there_and_read_only() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source, target, *options = mount.split(":")
            if source.startswith((".", "/")):
                # no file: an editor replaces it, and the mount keeps the old one
                assert (ROOT / source).is_dir(), source
                assert options[0].split(",")[0] == "ro", mount
            else:
                assert source in read(COMPOSE)["volumes"], mount
            assert target.startswith("/")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_has_one_of_each_under_the_names_that_the_files_use(way: str) -> None:
    """alertmanager.yml, the data sources and Prometheus's config say exporter, alertmanager and prometheus."""
    named: dict[str, int] = {}
    for name in started(way):
        networks = SERVICES[name]["networks"]
        aliases = networks["stack"]["aliases"] if isinstance(networks, dict) else []
        for known in {name, *aliases}:
            named[known] = named.get(known, 0) + 1
    assert (named["prometheus"], named["alertmanager"], named["grafana"]) == (1, 1, 1)
    assert named.get("exporter", 0) == (0 if way == "host" else 1)
    published = [port.split(":")[1] for name in started(way) for port in SERVICES[name].get("ports", ())]
    assert len(published) == len(set(published))


def test_without_a_step_before_it_the_exporter_runs_in_a_container() -> None:
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["COMPOSE_PROFILES=container"]
    assert started("container") == {"exporter", "prometheus", "alertmanager", "grafana"}


def test_the_file_env_tells_every_variable_and_its_default() -> None:
    told = dict(re.findall(r"^# ([A-Z_0-9]+)=(\S+)", (ROOT / ".env").read_text(encoding="utf-8"), re.MULTILINE))
    used = dict(VARIABLE.findall(COMPOSE.read_text(encoding="utf-8")))
    assert told == used


def test_on_the_host_the_exporter_is_reached_through_the_gateway() -> None:
    assert SERVICES["prometheus-host"]["extra_hosts"] == ["host.docker.internal:host-gateway"]
    assert SERVICES["alertmanager-host"]["extra_hosts"] == ["exporter:host-gateway"]
    targets = read(ROOT / "deploy/prometheus/targets/host/exporter.yml")
    assert targets[0]["targets"] == [f"host.docker.internal:{DEFAULT_PORT}"]  # type: ignore[index]


def test_the_exporter_in_a_container_is_shown_the_host() -> None:
    exporter = SERVICES["exporter"]
    assert exporter["environment"]["GPU_CANARY_PATH_PROCFS"] == "/host/proc"
    assert exporter["environment"]["GPU_CANARY_PATH_ROOTFS"] == "/host/root"
    assert {"/proc:/host/proc:ro", "/:/host/root:ro,rprivate"} <= set(exporter["volumes"])
    assert exporter["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_the_status_page_and_prometheus_call_the_exporter_by_one_name() -> None:
    (target,) = yaml.safe_load((ROOT / "deploy/prometheus/targets/container/exporter.yml").read_text(encoding="utf-8"))
    assert SERVICES["exporter"]["hostname"] == target["labels"]["instance"]


def test_the_gpu_comes_with_an_override_whose_command_is_the_findings_remedy() -> None:
    exporter = read(ROOT / "deploy" / "compose.gpu.yaml")["services"]["exporter"]
    assert exporter["pid"] == "host"
    assert exporter["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    command = "`docker compose -f docker-compose.yml -f deploy/compose.gpu.yaml up -d`"
    assert command in NOT_PASSED_IN.remedy
    assert command in shortened(NOT_PASSED_IN.remedy)  # what alerts carry is cut


def test_nowhere_is_a_password() -> None:
    for path in (COMPOSE, *OVERRIDES, ROOT / ".env", *(ROOT / "deploy" / "grafana").rglob("*.yml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            setting = line.partition("#")[0]
            if re.search(r"(?i)(password|secret|token)(_\w*)?\s*[:=]\s*[^\s?]", setting):
                assert re.search(r"__FILE: /run/secrets/", setting), f"{path}: {line}"


def test_grafana_lets_everybody_look_and_nobody_in() -> None:
    said: Mapping[str, str] = SERVICES["grafana"]["environment"]
    assert said["GF_AUTH_ANONYMOUS_ENABLED"] == said["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert said["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert said["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert said["GF_AUTH_BASIC_ENABLED"] == "false"
    calls = [key for key in said if key.startswith(("GF_ANALYTICS_", "GF_NEWS_"))]
    assert len(calls) == 5
    assert {said[key] for key in calls} == {"false"}


def test_grafana_finds_its_data_sources_and_dashboards() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    sources = {s["uid"]: s for s in read(provisioning / "datasources" / "gpu-canary.yml")["datasources"]}
    assert sources["prometheus"]["url"] == "http://prometheus:9090"
    assert sources["prometheus"]["isDefault"] is True
    assert sources["alertmanager"]["url"] == "http://alertmanager:9093"
    assert not any(source["editable"] for source in sources.values())
    (provider,) = read(provisioning / "dashboards" / "gpu-canary.yml")["providers"]
    assert (provider["folder"], provider["allowUiUpdates"]) == ("gpu-canary", False)
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    places = {target: source for source, target in mounts.items()}
    assert places[provider["options"]["path"]] == "./dashboards/json"
    assert places["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / places[str(home.parent)] / home.name).is_file()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.prometheus
def test_prometheus_takes_its_config_and_every_rule_file(way: str, tmp_path: Path) -> None:
    """promtool looks where the container would: the mounts are laid out in a folder, and paths moved there."""
    name = "prometheus" if way == "container" else f"prometheus-{way}"
    text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    for mount in SERVICES[name]["volumes"]:
        source, target = mount.split(":")[:2]
        if source.startswith("."):
            shutil.copytree(ROOT / source, tmp_path / target.strip("/"))
            text = text.replace(f"{target}/", f"{tmp_path}{target}/")
    config = tmp_path / "prometheus.yml"
    config.write_text(text, encoding="utf-8")
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") >= len(yaml.safe_load(text)["rule_files"])


def test_prometheus_loads_every_rule_file_there_is() -> None:
    config = read(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    named = {Path(path).name for path in config["rule_files"]}
    assert named == {
        path.name for path in (ROOT / "alerts").glob("*.yml") if "groups" in (yaml.safe_load(path.read_text()) or {})
    }


def test_the_image_takes_nothing_of_a_checkout_that_it_does_not_need() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        word
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == allowed


def test_the_health_check_asks_where_the_exporter_is_by_default() -> None:
    assert f"http://127.0.0.1:{DEFAULT_PORT}" == USUAL
