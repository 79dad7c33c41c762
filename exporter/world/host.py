"""What does the operating system say about the host, and about us? The only importer of psutil."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from probes.world.host import DiskIo, Host, Limits, NetIo, Process

# The modes that add up to all time: the kernel counts guest time within user, Windows counts interrupts within system.
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
MARKS = {"run/.containerenv": "podman", ".dockerenv": "docker"}  # files that an engine puts into each container's root
CGROUPS = {"kubepods": "kubernetes", "libpod": "podman", "docker": "docker", "containerd": "containerd", "lxc": "lxc"}


class HostDoor:
    """Looks at the host. What never changes while we run is read once.

    `proc` is where a container finds the host's mounted; `root` holds etc, run and sys. `rootfs` is the host's root, where
    a container has it mounted: then the host is what we look at, and the limits of our own container are none of it.
    """

    def __init__(self, proc: str = "/proc", root: str = "/", rootfs: str = "") -> None:
        self._proc, self._root, self._hosts = Path(proc), Path(root), bool(rootfs)
        psutil.PROCFS_PATH = proc
        # A mounted /proc counts pids in its own namespace, and its `self` says which one is ours there.
        seen_as = self._proc / "self"
        self._own = psutil.Process(int(os.readlink(seen_as)) if seen_as.is_symlink() else None)
        self._release = platform.release()
        self._container = _container(self._root, self._proc, os.environ) or ("container" if rootfs else "")
        self._distribution = _distribution(Path(rootfs) if rootfs else self._root)

    def look(self) -> Host:
        """One look: a few files of /proc, well under a millisecond each, none of which can hang."""
        memory, swap, cpu = psutil.virtual_memory(), psutil.swap_memory(), psutil.cpu_times()
        return Host(
            os=platform.system().lower(),
            release=self._release,
            architecture=platform.machine(),
            distribution=self._distribution,
            python=platform.python_version(),
            container=self._container,
            wsl="microsoft" in self._release.lower(),
            cpus=psutil.cpu_count() or 0,
            cpu_seconds={mode: getattr(cpu, mode) for mode in MODES if hasattr(cpu, mode)},
            memory_total=memory.total,
            memory_available=memory.available,
            swap_total=swap.total,
            swap_used=swap.used,
            load=os.getloadavg() if hasattr(os, "getloadavg") else None,
            boot_time=psutil.boot_time(),
            disks=self._disks(),
            networks=self._networks(),
            limits=_limits(self._root / "sys/fs/cgroup", self._proc) if self._container and not self._hosts else None,
            own=self._process(),
        )

    def _disks(self) -> Mapping[str, DiskIo]:
        """Whole disks: the kernel lists partitions beside the disks they lie on, and would count their bytes twice."""
        blocks = self._root / "sys/block"
        with suppress(NotImplementedError):  # no /proc/diskstats, as in some sandboxes
            return {
                name: DiskIo(io.read_bytes, io.write_bytes)
                for name, io in psutil.disk_io_counters(perdisk=True).items()
                if not blocks.is_dir() or (blocks / name.replace("/", "!")).exists()
            }
        return {}

    def _networks(self) -> Mapping[str, NetIo]:
        """`net` leads to the network of whoever asks; the host's is that of its first process."""
        of_init = _text(self._proc / "1/net/dev") if str(self._proc) != "/proc" else ""
        if of_init:
            return dict(_interfaces(of_init))
        return {name: NetIo(io.bytes_recv, io.bytes_sent) for name, io in psutil.net_io_counters(pernic=True).items()}

    def _process(self) -> Process:
        with self._own.oneshot():
            times = self._own.cpu_times()
            return Process(self._own.memory_info().rss, times.user + times.system, self._own.create_time())


def _container(root: Path, proc: Path, environ: Mapping[str, str]) -> str:
    """Which container engine are we in? "" when in none."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    for mark, engine in MARKS.items():
        if (root / mark).exists():
            return engine
    # https://systemd.io/CONTAINER_INTERFACE/ : engines set $container, and systemd in a container leaves its name here; it
    # calls WSL one. Podman's mark is in /run, which a read-only container has empty.
    named = environ.get("container") or _text(root / "run/systemd/container").strip()
    if named:
        return "" if named == "wsl" else named
    groups = _text(proc / "1/cgroup")
    return next((engine for word, engine in CGROUPS.items() if f"/{word}" in groups), "")


def _distribution(root: Path) -> str:
    """`debian 12`, from os-release; "" where there is none. https://www.freedesktop.org/software/systemd/man/os-release.html"""
    text = _text(root / "etc/os-release") or _text(root / "usr/lib/os-release")
    pairs = (line.partition("=") for line in text.splitlines())
    facts = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    if not text and platform.system() == "Darwin":
        facts = {"ID": "macos", "VERSION_ID": platform.mac_ver()[0]}
    return f"{facts.get('ID', '')} {facts.get('VERSION_ID', '')}".strip()


def _interfaces(text: str) -> Iterator[tuple[str, NetIo]]:
    """https://man7.org/linux/man-pages/man5/proc_pid_net.5.html: received bytes first, sent ones ninth."""
    for line in text.splitlines()[2:]:
        name, _, numbers = line.rpartition(":")
        counted = numbers.split()
        if name and len(counted) >= 9 and counted[0].isdecimal() and counted[8].isdecimal():
            yield name.strip(), NetIo(int(counted[0]), int(counted[8]))


def _limits(groups: Path, proc: Path) -> Limits | None:
    """The tightest limits from our cgroup up to the root; None without cgroup v2.

    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    unified = [
        line.removeprefix("0::/") for line in _text(proc / "self/cgroup").splitlines() if line.startswith("0::/")
    ]
    if not unified or not (groups / "cgroup.controllers").exists():
        return None
    # Seen from a cgroup namespace the path leads nowhere or to the root; its limits are then at the root.
    own = groups / unified[0]
    levels = [folder for folder in (own, *own.parents) if folder.is_relative_to(groups)]
    memory = [(int(text), folder) for folder in levels if (text := _text(folder / "memory.max").strip()).isdigit()]
    shares = [_text(folder / "cpu.max").split() for folder in levels]
    cpus = [int(s[0]) / int(s[1]) for s in shares if len(s) == 2 and s[0].isdigit() and s[1].isdigit() and int(s[1])]
    tightest, folder = min(memory, default=(None, groups))
    return Limits(tightest, None if tightest is None else _charged(folder), min(cpus, default=None))


def _charged(folder: Path) -> int | None:
    """Bytes a cgroup cannot give back: all it is charged for but the page cache of files it no longer uses."""
    current = _text(folder / "memory.current").strip()
    stat = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    cache = stat.get("inactive_file", "0")
    return max(0, int(current) - int(cache)) if current.isdigit() and cache.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
