"""Does attention measure attention, and does it count its operations as one would by hand?"""

from __future__ import annotations

import pytest

from probes.benchmarks import attention
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run


@pytest.mark.torch
def test_a_real_worker_measures_all_three_shapes_on_this_processor() -> None:
    values = measured(run(attention.PROBE, WorkingWorld(), share_of_tokens=128, seconds="150ms"))
    assert list(values) == [("flops_per_second", shape, "fp32", "cpu") for shape in ("image", "video", "text")]
    assert all(1e6 < value < 1e14 for value in values.values())


@pytest.mark.torch
def test_operations_are_counted_as_by_hand() -> None:
    counted = inside("attention", "print(json.dumps([operations(1, 2, 3, False), operations(1, 2, 3, True)]))")
    # 3 x 3 pairs of tokens, 2 products of 2 multiplications and 2 additions each; the causal mask leaves 6 of the 9.
    assert counted == [9 * 2 * 4, 6 * 2 * 4]
    values = at_our_clock("attention", device="cpu", share_of_tokens=64)
    assert values == {
        ("flops_per_second", "image", "fp32", "cpu"): 4 * 24 * 128 * 72 * 72 / TICK,
        ("flops_per_second", "video", "fp32", "cpu"): 4 * 12 * 128 * 511 * 511 / TICK,
        ("flops_per_second", "text", "fp32", "cpu"): 4 * 32 * 128 * (128 * 129 // 2) / TICK,
    }


@pytest.mark.torch
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_measured_is_attention(causal: bool) -> None:
    worst = inside(
        "attention",
        f"""
query, key, value = (torch.randn(1, 2, 40, 16) for _ in "qkv")
scores = query.double() @ key.double().transpose(-1, -2) / 16 ** 0.5
if {causal}:
    scores = scores.masked_fill(torch.ones(40, 40).triu(1).bool(), float("-inf"))
expected = scores.softmax(-1) @ value.double()
print(json.dumps(float((attend(torch, query, key, value, {causal}).double() - expected).abs().max())))
""",
    )
    assert worst < 1e-5


@pytest.mark.torch
def test_the_largest_shape_fits_a_card_of_eight_gigabytes() -> None:
    shapes, classes = inside("attention", "print(json.dumps([list(SHAPES.values()), SHARE_OF_TOKENS]))")
    assert classes[-1][0] == 0, "every card has a class"
    for least, share in classes:
        # queries, keys, values and the result in two bytes each; the fused kernels hold no matrix of scores
        needed = max(4 * 2 * heads * width * (tokens // share) for heads, width, tokens, _ in shapes)
        assert needed < max(least, 4 * 2**30) / 8


@pytest.mark.torch
def test_each_device_is_measured_in_the_format_that_its_models_run_in() -> None:
    formats = inside(
        "kit",
        """
kit = Kit(None, "r")
seen = [kit.native(torch)]
kit.cuda = torch.cuda
for cuda, capability in (("12.8", (8, 6)), ("12.8", (7, 5)), (None, (11, 0))):
    torch.version.cuda, torch.cuda.get_device_capability = cuda, lambda capability=capability: capability
    seen.append(kit.native(torch))
print(json.dumps([[name, str(dtype)] for name, dtype in seen]))
""",
    )
    bf16, fp16 = ["bf16", "torch.bfloat16"], ["fp16", "torch.float16"]
    assert formats == [["fp32", "torch.float32"], bf16, fp16, fp16]
