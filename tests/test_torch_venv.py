"""Is the environment with torch made in the background, once, visibly, and never half?"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.interpreters import PYTHON, UNFINISHED, Preparation, find
from exporter.machine import torch_venv
from exporter.machine.torch_venv import TorchVenv, location

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for uv is a shell script")

ROOT = Path(__file__).parent.parent
# Stands in for uv: makes the folder, and a torch in it, without the network. It writes under %(venv)s alone.
UV = """#!/bin/sh -eu
if [ "$1" = venv ]; then
  mkdir -p "%(venv)s/bin"; ln -sf "%(python)s" "%(venv)s/bin/python"
  printf 'home = /usr/bin\\nversion = 3.12.7\\n' > "%(venv)s/pyvenv.cfg"
else
  echo "Downloading torch (191.3MiB)"
  %(step)s
  mkdir -p "%(venv)s/lib/python3.12/site-packages/torch-2.13.0.dist-info"
fi
"""


def with_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str = ":") -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "uv").write_text(UV % {"venv": tmp_path / "v", "python": sys.executable, "step": step})
    (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def nobody() -> str:
    return ""


def settled(venv: TorchVenv, seconds: float = 60.0) -> Preparation:
    end = time.monotonic() + seconds
    while venv.status().state == "preparing" and time.monotonic() < end:
        time.sleep(0.02)
    return venv.status()


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_torch_0_installs_nothing(tmp_path: Path) -> None:
    venv = TorchVenv(tmp_path / "v", mode="0", elsewhere=nobody)
    venv.start()
    assert venv.status() == Preparation("off", 0.0, "TORCH=0: nothing is installed; without it one is prepared")
    assert not any(tmp_path.iterdir())


def test_nothing_is_made_where_a_python_has_torch(tmp_path: Path) -> None:
    venv = TorchVenv(tmp_path / "v", elsewhere=lambda: "comfyui has torch 2.9.1")
    venv.start()
    assert settled(venv) == Preparation("off", 0.0, "not needed: comfyui has torch 2.9.1")
    assert not any(tmp_path.iterdir())


def test_it_is_made_by_uv_and_then_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpu_canary.torch")
    with_uv(tmp_path, monkeypatch)
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    assert settled(venv) == Preparation("ready", 1.0, str(tmp_path / "v"))
    assert "GB to download" in caplog.text
    assert find({}, home=tmp_path, environ={}, prepared=tmp_path / "v")[-1].torch_version == "2.13.0"
    again = TorchVenv(tmp_path / "v", elsewhere=nobody)
    monkeypatch.setenv("PATH", "/nowhere")
    again.start()
    assert settled(again).state == "ready"


def test_progress_is_visible_and_the_half_made_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_uv(tmp_path, monkeypatch, f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    assert eventually(lambda: "191.3MiB" in venv.status().detail)
    assert venv.status().state == "preparing"
    assert 0 <= venv.status().ratio < 1
    assert all(i.name != "prepared" for i in find({}, home=tmp_path, environ={}, prepared=tmp_path / "v"))
    (tmp_path / "go").touch()
    assert settled(venv).state == "ready"


def test_the_exporter_leaves_at_once_and_the_next_start_makes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_uv(tmp_path, monkeypatch, f"touch {tmp_path}/v/leftover; sleep 600")
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    assert eventually((tmp_path / "v" / "leftover").exists)
    began = time.monotonic()
    venv.close()
    assert time.monotonic() - began < 0.5
    assert settled(venv, 5).state == "failed"
    assert (tmp_path / "v" / UNFINISHED).exists()
    with_uv(tmp_path, monkeypatch)
    again = TorchVenv(tmp_path / "v", elsewhere=nobody)
    again.start()
    assert settled(again).state == "ready"
    assert not (tmp_path / "v" / "leftover").exists()


def test_two_exporters_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_uv(tmp_path, monkeypatch, f"echo once >> {tmp_path}/made; sleep 0.2")
    both = [TorchVenv(tmp_path / "v", elsewhere=nobody) for _ in range(2)]
    for venv in both:
        venv.start()
    assert [settled(venv).state for venv in both] == ["ready", "ready"]
    assert (tmp_path / "made").read_text() == "once\n"


def test_a_failure_is_a_visible_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gpu_canary.torch")
    with_uv(tmp_path, monkeypatch, "echo 'error: No space left on device'; exit 2")
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    status = settled(venv)
    assert status.state == "failed"
    assert "No space left on device" in caplog.text  # why uv could not
    assert "No module named pip" in status.detail  # the last of what was tried: plain pip
    assert (tmp_path / "v" / UNFINISHED).exists()


def test_a_place_that_cannot_be_written_is_a_visible_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    venv = TorchVenv(tmp_path / "file" / "v", elsewhere=nobody)
    venv.start()
    assert settled(venv).state == "failed"
    assert "Not a directory" in venv.status().detail


def test_without_uv_plain_pip_installs_the_pinned_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "torch-2.13.0.dist-info"
    with zipfile.ZipFile(wheels / "torch-2.13.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", "__version__ = '2.13.0'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"torch/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    assert settled(venv) == Preparation("ready", 1.0, str(tmp_path / "v"))
    assert os.access(tmp_path / "v" / PYTHON, os.X_OK)


def test_no_thread_of_it_keeps_the_exporter_from_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_uv(tmp_path, monkeypatch, "sleep 600")
    venv = TorchVenv(tmp_path / "v", elsewhere=nobody)
    venv.start()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "torch-venv")
    venv.close()


def test_the_pin_is_the_one_of_the_constraints() -> None:
    pins = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pins == [torch_venv.REQUIREMENT]


def test_it_lives_beside_the_checkout(tmp_path: Path) -> None:
    assert location(tmp_path) == ROOT / ".venv-torch"
