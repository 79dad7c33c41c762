"""Is the unit one that systemd takes, tight, and still wide enough for a card and a worker?"""

from __future__ import annotations

import json
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from exporter.cli import parser
from exporter.storage import SYSTEMD
from exporter.world import claims

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "systemd" / "gpu-canary.service"
PROGRAM = "/opt/gpu-canary/bin/gpu-canary"
EXPOSURE = 25  # tenths of systemd's points: below 2.5 of 10; a plain service has 9.6

systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd: apt-get install systemd")


class Lines(dict[str, list[str]]):
    """Keys may come twice in a unit."""

    def __setitem__(self, key: str, value: list[str]) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def service() -> dict[str, list[str]]:
    unit = ConfigParser(strict=False, interpolation=None, dict_type=Lines, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation has it
    unit.read_string(UNIT.read_text())
    return {key: value.split("\n") for key, value in unit["Service"].items()}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that exists here; nothing is started."""
    path = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert PROGRAM in text
    path.write_text(text.replace(PROGRAM, shutil.which("true") or ""))
    return path


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, words)], capture_output=True, text=True, timeout=60
    )


@systemd
def test_systemd_takes_the_unit_without_a_word(installed: Path) -> None:
    ended = analyzed("verify", "--man=no", installed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@systemd
def test_systemd_finds_a_wrong_line(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("ProtectSystem=strict", "ProtectSystem=strickt"))
    assert "strickt" in analyzed("verify", "--man=no", installed).stderr


@systemd
def test_it_exposes_little_and_not_more_than_it_did(installed: Path) -> None:
    ended = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", installed)
    assert ended.returncode == 0, ended.stdout
    looser = installed.read_text().replace("ProtectSystem=strict", "").replace("NoNewPrivileges=yes", "")
    installed.write_text(looser.replace("SystemCallFilter", "#"))
    assert analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", installed).returncode == 1


@systemd
def test_what_torch_and_the_driver_need_is_allowed() -> None:
    """Calls that tests of a worker with torch were seen to make under strace, and that are not in every service's set."""
    told = analyzed("syscall-filter", "@system-service").stdout
    assert "@resources" in told  # sched_setaffinity, mbind: how torch and NUMA place threads
    assert service()["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert "MemoryDenyWriteExecute" not in service()  # CUDA and torch make code as they run
    assert "PrivateDevices" not in service()
    assert "char-nvidia-uvm rw" in service()["DeviceAllow"]


def test_xids_can_be_read() -> None:
    """exporter/world/xids.py reads /dev/kmsg: the device, the capability, and no ProtectKernelLogs= that takes both."""
    own = service()
    assert "/dev/kmsg r" in own["DeviceAllow"]
    assert own["CapabilityBoundingSet"] == own["AmbientCapabilities"] == ["CAP_SYSLOG"]
    assert "ProtectKernelLogs" not in own


def test_the_program_finds_what_the_unit_gives_it() -> None:
    own = service()
    assert own["ExecStart"] == [f"{PROGRAM} serve"]
    assert parser().parse_args(own["ExecStart"][0].split()[1:]).command == "serve"
    assert Path("/var/lib") / own["StateDirectory"][0] == SYSTEMD
    environment = dict(pair.split("=", 1) for line in own["Environment"] for pair in line.split())
    assert environment.items() >= {"PYTHONSAFEPATH": "1", "TORCH": "0", "HOME": str(SYSTEMD)}.items()
    assert own["ReadWritePaths"] == [f"-{claims.FOLDERS[0]}"]  # ProtectSystem=strict would keep it from taking turns
    assert own["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert json.loads(own["TimeoutStopSec"][0].removesuffix("s")) >= 15
