"""Does a reload touch only what changed?"""

from __future__ import annotations

from dataclasses import replace

from exporter.app import App
from exporter.config import Config
from exporter.config.gate import Gate
from exporter.machine import Machine
from exporter.redaction import Redactor
from exporter.registry import Broken, Registry
from tests.checks import eventually


def test_a_reload_of_the_same_config_leaves_the_checks_of_the_house_alone(tmp_path):
    config = Config()
    config = replace(config, storage=replace(config.storage, path=str(tmp_path)))
    app = App(config, lambda: config, Registry(broken=(Broken("x", "x 1", "gone"),)), Machine().doors, Redactor())
    app.start()
    before = dict(app.checks)
    app.reload()
    assert before == app.checks
    assert before.keys() == {"history", "plugin:x"}
    app.stop()


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
