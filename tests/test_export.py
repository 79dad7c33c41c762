"""Does an installed wheel, far from any checkout, write the rules, runbooks and dashboards as they are here?"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter import shipped

ROOT = Path(__file__).parent.parent


def ran(*words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gpu-canary` of a fresh environment with our wheel; third parties come from this one's, for there is no network."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--quiet", "--no-index", "--no-deps")
    built = ran(sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", folder, _source(folder))
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("gpu_canary-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    put = ran(sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel)
    assert put.returncode == 0, put.stderr
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "third-parties.pth").write_text("\n".join(site.getsitepackages()))
    where = ran(python, "-c", "import exporter; print(exporter.__file__)", cwd=folder)
    assert where.stdout.startswith(str(folder)), "it must not be the checkout's"
    return folder / "venv" / "bin" / "gpu-canary"


def _source(folder: Path) -> Path:
    """What a clone would hold: building writes nothing into the checkout."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("alerts", "dashboards", "exporter", "probes"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source


def told(files: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_wheel_s_rules_are_those_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    ended = ran(installed, "rules", "export", tmp_path / "rules", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    files = written(tmp_path / "rules")
    assert files == told(shipped.rules())
    assert {"gpucanary.yml", "alertmanager.yml", "runbooks/GpuCanaryCheckFailing.md"} <= files.keys()
    assert not {name for name in files if name.startswith("tests") or name == "planned.yml"}
    assert f"wrote {tmp_path / 'rules' / 'gpucanary.yml'}" in ended.stdout
    named = ended.stderr.partition("rule_files: [")[2].partition("]")[0].split(", ")
    assert str(tmp_path / "rules" / "gpucanary.yml") in named
    assert str(tmp_path / "rules" / "alertmanager.yml") not in named


def test_the_wheel_s_dashboards_are_those_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    ended = ran(installed, "dashboards", "export", tmp_path / "boards", "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    files = written(tmp_path / "boards")
    assert files == told(shipped.dashboards())
    assert sorted(files) == json.loads(ended.stdout)["files"]


def test_the_wheel_s_exporter_has_the_runbooks(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    asked = "from exporter.web.runbooks import FOLDER; print(len(list(FOLDER.glob('GpuCanary*.md'))))"
    there = len(list((shipped.ALERTS / "runbooks").glob("GpuCanary*.md")))
    assert ran(python, "-c", asked, cwd=tmp_path).stdout == f"{there}\n"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    assert command("rules", "export", tmp_path / "rules").returncode == 0
    return tmp_path / "rules"


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return ran(sys.executable, "-m", "exporter", *words)


def test_the_same_again_writes_nothing(exported: Path) -> None:
    before = (exported / "gpucanary.yml").stat().st_mtime_ns
    ended = command("rules", "export", exported)
    assert ended.returncode == 0
    assert "wrote" not in ended.stdout
    assert "were there already, and the same" in ended.stdout
    assert (exported / "gpucanary.yml").stat().st_mtime_ns == before


def test_what_somebody_changed_is_kept_unless_forced(exported: Path) -> None:
    (exported / "gpucanary.yml").write_text("groups: []\n")
    (exported / "alertmanager.yml").unlink()
    ended = command("rules", "export", exported)
    assert ended.returncode == 2
    assert str(exported / "gpucanary.yml") in ended.stderr
    assert "--force" in ended.stderr
    assert (exported / "gpucanary.yml").read_text() == "groups: []\n"
    assert not (exported / "alertmanager.yml").exists(), "all or nothing"
    assert command("rules", "export", exported, "--force").returncode == 0
    assert written(exported) == told(shipped.rules())


@pytest.mark.prometheus
def test_promtool_accepts_what_the_command_says_to_load(exported: Path) -> None:
    files = [path for path in exported.glob("*.yml") if path.read_bytes().find(b"\ngroups:") >= 0]
    assert files
    ended = ran("promtool", "check", "rules", *files)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_folder_one_may_not_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = command("dashboards", "export", tmp_path / "file")
    assert ended.returncode == 2
    assert "name a folder that you may write" in ended.stderr
