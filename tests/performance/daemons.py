"""The processes a benchmark needs: nginx, blackbox_exporter, Prometheus and the exporter, on loopback, in a temp folder."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; keepalive_timeout 5; ssl_session_tickets off; ssl_session_cache off;
  server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key;
    location / {{ return 200 "ok\\n"; }} }} }}
"""
BLACKBOX = """
modules:
  http_2xx: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {dir}/server.pem}}}}}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """A program on PATH or in /usr/sbin."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def get(port: int, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def answering(port: int, path: str = "/", seconds: float = 20.0) -> float:
    """Wait until 200; how long it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            if get(port, path)[0] == 200:
                return time.monotonic() - begun
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"nothing answers on {port}{path}")


class Daemon:
    """A started program: its CPU seconds, its memory, its end."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.begun = time.monotonic()
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    def cpu(self) -> float:
        """User and system seconds so far, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> float:
        """Resident MiB now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2

    def share(self, seconds: float) -> float:
        """CPU per cent of one core over the next `seconds`."""
        cpu, clock = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu() - cpu) / (time.monotonic() - clock)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def running(argv: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[Daemon]:
    daemon = Daemon(argv, log, env)
    try:
        yield daemon
    finally:
        daemon.end()


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[int, int]]:
    """A web server of three bytes; (plain port, TLS port), the certificate in folder/server.pem."""
    plain, tls = free_port(), free_port()
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]
    files = ["-keyout", f"{folder}/server.key", "-out", f"{folder}/server.pem"]
    subprocess.run(["openssl", "req", "-x509", *key, *files, *name], check=True, capture_output=True)
    (folder / "nginx.conf").write_text(NGINX.format(dir=folder, plain=plain, tls=tls))
    with running([str(program("nginx")), "-c", f"{folder}/nginx.conf", "-p", str(folder)], folder / "nginx.log"):
        answering(plain)
        yield plain, tls


@contextmanager
def blackbox(folder: Path) -> Iterator[tuple[Daemon, int]]:
    port = free_port()
    (folder / "blackbox.yml").write_text(BLACKBOX.format(dir=folder))
    argv = [
        "prometheus-blackbox-exporter",
        f"--config.file={folder}/blackbox.yml",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(argv, folder / "blackbox.log") as daemon:
        answering(port, "/-/healthy")
        yield daemon, port


@contextmanager
def prometheus(folder: Path, jobs: str) -> Iterator[Daemon]:
    """Prometheus with these scrape_configs (YAML)."""
    port = free_port()
    (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 15s}}\nscrape_configs:\n{jobs}")
    where = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with running(["prometheus", *where, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log") as daemon:
        answering(port, "/-/ready")
        yield daemon


@contextmanager
def exporter(folder: Path, config: str | None) -> Iterator[tuple[Daemon, int]]:
    """`gpu-canary serve` with this config (YAML), or none."""
    port = free_port()
    argv = [
        sys.executable,
        "-m",
        "exporter",
        "serve",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.path={folder}/state",
    ]
    if config is not None:
        (folder / "canary.yml").write_text(config)
        argv.append(f"--config.file={folder}/canary.yml")
    with running(argv, folder / "exporter.log", {"TORCH": "0"}) as daemon:
        answering(port, "/metrics")
        yield daemon, port


def http_checks(url: str, number: int, every: str = "15s", extra: str = "") -> str:
    """A config of `number` http checks of one target, each its own check."""
    lines = [
        f'  - {{probe: http, name: "c{i}", every: {every}, timeout: 5s, params: {{url: "{url}?{i}"{extra}}}}}'
        for i in range(number)
    ]
    return "checks:\n" + "\n".join(lines) + "\n"
