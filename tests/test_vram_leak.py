"""Is a service that keeps VRAM found, one that gives it back not, and one that cannot be seen never called well?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.interpreters import Interpreter
from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.host import HostDoor
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import Blind, Deferred, Energy, Evidence, Fact, Finding, Json, SubjectFailed
from probes.benchmarks.vram_leak import PROBE
from probes.testing import RecordedWorld
from tests.nvml import MIB, UUIDS, Stub, build_stub, compiler
from tests.torch_side import measured, run

INITIAL, FOREIGN = "pid:[4026531836]", "pid:[4026532001]"
# A service with a card of its own: the stub's. Its first work fills caches (512 MiB), each takes 2 GiB, and keeps a bit.
SERVICE = """
import http.server, os, sys, time
answers, kept, work = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
done = 0
if os.fork():
    os._exit(0)  # what is left is nobody's child
os.setsid()

def hold(mib):
    lines = [line for line in open(answers).read().splitlines() if not line.startswith("gpu0.processes ")]
    fresh = answers + ".service"
    with open(fresh, "w") as file:
        file.write("\\n".join([*lines, "gpu0.processes compute:%d:%d" % (os.getpid(), mib * 2**20)]) + "\\n")
    os.replace(fresh, answers)

class Work(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global done
        done += 1
        hold(2560)
        time.sleep(work)
        hold(512 + done * kept)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Work)
hold(100)
print(os.getpid(), server.server_port, flush=True)
server.serve_forever()
"""


@dataclass
class Machine:
    """Two stub cards, and a real service on the first."""

    folder: Path
    stub: Stub
    doors: Doors

    @contextmanager
    def service(self, kept: int = 0, work: float = 0.2) -> Iterator[list[Json]]:
        """The command that has it do one piece of work. kept: MiB that each leaves behind."""
        argv = [sys.executable, "-c", SERVICE, str(self.stub.file), str(kept), str(work), "a service of ours"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as started:
            assert started.stdout
            pid, port = map(int, started.stdout.readline().split())
        (self.folder / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}', timeout=30)"
        try:
            yield [sys.executable, "-c", code]
        finally:
            os.kill(pid, signal.SIGKILL)

    def ran(self, command: list[Json], seconds: float = 60.0, **params: Json) -> list[Fact]:
        asked = {"process": "a service of ours", "settle": "200ms", "warm_up": 1, "times": 2, **params}
        return run(PROBE, RealWorld(self.doors, Token(seconds)), command=command, **asked)  # type: ignore[arg-type]


def build(folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch, namespace: str) -> Machine:
    stub = Stub(library, f"{folder.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(stub.file))
    (folder / "proc/self/ns").mkdir(parents=True)
    (folder / "proc/self/ns/pid").symlink_to(namespace)
    gpus = GpuDoor(Places((str(library),), str(folder), str(folder / "proc"), ()), Pace(sample=0.05))
    launcher = Launcher(lambda: (Interpreter("ours", sys.executable),), gpus=gpus.look)
    return Machine(folder, stub, Doors(gpus, HostDoor(), launcher))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("no C compiler for the stub")
    return build_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    made = build(tmp_path, library, monkeypatch, INITIAL)
    yield made
    made.doors.close()


@pytest.fixture
def container(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    """Where the pids that NVML tells are those of another namespace."""
    made = build(tmp_path, library, monkeypatch, FOREIGN)
    yield made
    made.doors.close()


def bytes_of(facts: list[Fact]) -> dict[str, float]:
    return {name[0]: value / MIB for name, value in measured(facts).items()}


def findings(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(fact.rule, fact.subject) for fact in facts if isinstance(fact, Finding)]


# -- real services ------------------------------------------------------------------------------------------------


@pytest.mark.nvml
def test_caches_that_fill_once_are_no_leak_and_the_peak_is_seen_while_it_works(machine: Machine) -> None:
    with machine.service(work=1.5) as command:
        facts = machine.ran(command, times=1)
    assert bytes_of(facts) == {"before_bytes": 512, "peak_bytes": 2560, "after_bytes": 512, "residual_bytes": 0}
    assert findings(facts) == []
    told = next(fact.text for fact in facts if isinstance(fact, Evidence))
    assert told == "100, 512, 512 MiB; counted from number 1 on"


@pytest.mark.nvml
def test_a_service_that_keeps_more_each_time_leaks(machine: Machine) -> None:
    with machine.service(kept=200) as command:
        facts = machine.ran(command)
    values = bytes_of(facts)
    assert (values["before_bytes"], values["after_bytes"], values["residual_bytes"]) == (712, 1112, 400)
    assert findings(facts) == [("vram-not-released", UUIDS[0])]
    detail = next(fact.detail for fact in facts if isinstance(fact, Finding))
    assert detail == "400 MiB more after 2 pieces of the same work: 100, 712, 912, 1112 MiB"


@pytest.mark.nvml
def test_what_may_stay_is_the_owner_s_to_say_and_without_a_warm_up_all_must_come_back(machine: Machine) -> None:
    with machine.service(kept=200) as command:
        assert findings(machine.ran(command, allowed="400MiB")) == []
    with machine.service() as command:
        facts = machine.ran(command, warm_up=0, times=1)
    assert bytes_of(facts)["residual_bytes"] == 412
    assert findings(facts) == [("vram-not-released", UUIDS[0])]


@pytest.mark.nvml
def test_work_that_fails_says_why_and_tells_nothing_of_memory(machine: Machine) -> None:
    with machine.service():
        facts = machine.ran([sys.executable, "-c", "import sys; print('no model'); sys.exit(3)"])
    assert findings(facts) == [("vram-work-failed", UUIDS[0])]
    assert next(fact.detail for fact in facts if isinstance(fact, Finding)) == "exit code 3: no model"
    assert bytes_of(facts) == {}


@pytest.mark.nvml
def test_a_command_that_is_not_there_is_work_that_failed_and_one_that_never_ends_is_late(machine: Machine) -> None:
    with machine.service():
        absent = machine.ran(["/nonexistent/one-picture"])
        began = time.monotonic()
        with pytest.raises(SubjectFailed, match="worker-late") as late:
            machine.ran([sys.executable, "-c", "import time; print('waiting', flush=True); time.sleep(60)"], 5.0)
    assert "No such file" in next(fact.detail for fact in absent if isinstance(fact, Finding))
    assert time.monotonic() - began < 30
    assert findings(absent) == [("vram-work-failed", UUIDS[0])]
    assert "waiting" in late.value.evidence


# -- what cannot be seen is never well ------------------------------------------------------------------------------


@pytest.mark.nvml
def test_in_a_foreign_pid_namespace_it_is_blind_after_one_piece_of_work(container: Machine) -> None:
    with container.service() as command, pytest.raises(Blind, match="pid: host") as stop:
        container.ran(command)
    assert stop.value.reason == "permission"


@pytest.mark.nvml
def test_a_process_that_nobody_named_is_blind_and_says_who_is_there(machine: Machine) -> None:
    with machine.service() as command, pytest.raises(Blind, match="'InvokeAI'; there are: python"):
        machine.ran(command, process="InvokeAI")


@pytest.mark.nvml
def test_a_driver_that_lists_no_processes_or_not_their_memory_is_blind(machine: Machine) -> None:
    with machine.service() as command:
        machine.stub.values = dict(line.split(" ", 1) for line in machine.stub.file.read_text().splitlines())
        listed = machine.stub.values["gpu0.processes"]
        machine.stub.set({"gpu0.processes": str(listed).rpartition(":")[0] + f":{2**64 - 1}"})  # WDDM
        with pytest.raises(Blind, match="how much memory each process holds"):
            machine.ran(command)
        machine.stub.set({"gpu0.processes": None})
        with pytest.raises(Blind, match="WSL"):
            machine.ran(command)


@pytest.mark.nvml
def test_a_card_that_works_is_left_alone(machine: Machine) -> None:
    machine.stub.set({"gpu0.utilization": 60})
    with pytest.raises(Deferred, match="60% busy"):
        machine.ran(["true"])


def test_who_was_busy_within_the_last_minute_may_be_again() -> None:
    card: dict[str, Json] = {"index": 0, "uuid": "GPU-1", "utilization": 0.0, "peaks": {"utilization": 0.5}}
    world = RecordedWorld({"gpus": {"library": True, "gpus": [card]}})
    with pytest.raises(Deferred, match="50% busy within the last minute"):
        run(PROBE, world, process="x", command=["true"])


def test_a_process_that_also_draws_is_counted_once() -> None:
    example = next(e for e in PROBE.examples if "comes back" in e.title)
    world = json.loads(json.dumps(example.world))
    for look in (world["gpus"], *(look for look in world["later"]["gpus"] if look)):
        service = look["gpus"][0]["processes"][0]
        look["gpus"][0]["processes"].append({**service, "kind": "graphics"})
    assert measured(run(PROBE, RecordedWorld(world), **example.params)) == {
        (fact.metric,): fact.value for fact in example.facts if hasattr(fact, "metric")
    }


def test_the_joules_of_all_pieces_are_added_up() -> None:
    example = next(e for e in PROBE.examples if "comes back" in e.title)
    world = json.loads(json.dumps(example.world))
    world["workers"]["vram_leak"][-1]["data"]["energy"] = [{"gpu": 0, "uuid": "GPU-4090", "joules": 50.0}]
    used = [fact for fact in run(PROBE, RecordedWorld(world), **example.params) if isinstance(fact, Energy)]
    assert used == [Energy(0, "GPU-4090", 150.0)]  # one piece to warm up, and two
