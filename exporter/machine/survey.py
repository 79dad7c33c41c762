"""What is on this machine that deserves a check? Facts for `discovery`, asked through the doors; nothing is started."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from exporter.interpreters import Interpreter
from exporter.world.mounts import OURS, Places, mounts
from probes.api import Aborted, Skipped, SubjectFailed, World
from probes.world.gpus import Gpus
from probes.world.http import Request, Response

HTTP_SECONDS = 0.25  # of one question; a server on the same machine that needs longer is not worth a delayed start
SURVEY_SECONDS = 0.3  # of all of them, which are asked at once
LISTEN = "0A"  # https://docs.kernel.org/networking/proc_net_tcp.html
MAX_APPS = 5
# Ourselves; and in a container the host, by the name that engines give it (compose: `extra_hosts`).
ADDRESSES = ("127.0.0.1", "host.docker.internal")
MAX_DISKS = 6
MODEL_ROOM = 8 * 1024**3  # bytes; disk_io and model_load write 1 GiB where four times that is free
ON_DISK = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "ntfs3", "fuseblk"})
# the loader's partition, images of programs, and what engines mount for their containers
NOT_WATCHED = ("/boot", "/efi", "/snap", "/run", "/var/lib/docker/", "/var/lib/containers/", "/var/lib/kubelet/")
MAX_ANSWER = 8 * 1024 * 1024  # Gradio's /config of a large app


@dataclass(frozen=True, slots=True)
class Server:
    """A model server that may listen on its usual port. `ask` identifies it, `check` is the cheap path to watch."""

    name: str
    port: int
    ask: str
    check: str
    known_by: Callable[[Any, Response], bool]
    method: str = "GET"  # of the check
    address: str = "127.0.0.1"


def _says(*path: str) -> Callable[[Any, Response], bool]:
    def known(answer: Any, response: Response) -> bool:
        for key in path:
            if not isinstance(answer, dict) or key not in answer:
                return False
            answer = answer[key]
        return True

    return known


def _owned_by_vllm(answer: Any, response: Response) -> bool:
    models = answer.get("data") if isinstance(answer, dict) else None
    return isinstance(models, list) and any(isinstance(m, dict) and m.get("owned_by") == "vllm" for m in models)


def _llama(answer: Any, response: Response) -> bool:
    return response.headers.get("server") == "llama.cpp" or _says("default_generation_settings")(answer, response)


# Anyone may listen on 7860, 8000 and 8080: a server is known by what it answers, never by its port.
SERVERS = (
    # https://github.com/ollama/ollama/blob/main/docs/api.md#version
    Server("ollama", 11434, "/api/version", "/api/version", _says("version")),
    # https://docs.comfy.org/development/comfyui-server/comms_routes; its answer holds argv, so /prompt is watched
    Server("comfyui", 8188, "/system_stats", "/prompt", _says("system", "python_version")),
    # https://github.com/AUTOMATIC1111/stable-diffusion-webui is a Gradio app, and so are most others on this port;
    # its page carries the whole user interface, often more than a MiB
    Server("gradio", 7860, "/config", "/", _says("components"), method="HEAD"),
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    Server("vllm", 8000, "/v1/models", "/health", _owned_by_vllm),
    # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    Server("llama.cpp", 8080, "/props", "/health", _llama),
)


@dataclass(frozen=True, slots=True)
class App:
    """The folder of an application that a found interpreter belongs to; paths are "" where there is no such file."""

    interpreter: str
    folder: str
    requirements: str = ""
    dotenv: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What this machine has. `directories` (name to path) holds one directory for each filesystem.

    `cards` is how many NVIDIA cards there are where driver and bus agree on it, else 0. `torch`: some Python has it, or
    one is being prepared. `models`: the first directory of models that there is room to write to, "" without one.
    """

    gpu: bool = False
    cards: int = 0
    interpreters: tuple[Interpreter, ...] = ()
    directories: Mapping[str, str] = field(default_factory=dict)
    apps: tuple[App, ...] = ()
    servers: tuple[Server, ...] = ()
    models: str = ""
    torch: bool = True


def look_around(world: World, interpreters: Sequence[Interpreter], home: Path, places: Places = OURS) -> Survey:
    """Look around. The world's token bounds it; what does not answer in time counts as absent."""
    with_torch = tuple(i for i in interpreters if i.torch_version and _writable(i.name, i.path))
    apps = tuple(_apps(world, with_torch, home))
    contained = _contained(world)
    directories = _of_host(world, places) if places.mounted else _directories(world, home, apps)
    if contained and not places.mounted and _sealed(world):
        directories.pop("root", None)
    servers = _servers(world, places, ADDRESSES if contained else ADDRESSES[:1])
    models = "" if places.mounted else _models(world, home, apps)
    return Survey(
        *_gpus(world), with_torch, directories, apps, servers, models
    )  # the driver last: it may use up the time


def _writable(name: str, path: str) -> bool:
    """Can a config hold it? File names may hold bytes that are no text, and `auto` and `self` mean something else."""
    return name not in ("auto", "self") and name.isprintable() and path.isprintable()


def _gpus(world: World) -> tuple[bool, int]:
    """Is there an NVIDIA card, and how many?"""
    try:
        gpus: Gpus = world.gpus()
    except (SubjectFailed, Aborted):
        return True, 0  # a driver that hangs has a card to hang on
    except Skipped:
        return False, 0
    # A library without driver and card is a package that somebody installed; where the bus is hidden, nobody can know.
    silent = gpus.library and (gpus.error not in ("", "driver_not_loaded") or not gpus.bus)
    agreed = len(gpus.gpus) if len(gpus.gpus) == len(gpus.nvidia) or not gpus.bus else 0
    return bool(gpus.gpus or gpus.nvidia or silent), agreed


def _directories(world: World, home: Path, apps: Sequence[App]) -> dict[str, str]:
    """The root, the home, and the folders where models pile up, where these are on filesystems of their own."""
    wanted = {"root": "/", "home": str(home), **_model_places(world, home, apps)}
    found: dict[str, str] = {}
    devices: set[str] = set()
    for name, path in wanted.items():
        device = _device(world, path)
        if device and device not in devices and _writable(name, path):
            devices.add(device)
            found[name] = path
    return found


def _model_places(world: World, home: Path, apps: Sequence[App]) -> dict[str, str]:
    """Where models pile up, if there are any."""
    environ = world.environ()
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return {
        "huggingface": environ.get("HF_HUB_CACHE") or environ.get("HF_HOME") or str(cache / "huggingface"),
        "torch": environ.get("TORCH_HOME") or str(cache / "torch"),
        "ollama": environ.get("OLLAMA_MODELS") or str(home / ".ollama/models"),
        **{f"{app.interpreter}-models": f"{app.folder}/models" for app in apps},
    }


def _models(world: World, home: Path, apps: Sequence[App]) -> str:
    """The first of them, an application's own before caches, whose disk the benchmarks may write a model to."""
    places = _model_places(world, home, apps)
    for name in sorted(places, key=lambda name: not name.endswith("-models")):
        try:
            stat, disk = world.stat(places[name]), world.disk(places[name])
        except (Skipped, Aborted, ValueError, OSError):
            continue
        writable = stat is not None and stat.is_dir and (_us() in (0, stat.uid) or stat.mode & 0o002)
        room = disk is not None and not disk.read_only and disk.free >= MODEL_ROOM
        if writable and room and _writable(name, places[name]):
            return places[name]
    return ""


def _us() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _contained(world: World) -> bool:
    try:
        return bool(world.host().container)
    except Skipped:
        return False


def _sealed(world: World) -> bool:
    """Is the root read-only? A container's is meant to be so, and holds nothing that could fill up."""
    try:
        disk = world.disk("/")
    except (Skipped, Aborted, OSError):
        return True
    return disk is None or disk.read_only


def _of_host(world: World, places: Places) -> dict[str, str]:
    """The filesystems on the host's own disks: its root, and what is mounted below it to be written to."""
    try:
        text = world.read_text(places.of_init("mountinfo")) or ""
    except (Skipped, Aborted, OSError):
        text = ""
    found: dict[str, str] = {}
    devices: set[str] = set()
    for mount in sorted(mounts(text), key=lambda mount: (mount.point.count("/"), len(mount.point), mount.point)):
        written = mount.kind in ON_DISK and not mount.read_only and not mount.point.startswith(NOT_WATCHED)
        name = mount.point.strip("/").replace("/", "-") or "root"
        if written and mount.device not in devices and _writable(name, mount.point) and len(found) < MAX_DISKS:
            devices.add(mount.device)
            found[name] = mount.point
    return found or {"root": "/"}


def _device(world: World, path: str) -> str:
    try:
        stat = world.stat(path)
    except (Skipped, Aborted, ValueError, OSError):
        return ""  # a hung or forbidden mount is for a configured check to tell
    return stat.identity.partition(":")[0] if stat is not None and stat.is_dir else ""


def _apps(world: World, interpreters: Sequence[Interpreter], home: Path) -> Iterator[App]:
    """APP/venv/bin/python belongs to the application APP, where that holds requirements or a .env."""
    own = Path(__file__).parent.parent.parent
    folders: set[Path] = set()
    for interpreter in interpreters:
        folder = Path(interpreter.path).parent.parent.parent
        if folder in folders or folder in (own, home, Path("/")) or len(folders) == MAX_APPS:
            continue
        requirements, dotenv = (
            str(folder / name) if _is_file(world, folder / name) else "" for name in ("requirements.txt", ".env")
        )
        if requirements or dotenv:
            folders.add(folder)
            yield App(interpreter.name, str(folder), requirements, dotenv)


def _is_file(world: World, path: Path) -> bool:
    try:
        stat = world.stat(str(path))
    except (Skipped, Aborted, ValueError, OSError):
        return False
    return stat is not None and not stat.is_dir


def _servers(world: World, places: Places, addresses: Sequence[str]) -> tuple[Server, ...]:
    answered: set[Server] = set()
    asked = [
        replace(server, address=address)
        for address in addresses
        for listening in (_listening(world, "/proc/net/" if address == ADDRESSES[0] else places.of_init("net/")),)
        for server in SERVERS
        if listening is None or server.port in listening
    ]
    threads = [threading.Thread(target=_ask, args=(world, server, answered), daemon=True) for server in asked]
    ends = time.monotonic() + SURVEY_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    known = frozenset(answered)
    best = {server.name: server for server in reversed(asked) if server in known}  # our own loopback before the host
    return tuple(best[server.name] for server in SERVERS if server.name in best)


def _listening(world: World, folder: str) -> set[int] | None:
    """Ports on which somebody listens, as Linux tells; None where it does not. A port nobody holds needs no request."""
    try:
        tables = [world.read_text(f"{folder}{table}") for table in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in (table or "").splitlines()[1:]]
        ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}
    except (Skipped, Aborted, ValueError, IndexError, OSError):
        return None
    return ports if tables[0] is not None else None


def _ask(world: World, server: Server, answered: set[Server]) -> None:
    url = f"http://{server.address}:{server.port}{server.ask}"
    try:
        response = world.http(Request(url, timeout=HTTP_SECONDS, limit=MAX_ANSWER))
    except (Skipped, Aborted):
        return
    try:
        answer = json.loads(response.body)
    except (ValueError, RecursionError):
        answer = None
    if response.error is None and response.status and server.known_by(answer, response):
        answered.add(server)
