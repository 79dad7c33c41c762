"""Does matmul multiply what it says it multiplies, and count its operations as one would by hand?"""

from __future__ import annotations

import pytest

from probes.api import SubjectFailed
from probes.benchmarks import matmul
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run


@pytest.mark.torch
def test_operations_are_counted_as_by_hand() -> None:
    # 64 x 64 sums of 64 products: as many multiplications as additions.
    assert at_our_clock("matmul", device="cpu", size=64) == {
        ("flops_per_second", "fp32", "cpu"): 64 * 64 * 64 * 2 / TICK
    }


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("bf16", 2e-2), ("fp8", 2e-2)])
def test_what_is_measured_is_the_product_of_two_different_random_matrices(dtype: str, tolerance: float) -> None:
    off, spread = inside(
        "matmul",
        f"""
multiply = product(torch, {dtype!r}, 64, "cpu")
held = dict(zip(multiply.__code__.co_freevars, (cell.cell_contents for cell in multiply.__closure__)))
left, right = held["left"], held["right"]
found = multiply()
found = (found[0] if isinstance(found, tuple) else found).double()
expected = left.double() @ right.t().double() if {dtype == "fp8"} else left.double() @ right.double()
print(json.dumps([float((found - expected).abs().max() / expected.abs().max()), float((left.double() - right.double()).std())]))
""",
    )
    assert off < tolerance
    assert spread > 1


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["tf32", "fp8"])
def test_a_format_that_the_device_has_not_is_said_and_not_measured_as_another(dtype: str) -> None:
    with pytest.raises(SubjectFailed, match=f"{dtype} needs an NVIDIA card"):
        run(matmul.PROBE, WorkingWorld(), device="cpu", dtypes=[dtype], size=64, seconds="10ms")


@pytest.mark.torch
def test_the_processor_is_asked_for_no_format_of_cards() -> None:
    values = measured(run(matmul.PROBE, WorkingWorld(), size=64, seconds="10ms"))
    assert list(values) == [("flops_per_second", "fp32", "cpu")]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("capability", "formats"),
    [
        ((7, 5), ["fp32", "fp16"]),
        ((8, 6), ["fp32", "tf32", "fp16", "bf16"]),
        ((8, 9), ["fp32", "tf32", "fp16", "bf16", "fp8"]),
        ((12, 0), ["fp32", "tf32", "fp16", "bf16", "fp8"]),
    ],
)
def test_a_card_is_asked_for_what_its_generation_has(capability: tuple[int, int], formats: list[str]) -> None:
    asked = f"torch.version.cuda = '12.8'; torch.cuda.get_device_capability = lambda: {capability}"
    asked += "\nglobals()['supported'].__globals__['multiplies_fp8'] = lambda *_: True"
    assert inside("matmul", f"{asked}\nprint(json.dumps(supported(torch, 'cuda')))") == formats
    assert inside("matmul", f"{asked}\ntorch.version.cuda = None\nprint(json.dumps(supported(torch, 'cuda')))") == [
        "fp32",
        "fp16",
    ]


@pytest.mark.torch
def test_fp8_is_left_out_where_torch_has_the_name_and_refuses_the_work() -> None:
    """torch 2.1 on an Ada card, or one for CUDA 11: the other formats are measured all the same."""
    refuses = """
torch.cuda.synchronize = lambda: None
works = multiplies_fp8(torch, "cpu")
def _scaled_mm(*_, **__): raise RuntimeError("torch._scaled_mm is only supported on devices with compute capability >= 9.0")
torch._scaled_mm = _scaled_mm
print(json.dumps([works, multiplies_fp8(torch, "cpu")]))
"""
    assert inside("matmul", refuses) == [True, False]


@pytest.mark.torch
def test_fp32_is_fp32_and_tf32_is_allowed_only_for_itself() -> None:
    said = inside(
        "matmul",
        """
allowed = []
for dtype in ("fp32", "tf32", "fp16", "fp32"):
    product(torch, dtype, 16, "cpu")
    allowed.append(torch.backends.cuda.matmul.allow_tf32)
print(json.dumps(allowed))
""",
    )
    assert said == [False, True, False, False]
