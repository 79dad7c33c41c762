"""Do the image and the compose file work for real? podman builds the one and podman-compose starts the other.

Where no registry is in reach, the images are stand-ins under the same names (`.ci/run` makes them): Debian's Python,
Prometheus and Alertmanager, and for Grafana a server that tells what it was given and is not Grafana. podman does not wait
for health checks as Docker does, and runs none without systemd, so they are run by hand here.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from exporter.config import DEFAULT_PORT
from tests.process import Exporter, free_port
from tests.scrape import series
from tests.test_compose import COMPOSE, SERVICES, started

ROOT = COMPOSE.parent
PREPARE = ROOT.parent / "shared" / "containers" / "prepare"
TEMPLATES = Path("/usr/share/prometheus/alertmanager")  # Debian's Alertmanager reads its templates from there
PORTS = ("EXPORTER_PORT", "DEMO_PORT_2", "DEMO_PORT_3", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


def prepared(flag: str) -> str:
    """What stand-ins need of podman on this machine: --env its config, --build-args the index and its certificates."""
    return subprocess.check_output([PREPARE, flag], text=True).strip() if PREPARE.exists() else ""


def environment() -> dict[str, str]:
    config = prepared("--env").removeprefix("export ").partition("=")
    return {**os.environ, **({config[0]: config[2]} if config[2] else {})}


def run(*command: str | Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def image() -> str:
    """The image that the compose file names, built from this checkout."""
    name, env = SERVICES["exporter"]["image"], environment()
    how = shlex.split(prepared("--build-args")) + (["--isolation=chroot", "--network=host"] if PREPARE.exists() else [])
    begun = time.monotonic()
    # health checks are Docker's, so an image in OCI's format has none
    run("podman", "build", "--format=docker", *how, "--tag", name, "--file", "deploy/Dockerfile", ".", env=env)
    size = int(run("podman", "image", "inspect", "--format", "{{.Size}}", name, env=env))
    print(f"image: built in {time.monotonic() - begun:.0f} s, {size / 1e6:.0f} MB with its base")
    return str(name)


@dataclass
class Stack:
    """`podman-compose up` of one way to run it, in a copy of what the file mounts, with shorter intervals."""

    folder: Path
    way: str
    gateway: str
    port: int = DEFAULT_PORT  # of an exporter on the host
    project: str = ""
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})

    def __post_init__(self) -> None:
        self.project = f"gpu-canary-test-{self.way}-{os.getpid()}"
        self.folder.mkdir(exist_ok=True)
        for part in ("deploy", "alerts", "dashboards/json"):
            shutil.copytree(ROOT / part, self.folder / part)
        for file in (COMPOSE, ROOT / ".env"):
            shutil.copy(file, self.folder)
        config = self.folder / "deploy" / "prometheus" / "prometheus.yml"
        config.write_text(config.read_text().replace(": 15s", ": 1s"))
        for file in (
            self.folder / "deploy/prometheus/targets/host/exporter.yml",
            self.folder / "alerts/alertmanager.yml",
        ):
            file.write_text(file.read_text().replace(f":{DEFAULT_PORT}", f":{self.port}"))
        standins = {
            name: {"volumes": [f"{TEMPLATES}:{TEMPLATES}:ro"]} for name in started(self.way) if "alertm" in name
        }
        (self.folder / "standins.yaml").write_text(yaml.safe_dump({"services": standins}))
        variables = {name: str(port) for name, port in self.ports.items()}
        self.env = {**environment(), **variables, "HOST_GATEWAY": self.gateway, "COMPOSE_PROFILES": self.way}
        if self.way == "container":
            del self.env["COMPOSE_PROFILES"]  # what .env says

    def compose(self, *words: str) -> None:
        tool = Path(sys.executable).with_name("podman-compose")
        files = ["-f", self.folder / "docker-compose.yml"]
        if PREPARE.exists() and TEMPLATES.is_dir():
            files += ["-f", self.folder / "standins.yaml"]
        run(tool, "-p", self.project, *files, *words, env=self.env)

    def container(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def podman(self, *words: str) -> str:
        return run("podman", *words, env=self.env)

    def well(self, container: str) -> bool:
        """Its health check, run once."""
        return (
            subprocess.run(["podman", "healthcheck", "run", container], env=self.env, capture_output=True).returncode
            == 0
        )

    def get(self, port: str, path: str) -> Any:
        """The JSON at one of the published ports; text where it is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=10)
        try:
            connection.request("GET", path)
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def until(self, look: Callable[[], Any], seconds: float = 90.0) -> Any:
        """What `look()` returns as soon as it is true of the running stack."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := look():
                    return found
            except (OSError, http.client.HTTPException, KeyError, TypeError, ValueError):
                found = None
            assert time.monotonic() < deadline, f"not in {seconds} s: {found}\n{self.told()}"
            time.sleep(0.5)

    def told(self) -> str:
        """The end of each log, for a failure's message."""
        return "\n".join(
            f"--- {name}\n" + subprocess.run(
                ["podman", "logs", "--tail=15", self.container(name)], env=self.env, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ).stdout
            for name in sorted(started(self.way))
        )  # fmt: skip

    def targets(self) -> dict[str, str]:
        """Health of each target by job and instance."""
        found = self.get("PROMETHEUS_PORT", "/api/v1/targets")["data"]["activeTargets"]
        return {f"{t['labels']['job']} {t['labels']['instance']}": t["health"] for t in found}

    def left(self) -> str:
        """Containers, networks and volumes of ours that are there."""
        label = f"--filter=label=io.podman.compose.project={self.project}"
        return "".join(
            self.podman(*words, label)
            for words in (("ps", "--all", "--quiet"), ("volume", "ls", "--quiet"), ("network", "ls", "--quiet"))
        )


@contextmanager
def up(folder: Path, way: str, gateway: str = "127.0.0.1", port: int = DEFAULT_PORT) -> Iterator[Stack]:
    stack = Stack(folder, way, gateway, port)
    begun = time.monotonic()
    try:
        stack.compose("up", "--detach")
        print(f"{way}: up in {time.monotonic() - begun:.1f} s")
        assert stack.left()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout=3")
    assert stack.left() == ""


@pytest.fixture(scope="module")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("stack"), "container") as running:
        yield running


def test_the_image_says_what_it_is_and_how_it_is_well(image: str) -> None:
    (about,) = json.loads(run("podman", "image", "inspect", image, env=environment()))
    config = about["Config"]
    assert config["User"] == "65532:65532"
    assert (about.get("Healthcheck") or config["Healthcheck"])["Test"] == ["CMD", "gpu-canary", "healthcheck"]
    assert config["Entrypoint"][0] == "tini"
    assert "PYTHONSAFEPATH=1" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_image_runs_on_a_read_only_root_without_a_shell_and_without_rights(image: str) -> None:
    alone = [
        "podman",
        "run",
        "--rm",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--network=none",
    ]
    listed = run(*alone, image, "list", "--checks", "--json", env=environment())
    found = [check["name"] for check in json.loads(listed)]
    assert {"platform", "host"} <= set(found)
    assert "disk" not in found  # a container's read-only root cannot fill up
    env = environment()
    assert json.loads(run(*alone, image, "run", "platform", "--json", env=env))[0]["outcome"] in ("ok", "degraded")
    assert "gpucanary.yml" in run(*alone, "--tmpfs=/out:mode=1777", image, "rules", "export", "/out/rules", env=env)


def test_prometheus_scrapes_the_exporter_with_our_rules_loaded(stack: Stack) -> None:
    wanted = {"gpu-canary workstation", "prometheus 127.0.0.1:9090", "alertmanager alertmanager:9093"}
    stack.until(lambda: {name for name, health in stack.targets().items() if health == "up"} >= wanted)

    def alerts() -> set[str]:
        groups = stack.get("PROMETHEUS_PORT", "/api/v1/rules")["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}

    stack.until(lambda: alerts() >= {"GpuCanaryCheckFailing", "GpuCanaryDriverBroken", "GpuCanaryWatchdog"})
    stack.until(lambda: stack.get("PROMETHEUS_PORT", "/api/v1/query?query=gpucanary_links_info")["data"]["result"])


def test_the_exporter_in_a_container_tells_of_the_host(stack: Stack) -> None:
    stack.until(lambda: "gpucanary_host_memory" in stack.get("EXPORTER_PORT", "/metrics"))
    stack.until(lambda: "gpucanary_disk_free" in stack.get("EXPORTER_PORT", "/metrics"))
    text = stack.get("EXPORTER_PORT", "/metrics")
    found = series(text)
    assert "/" in {dict(labels)["path"] for name, labels in found if name == "gpucanary_disk_free_bytes"}
    memory = {number for (name, _), number in found.items() if name == "gpucanary_host_memory_total_bytes"}
    assert memory == {os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}
    devices = [line.partition(":")[0].strip() for line in Path("/proc/1/net/dev").read_text().splitlines()[2:]]
    physical = [device for device in devices if device.startswith(("eth", "en"))]
    for device in physical[:1]:
        assert f'gpucanary_host_network_received_bytes_total{{check="host",device="{device}"}}' in text
    outcomes = {
        dict(labels)["outcome"] for (name, labels), on in found.items() if on and name.endswith("_check_outcome")
    }
    assert not outcomes & {"failed", "error"}


def test_every_health_check_passes_when_run_by_hand(stack: Stack) -> None:
    for service in sorted(started("container") - ({"grafana"} if PREPARE.exists() else set())):
        stack.until(lambda name=service: stack.well(stack.container(name)))
    if PREPARE.exists():  # the stand-in has no wget: the same question, asked from inside by what it has
        url = SERVICES["grafana"]["healthcheck"]["test"][-1]
        asked = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).status)"
        assert stack.podman("exec", stack.container("grafana"), "python3", "-c", asked).strip() == "200"


def test_every_container_is_confined(stack: Stack) -> None:
    for service in sorted(started("container")):
        status = stack.podman("exec", stack.container(service), "cat", "/proc/1/status")
        said = dict(line.split(":", 1) for line in status.splitlines())
        assert said["Uid"].split()[0] == SERVICES[service]["user"].partition(":")[0]
        assert (int(said["CapEff"], 16), said["NoNewPrivs"].strip()) == (0, "1")
        (about,) = json.loads(stack.podman("inspect", stack.container(service)))
        assert about["HostConfig"]["ReadonlyRootfs"] is True
        assert about["HostConfig"]["Memory"] > 0
        assert about["HostConfig"]["PidsLimit"] == SERVICES[service]["pids_limit"]


def test_every_file_is_where_grafana_reads_it(stack: Stack) -> None:
    seen = set(stack.podman("exec", stack.container("grafana"), "find", "/etc/grafana", "-type", "f").splitlines())
    mounted = {"deploy/grafana/provisioning": "/etc/grafana/provisioning", "dashboards/json": "/etc/grafana/dashboards"}
    for source, target in mounted.items():
        files = {f"{target}/{path.relative_to(ROOT / source)}" for path in (ROOT / source).rglob("*") if path.is_file()}
        assert files
        assert files <= seen
    if PREPARE.exists():  # Grafana itself does not tell
        told = stack.get("GRAFANA_PORT", "/files")
        assert seen == {file for file in told["files"] if file.startswith("/etc/")}
        assert set(told["env"]) == set(SERVICES["grafana"]["environment"])


def test_a_breach_reaches_the_webhook_and_the_status_page(stack: Stack) -> None:
    stack.until(lambda: stack.targets().get("gpu-canary workstation") == "up")
    begun = time.monotonic()
    stack.podman("exec", stack.container("exporter"), "gpu-canary", "inject", "gpu-driver-missing", "--for", "2m")
    alert = stack.until(lambda: arrived(stack, "GpuCanaryDriverBroken"))
    print(f"from the breach to the inbox: {time.monotonic() - begun:.1f} s, at intervals of 1 s")
    text = json.dumps(alert)
    assert f"http://127.0.0.1:{stack.ports['EXPORTER_PORT']}/runbooks/GpuCanaryDriverBroken" in text
    assert f"http://127.0.0.1:{stack.ports['GRAFANA_PORT']}/d/" in text


def arrived(stack: Stack, name: str) -> Any:
    alerts = stack.get("EXPORTER_PORT", "/api/v1/inbox")["alerts"]
    return next((alert for alert in alerts if name in json.dumps(alert)), None)


def test_the_exporter_leaves_when_it_is_told_to(stack: Stack, image: str) -> None:
    """tini hands the signal on; without it the engine would wait ten seconds and kill."""
    name = f"{stack.project}-once"
    stack.podman("run", "--detach", "--read-only", "--name", name, "--network=none", image, "serve")
    try:
        stack.until(lambda: stack.well(name), 30)
        begun = time.monotonic()
        stack.podman("stop", "--time=20", name)
        assert time.monotonic() - begun < 10
        assert stack.podman("inspect", "--format={{.State.ExitCode}}", name).strip() == "0"
    finally:
        stack.podman("rm", "--force", "--volumes", name)


def test_the_demo_has_three_hosts_with_a_past(image: str, tmp_path: Path) -> None:
    with up(tmp_path, "demo") as stack:
        hosts = {"gpu-canary workstation", "gpu-canary render-1", "gpu-canary render-2"}
        stack.until(lambda: {name for name, health in stack.targets().items() if health == "up"} >= hosts)
        query = "/api/v1/query?query=count_over_time(up%7Bjob=%22gpu-canary%22%7D%5B40h%5D)"
        rows = stack.until(lambda: stack.get("PROMETHEUS_PORT", query)["data"]["result"])
        assert {row["metric"]["instance"] for row in rows} == {"workstation", "render-1", "render-2"}
        assert all(int(row["value"][1]) > 400 for row in rows)


def test_on_the_host_the_exporter_is_scraped_and_reached_by_alertmanager(image: str, tmp_path: Path) -> None:
    """The default bridge is the gateway that `host-gateway` means, and is up while something is on it."""
    env = environment()
    (bridge,) = json.loads(run("podman", "network", "inspect", "podman", env=env))
    gateway = bridge["subnets"][0]["gateway"]
    keeper = run("podman", "run", "--detach", "--rm", "--entrypoint=sleep", image, "300", env=env).strip()
    port = free_port()
    exporter = Exporter(tmp_path, f"--web.listen-address={gateway}:{port}", "--web.enable-inbox")
    try:
        with up(tmp_path / "stack", "host", gateway, port) as stack:
            stack.until(lambda: stack.targets().get("gpu-canary workstation") == "up")
            storage = f"--storage.path={tmp_path / 'state'}"
            run(sys.executable, "-m", "exporter", "inject", "gpu-driver-missing", storage, env=env)
            inbox = f"http://{gateway}:{port}/api/v1/inbox"
            stack.until(lambda: "GpuCanaryDriverBroken" in urlopen(inbox, timeout=5).read().decode())
    finally:
        exporter.end()
        run("podman", "kill", keeper, env=env)
