"""Does an exporter in a container see the host's disks as the host has them?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter import registry
from exporter.machine.discovery import discover
from exporter.machine.survey import look_around
from exporter.world import files
from exporter.world.mounts import Mount, Places, disk, mounts
from exporter.world.token import Token
from probes.testing import RecordedWorld

TABLE = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
31 22 259:1 / /boot/efi rw,relatime shared:30 - vfat /dev/nvme0n1p1 rw
32 22 7:1 / /snap/core/1 ro,nodev shared:31 - squashfs /dev/loop1 ro
33 22 8:1 / /mnt/my\\040models rw,relatime shared:33 - xfs /dev/sda1 rw
34 22 8:2 / /srv ro,relatime shared:34 - ext4 /dev/sda2 rw
35 22 259:2 /var/lib /var/lib/again rw,relatime shared:35 - ext4 /dev/nvme0n1p2 rw
36 22 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
37 22 0:61 / /net rw - nfs4 server:/x rw
38 22 8:3 / /media/broken rw - ext4 /dev/sda3 ro
"""
HOST = Places("/host/proc", "/host/root")


def test_a_mount_table_is_read_with_its_escapes_and_both_kinds_of_read_only() -> None:
    found = {mount.point: mount for mount in mounts(TABLE)}
    assert found["/mnt/my models"] == Mount("8:1", "/mnt/my models", "xfs", "/dev/sda1", False)
    assert [point for point, mount in found.items() if mount.read_only] == ["/snap/core/1", "/srv", "/media/broken"]


@pytest.mark.parametrize("junk", ["", "\n\n", "1 2 3", " - ", "a b c d e f - ", "1 2 3 4 5 6 - ext4", "\0" * 99])
def test_junk_in_a_mount_table_is_no_mount(junk: str) -> None:
    assert list(mounts(junk)) == []


def host(tmp_path: Path, table: str = TABLE) -> Places:
    """A host whose /proc and root stand below a folder."""
    for folder in ("proc/1", "root/srv", "root/mnt/my models"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/1/mountinfo").write_text(table)
    return Places(str(tmp_path / "proc"), str(tmp_path / "root"))


def test_a_disk_is_measured_where_the_host_is_mounted_and_judged_by_the_hosts_table(tmp_path: Path) -> None:
    places, token = host(tmp_path), Token(10)
    own = files.disk(str(tmp_path), token)
    root, srv = disk("/", places, token), disk("/srv", places, token)
    assert own
    assert root
    assert srv
    assert (root.total, root.read_only) == (own.total, False)
    assert (srv.total, srv.read_only) == (own.total, True)
    assert disk("/nowhere", places, token) is None
    inner = disk("/mnt/my models", places, token)
    assert inner
    assert not inner.read_only


def test_without_the_hosts_table_nobody_says_read_only(tmp_path: Path) -> None:
    places = host(tmp_path)
    os.unlink(tmp_path / "proc/1/mountinfo")
    found = disk("/srv", places, Token(10))
    assert found
    assert not found.read_only


def test_of_two_mounts_on_one_point_the_later_one_counts(tmp_path: Path) -> None:
    later = TABLE + "40 34 8:9 / /srv rw,relatime shared:40 - ext4 /dev/sda9 rw\n"
    found = disk("/srv", host(tmp_path, later), Token(10))
    assert found
    assert not found.read_only


def inside(**more: object) -> RecordedWorld:
    world = {"host": {"container": "docker"}, "files": {"/host/proc/1/mountinfo": TABLE}, "gpus": {}, **more}
    return RecordedWorld(world)  # type: ignore[arg-type]


def test_discovery_in_a_container_watches_the_hosts_own_disks() -> None:
    found = look_around(inside(), (), Path("/var/lib/gpu-canary"), HOST)
    assert found.directories == {"root": "/", "mnt-my models": "/mnt/my models"}
    checks = discover(found, registry.load().probes)["checks"]
    assert isinstance(checks, list)
    assert {"probe": "disk", "name": "disk:mnt-my-models", "params": {"path": "/mnt/my models"}} in checks


def test_discovery_in_a_container_finds_services_through_the_hosts_gateway() -> None:
    asked = "GET http://host.docker.internal:11434/api/version"
    found = look_around(inside(http={asked: {"status": 200, "body": '{"version": "0.5"}'}}), (), Path("/"), HOST)
    checks = discover(found, registry.load().probes)["checks"]
    assert isinstance(checks, list)
    assert {
        "probe": "http",
        "name": "http:ollama",
        "params": {"url": "http://host.docker.internal:11434/api/version"},
    } in checks


def test_discovery_asks_the_gateway_only_where_the_host_listens_and_its_own_loopback_first() -> None:
    tcp = "header\n 0: 00000000:2CAA 00000000:0000 0A 0 0 0\n"  # 0x2CAA is 11434
    asked = {
        f"GET http://{where}:11434/api/version": {"status": 200, "body": '{"version": "0.5"}'}
        for where in ("127.0.0.1", "host.docker.internal")
    }
    tables = {"/host/proc/1/mountinfo": TABLE, "/proc/net/tcp": tcp, "/host/proc/1/net/tcp": "header\n"}
    (found,) = look_around(inside(http=asked, files=tables), (), Path("/"), HOST).servers
    assert found.address == "127.0.0.1"
    nobody = {**tables, "/proc/net/tcp": "header\n"}
    assert look_around(inside(http=asked, files=nobody), (), Path("/"), HOST).servers == ()


@pytest.mark.parametrize(("read_only", "watched"), [(True, False), (False, True)])
def test_a_containers_read_only_root_is_not_watched(read_only: bool, watched: bool) -> None:
    class Sealed(RecordedWorld):
        def stat(self, path: str) -> files.Stat | None:
            return files.Stat(0, 0o755, 0, 0.0, is_dir=True, identity="1:2") if path == "/" else None

    disks = {"/": {"free": 1, "total": 2, "read_only": read_only}}
    world = Sealed({"host": {"container": "docker"}, "gpus": {}, "disks": disks})
    assert ("root" in look_around(world, (), Path("/nowhere")).directories) is watched
