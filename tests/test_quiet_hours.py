"""Are quiet hours what the clock on the wall says, over midnight, by weekday, and when the clocks change?"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import configured
from exporter.config.document import ConfigError
from exporter.quiet_hours import PATTERN, now_in, parse

BERLIN = ZoneInfo("Europe/Berlin")


def covered(span: str, moment: str) -> bool:
    return parse(span).cover(datetime.fromisoformat(moment))


@pytest.mark.parametrize(
    ("span", "moment", "within"),
    [  # 2026-11-20 is a Friday
        ("09:00-18:00", "2026-11-20 09:00", True),
        ("09:00-18:00", "2026-11-20 17:59:59", True),
        ("09:00-18:00", "2026-11-20 18:00", False),
        ("22:00-07:00", "2026-11-20 23:00", True),
        ("22:00-07:00", "2026-11-20 06:59", True),
        ("22:00-07:00", "2026-11-20 07:00", False),
        ("Mon-Fri 22:00-07:00", "2026-11-21 06:00", True),  # Friday's night ends on Saturday
        ("Mon-Fri 22:00-07:00", "2026-11-21 22:00", False),
        ("Mon-Fri 22:00-07:00", "2026-11-16 06:00", False),  # Sunday's night
        ("Fri-Mon 10:00-11:00", "2026-11-22 10:30", True),  # over the week's end
        ("Fri-Mon 10:00-11:00", "2026-11-24 10:30", False),
        ("sat,SUN 00:00-24:00", "2026-11-22 23:59", True),
        ("Sat,Sun 00:00-24:00", "2026-11-23 00:00", False),
    ],
)
def test_a_span_covers_what_it_says(span, moment, within):
    assert covered(span, moment) is within


def test_an_hour_that_the_clock_skips_is_in_no_span_and_one_it_gives_twice_is_in_it_twice():
    span, minutes = parse("02:00-03:00"), [timedelta(minutes=n) for n in range(24 * 60)]
    spring = datetime(2026, 3, 28, 23, tzinfo=UTC)  # Berlin leaves out 02:00 to 03:00 on the 29th
    autumn = datetime(2026, 10, 24, 22, tzinfo=UTC)  # and has it twice on October 25th
    days = [[span.cover((begin + m).astimezone(BERLIN)) for m in minutes] for begin in (spring, autumn)]
    assert [sum(day) for day in days] == [0, 120]


def test_the_time_is_that_of_the_zone_that_is_named():
    assert abs((now_in("Asia/Kolkata") - now_in("")).total_seconds()) < 5
    assert now_in("Asia/Kolkata").utcoffset() == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nights", "is no span of time; write it like 22:00-07:00"),
        ("25:00-07:00", "25:00 is no time of day"),
        ("22:70-07:00", "22:70 is no time of day"),
        ("22:00-22:00", "has no length"),
        ("24:00-07:00", "has no length"),
        ("Foo 22:00-23:00", "'Foo' is no day; write Mon, Tue"),
        ("Mon-Fri", "is no span of time"),
    ],
)
def test_a_span_that_makes_no_sense_is_told_at_its_key(text, why):
    with pytest.raises(ConfigError, match=re.escape(why)) as caught:
        configured({"gate": {"quiet_hours": ["01:00-02:00", text]}, "checks": []}, {})
    assert caught.value.problems[0].key == "gate.quiet_hours[1]"


def test_the_gate_says_what_is_wrong_with_it():
    section: dict[str, Any] = {
        "timezone": "Mars/Olympus",
        "lock": "x",
        "busy": [{"url": "ftp://x"}, {"url": "http://x/"}],
    }
    section["busy"] += [{"url": "http://x/", "regex": "(a+)+b"}]  # which would hold up everything else
    with pytest.raises(ConfigError) as caught:
        configured({"gate": section, "checks": []}, {})
    said = str(caught.value)
    assert "gate.timezone: 'Mars/Olympus' is no time zone" in said
    assert (
        "gate.lock: unknown key; expected one of busy, device_budget, lock_file, quiet_hours, timezone; did you mean lock_file?"
        in said
    )
    assert "gate.busy[0].url: a URL starts with http:// or https://" in said
    assert "gate.busy[1]: expected either json_path or regex" in said
    assert "gate.busy[2].regex: a repeated group holds a repetition" in said


CLOCK = st.integers(0, 23 * 60 + 59).map(lambda m: f"{m // 60:02}:{m % 60:02}")


@given(CLOCK, CLOCK, st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_a_span_and_what_is_left_of_the_day_share_no_moment_and_miss_none(begin, end, moment):
    if begin != end:
        assert parse(f"{begin}-{end}").cover(moment) is not parse(f"{end}-{begin}").cover(moment)
        assert re.fullmatch(PATTERN, f"{begin}-{end}")
