"""Does `gpu-canary healthcheck` say 0 of an exporter that answers and 1 of anything else, and cost next to nothing?"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.process import ROOT, Exporter


def healthcheck(*flags: str) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "exporter", "healthcheck", "--json", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    return done.returncode, json.loads(done.stdout)


def test_an_exporter_that_answers_is_found_by_its_note(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path)
    try:
        exporter.until(lambda found: bool(found))
        code, said = healthcheck(f"--storage.path={tmp_path / 'state'}")
        assert (code, said["exporter"]) == (0, f"http://127.0.0.1:{exporter.port}")
    finally:
        exporter.end()
    code, said = healthcheck("--url", f"http://127.0.0.1:{exporter.port}")
    assert code == 1
    assert "refused" in str(said["detail"])


class Stranger(BaseHTTPRequestHandler):
    """Answers every path with the status that its first part names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "code"), [("200", 1), ("500", 1), ("401", 0), ("403", 0)])
def test_a_stranger_is_not_well_and_one_that_wants_a_login_is(stranger: str, status: str, code: int) -> None:
    assert healthcheck("--url", f"{stranger}/{status}")[0] == code


@pytest.mark.parametrize(
    "url",
    ["nonsense", "http://", "http://[", "http://127.0.0.1:1", "http://127.0.0.1:x"],  # nobody listens at port 1
)
def test_an_address_that_is_none_is_not_well(url: str) -> None:
    assert healthcheck("--url", url)[0] == 1


def test_it_loads_nothing_that_the_exporter_loads() -> None:
    code = (
        "import sys; from exporter import cli; cli.main(['healthcheck', '--url', 'http://127.0.0.1:1']);"
        "print(sorted({'pydantic', 'pycurl', 'yaml', 'rich', 'starlette', 'exporter.config'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "[]\n"
