"""Is there a Python with torch for the benchmarks, or how far is the one that we make?

Made in the background, in an environment of its own that the exporter never imports from; a start and an exit never
wait for it. An environment that was not finished carries a mark and is made anew.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.interpreters import PYTHON, UNFINISHED, Preparation, PreparationState, describe
from exporter.world import posix

log = logging.getLogger("gpu_canary.torch")

REQUIREMENT = "torch==2.13.0"  # what plain pip installs; constraints.txt says the same
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes to download and bytes on disk afterwards: from a table of ours, not asked of any index."""

    download: int
    disk: int

    def __str__(self) -> str:
        return f"about {self.download / 1e9:.1f} GB to download, {self.disk / 1e9:.0f} GB on disk (our estimate)"


CPU_SIZE, CUDA_SIZE = Size(200_000_000, 900_000_000), Size(3_000_000_000, 7_000_000_000)


def location(storage: Path) -> Path:
    """Beside the checkout when we run from one, else where history lives."""
    root = Path(__file__).parent.parent.parent
    from_checkout = (root / "pyproject.toml").is_file() and os.access(root, os.W_OK)
    return (root if from_checkout else storage) / ".venv-torch"


class TorchVenv:
    """Makes `path` unless some Python has torch. `mode` is the variable TORCH: `0` never, `auto` when needed.

    elsewhere: names a Python of the user that has torch, "" when there is none.
    """

    def __init__(
        self, path: Path, *, mode: str = "auto", elsewhere: Callable[[], str], requirement: str = REQUIREMENT
    ) -> None:
        self._path, self._mode, self._elsewhere, self._requirement = path, mode, elsewhere, requirement
        self._cuda = Path("/proc/driver/nvidia/version").exists() or Path("/dev/dxg").exists()  # dxg: WSL2
        self._lock = threading.Lock()
        self._state: PreparationState = "off"
        self._detail = ""
        self._used = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Return at once; what there is to do is done in the background."""
        if self._mode == "0":
            self._tell("off", "TORCH=0: nothing is installed; without it one is prepared")
            return
        self._tell("preparing", "looking for a Python with torch")
        threading.Thread(target=self._prepare, name="torch-venv", daemon=True).start()

    def status(self) -> Preparation:
        """How far it is: the ratio by the bytes that appeared on the disk meanwhile, whoever wrote them."""
        with self._lock:
            state, detail = self._state, self._detail
        if state != "preparing" or not self._used:
            return Preparation(state, float(state == "ready"), detail)
        grown = self._disk_used() - self._used
        return Preparation(state, min(0.99, max(0.0, grown / self._size.disk)), detail)

    def close(self) -> None:
        """Leave: what is half made stays marked and is made anew at the next start."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                posix.kill(self._process)

    @property
    def _size(self) -> Size:
        return CUDA_SIZE if self._cuda else CPU_SIZE

    def _prepare(self) -> None:
        try:
            other = self._elsewhere()
            if other:
                self._tell("off", f"not needed: {other}")
                return
            self._path.mkdir(parents=True, exist_ok=True)
            with posix.locked(self._path):  # a second exporter waits here, and then finds it made
                self._make()
        except OSError as error:
            self._tell("failed", f"{self._path}: {error.strerror}")

    def _make(self) -> None:
        mark = self._path / UNFINISHED
        if self._complete():
            self._tell("ready", str(self._path))
            return
        if mark.exists():
            for child in self._path.iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
        mark.touch()
        self._used = self._disk_used()
        self._tell("preparing", f"making {self._path}: {self._size}")
        log.info("no Python with torch found; making %s: %s", self._path, self._size)
        problem = self._run(self._creation())
        for number, command in enumerate(self._installations() if not problem else ()):
            if number:
                log.info("%s; trying plain pip, whose torch for Linux brings CUDA along: %s", problem, CUDA_SIZE)
            problem = self._run(command)
            if not problem:
                mark.unlink()
                self._tell("ready", str(self._path))
                log.info("torch is ready in %s", self._path)
                return
        self._tell("failed", problem)
        if not self._closed:
            log.warning("torch could not be installed, benchmarks stay skipped: %s", problem)

    def _complete(self) -> bool:
        python = self._path / PYTHON
        return not (self._path / UNFINISHED).exists() and bool(describe("", python, self._path).torch_version)

    def _creation(self) -> Sequence[str]:
        uv = shutil.which("uv")
        if uv:
            return [uv, "venv", "--seed", "--allow-existing", "--python", sys.executable, str(self._path)]
        return [sys.executable, "-m", "venv", str(self._path)]

    def _installations(self) -> list[Sequence[str]]:
        """What to try, in order. uv reads the driver; pip's own index has one build, which on Linux brings CUDA along."""
        uv, python = shutil.which("uv"), str(self._path / PYTHON)
        pip = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        commands: list[Sequence[str]] = []
        if uv:
            commands.append([uv, "pip", "install", "--python", python, "--torch-backend=auto", "torch"])
        elif not self._cuda and sys.platform == "linux":
            commands.append([*pip, "--index-url", CPU_INDEX, "--retries", "0", "--timeout", "10", self._requirement])
        return [*commands, [*pip, self._requirement]]

    def _run(self, command: Sequence[str]) -> str:
        """Run one command to its end; "" or what went wrong. Each line it prints becomes the detail."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with self._lock:
            if self._closed:
                return "the exporter left"
            process = self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environ,
                **posix.own_group(),
            )
        posix.lower_priority(process.pid)
        last: deque[str] = deque(maxlen=3)
        with process:
            for line in process.stdout or ():
                text = line[:500].decode("utf-8", "replace").strip()
                if text:
                    last.append(text)
                    self._tell("preparing", text)
        with self._lock:
            self._process = None
        return (
            ""
            if process.returncode == 0
            else f"{' '.join(command[:6])}: {posix.exit_text(process.returncode)}: " + (" / ".join(last))
        )

    def _tell(self, state: PreparationState, detail: str) -> None:
        with self._lock:
            self._state, self._detail = state, detail

    def _disk_used(self) -> int:
        with suppress(OSError):
            return shutil.disk_usage(self._path).used
        return 0
