"""What answers a probe in a real run? One RealWorld per run over the doors, which share state between runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.world import commands, files, mounts
from exporter.world.gpus import GpuDoor
from exporter.world.host import HostDoor
from exporter.world.mounts import OURS, Places
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import MIB, Json, Row
from probes.world.commands import Completed
from probes.world.files import Chunk, Disk, Stat
from probes.world.gpus import Gpus
from probes.world.host import Host
from probes.world.http import Request, Response


@dataclass(frozen=True)
class Doors:
    """The doors that keep something between runs: the NVML thread, CPU counters, known interpreters."""

    gpus: GpuDoor
    host: HostDoor
    launcher: Launcher
    places: Places = OURS

    def close(self) -> None:
        """End the workers and let go of the driver."""
        self.launcher.close()
        self.gpus.close()


class RealWorld:
    """`probes.world.World` for one run: every door honours the run's token."""

    def __init__(self, doors: Doors, token: Token, previous: Mapping[str, Json] | None = None) -> None:
        self._doors, self._token = doors, token
        self.previous: Mapping[str, Json] = previous or {}

    def now(self) -> float:
        return time.time()

    def read(self, path: str, offset: int = 0, limit: int = MIB) -> Chunk | None:
        return files.read(path, offset, limit, self._token)

    def read_text(self, path: str, limit: int = MIB) -> str | None:
        return files.read_text(path, limit, self._token)

    def list(self, path: str) -> tuple[str, ...] | None:
        return files.list_directory(path, self._token)

    def stat(self, path: str) -> Stat | None:
        return files.stat(path, self._token)

    def disk(self, path: str) -> Disk | None:
        return mounts.disk(path, self._doors.places, self._token)

    def environ(self) -> Mapping[str, str]:
        return files.environ()

    def command(self, argv: Sequence[str], timeout: float = 10.0) -> Completed | None:
        return commands.run(argv, timeout, self._token)

    def http(self, request: Request) -> Response:
        from exporter.world.http import fetch  # libcurl and its OpenSSL: 5 MiB that only those pay who ask a service

        return fetch(request, self._token)

    def gpus(self) -> Gpus:
        return self._doors.gpus.look(self._token)

    def host(self) -> Host:
        return self._doors.host.look()

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        return self._doors.launcher.rows(name, params, interpreter=interpreter, gpu=gpu, token=self._token)
