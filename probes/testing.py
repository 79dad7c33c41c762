"""What proves a probe? A world made of recorded data, and the contract every probe must keep.

from probes.testing import RecordedWorld, verify
assert verify(PROBE) == []
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from probes.api import (
    MIB,
    Blind,
    Example,
    Fact,
    Finding,
    Json,
    Measurement,
    Probe,
    Remember,
    Row,
    Rule,
    Skipped,
    SubjectFailed,
)
from probes.facts import SUFFIX
from probes.rules import BENCHMARK_NOT_ON_CARD, HOUSE_RULES
from probes.world.commands import Completed
from probes.world.files import Chunk, Disk, Stat
from probes.world.gpus import Gpu, Gpus
from probes.world.host import Host
from probes.world.http import Request, Response

UNITS = (
    "seconds",
    "bytes",
    "ratio",
    "hertz",
    "watts",
    "celsius",
    "joules",
    "second",
    "code",
    "generation",
    "active",
    "verified",
)
RESERVED_SUFFIXES = ("_count", "_sum", "_bucket")  # of histograms; promtool complains of any other use
# made once: building one takes milliseconds, and the demo asks for every run
DISK, COMPLETED, RESPONSE = TypeAdapter(Disk), TypeAdapter(Completed), TypeAdapter(Response)
GPUS, HOST = TypeAdapter(Gpus), TypeAdapter(Host)


class RecordedWorld:
    """Every door answers from recorded data; what was not recorded is absent. Keys, all optional:

    `now`: Unix time; `environ`: {name: value}; `files`: {path: text or {"text", "mode", "uid", "modified", "identity"}};
    `directories`: {path: [names]}; `disks`, `commands` (key: argv joined by spaces), `http` (key: "METHOD url"): fields of
    Disk, Completed and Response (`body` as text); `gpus`, `host`: fields of Gpus and Host; `later`: {door: [fields that
    change at its next look]}; `workers`: {name: rows, or {"rule", "detail"}}; `previous`; `blind`: {door: reason}.
    """

    def __init__(self, world: Mapping[str, Any] | None = None) -> None:
        self.world = dict(world or {})
        self._looks: Counter[str] = Counter()

    @property
    def previous(self) -> Mapping[str, Json]:
        return dict(self._table("previous"))

    def now(self) -> float:
        return float(self.world.get("now", 1_700_000_000.0))

    def read(self, path: str, offset: int = 0, limit: int = MIB) -> Chunk | None:
        text = self._file(path, "text")
        if text is None:
            return None
        data = str(text).encode("utf-8", "surrogateescape")
        return Chunk(data[offset : offset + limit], len(data), str(self._file(path, "identity") or path))

    def read_text(self, path: str, limit: int = MIB) -> str | None:
        chunk = self.read(path, 0, limit)
        return None if chunk is None else chunk.data.decode("utf-8", "replace")

    def list(self, path: str) -> tuple[str, ...] | None:
        names = self._table("directories").get(path)
        return None if names is None else tuple(sorted(names))

    def stat(self, path: str) -> Stat | None:
        if path in self._table("directories"):
            return Stat(0, 0o755, 0, self.now(), is_dir=True, identity=path)
        text = self._file(path, "text")
        if text is None:
            return None
        size = len(str(text).encode("utf-8", "surrogateescape"))
        get = self._file
        return Stat(
            size,
            int(get(path, "mode") or 0o600),
            int(get(path, "uid") or 0),
            float(get(path, "modified") or self.now()),
            identity=str(get(path, "identity") or path),
        )

    def disk(self, path: str) -> Disk | None:
        entry = self._table("disks").get(path)
        return None if entry is None else DISK.validate_python(entry)

    def environ(self) -> Mapping[str, str]:
        return {k: str(v) for k, v in self._table("environ").items()}

    def command(self, argv: Sequence[str], timeout: float = 10.0) -> Completed | None:
        entry = self._table("commands", "command").get(" ".join(argv))
        return None if entry is None else COMPLETED.validate_python(entry)

    def http(self, request: Request) -> Response:
        entry = self._table("http").get(f"{request.method} {request.url}")
        if entry is None:
            return Response(url=request.url, error="refused", detail="connection refused")
        entry = {"url": request.url, **entry}
        entry["body"] = str(entry.get("body", "")).encode("utf-8", "surrogateescape")
        return RESPONSE.validate_python(entry)

    def gpus(self) -> Gpus:
        return GPUS.validate_python(self._look("gpus"))

    def host(self) -> Host:
        if "host" not in self.world:
            self._blind("host")
            raise Blind("no_source", "no host facts were recorded")
        return HOST.validate_python(self._look("host"))

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        entry = self._table("workers", "worker").get(name)
        if entry is None:
            raise Blind("no_interpreter", "no rows were recorded")
        rows = entry.get("rows", ()) if isinstance(entry, dict) else entry
        yield from (Row(**row) for row in rows)
        if isinstance(entry, dict) and "rule" in entry:
            rule = next(r for r in HOUSE_RULES if r.name == entry["rule"])
            raise SubjectFailed(rule(entry.get("detail", "")), entry.get("evidence", ""))

    def _blind(self, door: str) -> None:
        blind = self.world.get("blind", {})
        reason = blind.get(door) or blind.get("*")
        if reason:
            raise Blind(reason, f"recorded for {door}")

    def _table(self, key: str, door: str = "") -> Mapping[str, Any]:
        if key != "previous":
            self._blind(door or key)
        table: Mapping[str, Any] = self.world.get(key, {})
        return table

    def _look(self, door: str) -> Mapping[str, Any]:
        """What the door says this time."""
        changes, look = [{}, *self._table("later", door).get(door, ())], self._looks[door]
        self._looks[door] += 1
        return {**self._table(door), **changes[min(look, len(changes) - 1)]}

    def _file(self, path: str, key: str) -> Any:
        entry = self._table("files").get(path)
        if isinstance(entry, dict):
            return entry.get(key)
        return entry if key == "text" else None


JUNK = "\x00\udcff{]junk"
BLIND_WORLD = RecordedWorld({"blind": {"*": "permission"}})


class JunkWorld(RecordedWorld):
    """A world that answers every question with nonsense of the right type."""

    def now(self) -> float:
        return -1.0

    def read(self, path: str, offset: int = 0, limit: int = MIB) -> Chunk | None:
        return Chunk(JUNK.encode("utf-8", "surrogateescape"), -1, "")

    def list(self, path: str) -> tuple[str, ...] | None:
        return (JUNK,)

    def stat(self, path: str) -> Stat | None:
        return Stat(-1, 0o777, -1, -1.0)

    def disk(self, path: str) -> Disk | None:
        return Disk(-1, -1)

    def environ(self) -> Mapping[str, str]:
        return {JUNK: JUNK}

    def command(self, argv: Sequence[str], timeout: float = 10.0) -> Completed | None:
        return Completed(255, JUNK, JUNK)

    def http(self, request: Request) -> Response:
        return Response(-1, {JUNK: JUNK}, JUNK.encode("utf-8", "surrogateescape"), -1.0)

    def gpus(self) -> Gpus:
        return Gpus(
            True, JUNK, JUNK, JUNK, (Gpu(-1, "", error=JUNK, utilization=-9.0, memory_total=-1, memory_used=-1),)
        )

    def host(self) -> Host:
        return Host(JUNK, JUNK, JUNK, cpus=-1, memory_total=-1, memory_available=-1)

    def worker(
        self, name: str, params: Mapping[str, Json], *, interpreter: str = "auto", gpu: str = ""
    ) -> Iterator[Row]:
        yield Row("start", data={JUNK: JUNK})
        yield Row("fact", metric=JUNK, value=math.nan)
        yield Row("data", data={JUNK: JUNK})
        yield Row("end")


def run_recorded(probe: Probe[Any], params: Mapping[str, Json], world: RecordedWorld) -> tuple[list[Fact], str]:
    """All facts of one run, and how it ended: "", `class:reason` of a skip, `failed:rule`, or `error: ...`."""
    facts: list[Fact] = []
    try:
        facts.extend(probe.run(probe.params(**params), world))
    except Skipped as stop:
        return facts, f"{stop.skip_class}:{stop.reason}"
    except SubjectFailed as stop:
        return [*facts, stop.finding], f"failed:{stop.finding.rule}"
    except Exception as error:  # the contract asks how a probe ends, whatever it does
        return facts, f"error: {type(error).__name__}: {error}"
    return facts, ""


def verify(probe: Probe[Any]) -> list[str]:
    """Every promise of the contract this probe breaks, as sentences; empty when it keeps them all."""
    return [f"{probe.name}: {problem}" for problem in (*_declarations(probe), *_examples(probe), *_blindness(probe))]


def _declarations(probe: Probe[Any]) -> Iterator[str]:
    if not probe.title.endswith("?"):
        yield "the module's docstring must start with the question the probe answers"
    for name, field in probe.params.model_fields.items():
        if not field.description:
            yield f"parameter {name} has no description"
    for metric in probe.metrics:
        if not metric.help.endswith("."):
            yield f"metric {metric.name}: the help must be a sentence"
        if metric.name.endswith(RESERVED_SUFFIXES):
            yield f"metric {metric.name}: {', '.join(RESERVED_SUFFIXES)} belong to histograms; count things by their plural"
        elif metric.kind not in SUFFIX and not metric.name.endswith((*UNITS, "s")):
            yield f"metric {metric.name}: end the name in a base unit ({', '.join(UNITS)}) or a plural noun"
    taken = {rule.name for rule in HOUSE_RULES}
    for rule in probe.rules:
        if rule.name in taken:
            yield f"rule {rule.name} is declared twice, or belongs to the house"
        taken.add(rule.name)


def _examples(probe: Probe[Any]) -> Iterator[str]:
    if not probe.examples:
        yield "it has no example"
    seen: set[str] = set()
    for example in probe.examples:
        facts, end = run_recorded(probe, example.params, RecordedWorld(example.world))
        shown = tuple(f for f in facts if isinstance(f, Measurement | Finding | Remember))
        expected_end = example.skip or next((f"failed:{r.name}" for r in HOUSE_RULES if _ends_with(example, r)), "")
        if end != expected_end:
            yield f"example {example.title!r} ended with {end or 'no skip'!r}, not {expected_end or 'no skip'!r}"
        elif shown != tuple(example.facts):
            yield f"example {example.title!r} yields {_difference(shown, tuple(example.facts))}"
        seen |= {f.metric for f in facts if isinstance(f, Measurement)} | {
            f.rule for f in facts if isinstance(f, Finding)
        }
    for name in (*(m.name for m in probe.metrics), *(r.name for r in probe.rules)):
        if name not in seen:
            yield f"{name} appears in no example"


def _ends_with(example: Example, rule: Rule) -> bool:
    last = example.facts[-1] if example.facts else None
    return isinstance(last, Finding) and last.rule == rule.name and rule is not BENCHMARK_NOT_ON_CARD


def _difference(got: tuple[Fact, ...], want: tuple[Fact, ...]) -> str:
    extra, missing = [f for f in got if f not in want], [f for f in want if f not in got]
    return f"unexpected {extra}, missing {missing}" if extra or missing else "the right facts in another order"


def _blindness(probe: Probe[Any]) -> Iterator[str]:
    params = probe.examples[0].params if probe.examples else {}
    for title, world in (("an empty world", RecordedWorld({})), ("junk", JunkWorld())):
        facts, end = run_recorded(probe, params, world)
        if end == "" and not any(isinstance(f, Finding) and f.severity != "info" for f in facts):
            yield f"{title} is taken for ok: make a finding of what a door did not answer well (an exit code, a missing number)"
    facts, end = run_recorded(probe, params, BLIND_WORLD)
    if not end.startswith(("blind:", "not_applicable:")) or any(isinstance(f, Finding) for f in facts):
        yield f"a world whose doors are all blind must be skipped, not {end or facts}"
