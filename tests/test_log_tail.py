"""Is no line of a log lost or counted twice, whatever rotates, truncates, tears or floods it?"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.world import files
from exporter.world.token import Token
from probes.api import KIB, MIB, Evidence, Finding, Json, Measurement, Remember
from probes.services.log_patterns import EXCERPT, HIDDEN, KNOWN, LINE, excerpt
from probes.services.log_tail import PROBE, LogTailParams
from probes.testing import RecordedWorld, run_recorded, verify
from probes.world.files import Chunk, Stat

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 12.00 GiB of which"


class Disk(RecordedWorld):
    """The real files door, with a clock and a memory of the test's own."""

    @property
    def token(self) -> Token:
        return Token(60)

    def read(self, path: str, offset: int = 0, limit: int = MIB) -> Chunk | None:
        return files.read(path, offset, limit, self.token)

    def list(self, path: str) -> tuple[str, ...] | None:
        return files.list_directory(path, self.token)

    def stat(self, path: str) -> Stat | None:
        return files.stat(path, self.token)


class Tail:
    """Looks at a log again and again; what it remembers goes through JSON, as it does in the history."""

    def __init__(self, path: Path, **params: Any) -> None:
        self.path, self.now = path, 1000.0
        self.params = {"path": str(path), "patterns": {"hit": "HIT (?P<n>[0-9]+)", "all": ".?"}, **params}
        self.memory: dict[str, Any] = {}

    def look(self) -> int:
        """How many lines of class `hit` this look found; `counts`, `found` and `evidence` hold the rest."""
        self.now += 10
        facts, end = run_recorded(PROBE, self.params, Disk({"now": self.now, "previous": self.memory}))
        assert end == ""
        self.memory = json.loads(json.dumps(next(fact.data for fact in facts if isinstance(fact, Remember))))
        self.counts = Counter[str]()
        for fact in facts:
            if isinstance(fact, Measurement) and fact.metric == "matches_total":
                self.counts[dict(fact.labels)["class"]] += int(fact.value)
        self.found = {fact.rule: fact for fact in facts if isinstance(fact, Finding)}
        self.evidence = {fact.name: fact.text for fact in facts if isinstance(fact, Evidence)}
        self.unread = next((f.value for f in facts if isinstance(f, Measurement) and f.metric == "unread_bytes"), -1)
        return self.counts["hit"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def add(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def test_the_contract_holds() -> None:
    assert verify(PROBE) == []


def test_the_first_look_starts_at_the_end_and_the_next_ones_read_what_was_added(log: Path) -> None:
    add(log, "HIT 1\nHIT 2\n")
    tail = Tail(log)
    assert tail.look() == 0
    add(log, "HIT 3\nnothing\nHIT 4\n")
    assert tail.look() == 2
    assert tail.look() == 0


def test_the_first_look_reads_all_when_it_is_told_to(log: Path) -> None:
    add(log, "HIT 1\nHIT 2\n")
    assert Tail(log, from_start=True).look() == 2


def test_a_log_that_appears_after_the_first_look_is_read_from_its_beginning(log: Path) -> None:
    tail = Tail(log)
    assert tail.look() == 0
    assert "log-tail-absent" in tail.found
    assert tail.unread == -1
    add(log, "HIT 1\n")
    assert tail.look() == 1
    assert "log-tail-absent" not in tail.found


def test_an_absent_log_is_no_trouble_where_the_config_says_so(log: Path) -> None:
    tail = Tail(log, missing_ok=True)
    tail.look()
    assert tail.found == {}


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\nHI")
    assert tail.look() == 1
    add(log, "T 2\n")
    assert tail.look() == 1
    assert tail.counts["all"] == 1


def test_the_last_words_of_a_crashed_application_are_heard_once_without_a_newline(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\nHIT 2")
    assert [tail.look(), tail.look(), tail.look()] == [1, 1, 0]
    add(log, " and the rest of that line HIT 9\nHIT 3\n")
    assert tail.look() == 1


def test_a_renamed_log_is_read_to_its_end_before_the_new_one(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n")
    assert tail.look() == 1
    add(log, "HIT 2\nHIT 3")
    log.rename(log.with_name("app.log.1"))
    add(log, "HIT 4\n")
    assert tail.look() == 3
    assert tail.look() == 0
    add(log, "HIT 5\n")
    assert tail.look() == 1


def test_a_writer_that_still_holds_the_renamed_log_is_heard(log: Path) -> None:
    tail = Tail(log, from_start=True)
    old = log.with_name("app.log.1")
    add(log, "HIT 1\n")
    tail.look()
    log.rename(old)
    log.touch()
    add(old, "HIT 2\n")
    assert tail.look() == 1
    add(old, "HIT 3\n")
    add(log, "HIT 4\n")
    assert tail.look() == 2
    assert tail.look() == 0


def test_a_log_that_is_renamed_and_not_there_yet_loses_nothing(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n")
    tail.look()
    add(log, "HIT 2\n")
    log.rename(log.with_name("app-20250101.log"))
    assert tail.look() == 1
    assert "log-tail-absent" in tail.found
    add(log, "HIT 3\n")
    assert tail.look() == 1
    assert tail.look() == 0


def test_a_copied_and_truncated_log_is_read_to_its_end_in_the_copy(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n" + "filler\n" * 20)
    assert tail.look() == 1
    add(log, "HIT 2\nHIT 3\n")
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    add(log, "HIT 4\n")
    assert tail.look() == 3
    assert tail.look() == 0


def test_a_truncated_log_is_read_from_its_beginning(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n" * 50)
    tail.look()
    os.truncate(log, 0)
    assert tail.look() == 0
    add(log, "HIT 2\n")
    assert tail.look() == 1


def test_a_log_that_was_truncated_and_outgrew_its_old_size_is_read_from_its_beginning(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "old " * 20 + "HIT 1\n")
    assert tail.look() == 1
    os.truncate(log, 0)
    add(log, "new HIT 2\n" * 30)
    assert tail.look() == 30


def test_a_replaced_log_whose_old_file_is_gone_is_read_from_its_beginning(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n")
    tail.look()
    (log.parent / "fresh").write_text("HIT 2\nHIT 3\n")
    (log.parent / "fresh").replace(log)
    assert tail.look() == 2


def test_what_exceeds_one_look_is_read_by_the_next_ones_across_a_rotation(log: Path) -> None:
    tail = Tail(log, from_start=True, limit=64 * KIB)
    add(log, "HIT 1\n" * 20_000)
    found = tail.look()
    assert 0 < found <= 64 * KIB / 6
    assert tail.unread == 120_000 - found * 6
    log.rename(log.with_name("app.log.1"))
    add(log, "HIT 2\n" * 3)
    for _ in range(3):
        found += tail.look()
    assert found == 20_003
    assert tail.unread == 0


def test_a_line_longer_than_a_look_is_one_line_judged_by_its_beginning(log: Path) -> None:
    tail = Tail(log, from_start=True, limit=64 * KIB)
    add(log, "HIT 1 " + "x" * 200 * KIB + " HIT 2\nHIT 3\n")
    hits = [(tail.look(), tail.counts["all"]) for _ in range(5)]
    assert sum(hit for hit, _ in hits) == 2
    assert sum(lines for _, lines in hits) == 2


def test_binary_junk_is_read_like_anything_else(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, random.Random(7).randbytes(100 * KIB) + b"\nHIT 1\0\xff\xfe\nHIT 2\r\n\0\0\0HIT 3\n")
    assert tail.look() >= 3
    assert all(text.isprintable() for text in tail.evidence["hit"].split("\n"))


def test_progress_bars_end_their_lines_with_a_carriage_return(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "\r".join(f"{percent}%|####" for percent in range(100)) + "\rHIT 1\n")
    assert tail.look() == 1
    assert tail.counts["all"] == 101


def test_a_restart_goes_on_where_it_stopped_and_another_path_begins_anew(log: Path) -> None:
    tail = Tail(log, from_start=True)
    add(log, "HIT 1\n")
    tail.look()
    add(log, "HIT 2\n")
    again = Tail(log, from_start=True)
    again.memory = tail.memory
    assert again.look() == 1
    other = Tail(log.with_name("other.log"), from_start=True)
    other.memory = tail.memory
    add(other.path, "HIT 1\nHIT 2\nHIT 3\n")
    assert other.look() == 3


@pytest.mark.parametrize(
    "place",
    [None, 7, [], {}, {"identity": 1}, {"identity": "1:2", "offset": "9", "mark": "", "inside": False, "held": 0}],
)
def test_a_memory_of_another_version_starts_anew(log: Path, place: Json) -> None:
    add(log, "HIT 1\n")
    tail = Tail(log)
    tail.memory = {"path": str(log), "place": place, "seen": {"hit": "yesterday", "all": [None, 3]}}
    assert tail.look() == 0


def test_a_class_stays_a_finding_until_it_was_quiet_for_long_enough(log: Path) -> None:
    tail = Tail(log, from_start=True, hold="25s", patterns={"hit": "HIT (?P<n>[0-9]+)"})
    add(log, "HIT 1\nHIT 22\n")
    tail.look()
    assert tail.found["log-tail-match"].detail == "2 lines, the last: n 22"
    assert tail.found["log-tail-match"].subject == "hit"
    tail.look()
    tail.look()
    assert "log-tail-match" in tail.found
    tail.look()
    assert tail.found == {}


@pytest.mark.parametrize(
    ("name", "line", "shows"),
    [
        ("cuda_oom", OOM, "size 2.00 GiB, gpu 0, capacity 12.00 GiB"),
        (
            "cuda_oom",
            "RuntimeError: CUDA out of memory. Tried to allocate 512.00 MiB (GPU 1; 8.00 GiB total capacity; 6.1 GiB already",
            "size 512.00 MiB, gpu 1, capacity 8.00 GiB",
        ),
        ("cuda_oom", "CUDA out of memory. Tried to allocate 20 MiB", "size 20 MiB"),
        (
            "model_download_timeout",
            "ReadTimeout: HTTPSConnectionPool(host='huggingface.co', port=443): Read timed out. (read timeout=10)",
            "ReadTimeout",
        ),
        ("dtype_mismatch", "RuntimeError: expected scalar type Float but found Half", "expected Float, found Half"),
        ("db_locked", "sqlite3.OperationalError: database is locked", "database is locked"),
        ("rate_limited", "HTTP Error 429: Too Many Requests", "429"),
    ],
)
def test_the_first_signatures_are_known_by_what_programs_really_write(
    log: Path, name: str, line: str, shows: str
) -> None:
    tail = Tail(log, from_start=True, patterns={})
    add(log, f"2025-01-01 12:00:00 ERROR {line}\n")
    tail.look()
    assert +tail.counts == {name: 1}
    assert shows in tail.found[KNOWN[name].rule.name].detail


def test_a_pattern_of_ones_own_replaces_a_known_one_and_keeps_its_remedy(log: Path) -> None:
    tail = Tail(log, from_start=True, patterns={"cuda_oom": "VRAM exhausted"})
    add(log, f"{OOM}\nVRAM exhausted\n")
    tail.look()
    assert tail.counts["cuda_oom"] == 1
    assert "log-tail-cuda-oom" in tail.found


@pytest.mark.parametrize(
    "secret",
    [
        "hf_PlantedPlantedPlantedPlantedPlanted",
        "sk-planted0123456789",
        "api_key=plantedplanted",
        "Authorization: Bearer planted.planted.planted",
        "'password': 'planted!'",
        "https://user:planted@example.com/x",
        "eyJplantedplanted.eyJplanted.planted",
        "0123planted0123planted0123planted0123planted",
    ],
)
def test_nothing_that_looks_like_a_secret_leaves_the_log(log: Path, secret: str) -> None:
    tail = Tail(log, from_start=True, patterns={"hit": "HIT (?P<rest>.*)"})
    add(log, f"HIT 1 {secret} and more\n")
    assert tail.look() == 1
    shown = repr((tail.evidence, tail.found, tail.memory))
    assert "planted" not in shown.lower().replace("log_tail", "")
    assert HIDDEN in tail.evidence["hit"]
    assert "and more" in tail.evidence["hit"]


def test_ordinary_lines_are_shown_as_they_are() -> None:
    for line in (
        "tokens per second: 31",
        OOM[:150],
        "/home/me/ComfyUI/models/checkpoints/sd_xl_base_1.0.safetensors loaded",
    ):
        assert excerpt(line) == line


def test_an_excerpt_is_short_and_printable() -> None:
    assert excerpt("\x1b[31mred\x1b[0m\x00") == "[31mred [0m"
    assert len(excerpt("word " * 1000)) == EXCERPT


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a*)*b", "(?:a|aa)+$", "((a+)b)*", r"(\w+\s?)*$", "(?P<x>[a-z]*,)+", "(a{2,})*", "([)]+)+"]
)
def test_a_pattern_that_could_take_for_ever_is_refused_with_the_config(pattern: str) -> None:
    with pytest.raises(ValidationError, match="for ever"):
        LogTailParams(path="/x", patterns={"c": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        "a+b*c",
        r"(?:\d{1,3}\.){3}\d+",
        r"\(a+\)+",
        "[(+)]+",
        "(foo|bar) failed",
        "(?P<code>[0-9]+) errors?",
        "(abc)+",
        "a++b",
    ],
)
def test_harmless_patterns_are_taken(pattern: str) -> None:
    LogTailParams(path="/x", patterns={"c": pattern})


@pytest.mark.parametrize(
    "params",
    [
        {"patterns": {"c": "("}},
        {"patterns": {"Not A Class": "x"}},
        {"patterns": {f"c{number}": "x" for number in range(51)}},
        {"limit": "1KiB"},
        {"surprise": 1},
    ],
)
def test_params_that_make_no_sense_are_refused(params: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LogTailParams(path="/x", **params)


def test_no_line_makes_the_known_patterns_or_the_hiding_of_secrets_slow() -> None:
    pieces = [
        "ReadTimeout ",
        "huggingface.co ",
        "429 ",
        "a://",
        "token ",
        "x1",
        "GPU 0 ",
        "CUDA out of memory. Tried to allocate ",
    ]
    lines = [(piece * LINE)[:LINE] for piece in pieces]
    started = time.process_time()
    for line in lines:
        excerpt(line)
        for signature in KNOWN.values():
            signature.pattern.search(line)
    assert time.process_time() - started < 5  # some hundredths; what backtracks badly takes minutes


@pytest.mark.parametrize("seed", range(5))
def test_any_mix_of_writing_tearing_rotating_and_looking_counts_every_line_exactly_once(log: Path, seed: int) -> None:
    chance, written, found, rotated = random.Random(seed), 0, 0, 0
    tail, torn, in_sight = Tail(log, limit=64 * KIB, from_start=True), False, False
    for _ in range(150):
        step = chance.choice(["write", "write", "tear", "rename", "copytruncate", "look", "look"])
        if step == "write" or (step == "tear" and torn):
            lines = [f"HIT {written} {chance.random()}\n" for _ in range(chance.randrange(1, 300))]
            add(log, " torn\n" * torn + "".join(lines))
            written, torn = written + len(lines), False
        elif step == "tear":
            add(log, f"HIT {written} {chance.random()}")
            written, torn = written + 1, True
        elif step == "look":
            found += tail.look()
            place = tail.memory["place"]
            in_sight = log.exists() and place["identity"].endswith(f":{log.stat().st_ino}") and tail.unread < 100
        elif in_sight and not torn and (step == "rename" or tail.memory["place"]["offset"]):
            # Only what was left in one old file can be found: between two rotations lies a look that saw the new one.
            # Nobody can tell that a file was truncated of which nothing was read yet.
            rotated, in_sight = rotated + 1, False
            old = log.with_name(f"app.log.{rotated}")
            if step == "rename":
                log.rename(old)
            else:
                shutil.copy(log, old)
            log.open("wb").close()
    found += sum(tail.look() for _ in range(30))
    assert rotated > 5
    assert found == written
