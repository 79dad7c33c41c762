"""Does a reload touch only what changed, and does the exporter itself wait for no disk?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter import maintenance
from exporter.app import App
from exporter.config import Config
from exporter.config.fleet import FleetEntry
from exporter.config.gate import Gate
from exporter.injection import begin
from exporter.machine import Machine
from exporter.redaction import Redactor
from exporter.registry import Broken, Registry
from tests.checks import eventually


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An exporter of its own checks alone; its config is what `app.config` was made from."""
    config = Config()
    config = replace(config, storage=replace(config.storage, path=str(tmp_path)))
    made = App(config, lambda: config, Registry(broken=(Broken("x", "x 1", "gone"),)), Machine().doors, Redactor())
    made.start()
    yield made
    made.stop()


def test_a_reload_of_the_same_config_leaves_the_checks_of_the_house_alone(app: App) -> None:
    before = dict(app.checks)
    assert app.reload() == []
    assert before == app.checks
    assert before.keys() == {"history", "plugin:x"}


def test_a_new_fleet_holds_at_once_and_the_inbox_needs_a_restart(app: App) -> None:
    entry = FleetEntry(targets=("gpu2:19835",), labels={"tier": "server"})
    wanted = replace(app.config, fleet=(entry,), web=replace(app.config.web, enable_inbox=True))
    app._load = lambda: wanted
    assert app.reload() == ["web"]
    assert app.config.fleet == (entry,)
    assert (app.inbox, app.config.web.enable_inbox) == (None, False)


def test_a_storage_directory_that_hangs_holds_up_no_scrape(app: App) -> None:
    begin(app.storage, "disk", "disk-low", "warning", "/", 2.0)
    assert b'injected="true"' in app.metrics(compressed=False)
    hanging = app.storage / maintenance.FILE
    os.mkfifo(hanging)  # whoever opens it waits for somebody who writes
    try:
        for _ in range(3):
            time.sleep(0.6)  # longer than an exposition is good for
            begun = time.monotonic()
            app.metrics(compressed=False)
            assert time.monotonic() - begun < 0.5
        eventually(lambda: b'injected="true"' not in app.metrics(compressed=False))  # what has ended is not shown
    finally:
        hanging.write_text("")  # lets the reader go


def test_the_budget_of_a_card_is_a_series_and_follows_a_reload(tmp_path):
    config = Config()
    config = replace(config, storage=replace(config.storage, path=str(tmp_path)))
    more = replace(config, gate=Gate(device_budget=0.02))
    app = App(config, lambda: more, Registry(), Machine().doors, Redactor())
    app.start()
    try:
        assert "\ngpucanary_device_budget_ratio 0.01\n" in app.exposition.plain().decode()
        app.reload()
        eventually(lambda: "\ngpucanary_device_budget_ratio 0.02\n" in app.exposition.plain().decode())
    finally:
        app.stop()
