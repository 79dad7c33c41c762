"""Does the command line do what it says? The real program as a child, in folders of its own."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import psutil
import pytest

from exporter import flags, maintenance, registry
from exporter.cli import main, parser
from exporter.config import Config
from exporter.standing import live
from tests.process import ROOT, Exporter
from tests.scrape import value
from tests.servers import ok, serving

COMMANDS = ["serve", "run", "list", "explain", "status", "maintenance", "config", "init", "verify", "version"]
COMMANDS += ["inject", "rules", "dashboards", "bench", "test-performance", "expected", "baseline"]
SECRETS = {"CANARY_TOKEN": 'hunter2 "quoted\\', "CANARY_KEY": "hunter2-in-a-url"}
CLOSED = "http://127.0.0.1:1/"


def command(tmp_path: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "xdg"), "TORCH": "0", "PYTHONPATH": str(ROOT), **environ}
    argv = [sys.executable, "-m", "exporter", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def gpu_canary(tmp_path: Path, *words: str, **environ: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    child = command(tmp_path, *words, **environ)
    out, err = child.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "\x1b" not in out + err
    return child.returncode, out, err


def here(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The same within this process, where only the words differ."""
    try:
        code = main(words)
    except SystemExit as leaving:  # argparse leaves like this
        code = int(leaving.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.torch
def test_params_do_not_change_which_python_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = here(capsys, "run", "matmul", "--param", "seconds=50ms", "--json")
    assert (code, json.loads(out)[0]["outcome"]) == (0, "ok")


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """A server that gives back what it was sent: where a secret would leak."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{self.path}\n{self.headers}".encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def written(tmp_path: Path, text: str, name: str = "canary.yml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


# -- words ------------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = here(capsys, "--help")
    assert code == 0
    for word in COMMANDS:
        assert re.search(rf"^    {word}\b", out, re.MULTILINE), word
    for number in range(4):
        assert re.search(rf"^  {number}  ", out, re.MULTILINE), number


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "did you mean status?"),
        (["list", "--jsno"], "did you mean --json?"),
        (["--web.listen-adress=:1"], "did you mean --web.listen-address?"),
        (["--log.level", "inof"], "did you mean info?"),
        (["maintenance", "onn"], "did you mean on?"),
        (["explain", "dsik"], "did you mean disk?"),
        (["run", "dsik", "--param", "path=/"], "did you mean disk?"),
        (["run", "disk", "--param", "pth=/"], "did you mean path?"),
        (["run", "disk", "--param", "path"], "write KEY=VALUE"),
        (["run", "http", "--param", "headers={broken"], "must be JSON"),
        (["run", "http", "--param", "timeout=5s"], "url: this key is required"),
        (["run", "hardware", "--param", "path=/"], "hardware is a family"),
        (["run", "disk", "--param", "path=/", "--timeout", "30"], "write it with a unit"),
        (["maintenance", "on", "--for", "2h"], "say how long and why"),
        (["maintenance", "on", "--for", "2", "--why", "x"], "write it with a unit"),
        (["status", "--url", "http://ho st"], "no space"),
        (["--config.profile=test"], "give --config.file too"),
        (["--config.file=/nowhere/canary.yml"], "cannot be read"),
        (["--config.check", "--path.procfs=/nowhere"], "mount the host's there"),
        (["run", "disk", "--param", "path=/", "--path.rootfs=/nowhere"], "mount the host's / there"),
        (["--config.check", "--storage.retention.time=3x"], "--storage.retention.time: storage.retention_time: '3x'"),
        (["--config.check", "--web.listen-address", "nowhere"], "--web.listen-address: web.listen_address: 'nowhere'"),
    ],
)
def test_a_mistake_is_exit_code_2_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, out, err = here(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_without_a_command_it_serves(tmp_path: Path) -> None:
    file = written(tmp_path, "checks: [{probe: disk}]")
    assert gpu_canary(tmp_path, f"--config.file={file}", "--config.check") == (0, f"{file}: ok, 1 checks\n", "")


def laid(words: list[str], **environ: str) -> Config:
    return flags.stated(parser(environ).parse_args(["serve", *words]), registry.load())


def test_a_flag_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    text = "web: {route_prefix: /file, listen_address: ':1', external_url: 'http://file'}\nchecks: [{probe: disk}]"
    file = written(tmp_path, text)
    environ = {"GPU_CANARY_CONFIG_FILE": file, "GPU_CANARY_WEB_ROUTE_PREFIX": "/env", "GPU_CANARY_LOG_FORMAT": "json"}
    config = laid(["--web.route-prefix", "/flag", "--storage.retention.time=2d", "--web.enable-lifecycle"], **environ)
    assert (config.web.route_prefix, config.web.listen_address, config.web.external_url) == (
        "/flag",
        ":1",
        "http://file",
    )
    assert (config.log.format, config.storage.retention_time, config.web.enable_lifecycle) == ("json", 172800, True)
    assert laid([], **environ).web.route_prefix == "/env"


def test_history_goes_where_systemd_or_xdg_want_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert laid([]).storage.path == str(tmp_path / "gpu-canary")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/gpu-canary")
    assert laid([]).storage.path == "/var/lib/gpu-canary"
    assert laid(["--storage.path=/elsewhere"]).storage.path == "/elsewhere"


# -- run --------------------------------------------------------------------------------------------------------------


def test_a_healthy_run_is_exit_code_0_and_speaks_human_units(tmp_path: Path) -> None:
    code, out, err = gpu_canary(tmp_path, "run", "disk", "--param", f"path={tmp_path}", "--param", "minimum_free=1B")
    assert (code, err) == (0, "")
    assert out.startswith("disk  ok  ")
    assert re.search(rf"free_bytes{{path={tmp_path}}} +\S+ [KMGT]iB$", out, re.MULTILINE)


def test_findings_are_exit_code_1_and_carry_their_remedy(tmp_path: Path) -> None:
    code, out, _ = gpu_canary(tmp_path, "run", "http", "--param", f"url={CLOSED}")
    assert code == 1
    assert "critical http-unreachable" in out
    assert "1. `curl -v URL`" in out


def test_what_does_not_apply_is_exit_code_0_and_blind_is_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\n")  # not executable: we may not run it
    wanted = f"interpreter={tmp_path}/python"
    code, out, _ = here(capsys, "run", "memory_copy", "--param", wanted, "--param", "device=cpu")
    assert (code, out.split("  ")[1]) == (3, "skipped (blind: permission)")
    code, out, _ = here(capsys, "run", "matmul", "--param", "device=cuda")
    assert (code, out.split("  ")[1]) == (0, "skipped (not_applicable: no_gpu)") or Path("/dev/nvidiactl").exists()


def test_a_configured_check_is_judged_by_its_targets_and_a_family_is_summed_up(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        "checks:\n  - {probe: disk, name: models, targets: [{metric: free_bytes, at_least: 900TiB}]}\n"
        "  - {probe: platform}\n  - {probe: disk, name: gone, params: {path: /nowhere}}\n  - {probe: host}\n",
    )
    code, out, _ = here(capsys, "run", "models", "--config.file", file)
    assert code == 1
    assert "models  degraded" in out
    assert "target-missed" in out
    code, out, _ = here(capsys, "run", "environment", f"--config.file={file}", "--json")
    assert code == 1
    assert [(r["check"], r["outcome"]) for r in json.loads(out)] == [
        ("models", "degraded"), ("platform", "ok"), ("gone", "failed")
    ]  # fmt: skip
    code, out, _ = here(capsys, "run", "disk", f"--config.file={file}")
    assert out.splitlines()[-1] == "2 checks: 1 degraded, 1 failed"
    code, out, _ = here(capsys, "run", "gone", f"--config.file={file}", "--param", f"path={tmp_path}")
    assert (code, out.split("  ")[:2]) == (0, ["gone", "ok"])


def test_json_names_everything(tmp_path: Path) -> None:
    _, out, _ = gpu_canary(tmp_path, "run", "disk", "--param", "path=/nowhere", "--json")
    (result,) = json.loads(out)
    assert result["outcome"] == "failed"
    assert result["findings"] == [
        {"rule": "disk-absent", "severity": "critical", "subject": "/nowhere", "detail": "no such directory"}
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the user's Python")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_worker_with_the_command(tmp_path: Path, how: signal.Signals) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\ntrap '' TERM INT\ntouch begun\nsleep 300 & sleep 300\n".replace("begun", f"{tmp_path}/begun")
    )
    python.chmod(0o755)
    child = command(tmp_path, "run", "matmul", "--param", f"interpreter={python}", "--param", "device=cpu")
    begun = time.monotonic()
    while not (tmp_path / "begun").exists():
        assert time.monotonic() - begun < 20
        assert child.poll() is None
        time.sleep(0.02)
    below = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(how)
    out, err = child.communicate(timeout=15)
    assert child.returncode == 130
    assert "Traceback" not in out + err
    gone, alive = psutil.wait_procs(below, timeout=5)
    assert gone
    assert not alive


def test_a_recorded_run_is_what_status_tells_when_no_exporter_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = written(tmp_path, "checks: [{probe: disk, params: {path: /nowhere}}, {probe: host}]")
    where = [f"--config.file={file}", f"--storage.path={tmp_path / 'state'}"]
    assert here(capsys, "status", *where)[0] == 2
    assert gpu_canary(tmp_path, "run", "disk", "--record", *where)[0] == 1
    code, out, err = here(capsys, "status", *where)
    assert code == 3
    assert re.search(r"^disk +failed +\d+\S* \S+ ago", out, re.MULTILINE), out
    assert re.search(r"^host +not yet run", out, re.MULTILINE), out
    assert "disk-absent" in out
    assert "mkdir -p PATH" in out
    assert "no exporter runs here" in err
    assert "holds nothing of these checks" not in err
    other = written(tmp_path, "checks: [{probe: platform}]")
    assert "holds nothing of these checks" in here(capsys, "status", f"--config.file={other}", where[1])[2]


# -- what there is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", sorted(registry.load().probes))
def test_every_probe_explains_itself(capsys: pytest.CaptureFixture[str], probe: str, tmp_path: Path) -> None:
    declared = registry.load().probes[probe]
    code, out, _ = here(capsys, "explain", probe)
    assert code == 0
    for name in (*declared.params.model_fields, *(m.name for m in declared.metrics), *(r.name for r in declared.rules)):
        assert name in out
    code, out, _ = here(capsys, "explain", probe, "--json")
    told = json.loads(out)
    assert told["rules"] or told["metrics"]
    if declared.examples[0].params or not told["params"].get("required"):
        assert here(capsys, "config", "check", written(tmp_path, told["config"]))[0] == 0


@pytest.mark.parametrize(("rule", "whose"), [("sustained-unsteady", "the probe sustained"), ("regressed", "any check")])
def test_explain_tells_a_rule_that_a_finding_named(capsys: pytest.CaptureFixture[str], rule: str, whose: str) -> None:
    code, out, _ = here(capsys, "explain", rule)
    assert code == 0
    assert out.startswith(f"warning {rule}: ")
    assert "\n  1. " in out
    assert whose in out.splitlines()[-1]

    code, out, _ = here(capsys, "explain", rule, "--json")
    assert (code, json.loads(out)[0]["name"]) == (0, rule)


def test_list_is_a_table_and_ends_quietly_when_nobody_reads_on(tmp_path: Path) -> None:
    child = command(tmp_path, "list")
    assert child.stdout
    assert child.stderr
    assert re.match(r"PROBE +FAMILY +EVERY +SOURCE +ANSWERS\n", child.stdout.readline())
    child.stdout.close()
    assert child.stderr.read() == ""
    child.wait(20)
    child.stderr.close()


def test_config_check_prints_every_error_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = written(tmp_path, "checks:\n  - probe: dsik\n  - probe: disk\n    evry: 5s\n")
    code, out, _ = here(capsys, "config", "check", file)
    assert code == 2
    assert [line.partition(": ")[0] for line in out.splitlines()] == [f"{file}:2", f"{file}:4"]
    assert "did you mean disk?" in out
    assert "did you mean every?" in out
    code, out, _ = here(capsys, "config", "check", file, "--json")
    assert code == 2
    assert [problem["line"] for problem in json.loads(out)["problems"]] == [2, 4]


def test_the_schema_is_json_with_every_probe_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = here(capsys, "config", "schema")
    assert code == 0
    assert {f"params.{name}" for name in registry.load().probes} <= set(json.loads(out)["$defs"])


def test_init_writes_a_config_that_checks_and_never_writes_over_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "gpu-canary.yml"
    assert gpu_canary(tmp_path, "init")[:2] == (0, ANY)
    assert here(capsys, "config", "check", str(file))[0] == 0
    file.write_text("mine")
    code, _, err = here(capsys, "init", f"--output={file}")
    assert (code, "--force" in err, file.read_text()) == (2, True, "mine")
    assert here(capsys, "init", f"--output={file}", "--force", "--json")[0] == 0
    assert here(capsys, "init", "--output=-")[1] == file.read_text()


def test_version_is_one_line_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert here(capsys, "version")[1].startswith("gpu-canary ")
    assert json.loads(here(capsys, "version", "--json")[1])["python"]
    assert here(capsys, "--version")[1].startswith("gpu-canary ")


# -- beside a running exporter ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory, echo: str) -> Iterator[Exporter]:
    folder = tmp_path_factory.mktemp("serve")
    written(folder, CONFIG.format(echo=echo))
    written(folder, "#!/bin/sh\n", "python")
    running = Exporter(folder, f"--config.file={folder}/canary.yml", env=SECRETS)
    running.until(lambda s: value(s, "gpucanary_check_outcome", {"check": "api", "outcome": "failed"}) == 1)
    running.until(lambda s: value(s, "gpucanary_check_outcome", {"check": "gone", "outcome": "failed"}) == 1)
    yield running
    assert running.end() < 5


CONFIG = """
checks:
  - probe: http
    name: api
    every: 1s
    timeout: 900ms
    params:
      url: {echo}/secret?key=${{CANARY_KEY}}
      headers: {{authorization: "Bearer ${{CANARY_TOKEN}}"}}
      body_matches: [nothing like it]
  - {{probe: disk, name: gone, params: {{path: /nowhere}}}}
  - {{probe: disk, every: 1s, timeout: 500ms, params: {{minimum_free: 1B}}}}
"""


def test_status_finds_the_exporter_by_itself_and_tells_what_to_do(exporter: Exporter, tmp_path: Path) -> None:
    where = f"--storage.path={exporter.folder / 'state'}"
    code, out, _ = gpu_canary(tmp_path, "status", where)
    assert code == 1
    assert out.startswith(f"http://127.0.0.1:{exporter.port}: ")
    assert re.search(r"^gone +failed", out, re.MULTILINE)
    assert "mkdir -p PATH" in out
    code, out, _ = gpu_canary(tmp_path, "status", "--json", f"--url=127.0.0.1:{exporter.port}")
    standings = {check["name"]: check for check in json.loads(out)["checks"]}
    assert standings["disk"]["outcome"] == "ok"
    assert standings["gone"]["last"]["findings"][0]["rule"] == "disk-absent"


def test_status_asks_nobody_else(capsys: pytest.CaptureFixture[str], echo: str) -> None:
    code, _, err = here(capsys, "status", f"--url={echo}")
    assert (code, "wants a login" in err) == (2, True)
    code, _, err = here(capsys, "status", f"--url={CLOSED}")
    assert (code, "no answer of a gpu-canary exporter" in err) == (2, True)


def test_status_asks_prometheus_whether_anybody_would_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = here(capsys, "status", "--prometheus", CLOSED, "--json")
    (answer,) = json.loads(out)
    assert (code, answer["state"], "does not answer" in answer["detail"]) == (1, "bad", True)
    code, _, err = here(capsys, "status", "--prometheus", "localhost:9090")
    assert (code, "write it like http://127.0.0.1:9090" in err) == (2, True)


@pytest.mark.parametrize(
    ("flags_given", "header"),
    [
        (["--prometheus.bearer-file"], b"Bearer hunter2"),
        (["--prometheus.user=me", "--prometheus.password-file"], b"Basic bWU6aHVudGVyMg=="),  # me:hunter2
    ],
)
def test_status_logs_in_to_prometheus_with_a_secret_from_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags_given: list[str], header: bytes
) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    *before, last = flags_given
    with serving(ok(b"{}")) as server:
        _, out, err = here(capsys, "status", "--prometheus", server.url(), *before, f"{last}={tmp_path / 'secret'}")
    assert b"authorization: " + header.lower() in server.requests[0].lower()
    assert "hunter2" not in out + err


@pytest.mark.parametrize("flag", ["--url", "--prometheus"])
def test_a_password_on_the_command_line_is_not_repeated(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    code, out, err = here(capsys, "status", flag, "http://me:hunter2@127.0.0.1:1")
    assert code in (1, 2)
    assert "127.0.0.1:1" in out + err
    assert "hunter2" not in out + err


@pytest.mark.root
def test_a_user_without_a_home_can_run_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.setuid(54321); os.environ.pop('HOME', 0); from exporter.cli import main; sys.exit(main())"
    )
    words = ["run", "disk", "--json"]
    argv = [sys.executable, "-c", code, *words]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (0, 1), ended.stderr


def test_maintenance_is_a_series_until_it_is_off(exporter: Exporter, tmp_path: Path) -> None:
    where = f"--storage.path={exporter.folder / 'state'}"
    code, out, err = gpu_canary(tmp_path, "maintenance", "on", "--for=2h", "--why=new driver", where)
    assert (code, err) == (0, "")
    assert re.search(r"until .*: new driver$", out.strip())
    exporter.until(lambda s: value(s, "gpucanary_maintenance") == 1)
    assert json.loads(gpu_canary(tmp_path, "maintenance", "show", "--json", where)[1])["why"] == "new driver"
    assert "more, alerts are mute: new driver" in gpu_canary(tmp_path, "status", where)[1]
    assert json.loads(gpu_canary(tmp_path, "status", "--json", where)[1])["maintenance"]["why"] == "new driver"
    assert gpu_canary(tmp_path, "maintenance", "off", where)[:2] == (0, "maintenance is off\n")
    assert "mute" not in gpu_canary(tmp_path, "status", where)[1]
    exporter.until(lambda s: value(s, "gpucanary_maintenance") == 0)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"until": Infinity, "why": "", "since": 0}',
        '{"until": 1e999, "why": "", "since": 0}',
        "[]",
        "\x00",
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_file_is_no_maintenance(tmp_path: Path, text: str) -> None:
    (tmp_path / maintenance.FILE).write_text(text)
    assert maintenance.read(tmp_path) is None


@pytest.mark.parametrize(
    ("told", "until"),
    [
        ({"until": 9e9, "more": 1}, 9e9),
        ({"until": 9e9, "why": None, "since": None}, 9e9),
        ({"until": "x"}, None),
        ([1], None),
    ],
)
def test_what_another_version_says_of_its_maintenance_is_understood(told: object, until: float | None) -> None:
    with serving(ok(json.dumps({"maintenance": told, "checks": []}).encode())) as server:
        standings, mute = live(server.url())
    assert (standings, mute.until if mute else None) == ([], until)


def test_two_never_write_one_history_nor_share_one_port(
    exporter: Exporter, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = f"--storage.path={exporter.folder / 'state'}"
    code, _, err = here(capsys, "run", "disk", "--param=path=/", "--record", where)
    assert (code, "leave --record out" in err) == (2, True)
    code, _, err = gpu_canary(tmp_path, where, "--web.listen-address=127.0.0.1:0")
    assert (code, f"process {exporter.process.pid}" in err) == (2, True)
    code, _, err = gpu_canary(tmp_path, f"--web.listen-address=127.0.0.1:{exporter.port}")
    assert (code, "is in use" in err) == (2, True)


def test_a_planted_secret_comes_out_nowhere(
    exporter: Exporter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    file = exporter.folder / "canary.yml"
    config, own = f"--config.file={file}", f"--storage.path={tmp_path / 'own'}"
    text = file.read_text().replace("body_matches", "body_matchs").replace("900ms", "${CANARY_TOKEN}")
    wrong = written(tmp_path, text)
    told = [
        str(answer(*words))
        for answer, *words in (
            (partial(gpu_canary, tmp_path), "run", "api", config, "--json", "--record", own),
            (partial(gpu_canary, tmp_path), "run", "api", config),
            (partial(gpu_canary, tmp_path), "status", f"--storage.path={exporter.folder / 'state'}", "--json"),
            (partial(gpu_canary, tmp_path), "status", config, own),
            (partial(here, capsys), "run", "api", config, "--param", "body_matches=["),
            (partial(here, capsys), "list", "--checks", config),
            (partial(here, capsys), "list", "--checks", config, "--json"),
            (partial(here, capsys), "config", "check", wrong),
            (partial(here, capsys), "config", "check", wrong, "--json"),
        )
    ]
    assert "/secret?key=<redacted>" in told[0]
    told += [exporter.log(), exporter.text(), exporter.get("/api/v1/checks/api")[1], exporter.get("/")[1]]
    told += [(tmp_path / "own" / "history.sqlite").read_bytes().decode("latin-1")]
    for number, text in enumerate(told):
        assert "hunter2" not in text, (number, text)
        assert "api" in text or number > 3, (number, text)
