"""Does the application's log tell of trouble since the last look?"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import Field

from probes.api import (
    MIB,
    Bytes,
    Duration,
    Evidence,
    Fact,
    Json,
    Metric,
    Params,
    PatientRegex,
    Probe,
    Remember,
    Rule,
    World,
    recorded,
)
from probes.services.log_patterns import KNOWN, LINE, MATCH, Signature, excerpt, signatures
from probes.services.log_place import Place, end_of, follow

SHOWN = 3  # lines of each class that become evidence of a run

Class = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class LogTailParams(Params):
    path: str = Field(description="The log, like `~/ComfyUI/user/comfyui.log`.")
    patterns: dict[Class, PatientRegex] = Field(
        default_factory=dict,
        max_length=50,
        description="Regular expressions to search each line for, by class; named groups are shown in the finding.",
    )
    known: bool = Field(True, description=f"Also search for {', '.join(KNOWN)}.")
    from_start: bool = Field(False, description="Read what is in the log already when the check runs first.")
    missing_ok: bool = Field(False, description="An absent log is no trouble: the application may not have started.")
    hold: Duration = Field(900.0, description="How long after its last match a class stays a finding.")
    limit: Bytes = Field(MIB, ge=64 * 1024, le=16 * MIB, description="Bytes read of a file in one run.")


MATCHES = Metric("matches_total", "Lines that matched, by class.", ("path", "class"), kind="events")
LAST = Metric("last_match_timestamp_seconds", "When a line of that class was read last.", ("path", "class"))
UNREAD = Metric("unread_bytes", "Bytes of the log that wait for the next runs.", ("path",), better="lower")
ABSENT = Rule(
    "log-tail-absent",
    "warning",
    "There is no log at that path.",
    "1. `ls -lt $(dirname PATH)` shows where the application writes instead.\n"
    "2. Correct the check's `path:`, or set `missing_ok: true` if the application starts later.",
)


@dataclass(slots=True)
class Hits:
    """The lines of one class in one run: how many, the last few, and what the last one's named groups say."""

    count: int = 0
    shown: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN))
    named: str = ""

    def detail(self) -> str:
        return f"{self.count} line{'s' * (self.count > 1)}, the last: {self.named or self.shown[-1]}"


def run(params: LogTailParams, world: World) -> Iterator[Fact]:
    wanted, now = signatures(params.known, params.patterns), world.now()
    memory = world.previous if world.previous.get("path") == params.path else {}
    place = Place.recalled(memory.get("place"))
    if place is None:
        place = Place() if params.from_start else end_of(world, params.path)
    reading = follow(world, params.path, place, params.limit)
    hits = _search(reading.lines, wanted)
    seen = _recalled(memory.get("seen")) | {name: (now, hit.detail()) for name, hit in hits.items()}
    for name, signature in wanted.items():
        labels = {"path": params.path, "class": name}
        yield MATCHES(hits[name].count if name in hits else 0, **labels)
        if name in hits:
            yield Evidence(name, "\n".join(hits[name].shown))
        if name in seen:
            at, detail = seen[name]
            yield LAST(at, **labels)
            if now - at < params.hold:
                yield signature.rule(detail, subject=name if signature.rule is MATCH else params.path)
    if not reading.absent:
        yield UNREAD(reading.unread, path=params.path)
    elif not params.missing_ok:
        yield ABSENT("no such file", subject=params.path)
    kept: dict[str, Json] = {name: [*seen[name]] for name in wanted if name in seen}
    yield Remember({"path": params.path, "place": asdict(reading.place), "seen": kept})


def _search(lines: Iterable[bytes], wanted: Mapping[str, Signature]) -> dict[str, Hits]:
    hits: defaultdict[str, Hits] = defaultdict(Hits)
    for line in lines:
        text = line[: 4 * LINE].decode("utf-8", "replace")[:LINE]  # a character has at most four bytes
        for name, signature in wanted.items():
            match = signature.pattern.search(text)
            if match is not None:
                groups = match.groupdict().items()
                hits[name].count += 1
                hits[name].shown.append(excerpt(text))
                hits[name].named = excerpt(", ".join(f"{key} {value}" for key, value in groups if value))
    return hits


def _recalled(memory: Json) -> dict[str, tuple[float, str]]:
    """When each class matched last, and what the finding said, as far as it was remembered in that shape."""
    seen: dict[str, tuple[float, str]] = {}
    for name, entry in memory.items() if isinstance(memory, dict) else ():
        match entry:
            case [int() | float() as at, str() as detail]:
                seen[name] = (float(at), detail)
    return seen


PROBE = Probe(
    "log_tail",
    LogTailParams,
    run,
    metrics=(MATCHES, LAST, UNREAD),
    rules=(ABSENT, MATCH, *(signature.rule for signature in KNOWN.values())),
    every="10s",
    timeout="8s",
    examples=recorded(__file__),
)
