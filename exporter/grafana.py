"""What has a Grafana, and will it take ours? Asked by grafana-client, in an environment and a process of its own.

grafana-client replaces urllib3 wherever it is installed (niquests, urllib3-future), so it is never installed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from exporter.address import is_loopback, served_at
from exporter.storage import home
from exporter.world import posix

REQUIREMENT = "grafana-client==5.1.4"  # pyproject.toml's group `grafana` and constraints.txt say the same
SIZE = "about 10 MB to download, 50 MB on disk"
PATIENCE = 10.0  # seconds for one answer
MADE = ".gpu-canary-made"
CHILD = Path(__file__).with_name("grafana_child.py")
PYTHON = Path("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class GrafanaError(Exception):
    """Why Grafana did not do it, in one line that ends with what to do. `status` is HTTP's, 0 without an answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


# -- the environment ------------------------------------------------------------------------------------------------


def location(environ: Mapping[str, str]) -> Path:
    """Beside the checkout when we run from one, else in the cache folder of the XDG base directories."""
    root = Path(__file__).parent.parent
    if (root / "pyproject.toml").is_file() and os.access(root, os.W_OK):
        return root / ".venv-grafana"
    return Path(environ.get("XDG_CACHE_HOME") or home() / ".cache") / "gpu-canary" / "venv-grafana"


def prepared(folder: Path, tell: Callable[[str], None]) -> Path:
    """The Python of that environment, made when it is not there or has another version. GrafanaError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with posix.locked(folder):
            return _made(folder, tell)
    except OSError as error:
        raise GrafanaError(f"{folder}: {error.strerror}; make it writable, or {_ELSEWHERE}") from None


_ELSEWHERE = "name a Python that has grafana-client with --grafana.python"


def _made(folder: Path, tell: Callable[[str], None]) -> Path:
    mark, python = folder / MADE, folder / PYTHON
    if mark.exists() and mark.read_text(encoding="utf-8") == REQUIREMENT and python.exists():
        return python
    tell(f"installing {REQUIREMENT} once, into {folder}: {SIZE}")
    mark.unlink(missing_ok=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", REQUIREMENT]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, env=environ)
        if ended.returncode:
            said = (ended.stderr or ended.stdout).decode("utf-8", "replace").strip().splitlines()
            why = next((line for line in reversed(said) if "error" in line.lower()), said[-1] if said else "")
            raise GrafanaError(f"{REQUIREMENT} could not be installed ({one_line(why)}); {_ELSEWHERE}")
    mark.write_text(REQUIREMENT, encoding="utf-8")
    return python


# -- the child ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A dashboard as Grafana has it. `provisioned`: it comes from files there, which overwrite what is sent."""

    dashboard: dict[str, Json]
    folder: str
    provisioned: bool


class Grafana:
    """One Grafana, asked through a child that lives as long as the `with` block."""

    def __init__(self, python: Path, url: str, token: str, ca_file: str = "", patience: float = PATIENCE) -> None:
        self._whom = {**_parts(url), "token": token, "timeout": patience, "verify": ca_file or True}
        self._python, self._url, self._patience = python, url.rstrip("/"), patience
        self._child: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__; a pipe that nobody reads would stop the child when it is full

    def __enter__(self) -> Self:
        try:
            self._child = subprocess.Popen(
                [str(self._python), "-I", str(CHILD)],  # -I: nothing of our environment gets in
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                **posix.own_group(),
            )
        except OSError as error:
            self._said.close()
            raise GrafanaError(f"{self._python}: {error.strerror}; {_ELSEWHERE}") from None
        self._write(self._whom)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child is not None:
            posix.kill(self._child)
            self._child.communicate()
        self._said.close()

    def version(self) -> str:
        """Its version; proves that it is a Grafana and that it takes our token."""
        about = self._call("health.check", {})
        if not isinstance(about, dict) or not isinstance(about.get("version"), str):
            raise self._no_grafana()
        return str(about["version"])

    def has_folder(self, uid: str) -> bool:
        return self._found("folder.get_folder", {"uid": uid}) is not None

    def make_folder(self, uid: str) -> None:
        self._object("folder.create_folder", {"title": uid, "uid": uid})

    def kept(self, uid: str) -> Kept | None:
        """The dashboard with that uid; None when there is none."""
        found = self._found("dashboard.get_dashboard", {"dashboard_uid": uid})
        if found is None:
            return None
        dashboard, meta = found.get("dashboard"), found.get("meta")
        if not isinstance(dashboard, dict) or not isinstance(meta, dict):
            raise self._no_grafana()
        return Kept(dashboard, str(meta.get("folderUid") or ""), meta.get("provisioned") is True)

    def save(self, dashboard: Mapping[str, Json], folder: str, message: str) -> None:
        """Write it over what is there, whatever its version."""
        wanted = {"dashboard": {**dashboard, "id": None}, "folderUid": folder, "message": message, "overwrite": True}
        self._object("dashboard.update_dashboard", {"dashboard": wanted})

    def _found(self, call: str, arguments: object) -> dict[str, Json] | None:
        try:
            return self._object(call, arguments)
        except GrafanaError as error:
            if error.status == 404:
                return None
            raise

    def _object(self, call: str, arguments: object) -> dict[str, Json]:
        result = self._call(call, arguments)
        if not isinstance(result, dict):
            raise self._no_grafana()
        return result

    def _call(self, call: str, arguments: object) -> Json:
        child, late = self._child, threading.Event()
        assert child is not None  # noqa: S101  # only inside the `with` block
        assert child.stdout is not None  # noqa: S101

        def give_up() -> None:
            late.set()
            posix.kill(child)

        clock = threading.Timer(3 * self._patience, give_up)  # the client's own limit holds for each read, not for all
        clock.start()
        try:
            self._write({"call": call, "arguments": arguments})
            line = child.stdout.readline()
        finally:
            clock.cancel()
        if late.is_set():
            raise self._trouble("timeout", 0, "")
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "trouble" in answer:
            raise self._trouble(answer["trouble"], answer["status"], answer["detail"])
        result: Json = answer["result"]
        return result

    def _write(self, data: object) -> None:
        assert self._child is not None  # noqa: S101
        assert self._child.stdin is not None  # noqa: S101
        try:
            self._child.stdin.write(json.dumps(data).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            pass  # it ended: the next read tells why

    def _ended(self) -> GrafanaError:
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return GrafanaError(f"{self._python} ended ({one_line(said[-1] if said else 'silently')}); {_ELSEWHERE}")

    def _no_grafana(self) -> GrafanaError:
        return GrafanaError(f"{self._url} answers, but not as Grafana does; is there a login page or another program?")

    def _trouble(self, kind: str, status: int, detail: str) -> GrafanaError:
        """What the child reports, as a sentence."""
        said = f" ({one_line(detail)})" if detail else ""
        if kind == "status":
            return GrafanaError(f"{self._url}{_refusal(status, said)}", status)
        if kind == "language":
            return self._no_grafana()
        return GrafanaError(
            self._url + _TROUBLE.get(kind, _TROUBLE["other"]).format(said=said, patience=self._patience)
        )


_TROUBLE = {
    "timeout": " did not answer within {patience:g} s; `curl URL/api/health` from here tells more",
    "tls": ": TLS failed{said}; name its CA with --ca-file",
    "redirect": " redirects us elsewhere{said}; give the URL that a browser ends at, up to before /login",
    "silence": " does not answer{said}; is it running, and is the port right?",
    "other": " gave an answer that we cannot use{said}; does `curl URL/api/health` look like Grafana?",
}


def _refusal(status: int, said: str) -> str:
    if status == 401:
        return f" refuses the token{said}; make one (Administration, Service accounts) and write it to the token file"
    if status == 403:
        return f" does not allow that{said}; give the token's service account the role Editor"
    if status == 404:
        return f" has no such API{said}; does its URL end in a sub-path, such as /grafana?"
    if status == 412:
        return f" has a newer version{said}; look at it with `dashboards diff`, then push again"
    if status >= 500:
        return f" is in trouble{said}; its log tells why, then push again"
    return f" refused{said}; its log tells more"


def _parts(url: str) -> dict[str, Json]:
    """What grafana-client wants of a URL. GrafanaError when it is none."""
    parts = served_at(url)
    if parts is None:
        raise GrafanaError("--url is not the URL of a Grafana; write it like http://127.0.0.1:3000")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise GrafanaError("--url takes no user, query or fragment; the token file is who you are")
    host = str(parts.hostname)
    path = f"{parts.path.strip('/')}/".lstrip("/")
    shown = f"[{host}]" if ":" in host else host
    proxies = not is_loopback(host)
    return {"protocol": parts.scheme, "host": shown, "port": parts.port, "path": path, "proxies": proxies}


def one_line(text: str) -> str:
    """What a stranger said, short and on one line."""
    return " ".join(text.split())[:300]
