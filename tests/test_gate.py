"""Does a benchmark wait until it may have the card, and give it back at once when somebody needs it?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from exporter import gate as gate_module
from exporter import oneshot
from exporter.config.gate import Gate as Manners
from exporter.gate import Gate
from exporter.interpreters import Interpreter, Preparation
from exporter.redaction import Redactor
from exporter.registry import NoParams
from exporter.result import Check, Latest, Result
from exporter.world import busy as busy_module
from exporter.world import watch as watch_module
from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.host import HostDoor
from exporter.world.mounts import Places as Host
from exporter.world.real import Doors
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import Aborted, Fact, Needs, Probe, Rule, World, card_of, facts_of
from probes.benchmarks import peer_copy, vram_leak
from probes.benchmarks.matmul import FLOPS, PROBE
from probes.rules import WORKER_OUT_OF_MEMORY
from tests.checks import check, eventually, quiet, result
from tests.nvml import MIB, Stub, build_stub, compiler
from tests.process import ROOT
from tests.servers import ok, serving

pytestmark = [pytest.mark.nvml, pytest.mark.skipif(compiler() is None, reason="no C compiler for the stub")]

INITIAL, FOREIGN = "pid:[4026531836]", "pid:[4026532001]"
HOSTILE = Path(__file__).parent / "workers"
BROKEN = Rule("toy-broken", "critical", "A bit is wrong.", "1. `true`", proof=True)
FAILED = Rule("toy-failed", "critical", "It ended badly.", "1. `true`")
RAN = result("matmul")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_stub(tmp_path_factory.mktemp("nvml"))


@dataclass
class Machine:
    """Two stub cards, a gate that hurries, and real processes that come and go."""

    folder: Path
    stub: Stub
    doors: Doors
    manners: Manners = field(default_factory=Manners)
    on_card: dict[int, str] = field(default_factory=dict)
    strangers: list[int] = field(default_factory=list)

    @property
    def gate(self) -> Gate:
        return Gate(self.doors, lambda: self.manners)

    def ask(self, checked: Check, execute=lambda: RAN) -> Result:
        return self.gate.run(checked, Token(20.0), execute)

    def known(self, pid: int) -> None:
        """Make a real process one that this namespace sees."""
        (self.folder / "proc" / str(pid)).symlink_to(f"/proc/{pid}")

    def stranger(self, name: str = "ollama") -> int:
        """A real process of that name, which is nobody's child of ours."""
        code = (
            "import os, time\nif os.fork() == 0:\n"
            f"    os.setsid(); open('/proc/self/comm', 'w').write({name!r})\n"
            "    print(os.getpid(), flush=True); time.sleep(60)"
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout
        with child.stdout:
            pid = int(child.stdout.readline())
        child.wait()
        self.strangers.append(pid)
        self.known(pid)
        return pid

    def takes(self, pid: int, kind: str = "compute", card: int = 0) -> None:
        """That process opens the card."""
        self.on_card[pid] = f"{kind}:{pid}:{64 * MIB}"
        self.stub.set({f"gpu{card}.processes": " ".join(self.on_card.values())})

    def works(self, **shares: int) -> None:
        self.stub.set({"gpu0.work": " ".join(f"{pid.removeprefix('p')}:{share}" for pid, share in shares.items())})

    def idle(self) -> None:
        """Wait until the card was watched for its minute."""
        eventually(lambda: self.ask(matmul()).measured)

    def measure(self, name: str = "hangs", rules=()) -> tuple[Result, Token]:
        """One whole run of a real worker under the gate, until it ends."""
        checked, token = benchmark(name, rules), Token(20.0)
        return self.gate.run(checked, token, lambda: oneshot.execute(checked, token, self.doors, str)), token

    def meanwhile(self, do) -> threading.Thread:
        """Do something once the worker of a run has begun."""

        def work() -> None:
            eventually(lambda: bool(self.worker()))
            time.sleep(0.3)
            do()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def worker(self) -> int | None:
        """The process of the worker that runs now."""
        children = self.doors.launcher._children
        return next((child._process.pid for child in tuple(children) if child._process), None)


def build(folder: Path, library: Path, monkeypatch, namespace: str) -> Machine:
    stub = Stub(library, f"{folder.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(stub.file))
    (folder / "proc/self/ns").mkdir(parents=True)
    (folder / "proc/self/ns/pid").symlink_to(namespace)
    gpus = GpuDoor(Places((str(library),), str(folder), str(folder / "proc"), ()), Pace(sample=0.01, watch=0.1))
    ours = Interpreter("ours", sys.executable)
    (folder / "scratch").mkdir()
    launcher = Launcher(
        lambda: (ours,),
        preparation=lambda: Preparation("off"),
        gpus=gpus.look,
        scratch=str(folder / "scratch"),
        folder=HOSTILE,
    )
    machine = Machine(folder, stub, Doors(gpus, HostDoor(), launcher, Host(locks=str(folder))))
    machine.known(os.getpid())
    return machine


@pytest.fixture
def machine(library, monkeypatch, tmp_path) -> Iterator[Machine]:
    made = build(tmp_path, library, monkeypatch, INITIAL)
    yield made
    made.doors.close()
    for pid in made.strangers:
        os.kill(pid, 9)


@pytest.fixture
def container(library, monkeypatch, tmp_path) -> Iterator[Machine]:
    """Where the pids that NVML tells are those of another namespace."""
    made = build(tmp_path, library, monkeypatch, FOREIGN)
    yield made
    made.doors.close()


def matmul(**params):
    return Check("matmul", PROBE, PROBE.params(**params), 3600.0, 60.0)


def benchmark(worker: str, rules=()) -> Check:
    def run(params: NoParams, world: World) -> Iterator[Fact]:
        card = card_of(world, "auto", "")
        for rule in rules:
            yield rule("seen")
        yield from facts_of(world.worker(worker, {"stubborn": True}, gpu=card), (FLOPS,))

    probe = Probe("toy", NoParams, run, (FLOPS,), (BROKEN, FAILED), needs=Needs("gpu", idle=True), family="benchmarks")
    return Check("toy", probe, NoParams(), 3600.0, 60.0)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# ---- before a run ----------------------------------------------------------------------------------------------------


def test_a_card_that_was_not_watched_for_a_minute_is_not_idle_yet(machine):
    deferred = machine.ask(matmul())
    assert (deferred.outcome, deferred.skip) == ("skipped", ("deferred", "gpu_busy"))
    machine.idle()


def test_a_busy_card_or_one_without_room_defers_and_the_other_card_does_not(machine):
    machine.idle()
    machine.stub.set({"gpu0.utilization": 60, "gpu1.memory_used": 24000 * MIB})
    eventually(lambda: "60% busy" in machine.ask(matmul()).detail)
    eventually(lambda: "MiB are needed" in machine.ask(matmul(gpu="1")).detail)
    machine.stub.set({"gpu1.memory_used": 512 * MIB})
    eventually(lambda: machine.ask(matmul(gpu="1")).measured)
    assert "60% busy" in machine.ask(matmul()).detail


def test_a_benchmark_of_two_cards_waits_for_both_and_is_watched_on_both(machine):
    both = Check("peer_copy", peer_copy.PROBE, peer_copy.PROBE.params(), 3600.0, 60.0)
    eventually(lambda: machine.ask(both).measured)
    for card in (0, 1):
        machine.stub.set({f"gpu{card}.utilization": 60})
        eventually(lambda: "60% busy" in machine.ask(both).detail)
        machine.stub.set({f"gpu{card}.utilization": 0})
        eventually(lambda: machine.ask(both).measured)
    watched: list[int] = []
    door, watch = machine.doors.gpus, machine.doors.gpus.watched
    try:
        object.__setattr__(door, "watched", lambda uuid: watched.append(uuid) or watch(uuid))
        assert machine.ask(both).measured
    finally:
        del door.watched
    assert len(set(watched)) == 2


def test_the_processor_and_checks_that_want_no_card_never_wait_for_one(machine):
    machine.stub.set({"gpu0.utilization": 60})
    began = time.monotonic()
    assert machine.ask(matmul(device="cpu")).measured
    assert machine.ask(check(quiet)).measured
    assert time.monotonic() - began < 1


def test_a_card_that_is_not_there_is_for_the_run_to_report(machine):
    assert machine.ask(matmul(gpu="7")) == RAN


def test_a_divided_card_is_never_measured_and_says_so_instead_of_waiting_for_ever(machine):
    machine.stub.set({"gpu0.mig": 1, "gpu0.utilization": None})
    never = machine.ask(matmul())
    assert never.skip == ("not_applicable", "unsupported")
    assert "MIG" in never.detail
    assert "`gpu-canary run matmul`" in never.detail


def test_a_card_that_never_tells_its_utilisation_says_so_unless_certainly_nobody_has_it_open(machine):
    machine.stub.set({"gpu0.utilization": None})
    machine.idle()  # its processes are listed, and there are none
    machine.takes(machine.stranger())
    eventually(lambda: machine.ask(matmul()).skip == ("not_applicable", "unsupported"))


def test_a_driver_that_hangs_puts_off(machine):
    machine.idle()
    machine.stub.set({"gpu0.hang.nvmlDeviceGetComputeRunningProcesses_v3": 60})
    token = Token(60.0)
    answers: list[Result] = []
    asking = threading.Thread(
        target=lambda: answers.append(machine.gate.run(matmul(), token, lambda: RAN)), daemon=True
    )
    asking.start()
    asking.join(15)
    machine.stub.set({"gpu0.hang.nvmlDeviceGetComputeRunningProcesses_v3": None})
    assert answers == [RAN]  # the run itself meets the wedged driver, and makes the finding


def test_a_card_that_cannot_be_watched_is_not_measured(machine):
    machine.idle()
    machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": 60})
    answers: list[Result] = []
    asking = threading.Thread(target=lambda: answers.append(machine.ask(matmul())), daemon=True)
    asking.start()
    asking.join(15)
    machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": None})
    assert answers[0].skip == ("deferred", "gpu_busy")
    assert answers[0].detail == "nobody can watch the card: NVML does not answer"


# ---- during a run: pids are known ------------------------------------------------------------------------------------


def test_a_new_process_ends_the_run_within_about_a_second_and_its_rows_are_dropped(machine):
    machine.idle()
    before, came, seen = result("toy", started=1.0), [], []

    def somebody_comes() -> None:
        seen.append(machine.worker())
        machine.takes(machine.stranger())
        came.append(time.monotonic())

    machine.meanwhile(somebody_comes)
    got, _ = machine.measure()
    assert time.monotonic() - came[0] < 1.5
    assert got.skip == ("deferred", "gpu_busy")
    assert "a new process: ollama (pid " in got.detail
    assert not got.measurements  # though the worker had written one
    assert not alive(seen[0])
    assert Latest.first(before).after(got).measured == before
    assert not any((machine.folder / "scratch").iterdir())


def test_a_resident_may_stay_is_told_as_evidence_and_ends_the_run_when_it_works(machine):
    resident = machine.stranger()
    machine.takes(resident)
    machine.idle()
    got, _ = machine.measure("honest")
    assert got.outcome == "ok"
    assert got.evidence["idle gate"] == f"gate=strong, residents: ollama (pid {resident}, 64 MiB)"
    machine.works(**{f"p{resident}": 4})
    machine.meanwhile(lambda: machine.works(**{f"p{resident}": 40}))
    got, _ = machine.measure()
    assert got.skip == ("deferred", "gpu_busy")
    assert f"(pid {resident}, 64 MiB) works: others use 40% of the card" in got.detail
    assert f"pid {resident}" in got.evidence["idle gate"]


def test_our_own_worker_may_work_and_so_may_the_dead_be_listed(machine):
    machine.idle()
    ended = subprocess.Popen(["true"])
    ended.wait()

    def we_work() -> None:
        ours = machine.worker()
        machine.known(ours)
        machine.takes(ours)
        machine.takes(ended.pid)
        machine.works(**{f"p{ours}": 99, f"p{ended.pid}": 99})
        time.sleep(0.8)
        machine.manners = Manners(lock_file=str(machine.folder))  # ends it after all

    machine.meanwhile(we_work)
    got, _ = machine.measure()
    assert got.skip == ("deferred", "lock_file")


@pytest.mark.root
def test_a_process_that_proc_hides_from_us_is_a_stranger_and_a_dead_one_is_not(machine):
    ended = subprocess.Popen(["true"])
    ended.wait()
    hidden = machine.folder / "hidden"  # as with hidepid=2: nothing of others is there
    shutil.copytree(machine.folder / "proc/self", hidden / "self", symlinks=True)
    code = (
        "import os, sys; from exporter.world.cards import Processes\n"
        "seen = Processes(sys.argv[1]); os.setuid(65534)\n"
        "print([seen.stranger(pid) for pid in (1, int(sys.argv[2]), os.getpid())])"
    )
    argv = [sys.executable, "-c", code, str(hidden), str(ended.pid)]
    assert subprocess.check_output(argv, cwd=ROOT, text=True, timeout=60) == "[True, False, False]\n"


def test_a_window_that_opens_is_nobody_until_it_draws(machine):
    machine.idle()
    window = machine.stranger()

    def opens() -> None:
        machine.takes(window, "graphics")
        time.sleep(0.6)
        assert machine.worker() is not None
        machine.works(**{f"p{window}": 30})

    machine.meanwhile(opens)
    got, _ = machine.measure()
    assert "works: others use 30%" in got.detail
    assert got.duration > 0.6


def test_who_disturbed_at_the_very_end_spoils_the_run_too(machine):
    machine.idle()

    def spoilt() -> Result:
        machine.takes(machine.stranger())
        time.sleep(0.2)
        return result("matmul", "failed")

    assert machine.ask(matmul(), spoilt).skip == ("deferred", "gpu_busy")


def test_a_proof_of_damage_stands_whoever_came_meanwhile(machine):
    machine.idle()
    machine.meanwhile(lambda: machine.takes(machine.stranger()))
    got, _ = machine.measure("hangs", (BROKEN,))
    assert (got.outcome, [f.rule for f in got.findings]) == ("failed", ["toy-broken"])


def test_any_other_finding_of_a_disturbed_run_is_dropped(machine):
    machine.idle()
    machine.meanwhile(lambda: machine.takes(machine.stranger()))
    got, _ = machine.measure("hangs", (FAILED,))
    assert (got.skip, got.findings) == (("deferred", "gpu_busy"), ())


@pytest.mark.parametrize(
    ("used", "said", "outcome"),
    [
        (9000, "OutOfMemoryError: CUDA out of memory", "skipped"),  # a resident holds it
        (600, "OutOfMemoryError: CUDA out of memory", "failed"),  # a desktop does
        (9000, "ours ended by SIGKILL", "failed"),  # it was the host's memory
    ],
)
def test_a_worker_without_room_beside_a_resident_is_put_off(machine, used, said, outcome):
    machine.stub.set({"gpu0.memory_used": used * MIB})
    machine.idle()
    failed = result("matmul", "failed", findings=(WORKER_OUT_OF_MEMORY(said),))
    got = machine.ask(matmul(), lambda: failed)
    assert got.outcome == outcome
    assert ("others hold 9000 MiB of the card's memory" in got.detail) is (outcome == "skipped")


def test_what_mps_books_under_its_server_may_be_our_own_work(machine):
    server = machine.stranger("nvidia-cuda-mps-server")
    machine.takes(server)
    machine.idle()

    def work() -> Result:
        machine.works(**{f"p{server}": 95})
        time.sleep(0.5)
        machine.works()
        return RAN

    got = machine.ask(matmul(), work)
    assert got.outcome == "ok"
    assert got.evidence["idle gate"].startswith("gate=weak (MPS hides who works), residents: nvidia-cuda-mps (pid ")


def test_an_exporter_that_stops_is_no_disturbance(machine):
    machine.idle()
    token = Token(20.0)
    checked = benchmark("hangs")
    machine.meanwhile(lambda: token.cancel("shutdown"))
    got = machine.gate.run(checked, token, lambda: oneshot.execute(checked, token, machine.doors, str))
    assert got.skip == ("deferred", "shutdown")


def test_a_driver_that_falls_silent_during_the_run_ends_it_because_unknown_is_never_idle(machine, monkeypatch):
    monkeypatch.setattr(watch_module, "SILENCE", 0.5)
    machine.idle()

    def run(token: Token) -> Result:
        machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": 60})
        with suppress(Aborted):
            token.wait(15)
        return RAN

    token = Token(20.0)
    got = machine.gate.run(matmul(), token, lambda: run(token))
    machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": None})
    assert (token.stopped, got.skip) == ("gpu_busy", ("deferred", "gpu_busy"))
    assert "NVML has not told for 0.5 s who is on the card" in got.detail


def test_a_driver_that_hangs_during_the_run_is_a_finding_and_no_disturbance(machine):
    machine.idle()
    machine.meanwhile(lambda: machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": 60}))
    got, _ = machine.measure()
    machine.stub.set({"gpu0.hang.nvmlDeviceGetProcessUtilization": None})
    assert (got.outcome, [f.rule for f in got.findings]) == ("failed", ["gpu-driver-wedged"])


# ---- during a run: pids are not known --------------------------------------------------------------------------------


def test_in_a_foreign_pid_namespace_our_own_worker_is_one_newcomer_and_two_are_too_many(container):
    container.takes(4001)
    container.idle()

    def come() -> None:
        ours = container.worker()
        container.known(ours)
        container.takes(5001)  # the host's number of it
        time.sleep(0.6)
        assert container.worker() is not None
        container.takes(5002)

    container.meanwhile(come)
    got, _ = container.measure()
    assert got.skip == ("deferred", "gpu_busy")
    assert "a new process" in got.detail
    assert got.evidence["idle gate"].startswith(
        "gate=weak (pids are those of another pid namespace), residents: unknown"
    )


def test_in_a_foreign_pid_namespace_a_resident_that_works_is_known_by_its_number(container):
    container.takes(4001)
    container.idle()
    container.meanwhile(lambda: container.works(p4001=50, p5001=99))
    got, _ = container.measure()
    assert "unknown (pid 4001, 64 MiB) works: others use 50% of the card" in got.detail


def test_under_wsl_without_a_list_of_processes_the_card_is_looked_at_when_we_are_gone(container):
    container.stub.set({"gpu0.processes": None, "gpu0.work": None})
    container.idle()
    got, _ = container.measure("honest")
    assert got.outcome == "ok"
    assert got.evidence["idle gate"] == "gate=weak (this driver lists no processes), residents: none"
    container.stub.set({"gpu0.utilization": 60})
    eventually(lambda: "gate=weak" in container.ask(matmul()).detail)
    container.stub.set({"gpu0.utilization": 0})
    container.idle()
    still_busy(container)


def still_busy(machine: Machine) -> None:
    """Somebody works on during our run, and nobody can tell that it is not us until it is over."""

    def busy() -> Result:
        machine.stub.set({"gpu0.utilization": 80})
        return RAN

    got = machine.ask(matmul(), busy)
    assert got.skip == ("deferred", "gpu_busy")
    assert "the card is still 80% busy without us (gate=weak)" in got.detail


def test_a_driver_that_does_not_tell_who_works_is_weak_and_the_card_is_looked_at_when_we_are_gone(machine):
    machine.takes(machine.stranger())
    machine.stub.set({"gpu0.work": None})
    machine.idle()
    got = machine.ask(matmul())
    assert got.evidence["idle gate"].startswith("gate=weak (this driver does not tell who works), residents: ollama")
    still_busy(machine)


# ---- what the owner says ---------------------------------------------------------------------------------------------


def test_a_lock_file_keeps_benchmarks_away_and_ends_the_one_that_runs(machine):
    lock = machine.folder / "busy"
    machine.manners = Manners(lock_file=str(lock))
    machine.idle()
    machine.meanwhile(lock.touch)
    got, _ = machine.measure()
    assert (got.skip, got.detail.endswith(f"{lock} exists")) == (("deferred", "lock_file"), True)
    assert machine.ask(matmul(device="cpu")).skip == ("deferred", "lock_file")
    assert machine.ask(check(quiet)).measured
    lock.unlink()
    machine.idle()


@pytest.mark.parametrize("path", [f"/{'x' * 300}", "/a\0b"])
def test_a_lock_file_that_nobody_can_look_for_counts_as_there(machine, path):
    machine.manners = Manners(lock_file=path)
    assert "cannot be seen" in machine.ask(matmul(device="cpu")).detail


def test_a_lock_file_may_be_a_folder_or_a_link_that_leads_nowhere(machine):
    folder, link = machine.folder / "folder", machine.folder / "link"
    folder.mkdir()
    link.symlink_to("me@host:4711")
    for lock in (folder, link):
        machine.manners = Manners(lock_file=str(lock))
        assert machine.ask(matmul(device="cpu")).detail == f"{lock} exists"
    machine.manners = Manners(lock_file=str(machine.folder / "link" / "below"))
    assert machine.ask(matmul(device="cpu")).measured


def test_a_lock_file_on_a_file_system_that_hangs_counts_as_there(machine, monkeypatch):
    """As on an NFS server that is gone, which no test can have."""
    hanging = threading.Event()
    monkeypatch.setattr(gate_module.os, "lstat", lambda path: hanging.wait(30))
    monkeypatch.setattr(gate_module, "PATIENCE", 0.2)
    machine.manners = Manners(lock_file="/mnt/gone/busy")
    got = machine.ask(matmul(device="cpu"))
    hanging.set()
    assert got.skip == ("deferred", "lock_file")
    assert "does not answer" in got.detail


def test_quiet_hours_keep_benchmarks_away_and_end_the_one_that_runs(machine, monkeypatch):
    clock = [datetime(2026, 11, 21, 21, 59)]  # a Saturday
    monkeypatch.setattr(gate_module, "now_in", lambda timezone: clock[0])
    machine.manners = Manners(quiet_hours=("Sat 22:00-07:00",))
    machine.idle()
    machine.meanwhile(lambda: clock.__setitem__(0, datetime(2026, 11, 21, 22, 0)))
    got, _ = machine.measure()
    assert got.skip == ("deferred", "quiet_hours")
    assert got.detail.endswith("quiet hours Sat 22:00-07:00, and it is Sat 22:00")
    clock[0] = datetime(2026, 11, 22, 6, 59)
    assert machine.ask(matmul()).skip == ("deferred", "quiet_hours")
    clock[0] = datetime(2026, 11, 22, 7, 0)
    assert machine.ask(matmul()).measured


# ---- what a service says ---------------------------------------------------------------------------------------------


def asking(server, **how) -> Manners:
    return Manners.model_validate({"busy": [{"url": server.url("/queue"), **how}]})


@pytest.mark.parametrize(
    ("body", "how", "said"),
    [
        (b'{"queue_running": [[1, "abc"]]}', {"json_path": "queue_running"}, 'says queue_running = [[1, "abc"]]'),
        (b'{"queue_running": []}', {"json_path": "queue_running"}, ""),
        (b'{"slots": [{"busy": false}, {"busy": true}]}', {"json_path": "slots.1.busy"}, "says slots.1.busy = true"),
        (b'{"slots": [{}, {"busy": true}]}', {"json_path": "slots[1].busy"}, "says slots[1].busy = true"),
        (b'{"slots": []}', {"json_path": "slots.1.busy"}, "its answer has no slots.1.busy"),
        (b"<html>", {"json_path": "queue_running"}, "its answer has no queue_running"),
        (b"status: rendering 7", {"regex": "rendering [0-9]+"}, "answers 'rendering 7'"),
        (b"status: idle", {"regex": "rendering [0-9]+"}, ""),
        (b'{"a": NaN}', {"json_path": "a"}, "says a = NaN"),
        (b'{"a": "no"}', {"json_path": "a"}, 'says a = "no"'),
        (b"[" * 100_000, {"json_path": "0"}, "its answer has no 0"),
        (bytes(range(256)), {"json_path": "a"}, "its answer has no a"),
        (b'{"a": 0, "b": "%s"}' % (b"x" * 2 * MIB), {"json_path": "a"}, "too_large"),
    ],
)
def test_a_service_that_works_or_speaks_nonsense_defers_and_an_idle_one_does_not(machine, body, how, said):
    with serving(ok(body)) as server:
        machine.manners = asking(server, **how)
        got = machine.ask(matmul(device="cpu"))
    assert got.skip == (("deferred", "service_busy") if said else None)
    assert said in got.detail


def test_a_service_that_is_down_is_not_disturbed_and_one_that_fails_may_well_work(machine):
    with serving(ok(b"{}", status="500 Internal Server Error")) as server:
        machine.manners = asking(server, json_path="queue_running")
        assert "status 500" in machine.ask(matmul(device="cpu")).detail
    with serving(ok(b'{"queue_running": []}', status="302 Found")) as server:
        machine.manners = asking(server, json_path="queue_running")
        assert "status 302" in machine.ask(matmul(device="cpu")).detail
    assert machine.ask(matmul(device="cpu")).measured


def test_who_comes_while_a_service_takes_its_time_to_answer_ends_the_run_too(machine, monkeypatch):
    monkeypatch.setattr(gate_module, "ASK_EVERY", 0.1)
    monkeypatch.setattr(busy_module, "PATIENCE", 60.0)
    asked, over = [], threading.Event()

    def answer(connection, request) -> None:
        if asked:
            over.wait(60)
        asked.append(1)
        ok(b'{"queue_running": []}')(connection, request)

    with serving(answer) as server:
        machine.idle()
        machine.manners = asking(server, json_path="queue_running")
        machine.meanwhile(lambda: machine.takes(machine.stranger()))
        got, _ = machine.measure()
        over.set()
    assert got.skip == ("deferred", "gpu_busy")
    assert "a new process" in got.detail


def test_a_secret_in_the_question_is_not_in_the_answer(machine):
    token = Token(20.0)
    with serving(ok(b'{"queue_running": [1]}')) as server:
        machine.manners = Manners.model_validate(
            {"busy": [{"url": server.url("/queue?key=planted"), "json_path": "queue_running"}]}
        )
        checked, redact = matmul(device="cpu"), Redactor(frozenset({"planted"}))
        got = oneshot.execute(
            checked, token, machine.doors, redact, attended=lambda run: machine.gate.run(checked, token, run)
        )
    assert got.skip == ("deferred", "service_busy")
    assert "/queue?key=<redacted> says" in got.detail


def test_a_check_that_has_a_service_work_waits_for_it_and_is_not_ended_by_that_work(machine, monkeypatch):
    monkeypatch.setattr(gate_module, "ASK_EVERY", 0.1)
    params = vram_leak.PROBE.params(process="main.py", command=("true",))
    leak = Check("vram_leak", vram_leak.PROBE, params, 86400.0, 60.0)
    body = [b'{"queue_running": []}']

    def works() -> Result:
        body[0] = b'{"queue_running": [1]}'
        time.sleep(1)
        return result("vram_leak")

    with serving(lambda connection, request: ok(body[0])(connection, request)) as server:
        machine.manners = asking(server, json_path="queue_running")
        assert machine.ask(leak, works).measured
        assert machine.ask(leak, works).skip == ("deferred", "service_busy")


def test_a_service_that_begins_to_work_ends_the_run(machine, monkeypatch):
    monkeypatch.setattr(gate_module, "ASK_EVERY", 0.1)
    body = [b'{"queue_running": []}']
    with serving(lambda connection, request: ok(body[0])(connection, request)) as server:
        machine.manners = asking(server, json_path="queue_running")
        machine.idle()
        machine.meanwhile(lambda: body.__setitem__(0, b'{"queue_running": [1]}'))
        got, _ = machine.measure()
    assert got.skip == ("deferred", "service_busy")
