"""Do the dashboards reach a Grafana that is there already, once, and never over what is not ours to change?

The client is the real grafana-client, in its own environment and process; Grafana is tests/grafana_server.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import sys
import time
import tomllib
import venv
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from exporter import grafana as door
from exporter import shipped
from exporter.cli import main
from exporter.grafana import Grafana, GrafanaError
from tests.certificates import PEM, Authority
from tests.conftest import GRAFANA_PYTHON, ROOT
from tests.grafana_server import TOKEN, FakeGrafana, Stored, grafana, send

BOARDS = {json.loads(path.read_text())["uid"]: json.loads(path.read_text()) for path in shipped.dashboards().values()}
Run = Callable[..., tuple[int, str, str]]

real = pytest.mark.grafana


@pytest.fixture
def fake() -> Iterator[FakeGrafana]:
    with grafana() as server:
        yield server


@pytest.fixture
def run(fake: FakeGrafana, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """`gpu-canary dashboards ...` against the fake; exit code, stdout, stderr. The token is in neither, ever."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    own = ["--token-file", str(tmp_path / "token"), "--grafana.python", str(GRAFANA_PYTHON)]

    def call(action: str, *flags: str, url: str = "") -> tuple[int, str, str]:
        code = main(["dashboards", action, "--url", url or fake.url, *own, *flags])
        out, err = capfd.readouterr()
        assert TOKEN not in out + err
        assert "Traceback" not in err
        return code, out, err

    return call


@real
def test_a_push_brings_every_board_into_its_folder_and_the_next_one_sends_nothing(run: Run, fake: FakeGrafana) -> None:
    code, out, _ = run("push")
    assert (code, fake.folders, set(fake.stored)) == (0, {"gpu-canary": "gpu-canary"}, set(BOARDS))
    assert all(kept.folder == "gpu-canary" and kept.messages == ["gpu-canary 0.1.0"] for kept in fake.stored.values())
    assert {uid: {**kept.dashboard, "id": None, "version": None} for uid, kept in fake.stored.items()} == {
        uid: {**board, "id": None, "version": None} for uid, board in BOARDS.items()
    }
    assert out.count(": new") == 1 + len(BOARDS)
    fake.asked.clear()
    code, out, _ = run("push")
    assert (code, fake.written, out.count(": the same")) == (0, [], len(BOARDS))
    assert run("diff") == (0, "", "")


@real
def test_only_what_changed_is_sent_and_over_any_version(run: Run, fake: FakeGrafana) -> None:
    run("push")
    fake.stored["gpucanary-canary"].dashboard |= {"title": "Mine", "version": 41}
    fake.asked.clear()
    code, out, _ = run("diff")
    assert (code, fake.written) == (1, [])
    assert '-  "title": "Mine"' in out
    assert out.count("--- ") == 1
    code, out, _ = run("push")
    assert (code, fake.written) == (0, ["/api/dashboards/db"])
    assert "gpucanary-canary: changed" in out
    assert fake.stored["gpucanary-canary"].dashboard["version"] == 42
    assert run("diff")[0] == 0


@real
def test_a_board_in_another_folder_comes_home(run: Run, fake: FakeGrafana) -> None:
    run("push")
    fake.stored["gpucanary-canary"].folder = "attic"
    code, out, _ = run("diff")
    assert code == 1
    assert '- "folder": "attic"' in out
    assert run("push")[0] == 0
    assert fake.stored["gpucanary-canary"].folder == "gpu-canary"


@real
def test_what_grafana_has_from_files_is_left_alone_and_the_rest_is_sent(run: Run, fake: FakeGrafana) -> None:
    uid = "gpucanary-overview"
    fake.stored[uid] = Stored({"uid": uid, "title": "theirs", "id": 7, "version": 3}, "files", provisioned=True)
    code, out, err = run("push")
    assert code == 1
    assert fake.stored[uid].dashboard["title"] == "theirs"
    assert set(fake.stored) == set(BOARDS)
    assert f"{uid}: left alone" in out
    assert re.search(rf"{uid}: Grafana reads these from files.*dashboards export", err)
    fake.stored[uid] = Stored({**BOARDS[uid], "id": 7, "version": 3}, "files", provisioned=True)
    assert run("push")[0] == 0  # the same boards, from files: nothing to complain about


@real
def test_a_dry_run_tells_and_sends_nothing(run: Run, fake: FakeGrafana) -> None:
    code, out, err = run("push", "--dry-run", "--folder", "gpus")
    assert (code, fake.written, fake.stored) == (0, [], {})
    assert "folder gpus: new" in out
    assert "--dry-run" in err
    assert run("diff", "--folder", "gpus")[0] == 1


@real
def test_a_folder_of_ones_own_and_json(run: Run, fake: FakeGrafana, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.json").write_text('{"uid": "mine", "title": "Mine", "panels": []}')
    code, out, _ = run("push", str(tmp_path / "mine"), "--folder", "team-a", "--json")
    assert code == 0
    assert [(one["uid"], one["state"]) for one in json.loads(out)["dashboards"]] == [("mine", "new")]
    assert fake.stored["mine"].folder == "team-a"
    assert json.loads(run("diff", str(tmp_path / "mine"), "--folder", "team-a", "--json")[1])["dashboards"][0][
        "state"
    ] == ("unchanged")


@real
def test_a_grafana_below_a_sub_path_is_found(run: Run) -> None:
    with grafana("/grafana") as below:
        assert run("push", url=below.url)[0] == 0
        assert run("push", url=f"{below.url}/")[0] == 0
        assert set(below.stored) == set(BOARDS)
        code, _, err = run("push", url=below.url.removesuffix("/grafana"))
        assert code == 2
        assert re.search(r"sub-path, such as /grafana\?$", err)


@real
def test_a_token_that_is_refused_or_may_not_write_is_one_line(run: Run, fake: FakeGrafana, tmp_path: Path) -> None:
    fake.role = "Viewer"
    code, _, err = run("push")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("give the token's service account the role Editor\n")
    (tmp_path / "token").write_text("another")
    code, _, err = run("push")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(r"refuses the token .*Service accounts\) and write it to the token file$", err)


def _status(number: int, text: str) -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda handler: send(handler, number, json.dumps({"message": text}).encode())


def _body(body: bytes, kind: str = "application/json") -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda handler: send(handler, 200, body, kind)


def _cut(handler: BaseHTTPRequestHandler) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"buildInfo"')
    handler.close_connection = True
    return True


HOSTILE = {
    "500": (_status(500, "db\nis\ndown \x1b[31m"), r"is in trouble \(Server Error 500: db is down .*its log tells why"),
    "502": (lambda h: send(h, 502, b"<h1>Bad</h1>", "text/html"), r"in trouble .*502"),
    "412": (_status(412, "changed"), r"newer version .*push again$"),
    "400": (_status(400, "no"), r"refused .*its log tells more$"),
    "login page": (_body(b"<html>login</html>", "text/html"), r"is there a login page or another program\?$"),
    "not JSON": (_body(b"no json"), r"login page or another program\?$"),
    "list": (_body(b"[]"), r"\?$"),
    "no version": (_body(b'{"buildInfo": {"version": 3}}'), r"login page or another program\?$"),
    "deep": (_body(b"[" * 100_000), r"look like Grafana\?$"),
    "redirect": (
        lambda h: send(h, 302, b"", "text/html", Location="http://127.0.0.1:1/login"),
        r"redirects us .*before /login$",
    ),
    "cut": (_cut, r"\?$"),
    "token back": (_status(400, f"bad token {TOKEN}"), r"refused"),
}


@real
@pytest.mark.parametrize("name", HOSTILE)
def test_a_strange_answer_is_one_line_that_ends_with_what_to_do(run: Run, fake: FakeGrafana, name: str) -> None:
    fake.instead, words = HOSTILE[name]
    code, out, err = run("push")
    assert (code, out, err.count("\n"), "\x1b" in err) == (2, "", 1, False)
    assert err.startswith(f"gpu-canary: {fake.url}")
    assert re.search(words, err.rstrip("\n")), err


@real
@pytest.mark.parametrize("body", [b"{}", b'{"dashboard": [], "meta": {}}', b'{"dashboard": {}, "meta": null}', b"null"])
def test_a_board_that_is_none_is_no_reason_to_overwrite_it(run: Run, fake: FakeGrafana, body: bytes) -> None:
    fake.instead = lambda handler: "/uid/" in handler.path and send(handler, 200, body)
    code, _, err = run("push")
    assert (code, fake.stored) == (2, {})
    assert err.endswith("?\n")


@real
def test_nobody_there_is_said(run: Run) -> None:
    code, _, err = run("diff", url="http://127.0.0.1:1")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("does not answer (Connection refused); is it running, and is the port right?\n")


@real
def test_a_certificate_that_nobody_vouches_for_is_refused_until_its_authority_is_named(
    run: Run, tmp_path: Path
) -> None:
    root = Authority("Test Root")
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(PEM))
    with grafana(context=root.issue("127.0.0.1").context(tmp_path)) as safe:
        code, _, err = run("diff", url=safe.url)
        assert (code, err.count("\n")) == (2, 1)
        assert re.search(r"TLS failed .*--ca-file$", err.rstrip("\n")), err
        assert run("push", "--ca-file", str(tmp_path / "root.pem"), url=safe.url)[0] == 0
        code, _, err = run("diff", "--ca-file", str(tmp_path / "none.pem"), url=safe.url)
        assert (code, err.count("\n")) == (2, 1)


@real
@pytest.mark.parametrize("trickle", [False, True])
def test_a_grafana_that_hangs_or_trickles_is_given_up(fake: FakeGrafana, trickle: bool) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                time.sleep(0.1)
                if trickle:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
        return True

    fake.instead = slow
    begun = time.monotonic()
    with Grafana(GRAFANA_PYTHON, fake.url, TOKEN, patience=0.5) as asked:
        with pytest.raises(GrafanaError, match=r"did not answer within 0.5 s; `curl .*tells more"):
            asked.version()
        child = asked._child
    assert time.monotonic() - begun < 10
    assert child is not None
    assert child.poll() is not None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:3000", "write it like"),
        ("ftp://x", "write it like"),
        ("http://[x", "write it like"),
        ("http://x:99999", "write it like"),
        ("http://me:word@x", "token file is who you are"),
        ("http://x/?verify=0", "token file is who you are"),
    ],
)
def test_a_url_that_is_none_is_told_before_anything_starts(run: Run, url: str, words: str) -> None:
    code, _, err = run("push", url=url)
    assert (code, "word@" in err) == (2, False)
    assert words in err


@pytest.mark.parametrize("text", [b"", b"two words", b"two\nlines", b"\xff\xfe", b"a\x1b[0m"])
def test_a_token_file_holds_one_word(run: Run, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "token").write_bytes(text)
    code, _, err = run("push")
    assert code == 2
    assert re.search(r"`(ls -l|wc) ", err)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no \\*.json"),
        ({"a.json": "{"}, "is not JSON"),
        ({"a.json": "[" * 100_000}, "is not JSON"),
        ({"a.json": "[]"}, "no dashboard with a uid"),
        ({"a.json": '{"uid": "../../x", "title": "x"}'}, "no dashboard with a uid"),
        ({"a.json": '{"uid": "x"}'}, "no dashboard with a uid"),
        ({"a.json": '{"uid": "x", "title": "x"}', "b.json": '{"uid": "x", "title": "x"}'}, "of another file"),
    ],
)
def test_files_that_are_no_dashboards_are_named(run: Run, tmp_path: Path, files: dict[str, str], words: str) -> None:
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / "mine" / name).write_text(text)
    code, _, err = run("push", str(tmp_path / "mine"))
    assert code == 2
    assert re.search(words, err)


def test_a_folder_is_a_uid(run: Run) -> None:
    code, _, err = run("push", "--folder", "../x")
    assert code == 2
    assert "--folder" in err


def test_a_python_without_the_client_is_told(run: Run, tmp_path: Path) -> None:
    for python, words in ((sys.executable, "ModuleNotFoundError"), (str(tmp_path / "none"), "No such file")):
        code, _, err = run("push", "--grafana.python", python)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
        assert err.endswith("name a Python that has grafana-client with --grafana.python\n")


def test_the_exporters_own_environment_is_free_of_it() -> None:
    assert not [name for name in ("grafana_client", "niquests", "urllib3_future") if importlib.util.find_spec(name)]
    import urllib3

    assert "future" not in str(vars(urllib3).get("__file__"))
    assert int(urllib3.__version__.split(".")[2]) < 900  # urllib3-future counts from 900 on


def test_its_pin_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["grafana"] == [door.REQUIREMENT]
    assert door.REQUIREMENT in (ROOT / "constraints.txt").read_text().splitlines()
    assert "grafana-client" not in json.dumps(
        [project["project"]["dependencies"], project["project"]["optional-dependencies"]]
    )


@real
def test_the_environment_that_is_there_has_the_pin_and_is_not_made_anew() -> None:
    said: list[str] = []
    assert door.prepared(GRAFANA_PYTHON.parent.parent, said.append) == GRAFANA_PYTHON
    assert said == []


def test_an_environment_that_cannot_be_made_says_what_to_do_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(GrafanaError, match=r"could not be installed \(ERROR.*--grafana.python"):
            door.prepared(tmp_path / "venv", said.append)
    assert [one.split(" once")[0] for one in said] == [f"installing {door.REQUIREMENT}"] * 2
    (tmp_path / "file").touch()
    with pytest.raises(GrafanaError, match="make it writable"):
        door.prepared(tmp_path / "file" / "venv", said.append)


def test_an_environment_that_was_made_for_another_version_is_not_taken(tmp_path: Path, monkeypatch: Any) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (tmp_path / "venv" / door.MADE).write_text("grafana-client==4.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(GrafanaError):
        door.prepared(tmp_path / "venv", lambda text: None)
    assert not (tmp_path / "venv" / door.MADE).exists()
