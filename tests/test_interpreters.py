"""Are all Pythons found from files alone, and is the right one picked?"""

from __future__ import annotations

import os
import sys
import time
import venv
from pathlib import Path

import pytest

from exporter.interpreters import ENTRIES, PYTHON, UNFINISHED, Interpreter, find, pick

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="builds folders as POSIX systems lay them out")


def make(prefix: Path, torch: str = "", version: str = "3.12.7", *, is_venv: bool = True) -> Path:
    """An environment as its files look; its `python` is the one that runs the tests."""
    minor = ".".join(version.split(".")[:2])
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / f"python{minor}").symlink_to(sys.executable)
    (prefix / PYTHON).symlink_to(f"python{minor}")
    site = prefix / "lib" / f"python{minor}" / "site-packages"
    site.mkdir(parents=True)
    if is_venv:
        (prefix / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    if torch:
        (site / f"torch-{torch}.dist-info").mkdir()
    return prefix / PYTHON


def names(found: tuple[Interpreter, ...]) -> list[str]:
    return [i.name for i in found if i.name != "system"]


def test_the_config_comes_first_then_active_environments_apps_pyenv_conda_and_our_own_last(tmp_path: Path) -> None:
    for folder in ("ComfyUI/venv", "stable-diffusion-webui/venv", "invoke/.venv", ".pyenv/versions/3.12.7"):
        make(tmp_path / folder)
    make(tmp_path / "miniconda3", is_venv=False)
    make(tmp_path / "miniconda3/envs/video", is_venv=False)
    make(tmp_path / "active")
    explicit = {"mine": str(make(tmp_path / "opt/mine"))}
    make(tmp_path / "repo/.venv-torch")
    found = find(
        explicit,
        home=tmp_path,
        environ={"VIRTUAL_ENV": str(tmp_path / "active")},
        prepared=tmp_path / "repo/.venv-torch",
    )
    assert names(found) == [
        "mine", "virtualenv", "comfyui", "invoke", "stable-diffusion-webui", "pyenv-3.12.7", "conda-base", "conda-video",
        "prepared",
    ]  # fmt: skip


def test_versions_are_read_from_files(tmp_path: Path) -> None:
    make(tmp_path / "a/venv", torch="2.9.1+cu128")
    built = make(tmp_path / "b/venv", is_venv=False).parent.parent
    source = built / "lib/python3.12/site-packages/torch"
    source.mkdir()
    (source / "version.py").write_text("from typing import Optional\n__version__ = '2.10.0a0+gitabc'\ncuda = '13.0'\n")
    a, b = [i for i in find({}, home=tmp_path, environ={}) if i.name in "ab"]
    assert (a.python_version, a.torch_version) == ("3.12.7", "2.9.1+cu128")
    assert (b.python_version, b.torch_version) == ("3.12", "2.10.0a0+gitabc")


def test_a_venv_that_sees_system_packages_has_their_torch(tmp_path: Path) -> None:
    base = make(tmp_path / "base", torch="2.8.0", is_venv=False).parent
    prefix = make(tmp_path / "app/venv").parent.parent
    (prefix / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = true\nversion = 3.12.7\n")
    assert next(i for i in find({}, home=tmp_path, environ={}) if i.name == "app").torch_version == "2.8.0"


def test_packages_of_the_user_count_for_a_python_without_venv(tmp_path: Path) -> None:
    make(tmp_path / ".pyenv/versions/3.12.7", is_venv=False)
    make(tmp_path / "app/venv")
    (tmp_path / ".local/lib/python3.12/site-packages/torch-2.7.0.dist-info").mkdir(parents=True)
    found = {i.name: i.torch_version for i in find({}, home=tmp_path, environ={})}
    assert found["pyenv-3.12.7"] == "2.7.0"
    assert found["app"] == ""


def test_the_torch_of_another_python_in_the_same_place_does_not_count(tmp_path: Path) -> None:
    make(tmp_path / ".pyenv/versions/3.12.7", is_venv=False)
    (tmp_path / ".pyenv/versions/3.12.7/lib/python3.11/site-packages/torch-2.7.0.dist-info").mkdir(parents=True)
    found = next(i for i in find({}, home=tmp_path, environ={}) if i.name == "pyenv-3.12.7")
    assert (found.python_version, found.torch_version) == ("3.12", "")


def test_old_unfinished_and_broken_pythons_are_left_out_but_never_what_the_config_names(tmp_path: Path) -> None:
    old = make(tmp_path / "old/venv", version="3.8.18")
    make(tmp_path / ".pyenv/versions/2.7.18", version="2.7.18", is_venv=False)
    (make(tmp_path / "half/venv").parent.parent / UNFINISHED).touch()
    (tmp_path / "gone/venv/bin").mkdir(parents=True)
    (tmp_path / "gone/venv/bin/python").symlink_to("/no/such/python")
    assert names(find({}, home=tmp_path, environ={})) == []
    assert names(find({"x": str(old), "y": "~/nowhere"}, home=tmp_path, environ={})) == ["x", "y"]


def test_two_names_of_one_environment_are_one_and_its_symlink_is_not_resolved(tmp_path: Path) -> None:
    python = make(tmp_path / "ComfyUI/venv")
    (tmp_path / "link").symlink_to(tmp_path / "ComfyUI")
    found = find({"comfy": str(python)}, home=tmp_path, environ={})
    assert names(found) == ["comfy"]
    assert found[0].path == str(python)
    make(tmp_path / "other/venv")  # has the same target, and is another environment all the same
    assert len(names(find({}, home=tmp_path, environ={}))) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"version", b"= = =\n" * 1000, b"home = \nversion = three\n"])
def test_a_broken_pyvenv_cfg_breaks_nothing(tmp_path: Path, content: bytes) -> None:
    prefix = make(tmp_path / "app/venv").parent.parent
    (prefix / "pyvenv.cfg").write_bytes(content)
    assert isinstance(find({"app": str(prefix / PYTHON)}, home=tmp_path, environ={})[0], Interpreter)


def test_a_crowded_home_is_looked_at_quickly_and_in_part(tmp_path: Path) -> None:
    for number in range(ENTRIES * 2):
        (tmp_path / f"d{number:04}").mkdir()
    began = time.process_time()
    find({}, home=tmp_path, environ=os.environ)
    assert time.process_time() - began < 0.2


def test_no_home_at_all_is_no_error(tmp_path: Path) -> None:
    assert names(find({}, home=tmp_path / "nobody", environ={"VIRTUAL_ENV": "", "CONDA_PREFIX": "/no/such"})) == []


def test_auto_picks_the_newest_torch_and_a_cpu_only_build_last() -> None:
    found = [
        Interpreter("none", "/a"),
        Interpreter("cpu", "/b", "3.12", "2.13.0+cpu"),
        Interpreter("nine", "/c", "3.12", "2.9.1+cu128"),
        Interpreter("ten", "/d", "3.12", "2.10.0"),
    ]
    picked = [pick(found[:n], "auto") for n in range(5)]
    assert [i.name if i else None for i in picked] == [None, "none", "cpu", "nine", "ten"]


def test_a_name_or_a_path_picks_itself(tmp_path: Path) -> None:
    found = [Interpreter("comfyui", "/opt/c/bin/python")]
    assert pick(found, "comfyui") is pick(found, "/opt/c/bin/python") is found[0]
    assert pick(found, "/elsewhere/python") == Interpreter("/elsewhere/python", "/elsewhere/python")
    assert pick(found, "nobody") is None


def test_a_real_venv_is_described_as_it_is(tmp_path: Path) -> None:
    venv.create(tmp_path / "app" / "venv", symlinks=True)
    found = next(i for i in find({}, home=tmp_path, environ={}) if i.name == "app")
    assert found.python_version == ".".join(map(str, sys.version_info[:3]))
    assert found.torch_version == ""
