"""The servers a scrape is measured against: ours with ten thousand series, the same bytes ready-made, prometheus_client."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client.core import GaugeMetricFamily, Metric

from exporter.app import App
from exporter.config import Config, Storage
from exporter.machine import Machine
from exporter.redaction import Redactor
from exporter.registry import NoParams, Registry
from exporter.result import Check, Result
from exporter.web.application import Application
from probes.api import Fact, Measurement, Probe, World
from probes.api import Metric as Declared

CHECKS, SERIES = 200, 20  # with the house's own series that makes about ten thousand
VALUE = Declared("value_ratio", "A number that changes.", ("row", "device", "kind"))


def measured(number: float) -> tuple[Measurement, ...]:
    labels = ({"row": str(i), "device": "cuda", "kind": "sample"} for i in range(SERIES))
    return tuple(VALUE(number + i / 7, **row) for i, row in enumerate(labels))


def hang(params: NoParams, world: World) -> Iterator[Fact]:
    """Never comes back: no door, no token, no mercy."""
    threading.Event().wait()
    yield VALUE(0.0, row="", device="", kind="")


def filled_app(folder: Path, hung: int) -> Application:
    """The real App with 200 checks, a tenth of which gets a new result every second, and `hung` checks that hang."""
    toy = Probe("toy", NoParams, hang, (VALUE,), family="benchmarks")
    filled = [Check(f"check{i}", toy, NoParams(), 15.0, 10.0) for i in range(CHECKS)]
    stuck = [Check(f"hung{i}", toy, NoParams(), 15.0, 10.0) for i in range(hung)]
    config = Config(checks=(*filled, *stuck), storage=Storage(path=str(folder / f"state-{time.time_ns()}")))
    app = App(config, lambda: config, Registry(), Machine().doors, Redactor())
    for check in filled:
        app.journal.record(_result(check.name, 0))
    app.schedule.start(stuck)
    threading.Thread(target=_change, args=(app,), daemon=True).start()
    (folder / "floor.bin").write_bytes(app.metrics(compressed=True))
    return Application(app)


def _result(name: str, number: int) -> Result:
    return Result(name, "toy", time.time(), 0.01, "ok", measured(number))


def _change(app: App) -> None:
    number = 0
    while True:
        for _ in range(CHECKS // 10):
            number += 1
            app.journal.record(_result(f"check{number % CHECKS}", number))
            time.sleep(10 / CHECKS)


def floor_app(folder: Path) -> Any:
    """Answers every request with the same ready bytes."""
    body = (folder / "floor.bin").read_bytes()
    assert zlib.decompress(body, 31).count(b"\n") > 10_000
    headers = [
        (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
        (b"content-encoding", b"gzip"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


class TenThousand:
    """Ten thousand gauges for prometheus_client's own server."""

    def collect(self) -> Iterator[Metric]:
        for f in range(20):
            family = GaugeMetricFamily(f"toy_value{f}_ratio", "A number.", labels=("check", "row", "device", "kind"))
            for i in range(500):
                family.add_metric((f"check{i % CHECKS}", str(i), "cuda", "sample"), time.time() % (i + 1))
            yield family


async def serve(app: Any, port: int) -> None:
    """uvicorn as the exporter runs it."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
    )
    await uvicorn.Server(config).serve()
