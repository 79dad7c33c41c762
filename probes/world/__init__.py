"""Everything outside the process that a probe may ask. `exporter/world/` opens these doors, one file each.

Doors return what the subject did (absent, refused, timed out, exit 139) as data, raise `Blind` when our own means are
missing, and `Aborted` when the run's cancel token fires. Absent is `None`, never an empty value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from probes.facts import Json
from probes.world.commands import Completed
from probes.world.files import Chunk, Disk, Stat
from probes.world.gpus import Gpus
from probes.world.host import Host
from probes.world.http import Request, Response
from probes.world.workers import Row

MIB = 1024 * 1024


class World(Protocol):
    """The doors. A twelfth needs an entry in DECISIONS.md (ten more would make a god object)."""

    @property
    def previous(self) -> Mapping[str, Json]:
        """What this check last asked to `Remember`, across restarts and blind runs; empty on the first run."""

    def now(self) -> float:
        """Unix time in seconds."""

    def read(self, path: str, offset: int = 0, limit: int = MIB) -> Chunk | None:
        """Up to `limit` bytes from `offset`, with the size and identity of the very file that was read."""

    def read_text(self, path: str, limit: int = MIB) -> str | None:
        """The file as UTF-8 (bad bytes replaced), at most `limit` bytes."""

    def list(self, path: str) -> tuple[str, ...] | None:
        """Sorted names in a directory; None when there is no such directory."""

    def stat(self, path: str) -> Stat | None:
        """Size, mode, owner and times of a path."""

    def disk(self, path: str) -> Disk | None:
        """Bytes and inodes of the filesystem that holds `path`; None when the path does not exist."""

    def environ(self) -> Mapping[str, str]:
        """The exporter's environment variables."""

    def command(self, argv: Sequence[str], timeout: float = 10.0) -> Completed | None:
        """Run a program without a shell; None when it is not installed. Output is cut at 64 KiB a stream."""

    def http(self, request: Request) -> Response:
        """One request on a new connection; what went wrong is `Response.error`, not an exception."""

    def gpus(self) -> Gpus:
        """The cards as NVML, the PCI bus and the sampler see them. SubjectFailed(gpu-driver-wedged) past the deadline."""

    def host(self) -> Host:
        """CPU, memory, disks, network and load of the host, and our own share of them."""

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        """Rows of `probes/workers/<name>.py` as the user's Python writes them.

        `interpreter`: a name from `interpreters:`, a path, `auto` (the newest with torch) or `self` (ours).
        Raises Blind(no_interpreter | no_torch), Deferred(preparing), SubjectFailed(worker-crashed, worker-late, ...).
        """
