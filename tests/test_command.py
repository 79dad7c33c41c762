"""Does `command` measure a real program, believe nothing it says, and leave nothing of it behind?"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.interpreters import Interpreter
from exporter.world.load import Load
from exporter.world.token import Token
from exporter.world.workers import Launcher
from probes.api import Aborted, Blind, Conditions, Energy, Evidence, Fact, Finding, Json, NotApplicable, Row
from probes.benchmarks import command
from probes.benchmarks.command_figures import performance, written
from probes.benchmarks.command_params import CommandParams
from probes.testing import RecordedWorld
from probes.world.gpus import Gpu, GpuProcess, Gpus
from tests.checks import eventually
from tests.torch_side import measured, run

MIB = 2**20
SH = "/bin/sh"


class Machine(RecordedWorld):
    """A machine without cards whose workers are real, in our own Python."""

    def __init__(self, seconds: float = 30.0) -> None:
        super().__init__({})
        self.token = Token(seconds)
        self.launcher = Launcher(lambda: (Interpreter("here", sys.executable),))

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        return self.launcher.rows(name, params, interpreter=interpreter, gpu=gpu, token=self.token)


def ran(script: str, world: RecordedWorld | None = None, **params: Json) -> list[Fact]:
    """One run of a shell script as the program."""
    return run(command.PROBE, world or Machine(), command=[SH, "-c", script], **params)


def python(script: str, world: RecordedWorld | None = None, **params: Json) -> list[Fact]:
    return run(command.PROBE, world or Machine(), command=[sys.executable, "-c", script], **params)


def rules(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(f.rule, f.subject) for f in facts if isinstance(f, Finding)]


def detail(facts: list[Fact]) -> str:
    return "; ".join(f.detail for f in facts if isinstance(f, Finding))


def figures(facts: list[Fact]) -> dict[str, float]:
    return {key[1]: value for key, value in measured(facts).items() if key[0] == "figures"}


# -- what it measures ---------------------------------------------------------------------------------------------


def test_a_program_s_time_exit_code_and_memory_are_measured_with_those_of_its_children() -> None:
    hold = f"x = bytearray({60 * MIB}); import time; time.sleep(1.5)"
    facts = ran(f"{sys.executable} -c '{hold}' & {sys.executable} -c '{hold}' & wait")
    values = measured(facts)
    assert rules(facts) == []
    assert values["exit_code",] == 0
    assert 1.5 <= values["wall_seconds",] < 15
    assert 120 * MIB <= values["peak_rss_bytes",] < 300 * MIB


@pytest.mark.parametrize(
    ("output", "figure", "value"),
    [
        ("took 3.5 s", {"regex": "took ([0-9.]+) s"}, 3.5),
        ("step 1: 9\nstep 2: 8\nstep 3: 7", {"regex": "step [0-9]+: ([0-9]+)"}, 7.0),
        ("peak 11.2 GB", {"regex": "([0-9.]+) GB", "scale": 1e9}, 11.2e9),
        ('{"runs": [{"s": 1}, {"s": 2.5}]}', {"json_path": "runs[1].s"}, 2.5),
        ('loading\n{"a": 1}\n{"a": 2}\nbye', {"json_path": "a"}, 2.0),
        ("[4, 5]", {"json_path": "[1]"}, 5.0),
        ('loading\n{\n  "a": [\n    {"b": 6}\n  ]\n}\nbye', {"json_path": "a[0].b"}, 6.0),
        ('{"a": 1, "a": 2}', {"json_path": "a"}, 2.0),
        ("took \033[1;32m3.5\033[0m s", {"regex": "took ([0-9.]+) s"}, 3.5),
        ('\033[36m{"a": 3}\033[0m', {"json_path": "a"}, 3.0),
        ("1/3 9s/it\r2/3 8s/it\r3/3 7s/it\n", {"regex": "(?m)^3/3 ([0-9.]+)s/it$"}, 7.0),
    ],
)
def test_a_figure_is_found_by_its_pattern(output: str, figure: Any, value: float, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(output)
    facts = run(command.PROBE, Machine(), command=["cat", str(tmp_path / "said")], figures={"f": figure})
    assert (figures(facts), rules(facts)) == ({"f": pytest.approx(value)}, [])


@pytest.mark.parametrize(
    ("output", "figure", "why"),
    [
        ("", {"regex": "[0-9]+"}, "nothing in the output matches"),
        ("took long", {"regex": "took (.*)"}, "could not convert"),
        ("took nan", {"regex": "took (.*)"}, "nan is not a number"),
        ("took 1e400", {"regex": "took (.*)"}, "inf is not a number"),
        ("took 1e300", {"regex": "took (.*)", "scale": 1e300}, "is not a number"),
        ("{broken", {"json_path": "a"}, "JSONDecodeError"),
        ('{"a": NaN}', {"json_path": "a"}, "nan is not a number"),
        ('{"a": true}', {"json_path": "a"}, "True is not a number"),
        (f'{{"a": 1{"0" * 400}}}', {"json_path": "a"}, "OverflowError"),
        (f'{{"a": 1{"0" * 5000}}}', {"json_path": "a"}, "ValueError"),
        (f"took {'9' * 400}", {"regex": "took (.*)"}, "inf is not a number"),
        ('{"a": "7"}', {"json_path": "a"}, "'7' is not a number"),
        ('{"a": null}', {"json_path": "a.b"}, "TypeError"),
        ('{"a": [1]}', {"json_path": "a[1]"}, "IndexError"),
        ("[" * 100000, {"json_path": "[0]"}, "Error"),
        ("\\377\\000\\301{", {"json_path": "a"}, "JSONDecodeError"),
    ],
)
def test_a_figure_that_is_not_there_or_no_number_fails(output: str, figure: Any, why: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_bytes(
        output.replace("\\377\\000\\301", "\udcff\x00\udcc1").encode("utf-8", "surrogateescape")
    )
    facts = run(command.PROBE, Machine(), command=["cat", str(tmp_path / "said")], figures={"f": figure})
    assert (figures(facts), rules(facts)) == ({}, [("figure-missing", "f")])
    assert why in detail(facts)


def test_memory_is_counted_of_processes_that_made_a_session_of_their_own() -> None:
    """As torchrun starts its workers."""
    hold = f"x = bytearray({80 * MIB}); import time; time.sleep(1.5)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}], start_new_session=True)"
    assert measured(python(start))["peak_rss_bytes",] > 80 * MIB


def test_the_time_ends_with_the_program_and_not_with_what_it_left_in_the_background() -> None:
    times = (measured(ran("sleep 4714.25 & true"))["wall_seconds",] for _ in range(4))
    assert any(seconds < 1.5 for seconds in times)  # two streams are waited for, a second each
    eventually(lambda: not alive("4714.25"))


def test_a_file_counts_whatever_the_clock_of_its_server_says(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"directory": str(tmp_path), "file": "out.json", "figures": {"s": {"json_path": "s"}}}
    assert figures(ran("""echo '{"s": 2}' > out.json; touch -d '1 hour ago' out.json""", **asked)) == {"s": 2.0}


def test_a_file_counts_only_if_this_run_wrote_it(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"directory": str(tmp_path), "file": "out.json", "figures": {"s": {"json_path": "s"}}}
    assert figures(ran("""echo '{"s": 2}' > out.json""", **asked)) == {"s": 2.0}
    os.utime(tmp_path / "out.json", (time.time() - 60,) * 2)
    stale = ran("true", **asked)
    assert rules(stale) == [("figure-missing", "s")]
    assert "this run did not write the file" in detail(stale)


def test_a_program_may_write_rows_of_its_own() -> None:
    row = '{"kind": "fact", "metric": "seconds", "value": 1.5, "labels": {"stage": "decode"}}'
    facts = ran(f"""echo '{row}' >> $GPU_CANARY_ROWS; echo '{{"kind": "progress"}}' >> $GPU_CANARY_ROWS""")
    assert (figures(facts), rules(facts)) == ({"seconds_decode": 1.5}, [])
    assert rules(ran("echo junk >> $GPU_CANARY_ROWS")) == [("figure-missing", "rows")]


def test_what_is_no_fact_among_such_rows_is_told() -> None:
    assert written('{"kind": "fact", "metric": "a", "value": NaN}')[1].endswith("the value is not a number")
    assert "KeyError" in written('{"kind": "fact", "metric": "a"}')[1]
    assert "TypeError" in written('{"kind": "fact", "metric": "a", "value": "1"}')[1]
    many = "\n".join(f'{{"kind": "fact", "metric": "m{n}", "value": 1}}' for n in range(99))
    assert (len(written(many)[0]), written(many)[1]) == (50, "it wrote more than 50 figures")


# -- how it ends --------------------------------------------------------------------------------------------------


def test_an_exit_code_is_a_failure_with_its_last_lines_and_no_time() -> None:
    facts = ran("echo 12; echo first >&2; echo 'CUDA out of memory' >&2; exit 3", figures={"n": {"regex": "[0-9]+"}})
    assert rules(facts) == [("command-failed", "")]
    assert detail(facts) == "exit code 3: first / CUDA out of memory"
    assert measured(facts)["exit_code",] == 3
    assert figures(facts) == {}
    assert ("wall_seconds",) not in measured(facts)


def test_a_signal_is_named() -> None:
    facts = ran("kill -SEGV $$")
    assert detail(facts).startswith("ended by SIGSEGV")
    assert measured(facts)["exit_code",] == -11


def test_a_program_or_directory_that_is_not_there_is_its_own_failure(tmp_path: Path) -> None:
    absent = run(command.PROBE, Machine(), command=[str(tmp_path / "nothing")])
    assert (rules(absent), measured(absent)["exit_code",]) == ([("command-failed", "")], 127)
    (tmp_path / "data").write_text("no program")
    refused = run(command.PROBE, Machine(), command=[str(tmp_path / "data")])
    assert (rules(refused), measured(refused)["exit_code",]) == ([("command-failed", "")], 126)
    assert "No such file" in detail(ran("true", directory=str(tmp_path / "nowhere")))


def alive(marker: str) -> list[str]:
    """Processes whose command line holds the marker."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker in (folder / "cmdline").read_text():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_what_never_ends_is_killed_with_all_it_started_and_leaves_its_last_words() -> None:
    facts = ran("sleep 4711.25 & setsid sleep 4711.25 & echo 'step 12 of 50'; sleep 4711.25", Machine(3.0))
    assert rules(facts) == [("command-timeout", "")]
    assert "step 12 of 50" in detail(facts)
    assert measured(facts)["peak_rss_bytes",] > 0
    assert ("wall_seconds",) not in measured(facts)
    eventually(lambda: not alive("4711.25"))


def test_an_abort_ends_it_at_once() -> None:
    world = Machine()
    threading.Timer(1.0, lambda: world.token.cancel("gpu_busy")).start()
    began = time.monotonic()
    with pytest.raises(Aborted, match="gpu_busy"):
        ran("sleep 4712.25 & sleep 4712.25", world)
    assert time.monotonic() - began < 8
    eventually(lambda: not alive("4712.25"))


def test_output_without_end_takes_no_memory_and_ends_with_the_deadline() -> None:
    facts = ran("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done", Machine(3.0))
    assert rules(facts) == [("command-timeout", "")]
    log = next(f.text for f in facts if isinstance(f, Evidence) and f.name == "worker log")
    assert len(log) < 9000


def test_of_huge_output_head_and_tail_are_read() -> None:
    script = "print('begin 1'); [print('7' * 99999, end='') for _ in range(90)]; print('\\nend 2')"
    asked = {"b": {"regex": "begin ([0-9])"}, "e": {"regex": "end ([0-9])"}, "m": {"regex": "(7)\n7"}}
    assert figures(python(script, figures=asked)) == {"b": 1.0, "e": 2.0, "m": 7.0}  # what was left out joins nothing


def test_binary_output_is_survived() -> None:
    facts = python(
        "import os, sys; sys.stdout.buffer.write(os.urandom(300000) + b'\\n\\x00ok 5\\n')",
        figures={"f": {"regex": "ok ([0-9])"}},
    )
    assert (figures(facts), rules(facts)) == ({"f": 5.0}, [])


def test_what_is_left_in_the_background_does_not_hold_the_run_up() -> None:
    began = time.monotonic()
    facts = ran("(sleep 4713.25) & echo done")
    assert rules(facts) == []
    assert time.monotonic() - began < 12
    eventually(lambda: not alive("4713.25"))


def test_a_pattern_that_takes_for_ever_ends_with_the_deadline() -> None:
    facts = ran(f"echo {'a' * 60}b", Machine(4.0), figures={"f": {"regex": "(a+)+$"}})
    assert rules(facts) == [("command-timeout", "")]


# -- plugins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "expected"), [(0, []), (1, [("command-warned", "")]), (2, [("command-failed", "")])])
def test_a_plugin_s_exit_codes_become_outcomes(code: int, expected: list[Any]) -> None:
    facts = ran(f"echo 'DISK: 5 left | /=2643MB;5948;5958;0;5968 use=81%'; exit {code}", answers="nagios")
    assert rules(facts) == expected
    assert figures(facts) == {"/": 2643 * MIB, "use": pytest.approx(0.81)}
    assert detail(facts) == ("DISK: 5 left" if code else "")


def test_a_plugin_s_long_answer_is_read_to_its_end_and_no_number_is_cut_in_two() -> None:
    before, sevens = "x" * 29740, "7" * 40  # of 30,000 characters that count: the sixth number is cut
    script = f"print('{before} |', *(f'n{{n}}={sevens};' for n in range(9)))"
    assert figures(python(script, answers="nagios")) == {f"n{n}": float(sevens) for n in range(5)}


def test_a_plugin_that_does_not_know_is_blind_and_one_that_crashes_failed() -> None:
    with pytest.raises(Blind, match="no route"):
        ran("echo 'UNKNOWN: no route'; exit 3", answers="nagios")
    assert rules(ran("exit 4", answers="nagios")) == [("command-failed", "")]


def test_performance_data_is_read_as_the_guidelines_write_it() -> None:
    text = "OK | 'a b'=5ms;;;; t=1.5s u=U n=-3 c=12c 'it''s'=7\nlong | more=2KB\nlast=9us"
    assert performance(text) == {
        "a b": 0.005, "t": 1.5, "n": -3.0, "c": 12.0, "it's": 7.0, "more": 2048.0, "last": pytest.approx(9e-6),
    }  # fmt: skip
    assert performance("OK | a=2kB b=3GiB c=4ns") == {"a": 2048.0, "b": 3.0 * 2**30, "c": pytest.approx(4e-9)}
    assert performance("OK, no a=1 here") == {}


# -- where it runs ------------------------------------------------------------------------------------------------


def test_nothing_configured_is_skipped_and_says_so() -> None:
    with pytest.raises(NotApplicable, match="no generator configured"):
        run(command.PROBE, Machine())


@pytest.mark.torch
def test_python_is_that_of_the_interpreter_and_its_torch_is_a_condition() -> None:
    from tests.torch_side import TORCH

    script = "import sys, torch; print('prefix', sys.prefix); print('seconds 1.5')"
    facts = run(
        command.PROBE,
        Machine(60.0),
        command=["python", "-c", script],
        interpreter=str(TORCH),
        figures={"s": {"regex": "seconds (.*)"}},
    )
    assert figures(facts) == {"s": 1.5}
    known = {k: v for f in facts if isinstance(f, Conditions) for k, v in f.values.items()}
    assert known["torch"]
    log = next(f.text for f in facts if isinstance(f, Evidence) and f.name == "worker log")
    assert f"prefix {TORCH.parent.parent}" in log


def test_it_gets_the_variables_it_was_promised_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    facts = ran('test -z "$SECRET_OF_OURS" && test "$A$TOKEN" = 12', environ={"A": "1"}, secret_environ={"TOKEN": "2"})
    assert rules(facts) == []


def test_secrets_are_not_in_the_params_that_are_shown() -> None:
    params = CommandParams(command=("x",), secret_environ={"TOKEN": "hf_planted"})  # type: ignore[dict-item]
    assert "hf_planted" not in params.model_dump_json()
    assert "hf_planted" in str(params.sent(""))


@pytest.mark.parametrize(
    "params",
    [
        {"command": [""]},
        {"command": ["a\0b"]},
        {"command": ["a"], "directory": "relative"},
        {"command": ["a"], "file": "out.json"},
        {"command": ["a"], "environ": {"A=B": "c"}},
        {"figures": {"f": {}}},
        {"figures": {"f": {"regex": "("}}},
        {"figures": {"f": {"regex": "a", "json_path": "b"}}},
        {"figures": {"f": {"json_path": "a..b"}}},
        {"figures": {"f": {"regex": "a", "scale": 0}}},
        {"figures": {"1 2": {"regex": "a"}}},
    ],
)
def test_params_that_cannot_work_are_refused(params: Any) -> None:
    with pytest.raises(ValidationError):
        CommandParams(**params)


# -- the card meanwhile -------------------------------------------------------------------------------------------


def looks(*cards: Gpu) -> Load:
    """A load that saw these, one a sample, the first of them before the run."""
    answers = iter(cards)
    load = Load(lambda: Gpus(True, gpus=(next(answers),)), "GPU-1")
    for _ in cards[1:]:
        load._next = 0.0
        load.sample()
    return load


def test_the_peak_of_the_card_s_memory_is_that_of_our_own_processes() -> None:
    ours = [GpuProcess(7, kind, memory, ours=True) for kind, memory in (("compute", 5), ("graphics", 5))]
    other = GpuProcess(9, "compute", 100)
    load = looks(
        Gpu(0, "GPU-1", memory_used=100, energy=10.0),
        Gpu(0, "GPU-1", memory_used=105, utilization=0.5, power=100.0, energy=40.0, processes=(*ours, other)),
        Gpu(0, "GPU-1", memory_used=100, utilization=1.0, power=300.0, energy=90.0, processes=(other,)),
    )  # fmt: skip
    assert load.numbers() == {"vram": 5, "vram_of": "its processes", "utilization": 0.75, "power": 200.0}
    assert load.energy() == [Energy(0, "GPU-1", 80.0)]


def test_where_processes_are_not_told_the_growth_of_the_card_s_use_stands_in() -> None:
    load = looks(Gpu(0, "GPU-1", memory_used=100), Gpu(0, "GPU-1", memory_used=900), Gpu(0, "GPU-1", memory_used=400))
    assert load.numbers() == {"vram": 800, "vram_of": "the card's growth"}


def test_without_a_card_there_are_no_numbers_of_one() -> None:
    assert Load(None, "").numbers() == {}


class WithCard(Machine):
    """A machine with one card, on which our own processes hold 5 GB while a worker runs."""

    def __init__(self) -> None:
        super().__init__()
        self.world["gpus"] = {"library": True, "gpus": [{"index": 0, "uuid": "GPU-1"}]}
        ours = (GpuProcess(7, "compute", 5_000_000_000, ours=True),)
        looked = Gpu(0, "GPU-1", utilization=0.5, power=200.0, energy=50.0, processes=ours)
        self.launcher = Launcher(lambda: (), gpus=lambda _: Gpus(True, driver="570", gpus=(looked,)))


def test_what_the_card_did_meanwhile_is_measured_with_the_program() -> None:
    facts = ran('test "$CUDA_VISIBLE_DEVICES" = GPU-1 && sleep 1.2', WithCard())
    values = measured(facts)
    assert rules(facts) == []
    assert values["peak_vram_bytes",] == 5e9
    assert values["gpu_utilization_ratio",] == 0.5
    assert values["gpu_power_watts",] == 200
    (used,) = (fact for fact in facts if isinstance(fact, Energy))
    assert 200 < used.joules < 200 * 60  # the counter of this card stands still, so it is 200 W for more than a second
    known = {k: v for f in facts if isinstance(f, Conditions) for k, v in f.values.items()}
    assert (known["vram_of"], known["driver"]) == ("its processes", "570")
