"""How does a worker's process live and end? In a group of its own, with bounded output, and without a trace afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from exporter.world import posix

HEAD, TAIL = 2 * 1024, 5 * 1024  # bytes of output that are kept; together less than the 8 KiB of an evidence
CHUNK = 64 * 1024
SOON = 0.5  # seconds after which we look who still holds the output of a killed group
PATIENCE = 2.0  # seconds that a killed process has to go; one that a driver holds in the kernel does not
MARKER = "GPU_CANARY_WORKER"
PREFIX = "gpu-canary-worker-"  # of the folders that workers get


class Output:
    """What a process prints, drained by a thread: its head and its tail stay, in memory, however much there is.

    `changed` is set when the output ended or the process did, so that nobody need poll for either.
    """

    def __init__(self, process: subprocess.Popen[bytes], stream: IO[bytes], changed: threading.Event) -> None:
        self._head = b""
        self._tail: deque[bytes] = deque()
        self._kept = self._dropped = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, args=(process, stream, changed), daemon=True)
        self._thread.start()

    def _drain(self, process: subprocess.Popen[bytes], stream: IO[bytes], changed: threading.Event) -> None:
        with stream:
            while chunk := stream.read(CHUNK):
                self._keep(chunk)
        posix.await_exit(process)
        changed.set()

    def _keep(self, chunk: bytes) -> None:
        with self._lock:
            missing = HEAD - len(self._head)
            self._head, chunk = self._head + chunk[:missing], chunk[missing:]
            self._tail.append(chunk[-TAIL:])
            self._kept += len(self._tail[-1])
            self._dropped += max(0, len(chunk) - TAIL)
            while self._kept - len(self._tail[0]) >= TAIL:
                self._kept -= len(self._tail[0])
                self._dropped += len(self._tail.popleft())

    def ended(self, timeout: float) -> bool:
        """Wait until everybody who could write has gone."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def text(self) -> str:
        """Head and tail, with what was left out between them."""
        with self._lock:
            tail = b"".join(self._tail)
            dropped = self._dropped + max(0, len(tail) - TAIL)
            gap = f"\n[... {dropped} bytes left out ...]\n" if dropped else ""
            return self._head.decode("utf-8", "replace") + gap + tail[-TAIL:].decode("utf-8", "replace")


def remove(folder: Path) -> None:
    """Delete a folder with all in it, also what a program made read-only for its own user; no link is followed."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        with suppress(OSError):
            folder.chmod(0o700)
        for path, folders, _ in os.walk(folder):  # it descends after this, so what is opened here is entered
            for name in folders:
                below = os.path.join(path, name)
                with suppress(OSError):
                    if not os.path.islink(below):
                        os.chmod(below, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


class Child:
    """One process of the user's Python. `folder` is its scratch, also its TMPDIR, and goes with it.

    While we live we hold the folder's lock: one that nobody holds was left behind (`exporter/cleanup.py`).
    """

    def __init__(self, scratch: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch))
        self._held = posix.hold(self.folder)
        self.changed = threading.Event()
        self._lock = threading.Lock()  # a pid is signalled only while it is certainly still the child's
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Output | None = None
        self._pipe = ""

    def start(self, argv: Sequence[str], environ: Mapping[str, str], gently: bool = False) -> None:
        """OSError when the program cannot be started; `end` is to be called all the same. `gently`: it gives way to others."""
        with self._lock:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=self.folder,
                env={**environ, "TMPDIR": str(self.folder), MARKER: self.folder.name},
                **posix.own_group(),
            )
            if gently:
                posix.lower_priority(self._process.pid)
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        self._pipe = posix.pipe_name(self._process.stdout.fileno())
        self._output = Output(self._process, self._process.stdout, self.changed)

    @property
    def exited(self) -> bool:
        with self._lock:
            return self._process is None or posix.has_exited(self._process)

    @property
    def text(self) -> str:
        """The head and the tail of what it printed."""
        return self._output.text() if self._output else ""

    def terminate(self, grace: float) -> None:
        """Ask the group to end, and wait up to `grace` seconds until the child did."""
        with self._lock:
            if self._process is not None:
                posix.terminate(self._process)
        self.changed.clear()
        if not self.exited:
            self.changed.wait(grace)

    def kill(self) -> None:
        """End the group, and what left it, at once. Any thread may call this; the folder goes too."""
        with self._lock:
            if self._process is not None:
                posix.kill(self._process)
        posix.kill_marked(f"{MARKER}={self.folder.name}")
        remove(self.folder)

    def end(self) -> int | None:
        """Leave nothing behind. The exit status, negative for a signal; None: it does not die, or never lived."""
        self.kill()
        held, self._held = self._held, None
        if held is not None:
            os.close(held)
        if self._process is None or self._output is None:
            return None
        if not self._output.ended(SOON):
            posix.kill_holders(self._pipe)
            self._output.ended(PATIENCE)
        with self._lock:
            return self._process.poll()
