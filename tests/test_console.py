"""Does an answer reach people, pipes and programs, each as they need it, and never with a secret or an escape in it?"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.console import Console
from exporter.units import duration, human

ESCAPE = "\x1b"


class Pipe(io.StringIO):
    """What a test can read back."""


class Terminal(Pipe):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_pipe_gets_aligned_text_without_a_single_escape(wide: None) -> None:
    out = Pipe()
    console = Console(out=out, err=Pipe())
    console.line("all is well", style="ok")
    console.table(("CHECK", "OUTCOME"), [("disk", "ok"), ("a-long-name", "failed")], indent=2)
    assert out.getvalue() == "all is well\n  CHECK        OUTCOME\n  disk         ok\n  a-long-name  failed\n"


def test_a_terminal_gets_colours(wide: None) -> None:
    out = Terminal()
    console = Console(out=out, err=Pipe())
    console.table(("CHECK", "OUTCOME"), [("disk", "failed")])
    console.line("all is well", style="ok")
    assert ESCAPE in out.getvalue()
    assert "disk" in out.getvalue()


def test_a_terminal_is_never_told_what_to_do_by_what_was_probed(wide: None) -> None:
    out = Terminal()
    console = Console(out=out, err=Pipe())
    console.line("\x1b]0;owned\x07 \x9b2J \r\u202egpj.exe [bold]not markup[/bold] :smile:")
    assert out.getvalue() == "\\x1b]0;owned\\x07 \\x9b2J \\r\\u202egpj.exe [bold]not markup[/bold] :smile:\n"


def test_a_secret_is_hidden_in_every_way_of_answering() -> None:
    out, err = Pipe(), Pipe()
    console = Console(out=out, err=err)
    secret = 'pa"ss\\wörd'
    console.redact.learn([secret])
    console.line(f"a {secret}")
    console.table((secret,), [(f"b {secret}",)])
    console.json({f"c {secret}": [f"d {secret}", ({"e": secret},)]})
    console.raw(f"f {secret}")
    console.note(f"g {secret}")
    console.trouble(f"h {secret}")
    told = out.getvalue() + err.getvalue()
    assert told.count("<redacted>") == 9
    for disguise in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        assert disguise not in told


def test_json_survives_what_no_encoding_can_hold() -> None:
    out = Pipe()
    Console(as_json=True, out=out, err=Pipe()).json({"body": "\udcff\x00", "number": 1.5, "none": None})
    assert json.loads(out.getvalue()) == {"body": "\udcff\x00", "number": 1.5, "none": None}


def test_text_survives_an_ascii_locale() -> None:
    code = "from exporter.console import Console; Console().line('21 °C \\udcff')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", code], env=env, cwd=Path(__file__).parent.parent, capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, b"21 \\xb0C \\udcff\n")


def test_progress_is_silent_where_nobody_watches() -> None:
    err = Pipe()
    with Console(out=Pipe(), err=err).progress("matmul") as progress:
        progress(1, 2)
    assert err.getvalue() == ""


def test_what_takes_its_time_to_begin_shows_a_bar_before_its_first_report(wide: None) -> None:
    err = Terminal()
    with Console(out=Pipe(), err=err).progress("2 of 9: matmul", at_once=True):
        assert "2 of 9: matmul" in err.getvalue()


def test_progress_is_a_bar_where_somebody_does(wide: None) -> None:
    err = Terminal()
    with Console(out=Pipe(), err=err).progress("matmul [red]") as progress:
        progress(1, 2)
    assert "matmul [red]" in err.getvalue()
    assert "50%" in err.getvalue()


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("free_bytes", 3 * 2**30, "3 GiB"),
        ("free_bytes", 0, "0 B"),
        ("read_bytes_total", 1536, "1.5 KiB"),
        ("used_ratio", 0.9312, "93.1 %"),
        ("decay_ratio", -0.227, "-22.7 %"),
        ("time_ratio", 3, "300 %"),
        ("time_ratio", 16.34, "16.3 times"),
        ("time_ratio", 1634, "1634 times"),
        ("temperature_celsius", 71, "71 °C"),
        ("clock_hertz", 2.52e9, "2.52 GHz"),
        ("power_watts", 449.6, "450 W"),
        ("flops_per_second", 1.65e14, "165 TFLOP/s"),
        ("copy_bytes_per_second", 9.1e11, "910 GB/s"),
        ("duration_seconds", 0.00123, "1.23 ms"),
        ("tls_not_after_timestamp_seconds", 1_800_000_000, "1800000000"),
        ("errors_total", 1_234_567, "1234567"),
        ("load_count", 0.25, "0.25"),
        ("figure", 12345.6, "12346"),
    ],
)
def test_numbers_are_read_in_the_unit_their_name_ends_in(metric: str, value: float, shown: str) -> None:
    assert human(metric, value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.00004, "40 us"),
        (0.0009996, "1 ms"),
        (0.9996, "1 s"),
        (5, "5 s"),
        (59.9, "59.9 s"),
        (90, "1 min 30 s"),
        (7200, "2 h"),
        (97200, "1 d 3 h"),
    ],
)
def test_durations_are_told_in_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_short_run_shows_no_bar(wide: None) -> None:
    err = Terminal()
    with Console(out=Pipe(), err=err).progress("disk"):
        pass
    assert err.getvalue() == ""


def test_a_terminal_loses_no_end_of_a_long_row(wide: None) -> None:
    out = Terminal()
    Console(out=out, err=Pipe()).table(("CHECK", "PARAMS"), [("disk", "x" * 300), ("host", "")])
    assert "x" * 300 in out.getvalue()
    assert "host\n" in out.getvalue()
