"""Where does the exporter keep what must survive it, and is one running there now? A note in the folder says so."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

HISTORY = "history.sqlite"
NOTE = "exporter.json"
SYSTEMD = Path(
    "/var/lib/gpu-canary"
)  # StateDirectory= of deploy's unit; https://www.freedesktop.org/software/systemd/man/systemd.exec.html


@dataclass(frozen=True, slots=True)
class Exporter:
    """Who works with a storage folder: process id, and where it answers. Only an answer proves that it lives."""

    pid: int
    url: str
    storage: str


def default_storage(environ: Mapping[str, str]) -> Path:
    """systemd's StateDirectory=, else the state folder of the XDG base directories."""
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].partition(":")[0])
    return Path(environ.get("XDG_STATE_HOME") or home() / ".local" / "state") / "gpu-canary"


def home() -> Path:
    """The user's home; the root for a user who has none, as containers make them."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def candidates(path: str | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where an exporter may keep its things: the folder that was named, else the default ones."""
    return (Path(path).absolute(),) if path else (default_storage(environ), SYSTEMD)


def noted(storage: Path) -> Exporter | None:
    """The exporter whose note lies there; it may be gone. A damaged note counts as none."""
    try:
        data = json.loads((storage / NOTE).read_text(encoding="utf-8"))
        return Exporter(int(data["pid"]), str(data["url"]), str(storage))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def occupied(storage: Path, url: str) -> Iterator[None]:
    """Leave a note while we run; a disk that takes none (full, read-only) is no reason not to."""
    fresh = storage / f"{NOTE}.new"
    with suppress(OSError):
        fresh.write_text(json.dumps(asdict(Exporter(os.getpid(), url, str(storage)))), encoding="utf-8")
        fresh.replace(storage / NOTE)
    try:
        yield
    finally:
        found = noted(storage)
        if found is not None and found.pid == os.getpid():
            (storage / NOTE).unlink(missing_ok=True)
