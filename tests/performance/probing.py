"""What does one HTTP probe cost, all in, against blackbox_exporter on the same target?"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.performance.daemons import Daemon, blackbox, exporter, get, http_checks, nginx, prometheus

Row = tuple[str, str, float, str]  # what, ours and theirs, ratio, budget

OURS = """
import json, sys, threading, time
from pathlib import Path
from tests.performance.inside import probes_per_second
print(json.dumps(probes_per_second(*json.loads(sys.argv[1]))))
"""


def per_probe(folder: Path, runs: int) -> Iterator[Row]:
    """CPU microseconds a probe: a request, its verdict, its series rendered; ours in one process, theirs by /probe."""
    with ExitStack() as stack:
        plain, tls = stack.enter_context(nginx(folder))
        theirs, port = stack.enter_context(blackbox(folder))
        cases = (
            ("plain", f"http://127.0.0.1:{plain}/", 1, 0.5),
            ("plain, 50 at once", f"http://127.0.0.1:{plain}/", 50, 0.6),
            ("HTTPS", f"https://127.0.0.1:{tls}/", 1, 1.0),
        )
        for name, url, flight, budget in cases:
            ours = our_cost(folder, url, runs, flight)
            cost = their_cost(theirs, port, url, runs, flight)
            again = our_cost(folder, url, runs, flight)
            best = min(ours, again)
            yield f"CPU per HTTP probe, {name}", f"{best:.0f} us / {cost:.0f} us blackbox", best / cost, f"<= {budget}"


def our_cost(folder: Path, url: str, runs: int, flight: int) -> float:
    argument = json.dumps([url, str(folder / "server.pem"), runs, flight, str(folder)])
    done = subprocess.run(
        [sys.executable, "-c", OURS, argument], capture_output=True, text=True, timeout=300, check=True
    )
    return float(json.loads(done.stdout)) * 1e6


def their_cost(daemon: Daemon, port: int, url: str, runs: int, flight: int) -> float:
    path = f"/probe?module=http_2xx&target={url}"
    status, body = get(port, path)
    assert status == 200, body
    assert b"probe_success 1" in body, body
    begun = daemon.cpu()

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(number):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=ask, args=(runs // flight,)) for _ in range(flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (daemon.cpu() - begun) / (runs // flight * flight) * 1e6


def whole_process(folder: Path, number: int, seconds: float) -> Iterator[Row]:
    """CPU of the whole process at a steady rate, both scraped by one Prometheus every 15 s."""
    with ExitStack() as stack:
        plain, _ = stack.enter_context(nginx(folder))
        theirs, port = stack.enter_context(blackbox(folder))
        url = f"http://127.0.0.1:{plain}/"
        ours, our_port = stack.enter_context(exporter(folder, http_checks(url, number)))
        targets = ", ".join(f'"{url}?{i}"' for i in range(number))
        jobs = (
            f'  - {{job_name: canary, static_configs: [{{targets: ["127.0.0.1:{our_port}"]}}]}}\n'
            f"  - {{job_name: blackbox, metrics_path: /probe, params: {{module: [http_2xx]}}, static_configs: "
            f"[{{targets: [{targets}]}}], relabel_configs: [{{source_labels: [__address__], target_label: __param_target}}, "
            f'{{target_label: __address__, replacement: "127.0.0.1:{port}"}}]}}\n'
        )
        stack.enter_context(prometheus(folder, jobs))
        time.sleep(20)  # every check and every target has run once
        cpu, clock, rounds = (ours.cpu(), theirs.cpu()), time.monotonic(), _runs(our_port)
        time.sleep(seconds)
        elapsed, done = time.monotonic() - clock, _runs(our_port) - rounds
        mine, other = ((d.cpu() - c) / elapsed * 100 for d, c in zip((ours, theirs), cpu, strict=True))
        assert done >= 0.9 * number * seconds / 15, f"only {done} runs of {number} checks in {seconds} s"
        figures = f"{mine:.2f} % / {other:.2f} % blackbox; RSS {ours.rss():.0f} / {theirs.rss():.0f} MiB"
        yield f"CPU, {number} HTTP checks every 15 s", figures, mine / other, "<= 0.5"
        yield (
            f"RSS, {number} checks",
            f"{ours.rss():.1f} MiB",
            ours.rss() / (80 if number >= 1000 else 60),
            "<= 1 of the budget",
        )


def _runs(port: int) -> float:
    text = get(port, "/metrics")[1].decode()
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("gpucanary_check_runs_total")
    )
