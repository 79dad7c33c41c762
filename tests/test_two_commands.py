"""Do `make run` and `make test` say what to type where they cannot work, and what did not run where they can?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SHELL = shutil.which("sh")
TOOLS = ("dirname", "cat", "cksum", "grep", "id")

pytestmark = pytest.mark.skipif(SHELL is None, reason="no POSIX shell")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout on a machine whose PATH holds a few tools and no Python. Programs can be added to `bin`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "deploy").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    for name in ("deploy/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!{SHELL}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def setup(machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(SHELL), str(machine / "deploy" / "setup.sh"), *words]
    return subprocess.run(argv, env={"PATH": str(machine / "bin")}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "dnf install python3.12"),
        ("pacman", "pacman -S python"),
        ("brew", "brew install python@3.13"),
        ("", "curl -LsSf https://astral.sh/uv/install.sh | sh"),
    ],
)
def test_without_python_the_one_command_to_type_is_printed(machine: Path, manager: str, command: str) -> None:
    if manager:
        program(machine, manager, "exit 0")
    ended = setup(machine, "run")
    assert ended.returncode == 3
    assert ended.stderr.rstrip().endswith(command)


def test_a_python_that_is_too_old_is_no_python(machine: Path) -> None:
    program(machine, "python3", "exit 1")  # the version test fails
    program(machine, "apt-get", "exit 0")
    program(machine, "apt-cache", '[ "$2" = python3.12-venv ]')
    program(machine, "id", "echo 1000")
    ended = setup(machine, "run")
    assert ended.returncode == 3
    assert ended.stderr.rstrip().endswith("sudo apt-get install python3.12-venv")


def test_a_debian_python_without_its_venv_module_names_the_package_of_that_very_python(machine: Path) -> None:
    program(machine, "python3", 'case "$2" in *ensurepip*) exit 1;; *print*) echo python3.13-venv;; esac')
    program(machine, "apt-get", "exit 0")
    program(machine, "id", "echo 0")
    ended = setup(machine, "run")
    assert ended.returncode == 3
    assert ended.stderr.rstrip().endswith("    apt-get install python3.13-venv")


@pytest.fixture
def with_uv(machine: Path) -> Path:
    """A machine without Python, whose uv makes an environment whose pip installs nothing and notes what it was asked."""
    for tool in ("mkdir", "chmod"):
        (machine / "bin" / tool).symlink_to(str(shutil.which(tool)))
    pip = 'echo "$PIP_CONSTRAINT $*" >>pip.log'
    make = f"mkdir -p .venv/bin; printf '#!{SHELL}\\n%s\\n' '{pip}' >.venv/bin/python; chmod +x .venv/bin/python"
    program(machine, "uv", f'echo "$*" >uv.log; {make}')
    return machine


def installations(machine: Path) -> int:
    return (machine / "pip.log").read_text(encoding="utf-8").count("constraints.txt -m pip install")


def test_uv_serves_where_there_is_no_python(with_uv: Path) -> None:
    assert setup(with_uv, "run").returncode == 0
    assert (with_uv / "uv.log").read_text(encoding="utf-8").startswith("venv ")
    assert installations(with_uv) == 1


def test_what_is_installed_is_not_installed_again_until_its_files_change(with_uv: Path) -> None:
    setup(with_uv, "run")
    assert (setup(with_uv, "run").returncode, installations(with_uv)) == (0, 1)
    with (with_uv / "constraints.txt").open("a", encoding="utf-8") as pins:
        pins.write("# changed\n")
    assert (setup(with_uv, "run").returncode, installations(with_uv)) == (0, 2)


def test_a_failed_installation_is_not_taken_for_done(with_uv: Path) -> None:
    setup(with_uv, "run")
    (with_uv / ".venv" / ".installed").unlink()
    program(with_uv, "python", 'case "$*" in *install*) exit 7;; esac')
    (with_uv / "bin" / "python").replace(with_uv / ".venv" / "bin" / "python")
    assert setup(with_uv, "run").returncode == 7
    assert not (with_uv / ".venv" / ".installed").exists()


def test_everything_that_pyproject_asks_for_is_pinned() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, build = asked["project"], asked["build-system"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *build["requires"],
        "editables",
        "torch",
    ]
    names = {canonicalize_name(Requirement(line).name) for line in wanted}
    pins = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert all("==" in pin for pin in pins)
    assert names - {pin.partition("==")[0] for pin in pins} == set()


@pytest.mark.parametrize(("strict", "code"), [("", 0), ("1", 1)])
def test_a_session_ends_with_what_did_not_run_and_strict_makes_that_a_failure(
    tmp_path: Path, strict: str, code: int
) -> None:
    (tmp_path / "test_moon.py").write_text(
        "import pytest\n\n@pytest.mark.skip(reason='no moon')\ndef test_a(): pass\n\ndef test_b(): pass\n",
        encoding="utf-8",
    )
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "STRICT": strict}
    argv += ["-n", "1", "--confcutdir", str(tmp_path), str(tmp_path)]
    ended = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert ended.stdout.rstrip().splitlines()[-1] == "1 tests ran, 1 did not (1: no moon)"
    assert ended.returncode == code


def test_run_prints_the_address_at_which_containers_look(with_uv: Path) -> None:
    assert "listen-address" not in setup(with_uv, "run").stderr
    program(with_uv, "ip", 'echo "3: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0"')
    assert "make run ARGS='--web.listen-address=172.17.0.1:19835 --web.enable-inbox" in setup(with_uv, "run").stderr
