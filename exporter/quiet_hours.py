"""Is it a time at which benchmarks shall be quiet? Spans of local time by weekday, also over midnight.

What counts is what the clock on the wall says: an hour that daylight saving takes away is in no span, one that it gives
twice is in its span twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 24 * 60  # minutes
SPAN = re.compile(r"(?:(?P<days>[A-Za-z]{3}(?:[-,][A-Za-z]{3})*) +)?(?P<begin>\d\d?:\d\d) *- *(?P<end>\d\d?:\d\d)")
PATTERN = rf"^{SPAN.pattern.replace('?P<days>', '?:').replace('?P<begin>', '').replace('?P<end>', '')}$"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Minutes of the day from `begin` until before `end`; where `end` is the smaller, until the next day's."""

    days: frozenset[int]  # 0 is Monday; of a span over midnight, the day it begins
    begin: int
    end: int
    text: str

    def cover(self, local: datetime) -> bool:
        """Does that moment of local time lie within?"""
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.begin < self.end:
            return today in self.days and self.begin <= minute < self.end
        return (today in self.days and minute >= self.begin) or ((today - 1) % 7 in self.days and minute < self.end)


def parse(text: str) -> QuietHours:
    """`22:00-07:00`, `Mon-Fri 09:00-18:00`, `Sat,Sun 00:00-24:00`. ValueError says how to write it."""
    found = SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no span of time; write it like 22:00-07:00 or Mon-Fri 09:00-18:00")
    begin, end = _minutes(found["begin"], text), _minutes(found["end"], text)
    if begin in (end, DAY):
        raise ValueError(f"{text!r} has no length; the whole day is 00:00-24:00")
    return QuietHours(_days(found["days"], text), begin, end, text.strip())


def now_in(timezone: str) -> datetime:
    """The local time of that zone (`Europe/Berlin`), "" for the machine's."""
    return datetime.now(ZoneInfo(timezone)) if timezone else datetime.now().astimezone()


def _minutes(clock: str, text: str) -> int:
    hour, _, minute = clock.partition(":")
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > DAY:
        raise ValueError(f"{text!r}: {clock} is no time of day; write 00:00 to 24:00")
    return total


def _days(words: str | None, text: str) -> frozenset[int]:
    found: set[int] = set()
    for word in words.split(",") if words else ("Mon-Sun",):
        first, _, last = word.partition("-")
        try:
            begin, end = (DAYS.index(day.capitalize()) for day in (first, last or first))
        except ValueError:
            raise ValueError(f"{text!r}: {word!r} is no day; write {', '.join(DAYS)}, or Mon-Fri") from None
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)
