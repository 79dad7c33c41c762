"""How long does a scrape of ten thousand series take, against a server that returns the same bytes ready-made?"""

from __future__ import annotations

import asyncio
import http.client
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.performance.daemons import answering, free_port, running
from tests.performance.probing import Row

# What Prometheus 2.42 sends.
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "User-Agent": "Prometheus/2.42.0",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


def latencies(port: int, number: int, pause: float = 0.0) -> tuple[float, float]:
    """p50 and p99 in milliseconds over one kept-alive connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        connection.request("GET", "/metrics", headers=HEADERS)
        body = connection.getresponse().read()
        times.append((time.perf_counter() - begun) * 1e3)
        assert len(body) > 10_000, body[:200]
        if pause:
            time.sleep(pause)
    connection.close()
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def scrapes(folder: Path, number: int) -> Iterator[Row]:
    """Ours while a tenth of the series changes every second, idle and with 50 hung checks; the floor; prometheus_client."""
    here = [sys.executable, "-m", "tests.performance.scraping"]
    measured = {}
    for case, count in (("ours", number), ("hung", number), ("floor", number), ("client", max(20, number // 20))):
        port = free_port()
        with running([*here, case, str(port), str(folder)], folder / f"{case}.log"):
            answering(port, "/metrics")
            latencies(port, 20)
            measured[case] = latencies(port, count, pause=0.005)
    floor, client = measured["floor"], measured["client"]
    for case, name in (("ours", ""), ("hung", ", 50 checks hang")):
        p50, p99 = measured[case]
        yield (
            f"/metrics p50, 10,000 series{name}",
            f"{p50:.2f} ms / {floor[0]:.2f} ms ready bytes",
            p50 / floor[0],
            "<= 1.5",
        )
        yield (
            f"/metrics p99, 10,000 series{name}",
            f"{p99:.2f} ms / {floor[1]:.2f} ms ready bytes",
            p99 / 10,
            "<= 1 of 10 ms",
        )
        figures = f"{p50:.2f} ms / {client[0]:.0f} ms prometheus_client"
        yield f"/metrics p50 against prometheus_client{name}", figures, p50 / client[0], "-"


def main(case: str, port: int, folder: Path) -> None:
    """The server of one case, until it is killed."""
    from tests.performance.served import filled_app, floor_app, serve

    if case == "client":
        from prometheus_client import CollectorRegistry, start_http_server

        from tests.performance.served import TenThousand

        registry = CollectorRegistry()
        registry.register(TenThousand())
        start_http_server(port, "127.0.0.1", registry)
        threading.Event().wait()
    app = floor_app(folder) if case == "floor" else filled_app(folder, hung=50 if case == "hung" else 0)
    asyncio.run(serve(app, port))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
