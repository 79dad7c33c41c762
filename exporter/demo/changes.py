"""How does a recorded world move? Changes of its values over time, each within a window that may come again."""

from __future__ import annotations

import math
import operator
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator, model_validator

from probes.api import Duration
from probes.params import DURATION_PATTERN, parse_duration

PAST = 7 * 86400.0  # counters began to count this long before the scenario's start, and no backfill begins earlier
NOISE_EVERY = 15.0  # seconds that one value of the noise lasts
STEP = re.compile(r"\*|[^.*]+")
DATE = re.compile(f"@(-?{DURATION_PATTERN})?")


def parse_moment(value: object) -> float:
    """Seconds from the scenario's start: `20m`, or `-20h` for what happened before it."""
    text = str(value).strip()
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text)


def parse_path(value: object) -> str:
    """Keys and indexes joined by dots, `*` for each of them: `gpus.gpus.0.temperature`, `http.*.seconds`."""
    text = str(value)
    if not all(STEP.fullmatch(step) for step in text.split(".")) or len(text) > 200:
        raise ValueError(
            f"{text[:60]!r} is not a place in a world; write it like gpus.gpus.0.temperature or http.*.seconds"
        )
    return text


Moment = Annotated[float, BeforeValidator(parse_moment)]
Path = Annotated[str, BeforeValidator(parse_path)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e18, le=1e18)]  # so that nothing made of it is infinite


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wave(Strict):
    """A number over time: the sum of what is given. A plain number in the scenario is its `value`."""

    value: Number = Field(0.0, description="Constant.")
    rate: Number = Field(0.0, description="Grows by this a second: for counters.")
    swing: Number = Field(0.0, description="A sine: up and down by this much, once in each `period`.")
    period: Duration = Field(3600.0, gt=0, description="Of the sine.")
    climb: Number = Field(0.0, description="A ramp: up by this much within `over`, from the start of the window on.")
    over: Duration = Field(600.0, gt=0, description="Of the ramp.")
    noise: Number = Field(0.0, ge=0, description="At most this much up or down, the same in each run of the demo.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, given: object) -> object:
        return {"value": given} if isinstance(given, int | float) and not isinstance(given, bool) else given

    def at(self, moment: float, since: float, seed: str, speed: float = 1.0) -> float:
        """`moment`: seconds from the scenario's start; `since`: from the start of the window.

        Whoever counts divides by the world's clock, which `speed` leaves alone: what grows at a rate keeps that rate.
        """
        sine = math.sin(2 * math.pi * moment / self.period) if self.swing else 0.0
        ramp = min(1.0, max(0.0, since / self.over)) if self.climb else 0.0
        grown = self.rate * max(0.0, moment / speed + PAST) if self.rate else 0.0
        swing = self.swing / speed if self.rate else self.swing
        noise = self.noise * _random(f"{seed} {moment // NOISE_EVERY}") if self.noise else 0.0
        return self.value + grown + swing * sine + self.climb * ramp + noise


class Change(Strict):
    """What is different while its window lasts: always, without `during`."""

    during: tuple[Moment, Moment] | None = Field(None, description="From when until when, from the scenario's start.")
    every: Duration | None = Field(
        None, gt=0, description="The window comes again after this time, and came before it."
    )
    example: str = Field("", description="Another example of the probe, by its title.")
    put: dict[Path, JsonValue] = Field(
        {},
        description="Values that stand there instead; `@-7d` is the Unix time that long before the start, `@` that of the window's.",
    )
    times: dict[Path, Wave] = Field({}, description="Numbers there are multiplied.")
    plus: dict[Path, Wave] = Field({}, description="Numbers there are added to.")
    drop: list[Path] = Field([], description="What was never recorded.")

    @field_validator("during")
    @classmethod
    def _forwards(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and given[0] >= given[1]:
            raise ValueError("expected two times, the earlier one first, like [10m, 25m] or [-20h, -19h]")
        return given

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.every is not None and (self.during is None or self.during[1] - self.during[0] > self.every):
            raise ValueError("`every` repeats `during`, which must be given and no longer than it")
        return self

    def since(self, moment: float) -> float | None:
        """Seconds since the window opened; None while it is closed."""
        if self.during is None:
            return moment
        begin, end = self.during
        passed = (moment - begin) % self.every if self.every else moment - begin
        return passed if 0 <= passed < end - begin else None

    def paths(self) -> Iterator[str]:
        """The places that must be there; a value may be put where none was, in what is there."""
        yield from (*self.times, *self.plus, *self.drop)
        yield from (path.rpartition(".")[0] for path in self.put if path.count(".") > 1)

    def apply(self, world: dict[str, Any], moment: float, seed: str, now: float, speed: float = 1.0) -> None:
        """Change `world` in place, if it is time. Its clock says `now`, Unix time, and `moment` passes `speed` times as fast."""
        since = self.since(moment)
        if since is None:
            return
        for path, value in self.put.items():
            _put(world, path.split("."), _dated(value, now - moment / speed, now - since / speed))
        for path, wave in self.times.items():
            _move(world, path, operator.mul, wave.at(moment, since, f"{seed} {path}", speed))
        for path, wave in self.plus.items():
            _move(world, path, operator.add, wave.at(moment, since, f"{seed} {path}", speed))
        for path in self.drop:
            for container, key in reversed(list(_places(world, path.split(".")))):
                del container[key]


def _dated(value: Any, start: float, opened: float) -> Any:
    """A copy with Unix times for `@-7d` (that long before the scenario's start) and `@` (when the window opened).

    `start` and `opened` are Unix times. A certificate of 75 days holds for 75 days at any speed.
    """
    if isinstance(value, dict):
        return {key: _dated(inner, start, opened) for key, inner in value.items()}
    if isinstance(value, list):
        return [_dated(inner, start, opened) for inner in value]
    if isinstance(value, str) and DATE.fullmatch(value):
        return start + parse_moment(value[1:]) if value != "@" else opened
    return value


def leads(world: Any, path: str) -> bool:
    """Is there anything at that path?"""
    return any(True for _ in _places(world, path.split(".")))


def _places(data: Any, steps: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Every container and key that the steps lead to; what is not there leads nowhere."""
    step, *rest = steps
    if isinstance(data, dict):
        keys: list[Any] = list(data) if step == "*" else [step] if step in data else []
    elif isinstance(data, list | tuple):
        numbers = [str(number) for number in range(len(data))]
        keys = [int(number) for number in numbers if step in ("*", number)]
    else:
        keys = []
    for key in keys:
        if rest:
            yield from _places(data[key], rest)
        else:
            yield data, key


def _put(world: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    """Where nothing is yet, mappings are made on the way: `blind.http` needs no example that is blind."""
    *way, last = steps
    for container, key in _places({"": world}, ["", *way]):
        place = container[key]
        if isinstance(place, dict):
            place.update(dict.fromkeys(list(place) if last == "*" else [last], value))
        elif isinstance(place, list):
            place[:] = [value if last in ("*", str(index)) else old for index, old in enumerate(place)]
    if len(way) == 1 and way[0] not in world:
        world[way[0]] = {last: value}


def _move(world: Any, path: str, operation: Callable[[float, float], float], by: float) -> None:
    for container, key in _places(world, path.split(".")):
        old = container[key]
        if isinstance(old, int | float) and not isinstance(old, bool):
            new = operation(old, by)
            container[key] = round(new) if isinstance(old, int) else new


def _random(seed: str) -> float:
    """Between -1 and 1, and always the same for the same seed."""
    return zlib.crc32(seed.encode()) / 2**31 - 1.0
