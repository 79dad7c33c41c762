"""Does the host door read the host as it is, also from inside a container and from a /proc mounted elsewhere?"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from exporter.world.host import HostDoor
from probes.world.host import Limits, NetIo

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="what is planted here is a /proc")
OS_RELEASE = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nVERSION_ID="24.04"\n'


@pytest.fixture(autouse=True)
def proc_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/proc")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


MACHINE = {
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks
    "proc/stat": "cpu  1000 100 300 8000 200 10 20 5 400 50\ncpu0 1000 100 300 8000 200 10 20 5 400 50\nbtime 1700000000\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nBuffers: 0 kB\nCached: 0 kB\n"
    "Shmem: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 80 kB\nSwapFree: 50 kB\n",
    "proc/vmstat": "pswpin 0\npswpout 0\n",
    "proc/diskstats": "",
    "proc/net/dev": "header\nheader\n eth7: 7 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n",
}


def door_at(root: Path, files: Mapping[str, str] | None = None, own_cgroup: str = "0::/\n") -> HostDoor:
    """The door of another machine, whose /proc knows us as a container's host knows it: under a pid of its own."""
    ours = f"proc/{os.getpid()}"
    for name, text in {**MACHINE, f"{ours}/cgroup": own_cgroup, **(files or {})}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("stat", "statm"):
        (root / ours / name).symlink_to(f"/proc/{os.getpid()}/{name}")
    (root / "proc/self").symlink_to(str(os.getpid()))
    return HostDoor(proc=str(root / "proc"), root=str(root))


def test_a_look_at_this_machine_can_be_true() -> None:
    host = HostDoor().look()
    assert host.os == platform.system().lower()
    assert host.cpus >= 1
    assert host.cpu_seconds["idle"] > 0
    assert 0 < host.memory_available < host.memory_total
    assert 0 < host.boot_time < time.time()
    assert host.own is not None
    assert 5e6 < host.own.resident_bytes < 5e9
    assert host.own.started <= time.time()


def test_our_own_cpu_seconds_count_what_we_burn() -> None:
    door = HostDoor()
    before, burnt = door.look().own, time.process_time()
    while time.process_time() - burnt < 0.1:
        pass
    after = door.look().own
    assert before is not None
    assert after is not None
    assert after.cpu_seconds - before.cpu_seconds >= 0.08


def test_a_proc_mounted_elsewhere_is_read_and_guests_are_not_counted_twice(tmp_path: Path) -> None:
    host = door_at(tmp_path).look()
    assert sum(host.cpu_seconds.values()) == pytest.approx(9635 / os.sysconf("SC_CLK_TCK"))
    assert (host.memory_total, host.memory_available, host.boot_time) == (1024000, 614400, 1700000000)
    assert (host.swap_total, host.swap_used) == (81920, 30720)
    assert (host.networks["eth7"].received_bytes, host.networks["eth7"].sent_bytes) == (7, 9)
    assert host.own is not None
    assert host.own.resident_bytes > 5e6


def test_partitions_are_not_counted_beside_their_disk(tmp_path: Path) -> None:
    line = "{} {} {} 1 0 10 0 1 0 20 0 0 0 0 0 0 0 0 0 0\n"
    stats = line.format(259, 0, "nvme0n1") + line.format(259, 1, "nvme0n1p1") + line.format(253, 0, "dm-0")
    for disk in ("nvme0n1", "dm-0"):
        (tmp_path / "sys/block" / disk).mkdir(parents=True)
    disks = door_at(tmp_path, {"proc/diskstats": stats}).look().disks
    assert {name: (io.read_bytes, io.written_bytes) for name, io in disks.items()} == {
        "nvme0n1": (5120, 10240),
        "dm-0": (5120, 10240),
    }


@pytest.mark.parametrize(
    ("files", "engine"),
    [
        ({}, ""),
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n'}, "podman"),
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"run/systemd/container": "wsl\n"}, ""),
        ({"proc/1/cgroup": "0::/init.scope\n"}, ""),
        ({"proc/1/cgroup": "0::/\n"}, ""),
        ({"proc/1/cgroup": "12:pids:/docker/0123abcd\n"}, "docker"),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-0123.scope\n"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/lxc.payload.media/init.scope\n"}, "lxc"),
        ({"proc/1/cgroup": "\x00\xff junk"}, ""),
    ],
)
def test_the_container_engine_is_told_by_its_marks(tmp_path: Path, files: Mapping[str, str], engine: str) -> None:
    assert door_at(tmp_path, files).look().container == engine


def test_kubernetes_is_told_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert door_at(tmp_path).look().container == "kubernetes"


@pytest.mark.parametrize(
    ("release", "wsl"),
    [("5.15.90.1-microsoft-standard-WSL2", True), ("4.4.0-19041-Microsoft", True), ("6.1.0-18-amd64", False)],
)
def test_wsl_is_told_by_its_kernel(monkeypatch: pytest.MonkeyPatch, release: str, wsl: bool) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert HostDoor().look().wsl is wsl


@pytest.mark.parametrize(
    ("text", "distribution"),
    [(OS_RELEASE, "ubuntu 24.04"), ("ID=arch\n", "arch"), ("\x00junk=\n==\n", ""), ("ID='debian'\r\n", "debian")],
)
def test_the_distribution_is_read_from_os_release(tmp_path: Path, text: str, distribution: str) -> None:
    assert door_at(tmp_path, {"etc/os-release": text}).look().distribution == distribution


def limits(tmp_path: Path, files: Mapping[str, str], own: str = "0::/\n") -> Limits | None:
    marks = {".dockerenv": "", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n"}
    return door_at(tmp_path, {**marks, **files}, own).look().limits


def test_a_containers_limits_are_read_without_its_page_cache(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory.max": "8589934592\n",
        "sys/fs/cgroup/memory.current": "5000000000\n",
        "sys/fs/cgroup/memory.stat": "anon 1000\ninactive_file 3000000000\nactive_file 9\n",
        "sys/fs/cgroup/cpu.max": "250000 100000\n",
    }
    assert limits(tmp_path, files) == Limits(8589934592, 2000000000, 2.5)


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/pod/memory.max": "1000\n",
        "sys/fs/cgroup/pod/memory.current": "900\n",
        "sys/fs/cgroup/pod/app/memory.max": "max\n",
        "sys/fs/cgroup/pod/app/memory.current": "100\n",
        "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
    }
    assert limits(tmp_path, files, "0::/pod/app\n") == Limits(1000, 900, None)


def test_a_container_without_limits_has_none(tmp_path: Path) -> None:
    assert limits(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"}) == Limits(None, None, None)


def test_junk_in_a_cgroup_is_no_limit(tmp_path: Path) -> None:
    junk = {"memory.max": "-3\x00\n", "cpu.max": "a b c\n", "memory.stat": "x\n"}
    assert limits(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in junk.items()}) == Limits(None, None, None)


def test_outside_a_container_nobody_asks_for_limits(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/cgroup.controllers": "memory\n"}
    assert door_at(tmp_path, files).look().limits is None


def test_cgroup_v1_has_no_limits_that_we_read(tmp_path: Path) -> None:
    assert door_at(tmp_path, {".dockerenv": ""}, "4:memory:/docker/1\n").look().limits is None


def test_with_the_hosts_root_mounted_the_host_is_what_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "hosts/etc").mkdir(parents=True)
    (tmp_path / "hosts/etc/os-release").write_text(OS_RELEASE)
    own = {"run/.containerenv": "", "etc/os-release": "ID=debian\n", "proc/1/net/dev": HOSTS_NETWORKS, **LIMITED}
    inside = door_at(tmp_path, own)
    outside = HostDoor(str(tmp_path / "proc"), str(tmp_path), rootfs=str(tmp_path / "hosts"))
    assert inside.look().limits is not None
    host = outside.look()
    assert (host.distribution, host.container, host.limits) == ("ubuntu 24.04", "podman", None)
    assert host.networks == {"enp5s0": NetIo(70, 90)}  # not eth7, which is the container's own


def test_whoever_is_given_the_hosts_root_is_in_a_container_whatever_its_marks(tmp_path: Path) -> None:
    door_at(tmp_path)
    assert HostDoor(str(tmp_path / "proc"), str(tmp_path), rootfs="/host").look().container == "container"


@pytest.mark.parametrize(
    "junk", ["", "h\nh\n", "h\nh\n eth0: x\n", "h\nh\n eth0: 1 2\n", "h\nh\n: 1 0 0 0 0 0 0 0 9\n"]
)
def test_junk_for_the_hosts_networks_is_no_network(tmp_path: Path, junk: str) -> None:
    found = door_at(tmp_path, {"proc/1/net/dev": junk}).look().networks
    assert set(found) <= {"eth7"}


HOSTS_NETWORKS = "header\nheader\n enp5s0: 70 0 0 0 0 0 0 0 90 0 0 0 0 0 0 0\n"
LIMITED = {"sys/fs/cgroup/cgroup.controllers": "", "sys/fs/cgroup/memory.max": "1000\n"}
