"""Does a worker end in the right outcome, with its evidence and without a trace, whatever it does?"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.interpreters import Interpreter, Preparation
from exporter.world import child, posix
from exporter.world import workers as workers_module
from exporter.world.rows import FILE_LIMIT, LINE_LIMIT, Failure, parse
from exporter.world.token import Token
from exporter.world.workers import WORKERS, Launcher, environment
from probes.api import (
    Aborted,
    Blind,
    Conditions,
    Deferred,
    Evidence,
    Identity,
    Json,
    Measurement,
    Metric,
    Progress,
    Row,
    SubjectFailed,
    facts_of,
)
from probes.world.gpus import Gpu, Gpus

HOSTILE = Path(__file__).parent / "workers"
OURS = Interpreter("ours", sys.executable)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    found = Launcher(lambda: (OURS,), scratch=str(tmp_path), folder=HOSTILE)
    yield found
    found.close()


def rows_of(launcher: Launcher, name: str, timeout: float = 20.0, **params: Json) -> list[Row]:
    return list(launcher.rows(name, params, token=Token(timeout)))


def collect(launcher: Launcher, name: str, timeout: float = 20.0, **params: Json) -> tuple[list[Row], Exception]:
    """The rows so far and how the run ended, which must be an exception."""
    rows: list[Row] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the tests look at it)
        rows.extend(launcher.rows(name, params, token=Token(timeout)))
    return rows, caught.value


def data_of(rows: list[Row]) -> dict[str, Any]:
    return {k: v for row in rows if row.kind == "data" for k, v in row.data.items()}


def alive(pid: int) -> bool:
    """Is that process running? A zombie that waits for an init to reap it is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# ------------------------------------------------------------------ a good worker


@LINUX
@pytest.mark.parametrize(("gpu", "nice", "disk"), [("", 10, psutil.IOPRIO_CLASS_IDLE), ("GPU-1", 0, None)])
def test_a_worker_without_a_card_gives_way_to_everything_else(
    launcher: Launcher, gpu: str, nice: int, disk: int | None
) -> None:
    rows = launcher.rows("hangs", {}, gpu=gpu, token=Token(20.0))
    next(rows)
    (worker,) = (child for child in psutil.Process().children() if "kit.py" in " ".join(child.cmdline()))
    assert worker.nice() == os.getpriority(os.PRIO_PROCESS, 0) + nice
    group = Path(f"/proc/{worker.pid}/autogroup")
    assert not group.exists() or group.read_text().endswith(f" nice {nice}\n")
    assert worker.ionice().ioclass == (psutil.Process().ionice().ioclass if disk is None else disk)
    rows.close()  # type: ignore[attr-defined]


def test_a_good_worker_yields_its_rows_in_order_between_start_and_end(launcher: Launcher) -> None:
    rows = rows_of(launcher, "honest", size=4)
    assert [row.kind for row in rows] == ["start", "progress", "fact", "data", "progress", "end"]
    assert rows[0].data["python"] == ".".join(map(str, sys.version_info[:3]))
    assert len(str(rows[0].data["revision"])) == 12
    assert rows[0].data["kit"] == hashlib.sha256((WORKERS / "kit.py").read_bytes()).hexdigest()[:12]
    assert (rows[2].metric, rows[2].value, rows[2].labels["dtype"]) == ("flops_per_second", 3.5e12, "fp32")
    assert data_of(rows)["params"] == {"size": 4}
    assert 2**20 < int(str(rows[-1].data["peak_rss_bytes"])) < 2**28
    assert "a word from the driver" in str(rows[-1].data["evidence"])


def test_a_system_that_does_not_tell_the_peak_crashes_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = load_kit()
    monkeypatch.setattr(kit, "open", lambda _: io.StringIO("Name:\tpython\nVmRSS:\t1 kB\n"), raising=False)
    assert kit.peak_rss() is None  # gVisor


def test_rows_arrive_while_the_worker_still_runs(launcher: Launcher) -> None:
    rows = launcher.rows("hangs", {}, token=Token(20.0))
    assert [next(rows).kind, next(rows).kind] == ["start", "fact"]
    rows.close()


def test_the_worker_has_its_own_group_and_no_input(launcher: Launcher) -> None:
    data = data_of(rows_of(launcher, "honest"))
    assert data["group"] == data["pid"] != os.getpgid(0)
    assert data["stdin"] == ""


def test_only_allowed_variables_reach_the_worker(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PYTHONPATH",
        "PYTHONHOME_X",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "CUDA_LAUNCH_BLOCKING",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HF_HOME", "/models")
    seen = data_of(rows_of(launcher, "honest"))["environ"]
    assert not any(name.startswith("PYTHON") for name in seen)
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "CUDA_LAUNCH_BLOCKING", "LD_PRELOAD"} & seen.keys()
    assert seen["HF_HOME"] == "/models"
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_VISIBLE_DEVICES" not in seen


def test_a_worker_for_one_card_sees_that_card_alone() -> None:
    assert environment({"CUDA_VISIBLE_DEVICES": "0,1"}, "GPU-7")["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert environment({"CUDA_VISIBLE_DEVICES": "0,1"}, "")["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_what_the_card_did_joins_the_result(tmp_path: Path) -> None:
    looks = iter(range(100))

    def gpus(token: Token) -> Gpus:
        seen = next(looks)
        return Gpus(
            True,
            driver="580.65",
            gpus=(
                Gpu(
                    0,
                    "GPU-7",
                    memory_used=(1000 + seen) * 2**20,
                    power=300.0 + seen,
                    power_limit=450.0,
                    temperature=60.0,
                    clocks={"sm": 2.5e9},
                    throttle={"power_cap": True, "sw_thermal": False, "gpu_idle": True},
                    pcie_generation=4,
                    pcie_width=16,
                ),
            ),
        )

    launcher = Launcher(lambda: (OURS,), gpus=gpus, scratch=str(tmp_path), folder=HOSTILE)
    metric = Metric("flops_per_second", "Operations.", ("dtype", "device"))
    facts = list(facts_of(launcher.rows("honest", {}, gpu="GPU-7", token=Token(20)), [metric]))
    conditions = {k: v for fact in facts if isinstance(fact, Conditions) for k, v in fact.values.items()}
    evidence = {fact.name: fact.text for fact in facts if isinstance(fact, Evidence)}
    assert [fact.values["uuid"] for fact in facts if isinstance(fact, Identity)] == ["GPU-7"]
    assert [fact for fact in facts if isinstance(fact, Measurement)] == [metric(3.5e12, dtype="fp32", device="cpu")]
    assert [fact for fact in facts if isinstance(fact, Progress)] == [Progress(0, 2), Progress(2, 2)]
    assert (conditions["driver"], conditions["power_limit"], conditions["pcie_link"]) == (
        "580.65",
        "450 W",
        "gen 4 x16",
    )
    assert "throttled by power_cap, VRAM in use 1000 MiB before" in evidence["card under load"]
    assert "2500 MHz" in evidence["card under load"]


def test_a_wedged_driver_keeps_the_worker_from_starting(tmp_path: Path) -> None:
    def wedged(token: Token) -> Gpus:
        raise SubjectFailed(workers_module.WORKER_LATE("NVML hangs"))

    launcher = Launcher(lambda: (OURS,), gpus=wedged, scratch=str(tmp_path), folder=HOSTILE)
    with pytest.raises(SubjectFailed, match="NVML hangs"):
        list(launcher.rows("honest", {}, gpu="GPU-7", token=Token(20)))
    assert not any(tmp_path.iterdir())


# ------------------------------------------------------------------ workers that misbehave


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_worker_that_hangs_is_late_and_its_rows_are_kept(launcher: Launcher, stubborn: bool) -> None:
    began = time.monotonic()
    rows, end = collect(launcher, "hangs", timeout=1.5, stubborn=stubborn)
    assert isinstance(end, SubjectFailed)
    assert end.finding.rule == "worker-late"
    assert "waiting for a lock" in end.evidence
    assert [row.kind for row in rows] == ["start", "fact"]
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("reason", ["gpu_busy", "shutdown", "removed"])
def test_a_cancelled_run_ends_its_worker_at_once(launcher: Launcher, reason: Any) -> None:
    token = Token(60.0)
    rows = launcher.rows("hangs", {"stubborn": True}, token=token)
    next(rows)
    threading.Timer(0.1, token.cancel, [reason]).start()
    began = time.monotonic()
    with pytest.raises(Aborted) as caught:
        list(rows)
    assert caught.value.reason == reason
    assert time.monotonic() - began < 1.5


def test_closing_the_launcher_ends_every_worker_and_starts_none_again(launcher: Launcher, tmp_path: Path) -> None:
    rows = launcher.rows("hangs", {"stubborn": True}, token=Token(60.0))
    next(rows)
    launcher.close()
    assert not any(tmp_path.iterdir())
    with pytest.raises(Aborted, match="shutdown"):
        list(rows)
    with pytest.raises(Aborted, match="shutdown"):
        next(launcher.rows("honest", {}, token=Token(5)))


def test_a_flood_of_output_keeps_its_head_and_tail_in_bounded_memory(launcher: Launcher, tmp_path: Path) -> None:
    rows = rows_of(launcher, "floods", megabytes=50)
    evidence = rows[-1].data["evidence"]
    assert isinstance(evidence, dict)
    log = str(evidence["worker log"])
    assert log.startswith("the first line")
    assert log.endswith("the last line\n")
    assert "bytes left out" in log
    assert len(log) <= 8 * 1024


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_death_by_a_signal_is_a_crash_with_its_last_words(launcher: Launcher, name: str) -> None:
    rows, end = collect(launcher, "dies", signal=name)
    assert isinstance(end, SubjectFailed)
    assert (end.finding.rule, end.finding.severity) == ("worker-crashed", "critical")
    assert name in end.finding.detail
    assert "NVRM: the last words" in end.evidence
    assert [row.kind for row in rows] == ["start", "fact"]


def test_a_silent_exit_status_is_a_crash(launcher: Launcher) -> None:
    _, end = collect(launcher, "dies", status=3)
    assert isinstance(end, SubjectFailed)
    assert "exit status 3" in end.finding.detail


def test_an_exit_without_an_end_row_is_our_error(launcher: Launcher) -> None:
    _, end = collect(launcher, "dies", status=0)
    assert isinstance(end, ValueError)
    assert "without an end row" in str(end)


def test_sigkill_while_the_oom_killer_worked_is_out_of_memory(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter([7, 8])
    monkeypatch.setattr(posix, "oom_kills", lambda: next(kills))
    _, end = collect(launcher, "dies", signal="SIGKILL")
    assert isinstance(end, SubjectFailed)
    assert end.finding.rule == "worker-out-of-memory"


@pytest.mark.parametrize(
    ("kind", "message", "rule"),
    [
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", "worker-crashed"),
        ("SystemExit", "3", "worker-crashed"),
        ("KeyboardInterrupt", "", "worker-crashed"),
        ("RecursionError", "maximum recursion depth", "worker-crashed"),
        ("UnicodeError", "\udcff half a character", "worker-crashed"),
        ("MemoryError", "", "worker-out-of-memory"),
        ("OutOfMemoryError", "Tried to allocate 20 GiB", "worker-out-of-memory"),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 2.00 GiB", "worker-out-of-memory"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "worker-out-of-memory"),
        ("AcceleratorError", "CUDA error: uncorrectable ECC error encountered", "worker-crashed"),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory", "worker-out-of-memory"),
    ],
)
def test_an_exception_is_judged_by_what_it_says(launcher: Launcher, kind: str, message: str, rule: str) -> None:
    _, end = collect(launcher, "raises", type=kind, message=message)
    assert isinstance(end, SubjectFailed)
    assert end.finding.rule == rule
    assert kind in end.finding.detail
    assert "Traceback" in end.evidence


@pytest.mark.parametrize(
    "raw",
    [
        "not json\n",
        "[1, 2]\n",
        "{}\n",
        '{"kind": "launch"}\n',
        '{"kind": ["fact"]}\n',
        '{"kind": "start", "data": {}}\n',
        '{"kind": "fact", "metric": "", "value": 1, "labels": {}}\n',
        '{"kind": "fact", "value": 1, "labels": {}}\n',
        '{"kind": "fact", "metric": "m", "value": NaN, "labels": {}}\n',
        '{"kind": "fact", "metric": "m", "value": 1e999, "labels": {}}\n',
        '{"kind": "fact", "metric": "m", "value": true, "labels": {}}\n',
        '{"kind": "fact", "metric": "m", "value": "1", "labels": {}}\n',
        '{"kind": "fact", "metric": "m", "value": 1, "labels": {"a": 1}}\n',
        '{"kind": "fact", "metric": "m", "value": 1, "labels": {"a": "\\ud800"}}\n',
        '{"kind": "progress", "done": 1}\n',
        '{"kind": "data", "data": [], "more": 1}\n',
        '{"kind": "end", "data": {}}\n{"kind": "data", "data": {}}\n',
        "[" * 100_000 + "\n",
        '{"kind": "fact", "metric": "m", "value": ' + "9" * 5000 + ', "labels": {}}\n',
        '{"kind": "data", "data": {"x": "' + "x" * LINE_LIMIT + '"}}\n',
        "\x00\n",
        '{"kind": "data", "da',
    ],
)
def test_a_bad_row_is_our_error_and_shows_the_line(launcher: Launcher, raw: str) -> None:
    rows, end = collect(launcher, "writes", raw=raw)
    assert isinstance(end, ValueError)
    assert "row" in str(end)
    assert len(str(end)) < 3000
    assert rows[0].kind == "start"


def test_a_bad_row_ends_a_worker_that_would_go_on(launcher: Launcher) -> None:
    began = time.monotonic()
    _, end = collect(launcher, "writes", raw="garbage\n", wait=True)
    assert isinstance(end, ValueError)
    assert time.monotonic() - began < 5


def test_a_full_row_file_is_our_error(launcher: Launcher) -> None:
    rows, end = collect(launcher, "fills")
    assert isinstance(end, ValueError)
    assert str(FILE_LIMIT) in str(end)
    assert len(rows) > 1000


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_line_can_break_the_parser(line: bytes) -> None:
    with suppress(ValueError, TypeError, RecursionError):
        assert isinstance(parse(line), Row | Failure)


# ------------------------------------------------------------------ without a trace


@LINUX
@pytest.mark.parametrize(
    ("how", "hang"), [("group", False), ("session", False), ("session", True), ("stranger", False)]
)
def test_no_grandchild_survives(launcher: Launcher, how: str, hang: bool) -> None:
    if hang:
        rows, end = collect(launcher, "forks", timeout=2.0, how=how, hang=True)
        assert "worker-late" in str(end)
    else:
        rows = rows_of(launcher, "forks", how=how)
    seen = data_of(rows)
    assert eventually(lambda: not alive(seen["grandchild"]))
    assert not alive(seen["pid"])


@LINUX
def test_run_after_run_leaves_no_descriptor_thread_folder_or_zombie(launcher: Launcher, tmp_path: Path) -> None:
    def traces() -> tuple[int, int, int, int]:
        me = f"PPid:\t{os.getpid()}\n"
        children = [p for p in Path("/proc").glob("[0-9]*/status") if me in _read(p)]
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(list(tmp_path.iterdir())), len(children)

    collect(launcher, "raises", type="RuntimeError")
    before = traces()
    for _ in range(3):
        rows_of(launcher, "honest")
        collect(launcher, "raises", type="RuntimeError")
        collect(launcher, "writes", raw="garbage\n")
        rows = launcher.rows("hangs", {}, token=Token(20.0))
        next(rows)
        rows.close()
    assert eventually(lambda: traces() == before), (before, traces())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@LINUX
def test_a_worker_dies_with_a_killed_exporter(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from exporter.interpreters import Interpreter\n"
        "from exporter.world.token import Token; from exporter.world.workers import Launcher\n"
        f"l = Launcher(lambda: (Interpreter('x', sys.executable),), scratch={str(tmp_path)!r}, folder=Path({str(HOSTILE)!r}))\n"
        "for row in l.rows('forks', {'how': 'group', 'hang': True}, token=Token(60)):\n"
        "    if row.kind == 'data': print(row.data['pid'], flush=True)\n"
    )
    import subprocess

    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=HOSTILE.parent.parent) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.kill()
        assert eventually(lambda: not alive(pid))


# ------------------------------------------------------------------ which Python


@pytest.mark.parametrize(
    ("path", "reason"), [("/no/such/python", "no_interpreter"), (str(HOSTILE), "permission"), (__file__, "permission")]
)
def test_a_python_that_does_not_start_is_blindness(launcher: Launcher, path: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Blind) as caught:
        list(launcher.rows("honest", {}, interpreter=path, token=Token(5)))
    assert caught.value.reason == reason
    assert path in caught.value.detail
    assert not any(tmp_path.iterdir())


def test_an_unknown_name_is_blindness_that_names_the_known_ones(launcher: Launcher) -> None:
    with pytest.raises(Blind, match="known: ours"):
        list(launcher.rows("honest", {}, interpreter="comfyui", token=Token(5)))


def test_without_torch_we_are_blind_and_name_what_we_tried(launcher: Launcher) -> None:
    _, end = collect(launcher, "raises", type="no torch")
    assert isinstance(end, Blind)
    assert end.reason == "no_torch"
    assert "ours (no torch)" in end.detail


def test_while_torch_is_being_prepared_the_run_is_put_off(tmp_path: Path) -> None:
    ours = Preparation("preparing", 0.4, "downloading")
    launcher = Launcher(lambda: (OURS,), preparation=lambda: ours, scratch=str(tmp_path), folder=HOSTILE)
    _, end = collect(launcher, "raises", type="no torch")
    assert isinstance(end, Deferred)
    assert (end.reason, end.detail) == ("preparing", "40% downloading")


def test_a_preparation_that_failed_says_why(tmp_path: Path) -> None:
    ours = Preparation("failed", 0.0, "no space left")
    launcher = Launcher(lambda: (OURS,), preparation=lambda: ours, scratch=str(tmp_path), folder=HOSTILE)
    with pytest.raises(Blind, match="no space left"):
        rows_of(launcher, "raises", type="no torch")


def test_self_is_the_exporters_own_python(tmp_path: Path) -> None:
    launcher = Launcher(tuple, scratch=str(tmp_path), folder=HOSTILE)
    rows = list(launcher.rows("honest", {}, interpreter="self", token=Token(20)))
    assert rows[0].data["executable"] == sys.executable


def test_a_venv_is_started_by_its_symlink(tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "v", symlinks=True)
    python = tmp_path / "v" / "bin" / "python"
    launcher = Launcher(lambda: (Interpreter("v", str(python)),), folder=HOSTILE)
    assert next(iter(launcher.rows("honest", {}, token=Token(20)))).data["executable"] == str(python)


def test_a_missing_worker_is_our_error(launcher: Launcher) -> None:
    with pytest.raises(ValueError, match="there is no worker"):
        next(launcher.rows("nobody", {}, token=Token(5)))


# ------------------------------------------------------------------ kit.py by itself


@pytest.mark.parametrize("path", sorted(WORKERS.glob("*.py")), ids=lambda p: p.stem)
def test_workers_are_python_39_and_import_only_the_standard_library_and_torch(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "torch"}


def test_no_module_beside_kit_or_the_worker_can_shadow_the_standard_library(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "kit.py").write_bytes((WORKERS / "kit.py").read_bytes())
    (folder / "statistics.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link"):
        written = run_kit(place / "kit.py", HOSTILE / "shadowed.py", tmp_path)
        assert str(folder) not in str(written[1]["data"]["statistics"])


def run_kit(kit: Path, bench: Path, tmp_path: Path) -> list[dict[str, Any]]:
    import subprocess

    rows, params = tmp_path / "rows.jsonl", tmp_path / "params.json"
    params.write_text("{}")
    rows.unlink(missing_ok=True)
    subprocess.run([sys.executable, kit, bench, params, rows], check=True, timeout=20)
    return [json.loads(line) for line in rows.read_text().splitlines()]


def load_kit() -> ModuleType:
    """kit.py as a module of ours, without what it does to sys.path."""
    kept = list(sys.path)
    module = ModuleType("kit")
    module.__file__ = str(WORKERS / "kit.py")
    exec(compile((WORKERS / "kit.py").read_text(), module.__file__, "exec"), module.__dict__)
    sys.path[:] = kept
    return module


class Clock:
    """A clock that goes on only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Callable[[], None]:
        """Work whose calls take these times, the last one for ever."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_the_warm_up_is_left_out_and_the_median_is_robust() -> None:
    clock = Clock()
    kit = load_kit().Kit(io.StringIO(), "r", clock)
    # 0.5 s of warm-up take the two slow calls; of the rest one in four hiccups.
    assert kit.seconds(clock.work(0.3, 0.3, 0.01, 0.01, 0.01, 5.0, 0.01), budget=0.06) == pytest.approx(0.01)


def test_slow_work_is_still_measured_five_times() -> None:
    clock = Clock()
    kit = load_kit().Kit(io.StringIO(), "r", clock)
    assert kit.seconds(clock.work(10.0, 1.0, 2.0, 3.0, 4.0, 5.0), budget=0.1) == 3.0
    assert clock.now == 25.0


def test_a_clock_that_stands_still_is_no_measurement() -> None:
    times = iter([0.0, 1.0, *[2.0] * 12, *[9.0] * 9])
    kit = load_kit().Kit(io.StringIO(), "r", lambda: next(times))
    with pytest.raises(RuntimeError, match="no clock can say that"):
        kit.seconds(lambda: None, budget=1.0)


class Card:
    """torch.cuda as kit uses it: a device that runs behind, whose events tell its own time in milliseconds."""

    def __init__(self) -> None:
        self.device_ms = 0.0
        self.log: list[str] = []
        card = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = card.device_ms
                card.log.append("record")

            def elapsed_time(self, other: Event) -> float:
                assert card.log[-1] == "synchronize", "events are read only after synchronising"
                return other.at - self.at

        self.Event = Event

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def zero_(self) -> None:
        self.device_ms += 7.0
        self.log.append("flush")


def test_on_a_card_device_events_time_the_work_alone_after_a_cold_cache() -> None:
    card, clock = Card(), Clock()
    kit = load_kit().Kit(io.StringIO(), "r", clock)
    kit.cuda, kit.flush = card, card

    def work() -> None:
        card.device_ms += 4.0
        card.log.append("work")
        clock.now += 0.05  # the host's own time is no measurement

    assert kit.seconds(work, budget=0.3) == pytest.approx(0.004)
    assert card.log[:4] == ["flush", "record", "work", "record"]


def test_a_long_call_is_made_alone_and_a_short_one_ten_times_before_the_card_is_waited_for() -> None:
    for device_ms, calls in ((4.0, 10), (400.0, 1)):
        card, clock = Card(), Clock()
        kit = load_kit().Kit(io.StringIO(), "r", clock)
        kit.cuda, kit.flush = card, card

        def work(card: Card = card, clock: Clock = clock, device_ms: float = device_ms) -> None:
            card.device_ms += device_ms
            clock.now += device_ms / 1000
            card.log.append("work")

        assert kit.seconds(work, budget=1.0) == pytest.approx(device_ms / 1000)
        last = "".join("w" if entry == "work" else "s" for entry in card.log if entry in ("work", "synchronize"))
        assert last.endswith("s" + "w" * calls + "s")
        assert len(card.log) < 4 * 400, "a second of measuring is not much longer"


def test_half_characters_do_not_reach_the_row_file(tmp_path: Path) -> None:
    with (tmp_path / "rows").open("w", encoding="utf-8", errors="replace") as file:
        load_kit().Kit(file, "r").data(path="caf\udce9")
    assert [parse(line) for line in (tmp_path / "rows").read_bytes().splitlines()][1] == Row(
        "data", data={"path": "caf?"}
    )


def test_output_is_kept_in_constant_memory() -> None:
    output: Any = child.Output.__new__(child.Output)
    output._head, output._tail, output._kept, output._dropped = b"", child.deque(), 0, 0
    output._lock = threading.Lock()
    for size in (1, 100, child.HEAD, 3, 60_000, 1, 1, 1):
        output._keep(b"y" * size)
    output._keep(b"end")
    assert output.text().endswith("yend")
    total = 1 + 100 + child.HEAD + 3 + 60_000 + 3 + 3
    assert f"{total - child.HEAD - child.TAIL} bytes left out" in output.text()
