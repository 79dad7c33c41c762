"""Is the room that the machine stands in cool enough for its cards?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import Example, Fact, Metric, Params, Probe, Rule, World


class RoomParams(Params):
    path: str = Field("/run/room-celsius", description="File into which the thermometer's daemon writes degrees.")
    warm: float = Field(28.0, description="Degrees above which `room-warm` fires.")


AIR = Metric("air_celsius", "Temperature of the room.", better="lower")
WARM = Rule("room-warm", "warning", "The room is too warm.", "1. `sensors` shows the fans.\n2. Open a window.")
SILENT = Rule("room-silent", "critical", "The thermometer says nothing.", "1. `systemctl restart thermometer`")


def run(params: RoomParams, world: World) -> Iterator[Fact]:
    text = world.read_text(params.path)
    if text is None:
        yield SILENT(f"{params.path} does not exist")
        return
    degrees = float(text)
    yield AIR(degrees)
    if degrees > params.warm:
        yield WARM(f"{degrees:g} degrees, more than {params.warm:g}")


PROBE = Probe(
    "room",
    RoomParams,
    run,
    metrics=(AIR,),
    rules=(WARM, SILENT),
    every="1m",
    timeout="5s",
    family="hardware",
    examples=(
        Example(
            "a hot day", {}, {"files": {"/run/room-celsius": "31.5"}}, (AIR(31.5), WARM("31.5 degrees, more than 28"))
        ),
        Example("no daemon", {}, {}, (SILENT("/run/room-celsius does not exist"),)),
    ),
)
