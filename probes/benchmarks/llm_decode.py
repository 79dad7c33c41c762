"""How soon does a small language model give its first token on this card, and how many a second after it?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from probes.api import BenchmarkParams, Fact, Metric, Needs, Probe, World, benchmark, recorded


class LlmDecodeParams(BenchmarkParams):
    prompt_tokens: int = Field(
        0, ge=0, le=131072, description="Tokens of the prompt; 0 for 1024 (on the CPU, with a toy of a model, 32)."
    )


FIRST = Metric(
    "first_token_seconds",
    "Time from a prompt to its first token: the median of many. Llama 3.2 1B's shape, random weights, one request.",
    ("device",),
    better="lower",
)
PREFILL = Metric(
    "prefill_tokens_per_second",
    "Tokens of the prompt that are taken in a second, up to the first token of the answer.",
    ("device",),
    better="higher",
)
DECODE = Metric(
    "decode_tokens_per_second",
    "Tokens of the answer a second, one after the other: what the card's memory bandwidth allows.",
    ("device",),
    better="higher",
)


def run(params: LlmDecodeParams, world: World) -> Iterator[Fact]:
    yield from benchmark("llm_decode", params, world, (FIRST, PREFILL, DECODE))


PROBE = Probe(
    "llm_decode",
    LlmDecodeParams,
    run,
    metrics=(FIRST, PREFILL, DECODE),
    every="6h",
    timeout="5m",
    needs=Needs(lane="gpu", idle=True),
    examples=recorded(__file__),
)
