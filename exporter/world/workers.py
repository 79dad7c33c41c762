"""What does a worker say when the user's Python runs it?

`kit.py` runs the worker in a process group of its own (DESIGN.md section 7). What the worker does wrong is the
subject's failure (`worker-crashed`, `worker-late`, `worker-out-of-memory`); what it writes wrong is our error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import probes
from exporter.interpreters import Interpreter, Preparation, pick
from exporter.world import posix
from exporter.world.child import Child
from exporter.world.load import Load
from exporter.world.rows import Failure, RowFile
from exporter.world.token import Token
from probes.api import MIB, Aborted, Blind, Deferred, Evidence, Fact, Finding, Json, Row, Skipped, SubjectFailed
from probes.rules import WORKER_CRASHED, WORKER_LATE, WORKER_OUT_OF_MEMORY
from probes.world.gpus import Gpus

WORKERS = Path(probes.__file__).parent / "workers"
POLL = 0.25  # seconds between two looks at the row file; its end and a cancelled token are seen at once
GRACE = 3.0  # seconds that a late worker has between SIGTERM and SIGKILL, taken from the run's own time
# PYTHON* would change the patient, CUDA_LAUNCH_BLOCKING the measurement. HSA_ and HIP_: what consumer AMD cards need.
ALLOWED = re.compile(
    "HOME|PATH|LANG|LC_ALL|TZ|USER|LOGNAME|LD_LIBRARY_PATH|XDG_CACHE_HOME|XDG_RUNTIME_DIR|HF_HOME|TORCH_HOME"
    "|CUDA_(HOME|PATH|CACHE_PATH|VISIBLE_DEVICES)|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)"
    "|HSA_OVERRIDE_GFX_VERSION|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES"
    "|SYSTEM(ROOT|DRIVE)|USERPROFILE|(LOCAL)?APPDATA|PROGRAMDATA|PATHEXT|NUMBER_OF_PROCESSORS"
)
OUT_OF_MEMORY_TYPES = frozenset({"OutOfMemoryError", "MemoryError"})
OUT_OF_MEMORY_WORDS = re.compile(r"out of memory|can't allocate memory|STATUS_ALLOC_FAILED", re.IGNORECASE)


class Launcher:
    """Runs workers; one for the whole exporter, thread-safe.

    interpreters: the Pythons there are now. preparation: how far the one is that we make ourselves.
    gpus: how the NVML door looks. scratch: where temporary folders go (the system's place when None).
    """

    def __init__(
        self,
        interpreters: Callable[[], Sequence[Interpreter]],
        *,
        preparation: Callable[[], Preparation] = Preparation,
        gpus: Callable[[Token], Gpus] | None = None,
        scratch: str | None = None,
        folder: Path = WORKERS,
    ) -> None:
        self._interpreters, self._preparation, self._gpus = interpreters, preparation, gpus
        self._scratch, self._folder = scratch, folder
        self._lock = threading.Lock()
        self._children: set[Child] = set()
        self._closed = False

    def rows(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = "", token: Token
    ) -> Iterator[Row]:
        """The rows of `<name>.py` as it writes them; close the iterator to end the worker.

        Raises Blind(no_interpreter | no_torch), Deferred(preparing), SubjectFailed, Aborted; ValueError on a bad row.
        """
        bench = self._folder / f"{name}.py"
        if not bench.is_file():
            raise ValueError(f"there is no worker {bench}")
        chosen = self._choose(interpreter)
        token.check()
        look = self._gpus
        load = Load(None if look is None else lambda: look(token), gpu)
        kills = posix.oom_kills()
        child = self._adopt()
        try:
            rows = self._start(child, chosen, bench, params, gpu)
            try:
                yield from self._follow(child, rows, load, token, gpu)
                yield self._conclude(child, rows, load, chosen, kills)
            except SubjectFailed as stop:
                stop.facts = (*stop.facts, *_learnt(load))
                raise
            finally:
                rows.close()
        finally:
            child.end()
            with self._lock:
                self._children.discard(child)

    @property
    def scratch(self) -> Path:
        """Where the workers' folders lie."""
        return Path(self._scratch or tempfile.gettempdir())

    def close(self) -> None:
        """End every live worker at once and start none again: the exporter leaves."""
        with self._lock:
            self._closed = True
            children = tuple(self._children)
        for child in children:
            child.kill()

    def _choose(self, wanted: str) -> Interpreter:
        if wanted == "self":
            return Interpreter("self", sys.executable)
        found = self._interpreters()
        chosen = pick(found, wanted)
        if chosen is None:
            known = ", ".join(i.name for i in found) or "none"
            raise Blind(
                "no_interpreter", f"no Python called {wanted!r}; known: {known}; name one under `interpreters:`"
            )
        return chosen

    def _adopt(self) -> Child:
        with self._lock:
            if self._closed:
                raise Aborted("shutdown")
            child = Child(self._scratch)
            self._children.add(child)
            return child

    def _start(
        self, child: Child, interpreter: Interpreter, bench: Path, params: Mapping[str, Json], gpu: str
    ) -> RowFile:
        wanted, written = child.folder / "params.json", child.folder / "rows.jsonl"
        wanted.write_text(json.dumps(dict(params), allow_nan=False), encoding="utf-8")
        rows = RowFile(written)
        argv = [interpreter.path, str(WORKERS / "kit.py"), str(bench), str(wanted), str(written)]
        try:
            child.start(argv, environment(os.environ, gpu), gently=not gpu)  # whoever works on a card needs its CPU
        except OSError as error:
            rows.close()
            reason = "permission" if isinstance(error, PermissionError) else "no_interpreter"
            raise Blind(reason, f"{interpreter.path} does not start: {error.strerror}; see `interpreters:`") from error
        return rows

    def _follow(self, child: Child, rows: RowFile, load: Load, token: Token, gpu: str) -> Iterator[Row]:
        """Rows until the worker ended. A late one is ended a little before the run is, so that its rows still count."""
        started = time.monotonic()
        reserve = min(GRACE, token.remaining() / 10)
        forget = token.on_cancel(child.changed.set)
        try:
            while not (gone := child.exited) and token.remaining() > reserve:
                child.changed.wait(min(POLL, token.remaining()))
                child.changed.clear()
                for row in _with_card(rows.new(), gpu):
                    if row.kind == "start" and row.data.get("device") == "cpu":
                        load.leave()  # the card that it was given does nothing for it
                    yield row
                load.sample()
        finally:
            forget()
        reason = None if gone else token.stopped or "deadline"
        if reason == "deadline":
            child.terminate(reserve * 0.6)
        code = child.end() if reason else 0
        yield from _with_card(rows.new(), gpu)
        if reason == "deadline":
            stuck = "; it does not even die: the driver holds it" if code is None else ""
            raise SubjectFailed(WORKER_LATE(f"not done after {time.monotonic() - started:.0f} s{stuck}"), child.text)
        if reason:
            raise Aborted(reason)

    def _conclude(self, child: Child, rows: RowFile, load: Load, interpreter: Interpreter, kills: int) -> Row:
        """The end row with what the parent saw, or the exception that says how the worker ended."""
        code = child.end()
        if self._closed:
            raise Aborted("shutdown")
        if rows.failure is not None:
            raise self._judge(rows.failure, child, interpreter)
        if code:
            how = f"{interpreter.name} ended by {posix.exit_text(code)}"
            starved = how.endswith("SIGKILL") and posix.oom_kills() > kills
            raise SubjectFailed((WORKER_OUT_OF_MEMORY if starved else WORKER_CRASHED)(how), child.text)
        end = rows.finish()
        rss = end.data.get("peak_rss_bytes")
        evidence: dict[str, Json] = {"worker log": child.text}
        if isinstance(rss, int):
            evidence["worker memory"] = f"peak RSS {rss / MIB:.0f} MiB"
        evidence.update(load.evidence())
        seen: dict[str, Json] = {"conditions": load.conditions(), "evidence": evidence, "card": load.numbers()}
        return replace(end, data={**end.data, **seen, "energy": [asdict(card) for card in load.energy()]})

    def _judge(self, failure: Failure, child: Child, interpreter: Interpreter) -> Exception:
        if failure.missing == "torch":
            return self._without_torch(interpreter)
        starved = failure.type in OUT_OF_MEMORY_TYPES or OUT_OF_MEMORY_WORDS.search(failure.message)
        first = failure.message.strip().partition("\n")[0][:300]
        finding: Finding = (WORKER_OUT_OF_MEMORY if starved else WORKER_CRASHED)(f"{failure.type}: {first}")
        return SubjectFailed(finding, f"{child.text}\n{failure.traceback}".strip())

    def _without_torch(self, interpreter: Interpreter) -> Exception:
        ours = self._preparation()
        if ours.state == "preparing":
            return Deferred("preparing", f"{ours.ratio:.0%} {ours.detail}")
        others = ", ".join(f"{i.name} ({i.torch_version or 'no torch'})" for i in self._interpreters())
        detail = f"{interpreter.path} has no torch; known Pythons: {others or 'none'}; `interpreters:` names more"
        return Blind("no_torch", f"{detail}; .venv-torch: {ours.detail}" if ours.detail else detail)


def environment(own: Mapping[str, str], gpu: str) -> dict[str, str]:
    """What a worker gets of our environment. `gpu` is the uuid of the only card it may see, "" for all."""
    allowed = {name: value for name, value in own.items() if ALLOWED.fullmatch(name.upper())}
    return {**allowed, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}


def _learnt(load: Load) -> Sequence[Fact]:
    """What the card did until the worker failed; a driver that hangs or a run that is over tells no more than it did."""
    with suppress(SubjectFailed, Skipped, Aborted):
        return (*(Evidence(name, str(text)) for name, text in load.evidence().items()), *load.energy())
    return load.energy()


def _with_card(rows: Iterator[Row], gpu: str) -> Iterator[Row]:
    """The start row also says which card the worker was given: it is part of the result's identity."""
    return (replace(r, data={**r.data, "uuid": gpu}) if gpu and r.kind == "start" else r for r in rows)
