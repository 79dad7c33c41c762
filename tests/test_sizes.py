"""Does every benchmark fit the cards that it is meant for, and take about ten seconds of them? By hand, from its own tables."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from exporter.world.workers import WORKERS
from probes.benchmarks import model_load, monitor_accuracy
from tests.test_outcomes import PROBES, TORCHLESS
from tests.torch_side import inside

GIB = 2**30
# What torch tells as the memory of cards that are sold as 8, 12, 24 and 80 GB.
CARDS = {8: int(7.6 * GIB), 12: int(11.6 * GIB), 24: int(23.5 * GIB), 80: int(79.1 * GIB)}
FLUSH = 256 * 2**20  # kit's buffer
CONTEXT = 700 * 2**20  # of one process: CUDA itself, kernels, and what cuBLAS and cuDNN work in
MOST = 0.8  # of the card: a desktop is at home there too

Names = Mapping[str, Any]


def fitting(classes: Sequence[tuple[int, Any]], memory: int) -> Any:
    """As kit.fitting."""
    return next(value for least, value in classes if memory >= least)


def matmul(names: Names, memory: int) -> int:
    return 3 * 4 * fitting(names["SIZES"], memory) ** 2  # two fp32 matrices and their product


def one_copy(names: Names, memory: int) -> int:
    return int(fitting(names["SIZES"], memory))  # the other one is the host's, or the peer's


def attention(names: Names, memory: int) -> int:
    share = fitting(names["SHARE_OF_TOKENS"], memory)
    # queries, keys, values and what comes out, in two bytes; the fused kernels hold no matrix of scores
    return max(4 * 2 * heads * width * (tokens // share) for heads, width, tokens, _ in names["SHAPES"].values())


def convolution(names: Names, memory: int) -> int:
    shrunk = fitting(names["SHRUNK"], memory)
    # what goes in and comes out in two bytes, and cuDNN's transformed copy of both
    return max(2 * 2 * (into + out) * (side // shrunk) ** 2 for into, out, side in names["LAYERS"].values())


def corruption(names: Names, memory: int) -> int:
    matrix, copy = 4 * fitting(names["SIZES"], memory) ** 2, fitting(names["COPIES"], memory)
    # two matrices and their halves, the reference and another output; a sort has places of 8 bytes and a buffer of both
    kernels = max(2 * matrix, 2 * (matrix + 2 * matrix) + matrix, 2 * copy)
    return int(2 * matrix + matrix + copy + kernels + max(matrix, copy) // 4)  # what differs is told by a byte each


def loads(names: Names, memory: int) -> int:
    return int(model_load.PROBE.params().size)


def sustained(names: Names, memory: int) -> int:
    return (4 + 4 + 2 + 2) * int(fitting(names["SIZES"], memory)) ** 2  # drawn in fp32, then halved


def llm_decode(names: Names, memory: int) -> int:
    shape, prompt = fitting(names["MODELS"], memory), fitting(names["PROMPTS"], memory)
    width, small = shape["width"], shape["shared"] * shape["width"] // shape["heads"]
    layer = width * (width + 2 * small) + width * width + 3 * width * shape["hidden"]
    weights = shape["words"] * width + shape["layers"] * layer
    cache = 2 * shape["layers"] * (prompt + names["DECODED"]) * small
    between = prompt * (4 * shape["hidden"] + 8 * width) + shape["words"]
    largest = shape["words"] * width  # is drawn, then divided
    return 2 * (weights + cache + between + largest)


def diffusion_step(names: Names, memory: int) -> int:
    wide, hidden, worst = names["WIDTH"], names["HIDDEN"], 0
    for height, width in (names["SIZES"][size] for size in fitting(names["DEFAULTS"], memory)):
        tokens = names["LATENT_FRAMES"] * (height // 16) * (width // 16)
        weights = 8 * wide * wide + 2 * wide * hidden
        layer = 2 * (weights + tokens * max(12 * wide, 4 * wide + 2 * hidden))
        # the last level of the decoder: 96 channels of four whole frames, six times at once, and three more in cuDNN's layout
        decoder = 2 * (6 + 3) * 96 * 4 * height * width
        worst = max(worst, layer, decoder)
    return worst


def optimisations(names: Names, memory: int) -> int:
    (wide, heads, blocks, channels), pictures = names["CARD"], names["PICTURES"]
    pixels = fitting(names["PIXELS"], memory)
    tokens, fewer = (pixels // 16) ** 2, (pixels // 64 * 3) ** 2
    weights = 12 * wide * wide * blocks
    scores = pictures * heads * tokens**2
    denoise = weights + 3 * scores + 12 * pictures * tokens * wide
    decode = 4 * pictures * channels[-1] * pixels**2
    # weights and gradients; of each block the scores before and after the softmax, and what the products were made of
    training = 2 * weights + blocks * (3 * pictures * heads * fewer**2 + 16 * pictures * fewer * wide)
    return 4 * max(denoise, weights + decode, training)


def weights_of(channels: Sequence[int], text: int) -> int:
    """Of training_step's U-Net."""

    def convolution(into: int, out: int) -> int:
        return 2 * into + 9 * into * out + out  # with the norm before it

    wide, pairs = channels[-1], list(itertools.pairwise(channels))
    ends = 9 * 4 * channels[0] + channels[0] + convolution(channels[0], 4)
    prompt = wide * wide + wide + text * 2 * wide + 2 * wide
    levels = (
        2 * convolution(a, a) + convolution(a, b) + 4 * a * b + 4 * a + convolution(2 * a, a) + convolution(a, a)
        for a, b in pairs
    )
    return ends + prompt + sum(levels)


def training_step(names: Names, memory: int) -> int:
    channels, side = fitting(names["CLASSES"], memory)
    one = 4 * 4 * weights_of(channels, names["TEXT"])  # weights, gradients and two moments
    kept = sum(24 * 4 * names["BATCH"] * c * (side >> level) ** 2 for level, c in enumerate(channels))
    return 2 * (one + kept) + CONTEXT  # and the process that will be killed has all of it again


BYTES: dict[str, Callable[[Names, int], int]] = {
    "matmul": matmul,
    "memory_copy": lambda names, memory: 2 * one_copy(names, memory),
    "host_copy": one_copy,
    "peer_copy": one_copy,
    "attention": attention,
    "convolution": convolution,
    "corruption": corruption,
    "model_load": loads,
    "sustained": sustained,
    "llm_decode": llm_decode,
    "diffusion_step": diffusion_step,
    "optimisations": optimisations,
    "training_step": training_step,
    "monitor_accuracy": lambda names, memory: int(monitor_accuracy.PROBE.params().vram),
}
ALL_THERE_IS = {"max_batch"}  # that is its question


def tables(name: str, monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # some set it where they are read
    return runpy.run_path(str(WORKERS / f"{name}.py"), run_name="bench")


def test_every_worker_of_a_card_has_its_sum_here() -> None:
    assert BYTES.keys() | ALL_THERE_IS == PROBES.keys() - TORCHLESS


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", BYTES)
def test_a_benchmark_leaves_a_fifth_of_the_card(name: str, card: int, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = BYTES[name](tables(name, monkeypatch), CARDS[card])
    assert needed > 2**24, "it is there at all"
    assert needed + FLUSH + CONTEXT < MOST * CARDS[card], f"{needed / GIB:.1f} GiB"


@pytest.mark.parametrize("name", sorted(PROBES.keys() - TORCHLESS))
def test_every_size_of_card_has_a_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in tables(name, monkeypatch).values():
        classed = (
            isinstance(value, tuple) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
        )
        if classed and all(isinstance(least, int) for least, _ in value):
            bounds = [least for least, _ in value]
            assert bounds == sorted(bounds, reverse=True)
            assert bounds[-1] == 0


def test_the_search_for_the_largest_batch_leaves_a_tenth_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tables("max_batch", monkeypatch)["SHARE"] <= 0.9


@pytest.mark.parametrize("name", sorted(PROBES.keys() - TORCHLESS - {"sustained"}))
def test_a_benchmark_takes_about_ten_seconds_of_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tables(name, monkeypatch).get("SECONDS", 0.0) <= 10


@pytest.mark.torch
def test_the_sums_of_weights_are_those_of_torch() -> None:
    counted = """
toy = network(torch, TOY[0])
print(json.dumps([list(TOY[0]), TEXT, sum(p.numel() for p in toy.parameters())]))
"""
    channels, text, weights = inside("training_step", counted)
    assert weights_of(channels, text) == weights


@pytest.mark.torch
def test_a_layer_of_the_video_model_holds_no_more_than_its_sum_says() -> None:
    """On the CPU, in fp32 and with the fused attention that cards have too."""
    here = """
kit = runpy.run_path(sys.argv[1].replace("diffusion_step.py", "kit.py"), run_name="kit")["Kit"](None, "r")
frames, height, width = 3, 12, 20
work = layer(torch, "cpu", torch.float32, frames, height, width)
with torch.no_grad():
    work()
    more = kit.peak_bytes(work, 0)
print(json.dumps([more / (4 * frames * height * width), WIDTH, HIDDEN]))
"""
    more, wide, hidden = inside("diffusion_step", here)
    assert max(12 * wide, 4 * wide + 2 * hidden) / 2 < more + wide < max(12 * wide, 4 * wide + 2 * hidden)
