"""How many bytes a second does one card copy to the memory of another, and back?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from probes.api import BenchmarkParams, Bytes, Conditions, Fact, Json, Metric, Needs, Probe, World, benchmark, recorded


class PeerCopyParams(BenchmarkParams):
    peer: str = Field("1", min_length=1, description="Index or UUID of the other card; both must be idle.")
    size: Bytes = Field(
        0, description="Bytes copied at a time; 0 for the size of the card's class (1GiB, small ones 256MiB)."
    )


COPY = Metric(
    "bytes_per_second",
    "Bytes a second from one card's memory to another's, one way at a time: the median of many.",
    ("direction", "device"),
    better="higher",
)


def run(params: PeerCopyParams, world: World) -> Iterator[Fact]:
    yield from benchmark("peer_copy", params, world, (COPY,), _access, card_only=True)


def _access(told: Mapping[str, Json]) -> Iterator[Fact]:
    """Whether the cards reach each other's memory themselves: other hardware, drivers and BIOS settings change it."""
    yield Conditions({"peer_access": str(told.get("peer_access"))})


PROBE = Probe(
    "peer_copy",
    PeerCopyParams,
    run,
    metrics=(COPY,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
