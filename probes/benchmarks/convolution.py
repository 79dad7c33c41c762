"""How many floating-point operations a second do convolutions reach at the shapes of a VAE's decoder?"""

from __future__ import annotations

from collections.abc import Iterator

from probes.api import BenchmarkParams, Fact, Metric, Needs, Probe, World, benchmark, recorded


class ConvolutionParams(BenchmarkParams):
    pass


FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in 3x3 convolutions of the VAE that SDXL uses: the median of many.",
    ("layer", "dtype", "device"),
    better="higher",
)


def run(params: ConvolutionParams, world: World) -> Iterator[Fact]:
    yield from benchmark("convolution", params, world, (FLOPS,))


PROBE = Probe(
    "convolution",
    ConvolutionParams,
    run,
    metrics=(FLOPS,),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
