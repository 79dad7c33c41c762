"""A probe that breaks the contract: this line asks nothing, and the run is blind and healthy at once."""

from __future__ import annotations

from collections.abc import Iterator

from probes.api import Blind, Example, Fact, Metric, Params, Probe, World


class CarelessParams(Params):
    path: str = "/run/room-celsius"


DEGREES = Metric("degrees", "Temperature")


def run(params: CarelessParams, world: World) -> Iterator[Fact]:
    try:
        text = world.read_text(params.path)
    except Blind:
        return
    if text is not None:
        yield DEGREES(len(text))


PROBE = Probe(
    "careless",
    CarelessParams,
    run,
    metrics=(DEGREES,),
    family="hardware",
    examples=(Example("a file", {}, {"files": {"/run/room-celsius": "31.5"}}, (DEGREES(5),)),),
)
