"""Is the disk that this directory lives on about to fill up?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import GIB, Bytes, Example, Fact, Metric, Params, Probe, Rule, World


class DiskParams(Params):
    path: str = Field("/", description="Directory whose filesystem is checked.")
    minimum_free: Bytes = Field(5 * GIB, description="Free space below which `disk-low` fires.")
    minimum_free_inodes: float = Field(
        0.01, ge=0, le=1, description="Share of free inodes below which `disk-inodes-low` fires."
    )


FREE = Metric("free_bytes", "Space an ordinary user can still write.", ("path",), better="higher")
TOTAL = Metric("total_bytes", "Size of the filesystem.", ("path",))
FREE_INODES = Metric("free_inodes_ratio", "Share of inodes that are free.", ("path",), better="higher")
LOW = Rule(
    "disk-low",
    "warning",
    "The filesystem is nearly full.",
    "1. `du -xh --max-depth=2 PATH | sort -h | tail` shows what is large.\n"
    "2. `hf cache prune`, `pip cache purge` and `docker image prune` free the usual suspects; `hf cache ls` lists models.\n"
    "3. Move the model cache: set `HF_HOME` to a larger disk.",
)
INODES_LOW = Rule(
    "disk-inodes-low",
    "warning",
    "The filesystem is nearly out of inodes: new files will fail although bytes are free.",
    "1. `df -i PATH` confirms it.\n2. `du --inodes -x PATH | sort -n | tail` shows the directories with the most files.",
)
READ_ONLY = Rule(
    "disk-read-only",
    "critical",
    "The filesystem is mounted read-only.",
    "1. `dmesg | tail` tells why the kernel did it.\n2. `findmnt -T PATH` shows the mount.\n"
    "3. After an error save what matters, then `umount` and `fsck` it: to write on would damage more.\n"
    "4. Without one, `mount -o remount,rw PATH`.",
)
ABSENT = Rule(
    "disk-absent",
    "critical",
    "The directory does not exist: the disk is not mounted, or the path is wrong.",
    "1. `findmnt --fstab` and `mount -a` bring back a disk that is not mounted.\n2. `mkdir -p PATH` if it never existed.",
)


def run(params: DiskParams, world: World) -> Iterator[Fact]:
    disk = world.disk(params.path)
    if disk is None:
        yield ABSENT("no such directory", subject=params.path)
        return
    if disk.total <= 0 or not 0 <= disk.free <= disk.total:
        raise ValueError(f"{params.path}: {disk.free} free of {disk.total} bytes cannot be true")
    yield FREE(disk.free, path=params.path)
    yield TOTAL(disk.total, path=params.path)
    if disk.free < params.minimum_free:
        yield LOW(f"{disk.free / GIB:.1f} GiB free of {disk.total / GIB:.1f} GiB", subject=params.path)
    if disk.free_inodes is not None and disk.total_inodes:
        ratio = disk.free_inodes / disk.total_inodes
        yield FREE_INODES(ratio, path=params.path)
        if ratio < params.minimum_free_inodes:
            yield INODES_LOW(f"{disk.free_inodes} of {disk.total_inodes} inodes free", subject=params.path)
    if disk.read_only:
        yield READ_ONLY("mounted read-only", subject=params.path)


PROBE = Probe(
    "disk",
    DiskParams,
    run,
    metrics=(FREE, TOTAL, FREE_INODES),
    rules=(LOW, INODES_LOW, READ_ONLY, ABSENT),
    every="1m",
    timeout="10s",
    examples=(
        Example(
            "a model disk with room",
            {"path": "/models", "minimum_free": "50GiB"},
            {"disks": {"/models": {"free": 200 * GIB, "total": 1000 * GIB, "free_inodes": 900, "total_inodes": 1000}}},
            (FREE(200 * GIB, path="/models"), TOTAL(1000 * GIB, path="/models"), FREE_INODES(0.9, path="/models")),
        ),
        Example(
            "2 GiB left, no inodes, and read-only on top",
            {"path": "/models"},
            {
                "disks": {
                    "/models": {
                        "free": 2 * GIB,
                        "total": 1000 * GIB,
                        "free_inodes": 1,
                        "total_inodes": 1000,
                        "read_only": True,
                    }
                }
            },
            (
                FREE(2 * GIB, path="/models"),
                TOTAL(1000 * GIB, path="/models"),
                LOW("2.0 GiB free of 1000.0 GiB", subject="/models"),
                FREE_INODES(0.001, path="/models"),
                INODES_LOW("1 of 1000 inodes free", subject="/models"),
                READ_ONLY("mounted read-only", subject="/models"),
            ),
        ),
        Example(
            "a disk that was never mounted", {"path": "/models"}, {}, (ABSENT("no such directory", subject="/models"),)
        ),
    ),
)
