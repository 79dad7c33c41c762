"""Does a benchmark wait until the card is idle, and only then?"""

from __future__ import annotations

import time

import pytest

from exporter.gate import put_off
from exporter.interpreters import Preparation
from exporter.result import Check
from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.host import HostDoor
from exporter.world.real import Doors
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.benchmarks.matmul import PROBE
from tests.checks import check, eventually, quiet
from tests.nvml import MIB, Stub, build_stub, compiler

pytestmark = [pytest.mark.nvml, pytest.mark.skipif(compiler() is None, reason="no C compiler for the stub")]


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    return Stub(build_stub(tmp_path_factory.mktemp("nvml")))


@pytest.fixture
def doors(stub, monkeypatch, tmp_path):
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(stub.file))
    nowhere = str(tmp_path)
    gpus = GpuDoor(Places((str(stub.library),), nowhere, "/proc", ()), Pace(sample=0.01))
    made = Doors(gpus, HostDoor(), Launcher(lambda: (), preparation=lambda: Preparation("off"), gpus=gpus.look))
    yield made
    made.close()


def matmul(**params):
    return Check("matmul", PROBE, PROBE.params(**params), 3600.0, 60.0)


def reason(checked, doors):
    deferred = put_off(checked, doors, Token(5.0))
    return None if deferred is None else deferred.detail


def test_a_card_that_was_not_watched_for_a_minute_is_not_idle_yet(doors):
    deferred = put_off(matmul(), doors, Token(5.0))
    assert (deferred.outcome, deferred.skip) == ("skipped", ("deferred", "gpu_busy"))
    eventually(lambda: reason(matmul(), doors) is None)


def test_a_busy_card_or_one_without_room_defers_and_the_other_card_does_not(doors, stub):
    eventually(lambda: reason(matmul(), doors) is None and reason(matmul(gpu="1"), doors) is None)
    stub.set({"gpu0.utilization": 60})
    try:
        eventually(lambda: "60% busy" in (reason(matmul(), doors) or ""))
        assert reason(matmul(gpu="1"), doors) is None
    finally:
        stub.set({"gpu0.utilization": 0})
    stub.set({"gpu1.memory_used": 24000 * MIB})
    try:
        eventually(lambda: "MiB are needed" in (reason(matmul(gpu="1"), doors) or ""))
    finally:
        stub.set({"gpu1.memory_used": 512 * MIB})


def test_the_processor_and_checks_that_want_no_card_never_wait(doors, stub):
    stub.set({"gpu0.utilization": 60})
    try:
        begun = time.monotonic()
        assert reason(matmul(device="cpu"), doors) is None
        assert reason(check(quiet), doors) is None
        assert time.monotonic() - begun < 1
    finally:
        stub.set({"gpu0.utilization": 0})


def test_a_card_that_is_not_there_is_for_the_run_to_report(doors):
    assert reason(matmul(gpu="7"), doors) is None
