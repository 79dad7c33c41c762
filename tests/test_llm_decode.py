"""Is llm_decode a language model with a cache, and are its tokens counted as by hand?"""

from __future__ import annotations

import pytest

from probes.benchmarks import llm_decode
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run

NAMES = ["first_token_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"]


@pytest.mark.torch
def test_a_real_worker_answers_on_this_processor() -> None:
    values = measured(run(llm_decode.PROBE, WorkingWorld(), prompt_tokens=8, seconds="200ms"))
    assert list(values) == [(name, "cpu") for name in NAMES]
    first, prefill, decode = values.values()
    assert prefill == pytest.approx(8 / first)
    assert 0 < first < 10
    assert 1 < decode < 1e5


@pytest.mark.torch
def test_tokens_are_counted_as_by_hand() -> None:
    values = at_our_clock("llm_decode", device="cpu", prompt_tokens=20, seconds=1)
    assert list(values.values()) == [TICK, 20 / TICK, 1 / TICK]


@pytest.mark.torch
def test_the_cache_changes_nothing_but_the_work() -> None:
    worst, looks_back, order = inside(
        "llm_decode",
        """
words = torch.randint(512, (1, 12))
model = Model(torch, TOY, 12, "cpu", torch.float64)
whole = model.scores(words, 0)
model.scores(words[:, :9], 0)
for at in range(9, 12):
    step = model.scores(words[:, at:at + 1], at)
other = words.clone(); other[0, 0] = (other[0, 0] + 1) % 512
swapped = words.clone(); swapped[0, [2, 5]] = words[0, [5, 2]]
print(json.dumps([float((whole - step).abs().max()),
                  float((whole - model.scores(other, 0)).abs().max()),
                  float((whole - model.scores(swapped, 0)).abs().max())]))
""",
    )
    assert worst < 1e-9
    assert looks_back > 1e-6, "the first word of the prompt counts"
    assert order > 1e-6, "so does the order"


@pytest.mark.torch
def test_a_layer_is_what_a_double_reference_says() -> None:
    worst = inside(
        "llm_decode",
        """
model = Model(torch, {**TOY, "layers": 1, "heads": 2, "shared": 1}, 5, "cpu", torch.float64)
layer, x = model.layers[0], torch.randn(1, 5, 64, dtype=torch.float64)
got = model.attend(layer, x, 0)
q, k, v = (x @ layer["qkv"].T).split([64, 32, 32], -1)
def turned(vector, place):
    pairs = torch.complex(vector[:16], vector[16:])
    angle = place * 500000.0 ** -(torch.arange(16) * 2 / 32)
    spun = pairs * torch.exp(1j * angle.double())
    return torch.cat((spun.real, spun.imag))
rows = []
for place in range(5):
    heads = []
    for head in range(2):
        query = turned(q[0, place, head * 32:head * 32 + 32], place)
        scores = torch.stack([query @ turned(k[0, other], other) / 32 ** 0.5 for other in range(place + 1)])
        heads.append(scores.softmax(0) @ v[0, :place + 1])
    rows.append(torch.cat(heads) @ layer["out"].T)
print(json.dumps(float((got[0] - torch.stack(rows)).abs().max())))
""",
    )
    assert worst < 1e-6  # the angles themselves are in single precision


@pytest.mark.torch
def test_the_model_fits_its_class_of_cards() -> None:
    classes, prompt, decoded = inside("llm_decode", "print(json.dumps([MODELS, PROMPTS[0][1], DECODED]))")
    assert classes[-1][0] == 0
    for least, shape in classes:
        width, shared = shape["width"], shape["shared"] * shape["width"] // shape["heads"]
        layer = width * (2 * width + 2 * shared) + 3 * width * shape["hidden"]
        weights = 2 * (shape["words"] * width + shape["layers"] * layer)
        cache = 2 * 2 * shape["layers"] * (prompt + decoded) * shared
        assert weights + cache < max(least, 4 * 2**30) * 0.4
